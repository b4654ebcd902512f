/* As many float32 numbers as a register holds: sixteen with AVX512, eight with AVX2.

   PS(add)(a, b) is the processor's own instruction; what only one of the two has is a function. */

#ifndef DECODER_LANES_H
#define DECODER_LANES_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define ALWAYS static inline __attribute__((always_inline))

#ifdef __AVX512F__
enum { LANES = 16 };
typedef __m512 vec;
#define PS(name) _mm512_##name##_ps

/* The first `count` lanes. */
static inline __mmask16 first_lanes(int64_t count) {
    return count >= LANES ? (__mmask16)0xffff : (__mmask16)((1u << count) - 1);
}

/* The first `count` numbers that lie there, and zeros. */
static inline vec load_first(const float *from, int64_t count) {
    return _mm512_maskz_loadu_ps(first_lanes(count), from);
}

static inline void store_first(float *to, vec x, int64_t count) {
    _mm512_mask_storeu_ps(to, first_lanes(count), x);
}

static inline vec keep_first(vec x, int64_t count) {
    return _mm512_maskz_mov_ps(first_lanes(count), x);
}

static inline float sum_of(vec x) { return _mm512_reduce_add_ps(x); }
static inline float most_of(vec x) { return _mm512_reduce_max_ps(x); }
static inline float first_of(vec x) { return _mm512_cvtss_f32(x); }
static inline vec size_of(vec x) { return _mm512_abs_ps(x); }
static inline vec nearest(vec x) { return _mm512_roundscale_ps(x, 8); }
static inline vec doubled(vec x, vec times) { return _mm512_scalef_ps(x, times); }

static inline vec load_int8(const int8_t *from) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)from)));
}

static inline void store_int8(int8_t *to, vec x) {
    _mm_storeu_si128((__m128i *)to, _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(x)));
}

static inline vec load_bfloat16(const uint16_t *from) {
    const __m256i half = _mm256_loadu_si256((const __m256i *)from);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

/* Round to nearest, ties to even; what is no number stays none. */
static inline void store_bfloat16(uint16_t *to, vec x) {
#ifdef __AVX512BF16__
    const __m256i narrow = (__m256i)_mm512_cvtneps_pbh(x);
#else
    __m512i bits = _mm512_castps_si512(x);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    rounded = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
    const __m256i narrow = _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
#endif
    _mm256_storeu_si256((__m256i *)to, narrow);
}

/* Sums of so many vectors as lanes, in their order. */
static inline vec sum_each(const vec v[LANES]) {
    vec pairs[8], fours[4], halves[2];
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

#else
enum { LANES = 8 };
typedef __m256 vec;
#define PS(name) _mm256_##name##_ps

static inline __m256i first_lanes(int64_t count) {
    static const int32_t lanes[2 * LANES] = {-1, -1, -1, -1, -1, -1, -1, -1};
    return _mm256_loadu_si256((const __m256i *)(lanes + LANES - count));
}

static inline vec load_first(const float *from, int64_t count) {
    return count >= LANES ? _mm256_loadu_ps(from) : _mm256_maskload_ps(from, first_lanes(count));
}

static inline void store_first(float *to, vec x, int64_t count) {
    if (count >= LANES)
        _mm256_storeu_ps(to, x);
    else
        _mm256_maskstore_ps(to, first_lanes(count), x);
}

static inline vec keep_first(vec x, int64_t count) {
    return count >= LANES ? x : _mm256_and_ps(x, _mm256_castsi256_ps(first_lanes(count)));
}

static inline float first_of(vec x) { return _mm256_cvtss_f32(x); }

static inline float sum_of(vec x) {
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

static inline float most_of(vec x) {
    __m128 half = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
}

static inline vec size_of(vec x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x); }
static inline vec nearest(vec x) { return _mm256_round_ps(x, 8); }

/* x times 2^times, a whole number up to 127; under -126 it is zero, as numbers so small are here. */
static inline vec doubled(vec x, vec times) {
    const __m256i power = _mm256_cvtps_epi32(_mm256_max_ps(_mm256_set1_ps(-127.0f), times));
    const __m256i bits = _mm256_slli_epi32(_mm256_add_epi32(power, _mm256_set1_epi32(127)), 23);
    return _mm256_mul_ps(x, _mm256_castsi256_ps(bits));
}

static inline vec load_int8(const int8_t *from) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)from)));
}

static inline void store_int8(int8_t *to, vec x) {
    const __m256i wide = _mm256_cvtps_epi32(x);
    const __m128i half =
        _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
    _mm_storel_epi64((__m128i *)to, _mm_packs_epi16(half, half));
}

static inline vec load_bfloat16(const uint16_t *from) {
    const __m128i half = _mm_loadu_si128((const __m128i *)from);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}

static inline void store_bfloat16(uint16_t *to, vec x) {
    const __m256i bits = _mm256_castps_si256(x), high = _mm256_srli_epi32(bits, 16);
    const __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
    __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    rounded = _mm256_srli_epi32(rounded, 16);
    const __m256i quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    rounded = _mm256_blendv_epi8(rounded, quiet, nan);
    _mm_storeu_si128((__m128i *)to, _mm_packus_epi32(_mm256_castsi256_si128(rounded),
                                                     _mm256_extracti128_si256(rounded, 1)));
}

static inline vec sum_each(const vec v[LANES]) {
    vec fours[2];
    for (int i = 0; i < 2; i++)
        fours[i] = _mm256_hadd_ps(_mm256_hadd_ps(v[4 * i], v[4 * i + 1]),
                                  _mm256_hadd_ps(v[4 * i + 2], v[4 * i + 3]));
    return _mm256_add_ps(_mm256_permute2f128_ps(fours[0], fours[1], 0x20),
                         _mm256_permute2f128_ps(fours[0], fours[1], 0x31));
}
#endif

#endif
