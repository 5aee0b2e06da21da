/* More of the program `arguments`: sizes of structs, names and tokens, devices and folders. */
#include <string.h>

#include "arguments.h"

static pnp_ovss_error error;

#define TAKEN(call) expect(PNP_OVSS_OK, (error = no_error(), call), &error, #call)
#define REFUSED(call) expect(PNP_OVSS_BAD_INPUT, (error = no_error(), call), &error, #call)

/* ---- Sizes of structs ---- */

enum { TAIL = 24 };

/* A struct with bytes behind it, as a newer header has. */
#define GROWN(type)                                                                                                    \
    union {                                                                                                            \
        type s;                                                                                                        \
        unsigned char bytes[sizeof(type) + TAIL];                                                                      \
    }

/* Calls with a struct that is too small, exact, larger with zeros, and larger with something: `input` tells whether
   what the library does not know makes it refuse the struct. */
#define SIZES(type, value, smaller_is_taken, input, call)                                                              \
    do {                                                                                                               \
        static const uint32_t small[] = {0, 1, 3, 4, 8, sizeof(type) - 1};                                             \
        GROWN(type) g;                                                                                                 \
        for (size_t i = 0; i < sizeof small / sizeof *small; i++) {                                                    \
            memset(&g, 0, sizeof g);                                                                                   \
            g.s = value;                                                                                               \
            g.s.struct_size = small[i];                                                                                \
            if (!(smaller_is_taken)) REFUSED(call);                                                                    \
            REQUIRE(g.s.struct_size == small[i]);                                                                      \
        }                                                                                                              \
        memset(&g, 0, sizeof g);                                                                                       \
        g.s = value;                                                                                                   \
        g.s.struct_size = sizeof(type);                                                                                \
        memset(g.bytes + sizeof(type), 0x77, TAIL);                                                                    \
        TAKEN(call); /* what lies behind the struct is none of its business */                                         \
        for (int i = 0; i < TAIL; i++) REQUIRE(g.bytes[sizeof(type) + i] == 0x77);                                     \
        memset(g.bytes + sizeof(type), 0, TAIL);                                                                       \
        g.s.struct_size = sizeof(type) + TAIL;                                                                         \
        TAKEN(call);                                                                                                   \
        REQUIRE(g.s.struct_size == sizeof(type) + TAIL);                                                               \
        for (int i = 0; i < TAIL; i++) {                                                                               \
            memset(g.bytes + sizeof(type), 0, TAIL);                                                                   \
            g.bytes[sizeof(type) + i] = 1;                                                                             \
            if (input) REFUSED(call);                                                                                  \
            else TAKEN(call);                                                                                          \
            REQUIRE(g.bytes[sizeof(type) + i] == 1);                                                                   \
        }                                                                                                              \
    } while (0)

static int32_t open_runtime(const pnp_ovss_runtime_options *options) {
    pnp_ovss_runtime *runtime = NULL;
    const int32_t code = pnp_ovss_runtime_open(options, &runtime, &error);
    pnp_ovss_runtime_close(runtime);
    return code;
}

static int32_t open_model(struct world *w, const char *folder, const pnp_ovss_model_options *options) {
    pnp_ovss_model *model = NULL;
    const int32_t code = pnp_ovss_model_open(w->runtime, folder, options, &model, &error);
    pnp_ovss_model_close(model);
    return code;
}

static int32_t batch(struct world *w, pnp_ovss_item *item) {
    return pnp_ovss_segment_batch(w->model, item, 1, NULL, NULL, &error);
}

void struct_sizes(struct world *w) {
    struct outputs outputs;
    pnp_ovss_output output = output_of(&outputs), with_timings;
    const pnp_ovss_settings settings = no_settings();
    pnp_ovss_runtime_options runtime_options = {sizeof runtime_options, 0, w->runtime_path, NULL, NULL};
    pnp_ovss_model_options options = {sizeof options, 1, NULL, 0, 0};
    pnp_ovss_model_info info = {sizeof info, 0, 0, 0, 0, 0, "", ""};
    pnp_ovss_timings timings = {sizeof timings, 0, 0, 0, 0, 0, 0};
    pnp_ovss_tokens tokens = {sizeof tokens, 0, 0, 0, NULL, NULL, NULL};
    pnp_ovss_item item = {sizeof item, 0, w->many, &w->image, &output, NULL};

    SIZES(pnp_ovss_runtime_options, runtime_options, 0, 1, open_runtime(&g.s));
    SIZES(pnp_ovss_model_options, options, 0, 1, open_model(w, w->folder, &g.s));
    for (int use = 0; use < 4; use++) SIZES(pnp_ovss_settings, settings, 0, 1, use_settings(use, &g.s, &error));
    SIZES(pnp_ovss_image, w->image, 0, 1, pnp_ovss_segment(w->model, w->many, &g.s, NULL, NULL, &output, &error));
    SIZES(pnp_ovss_output, output, 0, 1, pnp_ovss_segment(w->model, w->many, &w->image, NULL, NULL, &g.s, &error));
    SIZES(pnp_ovss_item, item, 0, 1, batch(w, &g.s));
    SIZES(pnp_ovss_settings, settings, 0, 0, pnp_ovss_settings_default(w->model, &g.s, &error));
    SIZES(pnp_ovss_settings, settings, 0, 0, pnp_ovss_settings_preset("paper", &g.s, &error));
    SIZES(pnp_ovss_model_info, info, 0, 0, pnp_ovss_model_describe(w->model, &g.s, &error));
    with_timings = output;
    SIZES(pnp_ovss_timings, timings, 0, 0,
          (with_timings.timings = &g.s,
           pnp_ovss_segment(w->model, w->many, &w->image, NULL, NULL, &with_timings, &error)));
    SIZES(pnp_ovss_tokens, tokens, 0, 1, pnp_ovss_names_tokens(w->few, NULL, &g.s, &error));

    /* The error itself: it is filled in as far as it goes, and no further. */
    for (uint32_t size = 0; size <= sizeof error + TAIL; size += size < 16 ? 1 : 37) {
        GROWN(pnp_ovss_error) g;
        memset(&g, PATTERN, sizeof g);
        g.s.struct_size = size;
        doing = "an error of another size";
        REQUIRE(pnp_ovss_settings_preset("no such", (pnp_ovss_settings *)&settings, &g.s) == PNP_OVSS_BAD_INPUT);
        REQUIRE(g.s.struct_size == size);
        const size_t end = size < 4 ? 4 : size < sizeof error ? size : sizeof error;
        REQUIRE(is_untouched(g.bytes + end, sizeof g - end));
        if (size >= sizeof error) REQUIRE(g.s.code == PNP_OVSS_BAD_INPUT && g.s.cause[0] != 0);
    }
}

/* ---- Names and tokens ---- */

static int32_t names_of(struct world *w, const char *const *names, const uint32_t *class_of, size_t count) {
    pnp_ovss_names *made = NULL;
    const int32_t code = pnp_ovss_names_create(w->model, names, class_of, count, NULL, &made, &error);
    REQUIRE((code == PNP_OVSS_OK) == (made != NULL));
    pnp_ovss_names_free(made);
    return code;
}

void names_and_tokens(struct world *w, const char *other_folder) {
    static const char *const bad[] = {"",         " ",         "\t\n\xE3\x80\x80", "\xFF",
                                      "cat\xC3",  "\xC0\x80",  "\xED\xA0\x80",     "\xF5\x80\x80\x80",
                                      "[SEP]",    "cat [ENC]", "zebra",            "catzebra",
                                      "cat\x01",  "\x7F",      "\xE2\x80\x8B",     "cat\xEF\xBF\xBF"};
    static const char *const two[] = {"cat", "CAT "}, *const three[] = {"cat", "frog", "pig"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *const one[] = {bad[i]}, *const after[] = {"frog", bad[i]};
        REFUSED(names_of(w, one, NULL, 1));
        REFUSED(names_of(w, after, NULL, 2));
    }
    REFUSED(names_of(w, three, NULL, 0));
    REFUSED(names_of(w, two, NULL, 2));
    static const uint32_t wrong[][3] = {{1, 1, 1}, {0, 2, 2},          {0, 1, 0},
                                        {0, 0, 2}, {0, 1, UINT32_MAX}, {UINT32_MAX, 0, 1}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) REFUSED(names_of(w, three, wrong[i], 3));
    static const uint32_t same[] = {0, 0, 0};
    TAKEN(names_of(w, three, same, 3));
    REFUSED(names_of(w, two, same, 2));

    /* A name longer than a caption, one of a megabyte, and more names than labels. */
    char *const longest = calloc(1, 1 << 20);
    REQUIRE(longest != NULL);
    memset(longest, 'a', (1 << 20) - 1);
    const char *const words[] = {"cat cat cat cat cat cat cat cat cat cat cat cat cat cat"}, *const one[] = {longest};
    REFUSED(names_of(w, words, NULL, 1));
    REFUSED(names_of(w, one, NULL, 1));
    for (int i = 1; i < (1 << 20) - 1; i += 2) longest[i] = ' ';
    REFUSED(names_of(w, one, NULL, 1));
    free(longest);
    enum { MOST = 70000 };
    const char **const repeated = malloc(MOST * sizeof *repeated);
    REQUIRE(repeated != NULL);
    for (int i = 0; i < MOST; i++) repeated[i] = i % 2 ? "cat" : "pig";
    REFUSED(names_of(w, repeated, NULL, MOST));
    REFUSED(names_of(w, repeated, NULL, SIZE_MAX)); /* before it reads them */
    free(repeated);

    /* Names of another model: the vocabulary is another, so the tokens would be. */
    pnp_ovss_model *other = NULL;
    struct outputs outputs;
    const pnp_ovss_output output = output_of(&outputs);
    TAKEN(pnp_ovss_model_open(w->runtime, other_folder, NULL, &other, &error));
    REFUSED(pnp_ovss_segment(other, w->many, &w->image, NULL, NULL, &output, &error));
    REQUIRE(is_untouched(&outputs, offsetof(struct outputs, timings)));
    pnp_ovss_model_close(other);

    /* A second model of the same folder takes them. A model without a runtime takes none of that. */
    TAKEN(pnp_ovss_model_open(w->runtime, w->folder, NULL, &other, &error));
    TAKEN(pnp_ovss_segment(other, w->many, &w->image, NULL, NULL, &output, &error));
    pnp_ovss_model_close(other);
    TAKEN(pnp_ovss_model_open(NULL, w->folder, NULL, &other, &error));
    error = no_error();
    const int32_t code = pnp_ovss_segment(other, w->many, &w->image, NULL, NULL, &output, &error);
    REQUIRE(code != PNP_OVSS_OK);
    check_error(code, &error);
    pnp_ovss_model_close(other);

    /* Tokens: several captions, rows that are too short, and one array without the others. */
    int64_t ids[16];
    pnp_ovss_tokens tokens = {sizeof tokens, 0, 0, 0, NULL, NULL, NULL};
    memset(ids, PATTERN, sizeof ids);
    REFUSED(pnp_ovss_names_tokens(w->many, NULL, &tokens, &error));
    tokens.length = 7;
    tokens.input_ids = tokens.attention_mask = ids;
    REFUSED(pnp_ovss_names_tokens(w->few, NULL, &tokens, &error));
    REQUIRE(is_untouched(ids, sizeof ids));
    tokens.reserved = 1;
    tokens.length = 8;
    REFUSED(pnp_ovss_names_tokens(w->few, NULL, &tokens, &error));
    tokens.reserved = 0;
    tokens.attention_mask = NULL;
    error = no_error();
    const int32_t some = pnp_ovss_names_tokens(w->few, NULL, &tokens, &error);
    expect(some == PNP_OVSS_OK ? PNP_OVSS_OK : PNP_OVSS_BAD_INPUT, some, &error, "tokens without a mask");
}

/* ---- Devices, folders, runtimes ---- */

void devices_and_folders(struct world *w) {
    static const char *const bad[] = {"", "gpu", "CPU", "cpu:0", "cuda:", "cuda:-1", "cuda: 1", "cuda:1x",
                                      "cuda:99999999999", "cuda:0\n", "\xFF", " cpu"};
    static const char *const folders[] = {"", "/no/such/folder", "/dev/null", "/proc/self/mem", "a\nb", "\xFF\xFE"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const pnp_ovss_model_options options = {sizeof options, 1, bad[i], 0, 0};
        REFUSED(open_model(w, w->folder, &options));
    }
    for (int field = 0; field < 6; field++) {
        static const int32_t values[] = {-1, INT32_MIN, 2, -2, 2, -2};
        pnp_ovss_model_options options = {sizeof options, 1, NULL, 0, 0};
        *(field < 2 ? &options.threads : field < 4 ? &options.verify : &options.prepack) = values[field];
        REFUSED(open_model(w, w->folder, &options));
    }
    pnp_ovss_model_options cuda = {sizeof cuda, 1, "cuda", 0, 0};
    expect(PNP_OVSS_NO_DEVICE, (error = no_error(), open_model(w, w->folder, &cuda)), &error, "cuda");
    cuda.threads = 1024;
    cuda.device = "cpu";
    TAKEN(open_model(w, w->folder, &cuda));
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        error = no_error();
        const int32_t code = open_model(w, folders[i], NULL);
        expect(i == 0 && code == PNP_OVSS_BAD_INPUT ? code : PNP_OVSS_BAD_MODEL, code, &error, folders[i]);
    }
    char *const deep = calloc(1, 100001);
    REQUIRE(deep != NULL);
    memset(deep, 'x', 100000);
    expect(PNP_OVSS_BAD_MODEL, (error = no_error(), open_model(w, deep, NULL)), &error, "a long path");
    free(deep);
    for (int severity = -2; severity <= 5; severity += 7) {
        const pnp_ovss_runtime_options options = {sizeof options, severity, w->runtime_path, NULL, NULL};
        REFUSED(open_runtime(&options));
    }
}
