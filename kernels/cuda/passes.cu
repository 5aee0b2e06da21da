// Kernels between two passes of Salience DropOut. A batch has B images of P patches, row by row, and N
// captions of T tokens. Image b has the captions first_caption[b] to first_caption[b + 1] - 1.

// Normalizes: out [B][3][H][W] = (pixels [B][H][W][3] / 255 - mean [3]) / std [3], each step rounded.
extern "C" __global__ void normalize(const unsigned char *pixels, Index batch, Index area, const float *mean,
                                     const float *std, float *out) {
    for (Index i = first_item(); i < batch * 3 * area; i += next_items()) {
        const Index pixel = i % area, channel = i / area % 3, image = i / area / 3;
        const float value = __fdiv_rn((float)pixels[(image * area + pixel) * 3 + channel], 255.0f);
        out[i] = __fdiv_rn(__fsub_rn(value, mean[channel]), std[channel]);
    }
}

// Blanks patches: out [B][3][H][W] = pixels, and zero in patches that are dropped [B][P].
template <class Number>
static __device__ void blank(const Number *pixels, const bool *dropped, Index batch, int height, int width,
                             int patch, Number *out) {
    const Index area = (Index)height * width, rows = height / patch, columns = width / patch;
    for (Index i = first_item(); i < batch * 3 * area; i += next_items()) {
        const Index row = i % area / width / patch, column = i % width / patch, image = i / area / 3;
        out[i] = dropped[(image * rows + row) * columns + column] ? (Number)0 : pixels[i];
    }
}

extern "C" __global__ void blank_patches_float32(const float *pixels, const bool *dropped, Index batch,
                                                 int height, int width, int patch, float *out) {
    blank(pixels, dropped, batch, height, width, patch, out);
}

extern "C" __global__ void blank_patches_float16(const Half *pixels, const bool *dropped, Index batch,
                                                 int height, int width, int patch, Half *out) {
    blank(pixels, dropped, batch, height, width, patch, out);
}

// Accumulates: total [N][T][P] += weight * salience [N][T][P] in patches that are not dropped [B][P]. Their
// scores [B][P] are the salience summed over class tokens (class_token [N][T]), caption by caption.
template <class Number>
static __device__ void add_up(const Number *salience, const bool *dropped, const bool *class_token,
                              const int *first_caption, Index batch, int tokens, Index patches, float weight,
                              float *total, float *scores) {
    for (Index i = first_item(); i < batch * patches; i += next_items()) {
        const Index image = i / patches, patch = i % patches;
        float score = 0;
        for (int n = first_caption[image]; n < first_caption[image + 1]; n++) {
            float caption_score = 0;
            for (int t = 0; t < tokens && !dropped[i]; t++) {
                const Index index = ((Index)n * tokens + t) * patches + patch;
                const float value = to_float(salience[index]);
                total[index] = __fadd_rn(total[index], __fmul_rn(weight, value));
                if (class_token[(Index)n * tokens + t]) caption_score += value;
            }
            score += caption_score;
        }
        scores[i] = score;
    }
}

extern "C" __global__ void accumulate_float32(const float *salience, const bool *dropped,
                                              const bool *class_token, const int *first_caption, Index batch,
                                              int tokens, Index patches, float weight, float *total,
                                              float *scores) {
    add_up(salience, dropped, class_token, first_caption, batch, tokens, patches, weight, total, scores);
}

extern "C" __global__ void accumulate_float16(const Half *salience, const bool *dropped,
                                              const bool *class_token, const int *first_caption, Index batch,
                                              int tokens, Index patches, float weight, float *total,
                                              float *scores) {
    add_up(salience, dropped, class_token, first_caption, batch, tokens, patches, weight, total, scores);
}

// Drops patches: out [B][P] = dropped [B][P], and the `count` remaining patches of the highest scores. Among
// equal scores the lower index goes first. A negative count stands for half of the remaining patches. A
// thread compares its patch with all patches of the image, tile by tile.
extern "C" __global__ void drop_salient(const float *scores, const bool *dropped, Index batch, int patches,
                                        int count, bool *out) {
    __shared__ float tile[BLOCK];
    const float absent = -INFINITE;
    const int width = blockDim.x, tiles = (patches + width - 1) / width;
    for (Index item = blockIdx.x; item < batch * tiles; item += gridDim.x) {
        const Index first = item / tiles * patches;
        const int patch = (int)(item % tiles) * width + threadIdx.x;
        const bool remains = patch < patches && !dropped[first + patch];
        const float score = remains ? scores[first + patch] : absent;
        int better = 0, remaining = 0;
        for (int start = 0; start < patches; start += width) {
            const int other = start + threadIdx.x;
            __syncthreads();
            tile[threadIdx.x] = other < patches && !dropped[first + other] ? scores[first + other] : absent;
            __syncthreads();
            for (int i = 0; i < width; i++) {
                remaining += tile[i] != absent;
                better += tile[i] > score || (tile[i] == score && start + i < patch);
            }
        }
        if (patch < patches) out[first + patch] = !remains || better < (count < 0 ? remaining / 2 : count);
    }
}

// Computes class maps [C][P]: the mean of total [N * T][P] over the rows members[first_member[c]] to
// members[first_member[c + 1] - 1], or their sum where summed [C].
extern "C" __global__ void class_maps(const float *total, const int *members, const int *first_member,
                                      const bool *summed, Index classes, Index patches, float *maps) {
    for (Index i = first_item(); i < classes * patches; i += next_items()) {
        const Index c = i / patches, patch = i % patches;
        float sum = 0;
        for (int m = first_member[c]; m < first_member[c + 1]; m++)
            sum += total[members[m] * patches + patch];
        maps[i] = summed[c] ? sum : __fdiv_rn(sum, (float)(first_member[c + 1] - first_member[c]));
    }
}
