/* Sockets, TLS, epoll, framing and output of the load generator.
 *
 * Input is parsed in place in one shared buffer; a connection owns memory only
 * for the part of a packet that has not arrived. Output is gathered while
 * events are handled and written once per turn, so that the generator spends
 * as few system calls as it can.
 */
#define _GNU_SOURCE
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#ifdef WITH_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
static SSL_CTX *tls;
#endif

enum { CLOSED, CONNECTING, HANDSHAKE, WAITING, READY };

#define SHARED (1u << 20)
static uint8_t shared[SHARED + 16];
static int epoll = -1;
static struct conn **marked;
static size_t marked_count, marked_room;
static struct sockaddr_in server;

uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

void net_init(void)
{
    epoll = epoll_create1(EPOLL_CLOEXEC);
    /* Paced runs wait for tens of microseconds; the default slack is 50. */
    prctl(PR_SET_TIMERSLACK, 1000ul, 0ul, 0ul, 0ul);
    server.sin_family = AF_INET;
    server.sin_port = htons((uint16_t)opt.port);
    if (inet_pton(AF_INET, opt.host, &server.sin_addr) != 1)
        fail("--host must be an IPv4 address: %s", opt.host);
    if (!opt.tls)
        return;
#ifdef WITH_TLS
    tls = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_verify(tls, opt.ca ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    if (opt.ca && SSL_CTX_load_verify_locations(tls, opt.ca, NULL) != 1)
        fail("cannot read %s", opt.ca);
    SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_OFF);
#else
    fail("built without TLS");
#endif
}

struct conn *conn_new(int index)
{
    struct conn *c = calloc(1, sizeof *c);
    if (c == NULL)
        fail("out of memory");
    c->fd = -1;
    c->index = index;
    return c;
}

static void watch(struct conn *c, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data = {.ptr = c}};
    if (epoll_ctl(epoll, operation, c->fd, &event) != 0)
        fail("epoll_ctl: %s", strerror(errno));
}

void conn_open(struct conn *c, bool spread_addresses)
{
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        fail("socket: %s", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (spread_addresses && (ntohl(server.sin_addr.s_addr) >> 24) == 127) {
        /* Ports of closed connections rest for a minute: use many addresses. */
        static uint32_t turn;
        struct sockaddr_in from = {.sin_family = AF_INET};
        from.sin_addr.s_addr = htonl(0x7f000102u + turn++ % 200);
        setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (bind(c->fd, (struct sockaddr *)&from, sizeof from) != 0)
            fail("bind: %s", strerror(errno));
    }
    c->in_len = c->out_len = c->out_off = 0;
    c->want_write = true;
    c->state = CONNECTING;
    c->next_id = 0;
    if (connect(c->fd, (struct sockaddr *)&server, sizeof server) != 0 && errno != EINPROGRESS)
        fail("connect: %s", strerror(errno));
    watch(c, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
}

void conn_close(struct conn *c)
{
    if (c->fd < 0)
        return;
#ifdef WITH_TLS
    if (c->ssl != NULL)
        SSL_free(c->ssl);
    c->ssl = NULL;
#endif
    close(c->fd);
    c->fd = -1;
    c->state = CLOSED;
    free(c->in);
    free(c->out);
    c->in = c->out = NULL;
    c->in_room = c->out_room = c->in_len = c->out_len = c->out_off = 0;
}

static void lost(struct conn *c, const char *why)
{
    bool was_ready = c->state == READY;
    if (c->closing) {
        conn_close(c);
        return;
    }
    conn_close(c);
    acc.closed++;
    if (c->closed != NULL)
        c->closed(c, why);
    else
        fail("connection %d closed %s: %s", c->index, was_ready ? "" : "before CONNACK", why);
}

void conn_mark(struct conn *c)
{
    if (c->dirty)
        return;
    c->dirty = true;
    if (marked_count == marked_room) {
        marked_room = marked_room ? marked_room * 2 : 1024;
        marked = realloc(marked, marked_room * sizeof *marked);
    }
    marked[marked_count++] = c;
}

void conn_put(struct conn *c, const void *bytes, size_t len)
{
    if (c->out_len + len > c->out_room) {
        c->out_room = (uint32_t)((c->out_len + len) * 2);
        c->out = realloc(c->out, c->out_room);
    }
    memcpy(c->out + c->out_len, bytes, len);
    c->out_len += (uint32_t)len;
    conn_mark(c);
}

void conn_ack(struct conn *c, uint8_t first, uint16_t id)
{
    uint8_t frame[4] = {first, 2, (uint8_t)(id >> 8), (uint8_t)id};
    conn_put(c, frame, 4);
}

static uint8_t *put_length(uint8_t *at, uint32_t n)
{
    do {
        uint8_t byte = n & 127;
        n >>= 7;
        *at++ = byte | (n ? 128 : 0);
    } while (n);
    return at;
}

static uint8_t *put_text(uint8_t *at, const char *text)
{
    size_t n = strlen(text);
    *at++ = (uint8_t)(n >> 8);
    *at++ = (uint8_t)n;
    memcpy(at, text, n);
    return at + n;
}

static void put_frame(struct conn *c, uint8_t first, const uint8_t *body, const uint8_t *end)
{
    uint8_t head[5];
    uint8_t *at = head;
    *at++ = first;
    at = put_length(at, (uint32_t)(end - body));
    conn_put(c, head, (size_t)(at - head));
    conn_put(c, body, (size_t)(end - body));
}

void conn_connect_packet(struct conn *c)
{
    uint8_t body[512];
    uint8_t *at = put_text(body, "MQTT");
    char name[32];
    *at++ = (uint8_t)opt.version;
    /* --durable: the sessions of subscribers, who come first, are kept. */
    bool kept = opt.durable && c->index < opt.subscribers;
    *at++ = (kept ? 0 : 2) | (opt.user ? 0x80 : 0) | (opt.password ? 0x40 : 0);
    *at++ = 600 >> 8;
    *at++ = 600 & 255;
    if (opt.version == 5 && kept) {
        memcpy(at, "\x05\x11\xff\xff\xff\xff", 6);
        at += 6;
    } else if (opt.version == 5) {
        *at++ = 0;
    }
    snprintf(name, sizeof name, "bench-%06d", c->index);
    at = put_text(at, name);
    if (opt.user)
        at = put_text(at, opt.user);
    if (opt.password)
        at = put_text(at, opt.password);
    put_frame(c, 0x10, body, at);
}

void conn_subscribe(struct conn *c, bool subscribe, int qos, const char *const *filters, int n)
{
    static uint8_t body[1 << 18];
    uint8_t *at = body;
    c->next_id = (uint16_t)(c->next_id % 65535 + 1);
    *at++ = (uint8_t)(c->next_id >> 8);
    *at++ = (uint8_t)c->next_id;
    if (opt.version == 5)
        *at++ = 0;
    for (int i = 0; i < n; i++) {
        if ((size_t)(at - body) + strlen(filters[i]) + 3 > sizeof body)
            fail("SUBSCRIBE too large: lower --batch");
        at = put_text(at, filters[i]);
        if (subscribe)
            *at++ = (uint8_t)qos;
    }
    put_frame(c, subscribe ? 0x82 : 0xa2, body, at);
}

void conn_disconnect(struct conn *c)
{
    static const uint8_t frame[2] = {0xe0, 0};
    c->closing = true;
    conn_put(c, frame, 2);
}

/* -- output ------------------------------------------------------------- */

static int ring_parts(const struct ring *r, struct iovec *parts)
{
    uint64_t size = r->size, pending = r->tail - r->head, first;
    uint64_t at = pending ? r->head % size : 0;
    if (pending == 0)
        return 0;
    first = pending < size - at ? pending : size - at;
    parts[0] = (struct iovec){r->bytes + at, first};
    if (first == pending)
        return 1;
    parts[1] = (struct iovec){r->bytes, pending - first};
    return 2;
}

static ssize_t write_parts(struct conn *c, struct iovec *parts, int count)
{
#ifdef WITH_TLS
    if (c->ssl != NULL) {
        ssize_t total = 0;
        for (int i = 0; i < count; i++) {
            size_t done = 0;
            while (done < parts[i].iov_len) {
                int n = SSL_write(c->ssl, (char *)parts[i].iov_base + done,
                                  (int)(parts[i].iov_len - done));
                if (n <= 0) {
                    int error = SSL_get_error(c->ssl, n);
                    ERR_clear_error();
                    if (error != SSL_ERROR_WANT_WRITE && error != SSL_ERROR_WANT_READ)
                        return -1;
                    errno = EAGAIN;
                    return total ? total : -1;
                }
                done += (size_t)n;
                total += n;
            }
        }
        return total;
    }
#endif
    return writev(c->fd, parts, count);
}

/* Has a frame of the ring gone out in part? */
static bool half_out(const struct ring *r)
{
    uint32_t at = (uint32_t)(r->head % r->size), low = 0, high = r->slots;
    while (high - low > 1) {
        uint32_t middle = (low + high) / 2;
        if (r->table[middle].at <= at)
            low = middle;
        else
            high = middle;
    }
    return r->table[low].at != at;
}

/* A frame of the ring that is half out comes first; else the gathered bytes. */
static void flush(struct conn *c)
{
    struct ring *r = c->publisher ? &c->publisher->ring : NULL;
    while (c->fd >= 0) {
        struct iovec parts[3];
        int count = 0;
        size_t total = 0, plain = c->out_len - c->out_off;
        bool ring_first = r && r->bytes && plain && half_out(r);
        ssize_t sent;
        if (ring_first)
            count = ring_parts(r, parts);
        if (plain)
            parts[count++] = (struct iovec){c->out + c->out_off, plain};
        if (r && r->bytes && !ring_first)
            count += ring_parts(r, parts + count);
        for (int i = 0; i < count; i++)
            total += parts[i].iov_len;
        if (total == 0)
            break;
        sent = write_parts(c, parts, count);
        if (sent < 0) {
            if (errno != EAGAIN) {
                lost(c, strerror(errno));
                return;
            }
            sent = 0;
        }
        size_t left = (size_t)sent;
        if (ring_first) {
            uint64_t pending = r->tail - r->head;
            uint64_t n = left < pending ? left : pending;
            r->head += n;
            left -= n;
        }
        size_t n = left < plain ? left : plain;
        c->out_off += (uint32_t)n;
        left -= n;
        if (left)
            r->head += left;
        if (c->out_off == c->out_len)
            c->out_off = c->out_len = 0;
        if ((size_t)sent < total) {
            if (!c->want_write)
                watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
            c->want_write = true;
            return;
        }
    }
    if (c->fd >= 0 && c->want_write) {
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
        c->want_write = false;
    }
}

void flush_marked(void)
{
    for (size_t i = 0; i < marked_count; i++) {
        struct conn *c = marked[i];
        c->dirty = false;
        if (c->fd >= 0 && c->state >= WAITING && !c->want_write)
            flush(c);
    }
    marked_count = 0;
}

/* -- input -------------------------------------------------------------- */

static bool get_length(const uint8_t **at, const uint8_t *end, uint32_t *value)
{
    uint32_t result = 0;
    for (int shift = 0; shift < 28; shift += 7) {
        if (*at == end)
            return false;
        uint8_t byte = *(*at)++;
        result |= (uint32_t)(byte & 127) << shift;
        if (byte < 128) {
            *value = result;
            return true;
        }
    }
    fail("a length of more than four bytes");
}

static void decode(struct conn *c, uint8_t first, const uint8_t *at, const uint8_t *end)
{
    struct packet_in p = {.type = first >> 4, .flags = first & 15};
    switch (p.type) {
    case PUBLISH:
        if (end - at < 2)
            fail("truncated PUBLISH");
        p.topic_len = (uint32_t)(at[0] << 8 | at[1]);
        at += 2 + p.topic_len;
        if (p.flags & 6) {
            p.id = (uint16_t)(at[0] << 8 | at[1]);
            at += 2;
        }
        if (opt.version == 5) {
            get_length(&at, end, &p.properties);
            at += p.properties;
        }
        if (at > end)
            fail("truncated PUBLISH");
        p.payload = at;
        p.payload_len = (uint32_t)(end - at);
        break;
    case CONNACK:
        if (end - at < 2)
            fail("truncated CONNACK");
        p.code = at[1];
        break;
    case DISCONNECT:
        p.code = end > at ? at[0] : 0;
        break;
    case SUBACK:
    case UNSUBACK:
        p.id = (uint16_t)(at[0] << 8 | at[1]);
        at += 2;
        if (opt.version == 5) {
            get_length(&at, end, &p.properties);
            at += p.properties;
        }
        p.codes = (uint32_t)(end - at);
        for (; at < end; at++)
            p.worst = *at > p.worst ? *at : p.worst;
        break;
    case PINGRESP:
        break;
    default:
        if (end - at < 2)
            fail("truncated packet of type %u", p.type);
        p.id = (uint16_t)(at[0] << 8 | at[1]);
        p.code = end - at > 2 ? at[2] : 0;
    }
    if (p.type == CONNACK) {
        if (p.code != 0)
            fail("CONNACK says %u", p.code);
        c->state = READY;
        if (c->ready)
            c->ready(c);
    } else if (p.type == DISCONNECT) {
        char why[40];
        snprintf(why, sizeof why, "DISCONNECT 0x%02x", p.code);
        lost(c, why);
    } else if (c->packet) {
        c->packet(c, &p);
    }
}

/* Takes the whole packets out of bytes; returns how many bytes they had. */
static size_t parse(struct conn *c, const uint8_t *bytes, size_t len)
{
    const uint8_t *at = bytes, *end = bytes + len;
    while (end - at >= 2) {
        const uint8_t *body = at + 1;
        uint32_t size;
        if (!get_length(&body, end, &size) || (size_t)(end - body) < size)
            break;
        decode(c, *at, body, body + size);
        if (c->fd < 0)
            return len;
        at = body + size;
    }
    return (size_t)(at - bytes);
}

static ssize_t read_some(struct conn *c, uint8_t *into, size_t room)
{
#ifdef WITH_TLS
    if (c->ssl != NULL) {
        size_t total = 0;
        while (total + 16384 <= room) {
            int n = SSL_read(c->ssl, into + total, (int)(room - total));
            if (n <= 0) {
                int error = SSL_get_error(c->ssl, n);
                ERR_clear_error();
                if (total)
                    return (ssize_t)total;
                if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
                    errno = EAGAIN;
                else if (error == SSL_ERROR_ZERO_RETURN)
                    return 0;
                else
                    errno = errno == 0 || errno == EAGAIN ? ECONNRESET : errno;
                return -1;
            }
            total += (size_t)n;
        }
        return (ssize_t)total;
    }
#endif
    return recv(c->fd, into, room, 0);
}

static void readable(struct conn *c)
{
    ssize_t got;
    do {
        uint32_t kept = c->in_len;
        if (kept)
            memcpy(shared, c->in, kept);
        got = read_some(c, shared + kept, SHARED - kept);
        if (got <= 0) {
            if (got < 0 && (errno == EAGAIN || errno == EINTR))
                return;
            lost(c, got == 0 ? "end of stream" : strerror(errno));
            return;
        }
        acc.bytes_in += (uint64_t)got;
        size_t len = kept + (size_t)got;
        size_t used = parse(c, shared, len);
        if (c->fd < 0)
            return;
        uint32_t left = (uint32_t)(len - used);
        if (left > c->in_room) {
            c->in_room = left < 4096 ? 4096 : left * 2;
            free(c->in);
            c->in = malloc(c->in_room);
        }
        if (left)
            memcpy(c->in, shared + used, left);
        c->in_len = left;
        /* What OpenSSL has already read raises no event: read until it is empty. */
    } while (c->ssl != NULL);
}

static bool handshake(struct conn *c)
{
#ifdef WITH_TLS
    int n;
    if (c->ssl == NULL) {
        c->ssl = SSL_new(tls);
        SSL_set_fd(c->ssl, c->fd);
        SSL_set_connect_state(c->ssl);
        SSL_set_tlsext_host_name(c->ssl, "localhost");
    }
    n = SSL_do_handshake(c->ssl);
    if (n == 1)
        return true;
    int error = SSL_get_error(c->ssl, n);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
        if (error == SSL_ERROR_WANT_READ && c->want_write) {
            watch(c, EPOLL_CTL_MOD, EPOLLIN);
            c->want_write = false;
        }
        return false;
    }
    char why[160];
    ERR_error_string_n(ERR_get_error(), why, sizeof why);
    lost(c, why);
#else
    (void)c;
#endif
    return false;
}

static void event(struct conn *c, uint32_t events)
{
    if (c->state == CONNECTING) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) {
            lost(c, strerror(error));
            return;
        }
        if (!(events & EPOLLOUT))
            return;
        c->state = HANDSHAKE;
    }
    if (c->state == HANDSHAKE) {
        if (opt.tls && !handshake(c))
            return;
        c->state = WAITING;
        conn_connect_packet(c);
        flush(c);
        return;
    }
    if (events & EPOLLOUT)
        flush(c);
    if (c->fd >= 0 && events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        readable(c);
}

void poll_once(uint64_t until)
{
    struct epoll_event events[512];
    uint64_t t = now(), wait = until > t ? until - t : 0;
    struct timespec timeout = {(time_t)(wait / SECOND), (long)(wait % SECOND)};
    int n = epoll_pwait2(epoll, events, 512, &timeout, NULL);
    if (n < 0 && errno != EINTR)
        fail("epoll_pwait2: %s", strerror(errno));
    for (int i = 0; i < n; i++) {
        struct conn *c = events[i].data.ptr;
        if (c->fd >= 0)
            event(c, events[i].events);
    }
    flush_marked();
}

/* -- frames -------------------------------------------------------------- */

uint32_t payload_size(uint32_t n)
{
    uint32_t size = (uint32_t)opt.payload;
    if (!opt.vary)
        return size;
    /* half to one and a half of it, in no order, the same for every broker */
    size = size / 2 + (n % CYCLE * 37 % CYCLE) * size / (CYCLE - 1);
    return size < STAMP ? STAMP : size;
}

static uint8_t *put_properties(uint8_t *at)
{
    at = put_length(at, (uint32_t)opt.user_properties * 21);
    for (int i = 0; i < opt.user_properties; i++) {
        char text[16];
        *at++ = 0x26;
        snprintf(text, sizeof text, "name%04d", i % 10000);
        at = put_text(at, text);
        snprintf(text, sizeof text, "value%03d", i % 1000);
        at = put_text(at, text);
    }
    return at;
}

static void slot_make(struct ring *r, uint32_t n, const char *topic, int first, uint32_t index)
{
    struct slot *slot = &r->table[n];
    uint32_t payload = payload_size(n), properties = (uint32_t)opt.user_properties * 21;
    uint8_t *frame = r->bytes + r->size, *at = frame, scratch[4];
    char name[128];
    snprintf(name, sizeof name, opt.topics > 1 ? "%s/%02u" : "%s", topic,
             n % (uint32_t)opt.topics);
    uint32_t body = 2 + (uint32_t)strlen(name) + (first & 6 ? 2 : 0) + payload;
    if (opt.version == 5)
        body += (uint32_t)(put_length(scratch, properties) - scratch) + properties;
    *at++ = (uint8_t)first;
    at = put_length(at, body);
    slot->at = r->size;
    slot->topic_at = (uint32_t)(at - frame) + 2;
    at = put_text(at, name);
    slot->id_at = (uint32_t)(at - frame);
    if (first & 6)
        at += 2;
    if (opt.version == 5)
        at = put_properties(at);
    slot->stamp_at = (uint32_t)(at - frame);
    memcpy(at, &index, 4);
    for (uint32_t i = STAMP; i < payload; i++)
        at[i] = (uint8_t)('a' + i % 26);
    slot->len = (uint32_t)(at - frame) + payload;
    r->size += slot->len;
}

void ring_make(struct ring *r, const char *topic, int qos, bool retain, uint32_t index,
               uint32_t slots)
{
    bool cycle = opt.vary || opt.topics > 1;
    uint32_t most = (uint32_t)(strlen(topic) + 32) + (uint32_t)opt.user_properties * 21 +
                    (uint32_t)opt.payload * (opt.vary ? 2 : 1) + STAMP;
    while (slots > 8 && (uint64_t)slots * most > (4u << 20))
        slots /= 2;
    if (cycle)
        slots = (slots + CYCLE - 1) / CYCLE * CYCLE;
    r->slots = slots < 1 ? 1 : slots;
    r->bytes = calloc(r->slots, most);
    r->table = calloc(r->slots, sizeof *r->table);
    r->size = r->next = 0;
    r->head = r->tail = 0;
    for (uint32_t i = 0; i < r->slots; i++)
        slot_make(r, i, topic, 0x30 | qos << 1 | retain, index);
}

bool ring_full(const struct ring *r)
{
    return r->tail + r->table[r->next].len - r->head > r->size;
}

uint8_t *ring_next(struct ring *r, struct slot **slot)
{
    *slot = &r->table[r->next];
    r->next = r->next + 1 == r->slots ? 0 : r->next + 1;
    r->tail += (*slot)->len;
    return r->bytes + (*slot)->at;
}
