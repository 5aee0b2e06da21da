// The calls that segment: one image, and several on threads.
#pragma once

#include <memory>

#include "model.hpp"
#include "settings.hpp"

struct pnp_ovss_names {
    const pnp::Names names;
    const pnp::Settings recommended;  // by the model that made them
};

namespace pnp {

// Returns the settings of a caller for a model. Throws a Failure.
Settings settings_for(const pnp_ovss_model &model, const pnp_ovss_settings *given);

// Segments an image, and writes the outputs once all is done. Throws a Failure.
//   threads  that the CRF may use
void segment(const pnp_ovss_model &model, const pnp_ovss_names *names, const pnp_ovss_image *image,
             const Settings &settings, pnp_ovss_cancel *cancel, const pnp_ovss_output *output, int threads);

// Segments several images on threads, and tells each item how it ended. Throws the Failure of the first that failed.
void segment_batch(const pnp_ovss_model &model, pnp_ovss_item *items, size_t count, const pnp_ovss_settings *given,
                   pnp_ovss_cancel *cancel);

// Checks where labels are written, and returns the stride in bytes. Throws a Failure.
size_t labels_stride(size_t given, int width, int height);

// Writes labels, [height][width], into rows that are `stride` bytes apart.
void write_labels(const std::vector<uint16_t> &labels, int width, size_t stride, uint16_t *out);

}  // namespace pnp
