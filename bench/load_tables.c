/* What is counted by the thousand and not by the second: connections, idle
 * connections, filters in the table, retained messages.
 */
#include "load.h"

#include <stdlib.h>
#include <string.h>

/* -- connect ----------------------------------------------------------------- */

static struct conn **finished;
static int finished_count;

static void connected(struct conn *c)
{
    acc.operations++;
    if (latency_on)
        histogram_add(&latency, now() - c->started);
    conn_disconnect(c);
    finished[finished_count++] = c;
}

static void connect_until(uint64_t end)
{
    while (now() < end) {
        poll_once(end);
        while (finished_count) {
            struct conn *c = finished[--finished_count];
            conn_close(c);
            c->closing = false;
            c->started = now();
            conn_open(c, true);
        }
    }
}

void run_connect(void)
{
    struct sample a, b, first;
    finished = calloc((size_t)opt.concurrency, sizeof *finished);
    take_sample(&first);
    for (int i = 0; i < opt.concurrency; i++) {
        struct conn *c = conn_new(i);
        c->ready = connected;
        c->started = now();
        conn_open(c, true);
    }
    connect_until(now() + (uint64_t)(opt.warmup * 1e9));
    latency_on = true;
    take_sample(&a);
    connect_until(a.at + (uint64_t)(opt.seconds * 1e9));
    take_sample(&b);
    json_begin();
    json_window(&a, &b, b.operations - a.operations);
    json_int("rss_start", first.rss);
    json_accounts(0);
    json_histogram("latency", &latency);
    json_end();
}

/* -- idle connections ----------------------------------------------------------- */

#define BASELINE 100
static int first_idle, answers;

static void idle_filter(int i, char *text) { sprintf(text, "idle/%06d", first_idle + i); }

static void count_ping(struct conn *c, const struct packet_in *p)
{
    (void)c;
    answers += p->type == PINGRESP;
}

static void rest(double seconds)
{
    for (uint64_t end = now() + (uint64_t)(seconds * 1e9); now() < end;)
        poll_once(end);
}

void run_idle(void)
{
    static const uint8_t ping[2] = {0xc0, 0};
    struct sample first, base, full, held;
    int n = (int)opt.count;
    take_sample(&first);
    struct conn **few = open_all(BASELINE, 0, "first");
    subscribe_all(few, BASELINE, 0, idle_filter);
    rest(0.3);
    take_sample(&base);
    first_idle = BASELINE;
    struct conn **many = open_all(n, BASELINE, "idle");
    uint64_t opened = now();
    subscribe_all(many, n, 0, idle_filter);
    uint64_t subscribed = now();
    take_sample(&full);
    rest(opt.seconds);
    take_sample(&held);
    for (int i = 0; i < n; i++) {
        many[i]->packet = count_ping;
        conn_put(many[i], ping, 2);
    }
    flush_marked();
    for (uint64_t end = now() + 10 * SECOND; answers < n && now() < end;)
        poll_once(end);
    double open_s = (double)(opened - base.at) / 1e9, all_s = (double)(subscribed - base.at) / 1e9;
    double idle_s = (double)(held.at - full.at) / 1e9;
    json_begin();
    json_window(&base, &full, (uint64_t)n);
    json_int("connections", (uint64_t)n + BASELINE);
    json_num("connect_seconds", open_s);
    json_num("subscribe_seconds", all_s - open_s);
    json_num("rss_per_connection", ((double)held.rss - (double)base.rss) / n);
    json_num("idle_cpu_ms_per_second", (double)(held.broker_ns - full.broker_ns) / 1e6 / idle_s);
    json_int("rss_start", first.rss);
    json_int("unanswered_pings", (uint64_t)(n - answers));
    json_accounts((uint64_t)(n - answers));
    json_end();
}

/* -- a table of filters -------------------------------------------------------------- */

static uint32_t kind;
static const char *const kinds[] = {"exact", "plus", "hash", "shared"};
static const char *const shapes[] = {"b/%07u/s/x", "b/%07u/+/x", "b/%07u/#",
                                     "$share/bench/b/%07u/+/x"};
static uint64_t filters_sent, filters_answered;
static uint32_t per_client;

static void choose_kind(void)
{
    for (kind = 0; kind < 4; kind++)
        if (!strcmp(opt.kind, kinds[kind]))
            return;
    fail("unknown --kind %s", opt.kind);
}

static void subscribe_batch(struct conn *c)
{
    static char texts[1024][40];
    static const char *filters[1024];
    uint32_t begin = (uint32_t)c->index * per_client + (uint32_t)c->started;
    uint32_t end = (uint32_t)(c->index + 1) * per_client, n = 0;
    if (end > (uint32_t)opt.count)
        end = (uint32_t)opt.count;
    for (; begin < end && n < (uint32_t)opt.batch; begin++, n++) {
        snprintf(texts[n], sizeof texts[n], shapes[kind], begin);
        filters[n] = texts[n];
    }
    if (n == 0)
        return;
    c->started += n;
    filters_sent += n;
    conn_subscribe(c, true, opt.sub_qos, filters, (int)n);
}

static void table_packet(struct conn *c, const struct packet_in *p)
{
    if (p->type != SUBACK) {
        subscriber_packet(c, p);
        return;
    }
    if (p->worst > 2)
        fail("SUBACK says 0x%02x after %llu filters", p->worst,
             (unsigned long long)filters_answered);
    filters_answered += p->codes;
    subscribe_batch(c);
}

static void patch_digits(uint8_t *at, uint32_t n)
{
    for (int i = 6; i >= 0; i--, n /= 10)
        at[i] = (uint8_t)('0' + n % 10);
}

static uint32_t *topics;

static void table_top_up(struct publisher *p)
{
    uint32_t room = publisher_room(p);
    if (!publisher_due(p, room))
        return;
    while (room-- && !ring_full(&p->ring)) {
        uint32_t topic = topics[p->sent % (uint64_t)opt.spread];
        patch_digits(publish_one(p, 0) + 2, topic);
    }
    flush_marked();
}

static void table_publish_until(struct publisher *p, uint64_t end)
{
    publisher_touch(p);
    while (now() < end) {
        if (publisher_touched() != NULL)
            table_top_up(p);
        poll_once(end);
    }
}

static void choose_topics(void)
{
    uint64_t random = 88172645463325252ull;
    if (opt.spread <= 0 || opt.spread > opt.count)
        opt.spread = (int)opt.count;
    topics = calloc((size_t)opt.spread, sizeof *topics);
    for (int i = 0; i < opt.spread; i++)
        topics[i] = (uint32_t)((uint64_t)i * (uint64_t)opt.count / (uint64_t)opt.spread);
    for (int i = opt.spread - 1; i > 0; i--) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        int j = (int)(random % (uint64_t)(i + 1));
        uint32_t swap = topics[i];
        topics[i] = topics[j], topics[j] = swap;
    }
}

static void load_table(struct conn **conns)
{
    uint64_t moved = now(), last = 0;
    for (int i = 0; i < opt.clients; i++) {
        conns[i]->packet = table_packet;
        conns[i]->started = 0;
        subscribe_batch(conns[i]);
    }
    flush_marked();
    while (filters_answered < (uint64_t)opt.count) {
        poll_once(now() + SECOND);
        if (filters_answered != last)
            moved = now();
        last = filters_answered;
        if (now() - moved > 30 * SECOND)
            fail("only %llu of %ld filters were answered", (unsigned long long)last, opt.count);
    }
}

/* Closes the table's clients; the time until the broker serves a new one. */
static void drop_table(struct conn **conns)
{
    struct sample a, b;
    take_sample(&a);
    for (int i = 0; i < opt.clients; i++)
        conn_disconnect(conns[i]);
    flush_marked();
    for (int i = 0; i < opt.clients; i++)
        conn_close(conns[i]);
    open_all(1, opt.clients + 1, "last");
    uint64_t served = now();
    rest(0.2);
    take_sample(&b);
    json_num("drop_seconds", (double)(served - a.at) / 1e9);
    json_num("drop_cpu_us", (double)(b.broker_ns - a.broker_ns) / 1e3 / (double)opt.count);
}

void run_subscribe(void)
{
    struct sample first, a, b, c, d;
    struct conn **conns, **one;
    choose_kind();
    ordered = false;
    if (opt.batch > 1024)
        opt.batch = 1024;
    if (opt.window == 0)
        opt.window = 100;
    if (opt.outstanding == 0)
        opt.outstanding = opt.qos ? 2 * opt.window : 1000;
    per_client = (uint32_t)((opt.count + opt.clients - 1) / opt.clients);
    choose_topics();
    publishers_init(1);
    sparse_init(1);
    take_sample(&first);
    conns = open_all(opt.clients, 0, "subscriber");
    one = open_all(1, opt.clients, "publisher");
    for (int i = 0; i < opt.clients; i++)
        watch_messages(conns[i], 0, 1);
    take_sample(&a);
    load_table(conns);
    take_sample(&b);
    struct publisher *p = publisher_init(0, one[0], "b/0000000/s/x", opt.qos, false, 1,
                                         (uint32_t)opt.outstanding);
    one[0]->packet = publisher_packet;
    table_publish_until(p, now() + (uint64_t)(opt.warmup * 1e9));
    take_sample(&c);
    table_publish_until(p, c.at + (uint64_t)(opt.seconds * 1e9));
    take_sample(&d);
    drain();
    json_begin();
    json_open("subscribe");
    json_window(&a, &b, (uint64_t)opt.count);
    json_num("rss_per_filter", ((double)b.rss - (double)a.rss) / (double)opt.count);
    json_shut();
    json_window(&c, &d, d.delivered - c.delivered);
    json_int("rss_start", first.rss);
    json_accounts(sparse_lost());
    drop_table(conns);
    json_end();
}

/* -- retained ------------------------------------------------------------------------- */

static uint64_t not_retained;

static void replay_packet(struct conn *c, const struct packet_in *p)
{
    if (p->type == SUBACK && p->worst > 2)
        fail("SUBACK says 0x%02x", p->worst);
    if (p->type == PUBLISH && !(p->flags & 1))
        not_retained++;
    subscriber_packet(c, p);
}

static void wait_delivered(uint64_t want)
{
    uint64_t moved = now(), last = acc.delivered;
    while (acc.delivered < want) {
        poll_once(now() + SECOND / 10);
        if (acc.delivered != last)
            moved = now();
        last = acc.delivered;
        if (now() - moved > (uint64_t)(opt.drain * 1e9))
            return;
    }
}

/* Subscribes a new client and waits for want messages. */
static void replay(const char *key, const char *filter, int index, uint64_t want)
{
    struct sample a, b;
    struct conn **one = open_all(1, index, "subscriber");
    const char *filters[1] = {filter};
    sparse_init(1);
    watch_messages(one[0], 0, 1);
    one[0]->packet = replay_packet;
    take_sample(&a);
    conn_subscribe(one[0], true, opt.sub_qos, filters, 1);
    flush_marked();
    wait_delivered(a.delivered + want);
    take_sample(&b);
    uint64_t got = b.delivered - a.delivered;
    json_open(key);
    json_window(&a, &b, got);
    json_int("expected", want);
    json_int("lost", want - got);
    json_shut();
    conn_disconnect(one[0]);
    flush_marked();
    conn_close(one[0]);
}

void run_retained(void)
{
    struct sample first, a, b;
    uint32_t n = (uint32_t)opt.count;
    ordered = false;
    struct conn **one;
    struct publisher *p;
    if (opt.window == 0)
        opt.window = 100;
    publishers_init(1);
    sparse_init(1);
    take_sample(&first);
    one = open_all(1, 0, "publisher");
    p = publisher_init(0, one[0], "r/000/0000/s", 1, true, 0, (uint32_t)opt.window);
    one[0]->packet = publisher_packet;
    take_sample(&a);
    uint64_t moved = now(), last = 0;
    publisher_touch(p);
    while (p->acked < n) {
        uint32_t room = publisher_room(p);
        if (publisher_touched() != NULL && publisher_due(p, room)) {
            while (room-- && p->sent < n && !ring_full(&p->ring)) {
                uint8_t digits[7], *topic;
                patch_digits(digits, (uint32_t)p->sent);
                topic = publish_one(p, 0);
                memcpy(topic + 2, digits, 3);
                memcpy(topic + 6, digits + 3, 4);
            }
            flush_marked();
        }
        poll_once(now() + SECOND / 10);
        if (p->acked != last)
            moved = now();
        last = p->acked;
        if (now() - moved > 30 * SECOND)
            fail("only %llu of %u were acknowledged", (unsigned long long)last, n);
    }
    take_sample(&b);
    p->receivers = 1;
    json_begin();
    json_open("store");
    json_window(&a, &b, n);
    json_num("rss_per_message", ((double)b.rss - (double)a.rss) / n);
    json_shut();
    uint64_t before = acc.delivered;
    replay("select", "r/+/0001/s", 2, n / 10000 + (n % 10000 > 1));
    replay("replay", "r/#", 1, n);
    uint64_t want = n + n / 10000 + (n % 10000 > 1);
    uint64_t got = acc.delivered - before;
    json_int("rss_start", first.rss);
    json_int("rss_after", broker_rss());
    json_int("not_marked_retained", not_retained);
    json_accounts(want > got ? want - got : 0);
    json_end();
}
