// A whole use of pnp_ovss.hpp; what it prints is compared with the Python engine.
#include <pnp_ovss.hpp>

#include <cstdio>
#include <utility>

int main(int, char **argv) try {
    const uint32_t width = 64, height = 48;
    std::vector<uint8_t> rgb(width * height * 3);
    for (std::size_t i = 0; i < rgb.size(); ++i) rgb[i] = uint8_t(i * 7 + i / 192 * 5);
    const pnp_ovss::Image image(rgb.data(), width, height);

    pnp_ovss::Runtime runtime;
    pnp_ovss_model_options options = pnp_ovss::Model::all_default();
    options.threads = 1;
    pnp_ovss::Model opened(runtime, argv[1], options);
    const pnp_ovss::Model model(std::move(opened));
    const pnp_ovss::Names names(model, {"cat", "umbrella", "turtle"});
    const pnp_ovss::Names joined = pnp_ovss::Names::synonyms(model, {{"cat", "turtle"}, {"umbrella"}});
    pnp_ovss::Settings settings = model.settings();
    settings.crf = PNP_OVSS_CRF_NONE;

    const pnp_ovss::Result result = model.segment(names, image, settings);
    for (float score : result.scores) std::printf("%.9g ", double(score));
    for (float match : result.match) std::printf("%.9g ", double(match));
    for (uint16_t label : result.labels) std::printf("%d ", label);
    std::printf("\n");

    bool good = names.classes() == 3 && joined.classes() == 2 && result.present == std::vector<uint8_t>{1, 1, 1};
    good = good && result.label(5, 7) == result.labels[7 * width + 5];
    good = good && model.finish(image, result.class_maps, settings) == result.labels;
    good = good && model.finish(image, result.class_maps, settings, result.present) == result.labels;
    good = good && model.preprocess(image).size() == model.resize(image).size();
    good = good && model.segment(joined, image).scores.size() == 2;

    const pnp_ovss::Image empty(rgb.data(), 0, 0);
    const auto batch = model.segment_batch(names, {image, empty, image}, settings);
    good = good && batch[0].get().labels == result.labels && batch[2].get().labels == result.labels;
    good = good && !batch[1].ok() && batch[1].error.code == PNP_OVSS_BAD_INPUT;

    const pnp_ovss::Cancel cancel;
    cancel.now();
    int codes = 0;
    const auto refused = [&codes](int32_t code, const pnp_ovss::Error &error) {
        codes += error.code() == code && *error.cause() && std::string(error.what()).find(error.cause()) == 0;
    };
    try { model.segment(names, image, settings, &cancel); }
    catch (const pnp_ovss::Error &error) { refused(PNP_OVSS_CANCELLED, error); }
    try { batch[1].get(); }
    catch (const pnp_ovss::Error &error) { refused(PNP_OVSS_BAD_INPUT, error); }
    try { pnp_ovss::Names(model, {std::string("c\0at", 4)}); }
    catch (const pnp_ovss::Error &error) { refused(PNP_OVSS_BAD_INPUT, error); }
    try { model.finish(image, std::vector<float>(5)); }
    catch (const pnp_ovss::Error &error) { refused(PNP_OVSS_BAD_INPUT, error); }
    try { opened.segment_batch(names, {image}); }  // it was moved
    catch (const pnp_ovss::Error &error) { refused(PNP_OVSS_BAD_INPUT, error); }
    try { pnp_ovss::Settings::preset("none"); }
    catch (const pnp_ovss::Error &error) { refused(PNP_OVSS_BAD_INPUT, error); }
    try { pnp_ovss::Runtime("/none/libonnxruntime.so"); }
    catch (const pnp_ovss::Error &error) { refused(PNP_OVSS_NO_RUNTIME, error); }
    std::printf("%d %d %s\n", good, codes, pnp_ovss::version().c_str());
} catch (const pnp_ovss::Error &error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
