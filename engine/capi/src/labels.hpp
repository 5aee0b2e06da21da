// From class maps to labels; steps 6 to 11 of engine/METHOD.md. engine/refine/ does the same in Python.
#pragma once

#include <cstdint>
#include <vector>

#include "clock.hpp"
#include "image.hpp"
#include "settings.hpp"

namespace pnp {

// Makes labels, [height][width] of the image: 0 for the background, i + 1 for class i. Throws a Failure.
//   maps      class maps [classes][grid_height][grid_width], finite
//   present   [classes]: maps of classes that are 0 here are left out
//   threads   that the CRF may use
std::vector<uint16_t> refine(const Image &image, const float *maps, const std::vector<uint8_t> &present,
                             int grid_height, int grid_width, const Settings &settings, int threads, Timings &timings);

}  // namespace pnp
