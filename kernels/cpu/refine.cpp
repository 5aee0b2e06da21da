#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "guarded.hpp"
#include "refine.h"

namespace pnp {
namespace {

constexpr int GROUP = 16;             // pixels that the loops take at a time
constexpr double ROUNDING = 1e-5;     // a channel is constant that spans no more of its largest magnitude

// Where a pixel of an enlarged image lies between two pixels of the small one, with pixels as areas: the center of
// pixel i lies at (i + 1/2) * from / to - 1/2.
struct Between {
    int32_t lower, upper;
    float part;  // of the way from the lower to the upper
};

#define PNP_LOOPS "refine.inl"
#include "targets.inl"

// The product of a matrix of rows and a map, along with the matrix of columns: all that a channel is made of.
struct Channel {
    const double *rows;      // [height][inner_height]
    const double *map;       // [inner_height][inner_width]
    int64_t inner_height, inner_width;
    const double *columns;   // [inner_width][width]
    const int32_t *first, *last;  // of each block of GROUP pixels: columns that are not 0
    double level = 0;        // value at the first pixel, which is subtracted
    float low = 0, span = 0; // of the values less the level; a span of 0 stands for a constant channel
};

// A matrix of columns, transposed, and which of its entries are 0.
struct Columns {
    std::vector<double> values;
    std::vector<int32_t> first, last;

    Columns(const double *matrix, int64_t width, int64_t inner) : values(size_t(width * inner)) {
        for (int64_t x = 0; x < width; x++) {
            if (x % GROUP == 0) first.push_back(int32_t(inner)), last.push_back(0);
            for (int64_t k = 0; k < inner; k++) {
                values[size_t(k * width + x)] = matrix[x * inner + k];
                if (matrix[x * inner + k] == 0) continue;
                first.back() = std::min(first.back(), int32_t(k));
                last.back() = std::max(last.back(), int32_t(k + 1));
            }
        }
    }
};

// The channels of an image; `row` computes a row of one.
class Channels {
public:
    Channels(const float *maps, const pnp_refine_params &params);

    int64_t count() const { return int64_t(channels_.size()); }

    // Computes a row of a channel, less its level and not scaled yet.
    void row(Channel &channel, int64_t y, float *out) {
        const double *weights = channel.rows + y * channel.inner_height;
        std::fill(line_.begin(), line_.end(), 0.0);
        for (int64_t k = 0; k < channel.inner_height; k++) {
            if (weights[k] == 0) continue;
            const double *map = channel.map + k * channel.inner_width;
            for (int64_t i = 0; i < channel.inner_width; i++) line_[size_t(i)] += weights[k] * map[i];
        }
        multiply_row_(line_.data(), channel.columns, channel.first, channel.last, width_, channel.level, out);
    }

    // Computes a row of a channel, scaled to [0, 1].
    void scaled_row(Channel &channel, int64_t y, float *out) {
        if (channel.span == 0) {
            std::fill(out, out + width_, 0.0f);
            return;
        }
        row(channel, y, out);
        scale_row_(out, width_, channel.low, channel.span);
    }

    Channel &operator[](int64_t index) { return channels_[size_t(index)]; }

private:
    void add(const double *rows, const double *map, int64_t inner_height, int64_t inner_width,
             const Columns &columns);
    void find_extent(Channel &channel);

    int64_t height_, width_;
    Columns columns_, cell_columns_;
    std::vector<double> kept_, cells_, line_;
    std::vector<Channel> channels_;
    std::vector<float> scratch_;
    decltype(&portable::multiply_row) multiply_row_ = PNP_FASTEST(multiply_row);
    decltype(&portable::scale_row) scale_row_ = PNP_FASTEST(scale_row);
    decltype(&portable::extend) extend_ = PNP_FASTEST(extend);
};

// Zeros a map where its min-max scaled form is below the threshold; the rest keeps its values.
void threshold(const float *map, int64_t count, double least, double *out) {
    const double low = *std::min_element(map, map + count), high = *std::max_element(map, map + count);
    for (int64_t i = 0; i < count; i++) {
        const double scaled = high > low ? (map[i] - low) / (high - low) : 0;
        out[i] = scaled < least ? 0 : double(map[i]);
    }
}

// Marks the cells, and the gaps between cells, where all maps are 0: out [2 * height - 1][2 * width - 1].
void mark_background(const double *maps, int64_t count, int64_t height, int64_t width, double *out) {
    std::vector<char> empty(size_t(height * width), 1);
    for (int64_t i = 0; i < count * height * width; i++)
        if (maps[i] != 0) empty[size_t(i % (height * width))] = 0;
    for (int64_t y = 0; y < 2 * height - 1; y++)
        for (int64_t x = 0; x < 2 * width - 1; x++) {
            bool all = true;
            for (int64_t row = y / 2; row <= (y + 1) / 2; row++)
                for (int64_t column = x / 2; column <= (x + 1) / 2; column++)
                    all = all && empty[size_t(row * width + column)];
            *out++ = all;
        }
}

// Scales a map by the power of two that brings its largest magnitude below 1.
void to_unit(double *map, int64_t count) {
    double largest = 0;
    for (int64_t i = 0; i < count; i++) largest = std::max(largest, std::fabs(map[i]));
    int exponent;
    std::frexp(largest, &exponent);
    for (int64_t i = 0; i < count; i++) map[i] = std::ldexp(map[i], -exponent);
}

Channels::Channels(const float *maps, const pnp_refine_params &params)
    : height_(params.height), width_(params.width), columns_(params.columns, params.width, params.grid_width),
      cell_columns_(params.cell_columns, params.cell_columns ? params.width : 0, 2 * params.grid_width - 1),
      scratch_(size_t(params.width)) {
    const int64_t count = params.maps, height = params.grid_height, width = params.grid_width;
    line_.resize(size_t(2 * width - 1));
    kept_.resize(size_t(count * height * width));
    for (int64_t c = 0; c < count; c++)
        threshold(maps + c * height * width, height * width, params.threshold, &kept_[size_t(c * height * width)]);
    if (params.cell_rows) {
        const int64_t rows = 2 * height - 1, columns = 2 * width - 1;
        cells_.resize(size_t(rows * columns));
        mark_background(kept_.data(), count, height, width, cells_.data());
        to_unit(cells_.data(), rows * columns);
        add(params.cell_rows, cells_.data(), rows, columns, cell_columns_);
    }
    for (int64_t c = 0; c < count; c++) {
        to_unit(&kept_[size_t(c * height * width)], height * width);
        add(params.rows, &kept_[size_t(c * height * width)], height, width, columns_);
    }
}

void Channels::add(const double *rows, const double *map, int64_t inner_height, int64_t inner_width,
                   const Columns &columns) {
    Channel channel{rows, map, inner_height, inner_width, columns.values.data(), columns.first.data(),
                    columns.last.data()};
    find_extent(channel);
    channels_.push_back(channel);
}

// Finds level, least value and span of a channel. It keeps the digits of a channel of little contrast to take the
// level off in float64.
void Channels::find_extent(Channel &channel) {
    double level = 0;
    for (int64_t k = 0; k < channel.inner_width; k++) {
        double sum = 0;
        for (int64_t i = 0; i < channel.inner_height; i++)
            sum += channel.rows[i] * channel.map[i * channel.inner_width + k];
        level += sum * channel.columns[k * width_];
    }
    channel.level = level;
    float low = std::numeric_limits<float>::infinity(), high = -low;
    for (int64_t y = 0; y < height_; y++) {
        row(channel, y, scratch_.data());
        extend_(scratch_.data(), width_, low, high);
    }
    const double span = double(high) - low;
    const double magnitude = std::max(std::fabs(low + level), std::fabs(high + level));
    channel.low = low;
    channel.span = span <= ROUNDING * magnitude ? 0 : float(span);
}

bool usable(const pnp_refine_params *p) {
    return p && p->maps > 0 && p->grid_height > 0 && p->grid_width > 0 && p->height > 0 && p->width > 0 &&
           p->threshold >= 0 && p->threshold <= 1 && p->rows && p->columns && !p->cell_rows == !p->cell_columns;
}

// Computes all channels, and applies `finish` to each row of them: finish(row, stride).
template <class Finish>
void fill(const float *maps, const pnp_refine_params &params, float *out, const Finish &finish) {
    Channels channels(maps, params);
    const int64_t width = params.width, stride = params.height * width;
    for (int64_t y = 0; y < params.height; y++) {
        for (int64_t c = 0; c < channels.count(); c++)
            channels.scaled_row(channels[c], y, out + c * stride + y * width);
        finish(out + y * width, channels.count(), stride);
    }
}

// Labels the pixels of a row by the channels' values, which come one after the other.
class RowLabels {
public:
    explicit RowLabels(int64_t width) : best_(size_t(width)), labels_(size_t(width)) {}

    void add(const float *row, bool first, uint16_t number) {
        const int64_t width = int64_t(best_.size());
        if (first) {
            std::copy(row, row + width, best_.begin());
            std::fill(labels_.begin(), labels_.end(), number);
        } else {
            keep_larger_(row, width, number, best_.data(), labels_.data());
        }
    }

    void write(uint16_t *out) const {
        for (size_t x = 0; x < labels_.size(); x++) out[x] = uint16_t(labels_[x]);
    }

private:
    std::vector<float> best_;
    std::vector<int32_t> labels_;
    decltype(&portable::keep_larger) keep_larger_ = PNP_FASTEST(keep_larger);
};

void label(const float *maps, const pnp_refine_params &params, const uint16_t *numbers, uint16_t *labels) {
    Channels channels(maps, params);
    RowLabels of_row(params.width);
    std::vector<float> row(size_t(params.width));
    for (int64_t y = 0; y < params.height; y++) {
        for (int64_t c = 0; c < channels.count(); c++) {
            channels.scaled_row(channels[c], y, row.data());
            of_row.add(row.data(), c == 0, numbers[c]);
        }
        of_row.write(labels + y * params.width);
    }
}

Between between(int64_t i, int64_t from, int64_t to) {
    const int64_t position = std::max<int64_t>((2 * i + 1) * from - to, 0), steps = 2 * to;
    const int64_t lower = std::min(position / steps, from - 1), upper = std::min(lower + 1, from - 1);
    return {int32_t(lower), int32_t(upper), float(double(position - lower * steps) / double(steps))};
}

void label_enlarged(const float *probabilities, int64_t channels, int64_t from_height, int64_t from_width,
                    const uint16_t *numbers, int64_t height, int64_t width, uint16_t *labels) {
    std::vector<Between> places;
    for (int64_t x = 0; x < width; x++) places.push_back(between(x, from_width, width));
    std::vector<float> mixed;
    std::vector<float> row;
    mixed.resize(size_t(from_width));
    row.resize(size_t(width));
    RowLabels of_row(width);
    const auto mix_rows = PNP_FASTEST(mix_rows);
    const auto mix_columns = PNP_FASTEST(mix_columns);
    for (int64_t y = 0; y < height; y++) {
        const Between place = between(y, from_height, height);
        for (int64_t c = 0; c < channels; c++) {
            const float *channel = probabilities + c * from_height * from_width;
            mix_rows(channel + place.lower * from_width, channel + place.upper * from_width, place.part,
                     from_width, mixed.data());
            mix_columns(mixed.data(), places.data(), width, row.data());
            of_row.add(row.data(), c == 0, numbers[c]);
        }
        of_row.write(labels + y * width);
    }
}

}  // namespace
}  // namespace pnp

using namespace pnp;

int32_t pnp_refine_channels(const float *maps, const pnp_refine_params *params, float *channels) {
    return guarded(maps && usable(params) && channels,
                   [&] { fill(maps, *params, channels, [](float *, int64_t, int64_t) {}); });
}

int32_t pnp_refine_probabilities(const float *maps, const pnp_refine_params *params, float *probabilities) {
    return guarded(maps && usable(params) && probabilities, [&] {
        const auto softmax = PNP_FASTEST(softmax_row);
        fill(maps, *params, probabilities, [&](float *row, int64_t channels, int64_t stride) {
            softmax(row, channels, stride, params->width);
        });
    });
}

int32_t pnp_refine_labels(const float *maps, const pnp_refine_params *params, const uint16_t *numbers,
                          uint16_t *labels) {
    return guarded(maps && usable(params) && numbers && labels, [&] { label(maps, *params, numbers, labels); });
}

int32_t pnp_refine_enlarged_labels(const float *probabilities, int32_t channels, int32_t from_height,
                                   int32_t from_width, const uint16_t *numbers, int32_t height, int32_t width,
                                   uint16_t *labels) {
    const bool good = probabilities && channels > 0 && from_height > 0 && from_width > 0 && numbers && labels &&
                      height > 0 && width > 0;
    return guarded(good, [&] {
        label_enlarged(probabilities, channels, from_height, from_width, numbers, height, width, labels);
    });
}
