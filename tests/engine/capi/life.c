/* life RUNTIME FOLDER: a whole life with a real runtime and a real model, from the first call to the last. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "pnp_ovss.h"

static pnp_ovss_error error = {sizeof error, 0, "", ""};

static void check(int32_t code, int line) {
    if (code == PNP_OVSS_OK) return;
    fprintf(stderr, "life.c:%d: %d: %s\n%s\n", line, code, error.cause, error.cure);
    exit(1);
}
#define CHECK(call) check(call, __LINE__)

static const char *const NAMES[] = {"cat", "turtle", "sailing boat", "umbrella", "pizza", "frog"};

static void *stop(void *cancel) {
    const struct timespec pause = {0, 5000000};
    nanosleep(&pause, NULL);
    pnp_ovss_cancel_now(cancel);
    return NULL;
}

static void use(pnp_ovss_runtime *runtime, const char *folder) {
    enum { WIDTH = 320, HEIGHT = 200 };
    static uint8_t pixels[HEIGHT][WIDTH][3];
    static uint16_t labels[3][HEIGHT][WIDTH];
    pnp_ovss_model *model = NULL;
    pnp_ovss_names *names = NULL;
    pnp_ovss_cancel *cancel = NULL;
    pnp_ovss_image image = {sizeof image, WIDTH, HEIGHT, 0, &pixels[0][0][0]};
    pnp_ovss_output output[3];
    pnp_ovss_item items[3];
    pnp_ovss_settings settings;
    pthread_t stopper;
    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++)
            for (int c = 0; c < 3; c++) pixels[y][x][c] = (uint8_t)((x * x / 40 + y * c) % 251);
    CHECK(pnp_ovss_model_open(runtime, folder, NULL, &model, &error));
    CHECK(pnp_ovss_names_create(model, NAMES, NULL, 6, NULL, &names, &error));
    memset(output, 0, sizeof output);
    memset(items, 0, sizeof items);
    for (int i = 0; i < 3; i++) {
        output[i].struct_size = sizeof output[i];
        output[i].labels = &labels[i][0][0];
        items[i] = (pnp_ovss_item){sizeof items[i], 0, names, &image, &output[i], NULL};
    }
    for (int32_t mode = 1; mode <= 3; mode++) {
        memset(&settings, 0, sizeof settings);
        settings.struct_size = sizeof settings;
        settings.drop_mode = mode;
        settings.crf = mode == 1 ? PNP_OVSS_CRF_DENSECRF : PNP_OVSS_CRF_NONE;
        CHECK(pnp_ovss_segment(model, names, &image, &settings, NULL, &output[0], &error));
    }
    CHECK(pnp_ovss_segment_batch(model, items, 3, &settings, NULL, &error));
    CHECK(pnp_ovss_cancel_create(&cancel, &error));
    if (pthread_create(&stopper, NULL, stop, cancel) != 0) exit(1);
    int32_t code = PNP_OVSS_OK;
    while (code == PNP_OVSS_OK) code = pnp_ovss_segment(model, names, &image, &settings, cancel, &output[0], &error);
    pthread_join(stopper, NULL);
    if (code != PNP_OVSS_CANCELLED) CHECK(code);
    pnp_ovss_cancel_free(cancel);
    items[1].names = NULL; /* a batch in which one fails */
    if (pnp_ovss_segment_batch(model, items, 3, &settings, NULL, &error) != PNP_OVSS_BAD_INPUT) exit(1);
    pnp_ovss_names_free(names);
    pnp_ovss_model_close(model);
}

int main(int argc, char **argv) {
    pnp_ovss_runtime *runtime = NULL;
    if (argc != 3) return 2;
    const pnp_ovss_runtime_options options = {sizeof options, 0, argv[1], NULL, NULL};
    CHECK(pnp_ovss_runtime_open(&options, &runtime, &error));
    fprintf(stderr, "ONNX Runtime %s\n", pnp_ovss_runtime_version(runtime));
    use(runtime, argv[2]);
    pnp_ovss_runtime_close(runtime);
    printf("done\n");
    return 0;
}
