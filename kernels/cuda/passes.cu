// Between two passes of Salience DropOut. A batch has B images of P patches, which stand in a grid row by
// row, and N captions of T tokens; the captions of image b are first_caption[b] to first_caption[b + 1].

// out [B][3][H][W] = (pixels [B][H][W][3] / 255 - mean [3]) / std [3], rounded step by step.
extern "C" __global__ void normalize(const unsigned char *pixels, Index batch, Index area, const float *mean,
                                     const float *std, float *out) {
    for (Index i = first_item(); i < batch * 3 * area; i += next_items()) {
        const Index place = i % area, channel = i / area % 3, image = i / area / 3;
        const float value = __fdiv_rn((float)pixels[(image * area + place) * 3 + channel], 255.0f);
        out[i] = __fdiv_rn(__fsub_rn(value, mean[channel]), std[channel]);
    }
}

// out [B][3][H][W] = pixels, zero where dropped [B][P].
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

// total [N][T][P] += weight * salience [N][T][P] where dropped [B][P] is not; scores [B][P] = the sum of that
// salience over the tokens named by class_token [N][T], caption by caption.
template <class Number>
static __device__ void add_up(const Number *salience, const bool *dropped, const bool *class_token,
                              const int *first_caption, Index batch, int tokens, Index patches, float weight,
                              float *total, float *scores) {
    for (Index i = first_item(); i < batch * patches; i += next_items()) {
        const Index image = i / patches, patch = i % patches;
        float score = 0;
        for (int n = first_caption[image]; n < first_caption[image + 1]; n++) {
            float of_caption = 0;
            for (int t = 0; t < tokens && !dropped[i]; t++) {
                const Index at = ((Index)n * tokens + t) * patches + patch;
                const float own = to_float(salience[at]);
                total[at] = __fadd_rn(total[at], __fmul_rn(weight, own));
                if (class_token[(Index)n * tokens + t]) of_caption += own;
            }
            score += of_caption;
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

// out [B][P] = dropped [B][P], and the `count` patches of highest score that are left; of equals the lower
// index. A negative count stands for half of those left. A patch is compared with all others, by tiles.
extern "C" __global__ void drop_salient(const float *scores, const bool *dropped, Index batch, int patches,
                                        int count, bool *out) {
    __shared__ float tile[BLOCK];
    const float gone = -INFINITE;
    const int width = blockDim.x, tiles = (patches + width - 1) / width;
    for (Index item = blockIdx.x; item < batch * tiles; item += gridDim.x) {
        const Index first = item / tiles * patches;
        const int patch = (int)(item % tiles) * width + threadIdx.x;
        const bool real = patch < patches && !dropped[first + patch];
        const float score = real ? scores[first + patch] : gone;
        int better = 0, left = 0;
        for (int start = 0; start < patches; start += width) {
            const int other = start + threadIdx.x;
            __syncthreads();
            tile[threadIdx.x] = other < patches && !dropped[first + other] ? scores[first + other] : gone;
            __syncthreads();
            for (int i = 0; i < width; i++) {
                left += tile[i] != gone;
                better += tile[i] > score || (tile[i] == score && start + i < patch);
            }
        }
        if (patch < patches) out[first + patch] = !real || better < (count < 0 ? left / 2 : count);
    }
}

// maps [C][P]: the mean of total [rows][P] over the rows members[first_member[c]] to
// members[first_member[c + 1]], or where summed [C] their sum.
extern "C" __global__ void class_maps(const float *total, const int *members, const int *first_member,
                                      const bool *summed, Index classes, Index patches, float *maps) {
    for (Index i = first_item(); i < classes * patches; i += next_items()) {
        const Index own = i / patches, patch = i % patches;
        float sum = 0;
        for (int m = first_member[own]; m < first_member[own + 1]; m++)
            sum += total[members[m] * patches + patch];
        maps[i] = summed[own] ? sum : __fdiv_rn(sum, (float)(first_member[own + 1] - first_member[own]));
    }
}
