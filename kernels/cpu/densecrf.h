/* Mean-field inference in a fully connected CRF with a Gaussian and a bilateral kernel, Potts
   compatibility and symmetric normalization (Kraehenbuehl and Koltun, 2011). */
#ifndef PNP_DENSECRF_H
#define PNP_DENSECRF_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Deviations (sxy in pixels, srgb in levels of color) are above 0; a kernel whose weight (compat) is 0
   is left out. threads: to use inside this one image. memory: the most bytes to take, 0 for no limit. */
typedef struct {
    int64_t memory;
    int32_t iterations;
    int32_t threads;
    float gaussian_sxy, gaussian_compat;
    float bilateral_sxy, bilateral_srgb, bilateral_compat;
} pnp_densecrf_params;

/* Where the time went, in seconds. Slice, softmax and splat are one loop (sweep) but in the first
   iteration, which has nothing to slice yet, and after the last, which splats no more. */
typedef struct {
    double read, build, first, sweep, blur, last, write;
    int64_t vertices; /* of both lattices */
    int64_t peak_bytes;
} pnp_densecrf_stats;

enum {
    PNP_DENSECRF_OK = 0,
    PNP_DENSECRF_BAD_ARGUMENT = 1, /* a size, a parameter or a null pointer */
    PNP_DENSECRF_NOT_FINITE = 2,   /* a probability is NaN, infinite or negative */
    PNP_DENSECRF_OUT_OF_RANGE = 3, /* deviations so small that float32 cannot tell neighbors */
    PNP_DENSECRF_NO_MEMORY = 4 /* there is none, or no more than was allowed */
};

/* image: uint8 [height][width][3]. probabilities, marginals: float [labels][height][width], which may be
   one and the same. stats may be null. Returns one of the codes above; where that is not
   PNP_DENSECRF_OK, marginals are not written. Thread-safe. Up to 256 MiB of what it allocated stay
   allocated for the next call. */
__attribute__((visibility("default")))
int32_t pnp_densecrf(const uint8_t *image, const float *probabilities, float *marginals, int32_t width,
                     int32_t height, int32_t labels, const pnp_densecrf_params *params,
                     pnp_densecrf_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
