"""The numeric kernels: `reference` defines them in NumPy; the dense CRF is C++."""

from .crf import densecrf

__all__ = ["densecrf"]
