/* Numbers of three kinds as vectors of float32, exp, and meetings. */

#ifndef DECODER_VECTOR_H
#define DECODER_VECTOR_H

#include <sched.h>
#include <stdatomic.h>

#include "decoder_lanes.h"

enum { FLOAT32 = 0, BFLOAT16 = 1, INT8 = 2 };
enum { SPINS = 4096 };

static const int64_t WIDTHS[] = {4, 2, 1};

/* Numbers of a kind that lie at element `at`. */
static inline vec load_all(const void *base, int64_t at, int kind) {
    if (kind == FLOAT32) return PS(loadu)((const float *)base + at);
    if (kind == BFLOAT16) return load_bfloat16((const uint16_t *)base + at);
    return load_int8((const int8_t *)base + at);
}

/* The first `count` of them, and zeros; float32 or bfloat16. */
static inline vec load_some(const void *base, int64_t at, int kind, int64_t count) {
    if (count >= LANES) return load_all(base, at, kind);
    if (kind == FLOAT32) return load_first((const float *)base + at, count);
    uint16_t some[LANES] = {0};
    memcpy(some, (const uint16_t *)base + at, 2 * count);
    return load_bfloat16(some);
}

/* Put the first `count` numbers there; float32 or bfloat16. */
static inline void store_some(void *base, int64_t at, int kind, vec x, int64_t count) {
    if (kind == FLOAT32) {
        store_first((float *)base + at, x, count);
        return;
    }
    if (count >= LANES) {
        store_bfloat16((uint16_t *)base + at, x);
        return;
    }
    uint16_t some[LANES];
    store_bfloat16(some, x);
    memcpy((uint16_t *)base + at, some, 2 * count);
}

/* e^x to about 1e-7 of itself: 2^whole times a polynomial of what is left, as in Cephes. */
static inline vec exp_of(vec x) {
    /* x comes second: what is no number stays so */
    x = PS(max)(PS(set1)(-104.0f), PS(min)(PS(set1)(88.0f), x));
    vec whole = nearest(PS(mul)(x, PS(set1)(1.44269504f)));
    vec left = PS(fnmadd)(whole, PS(set1)(0.693359375f), x);
    left = PS(fnmadd)(whole, PS(set1)(-2.12194440e-4f), left);
    vec sum = PS(set1)(1.9875691500e-4f);
    sum = PS(fmadd)(sum, left, PS(set1)(1.3981999507e-3f));
    sum = PS(fmadd)(sum, left, PS(set1)(8.3334519073e-3f));
    sum = PS(fmadd)(sum, left, PS(set1)(4.1665795894e-2f));
    sum = PS(fmadd)(sum, left, PS(set1)(1.6666665459e-1f));
    sum = PS(fmadd)(sum, left, PS(set1)(5.0000001201e-1f));
    sum = PS(fmadd)(sum, PS(mul)(left, left), left);
    sum = PS(add)(sum, PS(set1)(1.0f));
    return doubled(sum, whole);
}

/* x / (1 + e^-x) */
static inline vec silu_of(vec x) {
    vec one = PS(set1)(1.0f);
    vec minus = PS(sub)(PS(setzero)(), x);
    return PS(div)(x, PS(add)(one, exp_of(minus)));
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
