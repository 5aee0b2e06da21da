// The inner loops of the resize, compiled once for each instruction set.

static inline uint8_t rounded(int32_t sum) {
    const int32_t value = sum >> PRECISION;
    return uint8_t(value < 0 ? 0 : value > 255 ? 255 : value);
}

typedef int32_t I8 __attribute__((vector_size(32)));
typedef int64_t L4 __attribute__((vector_size(32)));
typedef uint8_t B32 __attribute__((vector_size(32)));

#ifdef __clang__
#define PNP_SHUFFLE(Vec, a, ...) __builtin_shufflevector(a, a, __VA_ARGS__)
#else
#define PNP_SHUFFLE(Vec, a, ...) __builtin_shuffle(a, Vec{__VA_ARGS__})
#endif

// Reads two pixels of 3 bytes as 32-bit integers: red, green, blue, 0 of each. Two more bytes are read.
static inline I8 two_pixels(const uint8_t *from) {
    int64_t bytes;
    __builtin_memcpy(&bytes, from, sizeof bytes);
    bytes &= 0xFFFFFFFFFFFF;  // so that byte 7 is 0
    return I8(PNP_SHUFFLE(B32, B32(L4{} + bytes), 0, 7, 7, 7, 1, 7, 7, 7, 2, 7, 7, 7, 7, 7, 7, 7, 19, 23, 23, 23, 20,
                          23, 23, 23, 21, 23, 23, 23, 23, 23, 23, 23));
}

// Reads two weights, each four times.
static inline I8 two_weights(const int32_t *from) {
    int64_t both;
    __builtin_memcpy(&both, from, sizeof both);
    return PNP_SHUFFLE(I8, I8(L4{} + both), 0, 0, 0, 0, 5, 5, 5, 5);
}

// Resizes a line: out [count][3]. The numbers of weights are even. PADDING bytes after the line may be read.
static void resize_line(const uint8_t *line, const Taps &taps, uint8_t *out) {
    for (int64_t i = 0; i < taps.count; i++) {
        const uint8_t *from = line + 3 * int64_t(taps.first[i]);
        const int32_t *weight = &taps.weights[taps.start[i]];
        I8 sums = {};
        for (int64_t k = 0; k < taps.length[i]; k += 2)
            sums += two_pixels(from + 3 * k) * two_weights(weight + k);
        for (int color = 0; color < 3; color++)
            out[3 * i + color] = rounded(HALF + sums[color] + sums[color + 4]);
    }
}
#undef PNP_SHUFFLE

// Adds up lines with weights: out [count] = the sum of weights [lines] times the lines, `stride` bytes apart.
static void resize_column(const uint8_t *first, int64_t stride, int32_t lines, const int32_t *weights,
                          int64_t count, uint8_t *out) {
    int64_t i = 0;
    for (; i + GROUP <= count; i += GROUP) {
        int32_t sums[GROUP];
        for (int lane = 0; lane < GROUP; lane++) sums[lane] = HALF;
        for (int32_t line = 0; line < lines; line++) {
            const uint8_t *from = first + line * stride + i;
            for (int lane = 0; lane < GROUP; lane++) sums[lane] += from[lane] * weights[line];
        }
        for (int lane = 0; lane < GROUP; lane++) out[i + lane] = rounded(sums[lane]);
    }
    for (; i < count; i++) {
        int32_t sum = HALF;
        for (int32_t line = 0; line < lines; line++) sum += first[line * stride + i] * weights[line];
        out[i] = rounded(sum);
    }
}
