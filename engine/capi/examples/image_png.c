#include <png.h>
#include <stdlib.h>

#include "image_io.h"

/* What must be freed, also when libpng has jumped out of a call, back to where setjmp stands. */
typedef struct {
    png_structp png;
    png_infop info;
    png_bytep *rows;
    uint8_t *rgba;
    char why[128];
} png_work;

static void on_error(png_structp png, png_const_charp message) {
    png_work *work = png_get_error_ptr(png);
    snprintf(work->why, sizeof work->why, "%s", message);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp message) {
    (void)png;
    (void)message;
}

static void point_rows(png_work *work, uint8_t *samples, uint32_t height, size_t stride) {
    work->rows = malloc(height * sizeof *work->rows);
    if (!work->rows) png_error(work->png, "no memory");
    for (uint32_t y = 0; y < height; ++y) work->rows[y] = samples + y * stride;
}

/* Decodes to RGBA, and lays that on white. */
static int decode(FILE *file, const char *path, png_work *work, rgb_image *image, pnp_ovss_error *error) {
    if (setjmp(png_jmpbuf(work->png))) return damaged(path, work->why, error);
    png_init_io(work->png, file);
    png_read_info(work->png, work->info);
    const uint32_t width = png_get_image_width(work->png, work->info);
    const uint32_t height = png_get_image_height(work->png, work->info);
    if (allocate(image, width, height, path, error)) return error->code;
    png_set_expand(work->png);
    png_set_strip_16(work->png);
    png_set_gray_to_rgb(work->png);
    png_set_add_alpha(work->png, 255, PNG_FILLER_AFTER);
    png_set_interlace_handling(work->png);
    png_read_update_info(work->png, work->info);
    if (png_get_rowbytes(work->png, work->info) != (size_t)width * 4) png_error(work->png, "its rows are odd");
    const size_t count = (size_t)width * height;
    work->rgba = malloc(count * 4);
    if (!work->rgba) return fail(error, PNP_OVSS_NO_MEMORY, "give a smaller image", "no memory for %s", path);
    point_rows(work, work->rgba, height, (size_t)width * 4);
    png_read_image(work->png, work->rows);
    for (size_t i = 0; i < count * 3; ++i) {
        const unsigned alpha = work->rgba[i / 3 * 4 + 3];
        const unsigned sum = work->rgba[i / 3 * 4 + i % 3] * alpha + 255 * (255 - alpha) + 128;
        image->rgb[i] = (uint8_t)((sum + (sum >> 8)) >> 8); /* sum / 255 */
    }
    return PNP_OVSS_OK;
}

int read_png(FILE *file, const char *path, rgb_image *image, pnp_ovss_error *error) {
    png_work work = {NULL, NULL, NULL, NULL, "no memory"};
    work.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &work, on_error, on_warning);
    work.info = work.png ? png_create_info_struct(work.png) : NULL;
    const int code = work.info ? decode(file, path, &work, image, error) : damaged(path, work.why, error);
    png_destroy_read_struct(&work.png, &work.info, NULL);
    free(work.rows);
    free(work.rgba);
    return code;
}

static int encode(FILE *file, const png_work *work, const uint8_t *samples, uint32_t width, uint32_t height,
                  int channels, int bytes) {
    const size_t stride = (size_t)width * (size_t)(channels * bytes);
    if (setjmp(png_jmpbuf(work->png))) return 0;
    png_init_io(work->png, file);
    png_set_IHDR(work->png, work->info, width, height, 8 * bytes,
                 channels == 3 ? PNG_COLOR_TYPE_RGB : PNG_COLOR_TYPE_GRAY, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_set_compression_level(work->png, 3);
    png_write_info(work->png, work->info);
    for (uint32_t y = 0; y < height; ++y) png_write_row(work->png, samples + y * stride);
    png_write_end(work->png, work->info);
    return 1;
}

int write_png(FILE *file, const uint8_t *samples, uint32_t width, uint32_t height, int channels, int bytes) {
    png_work work = {NULL, NULL, NULL, NULL, ""};
    work.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &work, on_error, on_warning);
    work.info = work.png ? png_create_info_struct(work.png) : NULL;
    const int done = work.info && encode(file, &work, samples, width, height, channels, bytes);
    png_destroy_write_struct(&work.png, &work.info);
    return done;
}
