/* Products of few rows with weights that are streamed from memory once.

   Weights lie in panels of 32 outputs, input by input, as the loops read them (packed by
   decoder_product.py):

     float32            [panel][input][32]
     int8 x float32     [panel][input][32]
     bfloat16           [panel][input / 2][32][2]      pairs, as dot products and tiles take them
     int8 x bfloat16    [panel][input / 2][64]         sign and magnitude of such pairs, so ordered
                                                       that two table look-ups and two interleavings
                                                       make bfloat16 of them

   An 8-bit weight is exact in bfloat16; sums are float32, and an output's scale comes last. */

#ifndef DECODER_PRODUCT_H
#define DECODER_PRODUCT_H

#include "decoder_vector.h"

#ifndef SOON
#define SOON 2048
#endif
enum { PANEL = 32, FEW = 8, TILE = 16, BLOCK = 32 };

typedef struct {
    const void *weight;
    const float *scale; /* [outputs] of 8-bit weights, else null */
    const float *bias;  /* [outputs] or null */
    int64_t inputs;     /* a multiple of 32 */
    int64_t outputs;    /* a multiple of 32 */
    int64_t weights;    /* FLOAT32, BFLOAT16 or INT8 */
    int64_t given;      /* FLOAT32 or BFLOAT16: what its inputs are */
} Product;

/* -- a few rows with float32 inputs ----------------------------------------------------------- */

ALWAYS void few_float32(const Product *own, int kind, const char *w, const float *x, int64_t stride,
                        int rows, float *y) {
    vec sums[FEW][PANEL / LANES];
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < PANEL / LANES; i++) sums[r][i] = PS(setzero)();
    for (int64_t k = 0; k < own->inputs; k++) {
        vec part[PANEL / LANES];
        _mm_prefetch(w + PANEL * k * WIDTHS[kind] + SOON, _MM_HINT_T0);
        if (kind == FLOAT32) _mm_prefetch(w + PANEL * k * 4 + SOON + 64, _MM_HINT_T0);
        for (int i = 0; i < PANEL / LANES; i++) part[i] = load_all(w, PANEL * k + LANES * i, kind);
        for (int r = 0; r < rows; r++) {
            const vec one = PS(set1)(x[r * stride + k]);
            for (int i = 0; i < PANEL / LANES; i++) sums[r][i] = PS(fmadd)(part[i], one, sums[r][i]);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < PANEL / LANES; i++) PS(storeu)(y + PANEL * r + LANES * i, sums[r][i]);
}

#ifdef __AVX512BF16__
/* -- 8 bits to bfloat16 ------------------------------------------------------------------------ */

typedef struct {
    __m512i high[2], low[2]; /* bytes of the bfloat16 numbers 0 to 127 */
} Numbers;

static inline Numbers numbers(void) {
    uint8_t high[128], low[128];
    for (int i = 0; i < 128; i++) {
        float number = (float)i;
        uint32_t bits;
        memcpy(&bits, &number, 4);
        high[i] = bits >> 24, low[i] = bits >> 16 & 0xff;
    }
    Numbers made = {{_mm512_loadu_si512(high), _mm512_loadu_si512(high + 64)},
                    {_mm512_loadu_si512(low), _mm512_loadu_si512(low + 64)}};
    return made;
}

ALWAYS void widen_int8(const Numbers *known, const char *bytes, __m512i *left, __m512i *right) {
    __m512i own = _mm512_loadu_si512(bytes);
    __m512i low = _mm512_permutex2var_epi8(known->low[0], own, known->low[1]);
    __m512i high = _mm512_permutex2var_epi8(known->high[0], own, known->high[1]);
    /* high | (own & sign): the permutation itself looks at seven bits only */
    high = _mm512_ternarylogic_epi32(high, own, _mm512_set1_epi8((char)0x80), 0xf8);
    *left = _mm512_unpacklo_epi8(low, high);
    *right = _mm512_unpackhi_epi8(low, high);
}

/* -- a few rows with bfloat16 inputs ----------------------------------------------------------- */

ALWAYS void few_bfloat16(const Product *own, const Numbers *known, int eight_bits, const char *w,
                         const uint16_t *x, int64_t stride, int rows, float *y) {
    __m512 sums[FEW][2];
    for (int r = 0; r < rows; r++) sums[r][0] = sums[r][1] = _mm512_setzero_ps();
    const int64_t step = eight_bits ? 64 : 128;
    for (int64_t k = 0; k < own->inputs / 2; k++, w += step) {
        __m512i left, right;
        _mm_prefetch(w + SOON, _MM_HINT_T0);
        if (eight_bits) {
            widen_int8(known, w, &left, &right);
        } else {
            _mm_prefetch(w + SOON + 64, _MM_HINT_T0);
            left = _mm512_loadu_si512(w), right = _mm512_loadu_si512(w + 64);
        }
        for (int r = 0; r < rows; r++) {
            int32_t pair;
            memcpy(&pair, x + r * stride + 2 * k, 4);
            __m512bh both = (__m512bh)_mm512_set1_epi32(pair);
            sums[r][0] = _mm512_dpbf16_ps(sums[r][0], (__m512bh)left, both);
            sums[r][1] = _mm512_dpbf16_ps(sums[r][1], (__m512bh)right, both);
        }
    }
    for (int r = 0; r < rows; r++) {
        _mm512_storeu_ps(y + PANEL * r, sums[r][0]);
        _mm512_storeu_ps(y + PANEL * r + LANES, sums[r][1]);
    }
}
#endif

/* -- many rows by AMX tiles -------------------------------------------------------------------- */

#ifdef __AMX_BF16__
#define FENCE __asm__ volatile("" ::: "memory") /* the compiler does not know what tiles read */

static inline void tiles_begin(void) {
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } shape __attribute__((aligned(64)));
    memset(&shape, 0, sizeof shape);
    shape.palette = 1;
    for (int i = 0; i < 8; i++) shape.bytes[i] = 64, shape.rows[i] = TILE;
    FENCE;
    _tile_loadconfig(&shape);
    FENCE;
}

static inline void tiles_end(void) { _tile_release(); }

/* 1 KiB of 8-bit weights, 32 inputs of a panel, as 2 KiB of bfloat16. */
ALWAYS void widen_block(const Numbers *known, const char *bytes, char *wide) {
    for (int k = 0; k < BLOCK / 2; k++) {
        __m512i left, right;
        widen_int8(known, bytes + 64 * k, &left, &right);
        _mm512_store_si512(wide + 128 * k, left);
        _mm512_store_si512(wide + 128 * k + 64, right);
    }
}

/* Up to 32 rows (a half of them where `more` is 0) with one panel; x has rows to fill tiles. */
ALWAYS void tiles_panel(const Product *own, const Numbers *known, int eight_bits, const char *w,
                        const uint16_t *x, int64_t stride, int more, float *y) {
    char wide[2][64 * BLOCK] __attribute__((aligned(64)));
    const int64_t step = eight_bits ? PANEL * BLOCK : 2 * PANEL * BLOCK;
    _tile_zero(0);
    _tile_zero(1);
    if (more) {
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int64_t k = 0; k < own->inputs; k += BLOCK, w += step) {
        const char *block = w;
        for (int64_t line = 0; line < step; line += 64) _mm_prefetch(w + SOON + line, _MM_HINT_T0);
        if (eight_bits) {
            char *room = wide[k / BLOCK % 2];
            widen_block(known, w, room);
            block = room;
        }
        FENCE;
        _tile_loadd(4, x + k, 2 * stride);
        _tile_loadd(6, block, 128);
        _tile_loadd(7, block + 64, 128);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        if (more) {
            _tile_loadd(5, x + TILE * stride + k, 2 * stride);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, y, 4 * PANEL);
    _tile_stored(1, y + LANES, 4 * PANEL);
    if (more) {
        _tile_stored(2, y + TILE * PANEL, 4 * PANEL);
        _tile_stored(3, y + TILE * PANEL + LANES, 4 * PANEL);
    }
    FENCE;
}
#endif

/* -- one panel --------------------------------------------------------------------------------- */

#ifdef __AVX512F__
#define FEW_ROWS(call)                              \
    switch (rows) {                                 \
        case 1: { const int R = 1; call; break; }   \
        case 2: { const int R = 2; call; break; }   \
        case 4: { const int R = 4; call; break; }   \
        default: { const int R = FEW; call; break; } \
    }

enum { TILED = 4 }; /* rows from which tiles are faster */

static void some_rows(const Product *own, const char *w, const char *x, int64_t stride, int rows,
                      float *y) {
    if (own->given == FLOAT32) {
        if (own->weights == INT8) {
            FEW_ROWS(few_float32(own, INT8, w, (const float *)x, stride, R, y))
        } else {
            FEW_ROWS(few_float32(own, FLOAT32, w, (const float *)x, stride, R, y))
        }
        return;
    }
#ifdef __AVX512BF16__
    const Numbers known = numbers();
    if (own->weights == INT8) {
        FEW_ROWS(few_bfloat16(own, &known, 1, w, (const uint16_t *)x, stride, R, y))
    } else {
        FEW_ROWS(few_bfloat16(own, &known, 0, w, (const uint16_t *)x, stride, R, y))
    }
#endif
}

#else
#include "decoder_blocks.h"
#endif

/* y [rows up to a multiple of 16][32], float32: what a panel gives for all rows, scaled. Inputs
   have `stride` elements a row, and rows up to a multiple of 16. */
static void panel_product(const Product *own, int64_t panel, const void *inputs, int64_t stride,
                          int64_t rows, float *y) {
    const int64_t bytes = PANEL * own->inputs * WIDTHS[own->weights];
    const char *w = (const char *)own->weight + panel * bytes, *x = inputs;
#ifdef __AVX512F__
    const int64_t row = stride * WIDTHS[own->given];
    int64_t done = 0;
#ifdef __AMX_BF16__
    if (own->given == BFLOAT16 && rows >= TILED) {
        const Numbers known = numbers();
        for (; done < rows; done += 2 * TILE) {
            const uint16_t *from = (const uint16_t *)(x + done * row);
            const int more = rows - done > TILE;
            float *to = y + done * PANEL;
            if (own->weights == INT8)
                tiles_panel(own, &known, 1, w, from, stride, more, to);
            else
                tiles_panel(own, &known, 0, w, from, stride, more, to);
        }
    }
#endif
    while (done < rows) { /* the panel is in a cache after its first pass */
        const int64_t left = rows - done;
        const int some = left >= FEW ? FEW : left >= 4 ? 4 : left >= 2 ? 2 : 1;
        some_rows(own, w, x + done * row, stride, some, y + done * PANEL);
        done += some;
    }
#else
    all_rows(own, w, (const float *)x, stride, rows, y);
#endif
    if (own->scale == NULL && own->bias == NULL) return;
    for (int part = 0; part < PANEL; part += LANES) {
        const int64_t at = panel * PANEL + part;
        const vec scale = own->scale ? PS(loadu)(own->scale + at) : PS(set1)(1.0f);
        const vec bias = own->bias ? PS(loadu)(own->bias + at) : PS(setzero)();
        for (int64_t r = 0; r < rows; r++) {
            float *own_y = y + r * PANEL + part;
            PS(storeu)(own_y, PS(fmadd)(PS(loadu)(own_y), scale, bias));
        }
    }
}

#endif
