// pnp_ovss for C++11 and later: pnp_ovss.h with objects that free themselves, vectors, and exceptions.
//
//   #include <pnp_ovss.hpp>
//
//   pnp_ovss::Runtime runtime;
//   pnp_ovss::Model model(runtime, "blip-large");
//   pnp_ovss::Names names(model, {"car", "traffic light", "tree"});
//   pnp_ovss::Result result = model.segment(names, pnp_ovss::Image(rgb, width, height));
//   uint16_t label = result.label(x, y);  // 0 background, i + 1 the class of number i
//
// It adds nothing to the C interface, whose comments tell what each call does. A call that fails throws Error. Besides,
// vectors and strings throw std::bad_alloc. Runtime, Model, Names and Cancel can be moved and not copied, and any
// number of threads may use one at once. Calls that are not here, pnp_ovss_names_tokens and _join, take their get().
#ifndef PNP_OVSS_HPP
#define PNP_OVSS_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "pnp_ovss.h"

namespace pnp_ovss {

// A call that failed. what() is the cause, and the cure in the next line.
class Error : public std::runtime_error {
public:
    explicit Error(const pnp_ovss_error &told) : std::runtime_error(text(told)), told_(told) {}

    int32_t code() const noexcept { return told_.code; }  // PNP_OVSS_BAD_INPUT and so on
    const char *cause() const noexcept { return told_.cause; }
    const char *cure() const noexcept { return told_.cure; }

private:
    static std::string text(const pnp_ovss_error &told) {
        return *told.cure ? std::string(told.cause) + "\n" + told.cure : std::string(told.cause);
    }

    pnp_ovss_error told_;
};

namespace detail {

template <typename Struct>
Struct sized() {
    Struct made = Struct();  // zeros
    made.struct_size = sizeof made;
    return made;
}

// An error that a call fills in, and that is thrown if it did.
class Told {
public:
    operator pnp_ovss_error *() noexcept { return &told_; }
    void check(int32_t code) const {
        if (code != PNP_OVSS_OK) throw Error(told_);
    }

private:
    pnp_ovss_error told_ = sized<pnp_ovss_error>();
};

struct Release {
    void operator()(pnp_ovss_runtime *held) const noexcept { pnp_ovss_runtime_close(held); }
    void operator()(pnp_ovss_model *held) const noexcept { pnp_ovss_model_close(held); }
    void operator()(pnp_ovss_names *held) const noexcept { pnp_ovss_names_free(held); }
    void operator()(pnp_ovss_cancel *held) const noexcept { pnp_ovss_cancel_free(held); }
};

inline void require(bool holds, const char *cause) {
    if (holds) return;
    pnp_ovss_error told = sized<pnp_ovss_error>();
    told.code = PNP_OVSS_BAD_INPUT;
    for (std::size_t i = 0; cause[i] && i + 1 < sizeof told.cause; ++i) told.cause[i] = cause[i];
    throw Error(told);
}

}  // namespace detail

// The version of the library that runs, such as "0.1.0".
inline std::string version() { return pnp_ovss_version(); }

// ONNX Runtime, loaded into this process.
class Runtime {
public:
    // Loads libonnxruntime from a path; empty: from where the environment's PNP_OVSS_ORT tells, or libonnxruntime.so.1.
    explicit Runtime(const std::string &path = std::string()) {
        pnp_ovss_runtime_options options = detail::sized<pnp_ovss_runtime_options>();
        if (!path.empty()) options.path = path.c_str();
        open(options);
    }
    explicit Runtime(const pnp_ovss_runtime_options &options) { open(options); }

    std::string version() const { return pnp_ovss_runtime_version(get()); }  // of ONNX Runtime
    pnp_ovss_runtime *get() const noexcept { return held_.get(); }

private:
    void open(const pnp_ovss_runtime_options &options) {
        detail::Told told;
        pnp_ovss_runtime *made = nullptr;
        told.check(pnp_ovss_runtime_open(&options, &made, told));
        held_.reset(made);
    }

    std::unique_ptr<pnp_ovss_runtime, detail::Release> held_;
};

// Settings. Fields are those of pnp_ovss_settings; all are 0 at first, which stands for the model's recommendation.
struct Settings : pnp_ovss_settings {
    Settings() : pnp_ovss_settings(detail::sized<pnp_ovss_settings>()) {}

    // Makes the settings of a preset: "paper" or "released".
    static Settings preset(const std::string &name) {
        detail::Told told;
        Settings made;
        told.check(pnp_ovss_settings_preset(name.c_str(), &made, told));
        return made;
    }
};

// An image in RGB, upright: a view of pixels that the caller owns, uint8 [height][width][3].
struct Image : pnp_ovss_image {
    // `stride` is the number of bytes from a row to the next; 0: rows follow each other.
    Image(const uint8_t *pixels, uint32_t columns, uint32_t rows, std::size_t row_stride = 0)
        : pnp_ovss_image(detail::sized<pnp_ovss_image>()) {
        rgb = pixels;
        width = columns;
        height = rows;
        stride = row_stride;
    }
};

// What the segmentation of an image gives.
struct Result {
    uint32_t width = 0, height = 0;            // of the image
    uint32_t grid_height = 0, grid_width = 0;  // of a class map
    std::vector<uint16_t> labels;              // [height][width]: 0 background, i + 1 the class of number i
    std::vector<float> class_maps;             // [C][grid_height][grid_width]: salience, before the threshold
    std::vector<float> scores;                 // [C]: match probability of the image and each class alone
    std::vector<float> match;                  // [K]: match probability in each pass
    std::vector<uint8_t> present;              // [C]: 1 where a class was looked for
    pnp_ovss_timings timings = detail::sized<pnp_ovss_timings>();

    uint16_t label(uint32_t x, uint32_t y) const { return labels[std::size_t(y) * width + x]; }
};

// An image of a batch: its result, or why there is none.
struct Outcome {
    Result result;
    pnp_ovss_error error = detail::sized<pnp_ovss_error>();

    bool ok() const noexcept { return error.code == PNP_OVSS_OK; }

    // Returns the result, or throws Error.
    const Result &get() const {
        if (!ok()) throw Error(error);
        return result;
    }
};

// Stops calls from another thread.
class Cancel {
public:
    Cancel() {
        detail::Told told;
        pnp_ovss_cancel *made = nullptr;
        told.check(pnp_ovss_cancel_create(&made, told));
        held_.reset(made);
    }

    // Stops the calls that were given this cancel, and those that will be: they throw Error, PNP_OVSS_CANCELLED.
    void now() const noexcept { pnp_ovss_cancel_now(get()); }
    pnp_ovss_cancel *get() const noexcept { return held_.get(); }

private:
    std::unique_ptr<pnp_ovss_cancel, detail::Release> held_;
};

class Model;

// What to look for, as tokens.
class Names {
public:
    // Makes tokens of names, each of which is a class.
    Names(const Model &model, const std::vector<std::string> &names, const Settings &settings = Settings()) {
        create(model, names, nullptr, settings);
    }

    // Makes tokens of classes, each of which is a list of synonyms.
    static Names synonyms(const Model &model, const std::vector<std::vector<std::string>> &classes,
                          const Settings &settings = Settings()) {
        std::vector<std::string> names;
        std::vector<uint32_t> class_of;
        for (std::size_t i = 0; i < classes.size(); ++i) {
            detail::require(!classes[i].empty(), "a class has no name");
            names.insert(names.end(), classes[i].begin(), classes[i].end());
            class_of.resize(names.size(), uint32_t(i));
        }
        Names made;
        made.create(model, names, class_of.data(), settings);
        return made;
    }

    std::size_t classes() const noexcept { return pnp_ovss_names_classes(get()); }  // C

    pnp_ovss_names *get() const noexcept { return held_.get(); }

private:
    Names() {}
    void create(const Model &model, const std::vector<std::string> &names, const uint32_t *class_of,
                const Settings &settings);

    std::unique_ptr<pnp_ovss_names, detail::Release> held_;
};

// A model folder, loaded.
class Model {
public:
    // Loads a folder and its graphs.
    Model(const Runtime &runtime, const std::string &folder, const pnp_ovss_model_options &options = all_default()) {
        open(runtime.get(), folder, options);
    }

    // Loads a folder without its graphs, for names and stages.
    explicit Model(const std::string &folder) { open(nullptr, folder, all_default()); }

    // Returns options to set fields of: threads, device and so on.
    static pnp_ovss_model_options all_default() { return detail::sized<pnp_ovss_model_options>(); }

    pnp_ovss_model_info describe() const {
        detail::Told told;
        pnp_ovss_model_info info = detail::sized<pnp_ovss_model_info>();
        told.check(pnp_ovss_model_describe(get(), &info, told));
        return info;
    }

    // Returns the settings that the model recommends.
    Settings settings() const {
        detail::Told told;
        Settings made;
        told.check(pnp_ovss_settings_default(get(), &made, told));
        return made;
    }

    // Segments an image.
    Result segment(const Names &names, const Image &image, const Settings &settings = Settings(),
                   const Cancel *cancel = nullptr) const {
        Result made;
        const pnp_ovss_output output = prepare(made, names, image, settings);
        segment_into(output, names, image, settings, cancel);
        return made;
    }

    // Segments an image into buffers of the caller.
    void segment_into(const pnp_ovss_output &output, const Names &names, const Image &image,
                      const Settings &settings = Settings(), const Cancel *cancel = nullptr) const {
        detail::Told told;
        pnp_ovss_cancel *stop = cancel ? cancel->get() : nullptr;
        told.check(pnp_ovss_segment(get(), names.get(), &image, &settings, stop, &output, told));
    }

    // Segments several images. Each gets what segment gives it, and fails alone.
    std::vector<Outcome> segment_batch(const Names &names, const std::vector<Image> &images,
                                       const Settings &settings = Settings(), const Cancel *cancel = nullptr) const {
        return segment_batch(std::vector<const Names *>(images.size(), &names), images, settings, cancel);
    }

    // The same, with names for each image.
    std::vector<Outcome> segment_batch(const std::vector<const Names *> &names, const std::vector<Image> &images,
                                       const Settings &settings = Settings(), const Cancel *cancel = nullptr) const {
        detail::require(names.size() == images.size(), "there must be as many names as images");
        std::vector<Outcome> made(images.size());
        std::vector<pnp_ovss_output> outputs(images.size());
        std::vector<pnp_ovss_item> items(images.size(), detail::sized<pnp_ovss_item>());
        for (std::size_t i = 0; i < images.size(); ++i) {
            detail::require(names[i] != nullptr, "an image of a batch has no names");
            outputs[i] = prepare(made[i].result, *names[i], images[i], settings);
            items[i].names = names[i]->get();
            items[i].image = &images[i];
            items[i].output = &outputs[i];
            items[i].error = &made[i].error;
        }
        detail::Told told;
        pnp_ovss_cancel *stop = cancel ? cancel->get() : nullptr;
        const int32_t code = pnp_ovss_segment_batch(get(), items.data(), items.size(), &settings, stop, told);
        bool all = true;
        for (std::size_t i = 0; i < made.size(); ++i) all = !(made[i].error.code = items[i].code) && all;
        if (all) told.check(code);  // it was not an image that failed
        return made;
    }

    // Resizes an image to the input of the model: uint8 [input_height][input_width][3].
    std::vector<uint8_t> resize(const Image &image) const {
        const pnp_ovss_model_info info = describe();
        std::vector<uint8_t> pixels(std::size_t(3) * info.input_height * info.input_width);
        detail::Told told;
        told.check(pnp_ovss_preprocess(get(), &image, pixels.data(), nullptr, told));
        return pixels;
    }

    // Resizes an image and normalizes it: float [3][input_height][input_width].
    std::vector<float> preprocess(const Image &image) const {
        const pnp_ovss_model_info info = describe();
        std::vector<float> values(std::size_t(3) * info.input_height * info.input_width);
        detail::Told told;
        told.check(pnp_ovss_preprocess(get(), &image, nullptr, values.data(), told));
        return values;
    }

    // Makes labels, [height][width], from class maps. `present` is empty, or 0 where a map is left out.
    std::vector<uint16_t> finish(const Image &image, const std::vector<float> &class_maps,
                                 const Settings &settings = Settings(),
                                 const std::vector<uint8_t> &present = std::vector<uint8_t>()) const {
        const std::size_t classes = class_maps.size() / cells();
        detail::require(class_maps.size() == classes * cells(), "class maps must be [C][grid_height][grid_width]");
        detail::require(present.empty() || present.size() == classes, "`present` must be [C]");
        require_size(image);
        std::vector<uint16_t> labels(std::size_t(image.width) * image.height);
        detail::Told told;
        const uint8_t *kept = present.empty() ? nullptr : present.data();
        told.check(pnp_ovss_finish(get(), &image, class_maps.data(), kept, classes, &settings, labels.data(), 0, told));
        return labels;
    }

    pnp_ovss_model *get() const noexcept { return held_.get(); }

private:
    void open(pnp_ovss_runtime *runtime, const std::string &folder, const pnp_ovss_model_options &options) {
        detail::Told told;
        pnp_ovss_model *made = nullptr;
        told.check(pnp_ovss_model_open(runtime, folder.c_str(), &options, &made, told));
        held_.reset(made);
    }

    static void require_size(const Image &image) {
        const bool fits = uint64_t(image.width) * image.height <= PNP_OVSS_MOST_PIXELS;
        detail::require(fits, "the image has over 50 megapixels");
    }

    std::size_t cells() const {
        const pnp_ovss_model_info info = describe();
        return std::size_t(info.grid_height) * info.grid_width;
    }

    // Makes room for a result.
    pnp_ovss_output prepare(Result &made, const Names &names, const Image &image, const Settings &given) const {
        require_size(image);
        const pnp_ovss_model_info info = describe();
        const int32_t passes = given.passes > 0 ? std::min(given.passes, 1000) : settings().passes;  // more is refused
        const std::size_t classes = names.classes();
        made.width = image.width;
        made.height = image.height;
        made.grid_height = info.grid_height;
        made.grid_width = info.grid_width;
        made.labels.resize(std::size_t(image.width) * image.height);
        made.class_maps.resize(classes * info.grid_height * info.grid_width);
        made.scores.resize(classes);
        made.match.resize(std::size_t(passes));
        made.present.resize(classes);
        pnp_ovss_output output = detail::sized<pnp_ovss_output>();
        output.labels = made.labels.data();
        output.class_maps = made.class_maps.data();
        output.class_maps_count = made.class_maps.size();
        output.scores = made.scores.data();
        output.scores_count = made.scores.size();
        output.match = made.match.data();
        output.match_count = made.match.size();
        output.present = made.present.data();
        output.present_count = made.present.size();
        output.timings = &made.timings;
        return output;
    }

    std::unique_ptr<pnp_ovss_model, detail::Release> held_;
};

inline void Names::create(const Model &model, const std::vector<std::string> &names, const uint32_t *class_of,
                          const Settings &settings) {
    std::vector<const char *> pointers;
    for (const std::string &name : names) {
        detail::require(name.find('\0') == std::string::npos, "a name has a zero byte");
        pointers.push_back(name.c_str());
    }
    detail::Told told;
    pnp_ovss_names *made = nullptr;
    told.check(pnp_ovss_names_create(model.get(), pointers.data(), class_of, pointers.size(), &settings, &made, told));
    held_.reset(made);
}

}  // namespace pnp_ovss

#endif
