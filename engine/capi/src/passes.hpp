// PnP-OVSS: from an image and names to class maps; steps 4 and 5 of engine/METHOD.md.
#pragma once

#include <vector>

#include "captions.hpp"
#include "clock.hpp"
#include "model.hpp"
#include "settings.hpp"

namespace pnp {

// Where the model sees the classes of an image.
struct Located {
    std::vector<float> maps;       // [C][grid_height][grid_width]; 0 where a class was not looked for
    std::vector<uint8_t> present;  // [C]: whether a class was looked for
    std::vector<float> scores;     // [C]: match probability of each class alone; empty where it was not asked for
    std::vector<float> match;      // [K]: match probability in each pass; 0 where no class was looked for
};

// Runs the model. Throws a Failure.
//   pixels  normalized image, [3][height][width]
//   scored  whether scores are asked for; where classes must match, they are computed in any case
Located locate(const pnp_ovss_model &model, const Names &names, const std::vector<float> &pixels, bool scored,
               const Settings &settings, const Call &call, Timings &timings);

}  // namespace pnp
