#include "failure.hpp"

#include <string_view>
#include <vector>

#include "unicode.hpp"

namespace pnp {
namespace {

constexpr size_t MOST = 80;           // bytes of a message that a text may take, its quotes included
constexpr size_t HEAD = 37, TAIL = 38;  // of what is left of a longer one, around "..."

std::string in_hex(const char *prefix, unsigned code, int digits) {
    std::string out = prefix;
    for (int i = digits - 1; i >= 0; i--) out += "0123456789abcdef"[code >> 4 * i & 0xFu];
    return out;
}

bool breaks_a_line(char32_t letter) {
    return letter < 0x20 || (letter >= 0x7F && letter < 0xA0) || letter == 0x2028 || letter == 0x2029;
}

// Writes each letter of a text as a message has it: what would break a line, and what is damaged, as an escape.
std::vector<std::string> shown_letters(std::string_view text) {
    std::vector<std::string> out;
    for (size_t at = 0; at < text.size();) {
        const size_t before = at;
        const std::optional<char32_t> letter = next_letter(text, at);
        if (!letter)
            out.push_back(in_hex("\\x", static_cast<unsigned char>(text[at++]), 2));
        else if (breaks_a_line(*letter))
            out.push_back(*letter < 0x100 ? in_hex("\\x", *letter, 2) : in_hex("\\u", *letter, 4));
        else
            out.emplace_back(text.substr(before, at - before));
    }
    return out;
}

}  // namespace

void Word::append_to(std::string &out) const {
    if (is_negative_)
        out += std::to_string(int64_t(number_));
    else if (is_number_)
        out += std::to_string(number_);
    else
        out += text_;
}

std::string Words::joined() const {
    std::string out;
    text_.append_to(out);
    for (const Word &word : words_) word.append_to(out);
    return out;
}

Failure bad_input(const Words &cause, const Words &cure) { return {PNP_OVSS_BAD_INPUT, cause, cure}; }
Failure bad_model(const Words &cause, const Words &cure) { return {PNP_OVSS_BAD_MODEL, cause, cure}; }

std::string quoted(const std::string &text) {
    // Of a long text only its ends are looked at; a letter has 4 bytes at most.
    const bool is_long = text.size() > 2 * MOST;
    const std::string_view all = text;
    size_t start = is_long ? text.size() - MOST : 0;
    while (is_long && start < text.size() && (all[start] & 0xC0) == 0x80) start++;
    const std::vector<std::string> first = shown_letters(is_long ? all.substr(0, MOST) : all);
    const std::vector<std::string> last = shown_letters(all.substr(start));
    std::string head, tail;
    if (!is_long) {
        for (const std::string &letter : first) head += letter;
        if (head.size() + 2 <= MOST) return "'" + head + "'";
        head.clear();
    }
    for (size_t i = 0; i < first.size() && head.size() + first[i].size() <= HEAD; i++) head += first[i];
    for (size_t i = last.size(); i > 0 && tail.size() + last[i - 1].size() <= TAIL; i--) tail = last[i - 1] + tail;
    return "'" + head + "..." + tail + "'";
}

}  // namespace pnp
