/* A load generator for MQTT brokers: one thread, epoll, precomputed frames.
 *
 *     load MODE --port N [options]        MODE: traffic connect idle subscribe retained
 *
 * Prints one JSON object: rates, CPU time of the broker (--pid, with all its
 * descendants) and of the generator itself in the measured window, memory, and
 * the account of every message: lost, duplicate, out of order, malformed.
 * bench/README.rst tells what each mode does and how to read the figures.
 */
#include "load.h"

#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

struct options opt = {
    .host = "127.0.0.1", .port = 1883, .version = 4, .sub_qos = -1, .publishers = 1,
    .subscribers = 1, .clients = 100, .concurrency = 50, .payload = 64, .batch = 100,
    .spread = 1000, .topics = 1, .pattern = "pairs", .kind = "exact", .count = 1000, .seconds = 1.5,
    .warmup = 0.5, .drain = 3.0,
};

static const struct option names[] = {
    {"host", 1, 0, 'h'}, {"port", 1, 0, 'p'}, {"version", 1, 0, 'v'}, {"qos", 1, 0, 'q'},
    {"sub-qos", 1, 0, 'Q'}, {"publishers", 1, 0, 'P'}, {"subscribers", 1, 0, 'S'},
    {"clients", 1, 0, 'c'}, {"concurrency", 1, 0, 'C'}, {"window", 1, 0, 'w'},
    {"outstanding", 1, 0, 'o'}, {"payload", 1, 0, 'b'}, {"user-properties", 1, 0, 'k'},
    {"refill", 1, 0, 'R'}, {"batch", 1, 0, 'B'}, {"spread", 1, 0, 'd'}, {"storm-clients", 1, 0, 'z'},
    {"storm-rate", 1, 0, 'Z'}, {"pid", 1, 0, 'i'}, {"count", 1, 0, 'n'},
    {"seconds", 1, 0, 's'}, {"warmup", 1, 0, 'W'}, {"rate", 1, 0, 'r'}, {"drain", 1, 0, 'D'},
    {"tls", 0, 0, 't'}, {"vary", 0, 0, 'V'}, {"durable", 0, 0, 'U'}, {"topics", 1, 0, 'T'}, {"ca", 1, 0, 'a'}, {"user", 1, 0, 'u'}, {"password", 1, 0, 'x'},
    {"pattern", 1, 0, 'm'}, {"kind", 1, 0, 'K'}, {0, 0, 0, 0},
};

static void read_option(int letter, const char *value)
{
    switch (letter) {
    case 'h': opt.host = value; break;
    case 'p': opt.port = atoi(value); break;
    case 'v': opt.version = atoi(value); break;
    case 'q': opt.qos = atoi(value); break;
    case 'Q': opt.sub_qos = atoi(value); break;
    case 'P': opt.publishers = atoi(value); break;
    case 'S': opt.subscribers = atoi(value); break;
    case 'c': opt.clients = atoi(value); break;
    case 'C': opt.concurrency = atoi(value); break;
    case 'w': opt.window = atoi(value); break;
    case 'o': opt.outstanding = atoi(value); break;
    case 'b': opt.payload = atoi(value); break;
    case 'k': opt.user_properties = atoi(value); break;
    case 'R': opt.refill = atoi(value); break;
    case 'B': opt.batch = atoi(value); break;
    case 'd': opt.spread = atoi(value); break;
    case 'z': opt.storm_clients = atoi(value); break;
    case 'Z': opt.storm_rate = atof(value); break;
    case 'n': opt.count = atol(value); break;
    case 's': opt.seconds = atof(value); break;
    case 'W': opt.warmup = atof(value); break;
    case 'r': opt.rate = atof(value); break;
    case 'D': opt.drain = atof(value); break;
    case 't': opt.tls = true; break;
    case 'V': opt.vary = true; break;
    case 'U': opt.durable = true; break;
    case 'T': opt.topics = atoi(value); break;
    case 'a': opt.ca = value; break;
    case 'u': opt.user = value; break;
    case 'x': opt.password = value; break;
    case 'm': opt.pattern = value; break;
    case 'K': opt.kind = value; break;
    case 'i':
        if (opt.pid_count < 16)
            opt.pids[opt.pid_count++] = atoi(value);
        break;
    default: exit(2);
    }
}

static void check_options(void)
{
    if (opt.version != 4 && opt.version != 5)
        fail("--version must be 4 (3.1.1) or 5");
    if (opt.qos < 0 || opt.qos > 2)
        fail("--qos must be 0, 1 or 2");
    if (opt.sub_qos < 0)
        opt.sub_qos = opt.qos;
    if (opt.payload < STAMP)
        fail("--payload must be at least %d", STAMP);
    if (opt.topics < 1 || CYCLE % opt.topics)
        fail("--topics must be a power of two, at most %d", CYCLE);
    if (strcmp(opt.mode, "traffic") && (opt.vary || opt.topics > 1))
        fail("--vary and --topics are for traffic");
    if (opt.payload > 512 * 1024)
        fail("--payload must be at most 512 KiB");
    if (opt.user_properties && opt.version != 5)
        fail("--user-properties needs --version 5");
    if (opt.window < 0 || opt.window > 65535)
        fail("--window must be 1 to 65535");
    if (opt.publishers < 1 || opt.subscribers < 0 || opt.concurrency < 1 || opt.count < 1)
        fail("counts must be positive");
}

int main(int argc, char **argv)
{
    int letter;
    static const struct { const char *name; void (*run)(void); } modes[] = {
        {"traffic", run_traffic}, {"connect", run_connect}, {"idle", run_idle},
        {"subscribe", run_subscribe}, {"retained", run_retained},
    };
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2)
        fail("usage: load traffic|connect|idle|subscribe|retained --port N [options]");
    opt.mode = argv[1];
    optind = 2;
    while ((letter = getopt_long(argc, argv, "", names, NULL)) != -1)
        read_option(letter, optarg);
    check_options();
    net_init();
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        if (!strcmp(opt.mode, modes[i].name)) {
            modes[i].run();
            return 0;
        }
    }
    fail("unknown mode %s", opt.mode);
}
