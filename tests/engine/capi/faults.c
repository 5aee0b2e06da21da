/* faults RUNTIME FOLDER HOW [STEP]: each call of the library meets a failure at its 1st, 2nd, ... step, until it has no
   more. It must tell what happened, change nothing, leave nothing behind, and succeed when it is called again.

   HOW  calls       a function of the runtime fails, once
        calls-on    it fails, and all that are called later
        calls-memory   it fails, for want of memory
        allocations, allocations-on   the library gets no memory, once or from there on; needs allocations.cpp
        both        a function of the runtime fails, and from there on the library gets no memory
        threads     no thread can be started
        open        nothing fails but what the environment tells the fake runtime
   STEP  tries each STEPth failure only */
#include "world.h"

#include <string.h>

#ifdef WITH_ALLOCATIONS
extern void fail_allocation(long n, int on); /* 0: none */
extern void no_more_memory(void);
extern void fail_thread(long n);
extern int allocation_failed(void);
#else
static void fail_allocation(long n, int on) { (void)n, (void)on; }
static void fail_thread(long n) { (void)n; }
static int allocation_failed(void) { return 0; }
static void no_more_memory(void) {}
#endif

enum how { CALLS_ONCE, CALLS_ON, CALLS_MEMORY, BOTH, ALLOCATIONS, ALLOCATIONS_ON, THREADS };
static const char *const HOWS[] = {"calls",       "calls-on",       "calls-memory", "both",
                                   "allocations", "allocations-on", "threads"};

static void arm(enum how how, long n) {
    if (how == CALLS_ONCE) stub_fail_at(n, 1, "the fake runtime was told to fail\nhere", 0);
    if (how == CALLS_ON) stub_fail_at(n, 6, "", 1);
    if (how == CALLS_MEMORY) stub_fail_at(n, 6, "bad allocation", 0);
    if (how == BOTH) stub_fail_at(n, 1, "the fake runtime was told to fail", 0), stub_on_failure(no_more_memory);
    if (how == ALLOCATIONS) fail_allocation(n, 0);
    if (how == ALLOCATIONS_ON) fail_allocation(n, 1);
    if (how == THREADS) fail_thread(n);
}

/* Ends the failures, and tells whether one happened. */
static int disarm(enum how how, long n) {
    const int happened = how <= BOTH ? stub_calls() >= n : allocation_failed();
    stub_on_failure(NULL);
    stub_fail_at(0, 0, NULL, 0);
    fail_allocation(0, 0);
    fail_thread(0);
    return happened;
}

/* Tells whether a code is one that this failure may have. */
static int may_be(enum how how, int32_t code, const char *call) {
    switch (how) {
        case BOTH:
            if (code == PNP_OVSS_NO_MEMORY) return 1; /* fall through */
        case CALLS_ONCE:
        case CALLS_ON:
            if (strcmp(call, "runtime_open") == 0) return code == PNP_OVSS_NO_RUNTIME;
            if (strcmp(call, "model_open on CUDA") == 0 && code == PNP_OVSS_NO_DEVICE) return 1;
            return code == PNP_OVSS_FAILED || code == PNP_OVSS_BAD_MODEL;
        case THREADS: return code == PNP_OVSS_OK || code == PNP_OVSS_NO_MEMORY;
        case ALLOCATIONS: /* what a sort can do without may be missing: the result is the same */
            if (code == PNP_OVSS_OK && (strstr(call, "segment") != NULL || strcmp(call, "finish") == 0)) return 1;
            return code == PNP_OVSS_NO_MEMORY;
        default: return code == PNP_OVSS_NO_MEMORY;
    }
}

static void show(const long before[STUB_KINDS], const long after[STUB_KINDS]) {
    for (int kind = 0; kind < STUB_KINDS; kind++)
        if (before[kind] != after[kind]) fprintf(stderr, "kind %d: %ld, then %ld\n", kind, before[kind], after[kind]);
}

/* Returns how many failures the call met. With `again` it is repeated after some of them. */
static long try_all(struct world *world, const struct call *call, enum how how, long step, int again) {
    static char text[200];
    long failed = 0;
    for (long n = 1;; n += step) {
        long before[STUB_KINDS], after[STUB_KINDS];
        snprintf(text, sizeof text, "%s, %s at %ld", call->name, HOWS[how], n);
        doing = text;
        live_objects(before);
        pnp_ovss_error error = no_error(), of_second = no_error();
        arm(how, n);
        const int32_t code = call->make(world, &error);
        const int happened = disarm(how, n);
        check_error(code, &error);
        live_objects(after);
        show(before, after);
        if (memcmp(before, after, sizeof before) != 0) complaints++, fprintf(stderr, "%s: objects are left\n", text);
        if (!happened) {
            REQUIRE(code == PNP_OVSS_OK);
            return failed;
        }
        failed++;
        if (!may_be(how, code, call->name)) complaints++, fprintf(stderr, "%s: %d, %s\n", text, code, error.cause);
        if (code == PNP_OVSS_OK) continue;
        if (how == CALLS_ONCE) REQUIRE(strstr(error.cause, "was told to fail") != NULL);
        if (!again || (n > 20 && n % 16 != 0)) continue;
        const int32_t second = call->make(world, &of_second);
        if (second != PNP_OVSS_OK) fprintf(stderr, "%s: %d, %s\n", text, second, of_second.cause);
        REQUIRE(second == PNP_OVSS_OK);
    }
}

int main(int argc, char **argv) {
    struct world world;
    enum how how = CALLS_ONCE;
    REQUIRE(argc == 4 || argc == 5);
    const long step = argc == 5 ? atol(argv[4]) : 1;
    find_stub(argv[1]);
    REQUIRE(stub_calls != NULL);
    if (strcmp(argv[3], "open") == 0) return open_world(&world, argv[1], argv[2]), close_world(&world), 0;
    while (strcmp(HOWS[how], argv[3]) != 0) REQUIRE(++how <= THREADS);

    /* The first open, which starts the runtime. */
    memset(&world, 0, sizeof world);
    world.runtime_path = argv[1];
    printf("first %s: %ld\n", CALLS[0].name, try_all(&world, &CALLS[0], how, 1, 0));

    open_world(&world, argv[1], argv[2]);
    for (size_t i = 0; i < CALL_COUNT; i++) { /* what is made once, and kept, is there from now on */
        pnp_ovss_error error = no_error();
        doing = CALLS[i].name;
        REQUIRE(CALLS[i].make(&world, &error) == PNP_OVSS_OK);
    }
    for (size_t i = 0; i < CALL_COUNT; i++)
        printf("%s: %ld\n", CALLS[i].name, try_all(&world, &CALLS[i], how, step, 1));
    close_world(&world);
    long left[STUB_KINDS];
    doing = "closing";
    live_objects(left);
    for (int kind = 0; kind < STUB_KINDS; kind++) EXPECT(left[kind] == 0);
    REQUIRE(complaints == 0);
    return 0;
}
