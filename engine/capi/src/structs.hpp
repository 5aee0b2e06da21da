// Structs of the caller, which may be shorter or longer than those of this library.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>

#include "failure.hpp"

namespace pnp {

// Checks the size that a caller gives for a struct whose first version had `least` bytes. Throws a Failure.
inline void check_size(uint32_t size, size_t least, const char *name) {
    if (size >= least) return;
    throw bad_input({"struct_size of ", name, " is ", size},
                    {"set it to sizeof(", name, "), and all other fields to 0 first"});
}

// Throws a Failure where a struct of the caller, of `size` bytes, has more than the `known` ones that this library
// knows, and they are not 0.
inline void require_known(const void *given, size_t size, size_t known, const char *name) {
    const auto *bytes = static_cast<const unsigned char *>(given);
    for (size_t i = known; i < size; i++)
        if (bytes[i] != 0)
            throw bad_input({name, " sets a field that this library does not know"},
                            "use a library as new as the header, or set the field to 0");
}

// Reads a struct of the caller: fields that it does not have are 0. Throws a Failure.
template <class Struct>
Struct read_struct(const Struct *given, size_t least, const char *name) {
    check_size(given->struct_size, least, name);
    Struct out = {};
    std::memcpy(static_cast<void *>(&out), given, std::min(size_t(given->struct_size), sizeof out));
    require_known(given, given->struct_size, sizeof out, name);
    return out;
}

// Writes a struct of the caller, as far as it has the fields; its size stays.
template <class Struct>
void write_struct(Struct value, Struct *out) {
    value.struct_size = out->struct_size;
    std::memcpy(static_cast<void *>(out), &value, std::min(size_t(out->struct_size), sizeof value));
}

}  // namespace pnp
