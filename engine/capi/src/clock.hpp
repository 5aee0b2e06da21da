// The time that the steps of a call take.
#pragma once

#include <chrono>

namespace pnp {

// Seconds of each step.
struct Timings {
    double preprocess = 0, graphs = 0, passes = 0, refine = 0, crf = 0;
};

// Adds the seconds that it lives to a sum.
class Clock {
public:
    explicit Clock(double &sum) : sum_(sum) {}
    ~Clock() { sum_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }
    Clock(const Clock &) = delete;

private:
    double &sum_;
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace pnp
