"""Model folder to builds: what TensorRT and PyTorch's AOTInductor compile ahead of time."""

BUILDERS = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt", "aotinductor": "aotinductor"}
"""Modules of this package, by target. Their `build` takes the model and the command's options."""
