"""TF32, which PyTorch's baselines do without: what is called float32 has to be float32."""

from __future__ import annotations

import torch


def refuse() -> None:
    """Switch TF32 off, for this process.

    By default cuDNN's convolutions use it: the embedding of patches then is off by 1e-3, which is
    all that an engine in fp32 may be off by.
    """
    # Not the newer `fp32_precision`: PyTorch up to 2.13 at least reads these flags itself, and
    # refuses to where the newer ones were set.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def allowed() -> dict[str, bool]:
    """Say for what PyTorch may use it."""
    return {
        "convolutions": bool(torch.backends.cudnn.allow_tf32),
        "products": bool(torch.backends.cuda.matmul.allow_tf32),
    }
