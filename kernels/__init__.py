"""The numeric kernels: `reference` defines them in NumPy."""
