/* One chunk of 64 keys and one strip, 32 queries of one head, by AMX tiles: bfloat16 queries, keys,
   values and weights, float32 scores and sums.

   All is turned: scores are [keys][queries] and sums [channels][queries], so that a vector holds
   sixteen queries, and highest scores, totals and what a mask hides need no work across lanes.

       scores = keys queries^T       keys as they lie, queries turned once
       sums  += values^T weights     values turned, weights in pairs of keys as they come */

#ifndef DECODER_TILES_H
#define DECODER_TILES_H

#include "decoder_attention.h"
#include "decoder_product.h"

enum {
    STRIP = 32,
    STRIP_CHANNELS = 512, /* of strips that share what was gathered: their sums stay in L2 */
    MOST_STRIPS = STRIP_CHANNELS / 32,
    WHOLE = TILE * 32, /* numbers of a tile of bfloat16 */
};

#ifdef __AMX_BF16__

/* Octaves by which scores may rise before sums are made smaller: weights have a float's range. */
#define SLACK 6.0f
#define LOG2E 1.44269504f
#define NOTHING_YET -1e30f /* not infinite: the difference of two infinities is no number */

/* Of a thread. `depth` is the heads' dim up to a multiple of 32; what is beyond dim is zeros. */
typedef struct {
    uint16_t keys[KEYS * MOST_DIM];   /* [key][depth] */
    uint16_t values[KEYS * MOST_DIM]; /* [channels / 16][keys / 32] tiles, turned */
    float scores[KEYS][STRIP];
    uint16_t weights[KEYS / 32][2][WHOLE];     /* a tile for each half of a strip */
    uint16_t queries[STRIP_CHANNELS * STRIP];  /* [strip][half][depth / 32] tiles, turned */
    float sums[STRIP_CHANNELS * STRIP];        /* [strip][depth][32] */
    float most[MOST_STRIPS][STRIP], total[MOST_STRIPS][STRIP];
} Desk __attribute__((aligned(64)));

/* 16 rows of 16 dwords, turned: by pairs of rows, of pairs, of fours and of eights. */
ALWAYS void turn(__m512i r[16]) {
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; j++) {
            r[i + 2 * j] = _mm512_unpacklo_epi64(t[i + j], t[i + j + 2]);
            r[i + 2 * j + 1] = _mm512_unpackhi_epi64(t[i + j], t[i + j + 2]);
        }
    for (int i = 0; i < 16; i += 8)
        for (int j = 0; j < 4; j++) {
            t[i + j] = _mm512_shuffle_i32x4(r[i + j], r[i + j + 4], 0x88);
            t[i + j + 4] = _mm512_shuffle_i32x4(r[i + j], r[i + j + 4], 0xdd);
        }
    for (int j = 0; j < 8; j++) {
        r[j] = _mm512_shuffle_i32x4(t[j], t[j + 8], 0x88);
        r[j + 8] = _mm512_shuffle_i32x4(t[j], t[j + 8], 0xdd);
    }
}

/* 2^x for x <= 0, to 3e-6 of itself: what is behind the point by a polynomial. */
ALWAYS __m512 exp2_16(__m512 x) {
    const __m512 part = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    __m512 sum = _mm512_set1_ps(0.0134268051f);
    sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(0.0522422802f));
    sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(0.241280296f));
    sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(0.693044833f));
    sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(sum, x);
}

/* -- what goes into tiles ---------------------------------------------------------------------- */

static const uint16_t NO_ROW[MOST_DIM] __attribute__((aligned(64)));

/* Keys [first, stop) of a chunk that begins at `key`, and zeros around them. */
static void gather_chunk(Desk *desk, const Pages *pages, const Step *step, int64_t segment,
                         int64_t head, int64_t key, int64_t first, int64_t stop, int64_t dim,
                         int64_t depth) {
    const uint16_t *keys[KEYS], *values[KEYS];
    for (int k = 0; k < KEYS; k++) keys[k] = values[k] = NO_ROW;
    for (int64_t k = first; k < stop;) {
        const int64_t at = place(pages, step, segment, head, k);
        int64_t some = pages->size - k % pages->size;
        if (some > stop - k) some = stop - k;
        for (int64_t i = 0; i < some; i++) {
            keys[k - key + i] = (const uint16_t *)pages->keys + (at + i) * dim;
            values[k - key + i] = (const uint16_t *)pages->values + (at + i) * dim;
        }
        k += some;
    }
    for (int64_t d = 0; d < depth; d += 32) {
        const __mmask32 there = dim - d >= 32 ? 0xffffffffu : 0xffffu;
        for (int k = 0; k < KEYS; k++)
            _mm512_storeu_si512(desk->keys + k * depth + d,
                                _mm512_maskz_loadu_epi16(there, keys[k] + d));
        for (int half = 0; half < KEYS / 32; half++) {
            __m512i low[16], high[16]; /* channels 0-3, 8-11, 16-19, 24-27, and those between */
            for (int i = 0; i < 16; i++) {
                const int k = 32 * half + 2 * i;
                const __m512i even = _mm512_maskz_loadu_epi16(there, values[k] + d);
                const __m512i odd = _mm512_maskz_loadu_epi16(there, values[k + 1] + d);
                low[i] = _mm512_unpacklo_epi16(even, odd);
                high[i] = _mm512_unpackhi_epi16(even, odd);
            }
            turn(low);
            turn(high);
            uint16_t *to = desk->values + (d / 16 * (KEYS / 32) + half) * WHOLE;
            for (int i = 0; i < 16; i++) {
                uint16_t *row = to + i / 8 * (KEYS / 32 * WHOLE) + (i / 4 % 2 * 8 + i % 4) * 32;
                _mm512_storeu_si512(row, low[i]);
                _mm512_storeu_si512(row + 4 * 32, high[i]);
            }
        }
    }
}

/* -- one chunk of keys and one strip ----------------------------------------------------------- */

static void score_strip(Desk *desk, const uint16_t *queries, int halves, int64_t depth) {
    FENCE;
    for (int k = 0; k < KEYS; k += 2 * TILE) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
        for (int64_t d = 0; d < depth; d += 32) {
            const uint16_t *own = queries + d / 32 * WHOLE;
            _tile_loadd(4, desk->keys + k * depth + d, 2 * depth);
            _tile_loadd(6, own, 64);
            _tile_dpbf16ps(0, 4, 6);
            _tile_loadd(5, desk->keys + (k + TILE) * depth + d, 2 * depth);
            _tile_dpbf16ps(1, 5, 6);
            if (halves == 1) continue;
            _tile_loadd(7, own + depth / 32 * WHOLE, 64);
            _tile_dpbf16ps(2, 4, 7);
            _tile_dpbf16ps(3, 5, 7);
        }
        _tile_stored(0, desk->scores[k], 4 * STRIP);
        _tile_stored(1, desk->scores[k + TILE], 4 * STRIP);
        if (halves == 1) continue;
        _tile_stored(2, desk->scores[k] + TILE, 4 * STRIP);
        _tile_stored(3, desk->scores[k + TILE] + TILE, 4 * STRIP);
    }
    FENCE;
}

/* What sixteen queries that stand at `at` see of the keys from `key` on; the rest is no score. */
static void hide(float (*scores)[STRIP], __m512i at, int64_t key, int64_t window) {
    const int before = window && window < INT32_MAX ? (int)window - 1 : INT32_MAX;
    const __m512i from = _mm512_sub_epi32(at, _mm512_set1_epi32(before));
    for (int k = 0; k < KEYS; k++) {
        const __m512i own = _mm512_set1_epi32((int)key + k);
        __mmask16 hidden = _mm512_cmpgt_epi32_mask(own, at);
        hidden |= _mm512_cmplt_epi32_mask(own, from);
        _mm512_mask_storeu_ps(scores[k], hidden, _mm512_set1_ps(-INFINITY));
    }
}

/* Scores of sixteen queries to weights, and what is left of what was summed before. */
static void weigh(float (*scores)[STRIP], uint16_t *weights, float *most, float *total, float *sums,
                  int64_t depth) {
    __m512 high[4];
    for (int i = 0; i < 4; i++) high[i] = _mm512_load_ps(scores[i]);
    for (int k = 4; k < KEYS; k += 4)
        for (int i = 0; i < 4; i++) high[i] = _mm512_max_ps(high[i], _mm512_load_ps(scores[k + i]));
    high[0] = _mm512_max_ps(_mm512_max_ps(high[0], high[1]), _mm512_max_ps(high[2], high[3]));
    __m512 peak = _mm512_load_ps(most), all = _mm512_load_ps(total);
    const __mmask16 rises = _mm512_cmp_ps_mask(
        high[0], _mm512_add_ps(peak, _mm512_set1_ps(SLACK)), _CMP_GT_OQ);
    if (rises) {
        const __m512 now = _mm512_mask_mov_ps(peak, rises, high[0]);
        const __m512 left = exp2_16(_mm512_sub_ps(peak, now));
        for (int64_t d = 0; d < depth; d++)
            _mm512_store_ps(sums + d * STRIP, _mm512_mul_ps(_mm512_load_ps(sums + d * STRIP), left));
        all = _mm512_mul_ps(all, left);
        peak = now;
        _mm512_store_ps(most, peak);
    }
    const __m512i pairs = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,
                                           23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    for (int k = 0; k < KEYS; k += 2) {
        const __m512 even = exp2_16(_mm512_sub_ps(_mm512_load_ps(scores[k]), peak));
        const __m512 odd = exp2_16(_mm512_sub_ps(_mm512_load_ps(scores[k + 1]), peak));
        all = _mm512_add_ps(all, _mm512_add_ps(even, odd));
        const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(odd, even);
        _mm512_store_si512(weights + k / 32 * (2 * WHOLE) + k % 32 * 16,
                           _mm512_permutexvar_epi16(pairs, both));
    }
    _mm512_store_ps(total, all);
}

static void mix_strip(const Desk *desk, float *sums, int halves, int64_t depth) {
    FENCE;
    for (int64_t d = 0; d < depth; d += 2 * TILE) {
        float *to = sums + d * STRIP, *below = to + TILE * STRIP;
        _tile_loadd(0, to, 4 * STRIP);
        _tile_loadd(1, below, 4 * STRIP);
        if (halves == 2) {
            _tile_loadd(2, to + TILE, 4 * STRIP);
            _tile_loadd(3, below + TILE, 4 * STRIP);
        }
        for (int k = 0; k < KEYS / 32; k++) {
            const uint16_t *values = desk->values + (d / 16 * (KEYS / 32) + k) * WHOLE;
            _tile_loadd(4, values, 64);
            _tile_loadd(6, desk->weights[k][0], 64);
            _tile_dpbf16ps(0, 4, 6);
            _tile_loadd(5, values + KEYS / 32 * WHOLE, 64);
            _tile_dpbf16ps(1, 5, 6);
            if (halves == 1) continue;
            _tile_loadd(7, desk->weights[k][1], 64);
            _tile_dpbf16ps(2, 4, 7);
            _tile_dpbf16ps(3, 5, 7);
        }
        _tile_stored(0, to, 4 * STRIP);
        _tile_stored(1, below, 4 * STRIP);
        if (halves == 1) continue;
        _tile_stored(2, to + TILE, 4 * STRIP);
        _tile_stored(3, below + TILE, 4 * STRIP);
    }
    FENCE;
}

#endif
#endif
