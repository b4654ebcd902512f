/* Flash attention in bfloat16 on Intel AMX: softmax(q k^T * scale + mask) v, in one pass.
 *
 * AMX multiplies tiles: tdpbf16ps adds A B to C, where A is 16 rows of 32 bf16, B 16 pairs of rows
 * of 16 columns, C 16 x 16 floats. There are eight tiles; they are filled from memory and emptied
 * into memory, nothing else. Here four are sums, so that a tile which is read is used twice:
 *
 *                    K0        K1                       one sub-block: 32 queries
 *         Q0 |  sum 0     sum 2                         one chunk: 32 keys
 *         Q1 |  sum 1     sum 3                         K0 holds its even keys, K1 the odd ones
 *
 * Even beside odd is what a pair of rows in B wants: the weights of a query come out of softmax in
 * the order of the keys, ready to be an A of the second product. Masks and biases are read as they
 * lie.
 *
 *   pack     keys and values of a head, once, as tiles; values get a column of ones, so that the
 *            sum of a row of weights falls out of the product, of the rounded weights at that.
 *   unit     two sub-blocks against 8 chunks. Products of a chunk run while the one before is
 *            stored and the one before that is weighed:
 *
 *                products  | c0 | c1 | c2 | c3 | ..
 *                stores         | c0 | c1 | c2 | ..
 *                softmax             | c0 | c1 | ..        then: values
 *
 * There is no running maximum. |logit| <= |q| max|k| scale (Cauchy-Schwarz); where that is below
 * 2^60 in the exponent no maximum is needed at all: floats have the range ("plain"). Elsewhere a
 * row's highest logit in two chunks is taken for its maximum and its sum tells whether that went
 * well; where not, the sub-block is done again with the true one ("exact").
 *
 * A result depends on its sequence, its head and the 32 queries of its sub-block; not on what else
 * is in the call, on the threads, or on how work is cut: sums always run over the keys in order.
 *
 * What does not fit the number range here (not a number, infinite, |logit| over 4e6, |value| over
 * 1e12, a row whose biases are all lower than any logit) is told by `status`, for the caller to
 * compute otherwise. Values below 1e-20 count as 0.
 */
#include <immintrin.h>
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef uint16_t bf16;
#define INLINE static inline __attribute__((always_inline))

enum {
    SIDE = 32,              /* queries of a sub-block, keys of a chunk */
    TILE = 512,             /* bf16 in a tile */
    SUMS = 256,             /* floats in a tile */
    BLOCK = 8,              /* chunks of a unit */
    PACK = 8,               /* chunks that are packed at once */
    MOST = 16,              /* sub-blocks of a task */
    WAVE = 32 << 20,        /* bytes of packed heads alive at once */
    ITEM_ROOM = 1 << 20,    /* bytes of all heads of an item that still share L2 with all else */
    SUMS_ROOM = 192 * 1024, /* bytes of a task's sums: with its head's tiles, they stay in L2 */
};
enum { NO_MASK, BOOLEAN, BIAS_BF16, BIAS_F32 };                 /* Call.mask_kind */
enum { ANSWERED, OUT_OF_RANGE, LEFT_OUT };                      /* Call.status */
enum { NOTHING = -1, PLAIN, PLAIN_MASKED, OFFSET, BIASED };     /* what is done to scores */
enum { BOUNDED, SAMPLED, EXACT, WRITTEN };                      /* how far a sub-block is */

#define LOG2E 1.44269504088896340736f
#define UNITS 256                     /* a logit is counted in 256ths of an octave */
#define BIAS_UNITS (UNITS * LOG2E)
#define MAGIC 12582912.0f             /* 1.5 * 2^23: floats here are whole numbers */
#define ZERO_AT (127 * UNITS - 32)    /* 2^0 in fixed point, see below: softmax */
#define BOUND 60.0f                   /* octaves */
#define FAR 4e6f                      /* octaves; beyond, floats no longer tell keys apart */

typedef struct { /* steps in elements; the last dimension of every tensor is contiguous */
    const bf16 *q, *k, *v;
    bf16 *out;
    const void *mask;                    /* [items, heads, queries, keys], a step may be 0 */
    const int64_t *q_bounds, *k_bounds;  /* where packed sequences begin; null: a batch */
    uint8_t *status;                     /* [items] */
    char *room;                          /* amx_room(call) bytes, aligned to 64 */
    int64_t items, heads, kv_heads, queries, keys, dim, value_dim;
    int64_t q_step[3], k_step[3], v_step[3], out_step[3], mask_step[3]; /* item, head, token */
    int64_t mask_kind, left, right, threads;
    float scale;
} Call;

/* ------------------------------------------------------------------------------------ tiles
 * gcc's own intrinsics do not tell the compiler that they read and write memory: these do. */

#define TILE_ZERO(t) __asm__ volatile("tilezero %%tmm" #t ::)
#define TILE_LOAD(t, from, step) \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t ::"r"(from), "r"((long)(step)) : "memory")
#define TILE_STORE(t, to, step) \
    __asm__ volatile("tilestored %%tmm" #t ", (%0,%1,1)" ::"r"(to), "r"((long)(step)) : "memory")
#define TILE_DOT(c, a, b) __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c ::)

static void tiles_on(void)
{
    struct { uint8_t palette, start, pad[14]; uint16_t bytes[16]; uint8_t rows[16]; } shape
        __attribute__((aligned(64)));
    memset(&shape, 0, sizeof shape);
    shape.palette = 1;
    for (int i = 0; i < 8; i++) shape.bytes[i] = 64, shape.rows[i] = 16;
    __asm__ volatile("ldtilecfg %0" ::"m"(shape) : "memory");
}

static void tiles_off(void) { __asm__ volatile("tilerelease" ::: "memory"); }

/* ------------------------------------------------------------------------------------ packing */

INLINE __mmask32 first_of(int64_t n) { return n >= 32 ? ~0u : n > 0 ? (1u << n) - 1 : 0; }

/* 16 rows of 16 dwords, turned. */
INLINE void transpose(__m512i r[16])
{
    __m512i t[16];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
        r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

INLINE __m512 add_squares(__m512 sum, __m512i x)
{
    return _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)x);
}

/* A chunk of keys as 2 x kt tiles, the even keys first; the largest |k|^2, infinite where a number
 * is none. */
static float pack_keys(const bf16 *k, int64_t step, int64_t keys, int dim, int kt, bf16 *to)
{
    __m512 longest = _mm512_setzero_ps(), all = longest;
    for (int odd = 0; odd < 2; odd++) {
        __m512 squares = _mm512_setzero_ps();
        for (int t = 0; t < kt; t++, to += TILE) {
            const __mmask32 there = first_of(dim - t * 32);
            __m512i r[16];
#pragma GCC unroll 16
            for (int i = 0; i < 16; i++)
                r[i] = _mm512_maskz_loadu_epi16(2 * i + odd < keys ? there : 0,
                                                k + (2 * i + odd) * step + t * 32);
            transpose(r);
#pragma GCC unroll 16
            for (int i = 0; i < 16; i++) {
                squares = add_squares(squares, r[i]);
                _mm512_store_si512(to + i * 32, r[i]);
            }
        }
        longest = _mm512_max_ps(longest, squares);
        all = _mm512_add_ps(all, squares); /* a maximum may drop what is not a number */
    }
    const float sum = _mm512_reduce_add_ps(all);
    return sum - sum == 0 ? _mm512_reduce_max_ps(longest) : INFINITY;
}

/* A chunk of values as nt tiles: keys 2r and 2r + 1 beside each other, a column of ones after the
 * last channel. Gives whether all of them are in range. */
static int pack_values(const bf16 *v, int64_t step, int64_t keys, int dim, int nt, bf16 *to)
{
    __m512i largest = _mm512_setzero_si512();
    for (int r = 0; r < 16; r++) {
        const bf16 *even = v + 2 * r * step, *odd = even + step;
        const int has_even = 2 * r < keys, has_odd = 2 * r + 1 < keys;
        for (int t = 0; t < nt; t++) {
            const int left = dim - t * 16;
            const __mmask16 there = (__mmask16)first_of(left < 16 ? left : 16);
            __m512i a = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(has_even ? there : 0, even + t * 16));
            __m512i b = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(has_odd ? there : 0, odd + t * 16));
            a = _mm512_or_si512(a, _mm512_slli_epi32(b, 16));
            largest = _mm512_max_epu16(largest, _mm512_and_si512(a, _mm512_set1_epi16(0x7fff)));
            if (left >= 0 && left < 16)
                a = _mm512_mask_set1_epi32(a, (__mmask16)(1u << left),
                                           (has_even ? 0x3f80 : 0) | (has_odd ? 0x3f800000 : 0));
            _mm512_store_si512(to + t * TILE + r * 32, a);
        }
    }
    const __m512i limit = _mm512_set1_epi16((127 + 40) << 7); /* 2^40 */
    return _mm512_cmpgt_epi16_mask(largest, limit) == 0;
}

/* ------------------------------------------------------------------------------------ sight */

typedef struct { /* which keys the queries of one head of one sequence see */
    int64_t queries, keys, left, right;
    int64_t first, last;                 /* no query sees a key outside */
    const char *mask;
    int64_t row, kind;                   /* bytes from one query's mask to the next */
} Sight;

INLINE int is_biased(const Sight *s) { return s->kind == BIAS_BF16 || s->kind == BIAS_F32; }

/* Bit j of seen[r]: whether query row + r sees key + j. Gives 0 where all see all; what lies after
 * the last key is looked at on request only, for it has no values and no ones: see pack_values. */
static int look(const Sight *s, int64_t row, int64_t key, int ends, uint32_t *seen)
{
    const int64_t at = row + s->keys - s->queries;
    ends = ends && s->keys - key < SIDE;
    const int begins = s->left >= 0 && at + SIDE - 1 - s->left > key;
    const int stops = s->right >= 0 && at + s->right < key + SIDE - 1;
    if (!ends && !begins && !stops && s->kind != BOOLEAN) return 0;
    const __m512i all = _mm512_set1_epi32(-1), zero = _mm512_setzero_si512(), most = _mm512_set1_epi32(SIDE);
    const __m512i count = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __mmask16 hidden = 0;
    int64_t low = at - s->left - key, high = at + s->right + 1 - key; /* of row 0, in this chunk */
    low = low < -64 ? -64 : low > 64 ? 64 : low;
    high = high < -64 ? -64 : high > 64 ? 64 : high;
    for (int half = 0; half < 32; half += 16) {
        __m512i bits = _mm512_set1_epi32((int)first_of(s->keys - key));
        if (begins) {
            __m512i n = _mm512_add_epi32(count, _mm512_set1_epi32((int)low + half));
            n = _mm512_min_epi32(_mm512_max_epi32(n, zero), most);
            bits = _mm512_and_si512(bits, _mm512_sllv_epi32(all, n));
        }
        if (stops) {
            __m512i n = _mm512_add_epi32(count, _mm512_set1_epi32((int)high + half));
            n = _mm512_min_epi32(_mm512_max_epi32(n, zero), most);
            bits = _mm512_andnot_si512(_mm512_sllv_epi32(all, n), bits);
        }
        if (s->kind == BOOLEAN) {
            uint32_t shown[16] __attribute__((aligned(64)));
            for (int r = 0; r < 16; r++) {
                const int64_t own = row + half + r < s->queries ? row + half + r : s->queries - 1;
                const __m256i b = _mm256_maskz_loadu_epi8(first_of(s->keys - key), s->mask + own * s->row + key);
                shown[r] = _mm256_test_epi8_mask(b, b);
            }
            bits = _mm512_and_si512(bits, _mm512_load_si512(shown));
        }
        hidden |= _mm512_cmpneq_epi32_mask(bits, all);
        _mm512_store_si512(seen + half, bits);
    }
    return hidden != 0;
}

/* Chunks that any of these queries may see: [from, to). */
static void reach(const Sight *s, int64_t row, int64_t rows, int64_t *from, int64_t *to)
{
    const int64_t at = row + s->keys - s->queries;
    int64_t first = s->first, last = s->last;
    if (s->left >= 0 && at - s->left > first) first = at - s->left;
    if (s->right >= 0 && at + rows + s->right < last) last = at + rows + s->right;
    *from = first / SIDE;
    *to = last > first ? (last + SIDE - 1) / SIDE : *from;
}

/* Chunks that each of these queries sees whole, but for what lies after the last key: [from, to). */
static void whole(const Sight *s, int64_t row, int64_t *from, int64_t *to)
{
    const int64_t at = row + s->keys - s->queries;
    int64_t first = 0, last = s->kind == BOOLEAN ? 0 : s->keys + SIDE - 1;
    if (s->left >= 0 && at + SIDE - 1 - s->left > 0) first = at + SIDE - 1 - s->left;
    if (s->right >= 0 && at + s->right + 1 < last) last = at + s->right + 1;
    *from = (first + SIDE - 1) / SIDE;
    *to = last / SIDE;
}

/* The keys between the first and the last that a mask shows to all queries alike. */
static void trim(Sight *s)
{
    while (s->first < s->last && !s->mask[s->first]) s->first++;
    while (s->last > s->first && !s->mask[s->last - 1]) s->last--;
}

/* ------------------------------------------------------------------------------------ softmax
 * 2^x as a bf16, in whole numbers: x in 256ths plus 127 octaves is, read as bits, 2^x with the
 * mantissa on a straight line between powers of two:
 *
 *      15        8 7         0
 *      | exponent | fraction  |      t = round(256 x) + 127 * 256 - 32, half of it is a bf16
 *
 * The table holds how far 2^f lies below the line 1 + f, plus 32, by the upper six bits of f:
 * round(32 - 1/2 + mean over its four f of 256 (2^f - 1 - f)). vpavgw adds it and rounds to 16
 * bits: half the sum.  */

static const uint8_t BELOW_LINE[64] __attribute__((aligned(64))) = {
    22, 21, 20, 20, 19, 18, 17, 16, 16, 15, 14, 14, 13, 13, 12, 12,
    11, 11, 11, 10, 10, 10, 10, 10, 10, 9, 9, 10, 10, 10, 10, 10,
    10, 11, 11, 12, 12, 12, 13, 14, 14, 15, 16, 17, 17, 18, 19, 20,
    21, 23, 24, 25, 26, 28, 29, 31, 31, 30, 29, 28, 26, 25, 24, 23,
};

typedef struct { /* one chunk of one sub-block on its way from scores to weights */
    const float *scores;     /* [32][32]: of even keys, then of odd ones */
    const float *offset;     /* [32] minus a row's maximum, in units */
    const uint32_t *seen;    /* [32] */
    const char *bias;
    int64_t bias_row, bias_kind;
    int bias_last;           /* the last row that has one */
    __mmask32 there;         /* keys that exist */
    bf16 *weights;           /* two tiles, BLOCK tiles apart */
    __m512 scale;
    __m512i below;
} Softmax;

/* What is added to the scores of even and of odd keys. */
INLINE void bias_of(const Softmax *w, int r, __m512 *even, __m512 *odd)
{
    const char *at = w->bias + (r < w->bias_last ? r : w->bias_last) * w->bias_row;
    if (w->bias_kind == BIAS_BF16) {
        const __m512i both = _mm512_maskz_loadu_epi16(w->there, at);
        *even = (__m512)_mm512_slli_epi32(both, 16);
        *odd = (__m512)_mm512_and_si512(both, _mm512_set1_epi32((int)0xffff0000));
    } else {
        const __m512i evens = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        const __m512 low = _mm512_maskz_loadu_ps((__mmask16)w->there, at);
        const __m512 high = _mm512_maskz_loadu_ps((__mmask16)(w->there >> 16), at + 64);
        *even = _mm512_permutex2var_ps(low, evens, high);
        *odd = _mm512_permutex2var_ps(low, _mm512_add_epi32(evens, _mm512_set1_epi32(1)), high);
    }
}

/* Rows [from, to) of a chunk. */
INLINE void weigh(const int kind, const Softmax *w, const int from, const int to)
{
    const __m512i pairs = _mm512_set_epi8(
        61, 60, 0, 0, 57, 56, 0, 0, 53, 52, 0, 0, 49, 48, 0, 0, 45, 44, 0, 0, 41, 40, 0, 0, 37, 36, 0, 0, 33, 32, 0, 0,
        29, 28, 0, 0, 25, 24, 0, 0, 21, 20, 0, 0, 17, 16, 0, 0, 13, 12, 0, 0, 9, 8, 0, 0, 5, 4, 0, 0, 1, 0, 0, 0);
    const __m512 magic = _mm512_set1_ps(MAGIC + ZERO_AT);
    const __m512 least = _mm512_set1_ps(MAGIC), most = _mm512_set1_ps(MAGIC + 0xff80);
#pragma GCC unroll 32
    for (int r = from; r < to; r++) {
        const float *s = w->scores + r * 32;
        const __m512 shift = kind == OFFSET || kind == BIASED ? _mm512_set1_ps(w->offset[r]) : magic;
        __m512 even = _mm512_fmadd_ps(_mm512_load_ps(s), w->scale, shift);
        __m512 odd = _mm512_fmadd_ps(_mm512_load_ps(s + 16), w->scale, shift);
        if (kind == BIASED) {
            const __m512 units = _mm512_set1_ps(BIAS_UNITS);
            __m512 a, b;
            bias_of(w, r, &a, &b);
            even = _mm512_add_ps(_mm512_fmadd_ps(a, units, even), magic);
            odd = _mm512_add_ps(_mm512_fmadd_ps(b, units, odd), magic);
        }
        if (kind == OFFSET || kind == BIASED) {
            /* too little weighs nothing; too much, and what is no number, makes the sum no number:
             * of two operands these give the second where one is none */
            even = _mm512_min_ps(_mm512_max_ps(least, even), most);
            odd = _mm512_min_ps(_mm512_max_ps(least, odd), most);
        }
        /* the low 16 bits of both, beside each other */
        const __m512i t = _mm512_mask_shuffle_epi8((__m512i)even, 0xccccccccccccccccull, (__m512i)odd, pairs);
        const __m512i line = _mm512_maskz_permutexvar_epi8(0x5555555555555555ull, _mm512_srli_epi16(t, 2), w->below);
        const __m512i p = kind == PLAIN ? _mm512_avg_epu16(t, line) : _mm512_maskz_avg_epu16(w->seen[r], t, line);
        _mm512_store_si512(w->weights + (r & 15) * 32 + (r >> 4) * (BLOCK * TILE), p);
    }
}

static void weigh_alone(int kind, const Softmax *w)
{
    const Softmax own = *w;
    switch (kind) {
    case PLAIN: weigh(PLAIN, &own, 0, SIDE); break;
    case PLAIN_MASKED: weigh(PLAIN_MASKED, &own, 0, SIDE); break;
    case OFFSET: weigh(OFFSET, &own, 0, SIDE); break;
    case BIASED: weigh(BIASED, &own, 0, SIDE); break;
    }
}

/* ------------------------------------------------------------------------------------ products */

typedef struct { /* a task: some sub-blocks of queries of one head */
    Sight sight;
    const bf16 *keys, *values; /* the head's tiles */
    int kt, nt;
    bf16 *q;                   /* [sub-blocks][2][kt] tiles */
    float *sums;               /* [sub-blocks][2][nt] tiles */
    float *offset;             /* [sub-blocks][32] */
    float *scores;             /* [2][32][32] */
    bf16 *weights;             /* [2 sub-blocks][2][BLOCK] tiles */
    uint32_t *seen;            /* [32] */
    float scale;               /* from scores to units */
} Task;

INLINE void store_scores(float *to)
{
    TILE_STORE(0, to, 128);
    TILE_STORE(1, to + 16 * 32, 128);
    TILE_STORE(2, to + 16, 128);
    TILE_STORE(3, to + 16 * 32 + 16, 128);
}

/* Scores of a chunk, into the four sums. A store that waits for its product would stop the tile
 * unit: the sums of the chunk before are stored one by one, each before it is begun anew; an older
 * chunk is weighed between the products. */
INLINE void score(const int KT, const int kind, const bf16 *q, const bf16 *k, float *before, const Softmax *own)
{
    Softmax w;
    if (kind != NOTHING) w = *own;
#define BEGIN(t, offset)                               \
    do {                                               \
        if (i == 0) {                                  \
            if (before) TILE_STORE(t, before + (offset), 128); \
            TILE_ZERO(t);                              \
        }                                              \
    } while (0)
#define MEANWHILE(n) \
    if (kind != NOTHING) weigh(kind, &w, 32 * (4 * i + (n)) / (4 * KT), 32 * (4 * i + (n) + 1) / (4 * KT))
#pragma GCC unroll 16
    for (int i = 0; i < KT; i++) {
        TILE_LOAD(6, k + i * TILE, 64);
        TILE_LOAD(4, q + i * TILE, 64);
        BEGIN(0, 0);
        TILE_DOT(0, 4, 6);
        MEANWHILE(0);
        TILE_LOAD(5, q + (KT + i) * TILE, 64);
        BEGIN(1, 16 * 32);
        TILE_DOT(1, 5, 6);
        MEANWHILE(1);
        TILE_LOAD(7, k + (KT + i) * TILE, 64);
        BEGIN(2, 16);
        TILE_DOT(2, 4, 7);
        MEANWHILE(2);
        BEGIN(3, 16 * 32 + 16);
        TILE_DOT(3, 5, 7);
        MEANWHILE(3);
    }
#undef BEGIN
#undef MEANWHILE
}

/* sums += weights * values, of one or two sub-blocks: 4 x 1 sums, so that values, which come from
 * L2, are read once and weights, four times as many, lie in L1. As above, sums are stored late. */
static void mix(const Task *t, float *sums, int64_t chunk, int chunks, int pair, int first)
{
    const int nt = t->nt;
    float *before[4] = {0};
#define BEGIN(n)                                         \
    do {                                                 \
        if (j == 0) {                                    \
            if (before[n]) TILE_STORE(n, before[n], 64); \
            before[n] = sums + ((n)*nt + column) * SUMS; \
            if (first) TILE_ZERO(n);                     \
            else TILE_LOAD(n, before[n], 64);            \
        }                                                \
    } while (0)
    for (int column = 0; column < nt; column++) {
        const bf16 *p = t->weights, *v = t->values + (chunk * nt + column) * TILE;
        for (int j = 0; j < chunks; j++, p += TILE, v += nt * TILE) {
            TILE_LOAD(6, v, 64);
            TILE_LOAD(4, p, 64);
            BEGIN(0);
            TILE_DOT(0, 4, 6);
            TILE_LOAD(5, p + BLOCK * TILE, 64);
            BEGIN(1);
            TILE_DOT(1, 5, 6);
            if (!pair) continue;
            TILE_LOAD(7, p + 2 * BLOCK * TILE, 64);
            BEGIN(2);
            TILE_DOT(2, 7, 6);
            TILE_LOAD(4, p + 3 * BLOCK * TILE, 64);
            BEGIN(3);
            TILE_DOT(3, 4, 6);
        }
    }
#undef BEGIN
    if (before[0]) TILE_STORE(0, before[0], 64);
    if (before[1]) TILE_STORE(1, before[1], 64);
    if (before[2]) TILE_STORE(2, before[2], 64);
    if (before[3]) TILE_STORE(3, before[3], 64);
}

/* How a chunk of a sub-block is weighed, and all that it takes. */
static int softmax_of(const Task *t, int sub, int64_t row, int64_t chunk, int bounded, Softmax *w)
{
    const Sight *s = &t->sight;
    const int64_t key = chunk * SIDE;
    w->seen = t->seen;
    w->offset = t->offset + sub * SIDE;
    if (is_biased(s)) {
        const int size = s->kind == BIAS_F32 ? 4 : 2;
        w->bias = s->mask + row * s->row + key * size;
        w->bias_row = s->row, w->bias_kind = s->kind;
        w->bias_last = (int)(s->queries - 1 - row < SIDE - 1 ? s->queries - 1 - row : SIDE - 1);
        w->there = first_of(s->keys - key);
    }
    const int masked = look(s, row, key, !bounded, t->seen);
    if (bounded) return masked ? PLAIN_MASKED : PLAIN;
    if (!masked) memset(t->seen, 0xff, SIDE * sizeof *t->seen);
    return is_biased(s) ? BIASED : OFFSET;
}

/* One or two sub-blocks against up to BLOCK chunks: step i is sub-block i % 2 against chunk i / 2. */
INLINE void unit(const int KT, const Task *t, int sub, int pair, int64_t row, int64_t chunk, int chunks, int bounded,
                 int first)
{
    const int steps = chunks << pair;
    Softmax w;
    w.scale = _mm512_set1_ps(t->scale);
    w.below = _mm512_load_si512(BELOW_LINE);
    int64_t from[2], to[2];
    for (int n = 0; n <= pair; n++) whole(&t->sight, row + n * SIDE, from + n, to + n);
    for (int i = 0; i < steps + 2; i++) {
        int kind = NOTHING;
        if (i >= 2) {
            const int s = (i - 2) & pair, j = (i - 2) >> pair;
            w.scores = t->scores + (i & 1) * SIDE * SIDE;
            w.weights = t->weights + (s * 2 * BLOCK + j) * TILE;
            kind = bounded && chunk + j >= from[s] && chunk + j < to[s] ? PLAIN :
                   softmax_of(t, sub + s, row + s * SIDE, chunk + j, bounded, &w);
        }
        float *before = i ? t->scores + ((i - 1) & 1) * SIDE * SIDE : 0;
        if (i >= steps) {
            if (i == steps) store_scores(before);
            if (kind != NOTHING) weigh_alone(kind, &w);
            continue;
        }
        const bf16 *q = t->q + (sub + (i & pair)) * 2 * KT * TILE, *k = t->keys + (chunk + (i >> pair)) * 2 * KT * TILE;
        switch (kind) {
        case NOTHING: score(KT, NOTHING, q, k, before, &w); break;
        case PLAIN: score(KT, PLAIN, q, k, before, &w); break;
        case PLAIN_MASKED: score(KT, PLAIN_MASKED, q, k, before, &w); break;
        case OFFSET: score(KT, OFFSET, q, k, before, &w); break;
        case BIASED: score(KT, BIASED, q, k, before, &w); break;
        }
    }
    mix(t, t->sums + (int64_t)sub * 2 * t->nt * SUMS, chunk, chunks, pair, first);
}

typedef void (*Unit)(const Task *, int, int, int64_t, int64_t, int, int, int);
#define UNIT(kt)                                                                                       \
    static void unit_##kt(const Task *t, int sub, int pair, int64_t row, int64_t chunk, int chunks,    \
                          int bounded, int first)                                                      \
    {                                                                                                  \
        unit(kt, t, sub, pair, row, chunk, chunks, bounded, first);                                    \
    }
UNIT(1) UNIT(2) UNIT(3) UNIT(4) UNIT(5) UNIT(6) UNIT(8) UNIT(16)

/* For head sizes up to 32 kt. */
static const struct { int kt; Unit unit; } UNITS_OF[] = {
    {1, unit_1}, {2, unit_2}, {3, unit_3}, {4, unit_4}, {5, unit_5}, {6, unit_6}, {8, unit_8}, {16, unit_16},
};

/* ------------------------------------------------------------------------------------ a task */

/* Queries as tiles. Gives a bound of their |logits| in octaves; not a number where one is none. */
static float pack_queries(const bf16 *q, int64_t step, int64_t rows, int dim, int kt, float unit, bf16 *to)
{
    __m512 all = _mm512_setzero_ps(), widest = all;
    for (int r = 0; r < SIDE; r++) {
        __m512 squares = _mm512_setzero_ps();
        for (int t = 0; t < kt; t++) {
            const __m512i x = _mm512_maskz_loadu_epi16(r < rows ? first_of(dim - t * 32) : 0, q + r * step + t * 32);
            squares = add_squares(squares, x);
            _mm512_store_si512(to + ((r >> 4) * kt + t) * TILE + (r & 15) * 32, x);
        }
        all = _mm512_add_ps(all, squares);
        widest = _mm512_max_ps(widest, squares);
    }
    const float sum = _mm512_reduce_add_ps(all), loose = sqrtf(_mm512_reduce_add_ps(widest)) * unit;
    if (sum - sum != 0) return NAN;
    if (loose <= BOUND) return loose;
    float longest = 0;
    for (int r = 0; r < SIDE; r++) {
        __m512 squares = _mm512_setzero_ps();
        for (int t = 0; t < kt; t++)
            squares = add_squares(squares, _mm512_load_si512(to + ((r >> 4) * kt + t) * TILE + (r & 15) * 32));
        const float own = _mm512_reduce_add_ps(squares);
        longest = own > longest ? own : longest;
    }
    return sqrtf(longest) * unit;
}

/* highest[r] = max(highest[r], the logits of row r over these chunks), in units. A key that is not
 * seen has none; what is no number counts as infinite, a bias below all logits as -1e30. */
static void find_highest(const Task *t, int sub, int64_t row, int64_t from, int64_t to, float *highest)
{
    const __m512 none = _mm512_set1_ps(-INFINITY), scale = _mm512_set1_ps(t->scale);
    const bf16 *q = t->q + (int64_t)sub * 2 * t->kt * TILE;
    float acc[SIDE * 16] __attribute__((aligned(64)));
    Softmax w;
    for (int r = 0; r < SIDE; r++) _mm512_store_ps(acc + r * 16, none);
    for (int64_t j = from; j < to; j++) {
        const bf16 *k = t->keys + j * 2 * t->kt * TILE;
        TILE_ZERO(0);
        TILE_ZERO(1);
        TILE_ZERO(2);
        TILE_ZERO(3);
        for (int i = 0; i < t->kt; i++) {
            TILE_LOAD(6, k + i * TILE, 64);
            TILE_LOAD(4, q + i * TILE, 64);
            TILE_DOT(0, 4, 6);
            TILE_LOAD(5, q + (t->kt + i) * TILE, 64);
            TILE_DOT(1, 5, 6);
            TILE_LOAD(7, k + (t->kt + i) * TILE, 64);
            TILE_DOT(2, 4, 7);
            TILE_DOT(3, 5, 7);
        }
        store_scores(t->scores);
        const int biased = softmax_of(t, sub, row, j, 0, &w) == BIASED;
        for (int r = 0; r < SIDE; r++) {
            __m512 even = _mm512_mul_ps(_mm512_load_ps(t->scores + r * 32), scale);
            __m512 odd = _mm512_mul_ps(_mm512_load_ps(t->scores + r * 32 + 16), scale);
            __mmask16 e = (__mmask16)_pext_u32(t->seen[r], 0x55555555);
            __mmask16 o = (__mmask16)_pext_u32(t->seen[r], 0xaaaaaaaa);
            if (biased) {
                const __m512 units = _mm512_set1_ps(BIAS_UNITS), low = _mm512_set1_ps(-1e30f);
                const __m512 infinite = _mm512_set1_ps(INFINITY);
                __m512 a, b;
                bias_of(&w, r, &a, &b);
                e &= _mm512_cmp_ps_mask(a, none, _CMP_NEQ_UQ), o &= _mm512_cmp_ps_mask(b, none, _CMP_NEQ_UQ);
                even = _mm512_min_ps(_mm512_max_ps(low, _mm512_fmadd_ps(a, units, even)), infinite);
                odd = _mm512_min_ps(_mm512_max_ps(low, _mm512_fmadd_ps(b, units, odd)), infinite);
            }
            __m512 own = _mm512_load_ps(acc + r * 16);
            own = _mm512_mask_max_ps(own, e, own, even);
            _mm512_store_ps(acc + r * 16, _mm512_mask_max_ps(own, o, own, odd));
        }
    }
    for (int r = 0; r < SIDE; r++) {
        const float own = _mm512_reduce_max_ps(_mm512_load_ps(acc + r * 16));
        highest[r] = own > highest[r] ? own : highest[r];
    }
}

/* The offsets of a sub-block: of what all chunks say, or two: the first, and where the queries
 * themselves stand. Gives whether the exact ones are in range. */
static int set_offsets(const Task *t, int sub, int64_t row, int64_t rows, int exact)
{
    float highest[SIDE];
    int64_t from, to;
    const float zero = is_biased(&t->sight) ? 0 : MAGIC + ZERO_AT; /* see `weigh` */
    for (int r = 0; r < SIDE; r++) highest[r] = -INFINITY;
    reach(&t->sight, row, rows, &from, &to);
    if (exact) {
        find_highest(t, sub, row, from, to, highest);
    } else if (to > from) {
        int64_t own = (row + t->sight.keys - t->sight.queries) / SIDE;
        own = own < from ? from : own >= to ? to - 1 : own;
        find_highest(t, sub, row, from, from + 1, highest);
        if (own > from) find_highest(t, sub, row, own, own + 1, highest);
    }
    int fits = 1;
    for (int r = 0; r < SIDE; r++) {
        const int usable = highest[r] > -FAR * UNITS && highest[r] < FAR * UNITS;
        if (!usable && highest[r] != -INFINITY && r < rows) fits = 0;
        t->offset[sub * SIDE + r] = zero - (usable ? highest[r] : 0);
    }
    return fits;
}

/* Divides by the sums and writes; gives 0 where a sum says that the offset was no good. */
static int write_out(const Task *t, int sub, int64_t rows, int dim, int mode, bf16 *out, int64_t step)
{
    const float *sums = t->sums + (int64_t)sub * 2 * t->nt * SUMS;
    const float least = mode == EXACT ? 0.1f : 1e-25f;
    float inverse[SIDE];
    for (int r = 0; r < rows; r++) {
        const float sum = sums[((r >> 4) * t->nt + dim / 16) * SUMS + (r & 15) * 16 + dim % 16];
        if (!(sum > least && sum < 1e25f) && !(sum == 0 && mode != SAMPLED)) return 0;
        inverse[r] = sum == 0 ? 0 : 1 / sum; /* a row that sees nothing gives zeros */
    }
    for (int r = 0; r < rows; r++)
        for (int n = 0; n * 16 < dim; n++) {
            const __m512 x = _mm512_load_ps(sums + ((r >> 4) * t->nt + n) * SUMS + (r & 15) * 16);
            const __m256bh y = _mm512_cvtneps_pbh(_mm512_mul_ps(x, _mm512_set1_ps(inverse[r])));
            const int left = dim - n * 16;
            _mm256_mask_storeu_epi16(out + r * step + n * 16, (__mmask16)first_of(left < 16 ? left : 16), (__m256i)y);
        }
    return 1;
}

/* The units of all sub-blocks that are not yet written. */
static void run_units(const Task *t, Unit unit, const uint8_t *mode, int subs, int64_t row0, int64_t rows)
{
    const int64_t chunks = (t->sight.keys + SIDE - 1) / SIDE;
    for (int s = 0; s < subs; s++) { /* what sees nothing is not begun below */
        int64_t from, to;
        reach(&t->sight, row0 + s * SIDE, SIDE, &from, &to);
        if (from >= to) memset(t->sums + (int64_t)s * 2 * t->nt * SUMS, 0, (size_t)2 * t->nt * SUMS * 4);
    }
    for (int64_t block = 0; block < chunks; block += BLOCK)
        for (int s = 0, pair; s < subs; s += 1 + pair) {
            pair = s + 1 < subs && mode[s + 1] == mode[s];
            if (mode[s] == WRITTEN) continue;
            int64_t from, to, row = row0 + s * SIDE, here = rows - s * SIDE;
            reach(&t->sight, row, here < SIDE << pair ? here : SIDE << pair, &from, &to);
            const int64_t start = block > from ? block : from, stop = block + BLOCK < to ? block + BLOCK : to;
            if (start < stop)
                unit(t, s, pair, row, start, (int)(stop - start), mode[s] == BOUNDED, start == from);
        }
}

/* Rows [row0, row0 + rows) of one head. Gives 0 where numbers are out of range. */
static int attend(const Task *t, Unit unit, float longest_key, const Call *c, const bf16 *q, bf16 *out, int64_t row0,
                  int64_t rows)
{
    const int subs = (int)((rows + SIDE - 1) / SIDE);
    const int64_t q_step = c->q_step[2], out_step = c->out_step[2];
    const float octaves = sqrtf(longest_key) * fabsf(t->scale) / UNITS; /* for a query of length 1 */
    uint8_t mode[MOST];
    for (int s = 0; s < subs; s++) {
        const int64_t row = row0 + s * SIDE, here = row0 + rows - row < SIDE ? row0 + rows - row : SIDE;
        bf16 *tiles = t->q + (int64_t)s * 2 * t->kt * TILE;
        const float bound = pack_queries(q + row * q_step, q_step, here, (int)c->dim, t->kt, octaves, tiles);
        if (!(bound <= FAR)) return 0;
        mode[s] = bound <= BOUND && !is_biased(&t->sight) ? BOUNDED : SAMPLED;
        if (mode[s] == SAMPLED) set_offsets(t, s, row, here, 0);
    }
    for (int again = 1; again;) {
        run_units(t, unit, mode, subs, row0, rows);
        again = 0;
        for (int s = 0; s < subs; s++) {
            const int64_t row = row0 + s * SIDE, here = row0 + rows - row < SIDE ? row0 + rows - row : SIDE;
            if (mode[s] == WRITTEN) continue;
            if (write_out(t, s, here, (int)c->value_dim, mode[s], out + row * out_step, out_step))
                mode[s] = WRITTEN;
            else if (mode[s] == SAMPLED && set_offsets(t, s, row, here, 1))
                mode[s] = EXACT, again = 1;
            else
                return 0;
        }
    }
    return 1;
}

/* ------------------------------------------------------------------------------------ a call */

typedef struct { int64_t item, batch, q0, queries, k0, keys; } Item;

static Item item_of(const Call *c, int64_t i)
{
    if (c->status[i] == LEFT_OUT) return (Item){i, 0, 0, 0, 0, 0};
    if (!c->q_bounds) return (Item){i, i, 0, c->queries, 0, c->keys};
    return (Item){i, 0, c->q_bounds[i], c->q_bounds[i + 1] - c->q_bounds[i],
                  c->k_bounds[i], c->k_bounds[i + 1] - c->k_bounds[i]};
}

typedef struct { /* how the work of a call is cut, and where its parts lie in the room */
    int kt, nt;
    Unit unit;
    int64_t heads, rows;               /* key heads of all items; queries of a task */
    int64_t *at, *packs, *tasks;       /* [heads], [heads + 1] twice: running counts */
    float *longest;                    /* [heads]: max |k|^2; infinite where out of range */
    char *packed, *threads;
    int64_t packed_bytes, thread_bytes, bytes;
} Plan;

static int64_t up(int64_t n) { return (n + 4095) & ~(int64_t)4095; }
static int64_t parts(int64_t n, int64_t size) { return (n + size - 1) / size; }

static int64_t head_bytes(const Plan *p, const Item *own)
{
    return parts(own->keys, SIDE) * (2 * p->kt + p->nt) * TILE * 2;
}

/* Whether a task takes its queries of all heads, one after the other. Where heads lie beside each
 * other in memory, their rows share cache lines, and lie as far apart as no prefetcher looks; but
 * the tiles of all heads must stay in L2. */
static int all_heads(const Call *c, const Plan *p, const Item *own)
{
    return c->out_step[1] < c->out_step[2] && c->kv_heads * head_bytes(p, own) <= ITEM_ROOM;
}

static void lay_out(const Call *c, Plan *p)
{
    int n = 0;
    while (UNITS_OF[n].kt * 32 < c->dim) n++;
    p->kt = UNITS_OF[n].kt, p->unit = UNITS_OF[n].unit;
    p->nt = (int)(c->value_dim / 16 + 1);
    p->heads = c->items * c->kv_heads;
    int64_t all = 0, largest = 0, queries = 0;
    for (int64_t i = 0; i < c->items; i++) {
        const Item own = item_of(c, i);
        const int64_t bytes = head_bytes(p, &own);
        all += bytes * c->kv_heads, largest = bytes > largest ? bytes : largest;
        queries += own.queries * (all_heads(c, p, &own) ? 1 : c->heads);
    }
    p->rows = SUMS_ROOM / (p->nt * 64) / 64 * 64;
    p->rows = p->rows < 64 ? 64 : p->rows > MOST * SIDE ? MOST * SIDE : p->rows;
    while (p->rows > 64 && queries / p->rows < 4 * c->threads) p->rows = (p->rows / 2 + 63) / 64 * 64;
    const int64_t table = up((p->heads + 1) * 8), subs = p->rows / SIDE;
    p->packed_bytes = up(all < WAVE ? all : largest > WAVE ? largest : WAVE);
    p->thread_bytes = up((2 * SIDE * SIDE + subs * SIDE + SIDE) * 4 + 4 * BLOCK * TILE * 2 +
                         subs * 2 * (p->kt * TILE * 2 + p->nt * SUMS * 4));
    char *room = c->room;
    p->at = (int64_t *)room, p->packs = (int64_t *)(room + table), p->tasks = (int64_t *)(room + 2 * table);
    p->longest = (float *)(room + 3 * table);
    p->packed = room + 4 * table;
    p->threads = p->packed + p->packed_bytes;
    p->bytes = 4 * table + p->packed_bytes + c->threads * p->thread_bytes;
}

/* Where each head's tiles lie, and how many pieces of work it has. Tasks of all heads belong to the
 * first, and to the wave that all of them are in. */
static void count(const Call *c, Plan *p)
{
    int64_t at = 0;
    p->packs[0] = p->tasks[0] = 0;
    for (int64_t h = 0; h < p->heads; h++) {
        const Item own = item_of(c, h / c->kv_heads);
        const int64_t bytes = head_bytes(p, &own), blocks = parts(own.queries, p->rows);
        const int whole = all_heads(c, p, &own), first = h % c->kv_heads == 0;
        const int64_t follow = !whole ? bytes : first ? bytes * c->kv_heads : 0;
        if (at + follow > p->packed_bytes) at = 0; /* a new wave */
        p->at[h] = at, at += bytes;
        p->longest[h] = 0;
        p->packs[h + 1] = p->packs[h] + parts(parts(own.keys, SIDE), PACK);
        p->tasks[h + 1] = p->tasks[h] + blocks * (!whole ? c->heads / c->kv_heads : first);
    }
}

/* Which head in [from, to) the n-th piece belongs to, by running counts. */
static int64_t head_of(const int64_t *counts, int64_t from, int64_t to, int64_t n)
{
    while (to - from > 1) {
        const int64_t middle = (from + to) / 2;
        if (counts[middle] <= n) from = middle;
        else to = middle;
    }
    return from;
}

/* The larger of both; floats that are not negative are ordered as their bits are. */
static void raise(float *place, float value)
{
    uint32_t bits, *at = (uint32_t *)place, old = __atomic_load_n(at, __ATOMIC_RELAXED);
    memcpy(&bits, &value, 4);
    while (old < bits && !__atomic_compare_exchange_n(at, &old, bits, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
}

static void pack(const Call *c, const Plan *p, int64_t head, int64_t part)
{
    const Item own = item_of(c, head / c->kv_heads);
    const int64_t h = head % c->kv_heads, chunks = parts(own.keys, SIDE);
    const bf16 *k = c->k + own.batch * c->k_step[0] + h * c->k_step[1] + own.k0 * c->k_step[2];
    const bf16 *v = c->v + own.batch * c->v_step[0] + h * c->v_step[1] + own.k0 * c->v_step[2];
    bf16 *keys = (bf16 *)(p->packed + p->at[head]), *values = keys + chunks * 2 * p->kt * TILE;
    float longest = 0;
    for (int64_t j = part * PACK; j < chunks && j < (part + 1) * PACK; j++) {
        const int64_t left = own.keys - j * SIDE;
        const float k_long = pack_keys(k + j * SIDE * c->k_step[2], c->k_step[2], left, (int)c->dim, p->kt,
                                       keys + j * 2 * p->kt * TILE);
        const int fits = pack_values(v + j * SIDE * c->v_step[2], c->v_step[2], left, (int)c->value_dim, p->nt,
                                     values + j * p->nt * TILE);
        longest = !fits ? INFINITY : k_long > longest ? k_long : longest;
    }
    raise(&p->longest[head], longest);
}

/* Queries from `row` on of head h of an item, whose key head is `head`. */
static void work(const Call *c, const Plan *p, const Item *own, int64_t head, int64_t h, int64_t row, char *room)
{
    const int64_t subs = p->rows / SIDE, rows = own->queries - row < p->rows ? own->queries - row : p->rows;
    Task t = {.kt = p->kt, .nt = p->nt, .scale = c->scale * UNITS * LOG2E};
    t.keys = (bf16 *)(p->packed + p->at[head]);
    t.values = t.keys + parts(own->keys, SIDE) * 2 * p->kt * TILE;
    t.scores = (float *)room;
    t.weights = (bf16 *)(t.scores + 2 * SIDE * SIDE);
    t.q = t.weights + 4 * BLOCK * TILE;
    t.sums = (float *)(t.q + subs * 2 * p->kt * TILE);
    t.offset = t.sums + subs * 2 * p->nt * SUMS;
    t.seen = (uint32_t *)(t.offset + subs * SIDE);
    Sight *s = &t.sight;
    *s = (Sight){own->queries, own->keys, c->left, c->right, 0, own->keys, 0, 0, c->mask_kind};
    if (s->kind != NO_MASK) {
        const int64_t size = s->kind == BOOLEAN ? 1 : s->kind == BIAS_BF16 ? 2 : 4;
        s->mask = (const char *)c->mask + (own->batch * c->mask_step[0] + h * c->mask_step[1]) * size;
        s->row = c->mask_step[2] * size;
        if (s->kind == BOOLEAN && s->row == 0) trim(s);
    }
    const bf16 *q = c->q + own->batch * c->q_step[0] + h * c->q_step[1] + own->q0 * c->q_step[2];
    bf16 *out = c->out + own->batch * c->out_step[0] + h * c->out_step[1] + own->q0 * c->out_step[2];
    if (!attend(&t, p->unit, p->longest[head], c, q, out, row, rows))
        __atomic_store_n(&c->status[own->item], OUT_OF_RANGE, __ATOMIC_RELAXED);
}

/* Task n of those that begin with `head`'s. */
static void run_task(const Call *c, const Plan *p, int64_t head, int64_t n, char *room)
{
    const Item own = item_of(c, head / c->kv_heads);
    const int64_t blocks = parts(own.queries, p->rows), groups = c->heads / c->kv_heads;
    /* the latest queries of a causal call have most to do: they come first */
    const int64_t row = (blocks - 1 - n % blocks) * p->rows;
    if (!all_heads(c, p, &own))
        work(c, p, &own, head, head % c->kv_heads * groups + n / blocks, row, room);
    else
        for (int64_t h = 0; h < c->heads; h++) work(c, p, &own, head + h / groups, h, row, room);
}

/* Asks the kernel for tiles, once a process: 0 where there are none. */
int amx_prepare(void)
{
    return __builtin_cpu_supports("avx512vbmi") && syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18) == 0;
}

/* How many bytes of room a call takes. */
int64_t amx_room(const Call *c)
{
    Plan p;
    lay_out(c, &p);
    return p.bytes;
}

/* Fills `out` but for the items whose status is not ANSWERED afterwards. */
void amx_attend(const Call *c)
{
    Plan p;
    lay_out(c, &p);
    count(c, &p);
#pragma omp parallel num_threads((int)c->threads)
    {
        char *room = p.threads + omp_get_thread_num() * p.thread_bytes;
        tiles_on(); /* in every region: others change what tiles look like */
        for (int64_t from = 0, to; from < p.heads; from = to) {
            for (to = from + 1; to < p.heads && p.at[to] != 0; to++) {
            }
#pragma omp for schedule(static)
            for (int64_t n = p.packs[from]; n < p.packs[to]; n++) {
                const int64_t head = head_of(p.packs, from, to, n);
                pack(c, &p, head, n - p.packs[head]);
            }
#pragma omp for schedule(dynamic)
            for (int64_t n = p.tasks[from]; n < p.tasks[to]; n++) {
                const int64_t head = head_of(p.tasks, from, to, n);
                run_task(c, &p, head, n - p.tasks[head], room);
            }
        }
        tiles_off();
    }
}
