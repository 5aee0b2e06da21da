/* threads RUNTIME FOLDER ROUNDS [THREADS]: many threads open, segment, cancel and close at once. With the fake runtime
   a sanitizer for threads sees all of it. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "world.h"

static struct world w;
static long rounds;
static struct outputs alone; /* what one thread finds */
static long told;            /* not atomic: the log is told by one thread at a time */
static atomic_int cancelled;

static void hear(void *user, int32_t severity, const char *message) {
    REQUIRE(user == &w && severity >= 2 && message[0] != 0);
    told++;
}

static pnp_ovss_runtime_options options_with_log(void) {
    const pnp_ovss_runtime_options options = {sizeof options, 0, w.runtime_path, hear, &w};
    return options;
}

static int32_t segment(struct outputs *outputs, pnp_ovss_cancel *cancel, const pnp_ovss_model *model) {
    pnp_ovss_error error = no_error();
    pnp_ovss_settings settings = no_settings();
    settings.passes = PASSES;
    settings.drop_mode = PNP_OVSS_DROP_TOKENS;
    const pnp_ovss_output output = output_of(outputs);
    const int32_t code = pnp_ovss_segment(model, w.many, &w.image, &settings, cancel, &output, &error);
    check_error(code, &error);
    return code;
}

static void compare(struct outputs *outputs) {
    outputs->timings = alone.timings;
    REQUIRE(memcmp(outputs, &alone, sizeof alone) == 0);
}

static void open_and_close(void) {
    const pnp_ovss_runtime_options options = options_with_log();
    pnp_ovss_runtime *runtime = NULL;
    pnp_ovss_model *model = NULL;
    struct outputs outputs;
    pnp_ovss_error error = no_error();
    REQUIRE(pnp_ovss_runtime_open(&options, &runtime, &error) == PNP_OVSS_OK);
    REQUIRE(pnp_ovss_model_open(runtime, w.folder, NULL, &model, &error) == PNP_OVSS_OK);
    pnp_ovss_runtime_close(runtime); /* the model goes on with it */
    REQUIRE(segment(&outputs, NULL, model) == PNP_OVSS_OK);
    compare(&outputs);
    pnp_ovss_model_close(model);
}

static void batch(void) {
    enum { ITEMS = 5 };
    struct outputs *const outputs = malloc(ITEMS * sizeof *outputs);
    REQUIRE(outputs != NULL);
    pnp_ovss_output output[ITEMS];
    pnp_ovss_item items[ITEMS];
    pnp_ovss_settings settings = no_settings();
    pnp_ovss_error error = no_error();
    settings.passes = PASSES;
    settings.drop_mode = PNP_OVSS_DROP_TOKENS;
    memset(items, 0, sizeof items);
    for (int i = 0; i < ITEMS; i++) {
        output[i] = output_of(&outputs[i]);
        items[i].struct_size = sizeof items[i];
        items[i].names = w.many;
        items[i].image = &w.image;
        items[i].output = &output[i];
    }
    REQUIRE(pnp_ovss_segment_batch(w.model, items, ITEMS, &settings, NULL, &error) == PNP_OVSS_OK);
    for (int i = 0; i < ITEMS; i++) compare(&outputs[i]);
    free(outputs);
}

static void *stop(void *cancel) {
    const struct timespec pause = {0, 300000};
    nanosleep(&pause, NULL);
    pnp_ovss_cancel_now(cancel);
    return NULL;
}

static void segment_and_cancel(void) {
    pnp_ovss_cancel *cancel = NULL;
    struct outputs outputs;
    pthread_t stopper;
    REQUIRE(pnp_ovss_cancel_create(&cancel, NULL) == PNP_OVSS_OK);
    REQUIRE(pthread_create(&stopper, NULL, stop, cancel) == 0);
    int32_t code = PNP_OVSS_OK;
    for (int tries = 0; tries < 100000 && code == PNP_OVSS_OK; tries++) {
        code = segment(&outputs, cancel, w.model);
        if (code == PNP_OVSS_OK) compare(&outputs);
        else REQUIRE(is_untouched(&outputs, offsetof(struct outputs, timings)));
    }
    REQUIRE(code == PNP_OVSS_CANCELLED);
    pthread_join(stopper, NULL);
    REQUIRE(segment(&outputs, cancel, w.model) == PNP_OVSS_CANCELLED);
    pnp_ovss_cancel_free(cancel);
    atomic_fetch_add(&cancelled, 1);
}

static void *work(void *number) {
    const long which = (long)(intptr_t)number;
    for (long round = 0; round < rounds; round++) {
        struct outputs outputs;
        switch ((which + round) % 4) {
            case 0: open_and_close(); break;
            case 1: batch(); break;
            case 2: segment_and_cancel(); break;
            default:
                REQUIRE(segment(&outputs, NULL, w.model) == PNP_OVSS_OK);
                compare(&outputs);
        }
    }
    return NULL;
}

int main(int argc, char **argv) {
    REQUIRE(argc == 4 || argc == 5);
    rounds = atol(argv[3]);
    const int count = argc == 5 ? atoi(argv[4]) : 16;
    find_stub(argv[1]);
    open_world(&w, argv[1], argv[2]);
    doing = "threads";
    const pnp_ovss_runtime_options options = options_with_log();
    pnp_ovss_runtime *again = NULL;
    REQUIRE(pnp_ovss_runtime_open(&options, &again, NULL) == PNP_OVSS_OK);
    REQUIRE(segment(&alone, NULL, w.model) == PNP_OVSS_OK);
    pthread_t *const threads = calloc((size_t)count, sizeof *threads);
    for (int i = 0; i < count; i++) REQUIRE(pthread_create(&threads[i], NULL, work, (void *)(intptr_t)i) == 0);
    for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
    free(threads);
    pnp_ovss_runtime_close(again);
    close_world(&w);
    const long before = told;

    /* After the last close nothing is told. */
    pnp_ovss_runtime_options silent = {sizeof silent, 0, w.runtime_path, NULL, NULL};
    pnp_ovss_model *model = NULL;
    REQUIRE(pnp_ovss_runtime_open(&silent, &again, NULL) == PNP_OVSS_OK);
    REQUIRE(pnp_ovss_model_open(again, w.folder, NULL, &model, NULL) == PNP_OVSS_OK);
    pnp_ovss_model_close(model);
    pnp_ovss_runtime_close(again);
    REQUIRE(told == before);
    if (stub_live != NULL) {
        REQUIRE(told > 0);
        for (int kind = STUB_ENV + 1; kind < STUB_KINDS; kind++) REQUIRE(stub_live(kind) == 0);
    }
    printf("%d calls were cancelled, %ld messages\n", atomic_load(&cancelled), told);
    return 0;
}
