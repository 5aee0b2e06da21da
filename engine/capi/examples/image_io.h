/* Images in files: PPM always, PNG and JPEG where libpng and libjpeg were found. A file that is no image, or is cut off
   or damaged, is an error like the library's. */
#ifndef IMAGE_IO_H
#define IMAGE_IO_H

#include <pnp_ovss.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define MOST_PIXELS 50000000u /* of an image; the library takes no more */

#ifdef HAVE_PNG
#define LABELS_SUFFIX ".png"
#define COLORS_SUFFIX ".png"
#else
#define LABELS_SUFFIX ".pgm"
#define COLORS_SUFFIX ".ppm"
#endif

typedef struct {
    uint32_t width, height;
    uint8_t *rgb; /* [height][width][3], of malloc */
} rgb_image;

/* Each function returns PNP_OVSS_OK, or another code and tells in `error`. */

/* Reads an image, of the kind that its first bytes tell, and turns it upright. The caller frees `rgb`. */
int read_image(const char *path, rgb_image *image, pnp_ovss_error *error);

/* Writes labels in gray, in 16 bits if `wide`, and colors, as PNG or PGM and PPM. */
int write_labels(const char *path, const uint16_t *labels, uint32_t width, uint32_t height, int wide,
                 pnp_ovss_error *error);
int write_colors(const char *path, const rgb_image *image, pnp_ovss_error *error);

/* For the readers and writers of one kind each. */
int fail(pnp_ovss_error *error, int code, const char *cure, const char *format, ...);
int allocate(rgb_image *image, uint64_t width, uint64_t height, const char *path, pnp_ovss_error *error);
int damaged(const char *path, const char *why, pnp_ovss_error *error);
int read_png(FILE *file, const char *path, rgb_image *image, pnp_ovss_error *error);
int read_jpeg(FILE *file, const char *path, rgb_image *image, pnp_ovss_error *error);

/* Writes rows of gray or RGB. Samples of 16 bits have their higher byte first. Returns whether it succeeded. */
int write_png(FILE *file, const uint8_t *samples, uint32_t width, uint32_t height, int channels, int bytes);

#endif
