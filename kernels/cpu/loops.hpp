// The inner loops, as the machine at hand runs them best.
#pragma once

#include <cstdint>

namespace pnp {

// Points that are worked on at once.
constexpr int BLOCK = 8;

// Where a vertex has its values is counted in pairs of floats, which processors can address at no cost.
constexpr int PLACE = 2;

// What one kernel of the CRF reads and writes in a sweep; a null pointer leaves it out.
struct Messages {
    const uint32_t *place;   // [points][corners], of vertices in the values
    const float *weight;     // [points][corners]
    const float *from;       // [vertices][stride], to be sliced
    float *to;               // [vertices][stride], splatted on
};

struct Sweep {
    float *own;     // [points][stride]: log probabilities, to base 2
    bool last;      // marginals are to take the place of these
    int labels;
    int stride;     // of a point or vertex: labels, padded to whole vectors
    void *scratch;  // [BLOCK][stride] floats, zeros to begin with, aligned to vectors
    Messages gaussian, bilateral;
};

struct Functions {
    void (*locate2)(const float *features, int32_t *base, int32_t *order, float *weight);
    void (*locate5)(const float *features, int32_t *base, int32_t *order, float *weight);
    bool (*logarithms)(float *values, int64_t count);
    void (*sweep)(const Sweep &job, int64_t first, int64_t last);
    void (*blur)(const float *from, float *to, const uint32_t *neighbors, int stride, int64_t first,
                 int64_t last);
};

Functions pick_functions(int stride);

}  // namespace pnp
