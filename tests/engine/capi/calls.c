/* A call of each kind, for drivers that repeat them all. */
#include <string.h>

#include "world.h"

static int32_t runtime_open(struct world *world, pnp_ovss_error *error) {
    pnp_ovss_runtime *const unset = (pnp_ovss_runtime *)&doing, *runtime = unset;
    pnp_ovss_runtime_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.path = world->runtime_path;
    const int32_t code = pnp_ovss_runtime_open(&options, &runtime, error);
    REQUIRE((code != PNP_OVSS_OK) == (runtime == unset));
    if (code == PNP_OVSS_OK) pnp_ovss_runtime_close(runtime);
    return code;
}

static int32_t open_model(struct world *world, const char *device, pnp_ovss_error *error) {
    pnp_ovss_model *const unset = (pnp_ovss_model *)&doing, *model = unset;
    pnp_ovss_model_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.threads = 2;
    options.device = device;
    options.prepack = PNP_OVSS_YES;
    const int32_t code = pnp_ovss_model_open(world->runtime, world->folder, &options, &model, error);
    REQUIRE((code != PNP_OVSS_OK) == (model == unset));
    if (code == PNP_OVSS_OK) pnp_ovss_model_close(model);
    return code;
}

static int32_t model_open(struct world *world, pnp_ovss_error *error) { return open_model(world, NULL, error); }

static int32_t model_open_on_cuda(struct world *world, pnp_ovss_error *error) {
    if (stub_cuda == NULL) return PNP_OVSS_OK;
    stub_cuda(1);
    const int32_t code = open_model(world, "cuda:0", error);
    stub_cuda(0);
    return code;
}

static int32_t names_create(struct world *world, pnp_ovss_error *error) {
    pnp_ovss_names *const unset = (pnp_ovss_names *)&doing, *names = unset;
    const int32_t code =
        pnp_ovss_names_create(world->model, MANY, CLASS_OF, NAMES, NULL, &names, error);
    REQUIRE((code != PNP_OVSS_OK) == (names == unset));
    if (code == PNP_OVSS_OK) REQUIRE(pnp_ovss_names_classes(names) == CLASSES);
    if (code == PNP_OVSS_OK) pnp_ovss_names_free(names);
    return code;
}

static int32_t settings_default(struct world *world, pnp_ovss_error *error) {
    pnp_ovss_settings settings;
    memset(&settings, PATTERN, sizeof settings);
    settings.struct_size = sizeof settings;
    const int32_t code = pnp_ovss_settings_default(world->model, &settings, error);
    if (code != PNP_OVSS_OK) REQUIRE(is_untouched((char *)&settings + 4, sizeof settings - 4));
    return code;
}

static int32_t settings_preset(struct world *world, pnp_ovss_error *error) {
    (void)world;
    pnp_ovss_settings settings;
    memset(&settings, PATTERN, sizeof settings);
    settings.struct_size = sizeof settings;
    const int32_t code = pnp_ovss_settings_preset("released", &settings, error);
    if (code != PNP_OVSS_OK) REQUIRE(is_untouched((char *)&settings + 4, sizeof settings - 4));
    return code;
}

static int32_t describe(struct world *world, pnp_ovss_error *error) {
    pnp_ovss_model_info info;
    memset(&info, PATTERN, sizeof info);
    info.struct_size = sizeof info;
    const int32_t code = pnp_ovss_model_describe(world->model, &info, error);
    if (code != PNP_OVSS_OK) REQUIRE(is_untouched((char *)&info + 4, sizeof info - 4));
    return code;
}

/* What a call found first it must find each time, whatever failed and was made up for. */
static void check_same(const struct outputs *outputs, struct outputs *first) {
    pnp_ovss_timings none;
    struct outputs found = *outputs;
    memset(&none, 0, sizeof none);
    found.timings = none;
    if (first->labels[0][LABELS_STRIDE - 1] == 0) *first = found; /* not yet there */
    EXPECT(memcmp(first, &found, sizeof found) == 0);
}

static struct outputs references[8];

static int32_t segment(struct world *world, const pnp_ovss_settings *settings, pnp_ovss_cancel *cancel,
                       pnp_ovss_error *error) {
    struct outputs outputs;
    const pnp_ovss_output output = output_of(&outputs);
    const int32_t code = pnp_ovss_segment(world->model, world->many, &world->image, settings, cancel, &output, error);
    if (code == PNP_OVSS_OK) {
        check_labels(&outputs);
        check_same(&outputs, &references[settings->drop_mode + (settings->present == PNP_OVSS_PRESENT_MATCH ? 4 : 0)]);
    } else {
        REQUIRE(is_untouched(&outputs, offsetof(struct outputs, timings)));
        REQUIRE(is_untouched((char *)&outputs.timings + 4, sizeof outputs.timings - 4));
    }
    return code;
}

static int32_t segment_pixels(struct world *world, pnp_ovss_error *error) {
    pnp_ovss_settings settings = no_settings();
    settings.passes = PASSES;
    settings.drop_mode = PNP_OVSS_DROP_PIXELS;
    settings.crf = PNP_OVSS_CRF_DENSECRF;
    settings.drop_count = PNP_OVSS_HALVING;
    return segment(world, &settings, NULL, error);
}

static int32_t segment_tokens(struct world *world, pnp_ovss_error *error) {
    pnp_ovss_settings settings = no_settings();
    settings.passes = PASSES;
    settings.drop_mode = PNP_OVSS_DROP_TOKENS;
    settings.drop_count = 3;
    settings.crf = PNP_OVSS_CRF_NONE;
    settings.sum_last_class = PNP_OVSS_YES;
    return segment(world, &settings, NULL, error);
}

/* The graph for some of the patches is loaded when it is first asked for. */
static int32_t first_tokens(struct world *world, pnp_ovss_error *error) {
    struct world other = *world;
    int32_t code = pnp_ovss_model_open(world->runtime, world->folder, NULL, &other.model, error);
    if (code != PNP_OVSS_OK) return code;
    code = segment_tokens(&other, error);
    pnp_ovss_model_close(other.model);
    return code;
}

static int32_t segment_attention(struct world *world, pnp_ovss_error *error) {
    pnp_ovss_settings settings = no_settings();
    settings.passes = PASSES;
    settings.drop_mode = PNP_OVSS_DROP_ATTENTION;
    settings.crf = PNP_OVSS_CRF_DENSECRF;
    settings.refine_side = 20;
    settings.blur = PNP_OVSS_ZERO;
    return segment(world, &settings, NULL, error);
}

static int32_t segment_present(struct world *world, pnp_ovss_error *error) {
    pnp_ovss_settings settings = no_settings();
    settings.passes = PASSES;
    settings.present = PNP_OVSS_PRESENT_MATCH;
    settings.crf = PNP_OVSS_CRF_NONE;
    settings.refine_side = 20;
    return segment(world, &settings, NULL, error);
}

static int32_t segment_with_cancel(struct world *world, pnp_ovss_error *error) {
    pnp_ovss_cancel *const unset = (pnp_ovss_cancel *)&doing, *cancel = unset;
    int32_t code = pnp_ovss_cancel_create(&cancel, error);
    REQUIRE((code != PNP_OVSS_OK) == (cancel == unset));
    if (code != PNP_OVSS_OK) return code;
    pnp_ovss_settings settings = no_settings();
    settings.passes = PASSES;
    settings.drop_count = PNP_OVSS_ZERO;
    settings.crf = PNP_OVSS_CRF_NONE;
    code = segment(world, &settings, cancel, error);
    if (code == PNP_OVSS_OK) {
        pnp_ovss_error other = no_error();
        pnp_ovss_cancel_now(cancel);
        pnp_ovss_cancel_now(cancel);
        const int32_t stopped = segment(world, &settings, cancel, &other);
        if (stopped != PNP_OVSS_CANCELLED) code = stopped, *error = other;
        if (stopped == PNP_OVSS_OK) REQUIRE(!"a call that was stopped went on");
    }
    pnp_ovss_cancel_free(cancel);
    return code;
}

static int32_t batch(struct world *world, pnp_ovss_error *error) {
    enum { ITEMS = 3 };
    static struct outputs outputs[ITEMS];
    pnp_ovss_output output[ITEMS];
    pnp_ovss_error errors[ITEMS];
    pnp_ovss_item items[ITEMS];
    pnp_ovss_settings settings = no_settings();
    settings.passes = PASSES;
    settings.crf = PNP_OVSS_CRF_NONE;
    memset(items, 0, sizeof items);
    for (int i = 0; i < ITEMS; i++) {
        output[i] = output_of(&outputs[i]);
        errors[i] = no_error();
        items[i].struct_size = sizeof items[i];
        items[i].code = -77;
        items[i].names = i == 1 ? world->few : world->many;
        items[i].image = &world->image;
        items[i].output = &output[i];
        items[i].error = i == 2 ? NULL : &errors[i];
    }
    const int32_t code = pnp_ovss_segment_batch(world->model, items, ITEMS, &settings, NULL, error);
    int32_t first = PNP_OVSS_OK;
    for (int i = 0; i < ITEMS; i++) {
        if (first == PNP_OVSS_OK) first = items[i].code;
        EXPECT(items[i].code >= 0 && items[i].code <= PNP_OVSS_CANCELLED);
        if (items[i].code < 0) continue;
        if (items[i].error != NULL) check_error(items[i].code, items[i].error);
        if (items[i].code == PNP_OVSS_OK) check_labels(&outputs[i]);
        if (items[i].code == PNP_OVSS_OK) check_same(&outputs[i], &references[i == 1 ? 6 : 5]);
        else REQUIRE(is_untouched(&outputs[i], offsetof(struct outputs, timings)));
    }
    EXPECT(first == code);
    return code;
}

static int32_t preprocess(struct world *world, pnp_ovss_error *error) {
    struct {
        uint8_t pixels[SIDE * SIDE * 3];
        float values[3 * SIDE * SIDE];
    } out;
    memset(&out, PATTERN, sizeof out);
    const int32_t code = pnp_ovss_preprocess(world->model, &world->image, out.pixels, out.values, error);
    if (code != PNP_OVSS_OK) REQUIRE(is_untouched(&out, sizeof out));
    return code;
}

static int32_t names_tokens(struct world *world, pnp_ovss_error *error) {
    pnp_ovss_tokens tokens;
    struct {
        int64_t ids[16], mask[16];
        float weights[2 * 16];
    } out;
    memset(&out, PATTERN, sizeof out);
    memset(&tokens, 0, sizeof tokens);
    tokens.struct_size = sizeof tokens;
    int32_t code = pnp_ovss_names_tokens(world->few, NULL, &tokens, error);
    if (code != PNP_OVSS_OK) REQUIRE(tokens.length == 0 && tokens.names == 0);
    if (code != PNP_OVSS_OK) return code;
    REQUIRE(tokens.length == 8 && tokens.names == 2 && is_untouched(&out, sizeof out));
    tokens.length = 16;
    tokens.input_ids = out.ids;
    tokens.attention_mask = out.mask;
    tokens.class_tokens = out.weights;
    code = pnp_ovss_names_tokens(world->few, NULL, &tokens, error);
    if (code != PNP_OVSS_OK) REQUIRE(is_untouched(&out, sizeof out));
    else REQUIRE(out.ids[15] == 0 && out.mask[0] == 1 && out.mask[15] == 0 && out.weights[31] == 0);
    return code;
}

static float some_maps[NAMES * GRID * GRID];

static void fill_maps(void) {
    for (size_t i = 0; i < sizeof some_maps / sizeof *some_maps; i++) some_maps[i] = (float)(i * i % 37) / 37;
}

static int32_t names_join(struct world *world, pnp_ovss_error *error) {
    float maps[CLASSES * GRID * GRID];
    fill_maps();
    memset(maps, PATTERN, sizeof maps);
    const int32_t code = pnp_ovss_names_join(world->many, world->model, some_maps, maps, error);
    if (code != PNP_OVSS_OK) REQUIRE(is_untouched(maps, sizeof maps));
    return code;
}

static int32_t finish(struct world *world, pnp_ovss_error *error) {
    struct outputs outputs;
    const uint8_t present[CLASSES] = {1, 0, 1, 1, 1, 0, 1, 1};
    pnp_ovss_settings settings = no_settings();
    settings.crf = PNP_OVSS_CRF_DENSECRF;
    fill_maps();
    output_of(&outputs);
    const int32_t code = pnp_ovss_finish(world->model, &world->image, some_maps, present, CLASSES, &settings,
                                         (uint16_t *)(void *)outputs.labels, LABELS_STRIDE, error);
    if (code == PNP_OVSS_OK) check_labels(&outputs);
    if (code == PNP_OVSS_OK) check_same(&outputs, &references[7]);
    else REQUIRE(is_untouched(outputs.labels, sizeof outputs.labels));
    return code;
}

const struct call CALLS[] = {{"runtime_open", runtime_open},
                             {"model_open", model_open},
                             {"model_open on CUDA", model_open_on_cuda},
                             {"names_create", names_create},
                             {"settings_default", settings_default},
                             {"settings_preset", settings_preset},
                             {"model_describe", describe},
                             {"segment, pixels", segment_pixels},
                             {"segment, tokens", segment_tokens},
                             {"first segment, tokens", first_tokens},
                             {"segment, attention", segment_attention},
                             {"segment, present", segment_present},
                             {"segment with a cancel", segment_with_cancel},
                             {"segment_batch", batch},
                             {"preprocess", preprocess},
                             {"names_tokens", names_tokens},
                             {"names_join", names_join},
                             {"finish", finish}};
const size_t CALL_COUNT = sizeof CALLS / sizeof *CALLS;
