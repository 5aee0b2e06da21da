/* What stub_onnxruntime.c and stub_graphs.c share: the objects of the fake runtime. */
#ifndef STUB_OBJECTS_H
#define STUB_OBJECTS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "ort_abi.h"
#include "stub_onnxruntime.h"

#define ALIVE 0x0A11CE00u
#define MAX_RANK 8

struct head {
    unsigned alive;
    int kind;
};

struct pnp_ort_env {
    struct head head;
    pnp_ort_log log;
    void *user;
    int severity;
};
struct pnp_ort_session_options {
    struct head head;
};
struct pnp_ort_cuda_options {
    struct head head;
};
struct pnp_ort_memory_info {
    struct head head;
};
struct pnp_ort_run_options {
    struct head head;
    atomic_int terminate;
};
struct pnp_ort_value {
    struct head head;
    void *data;
    int type;
    size_t rank;
    int64_t shape[MAX_RANK];
};
struct pnp_ort_status {
    struct head head;
    int code;
    char message[256];
};
enum { GRAPH_VISION, GRAPH_VISION_TOKENS, GRAPH_SALIENCE };
struct pnp_ort_session {
    struct head head;
    int graph;
    int64_t height, width, patch, depth, patches;
};

void stub_wrong(const char *what) __attribute__((noreturn));
const void *stub_checked(const void *object, int kind); /* the object, which must be a live one of this kind */
pnp_ort_status *stub_status(int code, const char *message);

pnp_ort_status *stub_read_graph(const char *path, pnp_ort_session *session);
pnp_ort_status *stub_compute(const pnp_ort_session *session, const char *const *input_names,
                             const pnp_ort_value *const *inputs, size_t input_count, const char *const *output_names,
                             size_t output_count, pnp_ort_value **outputs, int spoil);

#endif
