// The inner loops of refinement, compiled once for each instruction set.

typedef double D4 __attribute__((vector_size(32)));
typedef float F4 __attribute__((vector_size(16)));

// Computes a row of a channel, float out [width]: the sum over k of line[k] * columns [k][width], less `level`. Of
// block b, GROUP pixels, only the columns from first[b] to last[b] are not 0.
static void multiply_row(const double *line, const double *columns, const int32_t *first, const int32_t *last,
                         int64_t width, double level, float *out) {
    int64_t x = 0;
    for (; x + GROUP <= width; x += GROUP, first++, last++) {
        D4 sums[GROUP / 4] = {};
        for (int64_t k = *first; k < *last; k++) {
            const double *column = columns + k * width + x;
            for (int part = 0; part < GROUP / 4; part++) {
                D4 values;
                __builtin_memcpy(&values, column + 4 * part, sizeof values);
                sums[part] += line[k] * values;
            }
        }
        for (int part = 0; part < GROUP / 4; part++) {
            const F4 rounded = __builtin_convertvector(sums[part] - level, F4);
            __builtin_memcpy(out + x + 4 * part, &rounded, sizeof rounded);
        }
    }
    for (; x < width; x++) {
        double sum = 0;
        for (int64_t k = *first; k < *last; k++) sum += line[k] * columns[k * width + x];
        out[x] = float(sum - level);
    }
}

// Extends an extent by the values of a row.
static void extend(const float *row, int64_t width, float &low, float &high) {
    float lows[GROUP], highs[GROUP];
    for (int i = 0; i < GROUP; i++) lows[i] = low, highs[i] = high;
    int64_t x = 0;
    for (; x + GROUP <= width; x += GROUP)
        for (int i = 0; i < GROUP; i++) {
            const float value = row[x + i];
            lows[i] = value < lows[i] ? value : lows[i];
            highs[i] = value > highs[i] ? value : highs[i];
        }
    for (; x < width; x++) {
        lows[0] = row[x] < lows[0] ? row[x] : lows[0];
        highs[0] = row[x] > highs[0] ? row[x] : highs[0];
    }
    for (int i = 0; i < GROUP; i++) {
        low = lows[i] < low ? lows[i] : low;
        high = highs[i] > high ? highs[i] : high;
    }
}

// Scales a row: (row - low) / span.
static void scale_row(float *row, int64_t width, float low, float span) {
    for (int64_t x = 0; x < width; x++) row[x] = (row[x] - low) / span;
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
    float most[GROUP], total[GROUP];
    for (int64_t x = 0; x < width; x += GROUP) {
        const int count = int(width - x < GROUP ? width - x : GROUP);
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
