"""Builds the graphs of a model folder ahead of time, with TensorRT or PyTorch's AOTInductor."""

BUILDERS = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt", "aotinductor": "aotinductor"}
"""Module of this package for each target; its `build` takes a model and the command's options."""
