#include "border.hpp"

#include <cstddef>
#include <cstring>

#include "structs.hpp"
#include "unicode.hpp"

namespace pnp {

namespace {

constexpr size_t FIRST_SIZE = offsetof(pnp_ovss_error, cure) + sizeof(pnp_ovss_error::cure);

// Copies a text in one line. Where it is too long it ends in "...", and never within a letter. What breaks a line or
// is no UTF-8, as in some paths, becomes '?'.
void copy(char *out, size_t room, std::string_view text) {
    constexpr std::string_view CUT = "...";
    size_t length = 0, fitting = 0;  // the latter with room for the sign that something was cut
    for (size_t at = 0; at < text.size();) {
        const size_t start = at;
        const std::optional<char32_t> letter = next_letter(text, at);
        if (!letter) at++;
        const bool kept = letter && *letter >= 0x20 && *letter != 0x7F;
        const size_t bytes = kept ? at - start : 1;
        if (length + CUT.size() < room) fitting = length;
        if (length + bytes >= room) {
            length = fitting + CUT.copy(out + fitting, CUT.size());
            break;
        }
        if (kept)
            std::memcpy(out + length, text.data() + start, bytes);
        else
            out[length] = '?';
        length += bytes;
    }
    std::memset(out + length, 0, room - length);
}

}  // namespace

void tell(pnp_ovss_error *error, int32_t code, std::string_view cause, std::string_view cure) noexcept {
    if (!error || error->struct_size < FIRST_SIZE) return;
    error->code = code;
    copy(error->cause, sizeof error->cause, cause);
    copy(error->cure, sizeof error->cure, cure);
}

void check_error(const pnp_ovss_error *error) {
    if (error) check_size(error->struct_size, FIRST_SIZE, "pnp_ovss_error");
}

}  // namespace pnp
