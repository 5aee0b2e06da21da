#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "guarded.hpp"
#include "refine.h"

namespace pnp {
namespace {

constexpr int BLOCK = 16;          // pixels of a row that the loops take at a time
constexpr int64_t ROWS = 8;         // rows that they take at a time
constexpr double ROUNDING = 1e-5;  // a channel is constant that spans no more of its largest magnitude

// A matrix of columns [width][inner], as blocks of BLOCK pixels: [blocks][inner][BLOCK]. The last pixel is repeated
// up to the end of its block, which changes no extent.
struct Columns {
    int64_t inner;
    std::vector<double> values;
    std::vector<int32_t> first, last;  // of each block: columns that are not 0

    Columns(const double *matrix, int64_t width, int64_t inner) : inner(inner) {
        if (!matrix) return;
        const int64_t count = (width + BLOCK - 1) / BLOCK;
        values.resize(size_t(count * inner * BLOCK));
        first.assign(size_t(count), int32_t(inner));
        last.assign(size_t(count), 0);
        for (int64_t x = 0; x < count * BLOCK; x++)
            for (int64_t k = 0; k < inner; k++) {
                const double value = matrix[std::min(x, width - 1) * inner + k];
                const size_t block = size_t(x / BLOCK);
                values[(block * size_t(inner) + size_t(k)) * BLOCK + size_t(x % BLOCK)] = value;
                if (value == 0) continue;
                first[block] = std::min(first[block], int32_t(k));
                last[block] = std::max(last[block], int32_t(k + 1));
            }
    }

    int64_t blocks() const { return int64_t(first.size()); }
};

// What a row of a channel is made of: a line [inner] times the columns, less the level; then scaled.
struct Row {
    const double *line;
    const Columns *columns;
    double level;
    float low, span;  // a span of 0 stands for a constant channel
};

// Where a pixel of an enlarged image lies between two pixels of the small one, with pixels as areas: the center of
// pixel i lies at (i + 1/2) * from / to - 1/2.
struct Between {
    int32_t lower, upper;
    float part;  // of the way from the lower to the upper
};

#define PNP_LOOPS "refine.inl"
#include "targets.inl"

// A channel: a matrix of rows, a map, and a matrix of columns.
struct Channel {
    const double *rows;  // [height][inner_height]
    const double *map;   // [inner_height][inner_width]
    int64_t inner_height;
    const Columns *columns;
    double level = 0;         // value at the first pixel, which is subtracted
    float low = 0, span = 0;  // of the values less the level; a span of 0 stands for a constant channel
};

// The channels of an image; `rows` has what a row of each is made of.
class Channels {
public:
    Channels(const float *maps, const pnp_refine_params &params);

    int64_t count() const { return int64_t(channels_.size()); }

    // Returns rows [channels][number] of all channels, of ROWS rows from `y` on those that there are, until the
    // next call.
    const Row *rows(int64_t y, int64_t number) {
        for (size_t c = 0; c < channels_.size(); c++) make_rows(channels_[c], y, number, c);
        return rows_.data();
    }

    // Returns how many rows there are to take at a time, from row `y` on.
    int64_t number(int64_t y) const { return std::min(ROWS, height_ - y); }

private:
    void make_rows(const Channel &channel, int64_t y, int64_t number, size_t place);
    Row row(const Channel &channel, int64_t y, double *line) const;
    void add(const double *rows, const double *map, int64_t inner_height, const Columns &columns);
    void find_extent(Channel &channel);

    int64_t height_;
    size_t line_;  // doubles of a line
    Columns columns_, cell_columns_;
    std::vector<double> kept_, cells_, lines_;
    std::vector<Channel> channels_;
    std::vector<Row> rows_;
    decltype(&portable::make_line) make_line_ = PNP_FASTEST(make_line);
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

// Divides a map by its largest magnitude, so that proportional maps become equal.
void to_unit(double *map, int64_t count) {
    double largest = 0;
    for (int64_t i = 0; i < count; i++) largest = std::max(largest, std::fabs(map[i]));
    for (int64_t i = 0; i < count && largest > 0; i++) map[i] /= largest;
}

Channels::Channels(const float *maps, const pnp_refine_params &params)
    : height_(params.height), line_(size_t(2 * params.grid_width - 1)),
      columns_(params.columns, params.width, params.grid_width),
      cell_columns_(params.cell_columns, params.width, 2 * params.grid_width - 1) {
    const int64_t count = params.maps, height = params.grid_height, width = params.grid_width;
    kept_.resize(size_t(count * height * width));
    lines_.resize(size_t(count + 1) * ROWS * line_);
    rows_.resize(size_t(count + 1) * ROWS);
    for (int64_t c = 0; c < count; c++)
        threshold(maps + c * height * width, height * width, params.threshold, &kept_[size_t(c * height * width)]);
    if (params.cell_rows) {
        const int64_t rows = 2 * height - 1, columns = 2 * width - 1;
        cells_.resize(size_t(rows * columns));
        mark_background(kept_.data(), count, height, width, cells_.data());
        to_unit(cells_.data(), rows * columns);
        add(params.cell_rows, cells_.data(), rows, cell_columns_);
    }
    for (int64_t c = 0; c < count; c++) {
        to_unit(&kept_[size_t(c * height * width)], height * width);
        add(params.rows, &kept_[size_t(c * height * width)], height, columns_);
    }
}

void Channels::add(const double *rows, const double *map, int64_t inner_height, const Columns &columns) {
    Channel channel{rows, map, inner_height, &columns};
    find_extent(channel);
    channels_.push_back(channel);
}

// Computes the line of a row: row y of the matrix of rows, times the map.
Row Channels::row(const Channel &channel, int64_t y, double *line) const {
    make_line_(channel.rows + y * channel.inner_height, channel.inner_height, channel.map, channel.columns->inner,
               line);
    return {line, channel.columns, channel.level, channel.low, channel.span};
}

void Channels::make_rows(const Channel &channel, int64_t y, int64_t number, size_t place) {
    for (int64_t i = 0; i < number; i++) {
        const size_t index = place * size_t(number) + size_t(i);
        rows_[index] = row(channel, y + i, lines_.data() + index * line_);
    }
}

// Finds level, least value and span of a channel. It keeps the digits of a channel of little contrast to take the
// level off in float64.
void Channels::find_extent(Channel &channel) {
    const Row top = row(channel, 0, lines_.data());
    for (int64_t k = 0; k < channel.columns->inner; k++)
        channel.level += top.line[k] * channel.columns->values[size_t(k * BLOCK)];
    float low = std::numeric_limits<float>::infinity(), high = -low;
    const auto extend = PNP_FASTEST(extend);
    for (int64_t y = 0; y < height_; y += ROWS) {
        make_rows(channel, y, number(y), 0);
        extend(rows_.data(), number(y), low, high);
    }
    const double span = double(high) - low;
    const double magnitude = std::max(std::fabs(low + channel.level), std::fabs(high + channel.level));
    channel.low = low;
    channel.span = span <= ROUNDING * magnitude ? 0 : float(span);
}

bool usable(const pnp_refine_params *p) {
    return p && p->maps > 0 && p->grid_height > 0 && p->grid_width > 0 && p->height > 0 && p->width > 0 &&
           p->threshold >= 0 && p->threshold <= 1 && p->rows && p->columns && !p->cell_rows == !p->cell_columns;
}

// Computes all channels, and applies `finish` to each row of them: finish(row, channels, stride).
template <class Finish>
void fill(const float *maps, const pnp_refine_params &params, float *out, const Finish &finish) {
    Channels channels(maps, params);
    const int64_t width = params.width, stride = params.height * width;
    const auto write = PNP_FASTEST(write_scaled);
    for (int64_t y = 0; y < params.height; y += ROWS) {
        const int64_t number = channels.number(y);
        const Row *rows = channels.rows(y, number);
        for (int64_t c = 0; c < channels.count(); c++)
            write(rows + c * number, number, width, out + c * stride + y * width);
        for (int64_t i = 0; i < number; i++) finish(out + (y + i) * width, channels.count(), stride);
    }
}

void label(const float *maps, const pnp_refine_params &params, const uint16_t *numbers, uint16_t *labels) {
    Channels channels(maps, params);
    const auto write = PNP_FASTEST(write_labels);
    for (int64_t y = 0; y < params.height; y += ROWS) {
        const int64_t number = channels.number(y);
        write(channels.rows(y, number), channels.count(), number, numbers, params.width, labels + y * params.width);
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
