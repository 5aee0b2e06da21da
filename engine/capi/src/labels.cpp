#include "labels.hpp"

#include <algorithm>
#include <cmath>
#include <new>

#include "densecrf.h"
#include "failure.hpp"
#include "refine.h"

namespace pnp {

namespace {

constexpr int FEW_CLASSES = 3;  // fewer named classes than this leave room for a background, with AUTO
constexpr int64_t MOST_LINES = int64_t(1) << 27;  // numbers in matrices of 1 GiB: of sides of over a million pixels

void check(int32_t code) {
    if (code == PNP_REFINE_NO_MEMORY) throw std::bad_alloc();
    if (code != PNP_REFINE_OK) throw Failure(PNP_OVSS_FAILED, "class maps cannot be refined", DEFECT);
}

// The class maps of an image that become channels, and the number of each channel.
struct Maps {
    std::vector<float> values;
    std::vector<uint16_t> numbers;
    int count;
};

Maps kept(const float *maps, const std::vector<uint8_t> &present, size_t cells, const Settings &settings) {
    Maps out{{}, {}, 0};
    for (size_t c = 0; c < present.size(); c++)
        if (present[c]) {
            out.values.insert(out.values.end(), maps + c * cells, maps + (c + 1) * cells);
            out.numbers.push_back(uint16_t(c + 1));
        }
    out.count = int(out.numbers.size());
    const bool background = settings.background == Background::automatic ? out.count < FEW_CLASSES
                                                                         : settings.background == Background::always;
    if (background) out.numbers.insert(out.numbers.begin(), 0);
    return out;
}

// The size at which an image is refined.
struct Size {
    int height, width;
};

Size refined_size(const Image &image, int longest) {
    const int most = std::max(image.height, image.width);
    if (longest == 0 || most <= longest) return {image.height, image.width};
    const auto scaled = [&](int side) { return std::max(int(std::nearbyint(double(side) * longest / most)), 1); };
    return {scaled(image.height), scaled(image.width)};
}

// The matrices that upsample and blur.
struct Lines {
    std::vector<double> rows, columns, cell_rows, cell_columns;

    Lines(int grid_height, int grid_width, Size size, double sigma, bool background) {
        const int64_t cells = int64_t(size.height) * grid_height + int64_t(size.width) * grid_width;
        if (cells * 3 > MOST_LINES)
            throw Failure(PNP_OVSS_NO_MEMORY, {"an image of ", size.width, "x", size.height, " has too long sides"},
                          "set refine_side, or crop the image");
        rows.resize(size_t(size.height) * size_t(grid_height));
        columns.resize(size_t(size.width) * size_t(grid_width));
        check(pnp_refine_upsampling(grid_height, size.height, sigma, rows.data()));
        check(pnp_refine_upsampling(grid_width, size.width, sigma, columns.data()));
        if (!background) return;
        cell_rows.resize(size_t(size.height) * size_t(2 * grid_height - 1));
        cell_columns.resize(size_t(size.width) * size_t(2 * grid_width - 1));
        check(pnp_refine_cells(grid_height, size.height, sigma, cell_rows.data()));
        check(pnp_refine_cells(grid_width, size.width, sigma, cell_columns.data()));
    }
};

// Replaces probabilities by the marginals of the dense CRF, with the parameters of the paper.
void run_crf(const Image &image, Size size, int channels, const Settings &settings, int threads,
             std::vector<float> &probabilities) {
    std::vector<uint8_t> pixels;
    if (size.height != image.height || size.width != image.width || image.stride != int64_t(3) * image.width)
        pixels = resized(image, size.height, size.width);
    pnp_densecrf_params params = {};
    params.memory = int64_t(std::min<uint64_t>(settings.crf_memory, INT64_MAX));
    params.iterations = 10;
    params.threads = threads;
    params.gaussian_sxy = 3;
    params.gaussian_compat = 7;
    params.bilateral_sxy = 50;
    params.bilateral_srgb = 5;
    params.bilateral_compat = 10;
    const int32_t code = pnp_densecrf(pixels.empty() ? image.rgb : pixels.data(), probabilities.data(),
                                      probabilities.data(), size.width, size.height, channels, &params, nullptr);
    if (code == PNP_DENSECRF_OK) return;
    if (code == PNP_DENSECRF_NO_MEMORY)
        throw Failure(PNP_OVSS_NO_MEMORY,
                      {"there is not enough memory for the dense CRF on ", size.width, "x", size.height, " pixels and ",
                       channels, " labels"},
                      "set refine_side, name fewer classes, or go without the CRF");
    throw Failure(PNP_OVSS_FAILED, {"the dense CRF failed with code ", code, " of densecrf.h"}, DEFECT);
}

}  // namespace

std::vector<uint16_t> refine(const Image &image, const float *maps, const std::vector<uint8_t> &present,
                             int grid_height, int grid_width, const Settings &settings, int threads, Timings &timings) {
    std::vector<uint16_t> labels(size_t(image.height) * size_t(image.width));
    std::vector<float> probabilities;
    const size_t cells = size_t(grid_height) * size_t(grid_width);
    const Maps chosen = kept(maps, present, cells, settings);
    const int channels = int(chosen.numbers.size());
    if (chosen.count == 0) return labels;
    const Size size = refined_size(image, settings.refine_side);
    const bool at_once = !settings.crf && size.height == image.height && size.width == image.width;
    {
        const Clock clock(timings.refine);
        const double sigma = settings.blur * std::max(size.height, size.width);
        const Lines lines(grid_height, grid_width, size, sigma, channels > chosen.count);
        const bool background = !lines.cell_rows.empty();
        const pnp_refine_params params{chosen.count, grid_height, grid_width, size.height, size.width,
                                       settings.threshold, lines.rows.data(), lines.columns.data(),
                                       background ? lines.cell_rows.data() : nullptr,
                                       background ? lines.cell_columns.data() : nullptr};
        if (at_once) {
            check(pnp_refine_labels(chosen.values.data(), &params, chosen.numbers.data(), labels.data()));
            return labels;
        }
        probabilities.resize(size_t(channels) * size_t(size.height) * size_t(size.width));
        check(pnp_refine_probabilities(chosen.values.data(), &params, probabilities.data()));
    }
    if (settings.crf) {
        const Clock clock(timings.crf);
        run_crf(image, size, channels, settings, threads, probabilities);
    }
    const Clock clock(timings.refine);
    check(pnp_refine_enlarged_labels(probabilities.data(), channels, size.height, size.width, chosen.numbers.data(),
                                     image.height, image.width, labels.data()));
    return labels;
}

}  // namespace pnp
