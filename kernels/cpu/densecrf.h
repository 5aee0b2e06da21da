/* Mean-field inference in a fully connected CRF with a Gaussian and a bilateral kernel, Potts
   compatibility and symmetric normalization. Source: Kraehenbuehl and Koltun, Efficient Inference in Fully
   Connected CRFs with Gaussian Edge Potentials, 2011. */
#ifndef PNP_DENSECRF_H
#define PNP_DENSECRF_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Parameters of the CRF. A kernel whose weight (compat) is 0 is left out. */
typedef struct {
    int64_t memory;                        /* limit of allocated bytes; 0 sets no limit */
    int32_t iterations;                    /* iterations of the mean field, from 0 */
    int32_t threads;                       /* threads for this image, from 1 */
    float gaussian_sxy, gaussian_compat;   /* deviation in pixels, above 0; weight, from 0 */
    float bilateral_sxy, bilateral_srgb;   /* deviations in pixels and in levels of color, above 0 */
    float bilateral_compat;                /* weight, from 0 */
} pnp_densecrf_params;

/* Seconds that each step of a call took, size of the lattices, and peak of memory. A sweep is slice, softmax
   and splat. The first sweep slices nothing, and the last one, after all iterations, splats nothing. */
typedef struct {
    double read, build, first, sweep, blur, last, write;
    int64_t vertices;   /* vertices of both lattices */
    int64_t peak_bytes; /* most bytes that were allocated at once */
} pnp_densecrf_stats;

enum {
    PNP_DENSECRF_OK = 0,
    PNP_DENSECRF_BAD_ARGUMENT = 1, /* a size or parameter is out of range, or a pointer is null */
    PNP_DENSECRF_NOT_FINITE = 2,   /* a probability is NaN, infinite or negative */
    PNP_DENSECRF_OUT_OF_RANGE = 3, /* deviations are too small for float32 to tell neighbors apart */
    PNP_DENSECRF_NO_MEMORY = 4     /* memory ran out, or the limit was reached */
};

/* Computes the marginals of an image. Thread-safe. Up to 256 MiB stay allocated for the next call.
     image          uint8 [height][width][3]
     probabilities  float [labels][height][width], unary, finite and at least 0
     marginals      float [labels][height][width]; may be the array of the probabilities
     stats          may be null
   Returns one of the codes above. Unless that is PNP_DENSECRF_OK, marginals are not written. */
__attribute__((visibility("default")))
int32_t pnp_densecrf(const uint8_t *image, const float *probabilities, float *marginals, int32_t width,
                     int32_t height, int32_t labels, const pnp_densecrf_params *params,
                     pnp_densecrf_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
