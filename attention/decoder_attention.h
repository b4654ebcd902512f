/* Attention of short segments over pages, from their block tables, with no copy of a page.

   Pages are [heads, blocks, size, dim] (mindsd/kvcache/pages.py), in the model's dtype or as int8
   with a scale for each token of each head. Queries, scores and sums are float32. The softmax is
   the running one (Milakov and Gimelshein, arXiv:1805.02867), so no row of scores is kept whole. */

#ifndef DECODER_ATTENTION_H
#define DECODER_ATTENTION_H

#include <math.h>

#include "decoder_vector.h"

enum { MOST_DIM = 256, MOST_GROUP = 16, KEYS = 64, FIRST = 8 };

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
    __m512 squares = _mm512_setzero_ps();
    for (int64_t i = 0; i < dim; i += LANES) {
        __m512 own = _mm512_loadu_ps(x + i);
        squares = _mm512_fmadd_ps(own, own, squares);
    }
    const float mean = _mm512_reduce_add_ps(squares) / (float)dim;
    const __m512 factor = _mm512_set1_ps(1.0f / sqrtf(mean + epsilon));
    for (int64_t i = 0; i < dim; i += LANES) {
        __m512 own = _mm512_mul_ps(_mm512_loadu_ps(x + i), factor);
        _mm512_storeu_ps(x + i, _mm512_mul_ps(own, _mm512_loadu_ps(weight + i)));
    }
}

static void rotate_head(float *x, const float *cosine, const float *sine, int64_t dim) {
    const int64_t half = dim / 2;
    for (int64_t i = 0; i < half; i += LANES) {
        const __mmask16 own = first_lanes(half - i);
        const __m512 first = _mm512_maskz_loadu_ps(own, x + i);
        const __m512 second = _mm512_maskz_loadu_ps(own, x + i + half);
        const __m512 left = _mm512_mul_ps(second, _mm512_maskz_loadu_ps(own, sine + i));
        const __m512 right = _mm512_mul_ps(first, _mm512_maskz_loadu_ps(own, sine + i + half));
        const __m512 near = _mm512_maskz_loadu_ps(own, cosine + i);
        const __m512 far = _mm512_maskz_loadu_ps(own, cosine + i + half);
        _mm512_mask_storeu_ps(x + i, own, _mm512_fmsub_ps(first, near, left));
        _mm512_mask_storeu_ps(x + i + half, own, _mm512_fmadd_ps(second, far, right));
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
        _mm512_storeu_ps(to + i, _mm512_mul_ps(_mm512_loadu_ps(to + i), _mm512_set1_ps(factor)));
}

/* As `Pages.write`: symmetric, by the token's largest number. */
static void write_int8(int8_t *to, float *scale, const float *x, int64_t dim) {
    __m512 most = _mm512_setzero_ps();
    for (int64_t i = 0; i < dim; i += LANES)
        most = _mm512_max_ps(most, _mm512_abs_ps(_mm512_loadu_ps(x + i)));
    const float own = fmaxf(_mm512_reduce_max_ps(most), 1e-12f) / 127.0f;
    *scale = own;
    for (int64_t i = 0; i < dim; i += LANES) {
        __m512 level = _mm512_div_ps(_mm512_loadu_ps(x + i), _mm512_set1_ps(own));
        __m128i bytes = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(level));
        _mm_storeu_si128((__m128i *)(to + i), bytes);
    }
}

static void write_token(void *data, float *scales, const Pages *pages, int64_t at, const float *x,
                        int64_t dim) {
    if (pages->kind == INT8) {
        write_int8((int8_t *)data + at * dim, scales + at, x, dim);
        return;
    }
    for (int64_t i = 0; i < dim; i += LANES)
        store_some(data, at * dim + i, (int)pages->kind, _mm512_loadu_ps(x + i), LANES);
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

/* Sums of sixteen vectors, in their order. */
static inline __m512 sum_each(const __m512 v[LANES]) {
    __m512 pairs[8], fours[4], halves[2];
    for (int i = 0; i < 8; i++)
        pairs[i] = _mm512_add_ps(_mm512_unpacklo_ps(v[2 * i], v[2 * i + 1]),
                                 _mm512_unpackhi_ps(v[2 * i], v[2 * i + 1]));
    for (int i = 0; i < 4; i++) {
        const __m512d one = _mm512_castps_pd(pairs[2 * i]);
        const __m512d two = _mm512_castps_pd(pairs[2 * i + 1]);
        fours[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(one, two)),
                                 _mm512_castpd_ps(_mm512_unpackhi_pd(one, two)));
    }
    for (int i = 0; i < 2; i++)
        halves[i] = _mm512_add_ps(_mm512_shuffle_f32x4(fours[2 * i], fours[2 * i + 1], 0x88),
                                  _mm512_shuffle_f32x4(fours[2 * i], fours[2 * i + 1], 0xdd));
    return _mm512_add_ps(_mm512_shuffle_f32x4(halves[0], halves[1], 0x88),
                         _mm512_shuffle_f32x4(halves[0], halves[1], 0xdd));
}

/* Scores of 16 / `together` keys with so many queries (1, 2 or 4), 16 sums at once. What lies
   behind `count` keys or `group` queries is not looked at. */
ALWAYS void score_some(float (*scores)[KEYS], const Queries *query, const Pages *pages, int kind,
                       int64_t at, int k, int count, int g, int group, int64_t dim, int together) {
    const int keys = LANES / together;
    __m512 sums[LANES];
    for (int i = 0; i < LANES; i++) sums[i] = _mm512_setzero_ps();
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
            const __m512 own = load16(pages->keys, key * dim + d, kind);
            for (int j = 0; j < together; j++)
                sums[j * keys + i] = _mm512_fmadd_ps(own, _mm512_load_ps(query->wide[g + j] + d),
                                                     sums[j * keys + i]);
        }
    float found[LANES] __attribute__((aligned(64)));
    _mm512_store_ps(found, sum_each(sums));
    for (int j = 0; j < together && g + j < group; j++)
        memcpy(scores[g + j] + k, found + j * keys, keys * sizeof(float));
}

/* scores[g][k] = query g times key k, for `count` keys that lie behind each other. What lies at
   `soon` (none where it is negative) is read next. */
ALWAYS void score(float (*scores)[KEYS], const Queries *query, const Pages *pages, int kind,
                  int64_t at, int64_t soon, int count, int group, int64_t dim) {
    const int keys = group == 1 ? 16 : group == 2 ? 8 : 4;
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
        const __m512 scale = _mm512_maskz_loadu_ps(first_lanes(count - k), pages->key_scales + at + k);
        for (int g = 0; g < group; g++)
            _mm512_store_ps(scores[g] + k, _mm512_mul_ps(_mm512_load_ps(scores[g] + k), scale));
    }
}

/* sums[g] += weights[g][k] * value k, for four queries and as many vectors of a value at a time. */
ALWAYS void gather_some(float (*sums)[MOST_DIM], float (*weights)[KEYS], const Pages *pages, int kind,
                        int64_t at, int count, int g, int64_t d, int64_t dim, int vectors) {
    __m512 own[4][4];
    for (int j = 0; j < 4; j++)
        for (int i = 0; i < vectors; i++) own[j][i] = _mm512_loadu_ps(sums[g + j] + d + LANES * i);
    for (int k = 0; k < count; k++)
        for (int i = 0; i < vectors; i++) {
            const __m512 value = load16(pages->values, (at + k) * dim + d + LANES * i, kind);
            for (int j = 0; j < 4; j++)
                own[j][i] = _mm512_fmadd_ps(value, _mm512_set1_ps(weights[g + j][k]), own[j][i]);
        }
    for (int j = 0; j < 4; j++)
        for (int i = 0; i < vectors; i++) _mm512_storeu_ps(sums[g + j] + d + LANES * i, own[j][i]);
}

ALWAYS void gather(float (*sums)[MOST_DIM], float (*weights)[KEYS], const Pages *pages, int kind,
                   int64_t at, int count, int group, int64_t dim) {
    for (int g = 0; g < group; g += 4) {
        int64_t d = 0;
        for (; d + 4 * LANES <= dim; d += 4 * LANES)
            gather_some(sums, weights, pages, kind, at, count, g, d, dim, 4);
        for (; d < dim; d += LANES)
            gather_some(sums, weights, pages, kind, at, count, g, d, dim, 1);
    }
}

/* One chunk of keys into the running softmax of each query of a group. */
ALWAYS void chunk(
    const Queries *query, float (*sums)[MOST_DIM], float *most, float *total,
    const Pages *pages, int kind, int64_t at, int64_t soon, int count, int group, int64_t dim) {
    float scores[MOST_GROUP][KEYS] __attribute__((aligned(64)));
    score(scores, query, pages, kind, at, soon, count, group, dim);
    for (int g = 0; g < group; g++) {
        for (int k = count; k % LANES; k++) scores[g][k] = -INFINITY; /* no key */
        __m512 highest = _mm512_set1_ps(most[g]), added = _mm512_setzero_ps();
        for (int k = 0; k < count; k += LANES)
            highest = _mm512_max_ps(highest, _mm512_load_ps(scores[g] + k));
        const float high = _mm512_reduce_max_ps(highest);
        for (int k = 0; k < count; k += LANES) {
            __m512 own = exp16(_mm512_sub_ps(_mm512_load_ps(scores[g] + k), _mm512_set1_ps(high)));
            own = _mm512_maskz_mov_ps(first_lanes(count - k), own);
            added = _mm512_add_ps(added, own);
            if (kind == INT8) {
                const __mmask16 lanes = first_lanes(count - k);
                __m512 scale = _mm512_maskz_loadu_ps(lanes, pages->value_scales + at + k);
                own = _mm512_mul_ps(own, scale);
            }
            _mm512_store_ps(scores[g] + k, own);
        }
        if (high > most[g]) {
            const __m512 shrink = exp16(_mm512_set1_ps(most[g] - high));
            total[g] *= _mm512_cvtss_f32(shrink);
            for (int64_t i = 0; i < dim; i += LANES)
                _mm512_storeu_ps(sums[g] + i, _mm512_mul_ps(_mm512_loadu_ps(sums[g] + i), shrink));
            most[g] = high;
        }
        total[g] += _mm512_reduce_add_ps(added);
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
    const int count = until - from;
    Queries query;
    float sums[MOST_GROUP][MOST_DIM] __attribute__((aligned(64)));
    for (int64_t t = 0; t < step->length[segment]; t++) {
        float most[MOST_GROUP], total[MOST_GROUP];
        for (int g = 0; g < count; g++) {
            const float *asked = qkv + (start + t) * width + (head * group + from + g) * dim;
            prepare(query.wide[g], asked, heads, step, start + t, heads->query_norm,
                    heads->query_epsilon, heads->scale);
            for (int64_t i = 0; i < dim; i += LANES)
                store_some(query.narrow[g], i, BFLOAT16, _mm512_load_ps(query.wide[g] + i), LANES);
            memset(sums[g], 0, dim * sizeof(float));
            most[g] = -INFINITY, total[g] = 0;
        }
        const int64_t stop = past + t + 1;
        int64_t key = step->window && stop > step->window ? stop - step->window : 0;
        int64_t soon;
        while (key < stop) {
            const int64_t at = place(pages, step, segment, head, key);
            int64_t some = pages->size - key % pages->size;
            if (some > stop - key) some = stop - key;
            if (some > KEYS) some = KEYS;
            const int64_t next = key + some;
            soon = next < stop ? place(pages, step, segment, head, next) : -1;
            if (pages->kind == FLOAT32)
                chunk(&query, sums, most, total, pages, FLOAT32, at, soon, (int)some, count, dim);
            else if (pages->kind == BFLOAT16)
                chunk(&query, sums, most, total, pages, BFLOAT16, at, soon, (int)some, count, dim);
            else
                chunk(&query, sums, most, total, pages, INT8, at, soon, (int)some, count, dim);
            key += some;
        }
        for (int g = 0; g < count; g++) {
            const __m512 share = _mm512_set1_ps(1.0f / total[g]);
            const int64_t to = (start + t) * stride + (head * group + from + g) * dim;
            for (int64_t i = 0; i < dim; i += LANES)
                store_some(out, to + i, given, _mm512_mul_ps(_mm512_loadu_ps(sums[g] + i), share),
                           LANES);
        }
    }
}

#endif
