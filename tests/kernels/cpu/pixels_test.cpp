// Runs the resize and the refinement on random problems, for sanitizers: pixels_test COUNT
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "refine.h"
#include "resize.h"

static std::mt19937 random_bits(0);

static int32_t from(int32_t least, int32_t most) {
    return std::uniform_int_distribution<int32_t>(least, most)(random_bits);
}

template <class T>
static void fill(std::vector<T> &values, int32_t most, T unit) {
    for (T &value : values) value = T(T(from(0, most)) * unit);
}

static void require(bool good, const char *what) {
    if (good) return;
    std::fprintf(stderr, "%s failed\n", what);
    std::exit(1);
}

static void resize() {
    const int32_t width = from(1, 150), height = from(1, 150), padding = from(0, 9);
    const int32_t out_width = from(1, 150), out_height = from(1, 150);
    const int64_t stride = int64_t(width) * 3 + padding;
    std::vector<uint8_t> image(size_t(stride * height - padding)), out(size_t(out_width) * out_height * 3);
    fill<uint8_t>(image, 255, 1);
    require(pnp_resize(image.data(), stride, width, height, out.data(), out_width, out_height) == 0, "resize");
    require(pnp_resize(image.data(), stride, 0, height, out.data(), out_width, out_height) != 0, "refusal");
}

static void refine() {
    pnp_refine_params params{};
    params.maps = from(1, 6), params.grid_height = from(1, 24), params.grid_width = from(1, 24);
    params.height = from(1, 150), params.width = from(1, 150), params.threshold = from(0, 10) / 10.0;
    const bool background = from(0, 1);
    const double sigma = from(0, 400) / 4.0;
    const int32_t grids[] = {params.grid_height, params.grid_width}, sizes[] = {params.height, params.width};
    std::vector<double> lines[2], cells[2];
    for (int axis = 0; axis < 2; axis++) {
        lines[axis].resize(size_t(sizes[axis]) * grids[axis]);
        cells[axis].resize(size_t(sizes[axis]) * (2 * grids[axis] - 1));
        require(!pnp_refine_upsampling(grids[axis], sizes[axis], sigma, lines[axis].data()), "upsampling");
        require(!pnp_refine_cells(grids[axis], sizes[axis], sigma, cells[axis].data()), "cells");
    }
    params.rows = lines[0].data(), params.columns = lines[1].data();
    if (background) params.cell_rows = cells[0].data(), params.cell_columns = cells[1].data();
    const int32_t channels = params.maps + background;
    std::vector<float> maps(size_t(params.maps) * grids[0] * grids[1]);
    fill<float>(maps, 3, 0.25f);
    std::vector<uint16_t> numbers(size_t(channels), 7), labels(size_t(sizes[0]) * sizes[1]);
    std::vector<float> values(size_t(channels) * sizes[0] * sizes[1]);
    require(!pnp_refine_channels(maps.data(), &params, values.data()), "channels");
    require(!pnp_refine_probabilities(maps.data(), &params, values.data()), "probabilities");
    require(!pnp_refine_labels(maps.data(), &params, numbers.data(), labels.data()), "labels");
    const int32_t height = from(1, 200), width = from(1, 200);
    labels.assign(size_t(height) * width, 0);
    require(!pnp_refine_enlarged_labels(values.data(), channels, sizes[0], sizes[1], numbers.data(), height, width,
                                        labels.data()),
            "enlarged labels");
    for (uint16_t label : labels) require(label == 7, "a label");
    params.columns = nullptr;
    require(pnp_refine_labels(maps.data(), &params, numbers.data(), labels.data()) != 0, "refusal");
}

int main(int count, char **words) {
    const int problems = count > 1 ? std::atoi(words[1]) : 100;
    for (int i = 0; i < problems; i++) resize(), refine();
    std::printf("%d problems\n", problems);
}
