"""Prepare graphs for OpenVINO: fold transposed weights, and quantize."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import openvino as ov
from openvino import opset13 as ops

GROUPS = (128, 64, 32)  # of a row's weights or activations, scaled together, as OpenVINO knows them


def fold_transposes(model: ov.Model) -> None:
    """Store a transposed copy of the square weights that a product has transposed, in place.

    OpenVINO 2026.4 packs weights once, and finds them again by their data. It takes square weights
    that it packed for one product for their transpose in another, which spoils the gradient.

    Only graphs of earlier versions need it: those exported now store such transposes, and nothing
    is done.
    """
    for product in _products(model):
        transpose = product.input_value(1).get_node()
        if transpose.get_type_name() != "Transpose":
            continue
        weights = _weights(transpose.input_value(0).get_node())
        if weights is not None and weights.shape[0] == weights.shape[1]:
            folded = ops.constant(np.ascontiguousarray(weights.T))
            _replace(product, ops.matmul(product.input_value(0), folded, False, False))


def quantize(model: ov.Model, *, inputs_only: bool) -> int:
    """Round weights to int8 in place, in groups along the row that have a scale each.

    Args:
        model: model whose products have weights [in, out].
        inputs_only: whether only products of an input of the model are quantized.

    Returns:
        Size of the groups, in which OpenVINO may quantize activations as well; 0 if no product has
        a width that allows it.
    """
    quantized = [
        (product, weights.T)
        for product in _products(model)
        if (weights := _weights(product.input_value(1).get_node())) is not None
        and (not inputs_only or product.input_value(0).get_node().get_type_name() == "Parameter")
        and weights.shape[0] % GROUPS[-1] == 0
    ]
    if not quantized:
        return 0
    size = next(s for s in GROUPS if all(weights.shape[1] % s == 0 for _, weights in quantized))
    for product, weights in quantized:
        groups = weights.reshape(len(weights), -1, size)
        scale = np.abs(groups).max(axis=2, keepdims=True) / np.float32(127)
        scale[scale == 0] = 1
        rounded = ops.constant(np.rint(groups / scale).astype(np.int8))
        scaled = ops.multiply(ops.convert(rounded, "f32"), ops.constant(scale))
        whole = ops.reshape(scaled, ops.constant(np.array(weights.shape)), False)
        _replace(product, ops.matmul(product.input_value(0), whole, False, True))
    return size


def table_sizes(model: ov.Model) -> dict[str, int]:
    """Count the rows of the tables that inputs look up, such as the embeddings of tokens.

    OpenVINO gives zeros for a row that a table does not have, without a word.

    Returns:
        Number of rows of the table, by the name of the input that has the numbers of rows.
    """
    sizes: dict[str, int] = {}
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Gather":
            continue
        table, rows, axis = (node.input_value(place) for place in range(3))
        is_input = rows.get_node().get_type_name() == "Parameter"
        if is_input and axis.get_node().get_type_name() == "Constant":
            size = table.partial_shape[int(axis.get_node().get_data().item())]
            if size.is_static:
                name = rows.any_name
                sizes[name] = min(size.get_length(), sizes.get(name, size.get_length()))
    return sizes


def _products(model: ov.Model) -> Iterator[ov.Node]:
    return (node for node in model.get_ordered_ops() if node.get_type_name() == "MatMul")


def _weights(node: ov.Node) -> np.ndarray | None:
    """Read a stored matrix, in float32 or float16, as float32; None if the node is none."""
    if node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    if node.get_type_name() != "Constant" or len(node.shape) != 2:
        return None
    return node.get_data().astype(np.float32, copy=False)


def _replace(old: ov.Node, new: ov.Node) -> None:
    old.output(0).replace(new.output(0))
