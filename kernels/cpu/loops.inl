// The inner loops, compiled once for each instruction set, each time in another namespace. This file uses
// nothing of the standard library: the instruction sets would share its templates.

typedef float V4 __attribute__((vector_size(16)));
typedef float V8 __attribute__((vector_size(32)));
typedef int32_t I4 __attribute__((vector_size(16)));
typedef int32_t I8 __attribute__((vector_size(32)));

template <class Vec> struct Ints;
template <> struct Ints<V4> { typedef I4 type; };
template <> struct Ints<V8> { typedef I8 type; };

template <class Vec>
static inline Vec load(const float *from) {
    Vec v;
    __builtin_memcpy(&v, from, sizeof v);
    return v;
}

template <class Vec>
static inline void store(float *to, Vec v) { __builtin_memcpy(to, &v, sizeof v); }

template <class Vec>
static inline Vec larger(Vec a, Vec b) { return a > b ? a : b; }

#ifdef __clang__
#define PNP_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define PNP_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, I8{__VA_ARGS__})
#endif

// Adding and then subtracting 1.5 * 2^23 rounds to the nearest integer, and a half to the even one.
static const float ROUNDING = 12582912.0f;

// Computes 2^x for x <= 0, to 2 units in the last place. The result is at least 2^-64: products with weights
// are then no subnormal numbers, which slow many processors down.
template <class Vec>
static inline Vec power_of_two(Vec x) {
    typedef typename Ints<Vec>::type Int;
    x = larger(x, Vec{} - 64.0f);
    Vec n = (x + ROUNDING) - ROUNDING;
    Vec r = x - n;
    Vec p = Vec{} + 1.535336188e-4f;
    p = p * r + 1.339887440e-3f;
    p = p * r + 9.618437358e-3f;
    p = p * r + 5.550332471e-2f;
    p = p * r + 2.402264791e-1f;
    p = p * r + 6.931472029e-1f;
    p = p * r + 1.0f;
    Int bits = (__builtin_convertvector(n, Int) + 127) << 23;
    Vec power;
    __builtin_memcpy(&power, &bits, sizeof power);
    return p * power;
}

// Computes log2 of normal, positive values, to 2 units in the last place of the logarithm.
static inline V8 logarithm(V8 x) {
    I8 bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    I8 n = (bits - 0x3f3504f3) >> 23;  // then m lies between sqrt(1/2) and sqrt(2)
    bits -= n << 23;
    V8 m;
    __builtin_memcpy(&m, &bits, sizeof m);
    V8 r = m - 1.0f, square = r * r;
    V8 p = V8{} + 7.0376836292e-2f;
    p = p * r - 1.1514610310e-1f;
    p = p * r + 1.1676998740e-1f;
    p = p * r - 1.2420140846e-1f;
    p = p * r + 1.4249322787e-1f;
    p = p * r - 1.6668057665e-1f;
    p = p * r + 2.0000714765e-1f;
    p = p * r - 2.4999993993e-1f;
    p = p * r + 3.3333331174e-1f;
    return (r + (p * r * square - square * 0.5f)) * 1.44269504f + __builtin_convertvector(n, V8);
}

// Replaces probabilities by their logarithms to base 2; `count` is a multiple of BLOCK. Returns false if
// any is NaN, infinite or negative.
static bool logarithms(float *values, int64_t count) {
    I8 good = I8{} - 1;
    for (int64_t i = 0; i < count; i += BLOCK) {
        const V8 x = load<V8>(values + i);
        good &= (x >= 0.0f) & (x <= 3.402823466e38f);
        store(values + i, logarithm(larger(x, V8{} + 1.175494351e-38f)));
    }
    for (int b = 0; b < BLOCK; b++)
        if (!good[b]) return false;
    return true;
}

#ifndef __clang__
#pragma GCC push_options
#pragma GCC optimize("fp-contract=off")
#endif
// Finds the simplex that each of BLOCK points lies in (Adams, Baek and Davis 2010, section 4.2).
// Products are rounded before they are added: see `LatticeBuilder`.
//   features  [D][BLOCK], in lattice units
//   base      [D + 1][BLOCK]: coordinates of the simplex's remainder-0 vertex
//   order     [D + 1][BLOCK]: order[k] is the coordinate with the k-th largest difference to that vertex
//   weight    [D + 1][BLOCK]: barycentric weights of the simplex's vertices
template <int D>
static void locate(const float *features, int32_t *base, int32_t *order, float *weight) {
#ifdef __clang__
#pragma clang fp contract(off)
#endif
    static_assert(sizeof(V8) == BLOCK * sizeof(float), "a block is a vector");
    const float inverse = 1.0f / (D + 1);
    V8 elevated[D + 1], sum = {};
    for (int j = D; j > 0; j--) {
        const V8 feature = load<V8>(features + (j - 1) * BLOCK);
        elevated[j] = sum - float(j) * feature;
        sum += feature;
    }
    elevated[0] = sum;

    V8 rest[D + 1];
    I8 corner[D + 1], rank[D + 1], excess = {};
    for (int i = 0; i <= D; i++) {
        V8 rounded = (elevated[i] * inverse + ROUNDING) - ROUNDING;
        rest[i] = elevated[i] - rounded * float(D + 1);
        I8 whole = __builtin_convertvector(rounded, I8);
        corner[i] = whole * (D + 1);
        excess += whole;
        rank[i] = I8{};
    }
    for (int i = 0; i < D; i++)
        for (int j = i + 1; j <= D; j++) {
            I8 smaller = rest[i] < rest[j];
            rank[i] -= smaller;
            rank[j] += 1 + smaller;
        }
    for (int i = 0; i <= D; i++) {  // onto the plane where the coordinates sum to 0
        rank[i] += excess;
        I8 turn = ((rank[i] < 0) & (D + 1)) - ((rank[i] > D) & (D + 1));
        rank[i] += turn;
        corner[i] += turn;
        rest[i] = (elevated[i] - __builtin_convertvector(corner[i], V8)) * inverse;
    }

    V8 sorted[D + 1];
    for (int k = 0; k <= D; k++) {
        I8 bits = {}, which = {};
        for (int i = 0; i <= D; i++) {
            I8 here = rank[i] == k, value;
            __builtin_memcpy(&value, &rest[i], sizeof value);
            bits |= here & value;
            which |= here & i;
        }
        __builtin_memcpy(&sorted[k], &bits, sizeof bits);
        __builtin_memcpy(order + k * BLOCK, &which, sizeof which);
        __builtin_memcpy(base + k * BLOCK, &corner[k], sizeof corner[k]);
    }
    store(weight, 1.0f + sorted[D] - sorted[0]);
    for (int k = 1; k <= D; k++) store(weight + k * BLOCK, sorted[D - k] - sorted[D + 1 - k]);
}
#ifndef __clang__
#pragma GCC pop_options
#endif

static inline V8 sum(V8 a, V8 b) { return a + b; }

// Reduces each of 8 vectors across its lanes; the result has one lane for each vector.
template <class Reduce>
static inline V8 across(const V8 *x, const Reduce &reduce) {
    V8 two[4], four[2];
    for (int i = 0; i < 4; i++)
        two[i] = reduce(PNP_SHUFFLE(x[2 * i], x[2 * i + 1], 0, 8, 2, 10, 4, 12, 6, 14),
                        PNP_SHUFFLE(x[2 * i], x[2 * i + 1], 1, 9, 3, 11, 5, 13, 7, 15));
    for (int i = 0; i < 2; i++)
        four[i] = reduce(PNP_SHUFFLE(two[2 * i], two[2 * i + 1], 0, 1, 8, 9, 4, 5, 12, 13),
                         PNP_SHUFFLE(two[2 * i], two[2 * i + 1], 2, 3, 10, 11, 6, 7, 14, 15));
    return reduce(PNP_SHUFFLE(four[0], four[1], 0, 1, 2, 3, 8, 9, 10, 11),
                  PNP_SHUFFLE(four[0], four[1], 4, 5, 6, 7, 12, 13, 14, 15));
}

static inline V8 wide(V8 x) { return x; }
static inline V8 wide(V4 x) { return V8{x[0], x[1], x[2], x[3], 0, 0, 0, 0}; }

constexpr int AHEAD = 8;  // vertices between a prefetch and its use

static inline void prefetch(const float *values, int count) {
    for (int i = 0; i < count; i += 16) __builtin_prefetch(values + i);
}

// The loops for V vectors a point; V = 0 reads the number of vectors from the stride.
template <class Vec, int V>
struct Loops {
    static constexpr int LANES = sizeof(Vec) / sizeof(float);

    // Takes the softmax of BLOCK points at once: the steps of one point depend on each other, the steps of
    // several points do not.
    static inline void softmax(Vec *x, int vectors, int labels) {
        if (sizeof(Vec) == sizeof(V4)) return softmax_by_label(reinterpret_cast<float *>(x), labels);
        V8 over[BLOCK];
        for (int b = 0; b < BLOCK; b++) {
            over[b] = wide(x[b * vectors]);
            for (int i = 1; i < vectors; i++) over[b] = larger(over[b], wide(x[b * vectors + i]));
        }
        const V8 most = across(over, larger<V8>);
        for (int b = 0; b < BLOCK; b++) {
            over[b] = V8{};
            for (int i = b * vectors; i < (b + 1) * vectors; i++) {
                x[i] = power_of_two<Vec>(x[i] - most[b]);
                over[b] += wide(x[i]);
            }
        }
        const V8 scale = 1.0f / across(over, sum);
        for (int b = 0; b < BLOCK; b++)
            for (int i = b * vectors; i < (b + 1) * vectors; i++) x[i] *= scale[b];
    }

    // Takes the softmax for up to 4 labels: a vector holds one label of BLOCK points.
    static inline void softmax_by_label(float *x, int labels) {
        V8 q[4];
        for (int l = 0; l < labels; l++)
            for (int b = 0; b < BLOCK; b++) q[l][b] = x[b * 4 + l];
        V8 most = q[0], total = {};
        for (int l = 1; l < labels; l++) most = larger(most, q[l]);
        for (int l = 0; l < labels; l++) total += q[l] = power_of_two<V8>(q[l] - most);
        const V8 scale = 1.0f / total;
        for (int l = 0; l < labels; l++) {
            q[l] *= scale;
            for (int b = 0; b < BLOCK; b++) x[b * 4 + l] = q[l][b];
        }
        for (int l = labels; l < 4; l++)
            for (int b = 0; b < BLOCK; b++) x[b * 4 + l] = 0;
    }

    // Adds the message of a kernel to a point: the weighted sum over the point's vertices.
    template <int CORNERS>
    static inline void slice(const Messages &kernel, int64_t point, Vec *q, int vectors) {
        const uint32_t *offset = kernel.offset + point * CORNERS;
        const float *weight = kernel.weight + point * CORNERS;
#pragma GCC unroll 6
        for (int c = 0; c < CORNERS; c++) {
            const float *value = kernel.from + OFFSET_UNIT * int64_t(offset[c]);
            for (int i = 0; i < vectors; i++) q[i] += weight[c] * load<Vec>(value + i * LANES);
        }
    }

    // Adds a point's distribution, weighted, to the values of the point's vertices.
    template <int CORNERS>
    static inline void splat(const Messages &kernel, int64_t point, const Vec *q, int vectors) {
        const uint32_t *offset = kernel.offset + point * CORNERS;
        const float *weight = kernel.weight + point * CORNERS;
#pragma GCC unroll 6
        for (int c = 0; c < CORNERS; c++) {
            float *value = kernel.to + OFFSET_UNIT * int64_t(offset[c]);
            for (int i = 0; i < vectors; i++)
                store(value + i * LANES, load<Vec>(value + i * LANES) + weight[c] * q[i]);
        }
    }

    // Slices, takes the softmax, and splats for the points from `first` to `last`.
    static void sweep(const Sweep &job, int64_t first, int64_t last) {
        const int vectors = V ? V : job.stride / LANES;
        Vec fixed[V ? BLOCK * V : 1] = {};
        Vec *block = V ? fixed : static_cast<Vec *>(job.scratch);
        const Messages &gaussian = job.gaussian, &bilateral = job.bilateral;
        for (int64_t p = first; p < last; p += BLOCK) {
            const int count = last - p < BLOCK ? int(last - p) : BLOCK;
            float *logits = job.logits + p * vectors * LANES;
            for (int b = 0; b < count; b++) {
                Vec local[V ? V : 1], *q = V ? local : block + b * vectors;  // in registers, where V is known
                for (int i = 0; i < vectors; i++) q[i] = load<Vec>(logits + (b * vectors + i) * LANES);
                if (gaussian.from) slice<3>(gaussian, p + b, q, vectors);
                if (bilateral.from) slice<6>(bilateral, p + b, q, vectors);
                for (int i = 0; i < V; i++) block[b * V + i] = q[i];
            }
            softmax(block, vectors, job.labels);
            if (job.last)
                for (int i = 0; i < count * vectors; i++) store(logits + i * LANES, block[i]);
            for (int b = 0; b < count; b++) {
                Vec local[V ? V : 1], *q = V ? local : block + b * vectors;
                for (int i = 0; i < V; i++) q[i] = block[b * V + i];
                if (gaussian.to) splat<3>(gaussian, p + b, q, vectors);
                if (bilateral.to) splat<6>(bilateral, p + b, q, vectors);
            }
        }
    }

    // Blurs along one direction the vertices from `first` to `last`: to = from + (left + right) / 2, where
    // left and right are the values of the two neighbors.
    static void blur(const float *from, float *to, const uint32_t *neighbors, int stride,
                     int64_t first, int64_t last) {
        const int vectors = V ? V : stride / LANES;
        for (int64_t v = first; v < last; v++) {
            const uint32_t *next = neighbors + 2 * (v + AHEAD < last ? v + AHEAD : v);
            prefetch(from + OFFSET_UNIT * int64_t(next[0]), vectors * LANES);
            prefetch(from + OFFSET_UNIT * int64_t(next[1]), vectors * LANES);
            const float *center = from + v * vectors * LANES;
            const float *left = from + OFFSET_UNIT * int64_t(neighbors[2 * v]);
            const float *right = from + OFFSET_UNIT * int64_t(neighbors[2 * v + 1]);
            for (int i = 0; i < vectors * LANES; i += LANES)
                store(to + v * vectors * LANES + i,
                      load<Vec>(center + i) + 0.5f * (load<Vec>(left + i) + load<Vec>(right + i)));
        }
    }
};

static Functions functions(int stride) {
#define PNP_PICK(Vec, V) \
    Functions{locate<2>, locate<5>, logarithms, Loops<Vec, V>::sweep, Loops<Vec, V>::blur}
    switch (stride) {
        case 4: return PNP_PICK(V4, 1);
#ifndef PNP_FALLBACK
        case 8: return PNP_PICK(V8, 1);
        case 16: return PNP_PICK(V8, 2);
        case 24: return PNP_PICK(V8, 3);
        case 32: return PNP_PICK(V8, 4);
#endif
        default: return PNP_PICK(V8, 0);
    }
#undef PNP_PICK
}
#undef PNP_SHUFFLE
