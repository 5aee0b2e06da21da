#include "salience.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace pnp {

std::vector<float> blank_patches(const std::vector<float> &pixels, const std::vector<uint8_t> &dropped, int height,
                                 int width, int patch) {
    std::vector<float> out(pixels.size());
    const int columns = width / patch;
    for (size_t i = 0; i < pixels.size(); i++) {
        const size_t x = i % size_t(width), y = i / size_t(width) % size_t(height);
        const bool keep = !dropped[y / size_t(patch) * size_t(columns) + x / size_t(patch)];
        out[i] = pixels[i] * float(keep);
    }
    return out;
}

std::vector<float> accumulate(std::vector<float> &total, const std::vector<float> &salience,
                              const std::vector<uint8_t> &dropped, const std::vector<Caption> &captions, size_t length,
                              float weight) {
    const size_t patches = dropped.size();
    const auto visible = [&](size_t row, size_t p) { return dropped[p] ? 0.0f : salience[row * patches + p]; };
    for (size_t row = 0; row < captions.size() * length; row++)
        for (size_t p = 0; p < patches; p++) total[row * patches + p] += weight * visible(row, p);

    std::vector<float> scores(patches), of_caption(patches);
    for (size_t n = 0; n < captions.size(); n++) {
        std::fill(of_caption.begin(), of_caption.end(), 0.0f);
        for (const Caption::Owner &owner : captions[n].owners)
            for (size_t token = owner.first; token < size_t(owner.first) + owner.count; token++)
                for (size_t p = 0; p < patches; p++) of_caption[p] += visible(n * length + token, p);
        for (size_t p = 0; p < patches; p++) scores[p] += of_caption[p];
    }
    return scores;
}

void drop_salient(const std::vector<float> &scores, size_t count, std::vector<uint8_t> &dropped) {
    std::vector<size_t> left;
    for (size_t p = 0; p < dropped.size(); p++)
        if (!dropped[p]) left.push_back(p);
    std::stable_sort(left.begin(), left.end(), [&](size_t a, size_t b) {
        return scores[a] > scores[b] || (std::isnan(scores[b]) && !std::isnan(scores[a]));
    });
    for (size_t i = 0; i < std::min(count, left.size()); i++) dropped[left[i]] = 1;
}

std::vector<float> class_maps(const std::vector<float> &total, const std::vector<Caption> &captions, size_t length,
                              size_t patches, size_t classes, bool sum_last) {
    std::vector<float> maps(classes * patches), of_name(patches);
    std::vector<uint8_t> seen(classes);
    for (size_t n = 0; n < captions.size(); n++)
        for (const Caption::Owner &owner : captions[n].owners) {
            std::fill(of_name.begin(), of_name.end(), 0.0f);
            for (size_t token = owner.first; token < size_t(owner.first) + owner.count; token++)
                for (size_t p = 0; p < patches; p++) of_name[p] += total[(n * length + token) * patches + p];
            const bool summed = sum_last && &owner == &captions[n].owners.back();
            float *map = &maps[owner.class_index * patches];
            for (size_t p = 0; p < patches; p++) {
                const float value = summed ? of_name[p] : of_name[p] / float(owner.count);
                map[p] = seen[owner.class_index] ? larger(map[p], value) : value;
            }
            seen[owner.class_index] = 1;
        }
    return maps;
}

double match_probability(const float *logits) {
    if (!std::isfinite(logits[0]) || !std::isfinite(logits[1])) return std::numeric_limits<double>::quiet_NaN();
    const double no = logits[0], yes = logits[1], most = std::max(no, yes);
    const double of_no = std::exp(no - most), of_yes = std::exp(yes - most);
    return of_yes / (of_no + of_yes);
}

}  // namespace pnp
