// Runs CUDA kernels on the CPU: each CUDA thread of a block is a fiber, and a block's fibers take turns
// at barriers and shuffles, in an order that changes from turn to turn. Shared memory is filled with NaNs
// before each block. Subnormal numbers are taken for zero, as in what CuPy compiles (-ftz=true), where the
// processor can. Include it before the source of the kernels.
#pragma once

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#ifdef __SSE__
#include <xmmintrin.h>
#endif

#include <algorithm>
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

constexpr size_t WARP_LANES = 32;

enum class State { ready, at_barrier, at_shuffle, done };

struct Fiber {
    ucontext_t context;
    std::vector<char> stack = std::vector<char>(64 << 10);
    State state;
    Dimensions index;
    unsigned shuffles;  // so far: a lane may be at its next while others still read what it said in the last
    uint64_t said[2];
};

static ucontext_t scheduler;
static std::vector<Fiber> fibers;
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

static void wait(State state) {
    running->state = state;
    Fiber *own = running;
    swapcontext(&own->context, &scheduler);
}

static uint64_t shuffle(uint64_t bits, size_t from) {
    const unsigned turn = running->shuffles++ % 2;
    const size_t lane = size_t(running - fibers.data());
    running->said[turn] = bits;
    wait(State::at_shuffle);
    return fibers[lane / WARP_LANES * WARP_LANES + from].said[turn];
}

static void resume(Fiber &fiber) {
    running = &fiber;
    threadIdx = fiber.index;
    swapcontext(&scheduler, &fiber.context);
}

static size_t count(State state, size_t first, size_t end) {
    size_t found = 0;
    for (size_t i = first; i < end; i++) found += fibers[i].state == state;
    return found;
}

static void release(State state, size_t first, size_t end, const char *place) {
    const size_t waiting = count(state, first, end);
    if (waiting != end - first) {
        fprintf(stderr, "%zu threads wait at a %s that %zu do not come to\n", waiting, place, end - first - waiting);
        abort();
    }
    for (size_t i = first; i < end; i++) fibers[i].state = State::ready;
}

static void run_block() {
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
                fiber.shuffles = 0;
            }
    for (int turn = 0; count(State::done, 0, fibers.size()) < fibers.size(); turn++) {
        for (size_t i = 0; i < fibers.size(); i++) {
            Fiber &fiber = fibers[turn % 2 ? fibers.size() - 1 - i : i];
            if (fiber.state == State::ready) resume(fiber);
        }
        bool shuffled = false;
        for (size_t first = 0; first < fibers.size(); first += WARP_LANES) {
            const size_t end = std::min(first + WARP_LANES, fibers.size());
            if (count(State::at_shuffle, first, end) == 0) continue;
            release(State::at_shuffle, first, end, "shuffle");
            shuffled = true;
        }
        if (!shuffled && count(State::at_barrier, 0, fibers.size()) > 0)
            release(State::at_barrier, 0, fibers.size(), "barrier");
    }
}

struct WithoutSubnormals {
#ifdef __SSE__
    const unsigned before = _mm_getcsr();
    WithoutSubnormals() { _mm_setcsr(before | 0x8040); }
    ~WithoutSubnormals() { _mm_setcsr(before); }
#endif
};

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
    fibers.resize(threads);
    const WithoutSubnormals mode;
    for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++) run_block();
}

}  // namespace cuda_on_cpu

static inline void __syncthreads() { cuda_on_cpu::wait(cuda_on_cpu::State::at_barrier); }

static inline float __uint_as_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t __float_as_uint(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline double __shfl_xor_sync(uint32_t, double value, int step) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits = cuda_on_cpu::shuffle(bits, (threadIdx.x % 32) ^ size_t(step));
    memcpy(&value, &bits, sizeof bits);
    return value;
}

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

template <class T>
static inline T atomicMin(T *address, T value) {
    const T old = *address;
    *address = std::min(old, value);
    return old;
}

template <class T>
static inline T atomicMax(T *address, T value) {
    const T old = *address;
    *address = std::max(old, value);
    return old;
}

#define LAUNCHER(kernel)                                                                         \
    extern "C" void launch_##kernel(unsigned blocks, unsigned threads, void **arguments) {       \
        cuda_on_cpu::launch(kernel, blocks, threads, arguments);                                 \
    }
