/* A fake ONNX Runtime: the functions of engine/capi/src/ort_abi.h, with cheap arithmetic for graphs. It checks what a
   runtime would check, counts its objects, and fails where a test wants it to.

   A graph is told by the name of its file: vision.onnx, vision_tokens.onnx, salience.onnx. Its sizes are those of the
   demo model, unless the file says: stub HEIGHT WIDTH PATCH DEPTH. */
#define _POSIX_C_SOURCE 200809L
#include "stub_onnxruntime.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ort_abi.h"
#include "stub_objects.h"

#define EXPORT __attribute__((visibility("default")))
#define F(result, name, arguments) EXPORT result name arguments;
STUB_FUNCTIONS(F)
#undef F
#define F(place, result, name, arguments) static result name arguments;
PNP_ORT_FUNCTIONS(F)
#undef F

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    long calls, fail_at;
    int code, on;
    char message[256];
    void (*hook)(void);
} faults;
static char version[64] = "1.32.0";
static atomic_long live[STUB_KINDS];
static atomic_int no_api, cuda, waits, sleeps, spoils, waiting, waits_in, runs, threads_set = -1;

long stub_live(int kind) { return atomic_load(&live[kind]); }
void stub_version(const char *text) { snprintf(version, sizeof version, "%s", text); }
void stub_no_api(int none) { atomic_store(&no_api, none); }
void stub_cuda(int there) { atomic_store(&cuda, there); }
void stub_sleep(int milliseconds) { atomic_store(&sleeps, milliseconds); }
void stub_spoil(int how) { atomic_store(&spoils, how); }
int stub_waiting(void) { return atomic_load(&waiting); }
int stub_threads(void) { return atomic_load(&threads_set); }

void stub_wait(int wait, int run) {
    atomic_store(&waits, wait);
    atomic_store(&waits_in, run);
    atomic_store(&runs, 0);
}

void stub_fail_at(long call, int code, const char *message, int on) {
    pthread_mutex_lock(&lock);
    faults.calls = 0;
    faults.fail_at = call;
    faults.code = code;
    faults.on = on;
    snprintf(faults.message, sizeof faults.message, "%s", message == NULL ? "" : message);
    pthread_mutex_unlock(&lock);
}

void stub_on_failure(void (*hook)(void)) {
    pthread_mutex_lock(&lock);
    faults.hook = hook;
    pthread_mutex_unlock(&lock);
}

long stub_calls(void) {
    pthread_mutex_lock(&lock);
    const long calls = faults.calls;
    pthread_mutex_unlock(&lock);
    return calls;
}

__attribute__((constructor)) static void read_environment(void) {
    const char *at = getenv("STUB_FAIL_AT"), *code = getenv("STUB_FAIL_CODE"), *on = getenv("STUB_FAIL_ON");
    if (at != NULL)
        stub_fail_at(atol(at), code == NULL ? PNP_ORT_FAIL : atoi(code), getenv("STUB_FAIL_MESSAGE"),
                     on != NULL && *on != 0);
    if (getenv("STUB_VERSION") != NULL) stub_version(getenv("STUB_VERSION"));
    if (getenv("STUB_NO_API") != NULL) stub_no_api(1);
    if (getenv("STUB_CUDA") != NULL) stub_cuda(1);
    if (getenv("STUB_WAIT") != NULL) stub_wait(atoi(getenv("STUB_WAIT")), 0);
    if (getenv("STUB_SLEEP") != NULL) stub_sleep(atoi(getenv("STUB_SLEEP")));
}

/* ---- Objects ---- */

/* What a runtime leaves undefined ends the test. */
void stub_wrong(const char *what) {
    fprintf(stderr, "stub_onnxruntime: %s\n", what);
    abort();
}

static void *create(int kind, size_t size) {
    struct head *made = calloc(1, size);
    if (made == NULL) stub_wrong("out of memory");
    made->kind = kind;
    made->alive = ALIVE;
    atomic_fetch_add(&live[kind], 1);
    return made;
}

const void *stub_checked(const void *object, int kind) {
    const struct head *head = object;
    if (head == NULL) stub_wrong("an object is null");
    if (head->alive != ALIVE) stub_wrong("an object was released");
    if (head->kind != kind) stub_wrong("an object is of another kind");
    return object;
}

static void release(void *object, int kind) {
    if (object == NULL) return; /* as the runtime does */
    struct head *head = object;
    stub_checked(head, kind);
    head->alive = 0;
    atomic_fetch_sub(&live[kind], 1);
    free(head);
}

pnp_ort_status *stub_status(int code, const char *message) {
    pnp_ort_status *made = create(STUB_STATUS, sizeof *made);
    made->code = code;
    snprintf(made->message, sizeof made->message, "%s", message);
    return made;
}

/* Counts a call, and returns the status that it fails with, or null. */
static pnp_ort_status *fault(void) {
    pnp_ort_status *found = NULL;
    pthread_mutex_lock(&lock);
    const long call = ++faults.calls;
    if (faults.fail_at > 0 && (faults.on ? call >= faults.fail_at : call == faults.fail_at))
        found = stub_status(faults.code, faults.message);
    if (found != NULL && faults.hook != NULL) faults.hook();
    pthread_mutex_unlock(&lock);
    return found;
}

#define MAY_FAIL                                                                                                       \
    do {                                                                                                               \
        pnp_ort_status *failed = fault();                                                                              \
        if (failed != NULL) return failed;                                                                             \
    } while (0)

static int get_error_code(const pnp_ort_status *status) {
    return ((const pnp_ort_status *)stub_checked(status, STUB_STATUS))->code;
}

static const char *get_error_message(const pnp_ort_status *status) {
    return ((const pnp_ort_status *)stub_checked(status, STUB_STATUS))->message;
}

static void release_status(pnp_ort_status *status) { release(status, STUB_STATUS); }
static void release_memory_info(pnp_ort_memory_info *info) { release(info, STUB_MEMORY_INFO); }
static void release_session(pnp_ort_session *session) { release(session, STUB_SESSION); }
static void release_value(pnp_ort_value *value) { release(value, STUB_VALUE); }
static void release_run_options(pnp_ort_run_options *options) { release(options, STUB_RUN_OPTIONS); }
static void release_session_options(pnp_ort_session_options *options) { release(options, STUB_SESSION_OPTIONS); }
static void release_cuda_options(pnp_ort_cuda_options *options) { release(options, STUB_CUDA_OPTIONS); }

/* ---- Environment and options ---- */

static pnp_ort_env *environment;

static void tell(int severity, const char *message) {
    pthread_mutex_lock(&lock);
    const pnp_ort_env *env = environment;
    pthread_mutex_unlock(&lock);
    if (env != NULL && env->log != NULL && severity >= env->severity)
        env->log(env->user, severity, "stub", "pnp", "stub_onnxruntime.c", message);
}

static pnp_ort_status *create_env_with_custom_logger(pnp_ort_log log, void *user, int severity, const char *id,
                                                     pnp_ort_env **out) {
    MAY_FAIL;
    if (log == NULL || id == NULL || out == NULL) stub_wrong("create_env_with_custom_logger: an argument is null");
    if (severity < 0 || severity > 4) stub_wrong("create_env_with_custom_logger: no such severity");
    pnp_ort_env *made = create(STUB_ENV, sizeof *made);
    made->log = log;
    made->user = user;
    made->severity = severity;
    pthread_mutex_lock(&lock);
    environment = made;
    pthread_mutex_unlock(&lock);
    *out = made;
    return NULL;
}

static pnp_ort_status *disable_telemetry_events(const pnp_ort_env *env) {
    stub_checked(env, STUB_ENV);
    MAY_FAIL;
    return NULL;
}

static pnp_ort_status *create_session_options(pnp_ort_session_options **out) {
    MAY_FAIL;
    *out = create(STUB_SESSION_OPTIONS, sizeof **out);
    return NULL;
}

static pnp_ort_status *set_session_log_severity_level(pnp_ort_session_options *options, int severity) {
    stub_checked(options, STUB_SESSION_OPTIONS);
    MAY_FAIL;
    if (severity < 0 || severity > 4) return stub_status(PNP_ORT_INVALID_ARGUMENT, "no such severity");
    return NULL;
}

static pnp_ort_status *set_intra_op_num_threads(pnp_ort_session_options *options, int threads) {
    stub_checked(options, STUB_SESSION_OPTIONS);
    MAY_FAIL;
    if (threads < 0) return stub_status(PNP_ORT_INVALID_ARGUMENT, "threads are negative");
    atomic_store(&threads_set, threads);
    return NULL;
}

static pnp_ort_status *add_session_config_entry(pnp_ort_session_options *options, const char *key,
                                                const char *value) {
    stub_checked(options, STUB_SESSION_OPTIONS);
    if (value == NULL) stub_wrong("add_session_config_entry: a value is null");
    MAY_FAIL;
    if (key == NULL || *key == 0) return stub_status(PNP_ORT_INVALID_ARGUMENT, "a key is empty");
    return NULL;
}

static pnp_ort_status *create_cuda_options(pnp_ort_cuda_options **out) {
    MAY_FAIL;
    if (!atomic_load(&cuda)) return stub_status(PNP_ORT_FAIL, "CUDA execution provider is not enabled in this build.");
    *out = create(STUB_CUDA_OPTIONS, sizeof **out);
    return NULL;
}

static pnp_ort_status *update_cuda_options(pnp_ort_cuda_options *options, const char *const *keys,
                                           const char *const *values, size_t count) {
    stub_checked(options, STUB_CUDA_OPTIONS);
    MAY_FAIL;
    for (size_t i = 0; i < count; i++)
        if (keys[i] == NULL || *keys[i] == 0 || values[i] == NULL || *values[i] == 0)
            return stub_status(PNP_ORT_INVALID_ARGUMENT, "an option of CUDA is empty");
    return NULL;
}

static pnp_ort_status *append_cuda(pnp_ort_session_options *options, const pnp_ort_cuda_options *cuda_options) {
    stub_checked(options, STUB_SESSION_OPTIONS);
    stub_checked(cuda_options, STUB_CUDA_OPTIONS);
    MAY_FAIL;
    return NULL;
}

static pnp_ort_status *create_run_options(pnp_ort_run_options **out) {
    MAY_FAIL;
    *out = create(STUB_RUN_OPTIONS, sizeof **out);
    return NULL;
}

static pnp_ort_status *run_options_set_terminate(pnp_ort_run_options *options) {
    stub_checked(options, STUB_RUN_OPTIONS);
    atomic_store(&options->terminate, 1); /* also where the call is to fail: a run that waits would never end */
    MAY_FAIL;
    return NULL;
}

static pnp_ort_status *create_cpu_memory_info(int allocator, int memory, pnp_ort_memory_info **out) {
    MAY_FAIL;
    if (allocator != PNP_ORT_DEVICE_ALLOCATOR && allocator != 1) stub_wrong("no such allocator");
    if (memory != PNP_ORT_DEFAULT_MEMORY) stub_wrong("no such memory");
    *out = create(STUB_MEMORY_INFO, sizeof **out);
    return NULL;
}

static pnp_ort_status *create_tensor_with_data(const pnp_ort_memory_info *info, void *data, size_t bytes,
                                               const int64_t *shape, size_t rank, int type, pnp_ort_value **out) {
    stub_checked(info, STUB_MEMORY_INFO);
    if (data == NULL || (shape == NULL && rank > 0) || out == NULL) stub_wrong("create_tensor: an argument is null");
    MAY_FAIL;
    if (type != PNP_ORT_FLOAT && type != PNP_ORT_INT64) return stub_status(9, "no such type of elements");
    if (rank > MAX_RANK) return stub_status(PNP_ORT_INVALID_ARGUMENT, "too many dimensions");
    size_t needed = type == PNP_ORT_FLOAT ? 4 : 8;
    for (size_t i = 0; i < rank; i++) {
        if (shape[i] < 0) return stub_status(PNP_ORT_INVALID_ARGUMENT, "negative value in shape");
        if (__builtin_mul_overflow(needed, (size_t)shape[i], &needed))
            return stub_status(PNP_ORT_INVALID_ARGUMENT, "size overflow");
    }
    if (bytes < needed) return stub_status(PNP_ORT_INVALID_ARGUMENT, "not enough space for the tensor");
    pnp_ort_value *made = create(STUB_VALUE, sizeof *made);
    made->data = data;
    made->type = type;
    made->rank = rank;
    if (rank > 0) memcpy(made->shape, shape, rank * sizeof *shape);
    *out = made;
    return NULL;
}

/* ---- Sessions ---- */

static pnp_ort_status *create_session(const pnp_ort_env *env, const char *path,
                                      const pnp_ort_session_options *options, pnp_ort_session **out) {
    stub_checked(env, STUB_ENV);
    stub_checked(options, STUB_SESSION_OPTIONS);
    if (path == NULL || out == NULL) stub_wrong("create_session: an argument is null");
    tell(1, "a session is made");
    tell(2, "the fake runtime warns of nothing");
    MAY_FAIL;
    pnp_ort_session made;
    memset(&made, 0, sizeof made);
    pnp_ort_status *failed = stub_read_graph(path, &made);
    if (failed != NULL) return failed;
    *out = create(STUB_SESSION, sizeof **out);
    made.head = (*out)->head;
    **out = made;
    return NULL;
}

static void nap(long milliseconds) {
    const struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static int told_to_stop(const pnp_ort_run_options *options) {
    return options != NULL && atomic_load(&((pnp_ort_run_options *)(uintptr_t)options)->terminate);
}

static pnp_ort_status *run(pnp_ort_session *session, const pnp_ort_run_options *options,
                           const char *const *input_names, const pnp_ort_value *const *inputs, size_t input_count,
                           const char *const *output_names, size_t output_count, pnp_ort_value **outputs) {
    stub_checked(session, STUB_SESSION);
    if (options != NULL) stub_checked(options, STUB_RUN_OPTIONS);
    MAY_FAIL;
    const int number = atomic_fetch_add(&runs, 1) + 1, only = atomic_load(&waits_in);
    const int wait = only == 0 || only == number ? atomic_load(&waits) : 0;
    if (atomic_load(&sleeps) > 0) nap(atomic_load(&sleeps));
    if (wait) atomic_fetch_add(&waiting, 1);
    for (int waited = 0; wait && !told_to_stop(options); waited++) {
        if (waited > 20000) stub_wrong("run: nobody stops it");
        nap(1);
    }
    if (wait) atomic_fetch_sub(&waiting, 1);
    if (told_to_stop(options) && wait != 2)
        return stub_status(PNP_ORT_FAIL, "Exiting due to terminate flag being set to true.");
    return stub_compute(session, input_names, inputs, input_count, output_names, output_count, outputs,
                        atomic_load(&spoils));
}

/* ---- The table ---- */

static void unused(void) { stub_wrong("a function was called that ort_abi.h does not list"); }

static const void *table[PNP_ORT_LARGEST_PLACE + 1];

__attribute__((constructor)) static void fill_table(void) {
    for (int i = 0; i <= PNP_ORT_LARGEST_PLACE; i++) table[i] = (const void *)(uintptr_t)unused;
#define F(place, result, name, arguments) table[place] = (const void *)(uintptr_t)name;
    PNP_ORT_FUNCTIONS(F)
#undef F
}

static const void *const *get_api(uint32_t wanted) {
    return atomic_load(&no_api) || wanted > 32 ? NULL : table;
}

static const char *get_version(void) { return version; }

EXPORT const pnp_ort_api_base *OrtGetApiBase(void) {
    static const pnp_ort_api_base base = {get_api, get_version};
    return &base;
}
