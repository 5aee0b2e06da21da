// Helpers of all kernels. The kernels are one source: this file, then the others that `source` in kernels.py
// lists. It includes no headers, so that NVRTC, nvcc and a C++ compiler take it. A grid of any size covers
// all items; a block has at most BLOCK threads, in whole warps.

#define BLOCK 256
#define WARP 32
#define ALL_LANES 0xFFFFFFFFu
#define INFINITE __uint_as_float(0x7F800000u)

typedef long long Index;
typedef unsigned short Half;  // the bits of a float16

// A thread computes the items first_item(), first_item() + next_items(), ...
static __device__ Index first_item() { return (Index)blockIdx.x * blockDim.x + threadIdx.x; }
static __device__ Index next_items() { return (Index)gridDim.x * blockDim.x; }

static __device__ float to_float(float value) { return value; }

// Converts a float16 to a float32 exactly.
static __device__ float to_float(Half half) {
    const unsigned int sign = (unsigned int)(half & 0x8000) << 16, rest = half & 0x7FFF;
    if (rest >= 0x7C00) return __uint_as_float(sign | 0x7F800000u | (rest & 0x3FF) << 13);  // inf, NaN
    // A subnormal is converted as an integer: its bits as a float would be flushed to zero (-ftz=true).
    if (rest < 0x400) return __uint_as_float(sign | __float_as_uint((float)rest * 5.9604644775390625e-8f));
    // The bits, shifted, are the float32 up to the bias of the exponent.
    return __uint_as_float(sign | __float_as_uint(__uint_as_float(rest << 13) * 5.192296858534828e33f));
}

// Converts a float32 to a float64 exactly; a plain conversion flushes a subnormal to zero (-ftz=true).
static __device__ double to_double(float value) {
    const unsigned int bits = __float_as_uint(value), rest = bits & 0x7FFFFFFFu;
    if (rest >= 0x800000u) return value;
    const double magnitude = (double)rest * 1.401298464324817e-45;
    return bits == rest ? magnitude : -magnitude;
}

// Reduces low and high to the least and the largest value of all threads of the block, in every thread. Each
// thread of the block must call it. They are float64 as float32 would be flushed to zero where it is subnormal.
static __device__ void reduce_extent(double &low, double &high) {
    __shared__ double lows[BLOCK / WARP], highs[BLOCK / WARP];
    for (int step = WARP / 2; step > 0; step /= 2) {
        low = fmin(low, __shfl_xor_sync(ALL_LANES, low, step));
        high = fmax(high, __shfl_xor_sync(ALL_LANES, high, step));
    }
    __syncthreads();  // other threads may still read the last call's values
    if (threadIdx.x % WARP == 0) {
        lows[threadIdx.x / WARP] = low;
        highs[threadIdx.x / WARP] = high;
    }
    __syncthreads();
    for (unsigned int warp = 0; warp < blockDim.x / WARP; warp++) {
        low = fmin(low, lows[warp]);
        high = fmax(high, highs[warp]);
    }
}
