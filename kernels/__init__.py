"""Holds the numeric kernels: `reference` defines them in NumPy, `cpu` and `cuda` implement them."""

from .cpu.densecrf import densecrf

__all__ = ["densecrf"]
