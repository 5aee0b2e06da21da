/* segment_image MODEL IMAGE NAMES [-o STEM] [-t THREADS] [--crf none]

   Looks for things in an image, by their names: "car,traffic light,tree". It prints a line for each, with its score and
   its share of the image. With -o it writes STEM.labels.png, where 0 is background, 1 the first name and so on, and
   STEM.overlay.png, to look at; without libpng these are .pgm and .ppm.
   ONNX Runtime is the one that the environment's PNP_OVSS_ORT names, or libonnxruntime.so.1.                         */
#include <pnp_ovss.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "colors.h"
#include "image_io.h"

#define USAGE "segment_image MODEL IMAGE NAMES [-o STEM] [-t THREADS] [--crf none]"
#define SHARE_OF_COLOR 45 /* percent, in the overlay */

typedef struct {
    const char *model, *image, *stem;
    char *list; /* of names; its commas become the ends of strings */
    int threads;
    int without_crf;
} arguments;

/* All that is freed at the end, whatever happened. */
typedef struct {
    rgb_image image;
    char **names;
    size_t count;
    pnp_ovss_runtime *runtime;
    pnp_ovss_model *model;
    pnp_ovss_names *classes;
    uint16_t *labels; /* [height][width] */
    float *scores;    /* [count] */
    char path[4096]; /* of the file that is written */
} work;

static int usage(pnp_ovss_error *error) {
    return fail(error, PNP_OVSS_BAD_INPUT, USAGE, "the arguments are not understood");
}

static int read_arguments(int argc, char **argv, arguments *given, pnp_ovss_error *error) {
    char *plain[3];
    int count = 0;
    for (int i = 1; i < argc; ++i) {
        const int crf = !strcmp(argv[i], "--crf");
        const int option = crf || !strcmp(argv[i], "-o") || !strcmp(argv[i], "-t");
        if (option && i + 1 == argc) return usage(error);
        if (crf) {
            if (strcmp(argv[++i], "none")) return usage(error);
            given->without_crf = 1;
        } else if (option && argv[i][1] == 'o') {
            given->stem = argv[++i];
        } else if (option) {
            char *end;
            const long threads = strtol(argv[++i], &end, 10);
            if (*end || threads < 1 || threads > 1024) return usage(error);
            given->threads = (int)threads;
        } else if (count < 3) {
            plain[count++] = argv[i];
        } else {
            return usage(error);
        }
    }
    if (count < 3) return usage(error);
    given->model = plain[0];
    given->image = plain[1];
    given->list = plain[2];
    return PNP_OVSS_OK;
}

/* Splits a list at its commas. */
static int split(work *all, char *list, pnp_ovss_error *error) {
    all->count = 1;
    for (const char *at = list; *at; ++at) all->count += *at == ',';
    all->names = malloc(all->count * sizeof *all->names);
    if (!all->names) return fail(error, PNP_OVSS_NO_MEMORY, "give fewer names", "no memory for %zu names", all->count);
    for (size_t i = 0; i < all->count; ++i) {
        all->names[i] = list;
        list += strcspn(list, ",");
        *list++ = 0;
    }
    return PNP_OVSS_OK;
}

static int segment(const arguments *given, work *all, pnp_ovss_error *error) {
    const rgb_image *from = &all->image;
    const pnp_ovss_model_options options = {.struct_size = sizeof options, .threads = given->threads};
    const pnp_ovss_image image = {sizeof image, from->width, from->height, 0, from->rgb};
    pnp_ovss_output output = {.struct_size = sizeof output};
    pnp_ovss_settings settings = {.struct_size = sizeof settings};
    int code;
    if (given->without_crf) settings.crf = PNP_OVSS_CRF_NONE;
    all->labels = malloc((size_t)from->width * from->height * sizeof *all->labels);
    all->scores = malloc(all->count * sizeof *all->scores);
    if (!all->labels || !all->scores)
        return fail(error, PNP_OVSS_NO_MEMORY, "give a smaller image", "no memory for the labels");
    output.labels = all->labels;
    output.scores = all->scores;
    output.scores_count = all->count;
    if ((code = pnp_ovss_runtime_open(NULL, &all->runtime, error))) return code;
    if ((code = pnp_ovss_model_open(all->runtime, given->model, &options, &all->model, error))) return code;
    code = pnp_ovss_names_create(all->model, (const char *const *)all->names, NULL, all->count, NULL, &all->classes,
                                 error);
    return code ? code : pnp_ovss_segment(all->model, all->classes, &image, &settings, NULL, &output, error);
}

static void print(const work *all) {
    const size_t pixels = (size_t)all->image.width * all->image.height;
    for (size_t i = 0; i < all->count; ++i) {
        size_t found = 0;
        for (size_t pixel = 0; pixel < pixels; ++pixel) found += all->labels[pixel] == i + 1;
        printf("%-24s score %.3f  %5.1f %% of the pixels\n", all->names[i] + strspn(all->names[i], " "),
               (double)all->scores[i], 100.0 * (double)found / (double)pixels);
    }
}

/* Whether the pixel to the right or below has another label. */
static int is_edge(const work *all, uint32_t x, uint32_t y) {
    const uint16_t *at = all->labels + (size_t)y * all->image.width + x;
    return (x + 1 < all->image.width && at[1] != at[0]) || (y + 1 < all->image.height && at[all->image.width] != at[0]);
}

/* Lays the colors of the classes over the image. */
static void color(work *all) {
    for (uint32_t y = 0; y < all->image.height; ++y)
        for (uint32_t x = 0; x < all->image.width; ++x) {
            const size_t at = (size_t)y * all->image.width + x;
            const unsigned share = is_edge(all, x, y) ? 100 : SHARE_OF_COLOR;
            uint8_t over[3], *rgb = all->image.rgb + 3 * at;
            if (!all->labels[at]) continue;
            class_color(all->labels[at] - 1u, over);
            for (int i = 0; i < 3; ++i) rgb[i] = (uint8_t)((rgb[i] * (100 - share) + over[i] * share + 50) / 100);
        }
}

static int name_file(work *all, const char *stem, const char *suffix, pnp_ovss_error *error) {
    const int length = snprintf(all->path, sizeof all->path, "%s%s", stem, suffix);
    if (length >= 0 && (size_t)length < sizeof all->path) return PNP_OVSS_OK;
    return fail(error, PNP_OVSS_BAD_INPUT, "give a shorter -o", "the name of a file is too long");
}

static int write_files(const char *stem, work *all, pnp_ovss_error *error) {
    const rgb_image *image = &all->image;
    if (name_file(all, stem, ".labels" LABELS_SUFFIX, error)) return error->code;
    if (write_labels(all->path, all->labels, image->width, image->height, all->count > 255, error)) return error->code;
    if (name_file(all, stem, ".overlay" COLORS_SUFFIX, error)) return error->code;
    color(all);
    return write_colors(all->path, image, error);
}

static int run(int argc, char **argv, work *all, pnp_ovss_error *error) {
    arguments given = {0};
    int code;
    if ((code = read_arguments(argc, argv, &given, error))) return code;
    if ((code = split(all, given.list, error))) return code;
    if ((code = read_image(given.image, &all->image, error))) return code;
    if ((code = segment(&given, all, error))) return code;
    print(all);
    return given.stem ? write_files(given.stem, all, error) : PNP_OVSS_OK;
}

int main(int argc, char **argv) {
    static work all;
    pnp_ovss_error error = {sizeof error, 0, "", ""};
    const int code = run(argc, argv, &all, &error);
    if (code) fprintf(stderr, "segment_image: %s\n%s\n", error.cause, error.cure);
    pnp_ovss_names_free(all.classes);
    pnp_ovss_model_close(all.model);
    pnp_ovss_runtime_close(all.runtime);
    free(all.image.rgb);
    free(all.labels);
    free(all.scores);
    free(all.names);
    return code ? EXIT_FAILURE : EXIT_SUCCESS;
}
