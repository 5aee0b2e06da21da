// An image of the caller, and how it becomes the input of the image encoder.
#pragma once

#include <cstdint>
#include <vector>

#include "manifest.hpp"
#include "pnp_ovss.h"

namespace pnp {

// An image that was checked: RGB, `stride` bytes from a row to the next.
struct Image {
    int width, height;
    int64_t stride;
    const uint8_t *rgb;

    // Checks an image. Throws a Failure.
    static Image read(const pnp_ovss_image *given);
};

// Resizes an image as Pillow 12.2 does: uint8 [height][width][3].
std::vector<uint8_t> resized(const Image &image, int height, int width);

// Normalizes pixels, [height][width][3] -> float [3][height][width]: (pixel / 255 - mean) / std.
void normalize(const std::vector<uint8_t> &pixels, const Preprocess &preprocess, float *out);

}  // namespace pnp
