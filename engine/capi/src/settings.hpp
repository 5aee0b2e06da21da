// Settings of a segmentation: what the caller asked for, in full. engine/settings.py has the same fields.
#pragma once

#include <cstdint>
#include <string>

#include "json.hpp"
#include "pnp_ovss.h"

namespace pnp {

enum class DropMode {
    pixels = PNP_OVSS_DROP_PIXELS,
    tokens = PNP_OVSS_DROP_TOKENS,
    attention = PNP_OVSS_DROP_ATTENTION
};
enum class Background {
    automatic = PNP_OVSS_BACKGROUND_AUTO,
    always = PNP_OVSS_BACKGROUND_ALWAYS,
    never = PNP_OVSS_BACKGROUND_NEVER
};

// The defaults are those of the preset "paper".
struct Settings {
    int passes = 4;
    bool halving = true;  // each pass drops half of the patches that are left
    int drop_count = 0;   // else that many
    DropMode drop_mode = DropMode::pixels;
    double threshold = 0.15;
    double blur = 0.05;
    Background background = Background::always;
    bool crf = true;
    int refine_side = 0;  // 0: that of the image
    double match_threshold = 0.5;
    int first_pass_weight = 1;
    bool join_words = false;
    bool sum_last_class = false;
    bool match_present = false;  // whether only classes are looked for that match the image
    uint64_t crf_memory = 0;     // bytes; 0: no limit

    // Reads the settings that a manifest recommends. Throws JsonError, or a Failure that the values have no use.
    static Settings read(const Json &json);

    // Returns a preset, "paper" or "released". Throws a Failure where there is none of that name.
    static Settings preset(const std::string &name);

    // Returns these settings with what a caller gives in place of them; `given` may be null. Throws a Failure.
    Settings with(const pnp_ovss_settings *given) const;

    // Writes all fields into a struct, none of them 0, up to the caller's `struct_size`.
    void write(pnp_ovss_settings *out) const;
};

}  // namespace pnp
