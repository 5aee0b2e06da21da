/* pnp_ovss: training-free open-vocabulary segmentation. Name the things in an image, get a label for each pixel.

   The library runs a model folder that `pnp-ovss export` wrote (method "pnp-ovss", tokenizer "wordpiece"), with ONNX
   Runtime, which it loads when `pnp_ovss_runtime_open` is called. What each step computes: engine/METHOD.md. What a
   model folder holds: engine/model/README.md; both in the sources.

   A whole program (cc program.c -lpnp_ovss), which labels a gray square:

     #include <pnp_ovss.h>
     #include <stdio.h>
     #include <stdlib.h>

     int main(int argc, char **argv) {
         static uint8_t rgb[240][320][3];
         static uint16_t labels[240][320];
         const char *names[] = {"cat", "umbrella"};
         pnp_ovss_runtime *runtime = NULL;
         pnp_ovss_model *model = NULL;
         pnp_ovss_names *classes = NULL;
         pnp_ovss_error error = {.struct_size = sizeof error};
         pnp_ovss_image image = {.struct_size = sizeof image, .width = 320, .height = 240, .rgb = rgb[0][0]};
         pnp_ovss_output output = {.struct_size = sizeof output, .labels = labels[0]};
         if (argc == 2 && !pnp_ovss_runtime_open(NULL, &runtime, &error) &&
             !pnp_ovss_model_open(runtime, argv[1], NULL, &model, &error) &&
             !pnp_ovss_names_create(model, names, NULL, 2, NULL, &classes, &error) &&
             !pnp_ovss_segment(model, classes, &image, NULL, NULL, &output, &error))
             printf("the label of the first pixel: %d\n", labels[0][0]);
         else
             fprintf(stderr, "%s\n%s\n", error.cause, error.cure);
         pnp_ovss_names_free(classes);
         pnp_ovss_model_close(model);
         pnp_ovss_runtime_close(runtime);
         return error.code ? EXIT_FAILURE : EXIT_SUCCESS;
     }

   Conventions

   - A call returns PNP_OVSS_OK (0) or another code. It fills the caller's `pnp_ovss_error`, which may be NULL, with
     the code, the cause and what mends it. A call that fails changes no output.
   - A struct begins with `struct_size`, which the caller sets to sizeof the struct. Fields are only ever added at the
     end: a program runs with a newer library. Set all other fields to 0 first; 0 in a field stands for its default.
   - A pointer to options or settings may be NULL, which stands for the defaults.
   - Strings are UTF-8 and end with a zero byte.
   - Models and names are immutable: any number of threads may use them at once. The one rule is that nobody uses an
     object that was closed or freed. Closing and freeing take NULL.
   - After a fork the child must not use what its parent opened.
   - No exception leaves the library, and it prints nothing.                                                         */
#ifndef PNP_OVSS_H
#define PNP_OVSS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PNP_OVSS_ABI 1 /* raised when a program must be compiled anew; the number in libpnp_ovss.so.1 */
#define PNP_OVSS_API __attribute__((visibility("default")))

/* ---- Errors ---- */

enum {
    PNP_OVSS_OK = 0,
    PNP_OVSS_BAD_INPUT = 1,  /* an argument, an image, a name or a setting cannot be used */
    PNP_OVSS_BAD_MODEL = 2,  /* the model folder is missing, damaged, newer, or of another method */
    PNP_OVSS_NO_RUNTIME = 3, /* ONNX Runtime cannot be loaded, or is too old */
    PNP_OVSS_NO_DEVICE = 4,  /* the device that was asked for cannot be had */
    PNP_OVSS_NO_MEMORY = 5,  /* memory ran out, or a limit was reached */
    PNP_OVSS_FAILED = 6,     /* something failed although the input was good */
    PNP_OVSS_CANCELLED = 7   /* pnp_ovss_cancel_now was called */
};

/* Set `struct_size`: a call that finds another returns BAD_INPUT and writes nothing here. */
typedef struct {
    uint32_t struct_size;
    int32_t code;     /* of the call that was given this struct last, PNP_OVSS_OK where it succeeded */
    char cause[512];  /* what is wrong, with the value that was wrong, in one line; "" where nothing is. What is cut
                         ends in "..." */
    char cure[256];   /* what mends it, in one line; may be "" */
} pnp_ovss_error;

PNP_OVSS_API const char *pnp_ovss_version(void); /* of the library, such as "0.1.0" */
PNP_OVSS_API int32_t pnp_ovss_abi(void);         /* PNP_OVSS_ABI of the library */

/* ---- Runtime: ONNX Runtime, loaded into this process ---- */

typedef struct pnp_ovss_runtime pnp_ovss_runtime;

/* Receives a message of ONNX Runtime. Any thread may call it, one at a time. It must not call this library.
     severity  0 verbose, 1 information, 2 warning, 3 error, 4 fatal */
typedef void (*pnp_ovss_log)(void *user, int32_t severity, const char *message);

typedef struct {
    uint32_t struct_size;
    int32_t log_severity; /* least severity that is told; default: 2, warnings; PNP_OVSS_ZERO: 0. The first open of a
                             library fixes it. */
    const char *path;     /* of libonnxruntime; default: the environment's PNP_OVSS_ORT, then libonnxruntime.so.1 */
    pnp_ovss_log log;     /* hears the messages until this open is closed; default: nothing is told */
    void *user;           /* first argument of `log` */
} pnp_ovss_runtime_options;

/* Loads ONNX Runtime 1.20 or newer. What is opened several times is loaded once. It is never unloaded, as its threads
   may live on, and neither is this library. It is told to report nothing to its makers, by the environment's
   ORT_DISABLE_TELEMETRY, which is set unless it is there; so the first call must not run next to others that read or
   change the environment. Where the host has started the same library of ONNX Runtime before, its log is the host's. A
   call that fails may be repeated.
   Errors: BAD_INPUT, NO_RUNTIME, NO_MEMORY. */
PNP_OVSS_API int32_t pnp_ovss_runtime_open(const pnp_ovss_runtime_options *options, pnp_ovss_runtime **runtime,
                                           pnp_ovss_error *error);

/* Returns the version of ONNX Runtime, such as "1.32.0"; "" for NULL. */
PNP_OVSS_API const char *pnp_ovss_runtime_version(const pnp_ovss_runtime *runtime);

/* Gives back what an open gave; its callback is not called again. Models that were opened with it go on. */
PNP_OVSS_API void pnp_ovss_runtime_close(pnp_ovss_runtime *runtime);

/* ---- Settings: how an image is segmented ---- */

/* In a field of settings 0 stands for the model's recommendation. These stand for what would else be 0. */
#define PNP_OVSS_ZERO (-1) /* exactly 0, in a field that holds a number */
#define PNP_OVSS_NO (-1)
#define PNP_OVSS_YES 1

#define PNP_OVSS_HALVING (-2) /* of `drop_count`: half of the patches that are left, rounded down */

enum { PNP_OVSS_DROP_PIXELS = 1, PNP_OVSS_DROP_TOKENS = 2, PNP_OVSS_DROP_ATTENTION = 3 };
enum { PNP_OVSS_BACKGROUND_AUTO = 1, PNP_OVSS_BACKGROUND_ALWAYS = 2, PNP_OVSS_BACKGROUND_NEVER = 3 };
enum { PNP_OVSS_CRF_NONE = 1, PNP_OVSS_CRF_DENSECRF = 2 };
enum { PNP_OVSS_PRESENT_GIVEN = 1, PNP_OVSS_PRESENT_MATCH = 2 };

typedef struct {
    uint32_t struct_size;
    int32_t passes;            /* K, passes of the model, 1 to 1000; each but the last drops patches */
    int32_t drop_count;        /* patches that a pass drops: a number, PNP_OVSS_HALVING or PNP_OVSS_ZERO */
    int32_t drop_mode;         /* what dropping means; each mode gives another result. PIXELS blanks the patch and
                                  encodes the image again (the paper), TOKENS encodes the patches that are left,
                                  ATTENTION encodes the image once and hides the patch from cross-attention */
    double threshold;          /* a class map is 0 below this part of its range; above 0 to 1, or PNP_OVSS_ZERO */
    double blur;               /* deviation of the Gaussian, a part of the longer side; above 0 to 1, or
                                  PNP_OVSS_ZERO */
    int32_t background;        /* AUTO: a background channel where fewer than three classes are looked for */
    int32_t crf;               /* PNP_OVSS_CRF_NONE, or PNP_OVSS_CRF_DENSECRF: a dense CRF sharpens the labels */
    int32_t refine_side;       /* longest side, in pixels, of channels and CRF; PNP_OVSS_ZERO: that of the image */
    int32_t first_pass_weight; /* factor of the salience of the first pass, 1 to 1,000,000 */
    int32_t join_words;        /* PNP_OVSS_YES: a name of several words is written as one. names_create and segment
                                  must be given the same, or segment refuses it */
    int32_t sum_last_class;    /* PNP_OVSS_YES: the last name of a caption is summed, not averaged, over its tokens */
    double match_threshold;    /* PRESENT_MATCH: least match probability, exclusive; above 0 to 1, or PNP_OVSS_ZERO */
    int32_t present;           /* classes that are looked for: GIVEN (the default), all that are named; MATCH, those
                                  whose own caption the model scores above `match_threshold` */
    int32_t reserved;
    uint64_t crf_memory;       /* bytes that the CRF may take; default: no limit. Up to 256 MiB of the process stay
                                  allocated for the next call. */
} pnp_ovss_settings;

typedef struct pnp_ovss_model pnp_ovss_model;

/* Fills in the settings that the model recommends, and with which NULL and fields of 0 are read.
   Errors: BAD_INPUT. */
PNP_OVSS_API int32_t pnp_ovss_settings_default(const pnp_ovss_model *model, pnp_ovss_settings *settings,
                                               pnp_ovss_error *error);

/* Fills in a preset: "paper", or "released", which does what the code of the paper's authors does.
   Errors: BAD_INPUT. */
PNP_OVSS_API int32_t pnp_ovss_settings_preset(const char *name, pnp_ovss_settings *settings, pnp_ovss_error *error);

/* ---- Model: a model folder, loaded ---- */

typedef struct {
    uint32_t struct_size;
    int32_t threads;    /* threads of the CPU that a call may use; default: the processors that the process may run on,
                           whatever a control group's quota. Hosts with many threads of their own give 1. */
    const char *device; /* "cpu" (the default), "cuda" or "cuda:N"; CUDA was never run by the library's makers */
    int32_t verify;     /* PNP_OVSS_NO: sizes of the files are compared with the manifest, not their sha256 */
    int32_t prepack;    /* PNP_OVSS_YES: weights are copied in another layout, for some percent of speed; the last
                           digits of results change */
} pnp_ovss_model_options;

/* Reads and checks a model folder, and loads its graphs. With `runtime` NULL no graph is loaded: such a model has
   settings, names and stages, and cannot segment.
   Errors: BAD_INPUT, BAD_MODEL, NO_DEVICE, NO_MEMORY, FAILED. */
PNP_OVSS_API int32_t pnp_ovss_model_open(pnp_ovss_runtime *runtime, const char *folder,
                                         const pnp_ovss_model_options *options, pnp_ovss_model **model,
                                         pnp_ovss_error *error);

typedef struct {
    uint32_t struct_size;
    uint32_t input_height, input_width; /* of pixel_values, in pixels */
    uint32_t grid_height, grid_width;   /* rows and columns of patches: the size of a class map */
    uint32_t max_tokens;                /* tokens of the longest caption */
    char family[32];                    /* kind of the checkpoint: "blip" */
    char device[32];                    /* where the graphs run: "cpu", "cuda:0"; "" where none is loaded */
} pnp_ovss_model_info;

/* Fills in what a model is. Errors: BAD_INPUT. */
PNP_OVSS_API int32_t pnp_ovss_model_describe(const pnp_ovss_model *model, pnp_ovss_model_info *info,
                                             pnp_ovss_error *error);

/* Frees a model. Calls that use it must have returned. Names that were made with it stay good for other models opened
   from the same folder. */
PNP_OVSS_API void pnp_ovss_model_close(pnp_ovss_model *model);

/* ---- Names: what to look for, as tokens ---- */

typedef struct pnp_ovss_names pnp_ovss_names;

/* Checks class names and makes tokens of them, once for any number of images.
     names     `count` names. Outer and repeated white space is removed. No two may be the same to the model.
     class_of  number of the class of each name, from 0 and ascending by 0 or 1: names of one number are synonyms.
               Of {"sofa", "couch", "cat"}, {0, 0, 1} makes two classes. NULL: each name is a class
     settings  of which `join_words` counts
   Errors: BAD_INPUT (a name is empty, damaged, unknown to the model, too long, or named twice), NO_MEMORY. */
PNP_OVSS_API int32_t pnp_ovss_names_create(const pnp_ovss_model *model, const char *const *names,
                                           const uint32_t *class_of, size_t count, const pnp_ovss_settings *settings,
                                           pnp_ovss_names **made, pnp_ovss_error *error);

/* Returns the number of classes, C; 0 for NULL. */
PNP_OVSS_API size_t pnp_ovss_names_classes(const pnp_ovss_names *names);

PNP_OVSS_API void pnp_ovss_names_free(pnp_ovss_names *names);

/* ---- Segmentation ---- */

#define PNP_OVSS_MOST_PIXELS 50000000 /* of an image */

/* An image in RGB, upright. */
typedef struct {
    uint32_t struct_size;
    uint32_t width, height; /* in pixels */
    size_t stride;          /* bytes from a row to the next; 0: rows follow each other */
    const uint8_t *rgb;     /* the first row; red, green, blue of each pixel */
} pnp_ovss_image;

/* Seconds that the steps of a call took. */
typedef struct {
    uint32_t struct_size;
    uint32_t reserved;
    double preprocess; /* resize and normalization */
    double graphs;     /* runs of the model's graphs */
    double passes;     /* what lies between them */
    double refine;     /* class maps to channels and labels, without the CRF */
    double crf;
} pnp_ovss_timings;

/* Where results are written. What is NULL is left out. A count is the number of elements that an array has, and must
   be at least what is written. The default stride is that of rows that follow each other. */
typedef struct {
    uint32_t struct_size;
    uint32_t reserved;
    uint16_t *labels;      /* [height][width]: 0 background, i + 1 the class of number i; without them no channel and
                              no CRF is computed */
    size_t labels_stride;  /* bytes from a row of labels to the next */
    float *class_maps;     /* [C][grid_height][grid_width]: salience, before the threshold; 0 where a class was not
                              looked for */
    size_t class_maps_count;
    float *scores;         /* [C]: match probability of the image and each class alone, of synonyms the largest; C
                              counts classes, not names. Not computed where NULL and `present` of the settings is
                              GIVEN */
    size_t scores_count;
    float *match;          /* [K]: match probability in each pass; 0 where no class was looked for */
    size_t match_count;
    uint8_t *present;      /* [C]: 1 where a class was looked for */
    size_t present_count;
    pnp_ovss_timings *timings;
} pnp_ovss_output;

/* Stops calls from another thread. */
typedef struct pnp_ovss_cancel pnp_ovss_cancel;

/* Makes a cancel, for one call or for several. Errors: BAD_INPUT, NO_MEMORY. */
PNP_OVSS_API int32_t pnp_ovss_cancel_create(pnp_ovss_cancel **cancel, pnp_ovss_error *error);

/* Stops the calls that were given this cancel, and those that will be: they return PNP_OVSS_CANCELLED. A graph stops
   at its next node, a CRF at its end. */
PNP_OVSS_API void pnp_ovss_cancel_now(pnp_ovss_cancel *cancel);

/* Frees a cancel. Calls that were given it must have returned. */
PNP_OVSS_API void pnp_ovss_cancel_free(pnp_ovss_cancel *cancel);

/* Segments an image. Any number of threads may call it at once.
     settings  fields of 0, and NULL: as the model recommends
     cancel    may be NULL
   Errors: BAD_INPUT, BAD_MODEL (its files changed since they were loaded, or its graphs are not what the manifest
   tells), NO_DEVICE (the graph of TOKENS, which is loaded at its first use, does not run on the GPU), NO_MEMORY,
   FAILED, CANCELLED. */
PNP_OVSS_API int32_t pnp_ovss_segment(const pnp_ovss_model *model, const pnp_ovss_names *names,
                                      const pnp_ovss_image *image, const pnp_ovss_settings *settings,
                                      pnp_ovss_cancel *cancel, const pnp_ovss_output *output, pnp_ovss_error *error);

/* An image of a batch. */
typedef struct {
    uint32_t struct_size;
    int32_t code;                /* of this image, filled in by the call */
    const pnp_ovss_names *names;
    const pnp_ovss_image *image;
    const pnp_ovss_output *output;
    pnp_ovss_error *error;       /* of this image; may be NULL */
} pnp_ovss_item;

/* Segments several images, on as many threads at a time as the model may use. Each gets what pnp_ovss_segment gives it,
   and fails alone. `struct_size` of the first item is the size of each.
   Returns OK if all are done, or the code of the first that is not, and tells of that one in `error`. */
PNP_OVSS_API int32_t pnp_ovss_segment_batch(const pnp_ovss_model *model, pnp_ovss_item *items, size_t count,
                                            const pnp_ovss_settings *settings, pnp_ovss_cancel *cancel,
                                            pnp_ovss_error *error);

/* ---- Stages, for hosts that run the fused graph (segment.onnx) themselves; no runtime is needed ---- */

/* Resizes an image to the input of the model, as Pillow 12.2 does, and normalizes it. Of the two outputs each may be
   NULL.
     pixels        uint8 [input_height][input_width][3], the resized image
     pixel_values  float [3][input_height][input_width], normalized
   Errors: BAD_INPUT, NO_MEMORY. */
PNP_OVSS_API int32_t pnp_ovss_preprocess(const pnp_ovss_model *model, const pnp_ovss_image *image, uint8_t *pixels,
                                         float *pixel_values, pnp_ovss_error *error);

/* The caption inputs of the fused graph, for one image. */
typedef struct {
    uint32_t struct_size;
    uint32_t length;         /* T, tokens of a row. 0: it is filled in with the least, and no array is written */
    uint32_t names;          /* N, filled in: number of names */
    uint32_t reserved;
    int64_t *input_ids;      /* [T] */
    int64_t *attention_mask; /* [T] */
    float *class_tokens;     /* [N][T]: weight of each token in the map of each name */
} pnp_ovss_tokens;

/* Writes the tokens of names. The least length is that of the caption; more is padding.
     settings  of which `sum_last_class` counts
   Errors: BAD_INPUT (the names do not fit into one caption, or `length` is too small), NO_MEMORY. */
PNP_OVSS_API int32_t pnp_ovss_names_tokens(const pnp_ovss_names *names, const pnp_ovss_settings *settings,
                                           pnp_ovss_tokens *tokens, pnp_ovss_error *error);

/* Makes class maps, [C][grid_height][grid_width], from maps of names, [N][grid_height][grid_width]: the largest of
   the synonyms. The two may be one array. Errors: BAD_INPUT. */
PNP_OVSS_API int32_t pnp_ovss_names_join(const pnp_ovss_names *names, const pnp_ovss_model *model,
                                         const float *name_maps, float *class_maps, pnp_ovss_error *error);

/* Makes labels from class maps: threshold, background, upsampling, blur, CRF.
     class_maps     float [classes][grid_height][grid_width], finite
     present        uint8 [classes], or NULL: maps of classes that are 0 here are left out
     labels_stride  bytes from a row of labels to the next; 0: rows follow each other
   Errors: BAD_INPUT, NO_MEMORY, FAILED. */
PNP_OVSS_API int32_t pnp_ovss_finish(const pnp_ovss_model *model, const pnp_ovss_image *image, const float *class_maps,
                                     const uint8_t *present, size_t classes, const pnp_ovss_settings *settings,
                                     uint16_t *labels, size_t labels_stride, pnp_ovss_error *error);

#ifdef __cplusplus
}
#endif
#endif
