#include "colors.h"

#include <string.h>

static const uint8_t FIRST[][3] = {
    {0xe6, 0x19, 0x4b}, {0x3c, 0xb4, 0x4b}, {0x43, 0x63, 0xd8}, {0xf5, 0x82, 0x31}, {0x91, 0x1e, 0xb4},
    {0x42, 0xd4, 0xf4}, {0xf0, 0x32, 0xe6}, {0xff, 0xe1, 0x19}, {0x46, 0x99, 0x90}, {0x9a, 0x63, 0x24},
    {0xbf, 0xef, 0x45}, {0xdc, 0xbe, 0xff}, {0x80, 0x00, 0x00}, {0xaa, 0xff, 0xc3}, {0x80, 0x80, 0x00},
    {0xff, 0xd8, 0xb1}, {0x00, 0x00, 0x75}, {0xfa, 0xbe, 0xd4},
};

static double fraction(double value) {
    return value - (double)(long)value + (value < 0);
}

static double channel(double low, double high, double hue) {
    hue = fraction(hue);
    if (hue < 1.0 / 6) return low + (high - low) * hue * 6;
    if (hue < 0.5) return high;
    if (hue < 2.0 / 3) return low + (high - low) * (2.0 / 3 - hue) * 6;
    return low;
}

/* After the first colors: hues a golden angle apart, with changing lightness. */
void class_color(unsigned number, uint8_t rgb[3]) {
    const unsigned listed = sizeof FIRST / sizeof FIRST[0];
    if (number < listed) {
        memcpy(rgb, FIRST[number], 3);
        return;
    }
    const double lightness[] = {0.45, 0.65, 0.55}, saturation = 0.75;
    const double hue = fraction((number - listed) * 0.618033988749895), light = lightness[(number - listed) % 3];
    const double high = light <= 0.5 ? light * (1 + saturation) : light + saturation - light * saturation;
    for (int i = 0; i < 3; ++i)
        rgb[i] = (uint8_t)(255 * channel(2 * light - high, high, hue + (1 - i) / 3.0) + 0.5);
}
