// Runs CUDA kernels on the CPU: each CUDA thread of a block is a fiber, and a block's fibers take turns
// at barriers, in an order that changes from turn to turn. Shared memory is filled with NaNs before each
// block. Include it before the source of the kernels.
#pragma once

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <tuple>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static __attribute__((section("cuda_shared")))

struct Dimensions {
    unsigned x = 1, y = 1, z = 1;
};
static Dimensions gridDim, blockDim, blockIdx, threadIdx;

namespace cuda_on_cpu {

enum class State { ready, at_barrier, done };

struct Fiber {
    ucontext_t context;
    std::vector<char> stack = std::vector<char>(64 << 10);
    State state;
    Dimensions index;
};

static ucontext_t scheduler;
static Fiber *running;
static void (*body)(void *);
static void *body_arguments;

// One variable at least has to be there for the linker to name where the section begins and ends.
static __attribute__((section("cuda_shared"), used)) char some_shared[8];
extern "C" char __start_cuda_shared[], __stop_cuda_shared[];

static void start() {
    body(body_arguments);
    running->state = State::done;
    swapcontext(&running->context, &scheduler);
}

static void wait() {
    running->state = State::at_barrier;
    Fiber *own = running;
    swapcontext(&own->context, &scheduler);
}

static void resume(Fiber &fiber) {
    running = &fiber;
    threadIdx = fiber.index;
    fiber.state = State::ready;
    swapcontext(&scheduler, &fiber.context);
}

static void run_block(std::vector<Fiber> &fibers) {
    memset(__start_cuda_shared, 0xff, size_t(__stop_cuda_shared - __start_cuda_shared));
    size_t number = 0;
    for (unsigned z = 0; z < blockDim.z; z++)
        for (unsigned y = 0; y < blockDim.y; y++)
            for (unsigned x = 0; x < blockDim.x; x++) {
                Fiber &fiber = fibers[number++];
                getcontext(&fiber.context);
                fiber.context.uc_stack = {fiber.stack.data(), 0, fiber.stack.size()};
                fiber.context.uc_link = nullptr;
                makecontext(&fiber.context, start, 0);
                fiber.index.x = x, fiber.index.y = y, fiber.index.z = z;
                fiber.state = State::ready;
            }
    for (int turn = 0;; turn++) {
        size_t waiting = 0, done = 0;
        for (size_t i = 0; i < fibers.size(); i++) {
            Fiber &fiber = fibers[turn % 2 ? fibers.size() - 1 - i : i];
            resume(fiber);
            waiting += fiber.state == State::at_barrier;
            done += fiber.state == State::done;
        }
        if (waiting == 0) return;
        if (done != 0) {
            fprintf(stderr, "%zu threads wait at a barrier that %zu have passed by\n", waiting, done);
            abort();
        }
    }
}

template <class... Arguments>
struct Call {
    void (*kernel)(Arguments...);
    void **arguments;

    template <size_t... I>
    void unpack(std::index_sequence<I...>) {
        kernel(*static_cast<Arguments *>(arguments[I])...);
    }
    static void run(void *own) { static_cast<Call *>(own)->unpack(std::index_sequence_for<Arguments...>()); }
};

template <class... Arguments>
void launch(void (*kernel)(Arguments...), unsigned blocks, unsigned threads, void **arguments) {
    Call<Arguments...> call{kernel, arguments};
    body = Call<Arguments...>::run;
    body_arguments = &call;
    gridDim.x = blocks;
    blockDim.x = threads;
    std::vector<Fiber> fibers(threads);
    for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++) run_block(fibers);
}

}  // namespace cuda_on_cpu

static inline void __syncthreads() { cuda_on_cpu::wait(); }

static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }

template <class T>
static inline T atomicAdd(T *address, T value) {
    const T old = *address;
    *address += value;
    return old;
}

template <class T>
static inline T atomicCAS(T *address, T expected, T value) {
    const T old = *address;
    if (old == expected) *address = value;
    return old;
}

#define LAUNCHER(kernel)                                                                         \
    extern "C" void launch_##kernel(unsigned blocks, unsigned threads, void **arguments) {       \
        cuda_on_cpu::launch(kernel, blocks, threads, arguments);                                 \
    }
