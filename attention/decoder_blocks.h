/* A panel's product where a register holds eight numbers.

   One row or two take the panel as it comes from memory. More go through it block by block: a block
   stays in the first cache, and every pass over it asks for a part of the next. Sums of six rows
   with 16 outputs fill the registers; between blocks they lie in the result. 8-bit weights become
   float32 in every pass, beside the products: doing it once a block was no faster. */

#ifndef DECODER_BLOCKS_H
#define DECODER_BLOCKS_H

enum {
    GROUP = 6,        /* rows whose sums registers hold */
    HALF = 2 * LANES, /* with so many outputs */
    DEPTH = 288,      /* inputs of a block: a half of it takes 18 KB of the first cache */
};

/* A block of weights [depth][32], the first of its panel or not; at each input of each pass `step`
   bytes of `soon` are asked for. */
typedef struct {
    const char *weights, *soon;
    int64_t depth, step;
    int kind, first;
} Block;

/* y [rows][32] += x [rows][stride] times a half of a block, that of the outputs from `half` on. */
ALWAYS void block_rows(const Block *own, int kind, int half, const float *x, int64_t stride,
                       int rows, float *y) {
    vec sums[GROUP][2];
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < 2; i++)
            sums[r][i] = own->first ? PS(setzero)() : PS(loadu)(y + PANEL * r + half + LANES * i);
    const char *soon = own->soon + half / HALF * own->step * own->depth;
    for (int64_t k = 0; k < own->depth; k++, soon += own->step) {
        _mm_prefetch(soon, _MM_HINT_T0);
        const vec left = load_all(own->weights, PANEL * k + half, kind);
        const vec right = load_all(own->weights, PANEL * k + half + LANES, kind);
        for (int r = 0; r < rows; r++) {
            const vec one = PS(set1)(x[r * stride + k]);
            sums[r][0] = PS(fmadd)(left, one, sums[r][0]);
            sums[r][1] = PS(fmadd)(right, one, sums[r][1]);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < 2; i++) PS(storeu)(y + PANEL * r + half + LANES * i, sums[r][i]);
}

ALWAYS void both_halves(const Block *own, const float *x, int64_t stride, int rows, float *y) {
    for (int half = 0; half < PANEL; half += HALF)
        if (own->kind == INT8)
            block_rows(own, INT8, half, x, stride, rows, y);
        else
            block_rows(own, FLOAT32, half, x, stride, rows, y);
}

/* Three to six rows. */
static void group_rows(const Block *own, const float *x, int64_t stride, int64_t rows, float *y) {
    switch (rows) {
        case 3: both_halves(own, x, stride, 3, y); break;
        case 4: both_halves(own, x, stride, 4, y); break;
        case 5: both_halves(own, x, stride, 5, y); break;
        default: both_halves(own, x, stride, GROUP, y);
    }
}

/* y [rows][32], of three rows or more. */
static void many_rows(const Product *own, const char *w, const float *x, int64_t stride,
                      int64_t rows, float *y) {
    const int64_t groups = (rows + GROUP - 1) / GROUP;
    for (int64_t k = 0; k < own->inputs; k += DEPTH) {
        const int64_t left = own->inputs - k, depth = left < DEPTH ? left : DEPTH;
        const int64_t bytes = PANEL * depth * WIDTHS[own->weights];
        Block block = {w, w + bytes, depth, bytes / (2 * groups * depth), (int)own->weights, k == 0};
        for (int64_t g = 0; g < groups; g++, block.soon += bytes / groups) {
            const int64_t row = rows * g / groups, until = rows * (g + 1) / groups;
            group_rows(&block, x + row * stride + k, stride, until - row, y + row * PANEL);
        }
        w += bytes;
    }
}

ALWAYS void one_or_two(const Product *own, int kind, const char *w, const float *x, int64_t stride,
                       int64_t rows, float *y) {
    if (rows == 1)
        few_float32(own, kind, w, x, stride, 1, y);
    else
        few_float32(own, kind, w, x, stride, 2, y);
}

/* y [rows][32]: what a panel that lies at `w` gives for all rows. */
static void all_rows(const Product *own, const char *w, const float *x, int64_t stride,
                     int64_t rows, float *y) {
    if (rows > 2)
        many_rows(own, w, x, stride, rows, y);
    else if (own->weights == INT8)
        one_or_two(own, INT8, w, x, stride, rows, y);
    else
        one_or_two(own, FLOAT32, w, x, stride, rows, y);
}

#endif
