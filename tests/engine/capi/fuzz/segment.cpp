// Arguments of a segmentation, on the fake runtime FUZZ_RUNTIME and the model folder FUZZ_FOLDER. A call that is
// refused writes nothing; one that is taken writes no more than it may.
#include <fuzzer/FuzzedDataProvider.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "pnp_ovss.h"

namespace {

pnp_ovss_model *model = nullptr;
constexpr uint32_t GRID = 4, MOST_SIDE = 48, MOST_PASSES = 6;
constexpr uint64_t MOST_BYTES = 1 << 16;

void require(bool condition) {
    if (!condition) std::abort();
}

pnp_ovss_settings settings_of(FuzzedDataProvider &data) {
    pnp_ovss_settings settings = {};
    if (data.ConsumeBool()) data.ConsumeData(&settings, sizeof settings);
    else {
        settings.passes = data.ConsumeIntegralInRange(-1, 6);
        settings.drop_count = data.ConsumeIntegralInRange(-3, 20);
        settings.drop_mode = data.ConsumeIntegralInRange(-1, 4);
        settings.threshold = data.ConsumeProbability<double>();
        settings.blur = data.ConsumeFloatingPointInRange(-1.5, 1.5);
        settings.background = data.ConsumeIntegralInRange(0, 4);
        settings.crf = data.ConsumeIntegralInRange(0, 2);
        settings.refine_side = data.ConsumeIntegralInRange(-1, 60);
        settings.present = data.ConsumeIntegralInRange(0, 2);
        settings.sum_last_class = data.ConsumeIntegralInRange(-1, 1);
    }
    if (data.ConsumeIntegralInRange(0, 9) > 0) settings.struct_size = sizeof settings;
    if (settings.struct_size > sizeof settings) settings.struct_size = sizeof settings;
    if (settings.passes > int(MOST_PASSES)) settings.passes = 1 + settings.passes % int(MOST_PASSES);  // takes its time
    return settings;
}

// An array of a size that a call may find too small: with guards around it by the sanitizer.
template <class T>
struct Array {
    std::vector<T> values;
    explicit Array(size_t count) : values(count, T(77)) {}
    T *data() { return values.empty() ? nullptr : values.data(); }
    bool untouched() const {
        for (const T value : values)
            if (value != T(77)) return false;
        return true;
    }
};

}  // namespace

extern "C" int LLVMFuzzerInitialize(int *, char ***) {
    pnp_ovss_error error = {sizeof error, 0, "", ""};
    pnp_ovss_runtime *runtime = nullptr;
    pnp_ovss_runtime_options options = {};
    options.struct_size = sizeof options;
    options.path = std::getenv("FUZZ_RUNTIME");
    pnp_ovss_model_options one_thread = {sizeof one_thread, 1, nullptr, 0, 0};
    require(!pnp_ovss_runtime_open(&options, &runtime, &error));
    require(!pnp_ovss_model_open(runtime, std::getenv("FUZZ_FOLDER"), &one_thread, &model, &error));
    pnp_ovss_runtime_close(runtime);  // the model goes on
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    FuzzedDataProvider data(bytes, size);
    const pnp_ovss_settings settings = settings_of(data);
    pnp_ovss_image image = {};
    image.struct_size = data.ConsumeIntegralInRange(0u, uint32_t(sizeof image));
    if (data.ConsumeIntegralInRange(0, 9)) image.struct_size = uint32_t(sizeof image);
    const bool plain = data.ConsumeIntegralInRange(0, 3) > 0;
    image.width = plain ? data.ConsumeIntegralInRange(1u, MOST_SIDE) : data.ConsumeIntegral<uint32_t>();
    image.height = plain ? data.ConsumeIntegralInRange(1u, MOST_SIDE) : data.ConsumeIntegral<uint32_t>();
    image.stride = plain ? data.ConsumeIntegralInRange<size_t>(0, 4 * MOST_SIDE) : data.ConsumeIntegral<size_t>();

    // Only as many pixels as the image says that it has; an image that must be refused has none.
    const unsigned __int128 row = 3 * (unsigned __int128)image.width, stride = image.stride ? image.stride : row;
    const bool bad = image.width == 0 || image.height == 0 || stride < row ||
                     uint64_t(image.width) * image.height > 50000000 || stride * image.height > PTRDIFF_MAX;
    const unsigned __int128 needed = bad ? 1 : stride * (image.height - 1) + row;
    if (needed > MOST_BYTES || (!bad && image.width * image.height > 4 * MOST_SIDE * MOST_SIDE)) return 0;
    std::vector<uint8_t> pixels = data.ConsumeBytes<uint8_t>(data.ConsumeIntegralInRange(0, 200));
    pixels.resize(size_t(needed), 99);
    image.rgb = data.ConsumeIntegralInRange(0, 9) ? pixels.data() : nullptr;

    // Names, and outputs of any size up to somewhat more than is needed.
    std::vector<std::string> texts;
    std::vector<const char *> names;
    std::vector<uint32_t> classes;
    static const char *const KNOWN[] = {"cat",     "turtle", "frog", "sailing boat",
                                        "hot dog", "pizza",  "snow", "alarm clock"};
    for (int count = data.ConsumeIntegralInRange(0, 8); count > 0; count--) {
        if (data.ConsumeIntegralInRange(0, 9)) texts.push_back(KNOWN[texts.size()]);
        else texts.push_back(data.ConsumeRandomLengthString(20));
        classes.push_back(uint32_t(classes.size()));
        if (!data.ConsumeIntegralInRange(0, 9)) classes.back() = data.ConsumeIntegral<uint8_t>();
    }
    for (const std::string &text : texts) names.push_back(text.c_str());
    pnp_ovss_error error = {sizeof error, -5, "", ""};
    pnp_ovss_names *made = nullptr;
    const int32_t code = pnp_ovss_names_create(model, names.data(), data.ConsumeBool() ? classes.data() : nullptr,
                                               names.size(), &settings, &made, &error);
    require((code == PNP_OVSS_OK) == (made != nullptr) && error.code == code && (code == 0) == (error.cause[0] == 0));
    const size_t count = pnp_ovss_names_classes(made);

    const size_t labels_stride = data.ConsumeIntegralInRange<size_t>(0, 5 * MOST_SIDE) / 2 * 2;
    const size_t label_row = labels_stride ? labels_stride : 2 * size_t(image.width);
    const bool refused = bad || label_row < 2 * size_t(image.width);
    Array<uint16_t> labels(refused ? 1 : (image.height - 1) * label_row / 2 + image.width);
    Array<float> maps(data.ConsumeIntegralInRange<size_t>(0, count * GRID * GRID + 1));
    Array<float> scores(data.ConsumeIntegralInRange<size_t>(0, count + 1));
    Array<float> match(data.ConsumeIntegralInRange<size_t>(0, MOST_PASSES + 1));
    Array<uint8_t> present(data.ConsumeIntegralInRange<size_t>(0, count + 1));
    pnp_ovss_timings timings = {};
    timings.struct_size = data.ConsumeBool() ? uint32_t(sizeof timings) : data.ConsumeIntegralInRange(0u, 56u);
    pnp_ovss_output output = {};
    output.struct_size = data.ConsumeIntegralInRange(0, 9) ? uint32_t(sizeof output) : 12;
    output.labels = data.ConsumeIntegralInRange(0, 9) ? labels.data() : nullptr;
    output.labels_stride = labels_stride;
    output.class_maps = maps.data();
    output.class_maps_count = maps.values.size();
    output.scores = scores.data();
    output.scores_count = scores.values.size();
    output.match = match.data();
    output.match_count = match.values.size();
    output.present = present.data();
    output.present_count = present.values.size();
    output.timings = data.ConsumeBool() ? &timings : nullptr;

    const int32_t done = pnp_ovss_segment(model, made, &image, &settings, nullptr, &output, &error);
    require(error.code == done && (done == PNP_OVSS_OK) == (error.cause[0] == 0));
    require(done == PNP_OVSS_OK || done == PNP_OVSS_BAD_INPUT || done == PNP_OVSS_NO_MEMORY);
    if (done != PNP_OVSS_OK)
        require(labels.untouched() && maps.untouched() && scores.untouched() && match.untouched() &&
                present.untouched());
    else require(!bad && made != nullptr);
    pnp_ovss_names_free(made);
    return 0;
}
