// The matrices of refinement: upsampling and cells along a line of pixels, blurred.
#include <algorithm>
#include <cmath>
#include <vector>

#include "guarded.hpp"
#include "refine.h"

namespace pnp {
namespace {

constexpr double LARGEST_SIGMA = 1e8;  // its Gaussian has 8e8 weights
constexpr double ROUNDING = 1e-14;  // of a weight; seen: 5e-16 where there is nothing, 1e-13 where there is least

// The place of a pixel among the cells of a line, whose first and last are the first and the last pixel. It is an
// exact fraction: a pixel that lies on a cell has part 0.
struct Place {
    int64_t cell;
    double part;  // of the way to the next cell
};

Place place_of(int64_t pixel, int64_t grid, int64_t size) {
    const int64_t steps = std::max<int64_t>(size - 1, 1), position = pixel * (grid - 1);
    return {position / steps, double(position % steps) / double(steps)};
}

// A Gaussian, truncated at 4 sigma. A line that is reflected at its ends repeats itself after 2 * size pixels, so
// the weights of all offsets are added to those from -size to size - 1.
class Gaussian {
public:
    Gaussian(double sigma, int64_t size) : size_(size), radius_(int64_t(4 * sigma + 0.5)) {
        if (radius_ == 0) return;
        std::vector<double> weights(size_t(2 * size));
        double total = 0;
        for (int64_t offset = -radius_; offset <= radius_; offset++) {
            const double weight = std::exp(-0.5 * (offset / sigma) * (offset / sigma));
            const int64_t place = (offset + size) % (2 * size);
            weights[size_t(place < 0 ? place + 2 * size : place)] += weight;
            total += weight;
        }
        sums_.push_back(0);
        moments_.push_back(0);
        for (int64_t i = 0; i < 2 * size; i++) {
            sums_.push_back(sums_.back() + weights[size_t(i)] / total);
            moments_.push_back(moments_.back() + double(i - size) * weights[size_t(i)] / total);
        }
    }

    bool blurs() const { return radius_ > 0; }

    // Returns the blurred value at `pixel` of a line that is a + b * j at the pixels j from `first` to `last`, and
    // 0 elsewhere. The line is not reflected; `first` and `last` may lie outside of it.
    double at(int64_t pixel, int64_t first, int64_t last, double a, double b) const {
        const size_t from = size_t(std::clamp(first - pixel, -size_, size_) + size_);
        const size_t to = size_t(std::clamp(last - pixel, -size_, size_) + size_);
        return (a + b * double(pixel)) * (sums_[to] - sums_[from]) + b * (moments_[to] - moments_[from]);
    }

private:
    int64_t size_, radius_;
    std::vector<double> sums_, moments_;  // [2 * size + 1], of the weights before an offset, and of offset * weight
};

// Adds to a column of a matrix [size][columns] the line that is a + b * j at the pixels j from `first` to `last`,
// blurred, with the line reflected at its ends.
void add_blurred(const Gaussian &gaussian, int64_t first, int64_t last, double a, double b, int64_t size,
                 int64_t columns, double *column) {
    if (first >= last) return;
    const int64_t end = 2 * size;
    for (int64_t pixel = 0; pixel < size; pixel++)
        column[pixel * columns] += gaussian.at(pixel, first, last, a, b) +
                                   gaussian.at(pixel, -last, -first, a - b, -b) +
                                   gaussian.at(pixel, end - last, end - first, a + b * double(end - 1), -b);
}

// Returns the first pixel whose place is `cell` or later, or, with `after`, later than `cell`.
int64_t first_pixel(int64_t cell, bool after, int64_t grid, int64_t size) {
    if (grid == 1) return cell > 0 || after ? size : 0;  // all pixels lie on the only cell
    const int64_t position = cell * std::max<int64_t>(size - 1, 1);
    const int64_t pixel = after ? position / (grid - 1) + 1 : (position + grid - 2) / (grid - 1);
    return std::min(pixel, size);
}

void clear(double *matrix, int64_t count) { std::fill(matrix, matrix + count, 0.0); }

void upsampling(int64_t grid, int64_t size, double sigma, double *matrix) {
    clear(matrix, size * grid);
    const Gaussian gaussian(sigma, size);
    if (!gaussian.blurs()) {
        for (int64_t pixel = 0; pixel < size; pixel++) {
            const Place place = place_of(pixel, grid, size);
            matrix[pixel * grid + place.cell] = 1 - place.part;
            if (place.part > 0) matrix[pixel * grid + place.cell + 1] = place.part;
        }
        return;
    }
    // A cell's weight rises linearly from the cell before it, and falls to the cell after it.
    const double slope = double(grid - 1) / double(std::max<int64_t>(size - 1, 1));
    for (int64_t cell = 0; cell < grid; cell++) {
        const int64_t here = first_pixel(cell, false, grid, size);
        if (cell > 0)
            add_blurred(gaussian, first_pixel(cell - 1, false, grid, size), here, double(1 - cell), slope, size,
                        grid, matrix + cell);
        add_blurred(gaussian, here, first_pixel(cell + 1, false, grid, size), double(1 + cell), -slope, size, grid,
                    matrix + cell);
    }
    for (int64_t i = 0; i < size * grid; i++)
        if (matrix[i] < ROUNDING) matrix[i] = 0;  // so that channels are 0 exactly where nothing is
}

void cells(int64_t grid, int64_t size, double sigma, double *matrix) {
    const int64_t columns = 2 * grid - 1;
    clear(matrix, size * columns);
    const Gaussian gaussian(sigma, size);
    if (!gaussian.blurs()) {
        for (int64_t pixel = 0; pixel < size; pixel++) {
            const Place place = place_of(pixel, grid, size);
            matrix[pixel * columns + 2 * place.cell + (place.part > 0)] = 1;
        }
        return;
    }
    for (int64_t column = 0; column < columns; column++)
        add_blurred(gaussian, first_pixel(column / 2, column % 2 == 1, grid, size),
                    first_pixel((column + 1) / 2, column % 2 == 0, grid, size), 1, 0, size, columns,
                    matrix + column);
}

bool usable(int32_t grid, int32_t size, double sigma, const double *matrix) {
    return grid > 0 && size > 0 && sigma >= 0 && sigma <= LARGEST_SIGMA && matrix;
}

}  // namespace
}  // namespace pnp

int32_t pnp_refine_upsampling(int32_t grid, int32_t size, double sigma, double *matrix) {
    return pnp::guarded(pnp::usable(grid, size, sigma, matrix),
                        [&] { pnp::upsampling(grid, size, sigma, matrix); });
}

int32_t pnp_refine_cells(int32_t grid, int32_t size, double sigma, double *matrix) {
    return pnp::guarded(pnp::usable(grid, size, sigma, matrix), [&] { pnp::cells(grid, size, sigma, matrix); });
}
