#include "unicode.hpp"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <utility>
#include <vector>

namespace pnp {
namespace {

// Letters from `first` on, `step` apart, that become the letter at a difference.
struct Shift {
    char32_t first;
    uint16_t count, step;
    int32_t difference;
};

// Letters from `first` on that become texts of one length, which follow each other in a pool from `place` on.
struct Pooled {
    char32_t first;
    uint16_t count, length, place;
};

#include "unicode_cases.inc"
#include "unicode_decompositions.inc"
#include "unicode_sets.inc"

// Hangul syllables: each is a lead, a vowel, and a tail or none.
constexpr char32_t FIRST_SYLLABLE = 0xAC00, LEAD = 0x1100, VOWEL = 0x1161, TAIL = 0x11A7;
constexpr char32_t SYLLABLES = 11172, TAILS = 28, OF_A_LEAD = 588;

constexpr char32_t SIGMA = 0x3A3, SMALL_SIGMA = 0x3C3, FINAL_SIGMA = 0x3C2;

// Tells whether a set, as unicode_sets.inc has it, holds a letter.
template <size_t N>
bool holds(const char32_t (&flips)[N], char32_t letter) {
    return (std::upper_bound(flips, flips + N, letter) - flips) % 2 == 1;
}

// Finds the last run that begins at a letter or before it; null where there is none.
template <class Run>
const Run *run_at(const Run *runs, size_t count, char32_t letter) {
    const Run *after =
        std::upper_bound(runs, runs + count, letter, [](char32_t one, const Run &run) { return one < run.first; });
    return after == runs ? nullptr : after - 1;
}

// Appends what a letter becomes by a table of texts. Returns false where the table does not have it.
template <size_t N>
bool append_pooled(const Pooled (&runs)[N], const char32_t *pool, char32_t letter, std::u32string &out) {
    const Pooled *run = run_at(runs, N, letter);
    if (!run || letter - run->first >= run->count) return false;
    out.append(pool + run->place + (letter - run->first) * run->length, run->length);
    return true;
}

template <size_t N, size_t M>
void append_case(const Shift (&shifts)[N], const Pooled (&texts)[M], char32_t letter, std::u32string &out) {
    const Shift *run = run_at(shifts, N, letter);
    const char32_t distance = run ? letter - run->first : 0;
    if (run && distance % run->step == 0 && distance / run->step < run->count)
        out += char32_t(int32_t(letter) + run->difference);
    else if (!append_pooled(texts, CASE_POOL, letter, out))
        out += letter;
}

// The canonical combining class: where a mark stands among others. 0 for what is no mark.
int combining_class(char32_t letter, Rules rules) {
    if (letter < 0x300 || (rules == Rules::tokenizers && holds(NEW_TO_TOKENIZERS, letter))) return 0;
    const uint32_t *after = std::upper_bound(CLASSES, std::end(CLASSES), letter << 8 | 0xFF);
    return after == CLASSES ? 0 : int(after[-1] & 0xFF);
}

void append_decomposed(char32_t letter, Rules rules, std::u32string &out) {
    if (letter < 0xC0 || (rules == Rules::tokenizers && holds(NEW_TO_TOKENIZERS, letter))) {
        out += letter;
    } else if (const char32_t index = letter - FIRST_SYLLABLE; letter >= FIRST_SYLLABLE && index < SYLLABLES) {
        out += {LEAD + index / OF_A_LEAD, VOWEL + index % OF_A_LEAD / TAILS};
        if (index % TAILS > 0) out += TAIL + index % TAILS;
    } else if (!append_pooled(DECOMPOSED, DECOMPOSED_POOL, letter, out)) {
        out += letter;
    }
}

// Sorts each row of marks by their classes; those of one class keep their order.
void put_in_order(std::u32string &letters, Rules rules) {
    std::vector<std::pair<int, char32_t>> marks;
    for (size_t i = 0; i <= letters.size(); i++) {
        const int found = i < letters.size() ? combining_class(letters[i], rules) : 0;
        if (found > 0) {
            marks.emplace_back(found, letters[i]);
            continue;
        }
        std::stable_sort(marks.begin(), marks.end(), [](auto &one, auto &other) { return one.first < other.first; });
        for (size_t k = 0; k < marks.size(); k++) letters[i - marks.size() + k] = marks[k].second;
        marks.clear();
    }
}

// Tells whether a capital sigma ends a word: whether what is before it, but for letters that are ignored, has case,
// and what is after it has none.
bool is_final(const std::u32string &letters, size_t sigma) {
    const auto ignored = [&](size_t i) { return holds(IGNORABLE, letters[i]); };
    size_t before = sigma, after = sigma + 1;
    while (before > 0 && ignored(before - 1)) before--;
    if (before == 0 || !holds(CASED, letters[before - 1])) return false;
    while (after < letters.size() && ignored(after)) after++;
    return after == letters.size() || !holds(CASED, letters[after]);
}

}  // namespace

std::optional<char32_t> next_letter(std::string_view text, size_t &at) {
    if (at >= text.size()) return std::nullopt;
    const auto first = static_cast<unsigned char>(text[at]);
    const size_t more = first < 0x80 ? 0 : first < 0xE0 ? 1 : first < 0xF0 ? 2 : 3;
    if ((first >= 0x80 && first < 0xC0) || first > 0xF4 || more >= text.size() - at) return std::nullopt;
    char32_t letter = more == 0 ? first : first & (0x3Fu >> more);
    for (size_t i = 1; i <= more; i++) {
        const auto next = static_cast<unsigned char>(text[at + i]);
        if ((next & 0xC0) != 0x80) return std::nullopt;
        letter = letter << 6 | (next & 0x3Fu);
    }
    constexpr char32_t LEAST[] = {0, 0x80, 0x800, 0x10000};
    if (letter < LEAST[more] || letter > 0x10FFFF || (letter >= 0xD800 && letter < 0xE000)) return std::nullopt;
    at += more + 1;
    return letter;
}

std::optional<std::u32string> decoded(std::string_view text) {
    std::u32string out;
    for (size_t at = 0; at < text.size();) {
        const std::optional<char32_t> letter = next_letter(text, at);
        if (!letter) return std::nullopt;
        out += *letter;
    }
    return out;
}

std::string encoded(const std::u32string &letters) {
    std::string out;
    for (const char32_t letter : letters) {
        const int more = letter < 0x80 ? 0 : letter < 0x800 ? 1 : letter < 0x10000 ? 2 : 3;
        out += char(more == 0 ? letter : (0x7F80u >> more & 0xFFu) | letter >> 6 * more);
        for (int i = more - 1; i >= 0; i--) out += char(0x80u | (letter >> 6 * i & 0x3Fu));
    }
    return out;
}

bool is_space(char32_t letter, Rules rules) {
    return rules == Rules::python ? holds(PYTHON_SPACES, letter) : holds(TOKENIZERS_SPACES, letter);
}

bool is_removed(char32_t letter) { return holds(REMOVED, letter); }
bool is_made_space(char32_t letter) { return holds(MADE_SPACE, letter); }
bool is_ideograph(char32_t letter) { return holds(IDEOGRAPHS, letter); }
bool is_mark(char32_t letter) { return holds(MARKS, letter); }
bool is_punctuation(char32_t letter) { return holds(PUNCTUATION, letter); }

std::u32string decomposed(const std::u32string &letters, Rules rules) {
    std::u32string out;
    for (const char32_t letter : letters) append_decomposed(letter, rules, out);
    put_in_order(out, rules);
    return out;
}

std::u32string lower(const std::u32string &letters, Rules rules) {
    std::u32string out;
    for (size_t i = 0; i < letters.size(); i++) {
        if (rules == Rules::tokenizers)
            append_case(TOKENIZERS_LOWER, TOKENIZERS_LOWER_LONG, letters[i], out);
        else if (letters[i] == SIGMA)
            out += is_final(letters, i) ? FINAL_SIGMA : SMALL_SIGMA;
        else
            append_case(PYTHON_LOWER, PYTHON_LOWER_LONG, letters[i], out);
    }
    return out;
}

std::u32string spaced_once(const std::u32string &letters) {
    std::u32string out;
    bool space = false;
    for (const char32_t letter : letters) {
        if (is_space(letter, Rules::python)) {
            space = true;
            continue;
        }
        if (space && !out.empty()) out += U' ';
        space = false;
        out += letter;
    }
    return out;
}

std::u32string folded(const std::u32string &letters) {
    std::u32string out;
    for (const char32_t letter : decomposed(spaced_once(letters), Rules::python))
        append_case(FOLDED, FOLDED_LONG, letter, out);
    return decomposed(out, Rules::python);
}

}  // namespace pnp
