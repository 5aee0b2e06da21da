// The inner loops, compiled for several instruction sets; `pick_functions` picks one at run time.
#pragma once

#include <cstdint>

namespace pnp {

// Number of points (pixels) that the loops process at once.
constexpr int BLOCK = 8;

// Unit of an offset into the vertices' values, in floats: an index register scaled by 8 bytes costs nothing.
constexpr int OFFSET_UNIT = 2;

// Arrays that a sweep reads and writes for one kernel of the CRF. Null for `from` skips the slice, null for
// `to` skips the splat.
struct Messages {
    const uint32_t *offset;  // [points][corners], of the vertices' values, in OFFSET_UNIT floats
    const float *weight;     // [points][corners], barycentric, with norm and compatibility
    const float *from;       // [vertices][stride], values that are sliced
    float *to;               // [vertices][stride], values that are splatted onto
};

// One sweep over the points: slice the messages, take the softmax, splat the result.
struct Sweep {
    float *logits;  // [points][stride]: unary log probabilities, to base 2
    bool last;      // whether the marginals overwrite the logits
    int labels;
    int stride;     // floats of a point or vertex: labels, padded to whole vectors
    void *scratch;  // [BLOCK][stride] floats, zero before the sweep, aligned to vectors
    Messages gaussian, bilateral;
};

// The loops of one instruction set; `loops.inl` says what each computes.
struct Functions {
    void (*locate2)(const float *features, int32_t *base, int32_t *order, float *weight);
    void (*locate5)(const float *features, int32_t *base, int32_t *order, float *weight);
    bool (*logarithms)(float *values, int64_t count);
    void (*sweep)(const Sweep &job, int64_t first, int64_t last);
    void (*blur)(const float *from, float *to, const uint32_t *neighbors, int stride, int64_t first,
                 int64_t last);
};

// Returns the loops for this processor's instruction set and for a stride.
Functions pick_functions(int stride);

}  // namespace pnp
