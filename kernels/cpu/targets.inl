// Compiles PNP_LOOPS, a file, for each instruction set, each time in a namespace of its own. Include this file
// inside of namespace pnp.

namespace portable {
#if defined(__x86_64__)
#define PNP_FALLBACK  // few processors run this form: small goes before fast
#endif
#include PNP_LOOPS
#undef PNP_FALLBACK
}

#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
namespace avx2 {
#include PNP_LOOPS
}
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
// The fastest form of a function that this processor has.
#define PNP_FASTEST(function)                                                                    \
    (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? avx2::function            \
                                                                     : portable::function)
#else
#define PNP_FASTEST(function) portable::function
#endif
