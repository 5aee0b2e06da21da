"""Reads the graphs of a model folder, for what translates them or writes them anew."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ...engine.errors import ModelError, reason
from ...engine.model.manifest import AGAIN


def load(path: Path) -> ir.Model:
    """A graph whose weights are the file beside it, mapped into memory: read-only, and no copy.

    onnx-ir's own tensors refuse a file that is a link, hard or symbolic; the files of an installed
    package, of a copy by `cp -l` and of the Hugging Face cache may be. What the file holds was
    compared with the manifest, so it is safe to follow one.

    Args:
        path: of the ONNX file.

    Raises:
        ModelError: the weights cannot be read, or are not those of the graph.
    """
    model = ir.load(path)
    files: dict[str, np.ndarray] = {}
    for value in model.graph.initializers.values():
        stored = value.const_value
        if not isinstance(stored, ir.ExternalTensor):
            continue
        name = os.fspath(stored.location)
        if Path(name).name != name:
            raise ModelError(f"'{path}' has weights in '{name}', which is another folder", AGAIN)
        file = path.parent / name
        if name not in files:
            files[name] = _mapped(file)
        array = _array(stored, files[name], file)
        value.const_value = ir.Tensor(array, dtype=stored.dtype, name=stored.name)
    return model


def _mapped(file: Path) -> np.ndarray:
    """The bytes of a file.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        if not file.stat().st_size:  # which cannot be mapped
            return np.zeros(0, np.uint8)
        return np.asarray(np.memmap(file, np.uint8, mode="r"))
    except OSError as error:
        raise ModelError(f"model file '{file}' cannot be read: {reason(error)}", AGAIN) from error


def _array(stored: ir.ExternalTensor, data: np.ndarray, file: Path) -> np.ndarray:
    """The part of a file that is a weight.

    Raises:
        ModelError: the file ends before it, or it is not as long as its shape says.
    """
    dtype = np.dtype(stored.dtype.numpy()).newbyteorder("<")
    start, size = stored.offset or 0, stored.size * dtype.itemsize
    if stored.length not in (None, size):
        raise ModelError(
            f"{stored.name} in '{file}' has {stored.length} bytes instead of {size}", AGAIN
        )
    if start + size > len(data):
        raise ModelError(
            f"model file '{file}' has {len(data)} bytes, and {stored.name} ends at {start + size}",
            AGAIN,
        )
    return data[start : start + size].view(dtype).reshape(stored.shape.numpy())
