/* What is measured: CPU time and memory of the broker's processes and of the
 * generator itself, latencies, and the fate of every message.
 *
 * The samples are taken here and not by the driver, so that a window of one
 * second is cut at the same instant for messages and for CPU time.
 */
#define _GNU_SOURCE
#include "load.h"

#include <dirent.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct accounts acc;
bool latency_on, sparse, ordered = true;
struct histogram latency, lag, acknowledged;

/* -- /proc ---------------------------------------------------------------- */

static int family[256], family_count;

static bool read_text(const char *path, char *into, size_t room)
{
    FILE *file = fopen(path, "r");
    size_t n;
    if (file == NULL)
        return false;
    n = fread(into, 1, room - 1, file);
    fclose(file);
    into[n] = 0;
    return n > 0;
}

/* The children of every thread of pid, and theirs. */
static void add_family(int pid)
{
    char path[300], text[8192], *at = text;
    struct dirent *entry;
    DIR *tasks;
    if (family_count == 256)
        return;
    family[family_count++] = pid;
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    if ((tasks = opendir(path)) == NULL)
        return;
    while ((entry = readdir(tasks)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%d/task/%s/children", pid, entry->d_name);
        if (!read_text(path, text, sizeof text))
            continue;
        for (at = text; *at;) {
            int child = (int)strtol(at, &at, 10);
            if (child <= 0)
                break;
            add_family(child);
        }
    }
    closedir(tasks);
}

static void find_family(void)
{
    family_count = 0;
    for (int i = 0; i < opt.pid_count; i++)
        add_family(opt.pids[i]);
}

static void threads_time(int pid, uint64_t *ran, uint64_t *waited)
{
    char path[300], text[256];
    struct dirent *entry;
    DIR *tasks;
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    if ((tasks = opendir(path)) == NULL)
        return;
    while ((entry = readdir(tasks)) != NULL) {
        unsigned long long run, wait;
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%d/task/%s/schedstat", pid, entry->d_name);
        if (read_text(path, text, sizeof text) && sscanf(text, "%llu %llu", &run, &wait) == 2) {
            *ran += run;
            *waited += wait;
        }
    }
    closedir(tasks);
}

static void ticks(int pid, uint64_t *user, uint64_t *system)
{
    char path[64], text[1024], *at;
    unsigned long long u, s;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    if (!read_text(path, text, sizeof text) || (at = strrchr(text, ')')) == NULL)
        return;
    if (sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &u, &s) == 2) {
        *user += u;
        *system += s;
    }
}

uint64_t broker_rss(void)
{
    uint64_t pages = 0;
    find_family();
    for (int i = 0; i < family_count; i++) {
        char path[64], text[256];
        unsigned long long size, resident;
        snprintf(path, sizeof path, "/proc/%d/statm", family[i]);
        if (read_text(path, text, sizeof text) &&
            sscanf(text, "%llu %llu", &size, &resident) == 2)
            pages += resident;
    }
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

void take_sample(struct sample *s)
{
    memset(s, 0, sizeof *s);
    s->rss = broker_rss();
    for (int i = 0; i < family_count; i++) {
        threads_time(family[i], &s->broker_ns, &s->broker_wait_ns);
        ticks(family[i], &s->broker_user_ticks, &s->broker_system_ticks);
    }
    threads_time((int)getpid(), &s->own_ns, &s->own_wait_ns);
    s->at = now();
    s->sent = acc.sent;
    s->acked = acc.acked;
    s->delivered = acc.delivered;
    s->operations = acc.operations;
}

/* -- histogram: 64 steps in each power of two, so within 1.6 % ---------------- */

void histogram_add(struct histogram *h, uint64_t ns)
{
    uint64_t index = ns;
    if (ns >= 64) {
        int shift = 63 - __builtin_clzll(ns) - 6;
        index = (uint64_t)(shift + 1) * 64 + ((ns >> shift) - 64);
    }
    if (index >= 64 * 48)
        index = 64 * 48 - 1;
    h->buckets[index]++;
    h->total++;
    h->sum += (double)ns;
    if (ns > h->max)
        h->max = ns;
}

uint64_t histogram_at(const struct histogram *h, double quantile)
{
    uint64_t want = (uint64_t)ceil((double)h->total * quantile), seen = 0;
    for (uint64_t i = 0; i < 64 * 48; i++) {
        seen += h->buckets[i];
        if (seen >= want && seen > 0) {
            uint64_t shift = i / 64;
            uint64_t top = shift ? ((i % 64 + 65) << (shift - 1)) - 1 : i;
            return top < h->max ? top : h->max;
        }
    }
    return h->max;
}

/* -- the fate of messages ----------------------------------------------------- */

static struct bitmap { uint64_t *bits; uint64_t room; } *maps;
static int map_count;

void sparse_init(int publishers_n)
{
    sparse = true;
    map_count = publishers_n;
    maps = calloc((size_t)publishers_n, sizeof *maps);
}

static bool map_set(struct bitmap *map, uint32_t n)
{
    uint64_t bit = 1ull << (n & 63), word = n / 64;
    if (word >= map->room) {
        uint64_t room = word * 2 + 1024;
        map->bits = realloc(map->bits, room * 8);
        memset(map->bits + map->room, 0, (room - map->room) * 8);
        map->room = room;
    }
    if (map->bits[word] & bit)
        return false;
    map->bits[word] |= bit;
    return true;
}

/* A number below the expected one is late if it was missing, else a duplicate. */
static void late(struct seen *s, uint32_t n)
{
    for (uint32_t i = 0; i < s->gap_count; i++) {
        struct gap *g = &s->gaps[i];
        if (n < g->from || n >= g->to)
            continue;
        acc.out_of_order++;
        struct gap rest = {n + 1, g->to};
        g->to = n;
        if (g->from == g->to)
            *g = s->gaps[--s->gap_count];
        if (rest.from < rest.to && s->gap_count < s->gap_room)
            s->gaps[s->gap_count++] = rest;
        return;
    }
    acc.duplicates++;
    acc.delivered--;
}

static void add_gap(struct seen *s, uint32_t from, uint32_t to)
{
    if (s->gap_count + 2 > s->gap_room) {
        s->gap_room = s->gap_room ? s->gap_room * 2 : 8;
        s->gaps = realloc(s->gaps, s->gap_room * sizeof *s->gaps);
    }
    s->gaps[s->gap_count++] = (struct gap){from, to};
}

void account(struct conn *c, const struct packet_in *p)
{
    uint32_t index, n, expected_properties = (uint32_t)opt.user_properties * 21;
    uint32_t size = p->payload_len, topics = (uint32_t)opt.topics;
    uint64_t stamp, before = acc.delivered;
    struct seen *s;
    if (size < STAMP || (opt.version == 5 && p->properties != expected_properties) ||
        (size > STAMP && p->payload[size - 1] != (uint8_t)('a' + (size - 1) % 26))) {
        acc.malformed++;
        return;
    }
    memcpy(&index, p->payload, 4);
    memcpy(&n, p->payload + 4, 4);
    memcpy(&stamp, p->payload + 8, 8);
    if (size != payload_size(n) || index < c->first_publisher ||
        index >= c->first_publisher + c->publisher_count) {
        acc.malformed++;
        return;
    }
    s = &c->seen[(index - c->first_publisher) * topics + n % topics];
    n /= topics; /* Order is promised for each topic, so each is counted alone. */
    acc.delivered++;
    if (sparse) {
        if (!map_set(&maps[index], n)) {
            acc.duplicates++;
            acc.delivered--;
        } else if (n < s->expected) {
            acc.out_of_order += ordered;
        } else {
            s->expected = n + 1;
        }
    } else if (n == s->expected) {
        s->expected++;
    } else if (n > s->expected) {
        add_gap(s, s->expected, n);
        s->expected = n + 1;
    } else {
        late(s, n);
    }
    publishers[index].delivered += acc.delivered - before;
    publisher_touch(&publishers[index]);
    if (latency_on && stamp) {
        uint64_t t = now();
        histogram_add(&latency, t > stamp ? t - stamp : 0);
    }
}

uint64_t dense_lost(struct conn **subs, int n)
{
    uint64_t missing = 0;
    for (int i = 0; i < n; i++) {
        uint32_t topics = (uint32_t)opt.topics;
        for (uint32_t k = 0; k < subs[i]->publisher_count * topics; k++) {
            struct seen *s = &subs[i]->seen[k];
            struct publisher *p = &publishers[subs[i]->first_publisher + k / topics];
            missing += (p->sent + topics - 1 - k % topics) / topics - s->expected;
            for (uint32_t g = 0; g < s->gap_count; g++)
                missing += s->gaps[g].to - s->gaps[g].from;
        }
    }
    return missing;
}

uint64_t sparse_lost(void)
{
    uint64_t missing = 0;
    for (int i = 0; i < map_count; i++) {
        uint64_t got = 0;
        for (uint64_t word = 0; word < maps[i].room; word++)
            got += (uint64_t)__builtin_popcountll(maps[i].bits[word]);
        missing += publishers[i].sent - got;
    }
    return missing;
}

/* -- JSON --------------------------------------------------------------------- */

static bool first_item = true;

static void item(const char *key)
{
    printf(first_item ? "\"%s\": " : ", \"%s\": ", key);
    first_item = false;
}

void json_begin(void) { putchar('{'); }
void json_end(void) { puts("}"); }
void json_int(const char *key, uint64_t value) { item(key); printf("%llu", (unsigned long long)value); }
void json_num(const char *key, double value) { item(key); printf("%.6g", isfinite(value) ? value : 0.0); }
void json_text(const char *key, const char *value) { item(key); printf("\"%s\"", value); }
void json_open(const char *key) { item(key); putchar('{'); first_item = true; }
void json_shut(void) { putchar('}'); first_item = false; }

void json_window(const struct sample *a, const struct sample *b, uint64_t messages)
{
    double seconds = (double)(b->at - a->at) / 1e9, n = messages ? (double)messages : NAN;
    double cpu = (double)(b->broker_ns - a->broker_ns) / 1e9;
    double user = (double)(b->broker_user_ticks - a->broker_user_ticks);
    double system = (double)(b->broker_system_ticks - a->broker_system_ticks);
    double share = user + system > 0 ? user / (user + system) : 0;
    double own = (double)(b->own_ns - a->own_ns) / 1e9 / seconds;
    json_num("seconds", seconds);
    json_int("messages", messages);
    json_num("rate", (double)messages / seconds);
    json_num("cpu_us", cpu * 1e6 / n);
    json_num("cpu_user_us", cpu * share * 1e6 / n);
    json_num("cpu_system_us", cpu * (1 - share) * 1e6 / n);
    json_num("cpu_seconds", cpu);
    json_num("broker_cores", cpu / seconds);
    json_num("broker_waiting", (double)(b->broker_wait_ns - a->broker_wait_ns) / 1e9 / seconds);
    json_num("generator_cores", own);
    json_num("generator_us", own * seconds * 1e6 / n);
    json_num("generator_waiting", (double)(b->own_wait_ns - a->own_wait_ns) / 1e9 / seconds);
    json_int("generator_busy", own > 0.9);
    json_int("generator_limited", own > 0.9 && cpu / seconds < 0.95);
    json_int("rss_before", a->rss);
    json_int("rss_after", b->rss);
}

void json_histogram(const char *key, const struct histogram *h)
{
    json_open(key);
    json_int("count", h->total);
    json_num("mean_us", h->total ? h->sum / (double)h->total / 1e3 : 0);
    json_num("p50_us", (double)histogram_at(h, 0.50) / 1e3);
    json_num("p95_us", (double)histogram_at(h, 0.95) / 1e3);
    json_num("p99_us", (double)histogram_at(h, 0.99) / 1e3);
    json_num("p999_us", (double)histogram_at(h, 0.999) / 1e3);
    json_num("max_us", (double)h->max / 1e3);
    json_shut();
}

void json_accounts(uint64_t lost)
{
    json_int("sent", acc.sent);
    json_int("acknowledged", acc.acked);
    json_int("delivered", acc.delivered);
    json_int("lost", lost);
    json_int("duplicates", acc.duplicates);
    json_int("out_of_order", acc.out_of_order);
    json_int("malformed", acc.malformed);
    json_int("errors", acc.errors);
    json_int("closed", acc.closed);
}

_Noreturn void fail(const char *format, ...)
{
    va_list arguments;
    char text[400];
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fprintf(stderr, "load: %s\n", text);
    exit(1);
}
