/* Convolutions of 3 x 3 in float32 with a quarter of the multiplications: Winograd's F(4x4, 3x3)
   (arXiv:1509.09308). Six by six pixels become 36 numbers in each channel; so does a weight; a
   product of matrices over the channels for each of the 36 gives what becomes four by four pixels.
   Points are 0, +-sqrt(1/2), +-sqrt(2) and infinity: they round as little as plain sums do.

   Images lie channels last: [images, height, width, channels], edges are zero. */

#include <omp.h>

enum {
    SIDE = 6,
    PLACES = SIDE * SIDE,
    STEP = 4,
#ifdef __AVX512F__
    LANES = 16,
    ROWS = 12, /* of a small product: with PARTS vectors each they fill the registers */
#else
    LANES = 8,
    ROWS = 6,
#endif
    PARTS = 2,
    PANEL = PARTS * LANES,
    BLOCK = 32, /* output channels at once */
    DEPTH = 64, /* input channels at once: their weights stay in the second cache */
    PART = 144, /* tiles whose sums a thread has at once: they stay there, too */
    APART = 16, /* between matrices: those of 2^n numbers would meet in the cache */
    WEIGHTS = BLOCK * DEPTH + APART,
};

#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4)));

static const float HALF = 0.70710678f, TWO = 1.41421356f; /* the points: their squares are .5, 2 */

INLINE vec load(const float *from) { return *(const vec *)from; }

INLINE void store(float *to, vec x) { *(vec *)to = x; }

static inline long least(long a, long b) { return a < b ? a : b; }

/* Six pixels in a row, at the six points. */
INLINE void to_points(const vec *d, long step, vec *v) {
    vec e = d[4 * step] - 2.0f * d[2 * step], o = HALF * (d[3 * step] - 2.0f * d[step]);
    vec f = d[4 * step] - 0.5f * d[2 * step], q = TWO * (d[3 * step] - 0.5f * d[step]);
    v[0] = d[0] - 2.5f * d[2 * step] + d[4 * step];
    v[1] = e + o;
    v[2] = e - o;
    v[3] = f + q;
    v[4] = f - q;
    v[5] = d[step] - 2.5f * d[3 * step] + d[5 * step];
}

/* Three weights in a row, at the six points. */
INLINE void weights_to_points(vec g, vec h, vec i, vec *u) {
    vec e = (g + 0.5f * i) * (-1 / 1.5f), o = h * (-HALF / 1.5f);
    vec f = (g + 2.0f * i) * (1 / 6.0f), q = h * (TWO / 6.0f);
    u[0] = g;
    u[1] = e + o;
    u[2] = e - o;
    u[3] = f + q;
    u[4] = f - q;
    u[5] = i;
}

/* Four sums in a row, from their six points. */
INLINE void from_points(const vec *m, long step, vec *y) {
    vec s = m[step] + m[2 * step], t = m[3 * step] + m[4 * step];
    vec o = HALF * (m[step] - m[2 * step]), q = TWO * (m[3 * step] - m[4 * step]);
    y[0] = m[0] + s + t;
    y[1] = o + q;
    y[2] = 0.5f * s + 2.0f * t;
    y[3] = 0.5f * o + 2.0f * q + m[5 * step];
}

typedef struct {
    const float *x, *bias, *add;
    float *y;
    long height, width, inputs, outputs, across, tiles; /* tiles of an image: in a row, in all */
} Image;

/* One tile of pixels into row `row` of matrices [input / DEPTH, place, row, DEPTH]. */
static void tile_in(const Image *own, long tile, float *to, long apart, const float *zeros) {
    long image = tile / own->tiles, place = tile % own->tiles;
    long top = place / own->across * STEP - 1, left = place % own->across * STEP - 1;
    const float *at[PLACES];
    for (long i = 0; i < PLACES; i++) {
        long row = top + i / SIDE, column = left + i % SIDE;
        int inside = row >= 0 && row < own->height && column >= 0 && column < own->width;
        long pixel = (image * own->height + row) * own->width + column;
        at[i] = inside ? own->x + pixel * own->inputs : zeros;
    }
    for (long c = 0; c < own->inputs; c += LANES) {
        vec d[PLACES], t[PLACES];
        float *there = to + c / DEPTH * PLACES * apart + c % DEPTH;
        for (long i = 0; i < PLACES; i++)
            d[i] = load(at[i] + c);
        for (long i = 0; i < SIDE; i++)
            to_points(d + i, SIDE, t + i * SIDE); /* t: [column, point] */
        for (long i = 0; i < SIDE; i++) {
            vec v[SIDE];
            to_points(t + i, SIDE, v);
            for (long j = 0; j < SIDE; j++)
                store(there + (i * SIDE + j) * apart, v[j]);
        }
    }
}

/* One tile of 36 matrices of sums into pixels: `count` output channels from `first` on. */
static void tile_out(const Image *own, long tile, const float *from, long apart, long first) {
    long image = tile / own->tiles, place = tile % own->tiles;
    long top = place / own->across * STEP, left = place % own->across * STEP;
    long rows = least(STEP, own->height - top), columns = least(STEP, own->width - left);
    for (long c = 0; c < BLOCK; c += LANES) {
        vec m[PLACES], t[STEP * SIDE], none = {};
        vec bias = own->bias ? load(own->bias + first + c) : none;
        for (long i = 0; i < PLACES; i++)
            m[i] = load(from + i * apart + c);
        for (long i = 0; i < SIDE; i++)
            from_points(m + i, SIDE, t + i * STEP); /* t: [column, row]; points of rows first */
        for (long row = 0; row < rows; row++) {
            vec y[STEP];
            from_points(t + row, STEP, y);
            long pixel = (image * own->height + top + row) * own->width + left;
            for (long column = 0; column < columns; column++) {
                long at = (pixel + column) * own->outputs + first + c;
                vec sum = y[column] + bias;
                store(own->y + at, own->add ? sum + load(own->add + at) : sum);
            }
        }
    }
}

/* Weights [input, 3, 3, BLOCK] of `depth` inputs into matrices [place, panel, input, PANEL]. */
static void weights_in(const float *from, long depth, float *to) {
    for (long k = 0; k < depth; k++, from += 9 * BLOCK)
        for (long c = 0; c < BLOCK; c += LANES) {
            float *there = to + c / PANEL * PANEL * depth + k * PANEL + c % PANEL;
            vec t[3 * SIDE];
            for (long i = 0; i < 3; i++) /* t: [column, point] */
                weights_to_points(load(from + i * BLOCK + c), load(from + (3 + i) * BLOCK + c),
                                  load(from + (6 + i) * BLOCK + c), t + i * SIDE);
            for (long i = 0; i < SIDE; i++) {
                vec u[SIDE];
                weights_to_points(t[i], t[SIDE + i], t[2 * SIDE + i], u);
                for (long j = 0; j < SIDE; j++)
                    store(there + (i * SIDE + j) * WEIGHTS, u[j]);
            }
        }
}

/* c [ROWS, PANEL of BLOCK] += a [ROWS, depth of DEPTH] b [depth, PANEL]; c is zero if `first`. */
INLINE void product(const float *a, const float *b, float *c, long depth, int first) {
    vec sum[ROWS][PARTS] = {};
    if (!first)
        for (long row = 0; row < ROWS; row++)
            for (long own = 0; own < PARTS; own++)
                sum[row][own] = load(c + row * BLOCK + own * LANES);
    for (long k = 0; k < depth; k++)
        for (long row = 0; row < ROWS; row++)
            for (long own = 0; own < PARTS; own++)
                sum[row][own] += a[row * DEPTH + k] * load(b + k * PANEL + own * LANES);
    for (long row = 0; row < ROWS; row++)
        for (long own = 0; own < PARTS; own++)
            store(c + row * BLOCK + own * LANES, sum[row][own]);
}

static void products(const float *pixels, long pixels_apart, const float *weights, float *sums,
                     long sums_apart, long rows, long depth, int first) {
    for (long i = 0; i < PLACES; i++)
        for (long row = 0; row < rows; row += ROWS)
            for (long panel = 0; panel < BLOCK; panel += PANEL)
                product(pixels + i * pixels_apart + row * DEPTH,
                        weights + i * WEIGHTS + panel * depth,
                        sums + i * sums_apart + row * BLOCK + panel, depth, first);
}

/* How many floats `winograd` needs as room, for so many tiles at once. */
long winograd_room(long inputs, long tiles, int threads) {
    long pixels = (inputs + DEPTH - 1) / DEPTH * PLACES * (tiles * DEPTH + APART);
    return inputs + pixels + threads * PLACES * (WEIGHTS + least(tiles, PART) * BLOCK + APART);
}

/* Tiles at once: `most` or fewer, in equal parts, rows of whole small products. */
long winograd_tiles(long images, long height, long width, long most) {
    long all = images * ((height + STEP - 1) / STEP) * ((width + STEP - 1) / STEP);
    long turns = (all + most - 1) / most, each = (all + turns - 1) / turns;
    return (each + ROWS - 1) / ROWS * ROWS;
}

/* y = conv(x, weight) + bias + add: x [images, height, width, inputs], weight [outputs / BLOCK,
   inputs, 3, 3, BLOCK], bias [outputs] or null, add like y [images, height, width, outputs] or
   null; inputs are whole LANES, outputs whole BLOCKs. */
void winograd(const float *x, const float *weight, const float *bias, const float *add, float *y,
              float *room, long images, long height, long width, long inputs, long outputs,
              long tiles, int threads) {
    long across = (width + STEP - 1) / STEP, each = across * ((height + STEP - 1) / STEP);
    Image own = {x, bias, add, y, height, width, inputs, outputs, across, each};
    long pixels_apart = tiles * DEPTH + APART, sums_apart = least(tiles, PART) * BLOCK + APART;
    long depths = (inputs + DEPTH - 1) / DEPTH, blocks = outputs / BLOCK;
    float *zeros = room, *pixels = zeros + inputs;
    float *rest = pixels + depths * PLACES * pixels_apart;
    __builtin_memset(zeros, 0, inputs * sizeof *zeros);
    for (long start = 0; start < images * each; start += tiles) {
        long count = least(tiles, images * each - start), rows = (count + ROWS - 1) / ROWS * ROWS;
        long few = (threads + blocks - 1) / blocks, many = (rows + PART - 1) / PART;
        long parts = few > many ? few : many, part = (rows / ROWS + parts - 1) / parts * ROWS;
#pragma omp parallel num_threads(threads)
        {
#pragma omp for schedule(static)
            for (long row = 0; row < rows; row++) /* the last ones are there again: not looked at */
                tile_in(&own, start + least(row, count - 1), pixels + row * DEPTH, pixels_apart,
                        zeros);
#pragma omp for schedule(dynamic)
            for (long work = 0; work < blocks * parts; work++) {
                long block = work / parts, from = work % parts * part;
                long to = least(rows, from + part);
                float *weights = rest + omp_get_thread_num() * PLACES * (WEIGHTS + sums_apart);
                float *sums = weights + PLACES * WEIGHTS;
                for (long k = 0; k < inputs && from < to; k += DEPTH) {
                    long depth = least(DEPTH, inputs - k);
                    weights_in(weight + (block * inputs + k) * 9 * BLOCK, depth, weights);
                    products(pixels + k / DEPTH * PLACES * pixels_apart + from * DEPTH,
                             pixels_apart, weights, sums, sums_apart, to - from, depth, k == 0);
                }
                for (long row = from; row < least(to, count); row++)
                    tile_out(&own, start + row, sums + (row - from) * BLOCK, sums_apart,
                             block * BLOCK);
            }
        }
    }
}
