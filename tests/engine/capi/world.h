/* What the C drivers share: one model, what is asked of it, and checks of what comes back. */
#ifndef WORLD_H
#define WORLD_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "pnp_ovss.h"
#include "stub_onnxruntime.h"

enum { WIDTH = 40, HEIGHT = 30, STRIDE = 131, LABELS_STRIDE = 90, CLASSES = 8, GRID = 4, PASSES = 3, SIDE = 32 };
enum { PATTERN = 0xA5, NAMES = 10 };

/* The functions of the fake runtime; all null where the runtime is a real one. */
#define F(result, name, arguments) extern result(*name) arguments;
STUB_FUNCTIONS(F)
#undef F

/* What segment may write. A test fills it with PATTERN. */
struct outputs {
    unsigned char labels[HEIGHT][LABELS_STRIDE];
    float class_maps[CLASSES * GRID * GRID];
    float scores[CLASSES];
    float match[PASSES];
    uint8_t present[CLASSES];
    pnp_ovss_timings timings;
};

extern const char *const MANY[NAMES]; /* names that take several captions, */
extern const uint32_t CLASS_OF[NAMES]; /* and their classes: some are synonyms */

struct world {
    const char *runtime_path, *folder;
    pnp_ovss_runtime *runtime;
    pnp_ovss_model *model;
    pnp_ovss_names *many, *few;
    pnp_ovss_image image;
    uint8_t pixels[HEIGHT][STRIDE];
};

#define REQUIRE(condition)                                                                                             \
    do {                                                                                                               \
        if (!(condition)) require_failed(__FILE__, __LINE__, #condition);                                              \
    } while (0)
void require_failed(const char *file, int line, const char *condition);

extern const char *doing; /* what a failed REQUIRE tells */

/* Tells a fault after which a program can go on, and counts it; the last line of a program requires that there are
   none. */
extern long complaints;
#define EXPECT(condition)                                                                                              \
    do {                                                                                                               \
        if (!(condition)) complaints++, fprintf(stderr, "line %d: not so: %s (%s)\n", __LINE__, #condition, doing);    \
    } while (0)

void find_stub(const char *path); /* loads a runtime, and looks for the functions of a fake one in it */
void open_world(struct world *world, const char *runtime_path, const char *folder);
void close_world(struct world *world);
void live_objects(long counts[STUB_KINDS]);

pnp_ovss_settings no_settings(void); /* all 0 */
pnp_ovss_error no_error(void);
pnp_ovss_output output_of(struct outputs *outputs); /* all outputs, which are filled with PATTERN */
int is_untouched(const void *memory, size_t bytes);
void check_error(int32_t code, const pnp_ovss_error *error); /* it tells what `code` says, in one line */
void check_labels(const struct outputs *outputs);            /* all were written, and nothing next to them */

/* A call of the library, as one of a list. It makes what it needs, checks what it gives, frees that, and returns the
   code. It checks, too, that a call that fails changes nothing. */
struct call {
    const char *name;
    int32_t (*make)(struct world *world, pnp_ovss_error *error);
};
extern const struct call CALLS[];
extern const size_t CALL_COUNT;

#endif
