// The functions of pnp_ovss.h.
#include "pnp_ovss.h"

#include <cmath>
#include <cstddef>
#include <cstring>

#include "border.hpp"
#include "image.hpp"
#include "labels.hpp"
#include "salience.hpp"
#include "segment.hpp"
#include "structs.hpp"

using namespace pnp;

namespace {

// Copies a text into a field of a struct, cut where it is too long.
template <size_t N>
void copy_text(char (&out)[N], const std::string &text) {
    std::memcpy(out, text.c_str(), std::min(text.size() + 1, N));
    out[N - 1] = '\0';
}

void write_tokens(const Names &names, const Settings &settings, pnp_ovss_tokens *tokens) {
    constexpr size_t FIRST_SIZE = offsetof(pnp_ovss_tokens, class_tokens) + sizeof(float *);
    pnp_ovss_tokens out = read_struct(tokens, FIRST_SIZE, "pnp_ovss_tokens");
    if (out.reserved) throw bad_input("reserved of pnp_ovss_tokens is not 0", "set it to 0");
    const std::vector<Caption> written = captions(names, std::vector<uint8_t>(names.classes, 1));
    if (written.size() > 1)
        throw bad_input({"a fused graph takes one caption, and only ", written[0].owners.size(), " of ",
                         names.names.size(), " names fit into it"},
                        "name fewer classes at a time; pnp_ovss_segment takes any number");
    const Caption &caption = written[0];
    const size_t length = out.length, least = caption.ids.size();
    out.names = uint32_t(names.names.size());
    if (length == 0) {
        out.length = uint32_t(least);
        write_struct(out, tokens);
        return;
    }
    if (length < least)
        throw bad_input({"length is ", length}, {"the caption has ", least, " tokens"});
    for (size_t t = 0; t < length; t++) {
        if (out.input_ids) out.input_ids[t] = t < least ? caption.ids[t] : names.pad_id;
        if (out.attention_mask) out.attention_mask[t] = t < least;
    }
    if (out.class_tokens) {
        std::fill(out.class_tokens, out.class_tokens + names.names.size() * length, 0.0f);
        for (size_t n = 0; n < caption.owners.size(); n++) {
            const Caption::Owner &owner = caption.owners[n];
            const bool summed = settings.sum_last_class && n + 1 == caption.owners.size();
            float *weights = out.class_tokens + n * length + owner.first;
            std::fill(weights, weights + owner.count, summed ? 1.0f : float(1.0 / owner.count));
        }
    }
    write_struct(out, tokens);
}

void join_names(const Names &names, size_t patches, const float *name_maps, float *class_maps) {
    for (size_t n = 0; n < names.names.size(); n++) {
        const size_t index = names.names[n].class_index;
        const bool first = n == 0 || names.names[n - 1].class_index != index;
        const float *from = name_maps + n * patches;
        float *to = class_maps + index * patches;
        for (size_t p = 0; p < patches; p++) to[p] = first ? from[p] : larger(to[p], from[p]);
    }
}

}  // namespace

const char *pnp_ovss_version(void) { return PNP_OVSS_VERSION; }
int32_t pnp_ovss_abi(void) { return PNP_OVSS_ABI; }

int32_t pnp_ovss_runtime_open(const pnp_ovss_runtime_options *options, pnp_ovss_runtime **runtime,
                              pnp_ovss_error *error) {
    return guarded(error, [&] {
        require(runtime, "where the runtime is written");
        pnp_ovss_runtime_options given = {};
        constexpr size_t FIRST_SIZE = offsetof(pnp_ovss_runtime_options, user) + sizeof(void *);
        if (options) given = read_struct(options, FIRST_SIZE, "pnp_ovss_runtime_options");
        *runtime = new pnp_ovss_runtime(given);
    });
}

const char *pnp_ovss_runtime_version(const pnp_ovss_runtime *runtime) {
    return runtime ? runtime->loaded.version().c_str() : "";
}

void pnp_ovss_runtime_close(pnp_ovss_runtime *runtime) { delete runtime; }

int32_t pnp_ovss_settings_default(const pnp_ovss_model *model, pnp_ovss_settings *settings, pnp_ovss_error *error) {
    return guarded(error, [&] {
        require(model, "model");
        require(settings, "settings");
        model->manifest().settings.write(settings);
    });
}

int32_t pnp_ovss_settings_preset(const char *name, pnp_ovss_settings *settings, pnp_ovss_error *error) {
    return guarded(error, [&] {
        require(name, "name");
        require(settings, "settings");
        Settings::preset(name).write(settings);
    });
}

int32_t pnp_ovss_model_open(pnp_ovss_runtime *runtime, const char *folder, const pnp_ovss_model_options *options,
                            pnp_ovss_model **model, pnp_ovss_error *error) {
    return guarded(error, [&] {
        require(folder, "folder");
        require(model, "where the model is written");
        if (!*folder) throw bad_input("folder is empty", "give the path of a model folder");
        *model = new pnp_ovss_model(runtime ? &runtime->loaded : nullptr, folder, ModelOptions::read(options));
    });
}

int32_t pnp_ovss_model_describe(const pnp_ovss_model *model, pnp_ovss_model_info *info, pnp_ovss_error *error) {
    return guarded(error, [&] {
        require(model, "model");
        require(info, "info");
        constexpr size_t FIRST_SIZE = offsetof(pnp_ovss_model_info, device) + sizeof(pnp_ovss_model_info::device);
        check_size(info->struct_size, FIRST_SIZE, "pnp_ovss_model_info");
        const Manifest &manifest = model->manifest();
        const Preprocess &p = manifest.preprocess;
        pnp_ovss_model_info told = {};
        told.input_height = uint32_t(p.height);
        told.input_width = uint32_t(p.width);
        told.grid_height = uint32_t(p.grid_height());
        told.grid_width = uint32_t(p.grid_width());
        told.max_tokens = uint32_t(manifest.text.context);
        copy_text(told.family, manifest.family);
        copy_text(told.device, model->device());
        write_struct(told, info);
    });
}

void pnp_ovss_model_close(pnp_ovss_model *model) { delete model; }

int32_t pnp_ovss_names_create(const pnp_ovss_model *model, const char *const *names, const uint32_t *class_of,
                              size_t count, const pnp_ovss_settings *settings, pnp_ovss_names **made,
                              pnp_ovss_error *error) {
    return guarded(error, [&] {
        require(model, "model");
        require(made, "where the names are written");
        if (count > 0) require(names, "names");
        const bool join = settings_for(*model, settings).join_words;
        *made = new pnp_ovss_names{model->captioner().names(names, class_of, count, join), model->manifest().settings};
    });
}

size_t pnp_ovss_names_classes(const pnp_ovss_names *names) { return names ? names->names.classes : 0; }

void pnp_ovss_names_free(pnp_ovss_names *names) { delete names; }

int32_t pnp_ovss_cancel_create(pnp_ovss_cancel **cancel, pnp_ovss_error *error) {
    return guarded(error, [&] {
        require(cancel, "where the cancel is written");
        *cancel = new pnp_ovss_cancel;
    });
}

void pnp_ovss_cancel_now(pnp_ovss_cancel *cancel) {
    if (cancel) cancel->now();
}

void pnp_ovss_cancel_free(pnp_ovss_cancel *cancel) { delete cancel; }

int32_t pnp_ovss_segment(const pnp_ovss_model *model, const pnp_ovss_names *names, const pnp_ovss_image *image,
                         const pnp_ovss_settings *settings, pnp_ovss_cancel *cancel, const pnp_ovss_output *output,
                         pnp_ovss_error *error) {
    return guarded(error, [&] {
        require(model, "model");
        segment(*model, names, image, settings_for(*model, settings), cancel, output, model->threads());
    });
}

int32_t pnp_ovss_segment_batch(const pnp_ovss_model *model, pnp_ovss_item *items, size_t count,
                               const pnp_ovss_settings *settings, pnp_ovss_cancel *cancel, pnp_ovss_error *error) {
    return guarded(error, [&] {
        require(model, "model");
        segment_batch(*model, items, count, settings, cancel);
    });
}

int32_t pnp_ovss_preprocess(const pnp_ovss_model *model, const pnp_ovss_image *image, uint8_t *pixels,
                            float *pixel_values, pnp_ovss_error *error) {
    return guarded(error, [&] {
        require(model, "model");
        const Preprocess &p = model->manifest().preprocess;
        const std::vector<uint8_t> made = resized(Image::read(image), p.height, p.width);
        if (pixels) std::copy(made.begin(), made.end(), pixels);
        if (pixel_values) normalize(made, p, pixel_values);
    });
}

int32_t pnp_ovss_names_tokens(const pnp_ovss_names *names, const pnp_ovss_settings *settings, pnp_ovss_tokens *tokens,
                              pnp_ovss_error *error) {
    return guarded(error, [&] {
        require(names, "names");
        require(tokens, "tokens");
        write_tokens(names->names, names->recommended.with(settings), tokens);
    });
}

int32_t pnp_ovss_names_join(const pnp_ovss_names *names, const pnp_ovss_model *model, const float *name_maps,
                            float *class_maps, pnp_ovss_error *error) {
    return guarded(error, [&] {
        require(names, "names");
        require(model, "model");
        require(name_maps, "name_maps");
        require(class_maps, "class_maps");
        join_names(names->names, size_t(model->manifest().preprocess.patches()), name_maps, class_maps);
    });
}

int32_t pnp_ovss_finish(const pnp_ovss_model *model, const pnp_ovss_image *image, const float *class_maps,
                        const uint8_t *present, size_t classes, const pnp_ovss_settings *settings, uint16_t *labels,
                        size_t labels_stride, pnp_ovss_error *error) {
    return guarded(error, [&] {
        require(model, "model");
        require(class_maps, "class_maps");
        require(labels, "labels");
        if (classes < 1 || classes > UINT16_MAX)
            throw bad_input({classes, " classes"}, "a label map holds from 1 to 65535");
        const Image checked = Image::read(image);
        const size_t stride = pnp::labels_stride(labels_stride, checked.width, checked.height);
        const Preprocess &p = model->manifest().preprocess;
        for (size_t i = 0; i < classes * size_t(p.patches()); i++)
            if (!std::isfinite(class_maps[i]))
                throw bad_input("a class map holds NaN or infinity", "give finite class maps");
        std::vector<uint8_t> looked_for(classes, 1);
        if (present) std::copy(present, present + classes, looked_for.begin());
        Timings timings;
        const std::vector<uint16_t> made = refine(checked, class_maps, looked_for, p.grid_height(), p.grid_width(),
                                                  settings_for(*model, settings), model->threads(), timings);
        write_labels(made, checked.width, stride, labels);
    });
}
