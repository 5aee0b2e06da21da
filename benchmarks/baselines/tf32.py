"""Switches TF32 off for PyTorch's baselines: what is called float32 has to be float32."""

from __future__ import annotations

import torch


def refuse() -> None:
    """Switch TF32 off in this process.

    By default cuDNN's convolutions use TF32. The embedding of patches then is off by 1e-3, which is
    the whole tolerance of an engine in fp32.
    """
    # These flags and not the newer `fp32_precision`: PyTorch (2.13, and earlier) reads these flags
    # itself, and refuses to read them where the newer ones were set.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def allowed() -> dict[str, bool]:
    """Tell for which operations PyTorch may use TF32."""
    return {
        "convolutions": bool(torch.backends.cudnn.allow_tf32),
        "products": bool(torch.backends.cuda.matmul.allow_tf32),
    }
