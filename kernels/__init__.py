"""The numeric kernels: `reference` defines them in NumPy; `cpu` and `cuda` run them."""

from .cpu.densecrf import densecrf

__all__ = ["densecrf"]
