// What goes wrong inside of the library: thrown here, told to the caller at the border.
#pragma once

#include <cstdint>
#include <exception>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>

#include "pnp_ovss.h"

namespace pnp {

// A piece of a message: a text or a whole number.
class Word {
public:
    Word(const char *text) : text_(text) {}
    Word(std::string_view text) : text_(text) {}
    Word(const std::string &text) : text_(text) {}
    template <class Number, class = std::enable_if_t<std::is_integral_v<Number>>>
    Word(Number number)
        : number_(uint64_t(number)), is_number_(true), is_negative_(std::is_signed_v<Number> && number < Number(0)) {}

    void append_to(std::string &out) const;

private:
    std::string_view text_;
    uint64_t number_ = 0;
    bool is_number_ = false, is_negative_ = false;
};

// A message in the making: a text, or {"the image is ", width, "x", height}. It lives as long as what it is made of.
class Words {
public:
    template <class Text, class = std::enable_if_t<std::is_convertible_v<Text, Word>>>
    Words(const Text &text) : text_(text) {}
    Words(std::initializer_list<Word> words) : text_(""), words_(words) {}
    Words(const Words &) = delete;

    std::string joined() const;

private:
    Word text_;
    std::initializer_list<Word> words_;
};

// A code of pnp_ovss.h, what is wrong, and what mends it.
struct Failure : std::exception {
    int32_t code;
    std::string cause, cure;

    Failure(int32_t code, const Words &cause, const Words &cure)
        : code(code), cause(cause.joined()), cure(cure.joined()) {}
    const char *what() const noexcept override { return cause.c_str(); }
};

constexpr const char *COPY_AGAIN = "the folder is damaged: export or copy it again";  // a cure
constexpr const char *DEFECT = "this is a defect: please report it";  // a cure

Failure bad_input(const Words &cause, const Words &cure);
Failure bad_model(const Words &cause, const Words &cure);

// Puts a text in quotes for a message, shortened to about 80 bytes.
std::string quoted(const std::string &text);

}  // namespace pnp
