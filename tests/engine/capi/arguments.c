/* arguments RUNTIME FOLDER OTHER_FOLDER: arguments that cannot be used are refused, each with a code, a cause and no
   change, and those at the edge of what can be used are taken. OTHER_FOLDER is a model with another vocabulary. */
#include "arguments.h"

#include <float.h>
#include <math.h>
#include <string.h>

static struct world w;
static pnp_ovss_error error;

void expect(int32_t wanted, int32_t code, const pnp_ovss_error *told, const char *what) {
    doing = what;
    const char *const cause = code == PNP_OVSS_OK ? "" : told->cause;
    if (code != wanted) complaints++, fprintf(stderr, "%s: %d, not %d: %s\n", what, code, wanted, cause);
    check_error(code, told);
}

#define TAKEN(call) expect(PNP_OVSS_OK, (error = no_error(), call), &error, #call)
#define REFUSED(call) expect(PNP_OVSS_BAD_INPUT, (error = no_error(), call), &error, #call)

/* ---- Pointers that must not be null ---- */

static void null_pointers(void) {
    struct outputs outputs;
    const pnp_ovss_output output = output_of(&outputs);
    pnp_ovss_settings settings = no_settings();
    pnp_ovss_model_info info = {sizeof info, 0, 0, 0, 0, 0, "", ""};
    pnp_ovss_tokens tokens = {sizeof tokens, 0, 0, 0, NULL, NULL, NULL};
    pnp_ovss_names *names = NULL;
    pnp_ovss_model *model = NULL;
    const char *const good[] = {"cat"}, *const bad[] = {"cat", NULL};
    pnp_ovss_image no_pixels = w.image;
    pnp_ovss_item item = {sizeof item, 0, w.many, &w.image, &output, NULL};
    float maps[CLASSES * GRID * GRID] = {0};
    uint16_t labels[WIDTH * HEIGHT];
    no_pixels.rgb = NULL;

    REFUSED(pnp_ovss_runtime_open(NULL, NULL, &error));
    REFUSED(pnp_ovss_settings_default(NULL, &settings, &error));
    REFUSED(pnp_ovss_settings_default(w.model, NULL, &error));
    REFUSED(pnp_ovss_settings_preset(NULL, &settings, &error));
    REFUSED(pnp_ovss_settings_preset("paper", NULL, &error));
    REFUSED(pnp_ovss_model_open(w.runtime, NULL, NULL, &model, &error));
    REFUSED(pnp_ovss_model_open(w.runtime, w.folder, NULL, NULL, &error));
    REFUSED(pnp_ovss_model_describe(NULL, &info, &error));
    REFUSED(pnp_ovss_model_describe(w.model, NULL, &error));
    REFUSED(pnp_ovss_names_create(NULL, good, NULL, 1, NULL, &names, &error));
    REFUSED(pnp_ovss_names_create(w.model, NULL, NULL, 1, NULL, &names, &error));
    REFUSED(pnp_ovss_names_create(w.model, NULL, NULL, 0, NULL, &names, &error));
    REFUSED(pnp_ovss_names_create(w.model, bad, NULL, 2, NULL, &names, &error));
    REFUSED(pnp_ovss_names_create(w.model, good, NULL, 1, NULL, NULL, &error));
    REFUSED(pnp_ovss_cancel_create(NULL, &error));
    REFUSED(pnp_ovss_segment(NULL, w.many, &w.image, NULL, NULL, &output, &error));
    REFUSED(pnp_ovss_segment(w.model, NULL, &w.image, NULL, NULL, &output, &error));
    REFUSED(pnp_ovss_segment(w.model, w.many, NULL, NULL, NULL, &output, &error));
    REFUSED(pnp_ovss_segment(w.model, w.many, &no_pixels, NULL, NULL, &output, &error));
    REFUSED(pnp_ovss_segment(w.model, w.many, &w.image, NULL, NULL, NULL, &error));
    REFUSED(pnp_ovss_segment_batch(NULL, &item, 1, NULL, NULL, &error));
    REFUSED(pnp_ovss_segment_batch(w.model, NULL, 1, NULL, NULL, &error));
    for (int i = 0; i < 3; i++) {
        pnp_ovss_item without = item;
        if (i == 0) without.names = NULL;
        if (i == 1) without.image = NULL;
        if (i == 2) without.output = NULL;
        REFUSED(pnp_ovss_segment_batch(w.model, &without, 1, NULL, NULL, &error));
        REQUIRE(without.code == PNP_OVSS_BAD_INPUT);
    }
    REFUSED(pnp_ovss_preprocess(NULL, &w.image, (uint8_t *)labels, NULL, &error));
    REFUSED(pnp_ovss_preprocess(w.model, NULL, (uint8_t *)labels, NULL, &error));
    REFUSED(pnp_ovss_preprocess(w.model, &no_pixels, (uint8_t *)labels, NULL, &error));
    REFUSED(pnp_ovss_names_tokens(NULL, NULL, &tokens, &error));
    REFUSED(pnp_ovss_names_tokens(w.few, NULL, NULL, &error));
    REFUSED(pnp_ovss_names_join(NULL, w.model, maps, maps, &error));
    REFUSED(pnp_ovss_names_join(w.many, NULL, maps, maps, &error));
    REFUSED(pnp_ovss_names_join(w.many, w.model, NULL, maps, &error));
    REFUSED(pnp_ovss_names_join(w.many, w.model, maps, NULL, &error));
    REFUSED(pnp_ovss_finish(NULL, &w.image, maps, NULL, 1, NULL, labels, 0, &error));
    REFUSED(pnp_ovss_finish(w.model, NULL, maps, NULL, 1, NULL, labels, 0, &error));
    REFUSED(pnp_ovss_finish(w.model, &no_pixels, maps, NULL, 1, NULL, labels, 0, &error));
    REFUSED(pnp_ovss_finish(w.model, &w.image, NULL, NULL, 1, NULL, labels, 0, &error));
    REFUSED(pnp_ovss_finish(w.model, &w.image, maps, NULL, 1, NULL, NULL, 0, &error));
    REQUIRE(names == NULL && model == NULL);

    /* What takes null. */
    pnp_ovss_runtime_close(NULL);
    pnp_ovss_model_close(NULL);
    pnp_ovss_names_free(NULL);
    pnp_ovss_cancel_free(NULL);
    pnp_ovss_cancel_now(NULL);
    REQUIRE(pnp_ovss_names_classes(NULL) == 0 && strcmp(pnp_ovss_runtime_version(NULL), "") == 0);
    TAKEN(pnp_ovss_segment_batch(w.model, NULL, 0, NULL, NULL, &error));
    TAKEN(pnp_ovss_preprocess(w.model, &w.image, NULL, NULL, &error));
    REQUIRE(pnp_ovss_segment(NULL, NULL, NULL, NULL, NULL, NULL, NULL) == PNP_OVSS_BAD_INPUT);
    REQUIRE(pnp_ovss_segment(w.model, w.many, &w.image, NULL, NULL, &output, NULL) == PNP_OVSS_OK);
    pnp_ovss_output nothing;
    memset(&nothing, 0, sizeof nothing);
    nothing.struct_size = sizeof nothing;
    TAKEN(pnp_ovss_segment(w.model, w.many, &w.image, NULL, NULL, &nothing, &error));
}

/* ---- Images and outputs ---- */

static void images(void) {
    const struct {
        uint32_t width, height;
        size_t stride;
        int taken;
    } shapes[] = {{0, HEIGHT, STRIDE, 0},
                  {WIDTH, 0, STRIDE, 0},
                  {0, 0, 0, 0},
                  {WIDTH, HEIGHT, 3 * WIDTH - 1, 0},
                  {WIDTH, HEIGHT, 1, 0},
                  {WIDTH, HEIGHT, SIZE_MAX, 0},
                  {WIDTH, HEIGHT, SIZE_MAX / HEIGHT + 2, 0},
                  {WIDTH, HEIGHT, SIZE_MAX / 2, 0},
                  {50000001, 1, 0, 0},
                  {1, 50000001, 3, 0},
                  {7072, 7072, 0, 0},
                  {65536, 65536, 0, 0},
                  {UINT32_MAX, UINT32_MAX, 0, 0},
                  {UINT32_MAX, 1, 0, 0},
                  {0x80000000u, 2, 0, 0},
                  {WIDTH, HEIGHT, 3 * WIDTH, 1},
                  {WIDTH, HEIGHT, 0, 1},
                  {1, 1, 0, 1},
                  {1, HEIGHT, 7, 1},
                  {WIDTH, 1, 0, 1},
                  {WIDTH, 1, SIZE_MAX, -1}}; /* one row needs no stride: either will do */
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct outputs outputs;
        pnp_ovss_output output = output_of(&outputs);
        uint8_t pixels[SIDE * SIDE * 3];
        float maps[GRID * GRID] = {0};
        pnp_ovss_image image = w.image;
        char text[80];
        image.width = shapes[i].width;
        image.height = shapes[i].height;
        image.stride = shapes[i].stride;
        snprintf(text, sizeof text, "image %ux%u, stride %zx", image.width, image.height, image.stride);
        for (int use = 0; use < 3; use++) {
            error = no_error();
            uint16_t *const labels = output.labels;
            const int32_t code =
                use == 0   ? pnp_ovss_segment(w.model, w.many, &image, NULL, NULL, &output, &error)
                : use == 1 ? pnp_ovss_preprocess(w.model, &image, pixels, NULL, &error)
                           : pnp_ovss_finish(w.model, &image, maps, NULL, 1, NULL, labels, LABELS_STRIDE, &error);
            const int32_t wanted = shapes[i].taken ? PNP_OVSS_OK : PNP_OVSS_BAD_INPUT;
            expect(shapes[i].taken < 0 ? code : wanted, code, &error, text);
            if (code != PNP_OVSS_OK) REQUIRE(is_untouched(outputs.labels, sizeof outputs.labels));
        }
    }
}

static void outputs_too_small(void) {
    for (int which = 0; which < 10; which++) {
        struct outputs outputs;
        pnp_ovss_output output = output_of(&outputs);
        pnp_ovss_settings settings = no_settings();
        settings.passes = PASSES;
        if (which == 0) output.labels_stride = 2 * WIDTH - 1;
        if (which == 1) output.labels_stride = 2;
        if (which == 2) output.labels_stride = SIZE_MAX;
        if (which == 3) output.class_maps_count--;
        if (which == 4) output.scores_count = 0;
        if (which == 5) output.match_count = PASSES - 1;
        if (which == 6) output.present_count = CLASSES - 1;
        if (which == 7) output.labels_stride = SIZE_MAX / HEIGHT + 2;
        if (which == 9) output.reserved = 1;
        if (which == 8) outputs.timings.struct_size = 0;
        REFUSED(pnp_ovss_segment(w.model, w.many, &w.image, &settings, NULL, &output, &error));
        EXPECT(is_untouched(&outputs, offsetof(struct outputs, timings)));
    }
    float maps[CLASSES * GRID * GRID] = {0};
    uint16_t labels[WIDTH * HEIGHT];
    REFUSED(pnp_ovss_finish(w.model, &w.image, maps, NULL, CLASSES, NULL, labels, 2 * WIDTH - 1, &error));
    REFUSED(pnp_ovss_finish(w.model, &w.image, maps, NULL, CLASSES, NULL, labels, SIZE_MAX / 2, &error));
    REFUSED(pnp_ovss_finish(w.model, &w.image, maps, NULL, 0, NULL, labels, 0, &error));
    REFUSED(pnp_ovss_finish(w.model, &w.image, maps, NULL, 70000, NULL, labels, 0, &error));
    REFUSED(pnp_ovss_finish(w.model, &w.image, maps, NULL, SIZE_MAX, NULL, labels, 0, &error));
    for (int i = 0; i < 3; i++) {
        maps[GRID] = i == 0 ? NAN : i == 1 ? INFINITY : -INFINITY;
        REFUSED(pnp_ovss_finish(w.model, &w.image, maps, NULL, CLASSES, NULL, labels, 0, &error));
    }
    maps[GRID] = FLT_MAX;
    maps[GRID + 1] = -FLT_MAX;
    TAKEN(pnp_ovss_finish(w.model, &w.image, maps, NULL, CLASSES, NULL, labels, 0, &error));
}

/* ---- Settings ---- */

static void settings_out_of_range(void) {
#define FIELD(name, ...)                                                                                               \
    do {                                                                                                               \
        const double values[] = {__VA_ARGS__};                                                                         \
        for (size_t i = 0; i < sizeof values / sizeof *values; i++) {                                                  \
            settings = no_settings();                                                                                  \
            settings.name = values[i];                                                                                 \
            snprintf(text, sizeof text, #name " = %g", values[i]);                                                     \
            doing = text;                                                                                              \
            for (int use = 0; use < 4; use++) {                                                                        \
                error = no_error();                                                                                    \
                const int32_t code = use_settings(use, &settings, &error);                                             \
                expect(wanted, code, &error, text);                                                                    \
            }                                                                                                          \
        }                                                                                                              \
    } while (0)
    pnp_ovss_settings settings;
    char text[80];
    int32_t wanted = PNP_OVSS_BAD_INPUT;
    FIELD(passes, -1, -2, 1001, INT32_MAX, INT32_MIN);
    FIELD(drop_count, -3, INT32_MIN);
    FIELD(drop_mode, -1, 4, INT32_MAX, INT32_MIN);
    FIELD(threshold, -0.5, -2, 1.0000001, 1e300, NAN, INFINITY, -INFINITY);
    FIELD(blur, -0.5, -2, 1.0000001, 1e300, NAN, INFINITY, -INFINITY);
    FIELD(match_threshold, -0.5, -2, 1.0000001, 1e300, NAN, INFINITY, -INFINITY);
    FIELD(background, -1, 4);
    FIELD(crf, -1, 3, INT32_MIN);
    FIELD(refine_side, -2, INT32_MIN);
    FIELD(first_pass_weight, -1, 1000001, INT32_MIN);
    FIELD(join_words, 2, -2);
    FIELD(sum_last_class, 2, -2);
    FIELD(present, -1, 3);
    FIELD(reserved, 1, -1);
    wanted = PNP_OVSS_OK;
    FIELD(passes, 1, 2);
    FIELD(drop_count, PNP_OVSS_ZERO, PNP_OVSS_HALVING, 1, INT32_MAX);
    FIELD(threshold, PNP_OVSS_ZERO, DBL_MIN, 5e-324, 1);
    FIELD(blur, PNP_OVSS_ZERO, DBL_MIN, 5e-324, 1);
    FIELD(match_threshold, PNP_OVSS_ZERO, DBL_MIN, 1);
    FIELD(refine_side, PNP_OVSS_ZERO, 1, 2, INT32_MAX);
    FIELD(first_pass_weight, 1, 1000000);
    FIELD(crf_memory, 1e18);
    settings = no_settings();
    settings.crf = PNP_OVSS_CRF_DENSECRF;
    for (uint64_t bytes = 1; bytes < 20000; bytes *= 10) {
        struct outputs outputs;
        const pnp_ovss_output output = output_of(&outputs);
        settings.crf_memory = bytes;
        error = no_error();
        const int32_t code = pnp_ovss_segment(w.model, w.many, &w.image, &settings, NULL, &output, &error);
        expect(PNP_OVSS_NO_MEMORY, code, &error, "little crf_memory");
        REQUIRE(is_untouched(&outputs, offsetof(struct outputs, timings)));
    }
    settings.crf_memory = UINT64_MAX;
    struct outputs outputs;
    const pnp_ovss_output output = output_of(&outputs);
    TAKEN(pnp_ovss_segment(w.model, w.many, &w.image, &settings, NULL, &output, &error));
    REFUSED(pnp_ovss_settings_preset("", &settings, &error));
    REFUSED(pnp_ovss_settings_preset("Paper", &settings, &error));
    REFUSED(pnp_ovss_settings_preset("a name\nof two lines \xFF", &settings, &error));
}

/* Gives settings to each call that takes some. */
int32_t use_settings(int use, const pnp_ovss_settings *settings, pnp_ovss_error *told) {
    struct outputs outputs;
    const pnp_ovss_output output = output_of(&outputs);
    const char *const names[] = {"cat"};
    float maps[CLASSES * GRID * GRID] = {1};
    pnp_ovss_names *made = NULL;
    pnp_ovss_tokens tokens = {sizeof tokens, 0, 0, 0, NULL, NULL, NULL};
    if (use == 0) return pnp_ovss_segment(w.model, w.few, &w.image, settings, NULL, &output, told);
    if (use == 1)
        return pnp_ovss_finish(w.model, &w.image, maps, NULL, CLASSES, settings, output.labels, LABELS_STRIDE, told);
    if (use == 2) return pnp_ovss_names_tokens(w.few, settings, &tokens, told);
    const int32_t code = pnp_ovss_names_create(w.model, names, NULL, 1, settings, &made, told);
    pnp_ovss_names_free(made);
    return code;
}

int main(int argc, char **argv) {
    REQUIRE(argc == 4);
    find_stub(argv[1]);
    open_world(&w, argv[1], argv[2]);
    null_pointers();
    images();
    outputs_too_small();
    settings_out_of_range();
    struct_sizes(&w);
    names_and_tokens(&w, argv[3]);
    devices_and_folders(&w);
    close_world(&w);
    doing = "all codes";
    REQUIRE(complaints == 0);
    if (stub_live != NULL)
        for (int kind = STUB_ENV + 1; kind < STUB_KINDS; kind++) REQUIRE(stub_live(kind) == 0);
    return 0;
}
