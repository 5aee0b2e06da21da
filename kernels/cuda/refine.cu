// Kernels from class maps to labels. C classes, a grid of gh rows and gw columns of patches, an image of H
// rows and W columns of pixels.

// Thresholds: out [C][P] = maps, and zero where the map scaled to [0, 1] is below `level`. Equal values scale
// to 0.
extern "C" __global__ void threshold(const float *maps, Index classes, Index patches, double level,
                                     float *out) {
    for (Index c = blockIdx.x; c < classes; c += gridDim.x) {
        const float *map = maps + c * patches;
        double low = INFINITE, high = -INFINITE;
        for (Index i = threadIdx.x; i < patches; i += blockDim.x) {
            low = fmin(low, to_double(map[i]));
            high = fmax(high, to_double(map[i]));
        }
        reduce_extent(low, high);
        for (Index i = threadIdx.x; i < patches; i += blockDim.x) {
            const double scaled = high > low ? (to_double(map[i]) - low) / (high - low) : 0;
            out[c * patches + i] = scaled < level ? 0 : map[i];
        }
    }
}

// Marks the background: out [2gh - 1][2gw - 1] = 1 where all maps [C][gh][gw] are 0. An even row and column
// is a cell. An odd row or column is the gap between two cells; it is 1 where both cells are.
extern "C" __global__ void background(const float *maps, Index classes, Index grid_height, Index grid_width,
                                      float *out) {
    const Index rows = 2 * grid_height - 1, columns = 2 * grid_width - 1;
    for (Index i = first_item(); i < rows * columns; i += next_items()) {
        const Index row = i / columns, column = i % columns;
        bool empty = true;
        for (Index c = 0; c < classes && empty; c++)
            for (Index y = row / 2; y <= (row + 1) / 2; y++)
                for (Index x = column / 2; x <= (column + 1) / 2; x++)
                    empty = empty && to_double(maps[(c * grid_height + y) * grid_width + x]) == 0;
        out[i] = empty;
    }
}

// Computes units [C]: the largest magnitude of each map [gh][gw]; 1 where it is 0.
extern "C" __global__ void units(const float *maps, Index count, Index cells, double *units) {
    for (Index map = blockIdx.x; map < count; map += gridDim.x) {
        double low = 0, high = 0;
        for (Index i = threadIdx.x; i < cells; i += blockDim.x) {
            low = fmin(low, to_double(maps[map * cells + i]));
            high = fmax(high, to_double(maps[map * cells + i]));
        }
        reduce_extent(low, high);
        const double largest = fmax(-low, high);
        if (threadIdx.x == 0) units[map] = largest > 0 ? largest : 1;
    }
}

// Upsamples vertically: tall [C][H][gw] = rows [H][gh] @ maps [C][gh][gw], which are divided by units [C] first, so
// that proportional maps become equal.
extern "C" __global__ void resample_rows(const double *rows, const float *maps, const double *units,
                                         Index count, Index height, Index grid_height, Index grid_width,
                                         double *tall) {
    for (Index i = first_item(); i < count * height * grid_width; i += next_items()) {
        const Index column = i % grid_width, row = i / grid_width % height, map = i / grid_width / height;
        double sum = 0;
        for (Index k = 0; k < grid_height; k++)
            sum += rows[row * grid_height + k] *
                   (to_double(maps[(map * grid_height + k) * grid_width + column]) / units[map]);
        tall[i] = sum;
    }
}

// Returns the value of a pixel: tall [C][H][gw] @ columns [gw][W].
static __device__ double resampled(const double *tall, const double *columns, Index line, Index grid_width,
                                   Index width, Index column) {
    double sum = 0;
    for (Index k = 0; k < grid_width; k++) sum += tall[line * grid_width + k] * columns[k * width + column];
    return sum;
}

// Computes levels [C]: the value of the first pixel of each channel.
extern "C" __global__ void first_pixels(const double *tall, const double *columns, Index count, Index height,
                                        Index grid_width, Index width, double *levels) {
    for (Index i = first_item(); i < count; i += next_items())
        levels[i] = resampled(tall, columns, i * height, grid_width, width, 0);
}

// Upsamples horizontally: out [C][H][W] = the channels less their levels [C].
extern "C" __global__ void resample_columns(const double *tall, const double *columns, const double *levels,
                                            Index count, Index height, Index grid_width, Index width,
                                            float *out) {
    for (Index i = first_item(); i < count * height * width; i += next_items()) {
        const Index line = i / width;
        const double value = resampled(tall, columns, line, grid_width, width, i % width);
        out[i] = (float)(value - levels[line / height]);
    }
}

// Maps a float to an unsigned integer, in the same order, for atomic minima and maxima.
static __device__ unsigned int ordered(float value) {
    const unsigned int bits = __float_as_uint(value);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// Maps that integer back to the float.
static __device__ float unordered(unsigned int rank) {
    return __uint_as_float(rank & 0x80000000u ? rank & 0x7FFFFFFFu : ~rank);
}

// Computes extents [C][2]: the least and the largest value of each channel [pixels], mapped by `ordered`.
// They must hold 0xFFFFFFFF and 0 before. A block reduces PIECE values of a channel at a time.
#define PIECE 4096
extern "C" __global__ void extents(const float *channels, Index count, Index pixels, unsigned int *extents) {
    const Index pieces = (pixels + PIECE - 1) / PIECE;
    for (Index item = blockIdx.x; item < count * pieces; item += gridDim.x) {
        const Index channel = item / pieces, start = item % pieces * PIECE;
        const Index end = start + PIECE < pixels ? start + PIECE : pixels;
        double low = INFINITE, high = -INFINITE;
        for (Index i = start + threadIdx.x; i < end; i += blockDim.x) {
            low = fmin(low, (double)channels[channel * pixels + i]);
            high = fmax(high, (double)channels[channel * pixels + i]);
        }
        reduce_extent(low, high);
        if (threadIdx.x == 0) {
            atomicMin(&extents[2 * channel], ordered((float)low));
            atomicMax(&extents[2 * channel + 1], ordered((float)high));
        }
    }
}

// Scales each of channels [C][pixels] to [0, 1], in place. A channel that is constant up to `rounding`
// becomes zero; levels [C] are what `resample_columns` subtracted.
extern "C" __global__ void scale_channels(float *channels, Index count, Index pixels, const double *levels,
                                          const unsigned int *extents, double rounding) {
    for (Index i = first_item(); i < count * pixels; i += next_items()) {
        const Index channel = i / pixels;
        const float low = unordered(extents[channel * 2]), high = unordered(extents[channel * 2 + 1]);
        const double span = (double)high - low, level = levels[channel];
        const bool flat = span <= rounding * fmax(fabs(low + level), fabs(high + level));
        channels[i] = flat ? 0 : __fdiv_rn(__fsub_rn(channels[i], low), (float)span);
    }
}

// Computes out [C][pixels]: the softmax of channels [C][pixels] over C.
extern "C" __global__ void softmax(const float *channels, Index count, Index pixels, float *out) {
    for (Index i = first_item(); i < pixels; i += next_items()) {
        float most = channels[i], total = 0;
        for (Index c = 1; c < count; c++) most = fmaxf(most, channels[c * pixels + i]);
        for (Index c = 0; c < count; c++) total += out[c * pixels + i] = expf(channels[c * pixels + i] - most);
        for (Index c = 0; c < count; c++) out[c * pixels + i] /= total;
    }
}

// Labels each pixel: labels [pixels] = the number (of numbers [C]) of its largest channel; among equals,
// the first.
extern "C" __global__ void choose_labels(const float *channels, Index count, Index pixels,
                                         const unsigned short *numbers, unsigned short *labels) {
    for (Index i = first_item(); i < pixels; i += next_items()) {
        Index best = 0;
        for (Index c = 1; c < count; c++)
            if (channels[c * pixels + i] > channels[best * pixels + i]) best = c;
        labels[i] = numbers[best];
    }
}

// The place of the center of a pixel of `size` between two pixels of `from`, with pixels as areas.
struct Between {
    Index lower, upper;
    float part;  // of the way from the lower to the upper
};

static __device__ Between between(Index pixel, Index from, Index size) {
    Index position = (2 * pixel + 1) * from - size;
    if (position < 0) position = 0;
    Between place;
    place.lower = position / (2 * size);
    if (place.lower > from - 1) place.lower = from - 1;
    place.upper = place.lower + 1 < from ? place.lower + 1 : place.lower;
    place.part = (float)((double)(position - 2 * size * place.lower) / (double)(2 * size));
    return place;
}

// Interpolates: a * (1 - part) + b * part, each product rounded.
static __device__ float mixed(float a, float b, float part) {
    return __fadd_rn(__fmul_rn(a, __fsub_rn(1, part)), __fmul_rn(b, part));
}

// Enlarges probabilities [C][from_height][from_width] bilinearly, and labels each pixel: labels [H][W] = the number
// (of numbers [C]) of the largest; among equals, the first.
extern "C" __global__ void enlarged_labels(const float *probabilities, Index count, Index from_height,
                                           Index from_width, Index height, Index width,
                                           const unsigned short *numbers, unsigned short *labels) {
    for (Index i = first_item(); i < height * width; i += next_items()) {
        const Between y = between(i / width, from_height, height), x = between(i % width, from_width, width);
        Index best = 0;
        float most = -INFINITE;
        for (Index c = 0; c < count; c++) {
            const float *above = probabilities + (c * from_height + y.lower) * from_width;
            const float *below = probabilities + (c * from_height + y.upper) * from_width;
            const float value = mixed(mixed(above[x.lower], below[x.lower], y.part),
                                      mixed(above[x.upper], below[x.upper], y.part), x.part);
            if (value > most) {
                most = value;
                best = c;
            }
        }
        labels[i] = numbers[best];
    }
}
