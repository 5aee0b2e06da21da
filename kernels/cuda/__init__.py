"""The kernels in CUDA C, run through CuPy."""
