"""The kernels in C++, with a C ABI."""
