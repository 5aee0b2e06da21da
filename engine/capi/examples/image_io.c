#include "image_io.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

int fail(pnp_ovss_error *error, int code, const char *cure, const char *format, ...) {
    va_list values;
    va_start(values, format);
    vsnprintf(error->cause, sizeof error->cause, format, values);
    va_end(values);
    snprintf(error->cure, sizeof error->cure, "%s", cure);
    return error->code = code;
}

int damaged(const char *path, const char *why, pnp_ovss_error *error) {
    return fail(error, PNP_OVSS_BAD_INPUT, "give another file", "%s is cut off or damaged: %s", path, why);
}

int allocate(rgb_image *image, uint64_t width, uint64_t height, const char *path, pnp_ovss_error *error) {
    if (!width || !height || width > MOST_PIXELS || height > MOST_PIXELS || width * height > MOST_PIXELS)
        return fail(error, PNP_OVSS_BAD_INPUT, "an image has 1 to 50,000,000 pixels", "%s has %llu x %llu pixels", path,
                    (unsigned long long)width, (unsigned long long)height);
    image->width = (uint32_t)width;
    image->height = (uint32_t)height;
    image->rgb = malloc((size_t)width * (size_t)height * 3);
    if (!image->rgb) return fail(error, PNP_OVSS_NO_MEMORY, "give a smaller image", "no memory for %s", path);
    return PNP_OVSS_OK;
}

/* Reads a number of a PNM header, and the one character after it; -1 if there is none, or it is huge. */
static long long header_number(FILE *file) {
    long long value = -1;
    int c = getc(file);
    while (isspace(c) || c == '#') {
        if (c == '#')
            while (c != '\n' && c != EOF) c = getc(file);
        else
            c = getc(file);
    }
    for (; isdigit(c) && value <= MOST_PIXELS; c = getc(file)) value = (value < 0 ? 0 : value * 10) + (c - '0');
    return isspace(c) ? value : -1;
}

/* Reads a PPM after its "P6". */
static int read_ppm(FILE *file, const char *path, rgb_image *image, pnp_ovss_error *error) {
    const long long width = header_number(file), height = header_number(file), highest = header_number(file);
    if (width < 0 || height < 0 || highest < 0) return damaged(path, "it has no header of a PPM", error);
    if (highest != 255)
        return fail(error, PNP_OVSS_BAD_INPUT, "convert it to 8 bits: the highest value must be 255",
                    "the highest value of %s is %lld", path, highest);
    if (allocate(image, (uint64_t)width, (uint64_t)height, path, error)) return error->code;
    if (fread(image->rgb, (size_t)width * 3, image->height, file) != image->height)
        return damaged(path, "it ends too early", error);
    return PNP_OVSS_OK;
}

static int read_any(FILE *file, const char *path, rgb_image *image, pnp_ovss_error *error) {
    uint8_t mark[2] = {0, 0};
    if (fread(mark, 1, 2, file) != 2) return damaged(path, "it ends too early", error);
    if (mark[0] == 'P' && mark[1] == '6') return read_ppm(file, path, image, error);
    rewind(file);
    if (mark[0] == 0x89 && mark[1] == 'P') {
#ifdef HAVE_PNG
        return read_png(file, path, image, error);
#else
        return fail(error, PNP_OVSS_BAD_INPUT, "build it where libpng is installed, or convert the image to PPM",
                    "%s is a PNG, and this program was built without libpng", path);
#endif
    }
    if (mark[0] == 0xFF && mark[1] == 0xD8) {
#ifdef HAVE_JPEG
        return read_jpeg(file, path, image, error);
#else
        return fail(error, PNP_OVSS_BAD_INPUT, "build it where libjpeg is installed, or convert the image to PPM",
                    "%s is a JPEG, and this program was built without libjpeg", path);
#endif
    }
    return fail(error, PNP_OVSS_BAD_INPUT, "convert it, for example by ImageMagick: convert IMAGE image.ppm",
                "%s is neither PPM (P6), PNG nor JPEG", path);
}

int read_image(const char *path, rgb_image *image, pnp_ovss_error *error) {
    FILE *file = fopen(path, "rb");
    image->rgb = NULL;
    if (!file)
        return fail(error, PNP_OVSS_BAD_INPUT, "give a file that can be read", "%s: %s", path, strerror(errno));
    const int code = read_any(file, path, image, error);
    fclose(file);
    if (code) {
        free(image->rgb);
        image->rgb = NULL;
    }
    return code;
}

/* Writes rows of samples, and removes what cannot be finished. */
static int write_samples(const char *path, const uint8_t *samples, uint32_t width, uint32_t height, int channels,
                         int bytes, pnp_ovss_error *error) {
    FILE *file = fopen(path, "wb");
    int done = 0;
    if (file) {
#ifdef HAVE_PNG
        done = write_png(file, samples, width, height, channels, bytes);
#else
        fprintf(file, "P%d\n%lu %lu\n%d\n", channels == 3 ? 6 : 5, (unsigned long)width, (unsigned long)height,
                bytes == 2 ? 65535 : 255);
        done = fwrite(samples, (size_t)width * (size_t)(channels * bytes), height, file) == height;
#endif
        if (fclose(file)) done = 0;
        if (!done) remove(path);
    }
    if (done) return PNP_OVSS_OK;
    return fail(error, PNP_OVSS_FAILED, "give another name with -o", "%s cannot be written: %s", path, strerror(errno));
}

int write_labels(const char *path, const uint16_t *labels, uint32_t width, uint32_t height, int wide,
                 pnp_ovss_error *error) {
    const size_t count = (size_t)width * height;
    uint8_t *samples = malloc(count * 2);
    if (!samples) return fail(error, PNP_OVSS_NO_MEMORY, "give a smaller image", "no memory for %s", path);
    for (size_t i = 0; i < count; ++i) {
        if (wide) {
            samples[2 * i] = (uint8_t)(labels[i] >> 8);
            samples[2 * i + 1] = (uint8_t)(labels[i] & 255);
        } else {
            samples[i] = (uint8_t)labels[i];
        }
    }
    const int code = write_samples(path, samples, width, height, 1, wide ? 2 : 1, error);
    free(samples);
    return code;
}

int write_colors(const char *path, const rgb_image *image, pnp_ovss_error *error) {
    return write_samples(path, image->rgb, image->width, image->height, 3, 1, error);
}
