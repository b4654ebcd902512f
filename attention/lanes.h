/* Vectors of GNU C, sixteen numbers: loaded from and stored to float32 or bfloat16 (`bf16` says
   which). Arithmetic is float32. The same on every processor; only rounding to bfloat16 has an
   instruction of its own where there is one. */

#include <stdint.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))

enum { LANES = 16 };

typedef float vec __attribute__((vector_size(64)));
typedef int32_t ints __attribute__((vector_size(64)));
typedef uint32_t bits __attribute__((vector_size(64)));
typedef uint16_t halves __attribute__((vector_size(32)));

INLINE vec all(float x) { return (vec){} + x; }

INLINE vec choose(ints where, vec yes, vec no) {
    return (vec)((where & (ints)yes) | (~where & (ints)no));
}

INLINE vec widen(halves x) { return (vec)(__builtin_convertvector(x, bits) << 16); }

/* To the nearest, ties to even; what is not a number stays none. */
INLINE halves narrow(vec x) {
#ifdef __AVX512BF16__
    return (halves)_mm512_cvtneps_pbh((__m512)x);
#else
    bits raw = (bits)x, even = (raw >> 16) & 1;
    bits quiet = (bits)(x != x);
    bits rounded = (raw + 0x7fffu + even) >> 16;
    return __builtin_convertvector((quiet & 0x7fc0u) | (~quiet & rounded), halves);
#endif
}

/* `count` numbers from place `at`; lanes beyond them are zero. */
INLINE vec load(const void *from, long at, long count, int bf16) {
    if (bf16) {
        halves x = {};
        const uint16_t *own = (const uint16_t *)from + at;
        if (count >= LANES)
            memcpy(&x, own, sizeof x);
        else
            memcpy(&x, own, count * sizeof *own);
        return widen(x);
    }
    vec x = {};
    const float *own = (const float *)from + at;
    if (count >= LANES)
        memcpy(&x, own, sizeof x);
    else
        memcpy(&x, own, count * sizeof *own);
    return x;
}

INLINE void store(void *to, long at, long count, int bf16, vec x) {
    if (bf16) {
        halves small = narrow(x);
        uint16_t *own = (uint16_t *)to + at;
        if (count >= LANES)
            memcpy(own, &small, sizeof small);
        else
            memcpy(own, &small, count * sizeof *own);
        return;
    }
    float *own = (float *)to + at;
    if (count >= LANES)
        memcpy(own, &x, sizeof x);
    else
        memcpy(own, &x, count * sizeof *own);
}
