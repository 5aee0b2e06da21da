/* The graphs of the fake runtime: their files, what they take, and what they compute. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "stub_objects.h"

#define OUT_OF_BOUNDS "indices element out of data bounds"
enum { NO_SUCHFILE = 3, INVALID_PROTOBUF = 7 }; /* codes of a status */

pnp_ort_status *stub_read_graph(const char *path, pnp_ort_session *session) {
    const char *slash = strrchr(path, '/'), *name = slash == NULL ? path : slash + 1;
    static const char *const graphs[] = {"vision.onnx", "vision_tokens.onnx", "salience.onnx"};
    char begin[200] = "";
    FILE *file = fopen(path, "rb");
    if (file == NULL) return stub_status(NO_SUCHFILE, "Load model failed: the file does not exist");
    const size_t got = fread(begin, 1, sizeof begin - 1, file);
    fclose(file);
    if (got == 0) return stub_status(INVALID_PROTOBUF, "Load model failed: Protobuf parsing failed.");
    session->graph = -1;
    for (int i = 0; i < 3; i++)
        if (strcmp(name, graphs[i]) == 0) session->graph = i;
    if (session->graph < 0) return stub_status(INVALID_PROTOBUF, "Load model failed: no such graph");
    session->height = session->width = 256;
    session->patch = 16;
    session->depth = 192;
    if (strncmp(begin, "stub ", 5) == 0 &&
        sscanf(begin, "stub %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64, &session->height, &session->width,
               &session->patch, &session->depth) != 4)
        return stub_status(INVALID_PROTOBUF, "Load model failed: Protobuf parsing failed.");
    session->patches = session->height / session->patch * (session->width / session->patch);
    return NULL;
}

/* ---- What a run is given ---- */

/* A tensor of a graph: -1 is a dimension that any run may choose, and that must be the same wherever it stands. */
struct tensor {
    const char *name;
    int type;
    size_t rank;
    int64_t shape[4];
};

enum { ANY_ROWS = -1, ANY_IMAGES = -2, ANY_LENGTH = -3 };

struct signature {
    struct tensor inputs[4], outputs[2];
    size_t input_count, output_count;
};

static struct signature signature_of(const pnp_ort_session *s) {
    const struct tensor pixels = {"pixel_values", PNP_ORT_FLOAT, 4, {ANY_ROWS, 3, s->height, s->width}};
    struct signature made;
    memset(&made, 0, sizeof made);
    if (s->graph == GRAPH_SALIENCE) {
        made.inputs[0] = (struct tensor){"image_embeds", PNP_ORT_FLOAT, 3, {ANY_IMAGES, 1 + s->patches, s->depth}};
        made.inputs[1] = (struct tensor){"input_ids", PNP_ORT_INT64, 2, {ANY_ROWS, ANY_LENGTH}};
        made.inputs[2] = (struct tensor){"attention_mask", PNP_ORT_INT64, 2, {ANY_ROWS, ANY_LENGTH}};
        made.inputs[3] = (struct tensor){"patch_keep", PNP_ORT_FLOAT, 2, {ANY_IMAGES, s->patches}};
        made.outputs[0] = (struct tensor){"itm_logits", PNP_ORT_FLOAT, 2, {ANY_ROWS, 2}};
        made.outputs[1] = (struct tensor){"salience", PNP_ORT_FLOAT, 3, {ANY_ROWS, ANY_LENGTH, s->patches}};
        made.input_count = 4;
        made.output_count = 2;
        return made;
    }
    const int some = s->graph == GRAPH_VISION_TOKENS;
    made.inputs[0] = pixels;
    made.inputs[1] = (struct tensor){"kept", PNP_ORT_INT64, 2, {ANY_ROWS, ANY_LENGTH}};
    made.outputs[0] = (struct tensor){
        "image_embeds", PNP_ORT_FLOAT, 3, {ANY_ROWS, some ? ANY_LENGTH : 1 + s->patches, s->depth}};
    made.input_count = some ? 2 : 1;
    made.output_count = 1;
    return made;
}

/* Finds the values of tensors by name, checks type and shape, and fills in what a dynamic dimension is. */
static pnp_ort_status *match(const struct tensor *tensors, size_t count, const char *const *names,
                             const pnp_ort_value *const *values, size_t given, int64_t sizes[3], int all,
                             const pnp_ort_value **found) {
    char said[200];
    memset(found, 0, count * sizeof *found);
    for (size_t i = 0; i < given; i++) {
        size_t which = 0;
        if (names[i] == NULL) stub_wrong("run: a name is null");
        if (values[i] == NULL) stub_wrong("run: a value is null, and nobody would free what is put there");
        while (which < count && strcmp(names[i], tensors[which].name) != 0) which++;
        snprintf(said, sizeof said, "Invalid name: %.100s", names[i]);
        if (which == count || found[which] != NULL) return stub_status(PNP_ORT_INVALID_ARGUMENT, said);
        const struct tensor *wanted = &tensors[which];
        const pnp_ort_value *value = found[which] = stub_checked(values[i], STUB_VALUE);
        snprintf(said, sizeof said, "Unexpected data type for %.100s", names[i]);
        if (value->type != wanted->type) return stub_status(PNP_ORT_INVALID_ARGUMENT, said);
        snprintf(said, sizeof said, "Invalid rank for %.100s", names[i]);
        if (value->rank != wanted->rank) return stub_status(PNP_ORT_INVALID_ARGUMENT, said);
        for (size_t axis = 0; axis < value->rank; axis++) {
            int64_t size = wanted->shape[axis];
            if (size < 0 && sizes[-size - 1] < 0) sizes[-size - 1] = value->shape[axis];
            if (size < 0) size = sizes[-size - 1];
            snprintf(said, sizeof said, "Got invalid dimensions for %.80s: index %zu, got %" PRId64 ", not %" PRId64,
                     names[i], axis, value->shape[axis], size);
            if (size != value->shape[axis]) return stub_status(PNP_ORT_INVALID_ARGUMENT, said);
        }
    }
    for (size_t i = 0; all && i < count; i++) {
        snprintf(said, sizeof said, "Missing Input: %s", tensors[i].name);
        if (found[i] == NULL) return stub_status(PNP_ORT_INVALID_ARGUMENT, said);
    }
    return NULL;
}

/* ---- What the graphs compute: no row looks at another ---- */

static float part(double value) { return (float)(value - floor(value)); }

/* An element of image_embeds: token 0 is the whole image, 1 + p patch p. */
static float embed(const pnp_ort_session *s, const float *pixels, int64_t token, int64_t depth) {
    const int64_t columns = s->width / s->patch, plane = depth % 3 * s->height * s->width;
    const int64_t top = token == 0 ? 0 : (token - 1) / columns * s->patch;
    const int64_t left = token == 0 ? 0 : (token - 1) % columns * s->patch;
    const int64_t step = token == 0 ? s->patch : 1, size = token == 0 ? s->height / s->patch : s->patch;
    double sum = 0;
    for (int64_t i = 0; i < size; i++) /* the diagonal: cheap, and no two pictures give the same */
        sum += (double)pixels[plane + (top + i * step) * s->width + left + (i * step) % s->width];
    return (float)(sum / (double)size + 0.01 * (double)(depth / 3));
}

static pnp_ort_status *encode(const pnp_ort_session *s, const pnp_ort_value *pixels, const pnp_ort_value *kept,
                              const pnp_ort_value *out) {
    const int64_t tokens = out->shape[1];
    for (int64_t row = 0; row < out->shape[0]; row++) {
        const float *image = (const float *)pixels->data + row * 3 * s->height * s->width;
        double sum = 0; /* every pixel is read, so that a tool sees where one is missing */
        for (int64_t i = 0; i < 3 * s->height * s->width; i++) sum += (double)image[i];
        if (sum == 0.12345) stub_wrong("vision: nobody can draw this");
        for (int64_t t = 0; t < tokens; t++) {
            const int64_t token = kept == NULL ? t : ((const int64_t *)kept->data)[row * tokens + t];
            if (token < 0 || token > s->patches)
                return stub_status(PNP_ORT_INVALID_ARGUMENT, OUT_OF_BOUNDS);
            for (int64_t d = 0; d < s->depth; d++)
                ((float *)out->data)[(row * tokens + t) * s->depth + d] = embed(s, image, token, d);
        }
    }
    return NULL;
}

static pnp_ort_status *attend(const pnp_ort_session *s, const pnp_ort_value *const *in, const pnp_ort_value *const *out,
                              int64_t rows, int64_t images, int64_t length, int spoil) {
    const int64_t *ids = in[1]->data, *mask = in[2]->data;
    for (int64_t row = 0; row < rows; row++) {
        const int64_t image = images == 1 ? 0 : row;
        const float *embeds = (const float *)in[0]->data + image * (1 + s->patches) * s->depth;
        const float *keep = (const float *)in[3]->data + image * s->patches;
        double score = (double)embeds[0];
        for (int64_t t = 0; t < length; t++) {
            const int64_t id = ids[row * length + t], here = mask[row * length + t];
            if (id < 0 || id > 1000000) return stub_status(PNP_ORT_INVALID_ARGUMENT, OUT_OF_BOUNDS);
            if (here != 0 && here != 1) stub_wrong("salience: attention_mask is neither 0 nor 1");
            if (here) score += 0.7 * (double)part((double)id * 0.377);
            for (int64_t p = 0; p < s->patches; p++) {
                if (keep[p] != 0.0f && keep[p] != 1.0f) stub_wrong("salience: patch_keep is neither 0 nor 1");
                const double seen = (double)embeds[(1 + p) * s->depth + t % s->depth];
                const float value = part((double)id * 0.619 + (double)p * 0.137 + seen) - 0.2f;
                float *place = out[1] == NULL ? NULL : (float *)out[1]->data + (row * length + t) * s->patches + p;
                if (place != NULL) *place = here && value > 0 ? value * keep[p] : 0.0f;
            }
        }
        if (out[0] != NULL) {
            float *logits = (float *)out[0]->data + row * 2;
            logits[1] = 4 * part(score) - 2;
            logits[0] = -logits[1];
            if (spoil == 3) logits[1] = INFINITY;
        }
        if (out[1] == NULL) continue;
        float *values = (float *)out[1]->data + row * length * s->patches;
        for (int64_t i = 0; (spoil == 1 || spoil == 2) && i < length * s->patches; i++)
            values[i] = spoil == 1 ? NAN : -1;
    }
    return NULL;
}

pnp_ort_status *stub_compute(const pnp_ort_session *session, const char *const *input_names,
                             const pnp_ort_value *const *inputs, size_t input_count, const char *const *output_names,
                             size_t output_count, pnp_ort_value **outputs, int spoil) {
    const struct signature takes = signature_of(session);
    int64_t sizes[3] = {-1, -1, -1};
    const pnp_ort_value *in[4], *out[2];
    if (output_count == 0) return stub_status(PNP_ORT_INVALID_ARGUMENT, "At least one output should be requested.");
    pnp_ort_status *failed =
        match(takes.inputs, takes.input_count, input_names, inputs, input_count, sizes, 1, in);
    if (failed == NULL && session->graph == GRAPH_SALIENCE && sizes[1] != 1 && sizes[1] != sizes[0])
        failed = stub_status(PNP_ORT_FAIL, "Non-zero status code returned while running Expand node.");
    for (size_t i = 0; i < output_count; i++)
        if (outputs[i] == NULL) stub_wrong("run: an output is null, and nobody would free what is put there");
    if (failed == NULL)
        failed = match(takes.outputs, takes.output_count, output_names, (const pnp_ort_value *const *)outputs,
                       output_count, sizes, 0, out);
    if (failed != NULL) return failed;
    if (session->graph == GRAPH_SALIENCE) return attend(session, in, out, sizes[0], sizes[1], sizes[2], spoil);
    return encode(session, in[0], takes.input_count == 2 ? in[1] : NULL, out[0]);
}
