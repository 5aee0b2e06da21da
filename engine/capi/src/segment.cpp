#include "segment.hpp"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <thread>

#include "border.hpp"
#include "image.hpp"
#include "labels.hpp"
#include "passes.hpp"
#include "structs.hpp"

namespace pnp {

namespace {

// The outputs of a caller, with their sizes checked.
struct Outputs {
    pnp_ovss_output given;
    size_t stride = 0;

    Outputs(const pnp_ovss_output *output, const pnp_ovss_model &model, size_t classes, const Image &image,
            const Settings &settings) {
        require(output, "output");
        constexpr size_t FIRST_SIZE = offsetof(pnp_ovss_output, timings) + sizeof(pnp_ovss_timings *);
        given = read_struct(output, FIRST_SIZE, "pnp_ovss_output");
        if (given.reserved) throw bad_input("reserved of pnp_ovss_output is not 0", "set it to 0");
        const Preprocess &p = model.manifest().preprocess;
        if (given.labels) stride = labels_stride(given.labels_stride, image.width, image.height);
        check(given.class_maps, given.class_maps_count, classes * size_t(p.patches()), "class_maps_count");
        check(given.scores, given.scores_count, classes, "scores_count");
        check(given.match, given.match_count, size_t(settings.passes), "match_count");
        check(given.present, given.present_count, classes, "present_count");
        constexpr size_t FIRST_TIMINGS = offsetof(pnp_ovss_timings, crf) + sizeof(double);
        if (given.timings) check_size(given.timings->struct_size, FIRST_TIMINGS, "pnp_ovss_timings");
    }

    void write(const Located &located, const std::vector<uint16_t> &labels, int width, const Timings &took) const {
        if (given.labels) write_labels(labels, width, stride, given.labels);
        if (given.class_maps) std::copy(located.maps.begin(), located.maps.end(), given.class_maps);
        if (given.scores) std::copy(located.scores.begin(), located.scores.end(), given.scores);
        if (given.match) std::copy(located.match.begin(), located.match.end(), given.match);
        if (given.present) std::copy(located.present.begin(), located.present.end(), given.present);
        if (!given.timings) return;
        const pnp_ovss_timings all{0, 0, took.preprocess, took.graphs, took.passes, took.refine, took.crf};
        write_struct(all, given.timings);
    }

private:
    static void check(const void *array, size_t count, size_t least, const char *name) {
        if (array && count < least)
            throw bad_input({name, " is ", count}, {least, " elements are written: give as many"});
    }
};

void require_fitting(const pnp_ovss_model &model, const pnp_ovss_names *names, const Settings &settings) {
    require(names, "names");
    if (names->names.joined != settings.join_words)
        throw bad_input({"join_words is ", settings.join_words ? "" : "not ", "set, and was otherwise for the names"},
                        "give pnp_ovss_names_create and pnp_ovss_segment the same settings");
    if (names->names.fingerprint != model.captioner().fingerprint())
        throw bad_input("the names were made with a model of another tokenizer", "make them with this model");
}

// Which item of a batch failed first, and how. Noting it allocates nothing: threads do it.
class FirstFailure {
public:
    void note(size_t index, const pnp_ovss_error &error) {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (index_ < index) return;
        error_ = error;
        index_ = index;
    }
    void rethrow() const {
        if (error_.code != PNP_OVSS_OK) throw Failure(error_.code, error_.cause, error_.cure);
    }

private:
    std::mutex mutex_;
    pnp_ovss_error error_ = {};
    size_t index_ = SIZE_MAX;
};

}  // namespace

Settings settings_for(const pnp_ovss_model &model, const pnp_ovss_settings *given) {
    return model.manifest().settings.with(given);
}

size_t labels_stride(size_t given, int width, int height) {
    const size_t row = size_t(width) * sizeof(uint16_t), stride = given ? given : row;
    if (stride < row || stride > size_t(PTRDIFF_MAX) / size_t(height))
        throw bad_input({"labels_stride is ", stride, " bytes"}, {"a row of the labels has ", row, " bytes"});
    return stride;
}

void write_labels(const std::vector<uint16_t> &labels, int width, size_t stride, uint16_t *out) {
    auto *row = reinterpret_cast<unsigned char *>(out);
    for (size_t i = 0; i < labels.size(); i += size_t(width), row += stride)
        std::memcpy(row, &labels[i], size_t(width) * sizeof(uint16_t));
}

void segment(const pnp_ovss_model &model, const pnp_ovss_names *names, const pnp_ovss_image *image,
             const Settings &settings, pnp_ovss_cancel *cancel, const pnp_ovss_output *output, int threads) {
    require_fitting(model, names, settings);
    const Image checked = Image::read(image);
    const Outputs outputs(output, model, names->names.classes, checked, settings);
    const Call call(model.runtime(), cancel);
    call.require_wanted();
    model.files().require_unwritten();

    Timings timings;
    const Preprocess &p = model.manifest().preprocess;
    std::vector<float> pixels(size_t(3) * size_t(p.height) * size_t(p.width));
    {
        const Clock clock(timings.preprocess);
        normalize(resized(checked, p.height, p.width), p, pixels.data());
    }
    const bool scored = outputs.given.scores != nullptr;
    const Located located = locate(model, names->names, pixels, scored, settings, call, timings);
    model.files().require_unwritten();
    std::vector<uint16_t> labels;
    if (outputs.given.labels)
        labels = refine(checked, located.maps.data(), located.present, p.grid_height(), p.grid_width(), settings,
                        threads, timings);
    call.require_wanted();
    outputs.write(located, labels, checked.width, timings);
}

void segment_batch(const pnp_ovss_model &model, pnp_ovss_item *items, size_t count, const pnp_ovss_settings *given,
                   pnp_ovss_cancel *cancel) {
    if (count == 0) return;
    require(items, "items");
    const size_t size = items->struct_size;
    check_size(items->struct_size, offsetof(pnp_ovss_item, error) + sizeof(pnp_ovss_error *), "pnp_ovss_item");
    if (size % alignof(pnp_ovss_item) != 0)
        throw bad_input({"struct_size of pnp_ovss_item is ", size}, "set it to sizeof(pnp_ovss_item)");

    const size_t workers = std::min(count, size_t(model.threads()));
    const int crf_threads = model.threads() / int(workers);
    std::atomic<size_t> next{0};
    FirstFailure first;
    const auto work = [&] {
        for (size_t i = next++; i < count; i = next++) {
            auto *item = reinterpret_cast<pnp_ovss_item *>(reinterpret_cast<unsigned char *>(items) + i * size);
            pnp_ovss_error failed = {sizeof failed, 0, "", ""};
            item->code = guarded(&failed, [&] {
                check_error(item->error);
                require_known(item, size, sizeof *item, "pnp_ovss_item");
                const Settings settings = settings_for(model, given);
                segment(model, item->names, item->image, settings, cancel, item->output, crf_threads);
            });
            tell(item->error, failed.code, failed.cause, failed.cure);
            if (item->code != PNP_OVSS_OK) first.note(i, failed);
        }
    };
    std::vector<std::thread> helpers;
    try {
        helpers.reserve(workers);
        while (helpers.size() + 1 < workers) helpers.emplace_back(work);
    } catch (const std::exception &) {  // no thread or memory is left: those that run do the work
    }
    work();
    for (std::thread &helper : helpers) helper.join();
    first.rethrow();
}

}  // namespace pnp
