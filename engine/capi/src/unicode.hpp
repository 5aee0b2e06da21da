// Unicode as far as class names need it: by the rules of the tokenizers package, and by those of Python.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace pnp {

// Whose rules a text follows. They have other versions of Unicode, and other opinions.
enum class Rules { tokenizers, python };

// Reads UTF-8 into code points. Nothing where it is damaged: no UTF-8, or longer than need be, or a surrogate.
std::optional<std::u32string> decoded(std::string_view text);

// Reads the code point that begins at `at` of a text, and moves `at` behind it. Nothing, and `at` stays, where the
// text is damaged.
std::optional<char32_t> next_letter(std::string_view text, size_t &at);

std::string encoded(const std::u32string &letters);

bool is_space(char32_t letter, Rules rules);  // for Python, what str.split() splits at

// Of the tokenizers package.
bool is_removed(char32_t letter);      // by BertNormalizer's clean_text
bool is_made_space(char32_t letter);   // by BertNormalizer's clean_text
bool is_ideograph(char32_t letter);    // which handle_chinese_chars puts spaces around
bool is_mark(char32_t letter);         // which strip_accents removes
bool is_punctuation(char32_t letter);  // which BertPreTokenizer makes a word of

// Decomposes a text canonically, and puts its marks in order: NFD.
std::u32string decomposed(const std::u32string &letters, Rules rules);

// Puts a text into lower case. Python's str.lower() looks at what is around a capital sigma; tokenizers do not.
std::u32string lower(const std::u32string &letters, Rules rules);

// Removes outer and repeated white space: Python's " ".join(text.split()).
std::u32string spaced_once(const std::u32string &letters);

// Returns what names have in common that differ only in case and white space: `folded` of engine/inputs/names.py.
std::u32string folded(const std::u32string &letters);

}  // namespace pnp
