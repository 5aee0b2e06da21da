/* From class maps to labels: threshold, background, upsampling, blur, scaling, softmax, labels. Steps 6 to 9 and 11
   of the method (PnP-OVSS, Luo et al., CVPR 2024). All functions are thread-safe. */
#ifndef PNP_REFINE_H
#define PNP_REFINE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PNP_REFINE_API __attribute__((visibility("default")))

/* Upsampling and blur are linear and separable: a channel is the product of a matrix of rows, a class map and a
   matrix of columns. The background is constant in each cell of the grid (a patch) and in each gap between two
   cells, 2 * grid - 1 of them along a line, so that its blur is such a product too. */
typedef struct {
    int32_t maps, grid_height, grid_width; /* class maps [maps][grid_height][grid_width] */
    int32_t height, width;                 /* of the image, in pixels */
    double threshold;                      /* a map is 0 below this part of its range, 0 to 1 */
    const double *rows, *columns;          /* [height][grid_height], [width][grid_width] */
    const double *cell_rows, *cell_columns; /* [height][2 * grid_height - 1], [width][2 * grid_width - 1], of
                                               the background; both null where there is none */
} pnp_refine_params;

enum {
    PNP_REFINE_OK = 0,
    PNP_REFINE_BAD_ARGUMENT = 1, /* a size or parameter is out of range, or a pointer is null */
    PNP_REFINE_NO_MEMORY = 2
};

/* Computes the matrix that upsamples a line of the grid to `size` pixels, bilinearly with aligned corners, and
   blurs it by a Gaussian of `sigma` pixels, truncated at 4 sigma and reflected at the ends.
     matrix  double [size][grid] */
PNP_REFINE_API int32_t pnp_refine_upsampling(int32_t grid, int32_t size, double sigma, double *matrix);

/* Computes the matrix that tells in which cell or gap each of `size` pixels lies, blurred as above.
     matrix  double [size][2 * grid - 1] */
PNP_REFINE_API int32_t pnp_refine_cells(int32_t grid, int32_t size, double sigma, double *matrix);

/* The functions below take channels: the background first, where there is one, then one for each class map. Each is
   scaled to [0, 1]; one that is constant up to rounding is 0. The maps must be finite. */

/* Computes the channels, float [channels][height][width]. */
PNP_REFINE_API int32_t pnp_refine_channels(const float *maps, const pnp_refine_params *params, float *channels);

/* Computes the softmax over the channels, float [channels][height][width]. */
PNP_REFINE_API int32_t pnp_refine_probabilities(const float *maps, const pnp_refine_params *params,
                                                float *probabilities);

/* Labels each pixel, uint16 [height][width], with the number of its largest channel; among equals, the first.
   It takes memory for some rows of pixels only.
     numbers  uint16 [channels] */
PNP_REFINE_API int32_t pnp_refine_labels(const float *maps, const pnp_refine_params *params,
                                         const uint16_t *numbers, uint16_t *labels);

/* Enlarges probabilities, float [channels][from_height][from_width], bilinearly, with pixels as areas (the corners
   of the images are aligned, not the centers of the corner pixels), and labels each pixel, uint16
   [height][width], with the number of the largest; among equals, the first. Of equal sizes it only labels.
     numbers  uint16 [channels] */
PNP_REFINE_API int32_t pnp_refine_enlarged_labels(const float *probabilities, int32_t channels,
                                                  int32_t from_height, int32_t from_width,
                                                  const uint16_t *numbers, int32_t height, int32_t width,
                                                  uint16_t *labels);

#ifdef __cplusplus
}
#endif
#endif
