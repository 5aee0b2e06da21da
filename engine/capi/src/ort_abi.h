/* The functions of ONNX Runtime's C interface that this library calls, by their places in its table of functions.
   The table only ever grows at its end, so a place and the form of a function are facts of every version since the one
   that added it. Place 0 is the first function of `OrtApi`. */
#ifndef PNP_ORT_ABI_H
#define PNP_ORT_ABI_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Objects of the runtime, which only it looks into. */
typedef struct pnp_ort_env pnp_ort_env;
typedef struct pnp_ort_session pnp_ort_session;
typedef struct pnp_ort_session_options pnp_ort_session_options;
typedef struct pnp_ort_run_options pnp_ort_run_options;
typedef struct pnp_ort_memory_info pnp_ort_memory_info;
typedef struct pnp_ort_value pnp_ort_value;
typedef struct pnp_ort_status pnp_ort_status; /* null: done */
typedef struct pnp_ort_cuda_options pnp_ort_cuda_options;

typedef struct {
    const void *const *(*get_api)(uint32_t version); /* null where the runtime is older */
    const char *(*get_version)(void);
} pnp_ort_api_base;

#define PNP_ORT_ENTRY "OrtGetApiBase" /* const pnp_ort_api_base *OrtGetApiBase(void), the one exported symbol */
#define PNP_ORT_API 18                /* version of the table that is asked for: the lowest that has what is needed */

typedef void (*pnp_ort_log)(void *user, int severity, const char *category, const char *id, const char *place,
                            const char *message);

enum { PNP_ORT_FLOAT = 1, PNP_ORT_INT64 = 7 };                        /* types of elements */
enum { PNP_ORT_FAIL = 1, PNP_ORT_INVALID_ARGUMENT = 2 };              /* codes of a status */
enum { PNP_ORT_DEVICE_ALLOCATOR = 0, PNP_ORT_DEFAULT_MEMORY = 0 };    /* kinds of memory */

/* PNP_ORT_FUNCTIONS(F) lists F(place, result, name, arguments). */
#define PNP_ORT_FUNCTIONS(F)                                                                                           \
    F(1, int, get_error_code, (const pnp_ort_status *))                                                                \
    F(2, const char *, get_error_message, (const pnp_ort_status *))                                                    \
    F(4, pnp_ort_status *, create_env_with_custom_logger,                                                              \
      (pnp_ort_log, void *user, int severity, const char *id, pnp_ort_env **))                                         \
    F(6, pnp_ort_status *, disable_telemetry_events, (const pnp_ort_env *))                                            \
    F(7, pnp_ort_status *, create_session,                                                                             \
      (const pnp_ort_env *, const char *path, const pnp_ort_session_options *, pnp_ort_session **))                    \
    F(9, pnp_ort_status *, run,                                                                                        \
      (pnp_ort_session *, const pnp_ort_run_options *, const char *const *input_names,                                 \
       const pnp_ort_value *const *inputs, size_t input_count, const char *const *output_names, size_t output_count,   \
       pnp_ort_value **outputs))                                                                                       \
    F(10, pnp_ort_status *, create_session_options, (pnp_ort_session_options **))                                      \
    F(22, pnp_ort_status *, set_session_log_severity_level, (pnp_ort_session_options *, int severity))                 \
    F(24, pnp_ort_status *, set_intra_op_num_threads, (pnp_ort_session_options *, int threads))                        \
    F(39, pnp_ort_status *, create_run_options, (pnp_ort_run_options **))                                              \
    F(46, pnp_ort_status *, run_options_set_terminate, (pnp_ort_run_options *))                                        \
    F(49, pnp_ort_status *, create_tensor_with_data,                                                                   \
      (const pnp_ort_memory_info *, void *data, size_t bytes, const int64_t *shape, size_t rank, int type,             \
       pnp_ort_value **))                                                                                              \
    F(69, pnp_ort_status *, create_cpu_memory_info, (int allocator, int memory, pnp_ort_memory_info **))               \
    F(93, void, release_status, (pnp_ort_status *))                                                                    \
    F(94, void, release_memory_info, (pnp_ort_memory_info *))                                                          \
    F(95, void, release_session, (pnp_ort_session *))                                                                  \
    F(96, void, release_value, (pnp_ort_value *))                                                                      \
    F(97, void, release_run_options, (pnp_ort_run_options *))                                                          \
    F(100, void, release_session_options, (pnp_ort_session_options *))                                                 \
    F(130, pnp_ort_status *, add_session_config_entry,                                                                 \
      (pnp_ort_session_options *, const char *key, const char *value))                                                 \
    F(204, pnp_ort_status *, append_cuda, (pnp_ort_session_options *, const pnp_ort_cuda_options *))                   \
    F(205, pnp_ort_status *, create_cuda_options, (pnp_ort_cuda_options **))                                           \
    F(206, pnp_ort_status *, update_cuda_options,                                                                      \
      (pnp_ort_cuda_options *, const char *const *keys, const char *const *values, size_t count))                      \
    F(208, void, release_cuda_options, (pnp_ort_cuda_options *))

#define PNP_ORT_LARGEST_PLACE 208

#ifdef __cplusplus
}
#endif
#endif
