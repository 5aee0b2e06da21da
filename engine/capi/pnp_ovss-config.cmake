# find_package(pnp_ovss) gives the target pnp_ovss::pnp_ovss.
include("${CMAKE_CURRENT_LIST_DIR}/pnp_ovss-targets.cmake")
