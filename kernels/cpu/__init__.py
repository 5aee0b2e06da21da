"""The kernels on the CPU; those in C++ have a C ABI."""
