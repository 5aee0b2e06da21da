/* runtimes RUNTIME FOLDER LIBM: libraries that are no ONNX Runtime, or too old, are refused; then a good one opens.
   And a run is cancelled while it is under way. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "world.h"

static int32_t open_runtime(const char *path) {
    pnp_ovss_error error = no_error();
    pnp_ovss_runtime *const unset = (pnp_ovss_runtime *)&doing, *runtime = unset;
    const pnp_ovss_runtime_options options = {sizeof options, 0, path, NULL, NULL};
    doing = path == NULL ? "no path" : path;
    const int32_t code = pnp_ovss_runtime_open(&options, &runtime, &error);
    check_error(code, &error);
    REQUIRE((code == PNP_OVSS_OK) == (runtime != unset));
    if (code == PNP_OVSS_OK) pnp_ovss_runtime_close(runtime);
    else REQUIRE(error.cure[0] != 0);
    return code;
}

static struct world w;
static int waiting_at; /* runs that must wait before the cancel comes */
static atomic_int done; /* the call ended, and no run waited */
static int stop_fails; /* whether the runtime tells an error where it is to stop a run */

static void *stop(void *cancel) {
    const struct timespec pause = {0, 1000000};
    while (stub_waiting() < waiting_at && !atomic_load(&done)) nanosleep(&pause, NULL);
    if (atomic_load(&done)) return NULL;
    if (stop_fails) stub_fail_at(1, 1, "no stop", 0);
    pnp_ovss_cancel_now(cancel);
    return NULL;
}

/* A call is stopped while the run of this number is under way. Returns whether it has so many. */
static int cancel_a_run(int how, int fails, int run) {
    pnp_ovss_error error = no_error();
    pnp_ovss_cancel *cancel = NULL;
    struct outputs outputs;
    pthread_t stopper;
    const pnp_ovss_output output = output_of(&outputs);
    waiting_at = 1;
    stop_fails = fails;
    REQUIRE(pnp_ovss_cancel_create(&cancel, &error) == PNP_OVSS_OK);
    stub_wait(how, run);
    atomic_store(&done, 0);
    REQUIRE(pthread_create(&stopper, NULL, stop, cancel) == 0);
    const int32_t code = pnp_ovss_segment(w.model, w.many, &w.image, NULL, cancel, &output, &error);
    atomic_store(&done, 1);
    pthread_join(stopper, NULL);
    stub_fail_at(0, 0, NULL, 0);
    stub_wait(0, 0);
    check_error(code, &error);
    if (code == PNP_OVSS_OK) {
        pnp_ovss_cancel_free(cancel);
        return 0;
    }
    if (code != PNP_OVSS_CANCELLED) fprintf(stderr, "%d: %s\n", code, error.cause);
    REQUIRE(code == PNP_OVSS_CANCELLED);
    REQUIRE(is_untouched(&outputs, offsetof(struct outputs, timings)));
    pnp_ovss_cancel_free(cancel);
    return 1;
}

static void cancel_a_batch(void) {
    pnp_ovss_error error = no_error();
    pnp_ovss_cancel *cancel = NULL;
    struct outputs outputs[3];
    pnp_ovss_output output[3];
    pnp_ovss_item items[3];
    pthread_t stopper;
    memset(items, 0, sizeof items);
    for (int i = 0; i < 3; i++) {
        output[i] = output_of(&outputs[i]);
        items[i] = (pnp_ovss_item){sizeof items[i], -77, w.many, &w.image, &output[i], NULL};
    }
    waiting_at = 2;
    stop_fails = 0;
    REQUIRE(pnp_ovss_cancel_create(&cancel, &error) == PNP_OVSS_OK);
    stub_wait(1, 0);
    atomic_store(&done, 0);
    REQUIRE(pthread_create(&stopper, NULL, stop, cancel) == 0);
    REQUIRE(pnp_ovss_segment_batch(w.model, items, 3, NULL, cancel, &error) == PNP_OVSS_CANCELLED);
    pthread_join(stopper, NULL);
    stub_wait(0, 0);
    for (int i = 0; i < 3; i++) REQUIRE(items[i].code == PNP_OVSS_CANCELLED);
    for (int i = 0; i < 3; i++) REQUIRE(is_untouched(&outputs[i], offsetof(struct outputs, timings)));
    pnp_ovss_cancel_free(cancel);
}

/* Outputs of a graph that are no numbers. */
static void spoiled_outputs(void) {
    for (int how = 1; how <= 3; how++) {
        pnp_ovss_error error = no_error();
        struct outputs outputs;
        const pnp_ovss_output output = output_of(&outputs);
        stub_spoil(how);
        const int32_t code = pnp_ovss_segment(w.model, w.many, &w.image, NULL, NULL, &output, &error);
        stub_spoil(0);
        check_error(code, &error);
        doing = error.cause;
        if (how == 2) continue; /* a negative salience is strange, and a number */
        REQUIRE(code == PNP_OVSS_FAILED && is_untouched(&outputs, offsetof(struct outputs, timings)));
    }
}

int main(int argc, char **argv) {
    REQUIRE(argc == 4);
    char text[] = "/tmp/pnp-ovss-text-XXXXXX";
    const int file = mkstemp(text);
    REQUIRE(file >= 0 && write(file, "no library\n", 11) == 11 && close(file) == 0);
    const char *const bad[] = {"/no/such/libonnxruntime.so", "no_such.so", argv[3], text, "/", "/dev/null", "\xFF"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        REQUIRE(open_runtime(bad[i]) == PNP_OVSS_NO_RUNTIME);
        setenv("PNP_OVSS_ORT", bad[i], 1);
        REQUIRE(open_runtime(NULL) == PNP_OVSS_NO_RUNTIME);
    }
    unlink(text);
    char *const deep = calloc(1, 100001);
    REQUIRE(deep != NULL);
    memset(deep, 'x', 100000);
    REQUIRE(open_runtime(deep) == PNP_OVSS_NO_RUNTIME);
    free(deep);
    find_stub(argv[1]);
    const char *const old[] = {"1.19.2", "0.5.0", "1.2", "1.", "1", "", "garbage", "-1.20", "x1.20", "1.x"};
    for (size_t i = 0; i < sizeof old / sizeof *old; i++) {
        stub_version(old[i]);
        REQUIRE(open_runtime(argv[1]) == PNP_OVSS_NO_RUNTIME);
    }
    stub_version("1.20.0");
    stub_no_api(1);
    REQUIRE(open_runtime(argv[1]) == PNP_OVSS_NO_RUNTIME);
    stub_no_api(0);
    REQUIRE(stub_live(STUB_ENV) == 0); /* nothing was started for those */
    setenv("PNP_OVSS_ORT", argv[1], 1);
    REQUIRE(open_runtime(NULL) == PNP_OVSS_OK);
    setenv("PNP_OVSS_ORT", "/nonsense", 1);
    REQUIRE(open_runtime(NULL) == PNP_OVSS_NO_RUNTIME);
    REQUIRE(open_runtime(argv[1]) == PNP_OVSS_OK);
    const char *const good[] = {"1.20.0", "1.99.0", "2.0.0", "1.20.0-dev+abc"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        stub_version(good[i]);
        REQUIRE(open_runtime(argv[1]) == PNP_OVSS_OK);
    }
    REQUIRE(stub_live(STUB_ENV) == 1);

    open_world(&w, argv[1], argv[2]);
    doing = "cancel";
    for (int how = 1; how <= 2; how++) /* 2: the run succeeds, and was not wanted any more */
        for (int fails = 0; fails < 2; fails++) {
            int run = 1;
            while (cancel_a_run(how, fails, run)) run++;
            REQUIRE(run > 4);
        }
    cancel_a_batch();
    spoiled_outputs();
    close_world(&w);
    for (int kind = STUB_ENV + 1; kind < STUB_KINDS; kind++) REQUIRE(stub_live(kind) == 0);
    return 0;
}
