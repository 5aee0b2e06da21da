#include "passes.hpp"

#include <algorithm>
#include <cmath>

#include "failure.hpp"
#include "salience.hpp"

namespace pnp {

namespace {

constexpr size_t MOST_CAPTIONS = 32;  // in one run of the salience graph: bounds its memory

// Runs the graphs of a model for one call.
class Graphs {
public:
    Graphs(const pnp_ovss_model &model, const Call &call, double &seconds)
        : model_(model), call_(call), seconds_(seconds), preprocess_(model.manifest().preprocess),
          patches_(preprocess_.patches()), width_(model.manifest().width) {}

    size_t patches() const { return size_t(patches_); }

    // Encodes the image: [3][height][width] -> [1 + P][D].
    std::vector<float> embed(const std::vector<float> &pixels) const {
        std::vector<float> embeds((patches() + 1) * size_t(width_));
        run(model_.vision(), {pixel_values(pixels)}, {tensor("image_embeds", {1, 1 + patches_, width_}, embeds)});
        return embeds;
    }

    // Encodes the image by an encoder that sees only the patches that are left: [1 + P][D], with [CLS] in the place of
    // dropped patches, where cross-attention must not look.
    std::vector<float> embed_kept(const std::vector<float> &pixels, const std::vector<uint8_t> &dropped) const {
        std::vector<int64_t> kept{0};
        std::vector<size_t> position(patches() + 1);
        for (size_t p = 0; p < patches(); p++)
            if (!dropped[p]) {
                position[p + 1] = kept.size();
                kept.push_back(int64_t(p) + 1);
            }
        if (kept.size() == 1) kept.push_back(0);  // padding, where none is left
        const int64_t count = int64_t(kept.size());
        const size_t width = size_t(width_);
        std::vector<float> of_kept(kept.size() * width), embeds((patches() + 1) * width);
        run(model_.vision_tokens(), {pixel_values(pixels), Tensor::integers("kept", {1, count}, kept.data())},
            {tensor("image_embeds", {1, count, width_}, of_kept)});
        for (size_t i = 0; i <= patches(); i++)
            std::copy_n(&of_kept[position[i] * width], width, &embeds[i * width]);
        return embeds;
    }

    // Computes the ITM logits, [captions][2], and with `salience` also that, [captions][length][P].
    std::vector<float> match(const std::vector<float> &embeds, const std::vector<float> &keep, const Padded &captions,
                             std::vector<float> *salience) const {
        std::vector<float> logits(captions.count * 2);
        const int64_t length = int64_t(captions.length);
        if (salience) salience->resize(captions.count * captions.length * patches());
        for (size_t first = 0; first < captions.count; first += MOST_CAPTIONS) {
            const int64_t count = int64_t(std::min(MOST_CAPTIONS, captions.count - first));
            const size_t start = first * captions.length;
            std::vector<Tensor> outputs{Tensor::floats("itm_logits", {count, 2}, &logits[first * 2])};
            if (salience)
                outputs.push_back(
                    Tensor::floats("salience", {count, length, patches_}, &(*salience)[start * patches()]));
            run(model_.salience(),
                {tensor("image_embeds", {1, 1 + patches_, width_}, embeds),
                 Tensor::integers("input_ids", {count, length}, &captions.ids[start]),
                 Tensor::integers("attention_mask", {count, length}, &captions.mask[start]),
                 tensor("patch_keep", {1, patches_}, keep)},
                outputs);
        }
        return logits;
    }

private:
    static Tensor tensor(const char *name, std::vector<int64_t> shape, const std::vector<float> &values) {
        return Tensor::floats(name, std::move(shape), values.data());
    }

    Tensor pixel_values(const std::vector<float> &pixels) const {
        return tensor("pixel_values", {1, 3, preprocess_.height, preprocess_.width}, pixels);
    }

    void run(const Session &session, const std::vector<Tensor> &inputs, const std::vector<Tensor> &outputs) const {
        const Clock clock(seconds_);
        session.run(call_, inputs, outputs);
    }

    const pnp_ovss_model &model_;
    const Call &call_;
    double &seconds_;
    const Preprocess &preprocess_;
    int64_t patches_, width_;
};

void require_finite(const char *name, const std::vector<float> &values) {
    for (const float value : values)
        if (!std::isfinite(value))
            throw Failure(PNP_OVSS_FAILED, {"the model's ", name, " is not finite"},
                          "its weights are damaged: export it again");
}

// Scores each class by the caption of each of its names alone: the largest counts.
std::vector<float> score(const Graphs &graphs, const std::vector<float> &embeds, const Names &names) {
    const std::vector<Caption> captions = single_captions(names);
    const std::vector<float> keep(graphs.patches(), 1.0f);
    const std::vector<float> logits = graphs.match(embeds, keep, pad(names, captions), nullptr);
    std::vector<float> scores(names.classes, 0.0f);
    for (size_t n = 0; n < captions.size(); n++) {
        const float probability = float(match_probability(&logits[2 * n]));
        float &best = scores[captions[n].owners[0].class_index];
        best = larger(best, probability);
    }
    require_finite("score", scores);
    return scores;
}

// Runs the K passes, and writes class maps and match.
void run_passes(const Graphs &graphs, const std::vector<float> &pixels, std::vector<float> embeds,
                const Names &names, const std::vector<Caption> &captions, const Preprocess &image,
                const Settings &settings, Located &located) {
    const Padded padded = pad(names, captions);
    const size_t patches = graphs.patches();
    std::vector<uint8_t> dropped(patches);
    std::vector<float> keep(patches, 1.0f), salience;
    std::vector<float> total(captions.size() * padded.length * patches);
    size_t left = patches;
    for (int pass = 0; pass < settings.passes; pass++) {
        if (pass > 0 && settings.drop_mode == DropMode::pixels) {
            embeds = graphs.embed(blank_patches(pixels, dropped, image.height, image.width, image.patch));
        } else if (pass > 0) {
            for (size_t p = 0; p < patches; p++) keep[p] = float(!dropped[p]);
            if (settings.drop_mode == DropMode::tokens) embeds = graphs.embed_kept(pixels, dropped);
        }
        const std::vector<float> logits = graphs.match(embeds, keep, padded, &salience);
        double sum = 0;
        for (size_t n = 0; n < captions.size(); n++) sum += match_probability(&logits[2 * n]);
        located.match[size_t(pass)] = float(sum / double(captions.size()));
        const float weight = pass > 0 ? 1.0f : float(settings.first_pass_weight);
        const std::vector<float> scores = accumulate(total, salience, dropped, captions, padded.length, weight);
        if (pass == settings.passes - 1) break;
        const size_t count = settings.halving ? left / 2 : size_t(settings.drop_count);
        drop_salient(scores, count, dropped);
        left -= std::min(count, left);
    }
    located.maps = class_maps(total, captions, padded.length, patches, located.present.size(), settings.sum_last_class);
}

}  // namespace

Located locate(const pnp_ovss_model &model, const Names &names, const std::vector<float> &pixels, bool scored,
               const Settings &settings, const Call &call, Timings &timings) {
    double all = 0;
    Located located;
    {
        const Clock clock(all);
        const Graphs graphs(model, call, timings.graphs);
        std::vector<float> embeds = graphs.embed(pixels);
        if (scored || settings.match_present) located.scores = score(graphs, embeds, names);
        located.present.assign(names.classes, 1);
        located.match.assign(size_t(settings.passes), 0.0f);
        if (settings.match_present)
            for (size_t c = 0; c < names.classes; c++)
                located.present[c] = located.scores[c] > float(settings.match_threshold);
        const std::vector<Caption> captions = pnp::captions(names, located.present);
        if (captions.empty())
            located.maps.assign(names.classes * graphs.patches(), 0.0f);
        else
            run_passes(graphs, pixels, std::move(embeds), names, captions, model.manifest().preprocess, settings,
                       located);
        require_finite("class map", located.maps);
        require_finite("match", located.match);
    }
    timings.passes += all - timings.graphs;
    return located;
}

}  // namespace pnp
