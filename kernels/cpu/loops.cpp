#include "loops.hpp"

namespace pnp {

#define PNP_LOOPS "loops.inl"
#include "targets.inl"

Functions pick_functions(int stride) { return PNP_FASTEST(functions)(stride); }

}  // namespace pnp
