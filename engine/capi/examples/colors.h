#ifndef COLORS_H
#define COLORS_H

#include <stdint.h>

/* Chooses the color of a class, by its number from 0; the same as the Python engine does. */
void class_color(unsigned number, uint8_t rgb[3]);

#endif
