/* What a test does to the fake runtime, stub_onnxruntime.c. Found by dlsym in the library that was loaded. */
#ifndef STUB_ONNXRUNTIME_H
#define STUB_ONNXRUNTIME_H

/* Kinds of objects that the fake runtime counts. Nobody can release an environment. */
enum {
    STUB_ENV,
    STUB_SESSION,
    STUB_SESSION_OPTIONS,
    STUB_RUN_OPTIONS,
    STUB_MEMORY_INFO,
    STUB_VALUE,
    STUB_STATUS,
    STUB_CUDA_OPTIONS,
    STUB_KINDS
};

/* STUB_FUNCTIONS(F) lists F(result, name, arguments). The environment's STUB_FAIL_AT, STUB_FAIL_CODE,
   STUB_FAIL_MESSAGE, STUB_FAIL_ON (not empty: each call from there on), STUB_VERSION, STUB_NO_API, STUB_CUDA,
   STUB_WAIT and STUB_SLEEP (milliseconds of a run) say the same when the library is loaded. */
#define STUB_FUNCTIONS(F)                                                                                              \
    F(void, stub_fail_at, (long call, int code, const char *message, int on)) /* of the calls from here; 0: none */    \
    F(void, stub_on_failure, (void (*hook)(void))) /* is called where a call fails; null: none */                      \
    F(long, stub_calls, (void)) /* that could have failed, since the last stub_fail_at */                              \
    F(long, stub_live, (int kind))                                                                                     \
    F(void, stub_version, (const char *version))                                                                       \
    F(void, stub_no_api, (int none))                                                                                   \
    F(void, stub_cuda, (int there))                                                                                    \
    F(void, stub_wait, (int wait, int run)) /* a run waits until it is told to stop: the run-th from here, 0: all */   \
                                            /* 0: none does. 1: it stops, and tells so. 2: it goes on, and succeeds */ \
    F(void, stub_sleep, (int milliseconds))                                                                            \
    F(void, stub_spoil, (int how)) /* 1: salience has a NaN, 2: it is negative, 3: the match is infinite */            \
    F(int, stub_waiting, (void)) /* runs that wait */                                                                  \
    F(int, stub_threads, (void)) /* of the last session options, -1: never set */

#endif
