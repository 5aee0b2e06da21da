// Mean-field inference in a dense CRF on two permutohedral lattices; `densecrf.h` has the C interface.
#include "densecrf.h"

#include <cfloat>
#include <chrono>
#include <new>

#include "lattice.hpp"

namespace pnp {
namespace {

using Values = Buffer<float>;  // [vertices][stride]

constexpr float LOG2_E = 1.44269504f;  // messages, as all exponents here, are to base 2

// A pairwise kernel of the CRF: its lattice, and the values on the lattice's vertices.
class Kernel {
public:
    Kernel() = default;

    // Folds compatibility and symmetric norm into the weights: slice(blur(splat(q))) is then the message to
    // each label.
    Kernel(Lattice lattice, int64_t points, float compat, int stride, Team &team, Memory &memory)
        : lattice_(std::move(lattice)), stride_(stride) {
        weigh(points, compat, team);
        value_[0] = zeros(team, memory);
        value_[1] = uninitialized<float>(size(), memory);
        std::fill(&value_[1][0], &value_[1][stride], 0.0f);
        for (int member = 1; member < team.size(); member++) partial_.push_back(zeros(team, memory));
    }

    Messages messages(int member, bool slice, bool splat) const {
        if (stride_ == 0) return {};
        float *to = member == 0 ? value_[0].get() : partial_[size_t(member - 1)].get();
        return {lattice_.vertex.get(), lattice_.weight.get(), slice ? value_[1].get() : nullptr,
                splat ? to : nullptr};
    }

    // Sums and blurs the values that the members splatted, and zeroes the arrays for the next splat.
    void blur(const Functions &functions, Team &team) {
        if (stride_ == 0) return;
        if (!partial_.empty()) team.share(size(), [&](int, int64_t first, int64_t last) {
            for (auto &partial : partial_)
                for (int64_t i = first; i < last; i++) {
                    value_[0][i] += partial[i];
                    partial[i] = 0;
                }
        });
        for (int j = 0; j < lattice_.corners; j++) {
            team.share(lattice_.vertices - 1, [&](int, int64_t first, int64_t last) {
                functions.blur(value_[0].get(), value_[1].get(), neighbors(j), stride_, 1 + first, 1 + last);
            });
            std::swap(value_[0], value_[1]);
        }
        std::swap(value_[0], value_[1]);
        team.share(size(), [&](int, int64_t first, int64_t last) {
            std::fill(&value_[0][first], &value_[0][last], 0.0f);
        });
    }

    int64_t vertices() const { return stride_ == 0 ? 0 : lattice_.vertices - 1; }

private:
    Lattice lattice_;
    int stride_ = 0;
    Values value_[2];              // [0] is splatted onto by member 0, [1] is sliced
    std::vector<Values> partial_;  // splatted onto by members 1, 2, ...

    int64_t size() const { return lattice_.vertices * stride_; }
    const Vertex *neighbors(int j) const { return &lattice_.neighbor[j * lattice_.vertices * 2]; }

    Values zeros(Team &team, Memory &memory) const {
        Values values = uninitialized<float>(size(), memory);
        team.share(size(), [&](int, int64_t first, int64_t last) {
            std::fill(&values[first], &values[last], 0.0f);
        });
        return values;
    }

    // Returns the sum of each vertex's weights over all points, blurred.
    std::vector<float> blurred_mass(int64_t points, Team &team) const {
        const int corners = lattice_.corners;
        using Mass = std::vector<float>;
        std::vector<Mass> masses(size_t(team.size()));
        team.share(points, [&](int member, int64_t first, int64_t last) {
            Mass &mass = masses[size_t(member)] = Mass(size_t(lattice_.vertices));
            for (int64_t i = first * corners; i < last * corners; i++)
                mass[lattice_.vertex[i]] += lattice_.weight[i];
        });
        Mass mass = std::move(masses[0]), blurred(mass.size());
        for (size_t member = 1; member < masses.size(); member++)
            for (size_t v = 0; v < mass.size(); v++) mass[v] += masses[member][v];
        for (int j = 0; j < corners; j++) {
            const Vertex *pair = neighbors(j);
            team.share(lattice_.vertices, [&](int, int64_t first, int64_t last) {
                for (int64_t v = first; v < last; v++)
                    blurred[v] = mass[v] + 0.5f * (mass[pair[2 * v]] + mass[pair[2 * v + 1]]);
            });
            std::swap(mass, blurred);
        }
        return mass;
    }

    // Multiplies the weights by norm and compatibility, and turns vertex numbers into offsets of their
    // values, in OFFSET_UNIT floats.
    void weigh(int64_t points, float compat, Team &team) {
        const int corners = lattice_.corners;
        const std::vector<float> mass = blurred_mass(points, team);
        // Factor that makes the blur an average (Adams, Baek and Davis 2010, section 4.2).
        const float gain = 1.0f / (1.0f + std::pow(2.0f, -float(corners - 1)));
        const float strength = std::sqrt(compat * gain * LOG2_E);
        const Vertex width = Vertex(stride_ / OFFSET_UNIT);
        if (lattice_.vertices > UINT32_MAX / width) throw std::bad_alloc();
        team.share(points, [&](int, int64_t first, int64_t last) {
            for (int64_t p = first; p < last; p++) {
                Vertex *vertex = &lattice_.vertex[p * corners];
                float *weight = &lattice_.weight[p * corners], total = 0;
                for (int c = 0; c < corners; c++) total += weight[c] * mass[vertex[c]];
                const float scale = strength / std::sqrt(total * gain + 1e-20f);
                for (int c = 0; c < corners; c++) {
                    weight[c] *= scale;
                    vertex[c] *= width;
                }
            }
        });
        team.share(corners * lattice_.vertices * 2, [&](int, int64_t first, int64_t last) {
            for (int64_t i = first; i < last; i++) lattice_.neighbor[i] *= width;
        });
    }
};

// Adds the seconds since its last call to a sum.
class Clock {
public:
    void operator()(double &spent) {
        const auto now = std::chrono::steady_clock::now();
        spent += std::chrono::duration<double>(now - last_).count();
        last_ = now;
    }

private:
    std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

// An image, and the number of labels of its pixels.
struct Problem {
    const uint8_t *image;
    int width, height, labels;
    Order order() const { return {width, height}; }
    int64_t points() const { return order().points(); }
};

// Builds the kernel with D features; one of compatibility 0 is empty and sends no message.
template <int D>
Kernel build(const Problem &problem, const float (&deviations)[D], float compat, int stride,
             const Functions &functions, Team &team, Memory &memory) {
    if (compat == 0) return {};
    LatticeBuilder<D> builder(problem.image, problem.width, problem.height, deviations, functions, team,
                              memory);
    return {builder.build(), problem.points(), compat, stride, team, memory};
}

constexpr int MAX_LABELS = 1 << 20;  // keeps the size of a block within an int

// Logit of the labels that only pad a vector: their probability is zero next to that of any real label.
constexpr float PADDING_LOGIT = -1e30f;

// A probability is NaN, infinite or negative.
struct NotFinite : std::exception {};

// Writes the log probabilities, to base 2, of the rows from `first` to `last` as [points][stride].
void read(const Problem &problem, const float *probabilities, float *logits, int stride,
          const Functions &functions, Memory &memory, int64_t first, int64_t last) {
    const Values block = uninitialized<float>(Order::WIDE * stride, memory);
    problem.order().rows(first, last, [&](int64_t point, int64_t pixel, int count) {
        std::fill(&block[0], &block[Order::WIDE * stride], 1.0f);
        for (int b = 0; b < count; b++)
            for (int l = 0; l < problem.labels; l++)
                block[b * stride + l] = probabilities[l * problem.points() + pixel + b];
        if (!functions.logarithms(block.get(), Order::WIDE * stride)) throw NotFinite();
        for (int b = 0; b < count; b++)
            std::fill(&block[b * stride + problem.labels], &block[(b + 1) * stride], PADDING_LOGIT);
        std::copy(&block[0], &block[count * stride], logits + point * stride);
    });
}

// Writes the values [points][stride] of the rows from `first` to `last` as [labels][height][width].
void write(const Problem &problem, const float *values, float *marginals, int stride, int64_t first,
           int64_t last) {
    problem.order().rows(first, last, [&](int64_t point, int64_t pixel, int count) {
        for (int l = 0; l < problem.labels; l++)
            for (int b = 0; b < count; b++)
                marginals[l * problem.points() + pixel + b] = values[(point + b) * stride + l];
    });
}

// Runs the mean field; marginals and the time and memory that it took are written.
void infer(const Problem &problem, const float *probabilities, float *marginals,
           const pnp_densecrf_params &params, Memory &memory, pnp_densecrf_stats &stats) {
    const int64_t points = problem.points();
    const int stride = problem.labels <= 4 ? 4 : (problem.labels + 7) / 8 * 8;
    const Functions functions = pick_functions(stride);
    Team team(params.threads);
    Clock clock;

    Values logits = uninitialized<float>(points * stride, memory);
    team.share(problem.height, [&](int, int64_t first, int64_t last) {
        read(problem, probabilities, logits.get(), stride, functions, memory, first, last);
    });
    clock(stats.read);

    const float gaussian_deviations[2] = {params.gaussian_sxy, params.gaussian_sxy};
    const float bilateral_deviations[5] = {params.bilateral_sxy, params.bilateral_sxy, params.bilateral_srgb,
                                           params.bilateral_srgb, params.bilateral_srgb};
    Kernel gaussian =
        build<2>(problem, gaussian_deviations, params.gaussian_compat, stride, functions, team, memory);
    Kernel bilateral =
        build<5>(problem, bilateral_deviations, params.bilateral_compat, stride, functions, team, memory);
    stats.vertices = gaussian.vertices() + bilateral.vertices();
    clock(stats.build);

    for (int iteration = 0; iteration <= params.iterations; iteration++) {
        const bool first = iteration == 0, last = iteration == params.iterations;
        team.share(points, [&](int member, int64_t from, int64_t to) {
            const Values scratch = uninitialized<float>(BLOCK * stride, memory);
            std::fill(&scratch[0], &scratch[BLOCK * stride], 0.0f);
            const Sweep job{logits.get(), last, problem.labels, stride, scratch.get(),
                            gaussian.messages(member, !first, !last),
                            bilateral.messages(member, !first, !last)};
            functions.sweep(job, from, to);
        });
        clock(last ? stats.last : first ? stats.first : stats.sweep);
        if (last) break;
        gaussian.blur(functions, team);
        bilateral.blur(functions, team);
        clock(stats.blur);
    }
    prefer_huge_pages(marginals, size_t(points) * size_t(problem.labels) * sizeof(float));
    team.share(problem.height, [&](int, int64_t first, int64_t last) {
        write(problem, logits.get(), marginals, stride, first, last);
    });
    clock(stats.write);
    stats.peak_bytes = memory.peak();
}

bool positive(float value) { return value > 0 && value <= FLT_MAX; }
bool usable(const pnp_densecrf_params &params) {
    return params.iterations >= 0 && params.threads >= 1 && params.memory >= 0 &&
           positive(params.gaussian_sxy) && positive(params.bilateral_sxy) && positive(params.bilateral_srgb) &&
           params.gaussian_compat >= 0 && params.gaussian_compat <= FLT_MAX &&
           params.bilateral_compat >= 0 && params.bilateral_compat <= FLT_MAX;
}

}  // namespace
}  // namespace pnp

extern "C" int32_t pnp_densecrf(const uint8_t *image, const float *probabilities, float *marginals,
                                int32_t width, int32_t height, int32_t labels,
                                const pnp_densecrf_params *params, pnp_densecrf_stats *stats) {
    if (!image || !probabilities || !marginals || !params || width < 1 || height < 1 || labels < 1 ||
        labels > pnp::MAX_LABELS || !pnp::usable(*params))
        return PNP_DENSECRF_BAD_ARGUMENT;
    const pnp::Problem problem{image, width, height, labels};
    pnp_densecrf_stats ignored;
    pnp_densecrf_stats &filled = stats ? *stats : ignored;
    filled = {};
    try {
        pnp::Memory memory(params->memory ? params->memory : INT64_MAX);
        pnp::infer(problem, probabilities, marginals, *params, memory, filled);
    } catch (const pnp::NotFinite &) {
        return PNP_DENSECRF_NOT_FINITE;
    } catch (const pnp::OutOfRange &) {
        return PNP_DENSECRF_OUT_OF_RANGE;
    } catch (const std::bad_alloc &) {
        return PNP_DENSECRF_NO_MEMORY;
    } catch (const std::length_error &) {  // thrown by std::vector
        return PNP_DENSECRF_NO_MEMORY;
    }
    return PNP_DENSECRF_OK;
}
