/* A step's attention, divided between threads by how much there is to do.

   A unit is a head of a short segment, or a strip of a long one (decoder_strips.h); a thread takes
   units that follow each other, whose middles lie in its share of the whole. */

#ifndef DECODER_SHARE_H
#define DECODER_SHARE_H

#include "decoder_attention.h"
#include "decoder_strips.h"

/* Keys and values of long segments, tokens of each by turns: strips read what other threads write.
   Whether there are any, and threads must meet. */
static int write_share(const Heads *heads, const Step *step, const Pages *pages, const float *qkv,
                       int64_t width, int given, int me, int threads) {
    int any = 0;
    for (int64_t s = 0; s < step->segments; s++) {
        if (!is_long(step, pages, s, given)) continue;
        const int64_t first = step->length[s] * me / threads;
        const int64_t last = step->length[s] * (me + 1) / threads;
        for (int64_t head = 0; head < heads->key_heads; head++)
            write_tokens(heads, step, pages, s, head, first, last, qkv, width);
        any = 1;
    }
    return any;
}

/* Units of a key head, and what unit n costs: keys times queries, with some for what is done once. */
static int64_t units_of(const Heads *heads, const Step *step, int64_t segment, int tiled) {
    return heads->heads / heads->key_heads * (tiled ? strips_of(step, segment) : 1);
}

static int64_t cost_of(const Heads *heads, const Step *step, int64_t segment, int tiled, int64_t n) {
    const int64_t length = step->length[segment], past = step->past[segment];
    if (!tiled) return length * (past + length + KEYS);
    int64_t seen = past + (n / (heads->heads / heads->key_heads) + 1) * STRIP;
    if (step->window && seen > step->window + STRIP) seen = step->window + STRIP;
    return STRIP * (seen + KEYS) / FASTER;
}

/* What a head of a segment reads and writes first. */
static void fetch_first(const Heads *heads, const Step *step, const Pages *pages, int64_t segment,
                        int64_t head) {
    const int64_t past = step->past[segment], seen = past + 1 - step->window;
    const int64_t key = step->window && seen > 0 ? seen : 0;
    fetch(pages, place(pages, step, segment, head, key), FIRST, heads->dim);
    fetch(pages, place(pages, step, segment, head, past), 1, heads->dim);
}

/* Units [from, until) of a key head. */
static void attend_units(const Heads *heads, const Step *step, const Pages *pages, int64_t segment,
                         int64_t head, int64_t from, int64_t until, const float *qkv, int64_t width,
                         void *out, int64_t stride, int given) {
#ifdef __AMX_BF16__
    if (is_long(step, pages, segment, given)) {
        attend_strips(heads, step, pages, segment, head, from, until, qkv, width, out, stride);
        return;
    }
#endif
    const int64_t last = head + 1 == heads->key_heads;
    if (segment + last < step->segments)
        fetch_first(heads, step, pages, segment + last, last ? 0 : head + 1);
    attend(heads, step, pages, segment, head, (int)from, (int)until, qkv, width, out, stride, given);
}

/* A thread's share. */
static void attend_share(const Heads *heads, const Step *step, const Pages *pages, const float *qkv,
                         int64_t width, void *out, int64_t stride, int given, int me, int threads) {
    int64_t whole = 0, done = 0;
    for (int64_t s = 0; s < step->segments; s++) {
        const int tiled = is_long(step, pages, s, given);
        for (int64_t n = 0; n < units_of(heads, step, s, tiled); n++)
            whole += heads->key_heads * cost_of(heads, step, s, tiled, n);
    }
    for (int64_t s = 0; s < step->segments; s++) {
        const int tiled = is_long(step, pages, s, given);
        const int64_t units = units_of(heads, step, s, tiled);
        for (int64_t head = 0; head < heads->key_heads; head++) {
            int64_t from = -1, until = -1, cost;
            for (int64_t n = 0; n < units; n++, done += cost) {
                cost = cost_of(heads, step, s, tiled, n);
                if ((2 * done + cost) * threads / (2 * whole) != me) continue;
                if (from < 0) from = n;
                until = n + 1;
            }
            if (from >= 0)
                attend_units(heads, step, pages, s, head, from, until, qkv, width, out, stride, given);
        }
    }
}

#endif
