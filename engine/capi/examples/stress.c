/* stress MODEL [THREADS [ROUNDS]]

   Segments on many threads at once, 64 unless told otherwise, with one model and four lists of names. Each result must
   be what one thread alone gave, bit for bit.                                                                        */
#define _POSIX_C_SOURCE 200809L
#include <pnp_ovss.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IMAGES = 3, LISTS = 4, WIDTH = 96, HEIGHT = 80, MOST_CLASSES = 4, MOST_MAPS = 4096, MOST_PASSES = 16 };

static const char *const WORDS[LISTS][MOST_CLASSES] = {
    {"cat"}, {"turtle", "umbrella"}, {"grapes", "hot dog", "ladybug"}, {"teddy bear", "cat", "soccer ball", "umbrella"}};

/* What a call writes. */
typedef struct {
    uint16_t labels[HEIGHT][WIDTH];
    float maps[MOST_CLASSES * MOST_MAPS], scores[MOST_CLASSES], match[MOST_PASSES];
    uint8_t present[MOST_CLASSES];
} result;

static pnp_ovss_model *model;
static pnp_ovss_names *names[LISTS];
static uint8_t images[IMAGES][HEIGHT][WIDTH][3];
static result wanted[IMAGES][LISTS];
static int rounds = 4;

static void die(const char *what, const pnp_ovss_error *error) {
    fprintf(stderr, "stress: %s: %s\n%s\n", what, error->cause, error->cure);
    exit(EXIT_FAILURE);
}

/* Draws smooth colors and a square. */
static void draw(int number) {
    for (int y = 0; y < HEIGHT; ++y)
        for (int x = 0; x < WIDTH; ++x) {
            const int inside = x > 20 + 8 * number && x < 60 + 8 * number && y > 15 && y < 60;
            uint8_t *rgb = images[number][y][x];
            rgb[0] = (uint8_t)(inside ? 230 - 60 * number : 2 * x);
            rgb[1] = (uint8_t)(inside ? 40 + 70 * number : 3 * y);
            rgb[2] = (uint8_t)(inside ? 60 : x + y);
        }
}

static int32_t segment(int image, int list, result *found, pnp_ovss_error *error) {
    pnp_ovss_image pixels = {sizeof pixels, WIDTH, HEIGHT, sizeof images[0][0], &images[image][0][0][0]};
    pnp_ovss_output output = {.struct_size = sizeof output};
    memset(found, 0, sizeof *found);
    output.labels = &found->labels[0][0];
    output.class_maps = found->maps;
    output.class_maps_count = MOST_CLASSES * MOST_MAPS;
    output.scores = found->scores;
    output.scores_count = MOST_CLASSES;
    output.match = found->match;
    output.match_count = MOST_PASSES;
    output.present = found->present;
    output.present_count = MOST_CLASSES;
    return pnp_ovss_segment(model, names[list], &pixels, NULL, NULL, &output, error);
}

/* Segments every image with every list in each round, from another start in each thread. Returns what went wrong. */
static void *work(void *number) {
    const int first = (int)(size_t)number, all = IMAGES * LISTS;
    result *found = malloc(sizeof *found);
    char *wrong = NULL;
    for (int i = 0; found && i < rounds; ++i) {
        const int image = (first + i) % all / LISTS, list = (first + i) % LISTS;
        pnp_ovss_error error = {sizeof error, 0, "", ""};
        if (segment(image, list, found, &error))
            wrong = "a call failed";
        else if (memcmp(found, &wanted[image][list], sizeof *found))
            wrong = "a result is another than that of one thread";
    }
    if (!found) wrong = "no memory";
    free(found);
    return wrong;
}

static int number(const char *text, int most) {
    char *end;
    const long value = strtol(text, &end, 10);
    if (!*text || *end || value < 1 || value > most) {
        fprintf(stderr, "stress: %s is no number from 1 to %d\n", text, most);
        exit(EXIT_FAILURE);
    }
    return (int)value;
}

static void open_all(const char *folder, pnp_ovss_runtime **runtime) {
    pnp_ovss_error error = {sizeof error, 0, "", ""};
    const pnp_ovss_model_options options = {.struct_size = sizeof options, .threads = 1};
    pnp_ovss_model_info info = {.struct_size = sizeof info};
    pnp_ovss_settings settings = {.struct_size = sizeof settings};
    if (pnp_ovss_runtime_open(NULL, runtime, &error)) die("runtime_open", &error);
    if (pnp_ovss_model_open(*runtime, folder, &options, &model, &error)) die("model_open", &error);
    if (pnp_ovss_model_describe(model, &info, &error)) die("model_describe", &error);
    if (pnp_ovss_settings_default(model, &settings, &error)) die("settings_default", &error);
    if (info.grid_height * info.grid_width > MOST_MAPS || settings.passes > MOST_PASSES) {
        fprintf(stderr, "stress: the model is too large for this program\n");
        exit(EXIT_FAILURE);
    }
    for (int list = 0; list < LISTS; ++list)
        if (pnp_ovss_names_create(model, WORDS[list], NULL, (size_t)list + 1, NULL, &names[list], &error))
            die("names_create", &error);
    for (int image = 0; image < IMAGES; ++image) {
        draw(image);
        for (int list = 0; list < LISTS; ++list)
            if (segment(image, list, &wanted[image][list], &error)) die("segment", &error);
    }
}

int main(int argc, char **argv) {
    pnp_ovss_runtime *runtime = NULL;
    if (argc < 2 || argc > 4) {
        fprintf(stderr, "stress MODEL [THREADS [ROUNDS]]\n");
        return EXIT_FAILURE;
    }
    const int count = argc > 2 ? number(argv[2], 4096) : 64;
    if (argc > 3) rounds = number(argv[3], 1000000);
    open_all(argv[1], &runtime);

    pthread_t *threads = malloc((size_t)count * sizeof *threads);
    int started = 0, wrong = 0;
    while (threads && started < count && !pthread_create(&threads[started], NULL, work, (void *)(size_t)started))
        ++started;
    for (int i = 0; i < started; ++i) {
        void *told = NULL;
        pthread_join(threads[i], &told);
        if (told) {
            fprintf(stderr, "stress: thread %d: %s\n", i, (const char *)told);
            wrong = 1;
        }
    }
    free(threads);
    if (started < count) fprintf(stderr, "stress: only %d threads could be started\n", started);
    for (int list = 0; list < LISTS; ++list) pnp_ovss_names_free(names[list]);
    pnp_ovss_model_close(model);
    pnp_ovss_runtime_close(runtime);
    if (!wrong && started == count) printf("%d threads, %d calls each: all results equal\n", count, rounds);
    return wrong || started < count ? EXIT_FAILURE : EXIT_SUCCESS;
}
