#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>

#include "image_io.h"

typedef struct {
    struct jpeg_error_mgr manager; /* first: libjpeg knows this part alone */
    jmp_buf jump;
    char why[JMSG_LENGTH_MAX];
} jpeg_faults;

static void on_error(j_common_ptr jpeg) {
    jpeg_faults *faults = (jpeg_faults *)jpeg->err;
    faults->manager.format_message(jpeg, faults->why);
    longjmp(faults->jump, 1);
}

/* libjpeg only warns of a file that is cut off, and fills the rest with gray. */
static void on_message(j_common_ptr jpeg, int level) {
    const int code = jpeg->err->msg_code;
    if (level < 0 && (code == JWRN_JPEG_EOF || code == JWRN_HIT_MARKER)) on_error(jpeg);
}

static unsigned bytes2(const uint8_t *at, int big) {
    return big ? at[0] * 256u + at[1] : at[1] * 256u + at[0];
}

static uint32_t bytes4(const uint8_t *at, int big) {
    return big ? bytes2(at, 1) * 65536u + bytes2(at + 2, 1) : bytes2(at + 2, 0) * 65536u + bytes2(at, 0);
}

/* Finds the orientation that a camera wrote into the EXIF data, 1 to 8; 1 where there is none. */
static unsigned orientation(const uint8_t *data, size_t size) {
    if (size < 14 || memcmp(data, "Exif\0\0", 6)) return 1;
    const uint8_t *tiff = data + 6;
    const int big = tiff[0] == 'M';
    size -= 6;
    const size_t start = bytes4(tiff + 4, big);
    if (bytes2(tiff + 2, big) != 42 || start > size - 2) return 1;
    const unsigned entries = bytes2(tiff + start, big);
    for (size_t i = 0; i < entries && start + 2 + 12 * (i + 1) <= size; ++i) {
        const uint8_t *entry = tiff + start + 2 + 12 * i;
        const unsigned value = bytes2(entry + 8, big);
        if (bytes2(entry, big) == 0x0112 && bytes2(entry + 2, big) == 3) return value >= 1 && value <= 8 ? value : 1;
    }
    return 1;
}

/* Turns an image upright. */
static int turn(rgb_image *image, unsigned how, const char *path, pnp_ovss_error *error) {
    const uint32_t width = image->width, height = image->height;
    rgb_image turned;
    if (how == 1) return PNP_OVSS_OK;
    if (allocate(&turned, how < 5 ? width : height, how < 5 ? height : width, path, error)) return error->code;
    for (uint32_t y = 0; y < turned.height; ++y)
        for (uint32_t x = 0; x < turned.width; ++x) {
            uint32_t column = how < 5 ? x : y, row = how < 5 ? y : x;
            if (how == 2 || how == 3 || how == 7 || how == 8) column = width - 1 - column;
            if (how == 3 || how == 4 || how == 6 || how == 7) row = height - 1 - row;
            memcpy(turned.rgb + ((size_t)y * turned.width + x) * 3, image->rgb + ((size_t)row * width + column) * 3, 3);
        }
    free(image->rgb);
    *image = turned;
    return PNP_OVSS_OK;
}

/* Decodes to RGB. `turned` is how the image must be turned. */
static int decode(FILE *file, const char *path, struct jpeg_decompress_struct *jpeg, rgb_image *image,
                  unsigned *turned, pnp_ovss_error *error) {
    jpeg_faults *faults = (jpeg_faults *)jpeg->err;
    if (setjmp(faults->jump)) return damaged(path, faults->why, error);
    jpeg_create_decompress(jpeg);
    jpeg_stdio_src(jpeg, file);
    jpeg_save_markers(jpeg, JPEG_APP0 + 1, 0xFFFF);
    jpeg_read_header(jpeg, TRUE);
    if (allocate(image, jpeg->image_width, jpeg->image_height, path, error)) return error->code;
    for (jpeg_saved_marker_ptr marker = jpeg->marker_list; marker && *turned == 1; marker = marker->next)
        *turned = orientation(marker->data, marker->data_length);
    jpeg->out_color_space = JCS_RGB;
    jpeg_start_decompress(jpeg);
    while (jpeg->output_scanline < jpeg->output_height) {
        JSAMPROW row = image->rgb + (size_t)jpeg->output_scanline * image->width * 3;
        jpeg_read_scanlines(jpeg, &row, 1);
    }
    return PNP_OVSS_OK;
}

int read_jpeg(FILE *file, const char *path, rgb_image *image, pnp_ovss_error *error) {
    struct jpeg_decompress_struct jpeg;
    jpeg_faults faults;
    unsigned turned = 1;
    memset(&jpeg, 0, sizeof jpeg);
    jpeg.err = jpeg_std_error(&faults.manager);
    faults.manager.error_exit = on_error;
    faults.manager.emit_message = on_message;
    const int code = decode(file, path, &jpeg, image, &turned, error);
    jpeg_destroy_decompress(&jpeg);
    return code ? code : turn(image, turned, path, error);
}
