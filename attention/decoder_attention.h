/* Attention of short segments over pages, from their block tables, with no copy of a page.

   Pages are [heads, blocks, size, dim] (mindsd/kvcache/pages.py), in the model's dtype or as int8
   with a scale for each token of each head. Queries, scores and sums are float32. The softmax is
   the running one (Milakov and Gimelshein, arXiv:1805.02867), so no row of scores is kept whole. */

#ifndef DECODER_ATTENTION_H
#define DECODER_ATTENTION_H

#include <math.h>

#include "decoder_vector.h"

enum { MOST_DIM = 256, MOST_GROUP = 16, KEYS = 64, FIRST = 8, WIDE = LANES / 4 };

/* Whether tokens that follow each other look at a chunk of keys together. */
enum { TOGETHER = LANES == 16 ? 1 : MOST_GROUP };

typedef struct {
    void *keys, *values;
    float *key_scales, *value_scales; /* null unless int8 */
    int64_t kind;                     /* FLOAT32, BFLOAT16 or INT8 */
    int64_t blocks;                   /* of each head */
    int64_t size;                     /* tokens of a block */
} Pages;

typedef struct {
    int64_t tokens, segments;
    const int64_t *start, *length, *past; /* of each segment */
    const int64_t *table;                 /* where its blocks begin in `blocks` */
    const int64_t *blocks;                /* block numbers; those no longer seen are negative */
    int64_t window;                       /* tokens that one sees, itself included; 0 for all */
    const float *cosine, *sine;           /* [tokens][dim] */
    int64_t threads;
    void *room;
} Step;

typedef struct {
    int64_t heads, key_heads, dim;
    int64_t rotates; /* whether positions turn queries and keys */
    float scale;
    float query_epsilon, key_epsilon;
    const float *query_norm, *key_norm; /* [dim] or null */
} Heads;

/* Where a token of one head lies, in tokens. */
static inline int64_t place(const Pages *pages, const Step *step, int64_t segment, int64_t head,
                            int64_t position) {
    const int64_t block = step->blocks[step->table[segment] + position / pages->size];
    return (head * pages->blocks + block) * pages->size + position % pages->size;
}

static void normalise_head(float *x, const float *weight, float epsilon, int64_t dim) {
    vec squares = PS(setzero)();
    for (int64_t i = 0; i < dim; i += LANES) {
        vec own = PS(loadu)(x + i);
        squares = PS(fmadd)(own, own, squares);
    }
    const float mean = sum_of(squares) / (float)dim;
    const vec factor = PS(set1)(1.0f / sqrtf(mean + epsilon));
    for (int64_t i = 0; i < dim; i += LANES) {
        vec own = PS(mul)(PS(loadu)(x + i), factor);
        PS(storeu)(x + i, PS(mul)(own, PS(loadu)(weight + i)));
    }
}

static void rotate_head(float *x, const float *cosine, const float *sine, int64_t dim) {
    const int64_t half = dim / 2;
    for (int64_t i = 0; i < half; i += LANES) {
        const int64_t count = half - i;
        const vec first = load_first(x + i, count), second = load_first(x + i + half, count);
        const vec left = PS(mul)(second, load_first(sine + i, count));
        const vec right = PS(mul)(first, load_first(sine + i + half, count));
        const vec near = load_first(cosine + i, count), far = load_first(cosine + i + half, count);
        store_first(x + i, PS(fmsub)(first, near, left), count);
        store_first(x + i + half, PS(fmadd)(second, far, right), count);
    }
}

/* A head of one token as attention takes it: normalised, turned, and times `factor`. */
static void prepare(float *to, const float *from, const Heads *heads, const Step *step, int64_t token,
                    const float *norm, float epsilon, float factor) {
    const int64_t dim = heads->dim;
    memcpy(to, from, dim * sizeof(float));
    if (norm) normalise_head(to, norm, epsilon, dim);
    if (heads->rotates)
        rotate_head(to, step->cosine + token * dim, step->sine + token * dim, dim);
    for (int64_t i = 0; i < dim; i += LANES)
        PS(storeu)(to + i, PS(mul)(PS(loadu)(to + i), PS(set1)(factor)));
}

/* As `Pages.write`: symmetric, by the token's largest number. */
static void write_int8(int8_t *to, float *scale, const float *x, int64_t dim) {
    vec most = PS(setzero)();
    for (int64_t i = 0; i < dim; i += LANES)
        most = PS(max)(most, size_of(PS(loadu)(x + i)));
    const float own = fmaxf(most_of(most), 1e-12f) / 127.0f;
    *scale = own;
    for (int64_t i = 0; i < dim; i += LANES) {
        vec level = PS(div)(PS(loadu)(x + i), PS(set1)(own));
        store_int8(to + i, level);
    }
}

static void write_token(void *data, float *scales, const Pages *pages, int64_t at, const float *x,
                        int64_t dim) {
    if (pages->kind == INT8) {
        write_int8((int8_t *)data + at * dim, scales + at, x, dim);
        return;
    }
    for (int64_t i = 0; i < dim; i += LANES)
        store_some(data, at * dim + i, (int)pages->kind, PS(loadu)(x + i), LANES);
}

/* Queries of one token: float32, and bfloat16 where keys are. */
typedef struct {
    float wide[MOST_GROUP][MOST_DIM] __attribute__((aligned(64)));
    uint16_t narrow[MOST_GROUP][MOST_DIM] __attribute__((aligned(64)));
} Queries;

/* Ask for so many keys and values before they are read: a page is too short for the processor to
   see that it is read to its end. */
static inline void fetch(const Pages *pages, int64_t at, int64_t tokens, int64_t dim) {
    const int64_t bytes = dim * WIDTHS[pages->kind];
    const char *keys = (const char *)pages->keys + at * bytes;
    const char *values = (const char *)pages->values + at * bytes;
    for (int64_t line = 0; line < tokens * bytes; line += 64) {
        _mm_prefetch(keys + line, _MM_HINT_T0);
        _mm_prefetch(values + line, _MM_HINT_T0);
    }
}

/* Scores of LANES / `together` keys with so many queries (1, 2 or 4), LANES sums at once. What lies
   behind `count` keys or `group` queries is not looked at. */
ALWAYS void score_some(float (*scores)[KEYS], const Queries *query, const Pages *pages, int kind,
                       int64_t at, int k, int count, int g, int group, int64_t dim, int together) {
    const int keys = LANES / together;
    vec sums[LANES];
    for (int i = 0; i < LANES; i++) sums[i] = PS(setzero)();
    int64_t d = 0;
#ifdef __AVX512BF16__
    for (; kind == BFLOAT16 && d + 2 * LANES <= dim; d += 2 * LANES)
        for (int i = 0; i < keys; i++) {
            const int64_t key = at + (k + i < count ? k + i : count - 1);
            const __m512bh own =
                (__m512bh)_mm512_loadu_si512((const uint16_t *)pages->keys + key * dim + d);
            for (int j = 0; j < together; j++)
                sums[j * keys + i] =
                    _mm512_dpbf16_ps(sums[j * keys + i], own,
                                     (__m512bh)_mm512_load_si512(query->narrow[g + j] + d));
        }
#endif
    for (; d < dim; d += LANES)
        for (int i = 0; i < keys; i++) {
            const int64_t key = at + (k + i < count ? k + i : count - 1);
            const vec own = load_all(pages->keys, key * dim + d, kind);
            for (int j = 0; j < together; j++)
                sums[j * keys + i] = PS(fmadd)(own, PS(load)(query->wide[g + j] + d),
                                                     sums[j * keys + i]);
        }
    float found[LANES] __attribute__((aligned(64)));
    PS(store)(found, sum_each(sums));
    for (int j = 0; j < together && g + j < group; j++)
        memcpy(scores[g + j] + k, found + j * keys, keys * sizeof(float));
}

/* scores[g][k] = query g times key k, for `count` keys that lie behind each other. What lies at
   `soon` (none where it is negative) is read next. */
ALWAYS void score(float (*scores)[KEYS], const Queries *query, const Pages *pages, int kind,
                  int64_t at, int64_t soon, int count, int group, int64_t dim) {
    const int keys = LANES / (group == 1 ? 1 : group == 2 ? 2 : 4);
    for (int k = 0; k < count; k += keys) {
        if (soon >= 0) fetch(pages, soon + k, keys, dim);
        if (group == 1)
            score_some(scores, query, pages, kind, at, k, count, 0, group, dim, 1);
        else if (group == 2)
            score_some(scores, query, pages, kind, at, k, count, 0, group, dim, 2);
        else
            for (int g = 0; g < group; g += 4)
                score_some(scores, query, pages, kind, at, k, count, g, group, dim, 4);
    }
    if (kind != INT8) return;
    for (int k = 0; k < count; k += LANES) {
        const vec scale = load_first(pages->key_scales + at + k, count - k);
        for (int g = 0; g < group; g++)
            PS(store)(scores[g] + k, PS(mul)(PS(load)(scores[g] + k), scale));
    }
}

/* sums[g] += weights[g][k] * value k, for four queries and as many vectors of a value at a time. */
ALWAYS void gather_some(float (*sums)[MOST_DIM], float (*weights)[KEYS], const Pages *pages, int kind,
                        int64_t at, int count, int g, int64_t d, int64_t dim, int vectors) {
    vec own[4][WIDE];
    for (int j = 0; j < 4; j++)
        for (int i = 0; i < vectors; i++) own[j][i] = PS(loadu)(sums[g + j] + d + LANES * i);
    for (int k = 0; k < count; k++)
        for (int i = 0; i < vectors; i++) {
            const vec value = load_all(pages->values, (at + k) * dim + d + LANES * i, kind);
            for (int j = 0; j < 4; j++)
                own[j][i] = PS(fmadd)(value, PS(set1)(weights[g + j][k]), own[j][i]);
        }
    for (int j = 0; j < 4; j++)
        for (int i = 0; i < vectors; i++) PS(storeu)(sums[g + j] + d + LANES * i, own[j][i]);
}

ALWAYS void gather(float (*sums)[MOST_DIM], float (*weights)[KEYS], const Pages *pages, int kind,
                   int64_t at, int count, int group, int64_t dim) {
    for (int g = 0; g < group; g += 4) {
        int64_t d = 0;
        for (; d + WIDE * LANES <= dim; d += WIDE * LANES)
            gather_some(sums, weights, pages, kind, at, count, g, d, dim, WIDE);
        for (; d < dim; d += LANES)
            gather_some(sums, weights, pages, kind, at, count, g, d, dim, 1);
    }
}

/* One chunk of keys into the running softmax of each query of a group. The first `each` queries see
   `seen` of them, those of every next token one more. */
ALWAYS void chunk(
    const Queries *query, float (*sums)[MOST_DIM], float *most, float *total,
    const Pages *pages, int kind, int64_t at, int64_t soon, int count, int group, int64_t dim,
    int64_t seen, int each) {
    float scores[MOST_GROUP][KEYS] __attribute__((aligned(64)));
    score(scores, query, pages, kind, at, soon, count, group, dim);
    for (int g = 0; g < group; g++) {
        const int64_t own = TOGETHER == 1 ? count : seen + g / each;
        for (int64_t k = own < 0 ? 0 : own; k < count; k++) scores[g][k] = -INFINITY;
        for (int k = count; k % LANES; k++) scores[g][k] = -INFINITY; /* no key */
        vec highest = PS(set1)(most[g]), added = PS(setzero)();
        for (int k = 0; k < count; k += LANES)
            highest = PS(max)(highest, PS(load)(scores[g] + k));
        const float high = most_of(highest);
        for (int k = 0; k < count; k += LANES) {
            vec own = exp_of(PS(sub)(PS(load)(scores[g] + k), PS(set1)(high)));
            own = keep_first(own, count - k);
            added = PS(add)(added, own);
            if (kind == INT8)
                own = PS(mul)(own, load_first(pages->value_scales + at + k, count - k));
            PS(store)(scores[g] + k, own);
        }
        if (high > most[g]) {
            const vec shrink = exp_of(PS(set1)(most[g] - high));
            total[g] *= first_of(shrink);
            for (int64_t i = 0; i < dim; i += LANES)
                PS(storeu)(sums[g] + i, PS(mul)(PS(loadu)(sums[g] + i), shrink));
            most[g] = high;
        }
        total[g] += sum_of(added);
    }
    gather(sums, scores, pages, kind, at, count, group, dim);
}

/* Keys and values of a segment's tokens [from, until), of one head, into its pages. */
static void write_tokens(const Heads *heads, const Step *step, const Pages *pages, int64_t segment,
                         int64_t head, int64_t from, int64_t until, const float *qkv, int64_t width) {
    const int64_t dim = heads->dim, start = step->start[segment], past = step->past[segment];
    const float *keys = qkv + heads->heads * dim, *values = keys + heads->key_heads * dim;
    float own[MOST_DIM] __attribute__((aligned(64)));
    for (int64_t t = from; t < until; t++) {
        const int64_t row = (start + t) * width + head * dim;
        const int64_t at = place(pages, step, segment, head, past + t);
        prepare(own, keys + row, heads, step, start + t, heads->key_norm, heads->key_epsilon, 1);
        write_token(pages->keys, pages->key_scales, pages, at, own, dim);
        write_token(pages->values, pages->value_scales, pages, at, values + row, dim);
    }
}

/* Tokens from a position on, each with so many queries, that look at keys together: no more than a
   group's room holds, and one by one where a window begins at another key for each. */
static int64_t together(const Step *step, int64_t position, int64_t left, int each) {
    const int64_t most = TOGETHER / each > 1 ? TOGETHER / each : 1, some = left < most ? left : most;
    return step->window && position + some > step->window ? 1 : some;
}

/* Some heads of a group, for all rows of a segment: `from` to `until` of the queries of one key
   head. Keys and values of this step are written first; where a group is divided between threads
   both write the same.

   qkv: [tokens][width] float32; out: [tokens][stride] of kind `given`. */
static void attend(const Heads *heads, const Step *step, const Pages *pages, int64_t segment,
                   int64_t head, int from, int until, const float *qkv, int64_t width, void *out,
                   int64_t stride, int given) {
    const int64_t dim = heads->dim, group = heads->heads / heads->key_heads;
    const int64_t start = step->start[segment], past = step->past[segment];
    write_tokens(heads, step, pages, segment, head, 0, step->length[segment], qkv, width);
    const int each = until - from;
    Queries query;
    float sums[MOST_GROUP][MOST_DIM] __attribute__((aligned(64)));
    for (int64_t t = 0, more; t < step->length[segment]; t += more) {
        float most[MOST_GROUP], total[MOST_GROUP];
        more = together(step, past + t, step->length[segment] - t, each);
        const int count = (int)more * each;
        for (int n = 0, i = 0, g = 0; n < count; n++, g++) {
            if (g == each) i++, g = 0;
            const int64_t token = start + t + i;
            const float *asked = qkv + token * width + (head * group + from + g) * dim;
            prepare(query.wide[n], asked, heads, step, token, heads->query_norm,
                    heads->query_epsilon, heads->scale);
            for (int64_t d = 0; d < dim; d += LANES)
                store_some(query.narrow[n], d, BFLOAT16, PS(load)(query.wide[n] + d), LANES);
            memset(sums[n], 0, dim * sizeof(float));
            most[n] = -INFINITY, total[n] = 0;
        }
        const int64_t first = past + t + 1, stop = past + t + more; /* what the first sees, and the last */
        int64_t key = step->window && first > step->window ? first - step->window : 0;
        int64_t soon;
        while (key < stop) {
            const int64_t at = place(pages, step, segment, head, key);
            int64_t some = pages->size - key % pages->size;
            if (some > stop - key) some = stop - key;
            if (some > KEYS) some = KEYS;
            const int64_t next = key + some;
            soon = next < stop ? place(pages, step, segment, head, next) : -1;
            if (pages->kind == FLOAT32)
                chunk(&query, sums, most, total, pages, FLOAT32, at, soon, (int)some, count, dim,
                      first - key, each);
            else if (pages->kind == BFLOAT16)
                chunk(&query, sums, most, total, pages, BFLOAT16, at, soon, (int)some, count, dim,
                      first - key, each);
            else
                chunk(&query, sums, most, total, pages, INT8, at, soon, (int)some, count, dim,
                      first - key, each);
            key += some;
        }
        for (int n = 0, i = 0, g = 0; n < count; n++, g++) {
            if (g == each) i++, g = 0;
            const vec share = PS(set1)(1.0f / total[n]);
            const int64_t to = (start + t + i) * stride + (head * group + from + g) * dim;
            for (int64_t d = 0; d < dim; d += LANES)
                store_some(out, to + d, given, PS(mul)(PS(loadu)(sums[n] + d), share), LANES);
        }
    }
}

#endif
