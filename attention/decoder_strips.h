/* Attention of long segments over pages, by strips of 32 queries of one head (decoder_tiles.h).

   Keys and values are gathered from their blocks once for some strips of a key head. Chunks of keys
   begin at multiples of 64: a strip's numbers depend on nothing but its segment. */

#ifndef DECODER_STRIPS_H
#define DECODER_STRIPS_H

#include "decoder_tiles.h"

enum {
    LONG = 16,  /* queries of a segment from which strips are faster */
    FASTER = 8, /* about so many times: where segments of both kinds share a step */
};

/* Whether a segment is computed here. */
static inline int is_long(const Step *step, const Pages *pages, int64_t segment, int given) {
#ifdef __AMX_BF16__
    return given == BFLOAT16 && pages->kind == BFLOAT16 && step->length[segment] >= LONG;
#else
    (void)step, (void)pages, (void)segment, (void)given;
    return 0;
#endif
}

static inline int64_t strips_of(const Step *step, int64_t segment) {
    return (step->length[segment] + STRIP - 1) / STRIP;
}

#ifdef __AMX_BF16__

typedef struct {
    int64_t token, tokens; /* in the segment */
    int64_t head;
    int64_t first, stop; /* keys that any of its queries sees */
} Strip;

/* A strip's queries, in octaves of the weights that they give; those it lacks are zeros. */
static void turn_queries(uint16_t *to, const Heads *heads, const Step *step, int64_t start,
                         const Strip *strip, const float *qkv, int64_t width, int64_t depth) {
    uint16_t rows[TILE][MOST_DIM] __attribute__((aligned(64)));
    float own[MOST_DIM] __attribute__((aligned(64)));
    for (int64_t t = 0; t < STRIP; t++) {
        uint16_t *row = rows[t % TILE];
        memset(row, 0, depth * sizeof *row);
        if (t < strip->tokens) {
            const int64_t token = start + strip->token + t;
            prepare(own, qkv + token * width + strip->head * heads->dim, heads, step, token,
                    heads->query_norm, heads->query_epsilon, heads->scale * LOG2E);
            for (int64_t i = 0; i < heads->dim; i += LANES)
                store_some(row, i, BFLOAT16, _mm512_load_ps(own + i), LANES);
        }
        for (int64_t d = 0; t % TILE == TILE - 1 && d < depth; d += 32, to += WHOLE) {
            __m512i turned[16];
            for (int i = 0; i < 16; i++) turned[i] = _mm512_load_si512(rows[i] + d);
            turn(turned);
            for (int i = 0; i < 16; i++) _mm512_storeu_si512(to + i * 32, turned[i]);
        }
    }
}

/* out: [tokens][stride] bfloat16, from the strip's first token and head on. */
static void write_strip(const float *sums, const float *total, int64_t tokens, int64_t dim,
                        uint16_t *out, int64_t stride) {
    for (int64_t from = 0; from < tokens; from += TILE) {
        const __m512 share = _mm512_div_ps(_mm512_set1_ps(1.0f), _mm512_load_ps(total + from));
        for (int64_t d = 0; d < dim; d += TILE) {
            __m512i rows[16];
            for (int i = 0; i < 16; i++)
                rows[i] = _mm512_castps_si512(
                    _mm512_mul_ps(_mm512_load_ps(sums + (d + i) * STRIP + from), share));
            turn(rows);
            for (int i = 0; i < 16 && from + i < tokens; i++)
                store_some(out, (from + i) * stride + d, BFLOAT16, _mm512_castsi512_ps(rows[i]), LANES);
        }
    }
}

/* Strip n of a key head: all heads of its group, then the next 32 queries. */
static Strip strip_of(const Heads *heads, const Step *step, int64_t segment, int64_t head, int64_t n) {
    const int64_t group = heads->heads / heads->key_heads, past = step->past[segment];
    const int64_t token = n / group * STRIP, left = step->length[segment] - token;
    Strip own = {token, left < STRIP ? left : STRIP, head * group + n % group, 0, 0};
    own.stop = past + token + own.tokens;
    if (step->window && past + token + 1 > step->window) own.first = past + token + 1 - step->window;
    return own;
}

static void chunk_strip(Desk *desk, const Strip *own, int n, int64_t key, const Step *step,
                        int64_t segment, int64_t depth) {
    const int halves = own->tokens > TILE ? 2 : 1;
    const int64_t at = step->past[segment] + own->token, end = at + STRIP;
    const int whole = key + KEYS <= at + 1 && (!step->window || key + step->window >= end);
    float *sums = desk->sums + n * depth * STRIP;
    score_strip(desk, desk->queries + n * depth * STRIP, halves, depth);
    for (int half = 0; half < halves; half++) {
        const int from = half * TILE;
        float(*scores)[STRIP] = (float(*)[STRIP])(desk->scores[0] + from);
        const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        if (!whole)
            hide(scores, _mm512_add_epi32(lanes, _mm512_set1_epi32((int)at + from)), key, step->window);
        weigh(scores, desk->weights[0][half], desk->most[n] + from, desk->total[n] + from, sums + from,
              depth);
    }
    mix_strip(desk, sums, halves, depth);
}

/* Strips [from, until) of a key head, whose keys and values are in their pages already.

   qkv: [tokens][width] float32; out: [tokens][stride] bfloat16. */
static void attend_strips(const Heads *heads, const Step *step, const Pages *pages, int64_t segment,
                          int64_t head, int64_t from, int64_t until, const float *qkv, int64_t width,
                          uint16_t *out, int64_t stride) {
    const int64_t dim = heads->dim, depth = (dim + 31) / 32 * 32, start = step->start[segment];
    Desk desk;
    Strip strips[MOST_STRIPS];
    for (; from < until; from += STRIP_CHANNELS / depth) {
        int count = 0;
        for (; count < STRIP_CHANNELS / depth && from + count < until; count++) {
            strips[count] = strip_of(heads, step, segment, head, from + count);
            turn_queries(desk.queries + count * depth * STRIP, heads, step, start, strips + count, qkv,
                         width, depth);
            for (int i = 0; i < STRIP; i++)
                desk.most[count][i] = NOTHING_YET, desk.total[count][i] = 0;
        }
        memset(desk.sums, 0, count * depth * STRIP * sizeof(float));
        const int64_t first = strips[0].first, stop = strips[count - 1].stop;
        for (int64_t key = first / KEYS * KEYS; key < stop; key += KEYS) {
            gather_chunk(&desk, pages, step, segment, head, key, key < first ? first : key,
                         key + KEYS < stop ? key + KEYS : stop, dim, depth);
            for (int n = 0; n < count; n++)
                if (key < strips[n].stop && key + KEYS > strips[n].first)
                    chunk_strip(&desk, strips + n, n, key, step, segment, depth);
        }
        for (int n = 0; n < count; n++)
            write_strip(desk.sums + n * depth * STRIP, desk.total[n], strips[n].tokens, dim,
                        out + (start + strips[n].token) * stride + strips[n].head * dim, stride);
    }
}

#endif
#endif
