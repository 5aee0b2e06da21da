#include "image.hpp"

#include <new>

#include "resize.h"
#include "structs.hpp"

namespace pnp {

Image Image::read(const pnp_ovss_image *given) {
    if (!given) throw bad_input("the image is NULL", "give a pnp_ovss_image");
    constexpr size_t FIRST_SIZE = offsetof(pnp_ovss_image, rgb) + sizeof(const uint8_t *);
    const pnp_ovss_image image = read_struct(given, FIRST_SIZE, "pnp_ovss_image");
    if (image.width == 0 || image.height == 0)
        throw bad_input({"the image is ", image.width, "x", image.height}, "it has no pixels: give another");
    if (uint64_t(image.width) * image.height > PNP_OVSS_MOST_PIXELS)
        throw bad_input({"the image is ", image.width, "x", image.height},
                        "the limit is 50 megapixels: scale it down first");
    if (!image.rgb) throw bad_input("the pixels of the image are NULL", "set rgb to the first row");
    const size_t row = size_t(image.width) * 3, stride = image.stride ? image.stride : row;
    if (stride < row || stride > size_t(PTRDIFF_MAX) / image.height)
        throw bad_input({"the stride of the image is ", stride, " bytes, and it is ", image.width, "x", image.height},
                        {"a row of it has ", row, " bytes"});
    return {int(image.width), int(image.height), int64_t(stride), image.rgb};
}

std::vector<uint8_t> resized(const Image &image, int height, int width) {
    std::vector<uint8_t> out(size_t(height) * size_t(width) * 3);
    const int32_t code = pnp_resize(image.rgb, image.stride, image.width, image.height, out.data(), width, height);
    if (code == PNP_RESIZE_NO_MEMORY) throw std::bad_alloc();
    if (code != PNP_RESIZE_OK) throw Failure(PNP_OVSS_FAILED, "the image cannot be resized", DEFECT);
    return out;
}

void normalize(const std::vector<uint8_t> &pixels, const Preprocess &preprocess, float *out) {
    const size_t count = pixels.size() / 3;
    for (size_t channel = 0; channel < 3; channel++) {
        float values[256];
        for (int level = 0; level < 256; level++)
            values[level] = (float(level) / 255.0f - preprocess.mean[channel]) / preprocess.std[channel];
        for (size_t i = 0; i < count; i++) out[channel * count + i] = values[pixels[3 * i + channel]];
    }
}

}  // namespace pnp
