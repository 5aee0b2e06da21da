"""The numeric kernels: `reference` defines them in NumPy, `cuda/` is for GPUs, the CRF is C++."""

from .crf import densecrf

__all__ = ["densecrf"]
