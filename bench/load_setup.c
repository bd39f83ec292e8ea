/* Opens connections and subscribes them, many at a time, before a run. */
#include "load.h"

#include <stdlib.h>

static int ready_count, answer_count;

static void count_ready(struct conn *c)
{
    (void)c;
    ready_count++;
}

static void count_answer(struct conn *c, const struct packet_in *p)
{
    (void)c;
    if (p->type != SUBACK)
        return;
    if (p->worst > 2)
        fail("SUBACK says 0x%02x", p->worst);
    answer_count++;
}

struct conn **open_all(int n, int first_index, const char *name)
{
    struct conn **conns = calloc((size_t)(n ? n : 1), sizeof *conns);
    int begun = 0;
    uint64_t limit = now() + 20 * SECOND + (uint64_t)n * SECOND / 100;
    ready_count = 0;
    while (ready_count < n) {
        while (begun < n && begun - ready_count < opt.concurrency) {
            struct conn *c = conns[begun] = conn_new(first_index + begun);
            c->ready = count_ready;
            conn_open(c, false);
            begun++;
        }
        poll_once(now() + SECOND);
        if (now() > limit)
            fail("only %d of %d %s connections got CONNACK", ready_count, n, name);
    }
    return conns;
}

void subscribe_all(struct conn **conns, int n, int qos, void (*filter)(int, char *))
{
    int begun = 0;
    uint64_t limit = now() + 20 * SECOND + (uint64_t)n * SECOND / 100;
    answer_count = 0;
    while (answer_count < n) {
        while (begun < n && begun - answer_count < opt.concurrency) {
            char text[128];
            const char *filters[1] = {text};
            filter(begun, text);
            conns[begun]->packet = count_answer;
            conn_subscribe(conns[begun], true, qos, filters, 1);
            begun++;
        }
        flush_marked();
        poll_once(now() + SECOND);
        if (now() > limit)
            fail("only %d of %d subscriptions were answered", answer_count, n);
    }
}
