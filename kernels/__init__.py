"""The numeric kernels: `reference` defines them in NumPy, `cuda/` is for GPUs, the CRF is C++."""

from .cpu.densecrf import densecrf

__all__ = ["densecrf"]
