/* What stands beside attention in a denoiser or an autoencoder, in one pass each over its numbers.

   Tensors lie densely, channels last: [rows, width]. They are float32 or bfloat16 (`bf16` says
   which); all arithmetic is float32, sums of whole images are double. Written with the vectors of
   GNU C, sixteen numbers at a time, so that it is the same on every processor; only rounding to
   bfloat16, reciprocals and powers have instructions of their own where there are such. Where the
   result is rounded to bfloat16 (to 2e-3), powers and reciprocals are computed to 1e-4. */

#include <math.h>

#include "lanes.h"

enum { PARTS = 4, RUN = 256 };
enum { NOTHING, SILU, GELU, GELU_TANH }; /* cpu_fused_kernels.py says the same numbers */

INLINE vec absolute(vec x) { return (vec)((bits)x & 0x7fffffffu); }

INLINE float total(vec x) {
    float sum = 0;
    for (int i = 0; i < LANES; i++)
        sum += x[i];
    return sum;
}

/* 2^t: a polynomial of the part after the point, minimax on [0, 1), to 1e-7 or 1e-4. */
INLINE vec power(vec t, int rough) {
#ifdef __AVX512DQ__
    vec r = (vec)_mm512_reduce_ps((__m512)t, 9); /* t - floor(t) */
#else
    t = choose(t < -126.0f, all(-126.0f), t);
    t = choose(t > 126.0f, all(126.0f), t);
    ints n = __builtin_convertvector(t, ints);
    n += t < __builtin_convertvector(n, vec); /* a comparison gives -1 */
    vec r = t - __builtin_convertvector(n, vec);
#endif
    vec p;
    if (rough)
        p = ((7.80245168e-2f * r + 2.26067164e-1f) * r + 6.95833538e-1f) * r + 9.99925219e-1f;
    else {
        p = (1.87757661e-3f * r + 8.98934025e-3f) * r + 5.58263179e-2f;
        p = ((p * r + 2.40153617e-1f) * r + 6.93153073e-1f) * r + 9.99999925e-1f;
    }
#ifdef __AVX512DQ__
    return (vec)_mm512_scalef_ps((__m512)p, (__m512)t);
#else
    return (vec)((ints)p + (n << 23));
#endif
}

/* 1 / x for 1 <= x <= 2^127, to 1e-7 or 1e-4; a division takes several times as long. */
INLINE vec reciprocal(vec x, int rough) {
#ifdef __AVX512DQ__
    vec near = (vec)_mm512_rcp14_ps((__m512)x);
    return rough ? near : near * (2.0f - x * near);
#else
    return 1.0f / x;
#endif
}

INLINE vec sigmoid(vec x, int rough) {
    vec t = x * -1.44269504f;
    t = choose(t > 126.0f, all(126.0f), t);
    return reciprocal(1.0f + power(t, rough), rough);
}

/* x times the normal distribution up to x (arXiv:1606.08415). The tail beyond |x| is a polynomial
   of t = 1 / (1 + p |x|) times e^(-x^2 / 2): Abramowitz and Stegun, 7.1.26, to 1.5e-7. */
INLINE vec gelu(vec x, int rough) {
    vec near = choose(absolute(x) < 13.0f, x, all(13.0f)); /* the tail beyond is nothing */
    vec z = absolute(near) * 0.70710678f, t = reciprocal(1.0f + 0.3275911f * z, rough);
    vec p = all(1.061405429f);
    p = p * t - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    vec tail = 0.5f * absolute(near) * p * t * power(z * z * -1.44269504f, rough);
    return choose(x < 0.0f, -tail, x - tail);
}

INLINE vec activated(vec x, int activation, int rough) {
    vec near = choose(x < -200.0f, all(-200.0f), x); /* below, sigmoid is not quite nothing */
    switch (activation) {
    case SILU:
        return near * sigmoid(x, rough);
    case GELU:
        return gelu(x, rough);
    case GELU_TANH: /* 0.5 x (1 + tanh u) is x sigmoid(2 u) */
        return near * sigmoid(1.59576912f * x * (1.0f + 0.044715f * x * x), rough);
    default:
        return x;
    }
}

static inline long least(long a, long b) { return a < b ? a : b; }

/* Of `parts` vectors of channels over the pixels of a run: sums, and sums of squares. They are of
   distances from the run's first pixel: of numbers that lie far from zero and close together,
   float squares would keep nothing of what tells them apart. */
INLINE void run_sums(const void *x, const float *add, long start, long stop, long width,
                     long first, int parts, int bf16, double *sums) {
    vec sum[PARTS] = {}, square[PARTS] = {}, base[PARTS] = {};
    long count = parts == 1 ? width - first : LANES;
    for (int own = 0; own < parts; own++)
        base[own] = load(x, start * width + first + own * LANES, count, bf16);
    for (long row = start; row < stop; row++)
        for (int own = 0; own < parts; own++) {
            vec v = load(x, row * width + first + own * LANES, count, bf16) - base[own];
            sum[own] += v;
            square[own] += v * v;
        }
    for (int own = 0; own < parts; own++)
        for (int lane = 0; lane < least(count, LANES); lane++) {
            long c = first + own * LANES + lane, pixels = stop - start;
            double near = sum[own][lane], from = base[own][lane] + (add ? (double)add[c] : 0);
            sums[c] += near + pixels * from;
            sums[width + c] += square[own][lane] + from * (2 * near + pixels * from);
        }
}

/* The sums and the sums of squares of every channel over some pixels. */
INLINE void channel_sums(const void *x, const float *add, long pixels, long width, int bf16,
                         double *sums) {
    for (long start = 0; start < pixels; start += RUN) {
        long stop = least(pixels, start + RUN), first = 0;
        for (; first + PARTS * LANES <= width; first += PARTS * LANES)
            run_sums(x, add, start, stop, width, first, PARTS, bf16, sums);
        for (; first < width; first += LANES)
            run_sums(x, add, start, stop, width, first, 1, bf16, sums);
    }
}

/* What each channel of one image is multiplied by, and what is added then. */
static void group_lines(const double *sums, const float *add, const float *weight,
                        const float *bias, long pixels, long width, long groups, float eps,
                        float *scale, float *shift) {
    long size = width / groups;
    for (long group = 0; group < groups; group++) {
        double sum = 0, square = 0, count = (double)size * pixels;
        for (long c = group * size; c < (group + 1) * size; c++) {
            sum += sums[c];
            square += sums[width + c];
        }
        double mean = sum / count, spread = square / count - mean * mean;
        double inverse = 1.0 / sqrt((spread < 0 ? 0 : spread) + eps); /* no number stays none */
        for (long c = group * size; c < (group + 1) * size; c++) {
            double gain = inverse * (weight ? weight[c] : 1.0f);
            scale[c] = gain;
            shift[c] = ((add ? add[c] : 0.0f) - mean) * gain + (bias ? bias[c] : 0.0f);
        }
    }
}

INLINE void lines(const void *x, void *y, const float *scale, const float *shift, long pixels,
                  long width, int bf16, int activation) {
    for (long row = 0; row < pixels; row++)
        for (long c = 0; c < width; c += LANES) {
            long count = width - c, at = row * width + c;
            vec v = load(x, at, count, bf16) * load(scale, c, count, 0) + load(shift, c, count, 0);
            store(y, at, count, bf16, activated(v, activation, bf16));
        }
}

/* activation(group_norm(x + add)): x, y [images, pixels, width]; add [images, width] or null;
   weight, bias [width] or null; room: doubles, threads * 2 * width + width. */
void group_norm(const void *x, void *y, const float *add, const float *weight, const float *bias,
                double *room, long images, long pixels, long width, long groups, float eps,
                int activation, int bf16, int threads) {
    long bytes = bf16 ? 2 : 4, part = (pixels + threads - 1) / threads;
    double *sums = room;
    float *scale = (float *)(room + threads * 2 * width), *shift = scale + width;
    for (long image = 0; image < images; image++) {
        const char *from = (const char *)x + image * pixels * width * bytes;
        char *to = (char *)y + image * pixels * width * bytes;
        const float *more = add ? add + image * width : 0;
        memset(sums, 0, threads * 2 * width * sizeof *sums);
#pragma omp parallel num_threads(threads)
        {
#pragma omp for schedule(static, 1)
            for (long own = 0; own < threads; own++) {
                long start = least(pixels, own * part), count = least(pixels - start, part);
                const char *there = from + start * width * bytes;
                if (bf16)
                    channel_sums(there, more, count, width, 1, sums + own * 2 * width);
                else
                    channel_sums(there, more, count, width, 0, sums + own * 2 * width);
            }
#pragma omp single
            {
                for (long own = 1; own < threads; own++)
                    for (long c = 0; c < 2 * width; c++)
                        sums[c] += sums[own * 2 * width + c];
                group_lines(sums, more, weight, bias, pixels, width, groups, eps, scale, shift);
            }
#pragma omp for schedule(static, 1)
            for (long own = 0; own < threads; own++) {
                long start = least(pixels, own * part), count = least(pixels - start, part);
                long skip = start * width * bytes;
                if (activation == SILU && bf16)
                    lines(from + skip, to + skip, scale, shift, count, width, 1, SILU);
                else if (activation == SILU)
                    lines(from + skip, to + skip, scale, shift, count, width, 0, SILU);
                else if (bf16)
                    lines(from + skip, to + skip, scale, shift, count, width, 1, NOTHING);
                else
                    lines(from + skip, to + skip, scale, shift, count, width, 0, NOTHING);
            }
        }
    }
}

/* layer_norm(x) * weight + bias: x, y [rows, width]. A weight serves `share` rows, then the next
   of its own rows follows; share 0: one serves all. Null: 1 and 0. */
void layer_norm(const void *x, void *y, const float *weight, const float *bias, long rows,
                long width, long share, float eps, int bf16, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long row = 0; row < rows; row++) {
        float near[width];
        long at = row * width, own = share ? row / share * width : 0;
        vec sum = all(0), square = all(0);
        for (long c = 0; c < width; c += LANES) {
            vec v = load(x, at + c, width - c, bf16);
            store(near, c, width - c, 0, v);
            sum += v;
        }
        float mean = total(sum) / width;
        for (long c = 0; c + LANES <= width; c += LANES) {
            vec v = load(near, c, LANES, 0) - mean;
            square += v * v;
        }
        float rest = 0;
        for (long c = width / LANES * LANES; c < width; c++)
            rest += (near[c] - mean) * (near[c] - mean);
        float inverse = 1.0f / sqrtf((total(square) + rest) / width + eps);
        for (long c = 0; c < width; c += LANES) {
            long count = width - c;
            vec v = (load(near, c, count, 0) - mean) * inverse;
            v = weight ? v * load(weight, own + c, count, 0) : v;
            v = bias ? v + load(bias, own + c, count, 0) : v;
            store(y, at + c, count, bf16, v);
        }
    }
}

INLINE void gated_row(const void *x, void *y, long row, long width, int bf16, int activation) {
    for (long c = 0; c < width; c += LANES) {
        long count = width - c, at = row * 2 * width + c;
        vec gate = activated(load(x, at + width, count, bf16), activation, bf16);
        store(y, row * width + c, count, bf16, load(x, at, count, bf16) * gate);
    }
}

/* first half * activation(second half): x [rows, 2 * width], y [rows, width]. */
void gated(const void *x, void *y, long rows, long width, int activation, int bf16, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long row = 0; row < rows; row++)
        if (activation == GELU && bf16)
            gated_row(x, y, row, width, 1, GELU);
        else if (activation == GELU)
            gated_row(x, y, row, width, 0, GELU);
        else
            gated_row(x, y, row, width, bf16, SILU);
}

/* activation(x), y may be x: `count` numbers. */
void activate(const void *x, void *y, long count, int activation, int bf16, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long at = 0; at < count; at += LANES) {
        long rest = count - at;
        if (activation == GELU_TANH && bf16)
            store(y, at, rest, 1, activated(load(x, at, rest, 1), GELU_TANH, 1));
        else
            store(y, at, rest, bf16, activated(load(x, at, rest, bf16), activation, 0));
    }
}
