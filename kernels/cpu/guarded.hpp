// The border between C++ and C: codes instead of exceptions.
#pragma once

#include <cstdint>
#include <exception>

namespace pnp {

enum Code : int32_t { OK = 0, BAD_ARGUMENT = 1, NO_MEMORY = 2 };  // as in the headers

// Runs a function if its arguments are good, and returns a code.
template <class Run>
int32_t guarded(bool good, const Run &run) {
    if (!good) return BAD_ARGUMENT;
    try {
        run();
        return OK;
    } catch (const std::exception &) {  // bad_alloc, or length_error of a vector that no memory holds
        return NO_MEMORY;
    }
}

}  // namespace pnp
