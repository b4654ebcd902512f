/* Numbers to 8 bits and back, beside products of 8 bits: what torch's own operators take longer for
   than the product saves.

   Tensors lie densely, [rows, width] or [images, count]; they are float32 or bfloat16 (`bf16` says
   which), arithmetic is float32. A row is rounded in one go, while it lies in the nearest cache.
   What holds a number that is none, or an infinite one, gets a scale that is no number: so does all
   that is computed from it, as it would without rounding. Vectors of GNU C, sixteen numbers. */

#include "lanes.h"

typedef int8_t bytes __attribute__((vector_size(16)));

static const float MAGIC = 12582912.0f; /* 1.5 * 2^23: added, the nearest whole is the last bits */
static const int32_t MAGIC_BITS = 0x4b400000, INFINITE = 0x7f800000;

INLINE vec lower(vec a, vec b) { /* b where a is none */
#ifdef __AVX512F__
    return (vec)_mm512_min_ps((__m512)a, (__m512)b);
#else
    return choose(a < b, a, b);
#endif
}

INLINE ints greater(ints a, ints b) {
#ifdef __AVX512F__
    return (ints)_mm512_max_epi32((__m512i)a, (__m512i)b);
#else
    return ((a > b) & a) | (~(a > b) & b);
#endif
}

INLINE ints byte(ints x) { /* within 0 and 255 */
    x = greater(x, (ints){});
    return -greater(-x, (ints){} - 255);
}

INLINE void store_bytes(void *to, long at, long count, ints x) {
    bytes small = __builtin_convertvector(x, bytes);
    if (count >= LANES)
        memcpy((int8_t *)to + at, &small, sizeof small);
    else
        memcpy((int8_t *)to + at, &small, count);
}

static inline long least(long a, long b) { return a < b ? a : b; }

/* Bits of absolute numbers compare as the numbers do, and the infinite and none above all. */
INLINE int32_t largest_bits(ints x) {
    int32_t most = 0;
    for (int i = 0; i < LANES; i++)
        most = x[i] > most ? x[i] : most;
    return most;
}

INLINE void round_row(const void *x, uint8_t *y, float *scale, long row, long width, int bf16) {
    long at = row * width;
    ints most = {};
    for (long c = 0; c < width; c += LANES) {
        ints own = (ints)load(x, at + c, width - c, bf16) & 0x7fffffff;
        most = greater(own, most);
    }
    int32_t top = largest_bits(most);
    float greatest;
    memcpy(&greatest, &top, sizeof top);
    float step = greatest / 127, inverse = step >= 1e-36f ? 1 / step : 0;
    if (top >= INFINITE) {
        step = __builtin_nanf("");
        inverse = 0;
    }
    scale[row] = step;
    for (long c = 0; c < width; c += LANES) {
        vec v = load(x, at + c, width - c, bf16);
        v = top >= INFINITE ? all(0) : v;
        store_bytes(y, at + c, width - c, (ints)(v * inverse + (128 + MAGIC)) - MAGIC_BITS);
    }
}

/* Each row by its own greatest number: x [rows, width], y [rows, width] in 1 to 255, where
   128 is zero; scale [rows]. */
void round_rows(const void *x, uint8_t *y, float *scale, long rows, long width, int bf16,
                int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long row = 0; row < rows; row++)
        if (bf16)
            round_row(x, y, scale, row, width, 1);
        else
            round_row(x, y, scale, row, width, 0);
}

INLINE void scale_row(void *y, float scale, const float *bias, long row, long width, int bf16) {
    for (long c = 0; c < width; c += LANES) {
        long count = width - c, at = row * width + c;
        vec v = load(y, at, count, bf16) * scale;
        store(y, at, count, bf16, bias ? v + load(bias, c, count, 0) : v);
    }
}

/* y * scale + bias, in its place: y [rows, width], scale [rows], bias [width] or null. */
void scale_rows(void *y, const float *scale, const float *bias, long rows, long width, int bf16,
                int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long row = 0; row < rows; row++)
        if (bf16)
            scale_row(y, scale[row], bias, row, width, 1);
        else
            scale_row(y, scale[row], bias, row, width, 0);
}

typedef struct {
    vec low, high;
    ints top;
} Range;

INLINE Range range_of(const void *x, long at, long count, int bf16) {
    Range r = {};
    for (long i = 0; i < count; i += LANES) {
        vec v = load(x, at + i, count - i, bf16);
        ints own = (ints)v & 0x7fffffff;
        r.low = lower(v, r.low);
        r.high = -lower(-v, -r.high);
        r.top = greater(own, r.top);
    }
    return r;
}

/* low, high and, above all numbers, what is none: of one part of an image. */
INLINE void part_range(const void *x, long at, long count, int bf16, float *found) {
    Range r = bf16 ? range_of(x, at, count, 1) : range_of(x, at, count, 0);
    found[0] = found[1] = 0;
    for (int i = 0; i < LANES; i++) {
        found[0] = r.low[i] < found[0] ? r.low[i] : found[0];
        found[1] = r.high[i] > found[1] ? r.high[i] : found[1];
    }
    found[2] = largest_bits(r.top) >= INFINITE;
}

INLINE void round_part(const void *x, uint8_t *y, long at, long count, float inverse, float zero,
                       int bf16) {
    for (long i = 0; i < count; i += LANES) {
        vec v = load(x, at + i, count - i, bf16) * inverse + (zero + MAGIC);
        store_bytes(y, at + i, count - i, byte((ints)v - MAGIC_BITS));
    }
}

/* Each image by its own least and greatest number: x [images, count], y [images, count] in 0 to
   255, scale and zero [images], room [images, threads, 3]. Zero itself is met exactly. */
void round_images(const void *x, uint8_t *y, float *scale, float *zero, float *room, long images,
                  long count, int bf16, int threads) {
    long part = (count + threads - 1) / threads;
    part = (part + LANES - 1) / LANES * LANES;
#pragma omp parallel num_threads(threads)
    {
#pragma omp for collapse(2) schedule(static)
        for (long image = 0; image < images; image++)
            for (long own = 0; own < threads; own++) {
                long start = least(count, own * part), size = least(count - start, part);
                part_range(x, image * count + start, size, bf16,
                           room + (image * threads + own) * 3);
            }
#pragma omp single
        for (long image = 0; image < images; image++) {
            float low = 0, high = 0, none = 0, *own = room + image * threads * 3;
            for (int i = 0; i < threads; i++, own += 3) {
                low = own[0] < low ? own[0] : low;
                high = own[1] > high ? own[1] : high;
                none += own[2];
            }
            float step = (high - low) / 255;
            scale[image] = none ? __builtin_nanf("") : step >= 1e-36f ? step : 1;
            zero[image] = none ? 0 : __builtin_rintf(-low / scale[image]);
        }
#pragma omp for collapse(2) schedule(static)
        for (long image = 0; image < images; image++)
            for (long own = 0; own < threads; own++) {
                long start = least(count, own * part), size = least(count - start, part);
                float inverse = 1 / scale[image];
                if (bf16)
                    round_part(x, y, image * count + start, size, inverse, zero[image], 1);
                else
                    round_part(x, y, image * count + start, size, inverse, zero[image], 0);
            }
    }
}
