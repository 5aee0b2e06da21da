/* versions RUNTIME FOLDER: a program of another version than the library. Compiled by a header whose structs have grown
   (GROWN), it also sets the fields that the library does not know. */
#include <string.h>

#include "world.h"

static struct world w;
static pnp_ovss_error error;

#ifdef GROWN
#define TRY(type, value, input, call)                                                                                  \
    do {                                                                                                               \
        for (int field = 0; field < 3; field++) {                                                                      \
            type s = value;                                                                                            \
            if (field == 1) s.grown_number = 1;                                                                        \
            if (field == 2) s.grown_pointer = &w;                                                                      \
            error = no_error();                                                                                        \
            const int32_t code = call;                                                                                 \
            doing = #type;                                                                                             \
            check_error(code, &error);                                                                                 \
            EXPECT(code == (field > 0 && (input) ? PNP_OVSS_BAD_INPUT : PNP_OVSS_OK));                                 \
            EXPECT(s.grown_number == (field == 1) && s.grown_pointer == (field == 2 ? (const void *)&w : NULL));       \
        }                                                                                                              \
    } while (0)

static int32_t open_runtime(const pnp_ovss_runtime_options *options) {
    pnp_ovss_runtime *runtime = NULL;
    const int32_t code = pnp_ovss_runtime_open(options, &runtime, &error);
    pnp_ovss_runtime_close(runtime);
    return code;
}

static int32_t open_model(const pnp_ovss_model_options *options) {
    pnp_ovss_model *model = NULL;
    const int32_t code = pnp_ovss_model_open(w.runtime, w.folder, options, &model, &error);
    pnp_ovss_model_close(model);
    return code;
}

static int32_t make_names(const pnp_ovss_settings *settings) {
    const char *const names[] = {"cat"};
    pnp_ovss_names *made = NULL;
    const int32_t code = pnp_ovss_names_create(w.model, names, NULL, 1, settings, &made, &error);
    pnp_ovss_names_free(made);
    return code;
}

/* A batch of two, the second of which has the struct: they lie as far apart as the first is large. */
static int32_t batch(const pnp_ovss_item *second, const pnp_ovss_output *output) {
    pnp_ovss_item items[2];
    memset(items, 0, sizeof items);
    items[1] = *second;
    items[0].struct_size = sizeof items[0];
    items[0].names = w.few;
    items[0].image = &w.image;
    items[0].output = output;
    const int32_t code = pnp_ovss_segment_batch(w.model, items, 2, NULL, NULL, &error);
    EXPECT(items[0].code == PNP_OVSS_OK && items[1].code == code);
    return code;
}

static void try_grown_structs(void) {
    struct outputs outputs;
    pnp_ovss_output output = output_of(&outputs);
    pnp_ovss_runtime_options runtime_options;
    pnp_ovss_model_options model_options;
    pnp_ovss_model_info info;
    pnp_ovss_timings timings;
    pnp_ovss_tokens tokens;
    pnp_ovss_item item;
    output.timings = NULL; /* it was filled with PATTERN: what is new in it, too */
    memset(&runtime_options, 0, sizeof runtime_options);
    memset(&model_options, 0, sizeof model_options);
    memset(&info, 0, sizeof info);
    memset(&timings, 0, sizeof timings);
    memset(&tokens, 0, sizeof tokens);
    memset(&item, 0, sizeof item);
    runtime_options.struct_size = sizeof runtime_options;
    runtime_options.path = w.runtime_path;
    model_options.struct_size = sizeof model_options;
    info.struct_size = sizeof info;
    timings.struct_size = sizeof timings;
    tokens.struct_size = sizeof tokens;
    item.struct_size = sizeof item;
    item.names = w.few;
    item.image = &w.image;
    item.output = &output;
    TRY(pnp_ovss_runtime_options, runtime_options, 1, open_runtime(&s));
    TRY(pnp_ovss_model_options, model_options, 1, open_model(&s));
    TRY(pnp_ovss_settings, no_settings(), 1, make_names(&s));
    TRY(pnp_ovss_settings, no_settings(), 0, pnp_ovss_settings_default(w.model, &s, &error));
    TRY(pnp_ovss_model_info, info, 0, pnp_ovss_model_describe(w.model, &s, &error));
    TRY(pnp_ovss_tokens, tokens, 1, pnp_ovss_names_tokens(w.few, NULL, &s, &error));
    TRY(pnp_ovss_image, w.image, 1, pnp_ovss_preprocess(w.model, &s, NULL, NULL, &error));
    TRY(pnp_ovss_output, output, 1, pnp_ovss_segment(w.model, w.few, &w.image, NULL, NULL, &s, &error));
    TRY(pnp_ovss_timings, timings, 0,
        (output.timings = &s, pnp_ovss_segment(w.model, w.few, &w.image, NULL, NULL, &output, &error)));
    output.timings = NULL;
    TRY(pnp_ovss_item, item, 1, batch(&s, &output));
}
#endif

int main(int argc, char **argv) {
    REQUIRE(argc == 3);
    find_stub(argv[1]);
    REQUIRE(pnp_ovss_abi() == PNP_OVSS_ABI && pnp_ovss_version()[0] != 0);
    open_world(&w, argv[1], argv[2]);
    for (size_t i = 0; i < CALL_COUNT; i++) {
        error = no_error();
        doing = CALLS[i].name;
        const int32_t code = CALLS[i].make(&w, &error);
        check_error(code, &error);
        REQUIRE(code == PNP_OVSS_OK);
    }
#ifdef GROWN
    try_grown_structs();
#endif
    close_world(&w);
    doing = "all codes";
    REQUIRE(complaints == 0);
    return 0;
}
