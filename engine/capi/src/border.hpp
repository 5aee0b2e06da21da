// The border between C++ and C: exceptions become codes and messages.
#pragma once

#include <exception>
#include <new>
#include <string_view>

#include "failure.hpp"

namespace pnp {

// Fills the error of a caller, which may be null, as far as its size allows. Control characters become '?'.
void tell(pnp_ovss_error *error, int32_t code, std::string_view cause, std::string_view cure) noexcept;

// Throws a Failure where the error of a caller has a size that no version of it had.
void check_error(const pnp_ovss_error *error);

// Runs a function, tells its caller how it ended, and returns the code.
template <class Run>
int32_t guarded(pnp_ovss_error *error, const Run &run) noexcept {
    try {
        check_error(error);
        run();
        tell(error, PNP_OVSS_OK, "", "");
        return PNP_OVSS_OK;
    } catch (const Failure &failure) {
        tell(error, failure.code, failure.cause, failure.cure);
        return failure.code;
    } catch (const std::bad_alloc &) {
        tell(error, PNP_OVSS_NO_MEMORY, "there is not enough memory",
             "free some, scale the image down, or name fewer classes");
        return PNP_OVSS_NO_MEMORY;
    } catch (const std::exception &other) {
        tell(error, PNP_OVSS_FAILED, other.what(), DEFECT);
        return PNP_OVSS_FAILED;
    } catch (...) {
        tell(error, PNP_OVSS_FAILED, "an unknown exception", DEFECT);
        return PNP_OVSS_FAILED;
    }
}

// Throws a Failure where a pointer that must not be null is.
inline void require(const void *pointer, const char *name) {
    if (!pointer) throw bad_input({name, " is NULL"}, "give one");
}

}  // namespace pnp
