#include "settings.hpp"

#include <cmath>
#include <cstdio>

#include "structs.hpp"

namespace pnp {

namespace {

constexpr int MOST_PASSES = 1000;
constexpr int LARGEST_WEIGHT = 1000000;

constexpr size_t FIRST_SIZE = offsetof(pnp_ovss_settings, crf_memory) + sizeof(uint64_t);

Failure out_of_range(const char *field, Word value, const Words &wanted) {
    return bad_input({"the setting ", field, " is ", value}, {"it must be ", wanted.joined()});
}

// Takes a whole number from 1 to `most`; 0 leaves what is there.
void take_count(const char *field, int given, int most, int &out) {
    if (given == 0) return;
    if (given < 1 || given > most)
        throw out_of_range(field, given, {"0, or a whole number from 1 to ", most});
    out = given;
}

// Takes one of the numbers from 1 to `most`, which have names; 0 leaves what is there.
template <class Choice>
void take_choice(const char *field, int given, int most, const char *names, Choice &out) {
    if (given < 0 || given > most) throw out_of_range(field, given, {"0, ", names});
    if (given) out = Choice(given);
}

std::string shown(double number) {
    char text[32];
    std::snprintf(text, sizeof text, "%g", number);
    return text;
}

void take_fraction(const char *field, double given, double &out) {
    if (given == 0) return;
    if (given == PNP_OVSS_ZERO) {
        out = 0;
        return;
    }
    if (!(given > 0 && given <= 1))
        throw out_of_range(field, shown(given), "0, PNP_OVSS_ZERO, or a number above 0 and up to 1");
    out = given;
}

void take_flag(const char *field, int given, bool &out) {
    if (given == 0) return;
    if (given != PNP_OVSS_YES && given != PNP_OVSS_NO)
        throw out_of_range(field, given, "0, PNP_OVSS_YES or PNP_OVSS_NO");
    out = given == PNP_OVSS_YES;
}

// Takes a whole number, or PNP_OVSS_ZERO for none; 0 leaves what is there.
void take_number(const char *field, int given, const char *wanted, int &out) {
    if (given < PNP_OVSS_ZERO) throw out_of_range(field, given, wanted);
    if (given != 0) out = given == PNP_OVSS_ZERO ? 0 : given;
}

double explicit_fraction(double value) { return value == 0 ? PNP_OVSS_ZERO : value; }
int explicit_number(int value) { return value == 0 ? PNP_OVSS_ZERO : value; }
int explicit_flag(bool value) { return value ? PNP_OVSS_YES : PNP_OVSS_NO; }

// Reads a whole number of a manifest, from `least` to `most`.
int read_count(const Json &json, const char *field, int64_t least, int64_t most) {
    const int64_t value = json.integer();
    if (value < least || value > most)
        throw out_of_range(field, value, {"from ", least, " to ", most});
    return int(value);
}

double read_fraction(const Json &json, const char *field) {
    const double value = json.number();
    if (!(value >= 0 && value <= 1)) throw out_of_range(field, shown(value), "from 0 to 1");
    return value;
}

// Reads one of several words: its place among them, from 1.
int read_word(const Json &json, const char *field, std::initializer_list<const char *> words) {
    int number = 1;
    for (const char *word : words) {
        if (json.string() == word) return number;
        number++;
    }
    throw out_of_range(field, quoted(json.string()), "one that this library knows");
}

}  // namespace

Settings Settings::read(const Json &json) {
    Settings out;
    constexpr int64_t MOST = 2147483647;
    for (const auto &[key, value] : json.object()) {
        if (key == "passes") out.passes = read_count(value, "passes", 1, MOST_PASSES);
        if (key == "drop_schedule") {
            out.halving = value.is(Json::Kind::string);
            if (out.halving) read_word(value, "drop_schedule", {"halving"});
            else out.drop_count = int(std::min(std::max(value.integer(), int64_t(-1)), MOST));
            if (out.drop_count < 0) throw out_of_range("drop_schedule", out.drop_count, "from 0");
        }
        if (key == "drop_mode")
            out.drop_mode = DropMode(read_word(value, "drop_mode", {"pixels", "tokens", "attention"}));
        if (key == "threshold") out.threshold = read_fraction(value, "threshold");
        if (key == "blur") out.blur = read_fraction(value, "blur");
        if (key == "background")
            out.background = Background(read_word(value, "background", {"auto", "always", "never"}));
        if (key == "crf") {
            out.crf = !value.is(Json::Kind::null);
            // "pydensecrf" is a slower one with the same labels, for Python alone
            if (out.crf) read_word(value, "crf", {"densecrf", "densecrf-cpu", "pydensecrf"});
        }
        if (key == "refine_side" && !value.is(Json::Kind::null))
            out.refine_side = read_count(value, "refine_side", 1, MOST);
        if (key == "match_threshold") out.match_threshold = read_fraction(value, "match_threshold");
        if (key == "first_pass_weight")
            out.first_pass_weight = read_count(value, "first_pass_weight", 1, LARGEST_WEIGHT);
        if (key == "join_words") out.join_words = value.boolean();
        if (key == "sum_last_class") out.sum_last_class = value.boolean();
    }
    return out;
}

Settings Settings::preset(const std::string &name) {
    Settings out;
    if (name == "paper") return out;
    if (name != "released") throw bad_input("unknown preset " + quoted(name), "the presets are: paper, released");
    out.halving = false;
    out.drop_count = 10;
    out.first_pass_weight = 2;
    out.join_words = out.sum_last_class = true;
    return out;
}

Settings Settings::with(const pnp_ovss_settings *given) const {
    Settings out = *this;
    if (!given) return out;
    const pnp_ovss_settings s = read_struct(given, FIRST_SIZE, "pnp_ovss_settings");
    take_count("passes", s.passes, MOST_PASSES, out.passes);
    if (s.drop_count != 0) out.halving = s.drop_count == PNP_OVSS_HALVING;
    if (s.drop_count != PNP_OVSS_HALVING)
        take_number("drop_count", s.drop_count, "0, PNP_OVSS_ZERO, PNP_OVSS_HALVING or a whole number from 1",
                    out.drop_count);
    take_choice("drop_mode", s.drop_mode, 3, "or a PNP_OVSS_DROP_ mode", out.drop_mode);
    take_fraction("threshold", s.threshold, out.threshold);
    take_fraction("blur", s.blur, out.blur);
    take_choice("background", s.background, 3, "or a PNP_OVSS_BACKGROUND_ value", out.background);
    int crf = out.crf ? PNP_OVSS_CRF_DENSECRF : PNP_OVSS_CRF_NONE;
    take_choice("crf", s.crf, 2, "PNP_OVSS_CRF_NONE or PNP_OVSS_CRF_DENSECRF", crf);
    out.crf = crf == PNP_OVSS_CRF_DENSECRF;
    take_number("refine_side", s.refine_side, "0, PNP_OVSS_ZERO or a whole number from 1", out.refine_side);
    take_count("first_pass_weight", s.first_pass_weight, LARGEST_WEIGHT, out.first_pass_weight);
    take_flag("join_words", s.join_words, out.join_words);
    take_flag("sum_last_class", s.sum_last_class, out.sum_last_class);
    take_fraction("match_threshold", s.match_threshold, out.match_threshold);
    int present = out.match_present ? PNP_OVSS_PRESENT_MATCH : PNP_OVSS_PRESENT_GIVEN;
    take_choice("present", s.present, 2, "PNP_OVSS_PRESENT_GIVEN or PNP_OVSS_PRESENT_MATCH", present);
    out.match_present = present == PNP_OVSS_PRESENT_MATCH;
    if (s.reserved != 0) throw out_of_range("reserved", s.reserved, "0");
    if (s.crf_memory != 0) out.crf_memory = s.crf_memory;
    return out;
}

void Settings::write(pnp_ovss_settings *out) const {
    check_size(out->struct_size, FIRST_SIZE, "pnp_ovss_settings");
    pnp_ovss_settings s = {};
    s.passes = passes;
    s.drop_count = halving ? PNP_OVSS_HALVING : explicit_number(drop_count);
    s.drop_mode = int(drop_mode);
    s.threshold = explicit_fraction(threshold);
    s.blur = explicit_fraction(blur);
    s.background = int(background);
    s.crf = crf ? PNP_OVSS_CRF_DENSECRF : PNP_OVSS_CRF_NONE;
    s.refine_side = explicit_number(refine_side);
    s.first_pass_weight = first_pass_weight;
    s.join_words = explicit_flag(join_words);
    s.sum_last_class = explicit_flag(sum_last_class);
    s.match_threshold = explicit_fraction(match_threshold);
    s.present = match_present ? PNP_OVSS_PRESENT_MATCH : PNP_OVSS_PRESENT_GIVEN;
    s.crf_memory = crf_memory;
    write_struct(s, out);
}

}  // namespace pnp
