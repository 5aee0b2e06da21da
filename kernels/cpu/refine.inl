// The inner loops of refinement, compiled once for each instruction set.

typedef double D4 __attribute__((vector_size(32)));
typedef float F4 __attribute__((vector_size(16)));
typedef int32_t I4 __attribute__((vector_size(16)));

constexpr int PARTS = BLOCK / 4;   // vectors of a row of a tile
constexpr int TILE = 2 * PARTS;    // vectors of a tile: the same block of two rows, the first row first

// Computes the line of a row: line [inner] = the sum over k of weights [count] times map [count][inner].
static void make_line(const double *weights, int64_t count, const double *map, int64_t inner, double *line) {
    for (int64_t i = 0; i < inner; i++) line[i] = 0;
    for (int64_t k = 0; k < count; k++)
        if (weights[k] != 0)
            for (int64_t i = 0; i < inner; i++) line[i] += weights[k] * map[k * inner + i];
}

// Computes a tile of two rows of a channel, less the channel's level. Two rows share the loads of the columns.
static inline void multiply(const Row &row, const Row &next, int64_t block, F4 *values) {
    const double *columns = row.columns->values.data() + block * row.columns->inner * BLOCK;
    D4 sums[TILE] = {};
    for (int64_t k = row.columns->first[block]; k < row.columns->last[block]; k++)
        for (int part = 0; part < PARTS; part++) {
            D4 column;
            __builtin_memcpy(&column, columns + k * BLOCK + 4 * part, sizeof column);
            sums[part] += row.line[k] * column;
            sums[PARTS + part] += next.line[k] * column;
        }
    for (int part = 0; part < TILE; part++)
        values[part] = __builtin_convertvector(sums[part] - row.level, F4);
}

// Computes a tile, scaled to [0, 1].
static inline void multiply_scaled(const Row &row, const Row &next, int64_t block, F4 *values) {
    if (row.span == 0) {
        for (int part = 0; part < TILE; part++) values[part] = F4{};
        return;
    }
    multiply(row, next, block, values);
    for (int part = 0; part < TILE; part++) values[part] = (values[part] - row.low) / row.span;
}

// Returns the row after row `y`; the last row again after the last.
static inline int64_t after(int64_t y, int64_t count) { return y + 1 < count ? y + 1 : y; }

// Extends an extent by the pixels of rows of a channel. Rows are taken block by block, so that the columns of a
// block stay in the cache.
static void extend(const Row *rows, int64_t count, float &low, float &high) {
    F4 lows[TILE], highs[TILE], values[TILE];
    for (int part = 0; part < TILE; part++) lows[part] = F4{} + low, highs[part] = F4{} + high;
    for (int64_t block = 0; block < rows->columns->blocks(); block++)
        for (int64_t y = 0; y < count; y += 2) {
            multiply(rows[y], rows[after(y, count)], block, values);
            for (int part = 0; part < TILE; part++) {
                lows[part] = values[part] < lows[part] ? values[part] : lows[part];
                highs[part] = values[part] > highs[part] ? values[part] : highs[part];
            }
        }
    for (int i = 0; i < 4 * TILE; i++) {
        low = lows[i / 4][i % 4] < low ? lows[i / 4][i % 4] : low;
        high = highs[i / 4][i % 4] > high ? highs[i / 4][i % 4] : high;
    }
}

// Writes rows of a channel, scaled: out [count][width].
static void write_scaled(const Row *rows, int64_t count, int64_t width, float *out) {
    F4 values[TILE];
    for (int64_t x = 0; x < width; x += BLOCK) {
        const size_t bytes = size_t(width - x < BLOCK ? width - x : BLOCK) * sizeof *out;
        for (int64_t y = 0; y < count; y += 2) {
            multiply_scaled(rows[y], rows[after(y, count)], x / BLOCK, values);
            __builtin_memcpy(out + y * width + x, values, bytes);
            if (y + 1 < count) __builtin_memcpy(out + (y + 1) * width + x, values + PARTS, bytes);
        }
    }
}

// Finds the numbers of the largest channels of a tile, whose rows are `stride` apart; of equal ones the first.
static inline void label_tile(const Row *row, const Row *next, int64_t channels, int64_t stride,
                              const uint16_t *numbers, int64_t block, I4 *number) {
    F4 best[TILE], values[TILE];
    multiply_scaled(*row, *next, block, best);
    for (int part = 0; part < TILE; part++) number[part] = I4{} + numbers[0];
    for (int64_t c = 1; c < channels; c++) {
        multiply_scaled(row[c * stride], next[c * stride], block, values);
        for (int part = 0; part < TILE; part++) {
            const I4 larger = values[part] > best[part];
            best[part] = larger ? values[part] : best[part];
            number[part] = larger ? I4{} + numbers[c] : number[part];
        }
    }
}

// Labels rows: labels [count][width]. The rows of a channel come one after the other.
static void write_labels(const Row *rows, int64_t channels, int64_t count, const uint16_t *numbers,
                         int64_t width, uint16_t *labels) {
    I4 number[TILE];
    for (int64_t x = 0; x < width; x += BLOCK) {
        const int64_t pixels = width - x < BLOCK ? width - x : BLOCK;
        for (int64_t y = 0; y < count; y += 2) {
            label_tile(rows + y, rows + after(y, count), channels, count, numbers, x / BLOCK, number);
            for (int64_t row = y; row < count && row < y + 2; row++)
                for (int64_t i = 0; i < pixels; i++)
                    labels[row * width + x + i] = uint16_t(number[(row - y) * PARTS + i / 4][i % 4]);
        }
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
