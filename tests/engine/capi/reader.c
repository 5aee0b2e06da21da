/* Reads an image by the reader of the example, and writes it again; or tells why it cannot. */
#include <stdlib.h>

#include "image_io.h"

int main(int argc, char **argv) {
    rgb_image image;
    pnp_ovss_error error = {sizeof error, 0, "", ""};
    if (argc != 3) return 2;
    if (!read_image(argv[1], &image, &error)) write_colors(argv[2], &image, &error);
    free(image.rgb);
    if (!error.code) return 0;
    return fprintf(stderr, "segment_image: %s\n%s\n", error.cause, error.cure), 1;
}
