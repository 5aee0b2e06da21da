// From class maps to labels: C classes on a grid of p x p patches, a picture of H x W pixels.

// out [C][P]: each map scaled to [0, 1], and zero where that is below `level`; zero where all is equal.
extern "C" __global__ void threshold(const float *maps, Index classes, Index patches, float level, float *out) {
    for (Index own = blockIdx.x; own < classes; own += gridDim.x) {
        const float *map = maps + own * patches;
        float low = INFINITE, high = -INFINITE;
        for (Index i = threadIdx.x; i < patches; i += blockDim.x) {
            low = fminf(low, map[i]);
            high = fmaxf(high, map[i]);
        }
        reduce_extent(low, high);
        for (Index i = threadIdx.x; i < patches; i += blockDim.x) {
            const float scaled = high > low ? __fdiv_rn(__fsub_rn(map[i], low), __fsub_rn(high, low)) : 0;
            out[own * patches + i] = scaled < level ? 0 : scaled;
        }
    }
}

// out [M][rows][columns] = left [M or 1][rows][inner] @ right [M or 1][inner][columns]; the number of floats
// from one matrix to the next is given, 0 where there is one only.
extern "C" __global__ void matmul(const float *left, Index left_step, const float *right, Index right_step,
                                  Index matrices, Index rows, Index inner, Index columns, float *out) {
    for (Index i = first_item(); i < matrices * rows * columns; i += next_items()) {
        const Index column = i % columns, row = i / columns % rows, matrix = i / columns / rows;
        const float *a = left + matrix * left_step + row * inner;
        const float *b = right + matrix * right_step + column;
        float sum = 0;
        for (Index k = 0; k < inner; k++) sum += a[k] * b[k * columns];
        out[i] = sum;
    }
}

// out [H][W] = 1 where every map of maps [C][p][p], upsampled with aligned corners, is 0.
extern "C" __global__ void background(const float *maps, Index classes, int grid, Index height, Index width,
                                      float *out) {
    const Index steps_down = height > 1 ? height - 1 : 1, steps_right = width > 1 ? width - 1 : 1;
    for (Index i = first_item(); i < height * width; i += next_items()) {
        const Index down = i / width * (grid - 1), right = i % width * (grid - 1);
        const Index y = down / steps_down, x = right / steps_right;
        const int below = down % steps_down != 0, beside = right % steps_right != 0;
        bool empty = true;
        for (Index own = 0; own < classes && empty; own++)
            for (int dy = 0; dy <= below; dy++)
                for (int dx = 0; dx <= beside; dx++)
                    empty = empty && maps[(own * grid + y + dy) * grid + x + dx] == 0;
        out[i] = empty;
    }
}

// out [W][H]: in [H][W] turned, blurred along H, which is reflected at its ends. A thread does SPAN pixels.
//   weights  [SPAN - 1 zeros, 2 * radius + 1 weights, SPAN - 1 zeros]
#define SPAN 8
extern "C" __global__ void blur_and_turn(const float *in, Index height, Index width, const float *weights,
                                         Index radius, float *out) {
    const Index spans = (height + SPAN - 1) / SPAN;
    for (Index i = first_item(); i < spans * width; i += next_items()) {
        const Index x = i % width, first = i / width * SPAN;
        Index place = (first - radius) % (2 * height);  // in the line and its mirror image
        if (place < 0) place += 2 * height;
        float sum[SPAN], weight[SPAN];
        for (int k = 0; k < SPAN; k++) {
            sum[k] = 0;
            weight[k] = weights[SPAN - 1 - k];
        }
        for (Index j = 0;; j++) {
            const float value = in[(place < height ? place : 2 * height - 1 - place) * width + x];
            for (int k = 0; k < SPAN; k++) sum[k] += weight[k] * value;
            if (j == 2 * radius + SPAN - 1) break;
            if (++place == 2 * height) place = 0;
            for (int k = SPAN - 1; k > 0; k--) weight[k] = weight[k - 1];
            weight[0] = weights[j + SPAN];
        }
        for (int k = 0; k < SPAN && first + k < height; k++) out[x * height + first + k] = sum[k];
    }
}

// Floats as unsigned numbers in the same order, for atomic minima and maxima.
static __device__ unsigned int ordered(float value) {
    const unsigned int bits = __float_as_uint(value);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

static __device__ float unordered(unsigned int rank) {
    return __uint_as_float(rank & 0x80000000u ? rank & 0x7FFFFFFFu : ~rank);
}

// extents [C][2]: the least and the largest value of each of channels [C][pixels], as `ordered` has them;
// they must hold 0xFFFFFFFF and 0 before. A block does a piece of a channel.
#define PIECE 4096
extern "C" __global__ void extents(const float *channels, Index count, Index pixels, unsigned int *extents) {
    const Index pieces = (pixels + PIECE - 1) / PIECE;
    for (Index item = blockIdx.x; item < count * pieces; item += gridDim.x) {
        const Index channel = item / pieces, start = item % pieces * PIECE;
        const Index end = start + PIECE < pixels ? start + PIECE : pixels;
        float low = INFINITE, high = -INFINITE;
        for (Index i = start + threadIdx.x; i < end; i += blockDim.x) {
            low = fminf(low, channels[channel * pixels + i]);
            high = fmaxf(high, channels[channel * pixels + i]);
        }
        reduce_extent(low, high);
        if (threadIdx.x == 0) {
            atomicMin(&extents[2 * channel], ordered(low));
            atomicMax(&extents[2 * channel + 1], ordered(high));
        }
    }
}

// channels [C][pixels], each scaled to [0, 1] in place; zero where it is constant but for `rounding`.
extern "C" __global__ void scale_channels(float *channels, Index count, Index pixels,
                                          const unsigned int *extents, float rounding) {
    for (Index i = first_item(); i < count * pixels; i += next_items()) {
        const float low = unordered(extents[i / pixels * 2]), high = unordered(extents[i / pixels * 2 + 1]);
        const float span = __fsub_rn(high, low);
        const bool flat = span <= __fmul_rn(rounding, fmaxf(fabsf(low), fabsf(high)));
        channels[i] = flat ? 0 : __fdiv_rn(__fsub_rn(channels[i], low), span);
    }
}

// out [C][pixels]: the softmax of channels [C][pixels] over C.
extern "C" __global__ void softmax(const float *channels, Index count, Index pixels, float *out) {
    for (Index i = first_item(); i < pixels; i += next_items()) {
        float most = channels[i], total = 0;
        for (Index c = 1; c < count; c++) most = fmaxf(most, channels[c * pixels + i]);
        for (Index c = 0; c < count; c++) total += out[c * pixels + i] = expf(channels[c * pixels + i] - most);
        for (Index c = 0; c < count; c++) out[c * pixels + i] /= total;
    }
}

// labels [pixels] = numbers [C] of the channel that is largest there; of equals the first.
extern "C" __global__ void choose_labels(const float *channels, Index count, Index pixels,
                                         const unsigned short *numbers, unsigned short *labels) {
    for (Index i = first_item(); i < pixels; i += next_items()) {
        Index best = 0;
        for (Index c = 1; c < count; c++)
            if (channels[c * pixels + i] > channels[best * pixels + i]) best = c;
        labels[i] = numbers[best];
    }
}
