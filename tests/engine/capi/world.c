#define _GNU_SOURCE
#include "world.h"

#include <dlfcn.h>
#include <string.h>

#define F(result, name, arguments) result(*name) arguments;
STUB_FUNCTIONS(F)
#undef F

const char *doing = "";
long complaints;

void require_failed(const char *file, int line, const char *condition) {
    fprintf(stderr, "%s:%d: not so: %s (%s)\n", file, line, condition, doing);
    fflush(stderr);
    abort();
}

void find_stub(const char *path) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) fprintf(stderr, "%s\n", dlerror());
    REQUIRE(library != NULL);
#define F(result, name, arguments) *(void **)&name = dlsym(library, #name);
    STUB_FUNCTIONS(F)
#undef F
}

void live_objects(long counts[STUB_KINDS]) {
    for (int kind = 0; kind < STUB_KINDS; kind++) counts[kind] = kind == STUB_ENV ? 0 : stub_live(kind);
}

pnp_ovss_settings no_settings(void) {
    pnp_ovss_settings settings;
    memset(&settings, 0, sizeof settings);
    settings.struct_size = sizeof settings;
    return settings;
}

pnp_ovss_error no_error(void) {
    pnp_ovss_error error;
    memset(&error, 0x5A, sizeof error); /* not 0: the library is to fill it in */
    error.struct_size = sizeof error;
    return error;
}

pnp_ovss_output output_of(struct outputs *outputs) {
    pnp_ovss_output output;
    memset(outputs, PATTERN, sizeof *outputs);
    outputs->timings.struct_size = sizeof outputs->timings;
    memset(&output, 0, sizeof output);
    output.struct_size = sizeof output;
    output.labels = (uint16_t *)(void *)outputs->labels;
    output.labels_stride = LABELS_STRIDE;
    output.class_maps = outputs->class_maps;
    output.class_maps_count = CLASSES * GRID * GRID;
    output.scores = outputs->scores;
    output.scores_count = CLASSES;
    output.match = outputs->match;
    output.match_count = PASSES;
    output.present = outputs->present;
    output.present_count = CLASSES;
    output.timings = &outputs->timings;
    return output;
}

int is_untouched(const void *memory, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        if (((const unsigned char *)memory)[i] != PATTERN) return 0;
    return 1;
}

static int is_utf8(const char *text) {
    for (const unsigned char *at = (const unsigned char *)text; *at != 0;) {
        const int more = *at < 0x80 ? 0 : *at >= 0xC2 && *at < 0xE0 ? 1 : *at < 0xE0 ? -1 : *at < 0xF0 ? 2 : 3;
        if (more < 0 || *at > 0xF4) return 0;
        at++;
        for (int i = 0; i < more; i++, at++)
            if ((*at & 0xC0) != 0x80) return 0;
    }
    return 1;
}

void check_error(int32_t code, const pnp_ovss_error *error) {
    REQUIRE(code >= PNP_OVSS_OK && code <= PNP_OVSS_CANCELLED);
    REQUIRE(error->code == code);
    REQUIRE(error->struct_size == sizeof *error);
    REQUIRE(memchr(error->cause, 0, sizeof error->cause) != NULL && memchr(error->cure, 0, sizeof error->cure) != NULL);
    REQUIRE((error->cause[0] != 0) == (code != PNP_OVSS_OK));
    EXPECT(is_utf8(error->cause) && is_utf8(error->cure));
    if (strpbrk(error->cause, "\r\n") != NULL) fprintf(stderr, "cause: %s\n", error->cause);
    REQUIRE(strpbrk(error->cause, "\r\n") == NULL && strpbrk(error->cure, "\r\n") == NULL);
}

void check_labels(const struct outputs *outputs) {
    for (int row = 0; row < HEIGHT; row++) {
        uint16_t label;
        for (int column = 0; column < WIDTH; column++) {
            memcpy(&label, &outputs->labels[row][2 * column], 2);
            REQUIRE(label <= CLASSES);
        }
        REQUIRE(is_untouched(&outputs->labels[row][2 * WIDTH], LABELS_STRIDE - 2 * WIDTH));
    }
}

const char *const MANY[NAMES] = {"cat",    "turtle", "sailing boat", "alarm clock", "umbrella",
                                   "banana", "pizza",  "hot dog",      "frog",        "fire engine"};
const uint32_t CLASS_OF[NAMES] = {0, 1, 1, 2, 3, 4, 5, 6, 6, 7};
static const char *const FEW[] = {"  hot\tdog ", "frog"};

void open_world(struct world *world, const char *runtime_path, const char *folder) {
    pnp_ovss_error error = no_error();
    pnp_ovss_runtime_options options;
    pnp_ovss_model_options model_options;
    doing = "opening";
    memset(world, 0, sizeof *world);
    memset(&options, 0, sizeof options);
    memset(&model_options, 0, sizeof model_options);
    options.struct_size = sizeof options;
    options.path = runtime_path;
    model_options.struct_size = sizeof model_options;
    model_options.threads = 2;
    world->runtime_path = runtime_path;
    world->folder = folder;
    for (int row = 0; row < HEIGHT; row++)
        for (int i = 0; i < STRIDE; i++) world->pixels[row][i] = (uint8_t)(row * row * 7 + i * i / 5 + i % 3 * 60);
    world->image.struct_size = sizeof world->image;
    world->image.width = WIDTH;
    world->image.height = HEIGHT;
    world->image.stride = STRIDE;
    world->image.rgb = &world->pixels[0][0];
    if (pnp_ovss_runtime_open(&options, &world->runtime, &error) != PNP_OVSS_OK ||
        pnp_ovss_model_open(world->runtime, folder, &model_options, &world->model, &error) != PNP_OVSS_OK ||
        pnp_ovss_names_create(world->model, MANY, CLASS_OF, NAMES, NULL, &world->many, &error) ||
        pnp_ovss_names_create(world->model, FEW, NULL, 2, NULL, &world->few, &error) != PNP_OVSS_OK) {
        fprintf(stderr, "%d: %s\n%s\n", error.code, error.cause, error.cure);
        REQUIRE(!"the world opens");
    }
}

void close_world(struct world *world) {
    pnp_ovss_names_free(world->many);
    pnp_ovss_names_free(world->few);
    pnp_ovss_model_close(world->model);
    pnp_ovss_runtime_close(world->runtime);
}
