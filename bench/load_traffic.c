/* Messages in motion: publishers and subscribers in pairs, many to one, one to
 * many, shared; as fast as a window allows, in lock-step, or paced; with or
 * without a storm of subscriptions beside.
 *
 * A message is outstanding until every subscriber has it, and at QoS 1 and 2
 * until its handshake is complete. A publisher tops up at once, all that it
 * may, in one write; --refill N lets it wait until one part in N is free.
 * (Waiting makes larger batches, and makes a broker that leaves Nagle's
 * algorithm on look ten times slower: its next segment waits for our
 * acknowledgement, and that for our next write.)
 */
#include "load.h"

#include <stdlib.h>
#include <string.h>

struct publisher *publishers;
int publisher_total;
static struct publisher **touched;
static int touched_count;

/* -- publishers and subscribers ------------------------------------------- */

void publishers_init(int n)
{
    publishers = calloc((size_t)n, sizeof *publishers);
    touched = calloc((size_t)n, sizeof *touched);
    publisher_total = n;
}

void publisher_touch(struct publisher *p)
{
    if (p->dirty)
        return;
    p->dirty = true;
    touched[touched_count++] = p;
}

struct publisher *publisher_touched(void)
{
    if (touched_count == 0)
        return NULL;
    struct publisher *p = touched[--touched_count];
    p->dirty = false;
    return p;
}

struct publisher *publisher_init(int index, struct conn *c, const char *topic, int qos,
                                 bool retain, uint32_t receivers, uint32_t cap)
{
    struct publisher *p = &publishers[index];
    p->conn = c;
    p->index = (uint32_t)index;
    p->receivers = receivers;
    p->cap = cap;
    if (qos > 0) {
        p->window = p->free_ids = (uint32_t)opt.window;
        p->ids = calloc(p->window, sizeof *p->ids);
        p->in_use = calloc(65536 / 8, 1);
        if (opt.rate > 0)
            p->due = calloc(65536, sizeof *p->due);
        for (uint32_t i = 0; i < p->window; i++)
            p->ids[i] = (uint16_t)(p->window - i);
    }
    ring_make(&p->ring, topic, qos, retain, p->index, cap + 1);
    c->publisher = p;
    return p;
}

uint32_t publisher_room(const struct publisher *p)
{
    uint32_t room = p->cap;
    if (p->receivers) {
        uint64_t open = p->sent * p->receivers - p->delivered;
        uint64_t limit = (uint64_t)p->cap * p->receivers;
        room = open >= limit ? 0 : (uint32_t)((limit - open) / p->receivers);
    }
    return p->window && p->free_ids < room ? p->free_ids : room;
}

bool publisher_due(const struct publisher *p, uint32_t room)
{
    uint32_t limit = p->window && p->window < p->cap ? p->window : p->cap;
    return room > 0 && (opt.refill == 0 || room >= limit / (uint32_t)opt.refill);
}

uint8_t *publish_one(struct publisher *p, uint64_t stamp)
{
    struct slot *slot;
    uint8_t *frame = ring_next(&p->ring, &slot);
    uint32_t n = (uint32_t)p->sent++;
    if (p->window) {
        uint16_t id = p->ids[--p->free_ids];
        p->in_use[id / 8] |= (uint8_t)(1 << id % 8);
        frame[slot->id_at] = (uint8_t)(id >> 8);
        frame[slot->id_at + 1] = (uint8_t)id;
        if (p->due)
            p->due[id] = stamp;
    }
    memcpy(frame + slot->stamp_at + 4, &n, 4);
    memcpy(frame + slot->stamp_at + 8, &stamp, 8);
    acc.sent++;
    conn_mark(p->conn);
    return frame + slot->topic_at;
}

void publisher_packet(struct conn *c, const struct packet_in *in)
{
    struct publisher *p = c->publisher;
    bool known = p && p->in_use && p->in_use[in->id / 8] & 1 << in->id % 8;
    if (in->type != PUBACK && in->type != PUBREC && in->type != PUBCOMP)
        return;
    if (!known || in->code >= 0x80) {
        acc.errors++;
        return;
    }
    if (in->type == PUBREC) {
        conn_ack(c, 0x62, in->id);
        return;
    }
    p->in_use[in->id / 8] &= (uint8_t) ~(1 << in->id % 8);
    p->ids[p->free_ids++] = in->id;
    p->acked++;
    acc.acked++;
    if (latency_on && p->due)
        histogram_add(&acknowledged, now() - p->due[in->id]);
    if (latency_on && p->receivers == 0 && c->started)
        histogram_add(&latency, now() - c->started);
    publisher_touch(p);
}

void subscriber_packet(struct conn *c, const struct packet_in *in)
{
    if (in->type == PUBLISH) {
        int qos = in->flags >> 1 & 3;
        account(c, in);
        if (qos == 1)
            conn_ack(c, 0x40, in->id);
        else if (qos == 2)
            conn_ack(c, 0x50, in->id);
    } else if (in->type == PUBREL) {
        conn_ack(c, 0x70, in->id);
    }
}

static void both_packet(struct conn *c, const struct packet_in *in)
{
    if (in->type == PUBLISH || in->type == PUBREL)
        subscriber_packet(c, in);
    else
        publisher_packet(c, in);
}

void watch_messages(struct conn *c, uint32_t first_publisher, uint32_t count)
{
    c->first_publisher = first_publisher;
    c->publisher_count = count;
    c->seen = calloc((count ? count : 1) * (size_t)opt.topics, sizeof *c->seen);
}

bool all_arrived(void)
{
    for (int i = 0; i < publisher_total; i++) {
        struct publisher *p = &publishers[i];
        if (p->delivered < p->sent * p->receivers || (p->window && p->acked < p->sent))
            return false;
    }
    return true;
}

double drain(void)
{
    uint64_t begun = now(), moved = begun, last = ~0ull;
    while (!all_arrived()) {
        uint64_t t, state = acc.delivered + acc.acked;
        poll_once(now() + SECOND / 50);
        t = now();
        if (state != last)
            moved = t;
        last = state;
        if (t - moved > (uint64_t)(opt.drain * 1e9))
            break;
    }
    /* duplicates come after the last message */
    for (uint64_t end = now() + SECOND / 20; now() < end;)
        poll_once(end);
    return (double)(now() - begun) / 1e9;
}

/* -- the storm -------------------------------------------------------------- */

static struct conn **storm, **storm_idle;
static int storm_idle_count;
static uint64_t storm_sent, storm_begun;

/* The filters lie in the tree beside the traffic's topics and match none. */
static void storm_next(struct conn *c)
{
    char text[64];
    const char *filters[1] = {text};
    unsigned n = (unsigned)(c->started / 2 % 1000);
    static const char *const shapes[3] = {"bench/pair/+/storm/%u/%d", "bench/+/storm/%u/%d/#",
                                          "storm/%u/%d"};
    snprintf(text, sizeof text, shapes[n % 3], n, c->index);
    conn_subscribe(c, c->started % 2 == 0, 0, filters, 1);
    c->started++;
    storm_sent++;
}

static void storm_packet(struct conn *c, const struct packet_in *in)
{
    if (in->type != SUBACK && in->type != UNSUBACK)
        return;
    if (in->worst >= 0x80)
        acc.errors++;
    acc.operations++;
    storm_idle[storm_idle_count++] = c;
}

/* Issues what is due; returns when the next is. */
static uint64_t storm_turn(void)
{
    uint64_t t = now();
    while (storm_idle_count) {
        if (opt.storm_rate > 0) {
            uint64_t due = storm_begun + (uint64_t)((double)storm_sent * 1e9 / opt.storm_rate);
            if (due > t)
                return due;
        }
        storm_next(storm_idle[--storm_idle_count]);
    }
    return t + SECOND;
}

static void storm_open(int first_index)
{
    storm = open_all(opt.storm_clients, first_index, "storm");
    storm_idle = calloc((size_t)opt.storm_clients, sizeof *storm_idle);
    for (int i = 0; i < opt.storm_clients; i++) {
        storm[i]->packet = storm_packet;
        storm_idle[storm_idle_count++] = storm[i];
    }
    storm_begun = now();
}

/* -- the run ------------------------------------------------------------------ */

static struct conn **subscribers;
static bool pairs, fan_in, fan_out, shared, echo, ack_only;

static void filter_name(int i, char *text)
{
    if (shared)
        strcpy(text, "$share/bench/bench/pair/+");
    else if (fan_in)
        strcpy(text, opt.topics > 1 ? "bench/pair/#" : "bench/pair/+");
    else
        sprintf(text, opt.topics > 1 ? "bench/pair/%06d/+" : "bench/pair/%06d", fan_out ? 0 : i);
}

static void choose_pattern(void)
{
    pairs = !strcmp(opt.pattern, "pairs");
    fan_in = !strcmp(opt.pattern, "in");
    fan_out = !strcmp(opt.pattern, "out");
    shared = !strcmp(opt.pattern, "shared");
    echo = !strcmp(opt.pattern, "echo");
    ack_only = !strcmp(opt.pattern, "ack");
    if (!(pairs || fan_in || fan_out || shared || echo || ack_only))
        fail("unknown --pattern %s", opt.pattern);
    if (ack_only && opt.qos == 0)
        fail("--pattern ack needs --qos 1 or 2");
    if (shared && opt.topics > 1)
        fail("--pattern shared has one topic for each publisher");
    if (pairs || echo)
        opt.subscribers = opt.publishers;
    if (fan_in)
        opt.subscribers = 1;
    if (fan_out)
        opt.publishers = 1;
    if (ack_only)
        opt.subscribers = 0;
}

static uint32_t choose_cap(uint32_t receivers)
{
    uint32_t cap = (uint32_t)opt.outstanding, most;
    if (opt.window == 0)
        opt.window = opt.rate > 0 ? 1000 : opt.publishers >= 100 ? 10 : 100;
    if (cap == 0 && opt.rate > 0)
        cap = 20000;
    else if (cap == 0 && opt.qos > 0)
        cap = 2 * (uint32_t)opt.window;
    else if (cap == 0)
        cap = fan_out ? 10000u / receivers : 1000u / (uint32_t)opt.publishers;
    if (opt.outstanding == 0 && cap < 10)
        cap = 10;
    most = (4u << 20) / ((uint32_t)opt.payload + 64);
    return cap > most ? (most ? most : 1) : cap;
}

static void top_up(void)
{
    struct publisher *p;
    while ((p = publisher_touched()) != NULL) {
        uint32_t room = publisher_room(p);
        uint64_t stamp = 0;
        if (!publisher_due(p, room))
            continue;
        if (latency_on)
            p->conn->started = stamp = now();
        while (room-- && !ring_full(&p->ring))
            publish_one(p, stamp);
    }
    flush_marked();
}

static void paced(uint64_t begun, uint64_t *issued)
{
    uint64_t t = now();
    for (;;) {
        uint64_t due = begun + (uint64_t)((double)*issued * 1e9 / opt.rate);
        struct publisher *p = &publishers[*issued % (uint64_t)publisher_total];
        /* No room means that the message goes late; its stamp says when it was due. */
        if (due > t || ring_full(&p->ring) || (p->window && p->free_ids == 0))
            break;
        if (p->receivers == 0)
            p->conn->started = due;
        publish_one(p, due);
        ++*issued;
        if (latency_on)
            histogram_add(&lag, t - due);
    }
    flush_marked();
    while (publisher_touched() != NULL)
        ;
}

static void run_until(uint64_t end, uint64_t begun, uint64_t *issued)
{
    uint64_t t;
    while ((t = now()) < end) {
        uint64_t until = end;
        if (opt.rate > 0) {
            paced(begun, issued);
            until = begun + (uint64_t)((double)*issued * 1e9 / opt.rate);
            if (until < t + 20000)
                until = t + 20000;
        } else {
            top_up();
        }
        if (opt.storm_clients) {
            uint64_t next = storm_turn();
            until = next < until ? next : until;
            flush_marked();
        }
        poll_once(until < end ? until : end);
    }
}

static void connect_everyone(void)
{
    int n = opt.publishers;
    uint32_t receivers = fan_out ? (uint32_t)opt.subscribers : ack_only ? 0 : 1;
    struct conn **pubs;
    publishers_init(n);
    if (shared)
        sparse_init(n);
    subscribers = open_all(opt.subscribers, 0, "subscriber");
    subscribe_all(subscribers, opt.subscribers, opt.sub_qos, filter_name);
    for (int i = 0; i < opt.subscribers; i++) {
        watch_messages(subscribers[i], pairs || echo ? (uint32_t)i : 0,
                       fan_in || shared ? (uint32_t)n : 1);
        subscribers[i]->packet = echo ? both_packet : subscriber_packet;
    }
    pubs = echo ? subscribers : open_all(n, opt.subscribers, "publisher");
    for (int i = 0; i < n; i++) {
        char topic[64];
        sprintf(topic, "bench/pair/%06d", i);
        publisher_init(i, pubs[i], topic, opt.qos, false, receivers, choose_cap(receivers));
        if (!echo)
            pubs[i]->packet = publisher_packet;
        publisher_touch(&publishers[i]);
    }
    if (opt.storm_clients)
        storm_open(opt.subscribers + n);
}

void run_traffic(void)
{
    struct sample first, a, b;
    uint64_t begun, issued = 0, drained;
    double drain_seconds;
    choose_pattern();
    take_sample(&first);
    connect_everyone();
    bool lock_step = opt.outstanding == 1 || (opt.qos && opt.window == 1);
    bool timed = opt.rate > 0 || (lock_step && !fan_out);
    begun = now();
    run_until(begun + (uint64_t)(opt.warmup * 1e9), begun, &issued);
    latency_on = timed;
    take_sample(&a);
    run_until(a.at + (uint64_t)(opt.seconds * 1e9), begun, &issued);
    take_sample(&b);
    latency_on = opt.rate > 0;
    flush_marked();
    drain_seconds = drain();
    drained = broker_rss();

    json_begin();
    json_window(&a, &b, ack_only ? b.acked - a.acked : b.delivered - a.delivered);
    json_int("published", b.sent - a.sent);
    json_int("rss_start", first.rss);
    json_int("rss_drained", drained);
    json_num("drain_seconds", drain_seconds);
    json_accounts(shared ? sparse_lost() : dense_lost(subscribers, opt.subscribers));
    if (timed)
        json_histogram("latency", &latency);
    if (opt.rate > 0)
        json_histogram("generator_lag", &lag);
    if (opt.rate > 0 && opt.qos > 0)
        json_histogram("acknowledged", &acknowledged);
    if (opt.storm_clients)
        json_num("storm_rate", (double)(b.operations - a.operations) / ((double)(b.at - a.at) / 1e9));
    json_end();
}
