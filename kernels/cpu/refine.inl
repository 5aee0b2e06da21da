// The inner loops of refinement, compiled once for each instruction set.

typedef double D4 __attribute__((vector_size(32)));
typedef float F4 __attribute__((vector_size(16)));
typedef int32_t I4 __attribute__((vector_size(16)));

constexpr int PARTS = BLOCK / 4;

// Computes the pixels of a block of a row, less the channel's level.
static inline void multiply(const Row &row, int64_t block, F4 *values) {
    const double *columns = row.columns->values.data() + block * row.columns->inner * BLOCK;
    D4 sums[PARTS] = {};
    for (int64_t k = row.columns->first[block]; k < row.columns->last[block]; k++)
        for (int part = 0; part < PARTS; part++) {
            D4 column;
            __builtin_memcpy(&column, columns + k * BLOCK + 4 * part, sizeof column);
            sums[part] += row.line[k] * column;
        }
    for (int part = 0; part < PARTS; part++)
        values[part] = __builtin_convertvector(sums[part] - row.level, F4);
}

// Computes the pixels of a block, scaled to [0, 1].
static inline void multiply_scaled(const Row &row, int64_t block, F4 *values) {
    if (row.span == 0) {
        for (int part = 0; part < PARTS; part++) values[part] = F4{};
        return;
    }
    multiply(row, block, values);
    for (int part = 0; part < PARTS; part++) values[part] = (values[part] - row.low) / row.span;
}

// Extends an extent by the pixels of rows of a channel. Rows are taken block by block, so that the columns of a
// block stay in the cache.
static void extend(const Row *rows, int64_t count, float &low, float &high) {
    F4 lows[PARTS], highs[PARTS], values[PARTS];
    for (int part = 0; part < PARTS; part++) lows[part] = F4{} + low, highs[part] = F4{} + high;
    for (int64_t block = 0; block < rows->columns->blocks(); block++)
        for (int64_t y = 0; y < count; y++) {
            multiply(rows[y], block, values);
            for (int part = 0; part < PARTS; part++) {
                lows[part] = values[part] < lows[part] ? values[part] : lows[part];
                highs[part] = values[part] > highs[part] ? values[part] : highs[part];
            }
        }
    for (int i = 0; i < BLOCK; i++) {
        low = lows[i / 4][i % 4] < low ? lows[i / 4][i % 4] : low;
        high = highs[i / 4][i % 4] > high ? highs[i / 4][i % 4] : high;
    }
}

// Writes rows of a channel, scaled: out [count][width].
static void write_scaled(const Row *rows, int64_t count, int64_t width, float *out) {
    F4 values[PARTS];
    for (int64_t x = 0; x < width; x += BLOCK)
        for (int64_t y = 0; y < count; y++) {
            multiply_scaled(rows[y], x / BLOCK, values);
            const int64_t pixels = width - x < BLOCK ? width - x : BLOCK;
            __builtin_memcpy(out + y * width + x, values, size_t(pixels) * sizeof *out);
        }
}

// Labels a block of a row with the numbers of the largest channels, whose rows are `stride` apart; of equal ones
// the first.
static inline void label_block(const Row *rows, int64_t channels, int64_t stride, const uint16_t *numbers,
                               int64_t block, int64_t pixels, uint16_t *labels) {
    F4 best[PARTS], values[PARTS];
    I4 number[PARTS];
    multiply_scaled(*rows, block, best);
    for (int part = 0; part < PARTS; part++) number[part] = I4{} + numbers[0];
    for (int64_t c = 1; c < channels; c++) {
        multiply_scaled(rows[c * stride], block, values);
        for (int part = 0; part < PARTS; part++) {
            const I4 larger = values[part] > best[part];
            best[part] = larger ? values[part] : best[part];
            number[part] = larger ? I4{} + numbers[c] : number[part];
        }
    }
    for (int64_t i = 0; i < pixels; i++) labels[i] = uint16_t(number[i / 4][i % 4]);
}

// Labels rows: labels [count][width]. The rows of a channel come one after the other.
static void write_labels(const Row *rows, int64_t channels, int64_t count, const uint16_t *numbers,
                         int64_t width, uint16_t *labels) {
    for (int64_t x = 0; x < width; x += BLOCK)
        for (int64_t y = 0; y < count; y++) {
            const int64_t pixels = width - x < BLOCK ? width - x : BLOCK;
            label_block(rows + y, channels, count, numbers, x / BLOCK, pixels, labels + y * width + x);
        }
}

// Keeps the larger of two values of each pixel, and whose it is; of equal ones the earlier.
static void keep_larger(const float *row, int64_t width, int32_t number, float *best, int32_t *labels) {
    for (int64_t x = 0; x < width; x++) {
        const bool larger = row[x] > best[x];
        best[x] = larger ? row[x] : best[x];
        labels[x] = larger ? number : labels[x];
    }
}

// Computes e^x for x from -1 to 0, to 2 units in the last place, by the series around -1/2.
static inline float exponential(float x) {
    const float t = x + 0.5f;
    float sum = 1.0f / 40320;
    sum = sum * t + 1.0f / 5040;
    sum = sum * t + 1.0f / 720;
    sum = sum * t + 1.0f / 120;
    sum = sum * t + 1.0f / 24;
    sum = sum * t + 1.0f / 6;
    sum = sum * t + 0.5f;
    sum = sum * t + 1.0f;
    sum = sum * t + 1.0f;
    return sum * 0.60653065971263342f;
}

// Takes the softmax of a row over the channels, which are `stride` floats apart. The values are from 0 to 1.
static void softmax_row(float *row, int64_t channels, int64_t stride, int64_t width) {
    float most[BLOCK], total[BLOCK];
    for (int64_t x = 0; x < width; x += BLOCK) {
        const int count = int(width - x < BLOCK ? width - x : BLOCK);
        float *values = row + x;
        for (int i = 0; i < count; i++) most[i] = values[i], total[i] = 0;
        for (int64_t c = 1; c < channels; c++)
            for (int i = 0; i < count; i++) {
                const float value = values[c * stride + i];
                most[i] = value > most[i] ? value : most[i];
            }
        for (int64_t c = 0; c < channels; c++)
            for (int i = 0; i < count; i++)
                total[i] += values[c * stride + i] = exponential(values[c * stride + i] - most[i]);
        for (int64_t c = 0; c < channels; c++)
            for (int i = 0; i < count; i++) values[c * stride + i] /= total[i];
    }
}

// Interpolates between two rows: out [width] = a * (1 - part) + b * part.
static void mix_rows(const float *a, const float *b, float part, int64_t width, float *out) {
    const float rest = 1 - part;
    for (int64_t x = 0; x < width; x++) out[x] = a[x] * rest + b[x] * part;
}

// Interpolates within a row: out [width] = row[lower] * (1 - part) + row[upper] * part.
static void mix_columns(const float *row, const Between *places, int64_t width, float *out) {
    for (int64_t x = 0; x < width; x++) {
        const Between &place = places[x];
        out[x] = row[place.lower] * (1 - place.part) + row[place.upper] * place.part;
    }
}
