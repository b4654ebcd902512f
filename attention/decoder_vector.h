/* Sixteen numbers at a time: loads and stores of float32, bfloat16 and int8, exp, and meetings. */

#ifndef DECODER_VECTOR_H
#define DECODER_VECTOR_H

#include <immintrin.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

enum { FLOAT32 = 0, BFLOAT16 = 1, INT8 = 2 };
enum { LANES = 16, SPINS = 4096 };

#define ALWAYS static inline __attribute__((always_inline))

static const int64_t WIDTHS[] = {4, 2, 1};

/* The first `count` of 16 lanes. */
static inline __mmask16 first_lanes(int64_t count) {
    return count >= LANES ? (__mmask16)0xffff : (__mmask16)((1u << count) - 1);
}

static inline __m512 widen_bfloat16(__m256i half) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

/* Round to nearest, ties to even; what is no number stays none. */
static inline __m256i narrow_bfloat16(__m512 x) {
#ifdef __AVX512BF16__
    return (__m256i)_mm512_cvtneps_pbh(x);
#else
    __m512i bits = _mm512_castps_si512(x);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    rounded = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
#endif
}

/* 16 numbers of a kind that lie at element `at`. */
static inline __m512 load16(const void *base, int64_t at, int kind) {
    if (kind == FLOAT32) return _mm512_loadu_ps((const float *)base + at);
    if (kind == BFLOAT16)
        return widen_bfloat16(_mm256_loadu_si256((const __m256i *)((const uint16_t *)base + at)));
    const __m128i *bytes = (const __m128i *)((const int8_t *)base + at);
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(bytes)));
}

/* The first `count` of them, and zeros; float32 or bfloat16. */
static inline __m512 load_some(const void *base, int64_t at, int kind, int64_t count) {
    if (count >= LANES) return load16(base, at, kind);
    if (kind == FLOAT32)
        return _mm512_maskz_loadu_ps(first_lanes(count), (const float *)base + at);
    uint16_t some[LANES] = {0};
    memcpy(some, (const uint16_t *)base + at, 2 * count);
    return widen_bfloat16(_mm256_loadu_si256((const __m256i *)some));
}

/* Put the first `count` numbers there; float32 or bfloat16. */
static inline void store_some(void *base, int64_t at, int kind, __m512 x, int64_t count) {
    if (kind == FLOAT32) {
        _mm512_mask_storeu_ps((float *)base + at, first_lanes(count), x);
        return;
    }
    __m256i narrow = narrow_bfloat16(x);
    if (count >= LANES) {
        _mm256_storeu_si256((__m256i *)((uint16_t *)base + at), narrow);
        return;
    }
    uint16_t some[LANES];
    _mm256_storeu_si256((__m256i *)some, narrow);
    memcpy((uint16_t *)base + at, some, 2 * count);
}

/* e^x to about 1e-7 of itself: 2^whole times a polynomial of what is left, as in Cephes. */
static inline __m512 exp16(__m512 x) {
    /* x comes second: what is no number stays so */
    x = _mm512_max_ps(_mm512_set1_ps(-104.0f), _mm512_min_ps(_mm512_set1_ps(88.0f), x));
    __m512 whole = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 8);
    __m512 left = _mm512_fnmadd_ps(whole, _mm512_set1_ps(0.693359375f), x);
    left = _mm512_fnmadd_ps(whole, _mm512_set1_ps(-2.12194440e-4f), left);
    __m512 sum = _mm512_set1_ps(1.9875691500e-4f);
    sum = _mm512_fmadd_ps(sum, left, _mm512_set1_ps(1.3981999507e-3f));
    sum = _mm512_fmadd_ps(sum, left, _mm512_set1_ps(8.3334519073e-3f));
    sum = _mm512_fmadd_ps(sum, left, _mm512_set1_ps(4.1665795894e-2f));
    sum = _mm512_fmadd_ps(sum, left, _mm512_set1_ps(1.6666665459e-1f));
    sum = _mm512_fmadd_ps(sum, left, _mm512_set1_ps(5.0000001201e-1f));
    sum = _mm512_fmadd_ps(sum, _mm512_mul_ps(left, left), left);
    sum = _mm512_add_ps(sum, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(sum, whole);
}

/* x / (1 + e^-x) */
static inline __m512 silu16(__m512 x) {
    __m512 one = _mm512_set1_ps(1.0f);
    __m512 minus = _mm512_sub_ps(_mm512_setzero_ps(), x);
    return _mm512_div_ps(x, _mm512_add_ps(one, exp16(minus)));
}

/* Where threads wait for each other; two meet in less than a microsecond. */
typedef struct {
    _Atomic int arrived;
    _Atomic int turn;
} Meeting;

static inline void meet(Meeting *place, int threads) {
    if (threads == 1) return;
    int turn = atomic_load_explicit(&place->turn, memory_order_acquire);
    if (atomic_fetch_add_explicit(&place->arrived, 1, memory_order_acq_rel) == threads - 1) {
        atomic_store_explicit(&place->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&place->turn, turn + 1, memory_order_release);
        return;
    }
    for (int spins = 0; atomic_load_explicit(&place->turn, memory_order_acquire) == turn; spins++) {
        if (spins < SPINS)
            _mm_pause();
        else
            sched_yield(); /* somebody else has our core */
    }
}

#endif
