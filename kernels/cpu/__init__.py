"""Runs the kernels on the CPU: in NumPy, and the dense CRF in C++ with a C interface."""
