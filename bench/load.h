/* What the files of the load generator share: options, connections,
 * publishers, the accounting of every message, and the samples of CPU time.
 *
 * load.c          options, main
 * load_net.c      sockets, TLS, epoll, framing, output
 * load_setup.c    opening and subscribing many connections
 * load_measure.c  /proc samples, histograms, message accounting, JSON
 * load_traffic.c  publishers and subscribers, paced or not; lock-step; storm
 * load_tables.c   connects, idle connections, filter tables, retained messages
 *
 * One thread, one epoll. Times are nanoseconds of CLOCK_MONOTONIC.
 */
#ifndef LOAD_H
#define LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define SECOND 1000000000ull
/* publisher number, sequence number, time stamp: at the head of each payload */
#define STAMP 16
/* With --vary and --topics, frames repeat after so many. */
#define CYCLE 64

enum packet {
    CONNACK = 2, PUBLISH = 3, PUBACK = 4, PUBREC = 5, PUBREL = 6, PUBCOMP = 7,
    SUBACK = 9, UNSUBACK = 11, PINGRESP = 13, DISCONNECT = 14
};

struct options {
    const char *mode, *host, *pattern, *kind, *user, *password, *ca;
    int port, version, qos, sub_qos, publishers, subscribers, clients, concurrency;
    int window, outstanding, refill, payload, topics, user_properties, batch, spread, storm_clients;
    int pids[16], pid_count;
    long count;
    double seconds, warmup, rate, storm_rate, drain;
    bool tls, vary, durable;
};
extern struct options opt;

struct conn;
struct packet_in {
    uint8_t type, flags;
    uint16_t id;              /* packet identifier, 0 when there is none */
    uint8_t code;             /* first reason or return code, 0 when absent */
    uint8_t worst;            /* largest code of a SUBACK or UNSUBACK */
    uint32_t codes;           /* how many codes */
    uint32_t properties;      /* length of the properties */
    const uint8_t *payload;   /* of a PUBLISH */
    uint32_t payload_len, topic_len;
};

/* The frames that a publisher sends, laid out once, back to back. Only packet
 * identifier, sequence number, time stamp and topic digits are patched. */
struct slot { uint32_t at, len, id_at, stamp_at, topic_at; };
struct ring {
    uint8_t *bytes;
    struct slot *table;
    uint32_t slots, next, size;
    uint64_t head, tail;      /* bytes sent, bytes ready; ever growing */
};

struct publisher {
    struct conn *conn;
    struct ring ring;
    uint32_t index, receivers, window, free_ids, cap;
    uint16_t *ids;            /* stack of free packet identifiers */
    uint8_t *in_use;          /* bit per identifier */
    uint64_t sent, acked, delivered;
    uint64_t *due;            /* by packet identifier, when paced */
    bool dirty;
};

struct gap { uint32_t from, to; };
/* What one subscriber has seen of one publisher. */
struct seen {
    uint32_t expected, gap_count, gap_room;
    struct gap *gaps;
};

struct conn {
    int fd, index, state;
    bool want_write, dirty, closing;
    void *ssl;
    uint8_t *in, *out;
    uint32_t in_len, in_room, out_len, out_off, out_room;
    uint16_t next_id;
    struct publisher *publisher;
    struct seen *seen;
    uint32_t first_publisher, publisher_count;
    uint64_t started;
    void (*ready)(struct conn *);
    void (*packet)(struct conn *, const struct packet_in *);
    void (*closed)(struct conn *, const char *why);
};

/* Tells why on standard error and ends with 1. (load_measure.c) */
_Noreturn void fail(const char *format, ...);

/* load_net.c */
uint64_t now(void);
void net_init(void);
struct conn *conn_new(int index);
void conn_open(struct conn *c, bool spread_addresses);
void conn_close(struct conn *c);
void conn_mark(struct conn *c);
void conn_put(struct conn *c, const void *bytes, size_t len);
void conn_ack(struct conn *c, uint8_t first, uint16_t id);
void conn_subscribe(struct conn *c, bool subscribe, int qos, const char *const *filters, int n);
void conn_connect_packet(struct conn *c);
void conn_disconnect(struct conn *c);
void flush_marked(void);
void poll_once(uint64_t until);
void ring_make(struct ring *r, const char *topic, int qos, bool retain, uint32_t index,
               uint32_t slots);
uint8_t *ring_next(struct ring *r, struct slot **slot);
/* of the publisher's message n */
uint32_t payload_size(uint32_t n);
bool ring_full(const struct ring *r);

/* load_setup.c */
/* Open *n* connections, *concurrency* at a time; returns when all are ready. */
struct conn **open_all(int n, int first_index, const char *name);
/* Subscribe each; returns when all are answered. filter(i) names it. */
void subscribe_all(struct conn **conns, int n, int qos, void (*filter)(int, char *));

/* load_measure.c */
struct sample {
    uint64_t at, broker_ns, broker_wait_ns, own_ns, own_wait_ns;
    uint64_t broker_user_ticks, broker_system_ticks;
    uint64_t rss;
    uint64_t sent, acked, delivered, operations;
};
struct histogram { uint64_t total, max, buckets[64 * 48]; double sum; };
struct accounts {
    uint64_t sent, acked, delivered, duplicates, out_of_order, malformed, errors, closed;
    uint64_t bytes_in, operations; /* operations: connects, or storm requests answered */
};
extern struct accounts acc;
extern bool latency_on;
extern struct histogram latency, lag, acknowledged;
extern struct publisher *publishers;
extern int publisher_total;

void take_sample(struct sample *s);
uint64_t broker_rss(void);
void histogram_add(struct histogram *h, uint64_t ns);
uint64_t histogram_at(const struct histogram *h, double quantile);
void account(struct conn *c, const struct packet_in *p);
uint64_t dense_lost(struct conn **subs, int n);
uint64_t sparse_lost(void);
/* sparse: a subscriber sees a part of a publisher's messages.
 * ordered: it sees them in order, since they have one topic. */
extern bool sparse, ordered;
void sparse_init(int publishers_n);
void json_begin(void);
void json_int(const char *key, uint64_t value);
void json_num(const char *key, double value);
void json_text(const char *key, const char *value);
void json_open(const char *key);
void json_shut(void);
void json_window(const struct sample *a, const struct sample *b, uint64_t messages);
void json_histogram(const char *key, const struct histogram *h);
void json_accounts(uint64_t lost);
void json_end(void);

/* load_traffic.c */
struct publisher *publisher_init(int index, struct conn *c, const char *topic, int qos,
                                 bool retain, uint32_t receivers, uint32_t cap);
void publisher_packet(struct conn *c, const struct packet_in *p);
void subscriber_packet(struct conn *c, const struct packet_in *p);
/* how many messages the publisher may send now */
uint32_t publisher_room(const struct publisher *p);
/* Returns the topic, to be patched. */
uint8_t *publish_one(struct publisher *p, uint64_t stamp);
void publisher_touch(struct publisher *p);
struct publisher *publisher_touched(void);
bool publisher_due(const struct publisher *p, uint32_t room);
void publishers_init(int n);
bool all_arrived(void);
void watch_messages(struct conn *c, uint32_t first_publisher, uint32_t count);
/* Keep polling until everything sent has arrived or nothing moves any more. */
double drain(void);
void run_traffic(void);

/* load_tables.c */
void run_connect(void);
void run_idle(void);
void run_subscribe(void);
void run_retained(void);

#endif
