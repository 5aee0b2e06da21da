#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "guarded.hpp"
#include "resize.h"

namespace pnp {
namespace {

constexpr int PRECISION = 22;               // bits of a weight after the point
constexpr int32_t HALF = 1 << (PRECISION - 1);
constexpr int GROUP = 32;                   // values that `resize_column` takes at a time
constexpr int PADDING = 8;

// The weights of the source pixels of each target pixel, along one axis.
struct Taps {
    int64_t count;                // target pixels
    std::vector<int32_t> first;   // [count], the first source pixel
    std::vector<int32_t> length;  // [count], source pixels
    std::vector<int64_t> start;   // [count], of the target pixel's weights
    std::vector<int32_t> weights;
};

#define PNP_LOOPS "resize.inl"
#include "targets.inl"

// The cubic of Keys, a = -0.5.
double cubic(double x) {
    constexpr double a = -0.5;
    x = std::fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
    return 0;
}

// Computes the weights of an axis, in the order of operations that Pillow has: each rounding counts.
Taps make_taps(int32_t source, int32_t target) {
    Taps taps{target, {}, {}, {}, {}};
    const double scale = double(source) / target, widened = std::max(scale, 1.0);
    const double support = 2 * widened, inverse = 1 / widened;
    std::vector<double> exact;
    for (int32_t i = 0; i < target; i++) {
        const double center = (i + 0.5) * scale;
        const int32_t first = int32_t(std::max(center - support + 0.5, 0.0));
        const int32_t end = int32_t(std::min(center + support + 0.5, double(source)));
        exact.clear();
        double total = 0;
        for (int32_t k = first; k < end; k++) {
            exact.push_back(cubic((k - center + 0.5) * inverse));
            total += exact.back();
        }
        taps.first.push_back(first);
        taps.length.push_back(end - first);
        taps.start.push_back(int64_t(taps.weights.size()));
        for (double weight : exact) {
            if (total != 0) weight /= total;
            const double fixed = weight * (1 << PRECISION);
            taps.weights.push_back(int32_t(weight < 0 ? fixed - 0.5 : fixed + 0.5));
        }
        taps.weights.resize((taps.weights.size() + 1) / 2 * 2);
    }
    return taps;
}

// Resizes the lines of an image: out [height][target][3].
void resize_lines(const uint8_t *image, int64_t stride, int32_t width, int32_t height, int32_t target,
                  uint8_t *out) {
    const Taps taps = make_taps(width, target);
    std::vector<uint8_t> line(size_t(3) * width + PADDING);
    const auto resize = PNP_FASTEST(resize_line);
    for (int64_t y = 0; y < height; y++) {
        std::memcpy(line.data(), image + y * stride, size_t(3) * width);
        resize(line.data(), taps, out + y * target * 3);
    }
}

// Resizes the columns of an image of rows of `count` bytes: out [target][count].
void resize_columns(const uint8_t *image, int64_t stride, int64_t count, int32_t height, int32_t target,
                    uint8_t *out) {
    const Taps taps = make_taps(height, target);
    const auto resize = PNP_FASTEST(resize_column);
    for (int64_t i = 0; i < target; i++)
        resize(image + taps.first[i] * stride, stride, taps.length[i], &taps.weights[taps.start[i]], count,
               out + i * count);
}

void copy_rows(const uint8_t *image, int64_t stride, int64_t bytes, int32_t height, uint8_t *out) {
    for (int64_t y = 0; y < height; y++) std::memcpy(out + y * bytes, image + y * stride, size_t(bytes));
}

// A pass whose sizes are equal is left out. Only on strips, which are more than 100 times as tall as wide and
// become shorter, Pillow 12.2 resizes the columns first.
void resize(const uint8_t *image, int64_t stride, int32_t width, int32_t height, uint8_t *out,
            int32_t out_width, int32_t out_height) {
    const int64_t bytes = int64_t(width) * 3, out_bytes = int64_t(out_width) * 3;
    std::vector<uint8_t> between;
    if (width == out_width && height == out_height) {
        copy_rows(image, stride, bytes, height, out);
    } else if (height == out_height) {
        resize_lines(image, stride, width, height, out_width, out);
    } else if (width == out_width) {
        resize_columns(image, stride, bytes, height, out_height, out);
    } else if (out_height < height && height > 100 * int64_t(width)) {
        between.resize(size_t(bytes * out_height));
        resize_columns(image, stride, bytes, height, out_height, between.data());
        resize_lines(between.data(), bytes, width, out_height, out_width, out);
    } else {
        between.resize(size_t(out_bytes * height));
        resize_lines(image, stride, width, height, out_width, between.data());
        resize_columns(between.data(), out_bytes, out_bytes, height, out_height, out);
    }
}

}  // namespace
}  // namespace pnp

int32_t pnp_resize(const uint8_t *image, int64_t stride, int32_t width, int32_t height, uint8_t *out,
                   int32_t out_width, int32_t out_height) {
    const bool good = image && out && width > 0 && height > 0 && out_width > 0 && out_height > 0 &&
                      stride >= int64_t(width) * 3;
    return pnp::guarded(good, [&] { pnp::resize(image, stride, width, height, out, out_width, out_height); });
}
