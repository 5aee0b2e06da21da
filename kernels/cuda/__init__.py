"""Runs the kernels in CUDA C through CuPy."""
