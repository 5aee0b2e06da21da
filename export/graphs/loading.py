"""Reads the graphs of a model folder, to translate them or to rewrite their precision."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ...engine.errors import ModelError, reason
from ...engine.model.manifest import AGAIN


def load(path: Path) -> ir.Model:
    """Load a graph, with its weights mapped into memory: they are read-only, and not copied.

    `onnx_ir.ExternalTensor` refuses a file that is a hard or symbolic link. Files of an installed
    package, of a copy by `cp -l` and of the Hugging Face cache may be links. The file was compared
    with the manifest before, so it is safe to follow a link.

    Args:
        path: path of the ONNX file; the file of weights lies in the same folder.

    Returns:
        The graph.

    Raises:
        ModelError: the weights cannot be read, or do not fit the graph.
    """
    model = load_nodes(path)
    files: dict[Path, np.ndarray] = {}
    for value in model.graph.initializers.values():
        stored = value.const_value
        if not isinstance(stored, ir.ExternalTensor):
            continue
        file = path.parent / os.fspath(stored.location)
        if file not in files:
            files[file] = _mapped(file)
        array = _array(stored, files[file], file)
        value.const_value = ir.Tensor(array, dtype=stored.dtype, name=stored.name)
    return model


def load_nodes(path: Path) -> ir.Model:
    """Load a graph that only refers to its weights, which nobody may read by `numpy()`.

    Args:
        path: path of the ONNX file; the file of weights lies in the same folder.

    Raises:
        ModelError: the weights lie in another folder.
    """
    model = ir.load(path)
    for value in model.graph.initializers.values():
        stored = value.const_value
        if isinstance(stored, ir.ExternalTensor):
            name = os.fspath(stored.location)
            if Path(name).name != name:
                raise ModelError(f"'{path}' has its weights in another folder: '{name}'", AGAIN)
    return model


def read_weight(stored: ir.TensorProtocol, folder: Path) -> np.ndarray:
    """Map a weight of a graph into memory.

    Args:
        stored: weight, in a file or in the graph.
        folder: folder of the file.

    Raises:
        ModelError: the file cannot be read, or does not have the weight.
    """
    if not isinstance(stored, ir.ExternalTensor):
        return stored.numpy()
    file = folder / os.fspath(stored.location)
    return _array(stored, _mapped(file), file)


def _mapped(file: Path) -> np.ndarray:
    """Map a file into memory, uint8 [bytes].

    Raises:
        ModelError: the file cannot be read.
    """
    try:
        if not file.stat().st_size:  # an empty file cannot be mapped
            return np.zeros(0, np.uint8)
        return np.asarray(np.memmap(file, np.uint8, mode="r"))
    except OSError as error:
        raise ModelError(f"model file '{file}' cannot be read: {reason(error)}", AGAIN) from error


def _array(stored: ir.ExternalTensor, data: np.ndarray, file: Path) -> np.ndarray:
    """Return the weight that a part of a file holds.

    Raises:
        ModelError: the file ends before the weight, or the weight's length does not fit its shape.
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
