/* Bicubic resize of an RGB image, as Pillow up to 12.2 does it, bit for bit. */
#ifndef PNP_RESIZE_H
#define PNP_RESIZE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    PNP_RESIZE_OK = 0,
    PNP_RESIZE_BAD_ARGUMENT = 1, /* a size is out of range, or a pointer is null */
    PNP_RESIZE_NO_MEMORY = 2
};

/* Resizes an image. The kernel is the cubic of Keys with a = -0.5, widened where the image shrinks. Lines are
   resized first, then columns; on strips that are over 100 times as tall as wide and become shorter, columns first.
   Between the two and after them, values are rounded to 8 bits. Thread-safe.
     image   uint8 [height][width][3], with `stride` bytes from a row to the next
     out     uint8 [out_height][out_width][3]
   Returns one of the codes above. Unless that is PNP_RESIZE_OK, out is not written. */
__attribute__((visibility("default")))
int32_t pnp_resize(const uint8_t *image, int64_t stride, int32_t width, int32_t height, uint8_t *out,
                   int32_t out_width, int32_t out_height);

#ifdef __cplusplus
}
#endif
#endif
