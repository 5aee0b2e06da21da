// The dense CRF through its C interface, on its own, so that sanitizers see all of it.
//
//     densecrf_test fuzz COUNT SEED         random small problems: no crash, marginals that sum to 1
//     densecrf_test threads WIDTH HEIGHT    one problem at a time on several threads, several at once

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <thread>
#include <vector>

#include "densecrf.h"

namespace {

#define CHECK(condition)                                                            \
    do {                                                                            \
        if (!(condition)) {                                                         \
            std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);    \
            std::exit(1);                                                           \
        }                                                                           \
    } while (0)

const float BAD[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), -1e-3f};

struct Problem {
    int width, height, labels;
    std::vector<uint8_t> image;
    std::vector<float> probabilities;
    pnp_densecrf_params params{0, 10, 1, 3, 7, 50, 5, 10};

    Problem(int width, int height, int labels)
        : width(width), height(height), labels(labels), image(size_t(width) * height * 3),
          probabilities(size_t(width) * height * labels) {}

    int run(std::vector<float> &marginals, pnp_densecrf_stats *stats = nullptr) const {
        marginals.assign(probabilities.size(), -1.0f);
        return pnp_densecrf(image.data(), probabilities.data(), marginals.data(), width, height, labels,
                            &params, stats);
    }
};

void check_marginals(const Problem &problem, const std::vector<float> &marginals) {
    const size_t points = size_t(problem.width) * problem.height;
    for (size_t p = 0; p < points; p++) {
        float sum = 0;
        for (int l = 0; l < problem.labels; l++) {
            const float value = marginals[l * points + p];
            CHECK(value >= 0 && value <= 1.001f);  // false for NaN
            sum += value;
        }
        CHECK(std::fabs(sum - 1) < 1e-3f);
    }
}

using Random = std::mt19937;
int whole(Random &random, int from, int to) { return std::uniform_int_distribution<>(from, to)(random); }
float scaled(Random &random, float low, float high) {  // evenly over magnitudes
    return std::exp(std::uniform_real_distribution<float>(std::log(low), std::log(high))(random));
}

Problem random_problem(Random &random) {
    const int most = whole(random, 0, 9) == 0 ? 80 : 12;
    Problem problem(whole(random, 1, most), whole(random, 1, most),
                    whole(random, 1, whole(random, 0, 19) == 0 ? 256 : 24));
    const int levels = whole(random, 1, 256);
    for (auto &value : problem.image) value = uint8_t(whole(random, 0, levels - 1));
    const float sharpness = scaled(random, 1e-3f, 120);
    for (auto &value : problem.probabilities)
        value = std::exp(-sharpness * std::uniform_real_distribution<float>()(random));
    problem.params.iterations = whole(random, 0, 6);
    problem.params.threads = whole(random, 1, 4);
    problem.params.gaussian_sxy = scaled(random, 1e-2f, 1e3f);
    problem.params.gaussian_compat = whole(random, 0, 4) ? scaled(random, 1e-3f, 1e3f) : 0;
    problem.params.bilateral_sxy = scaled(random, 1e-2f, 1e3f);
    problem.params.bilateral_srgb = scaled(random, 1e-3f, 1e3f);
    problem.params.bilateral_compat = whole(random, 0, 4) ? scaled(random, 1e-3f, 1e3f) : 0;
    return problem;
}

void fuzz(int count, unsigned seed) {
    Random random(seed);
    std::vector<float> marginals;
    int spoilt = 0;
    for (int number = 0; number < count; number++) {
        Problem problem = random_problem(random);
        const bool spoil = number % 10 == 0;
        if (spoil) problem.probabilities[size_t(random()) % problem.probabilities.size()] = BAD[number / 10 % 3];
        const int code = problem.run(marginals);
        CHECK(code == (spoil ? PNP_DENSECRF_NOT_FINITE : PNP_DENSECRF_OK));
        if (!spoil) check_marginals(problem, marginals);
        for (float value : marginals) CHECK(!spoil || value == -1);
        spoilt += spoil;
    }
    std::printf("%d problems, %d of them refused\n", count, spoilt);
}

void threads(int width, int height) {
    Random random(7);
    Problem problem(width, height, 5);
    for (auto &value : problem.image) value = uint8_t(whole(random, 0, 40));
    for (auto &value : problem.probabilities) value = scaled(random, 0.1f, 1);
    std::vector<float> one, many;
    CHECK(problem.run(one) == PNP_DENSECRF_OK);
    for (int count : {2, 3, 8, 61}) {
        problem.params.threads = count;
        CHECK(problem.run(many) == PNP_DENSECRF_OK);
        check_marginals(problem, many);
        for (size_t i = 0; i < one.size(); i++) CHECK(std::fabs(one[i] - many[i]) < 5e-3f);
    }
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 4; caller++) callers.emplace_back([&problem, caller] {
        Problem own = problem;
        own.params.threads = 1 + caller % 2;
        std::vector<float> marginals;
        pnp_densecrf_stats stats;
        CHECK(own.run(marginals, &stats) == PNP_DENSECRF_OK);
        CHECK(stats.vertices > 0 && stats.sweep > 0);
        check_marginals(own, marginals);
    });
    for (auto &caller : callers) caller.join();
    pnp_densecrf_stats stats;
    problem.params.threads = 1;
    CHECK(problem.run(many, &stats) == PNP_DENSECRF_OK);
    problem.params.memory = stats.peak_bytes;
    CHECK(problem.run(many) == PNP_DENSECRF_OK);
    for (int part = 1; part < 10; part++) {  // wherever memory ends
        problem.params.memory = stats.peak_bytes * part / 10;
        problem.params.threads = part < 5 ? 3 : 1;
        CHECK(problem.run(many) == PNP_DENSECRF_NO_MEMORY);
    }
    problem.params.memory = 0;
    problem.probabilities[problem.probabilities.size() / 8] = BAD[0];
    CHECK(problem.run(many) == PNP_DENSECRF_NOT_FINITE);
    std::puts("threads agree");
}

}  // namespace

int main(int count, char **words) {
    if (count == 4 && !std::strcmp(words[1], "fuzz")) fuzz(std::atoi(words[2]), unsigned(std::atoi(words[3])));
    else if (count == 4 && !std::strcmp(words[1], "threads")) threads(std::atoi(words[2]), std::atoi(words[3]));
    else return 2;
    return 0;
}
