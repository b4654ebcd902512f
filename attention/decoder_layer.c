/* Decoder layers for few tokens, as many as stand behind each other in one call.

   Norm, queries, keys and values, rotation, attention over pages, the products behind it, and both
   residuals, by threads that meet five times a layer. Between the layer's first and last number everything
   is float32 but the inputs of products, which have the model's dtype.

   Called by decoder_layer.py, which says what the fields are. */

#include <omp.h>

#ifdef __AMX_BF16__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "decoder_product.h"
#include "decoder_share.h"

typedef struct {
    Product qkv, out, gates, down; /* gates: panels of gate and up by turns */
    Heads heads;
    const float *norm, *second_norm; /* [width] */
    float epsilon, second_epsilon;
    int64_t width; /* of the hidden state */
    int64_t dtype; /* of the hidden state, and of what products are given */
} Layer;

static inline int64_t rows_up(int64_t rows) { return (rows + TILE - 1) / TILE * TILE; }
static inline int64_t lines_up(int64_t bytes) { return (bytes + 63) / 64 * 64; }

/* -- where things lie in the room ---------------------------------------------------------------- */

typedef struct {
    float *qkv, *middle;
    char *attended, *gated;
    char *own; /* of this thread: what is normalised, then results of two panels */
    float *results;
} Room;

static int64_t own_bytes(const Layer *layer, int64_t rows) {
    return lines_up(rows * layer->qkv.inputs * WIDTHS[layer->dtype]) + 2 * rows * PANEL * 4;
}

/* What a layer needs for so many tokens, and where it is; `base` may be null. */
static int64_t share_out(const Layer *layer, int64_t tokens, int threads, int me, char *base,
                         Room *room) {
    const int64_t rows = rows_up(tokens), bytes = WIDTHS[layer->dtype];
    int64_t at = 0;
    room->qkv = (float *)(base + at), at += lines_up(rows * layer->qkv.outputs * 4);
    room->middle = (float *)(base + at), at += lines_up(rows * layer->out.outputs * 4);
    room->attended = base + at, at += lines_up(rows * layer->out.inputs * bytes);
    room->gated = base + at, at += lines_up(rows * layer->down.inputs * bytes);
    const int64_t own = own_bytes(layer, rows);
    room->own = base + at + me * own;
    room->results = (float *)(room->own + own - 2 * rows * PANEL * 4);
    return at + threads * own;
}

int64_t decoder_layer_room(const Layer *layer, int64_t tokens, int64_t threads) {
    Room room;
    return share_out(layer, tokens, (int)threads, 0, (char *)0, &room);
}

/* -- parts of a layer ---------------------------------------------------------------------------- */

/* to [tokens][inputs]: RMS norm (Zhang and Sennrich, arXiv:1910.07467) of x [tokens][stride]. */
static void normalise(const void *x, int kind, int64_t stride, int64_t tokens, int64_t width,
                      const float *weight, float epsilon, void *to, int64_t inputs, int given) {
    for (int64_t t = 0; t < tokens; t++) {
        vec squares = PS(setzero)();
        for (int64_t i = 0; i < width; i += LANES) {
            const vec own = load_some(x, t * stride + i, kind, width - i);
            squares = PS(fmadd)(own, own, squares);
        }
        const float mean = sum_of(squares) / (float)width;
        const vec factor = PS(set1)(1.0f / sqrtf(mean + epsilon));
        for (int64_t i = 0; i < width; i += LANES) {
            const vec own = PS(mul)(load_some(x, t * stride + i, kind, width - i), factor);
            const vec scale = load_some(weight, i, FLOAT32, width - i);
            store_some(to, t * inputs + i, given, PS(mul)(own, scale), LANES);
        }
        for (int64_t i = (width + LANES - 1) / LANES * LANES; i < inputs; i += LANES)
            store_some(to, t * inputs + i, given, PS(setzero)(), LANES);
    }
}

/* The panels of a thread: [first, last). */
static void panels_of(int64_t panels, int me, int threads, int64_t *first, int64_t *last) {
    *first = panels * me / threads;
    *last = panels * (me + 1) / threads;
}

static void project(const Product *own, const void *x, int64_t tokens, float *to, float *results,
                    int me, int threads) {
    int64_t panel, last;
    for (panels_of(own->outputs / PANEL, me, threads, &panel, &last); panel < last; panel++) {
        panel_product(own, panel, x, own->inputs, tokens, results);
        for (int64_t t = 0; t < tokens; t++)
            memcpy(to + t * own->outputs + panel * PANEL, results + t * PANEL, PANEL * sizeof(float));
    }
}

/* to = base + product; either may have its own kind and stride. */
static void project_onto(const Product *own, const void *x, int64_t tokens, const void *base,
                         int base_kind, int64_t base_stride, void *to, int kind, int64_t stride,
                         int64_t width, float *results, int me, int threads) {
    int64_t panel, last;
    for (panels_of(own->outputs / PANEL, me, threads, &panel, &last); panel < last; panel++) {
        panel_product(own, panel, x, own->inputs, tokens, results);
        for (int64_t t = 0; t < tokens; t++)
            for (int64_t i = panel * PANEL; i < panel * PANEL + PANEL && i < width; i += LANES) {
                const int64_t some = width - i;
                const vec sum = PS(add)(
                    load_some(base, t * base_stride + i, base_kind, some),
                    PS(loadu)(results + t * PANEL + i - panel * PANEL));
                store_some(to, t * stride + i, kind, sum, some);
            }
    }
}

/* to = silu(gate) * up (Shazeer, arXiv:2002.05202) */
static void project_gated(const Product *own, const void *x, int64_t tokens, void *to, int kind,
                          int64_t stride, float *results, int me, int threads) {
    const int64_t rows = rows_up(tokens);
    float *ups = results + rows * PANEL;
    int64_t pair, last;
    for (panels_of(own->outputs / PANEL / 2, me, threads, &pair, &last); pair < last; pair++) {
        panel_product(own, 2 * pair, x, own->inputs, tokens, results);
        panel_product(own, 2 * pair + 1, x, own->inputs, tokens, ups);
        for (int64_t t = 0; t < tokens; t++)
            for (int i = 0; i < PANEL; i += LANES) {
                const vec gate = silu_of(PS(loadu)(results + t * PANEL + i));
                const vec both = PS(mul)(gate, PS(loadu)(ups + t * PANEL + i));
                store_some(to, t * stride + pair * PANEL + i, kind, both, LANES);
            }
    }
}

/* Numbers too small for float32's usual form take a hundred times as long; here they are zeros. */
static unsigned begin(void) {
    const unsigned before = _mm_getcsr();
    _mm_setcsr(before | 0x8040);
#ifdef __AMX_BF16__
    tiles_begin();
#endif
    return before;
}

static void end(unsigned before) {
#ifdef __AMX_BF16__
    tiles_end();
#endif
    _mm_setcsr(before);
}

/* -- what is called ------------------------------------------------------------------------------ */

/* Whether the processor and the system let this process use what the file was built for. */
int decoder_permitted(void) {
#ifndef __AVX512F__
    if (!__builtin_cpu_supports("fma")) return 0;
#endif
#ifdef __AVX512VBMI__
    if (!__builtin_cpu_supports("avx512vbmi")) return 0;
#endif
#ifdef __AMX_BF16__
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
#else
    return 1;
#endif
}

/* One layer, by one of the threads. */
static void run_layer(const Layer *layer, const Step *step, const Pages *pages, const void *hidden,
                      void *out, Meeting *place, int me, int crew) {
    const int64_t tokens = step->tokens, width = layer->width;
    const int kind = (int)layer->dtype;
    Room room;
    share_out(layer, tokens, crew, me, step->room, &room);
    normalise(hidden, kind, width, tokens, width, layer->norm, layer->epsilon, room.own,
              layer->qkv.inputs, kind);
    project(&layer->qkv, room.own, tokens, room.qkv, room.results, me, crew);
    meet(place, crew);
    if (write_share(&layer->heads, step, pages, room.qkv, layer->qkv.outputs, kind, me, crew))
        meet(place, crew);
    attend_share(&layer->heads, step, pages, room.qkv, layer->qkv.outputs, room.attended,
                 layer->out.inputs, kind, me, crew);
    meet(place, crew);
    project_onto(&layer->out, room.attended, tokens, hidden, kind, width, room.middle, FLOAT32,
                 layer->out.outputs, width, room.results, me, crew);
    meet(place, crew);
    normalise(room.middle, FLOAT32, layer->out.outputs, tokens, width, layer->second_norm,
              layer->second_epsilon, room.own, layer->qkv.inputs, kind);
    project_gated(&layer->gates, room.own, tokens, room.gated, kind, layer->down.inputs,
                  room.results, me, crew);
    meet(place, crew);
    project_onto(&layer->down, room.gated, tokens, room.middle, FLOAT32, layer->out.outputs, out,
                 kind, width, width, room.results, me, crew);
}

/* Layers behind each other: out [count][tokens][width], what each gives, of hidden [tokens][width];
   keys and values go into the pages of each. */
void decoder_layers(const Layer *const *layers, int64_t count, const Step *step,
                    const Pages *const *pages, const void *hidden, char *out) {
    const int64_t bytes = step->tokens * layers[0]->width * WIDTHS[layers[0]->dtype];
    Meeting place = {0, 0};
#pragma omp parallel num_threads((int)step->threads)
    {
        const int me = omp_get_thread_num(), crew = omp_get_num_threads();
        const unsigned before = begin();
        for (int64_t i = 0; i < count; i++) {
            const void *given = i ? out + (i - 1) * bytes : hidden;
            run_layer(layers[i], step, pages[i], given, out + i * bytes, &place, me, crew);
            meet(&place, crew);
        }
        end(before);
    }
}

/* out [rows][outputs] = x [rows][inputs] W^T, both of the dtype that the product is given; x has
   its own `inputs` and is copied into the room: rows up to a multiple of 16, and their results. */
void decoder_product(const Product *own, const void *x, int64_t rows, int64_t inputs, void *out,
                     int64_t outputs, int64_t threads, void *room) {
    const int kind = (int)own->given;
    const int64_t bytes = WIDTHS[kind], padded = rows_up(rows);
    for (int64_t r = 0; r < rows; r++) {
        char *to = (char *)room + r * own->inputs * bytes;
        memcpy(to, (const char *)x + r * inputs * bytes, inputs * bytes);
        memset(to + inputs * bytes, 0, (own->inputs - inputs) * bytes);
    }
    float *results = (float *)((char *)room + lines_up(padded * own->inputs * bytes));
#pragma omp parallel num_threads((int)threads)
    {
        const int me = omp_get_thread_num(), crew = omp_get_num_threads();
        float *mine = results + me * padded * PANEL;
        int64_t panel, last;
        const unsigned before = begin();
        for (panels_of(own->outputs / PANEL, me, crew, &panel, &last); panel < last; panel++) {
            panel_product(own, panel, room, own->inputs, rows, mine);
            for (int64_t r = 0; r < rows; r++)
                for (int64_t i = panel * PANEL; i < panel * PANEL + PANEL && i < outputs; i += LANES)
                    store_some(out, r * outputs + i, kind,
                               PS(loadu)(mine + r * PANEL + i - panel * PANEL), outputs - i);
        }
        end(before);
    }
}

int64_t decoder_product_room(const Product *own, int64_t rows, int64_t threads) {
    const int64_t padded = rows_up(rows);
    return lines_up(padded * own->inputs * WIDTHS[own->given]) + threads * padded * PANEL * 4;
}
