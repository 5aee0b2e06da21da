// What the passes compute between the runs of the graphs, as kernels/reference/passes.py defines it.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "captions.hpp"

namespace pnp {

// Returns the pixels, [3][height][width], with zeros in the dropped patches.
std::vector<float> blank_patches(const std::vector<float> &pixels, const std::vector<uint8_t> &dropped, int height,
                                 int width, int patch);

// Adds the salience of a pass, [captions][length][P], to the total; that of dropped patches counts as zero. Returns
// the scores of the patches, [P]: the salience summed over the tokens of all names.
std::vector<float> accumulate(std::vector<float> &total, const std::vector<float> &salience,
                              const std::vector<uint8_t> &dropped, const std::vector<Caption> &captions, size_t length,
                              float weight);

// Drops the `count` patches of the highest scores that are left; among equal scores, the lower index first.
void drop_salient(const std::vector<float> &scores, size_t count, std::vector<uint8_t> &dropped);

// Computes the class maps, [classes][P], from the total: the mean over the tokens of a name, the largest of a class's
// names. With `sum_last`, the last name of each caption is summed instead. Classes without a name are 0.
std::vector<float> class_maps(const std::vector<float> &total, const std::vector<Caption> &captions, size_t length,
                              size_t patches, size_t classes, bool sum_last);

// Returns the larger of two values, and what is no number where one of them is none.
inline float larger(float one, float other) { return other > one || std::isnan(other) ? other : one; }

// Returns the match probability of ITM logits (no match, match); NaN where one is not finite.
double match_probability(const float *logits);

}  // namespace pnp
