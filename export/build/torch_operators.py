"""Implements the operators of exported graphs as PyTorch functions that can be compiled."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor
from torch.nn import functional

from ...engine.errors import ModelError

DTYPES = {
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.FLOAT16: torch.float16,
    ir.DataType.BFLOAT16: torch.bfloat16,
    ir.DataType.INT32: torch.int32,
    ir.DataType.INT64: torch.int64,
    ir.DataType.UINT8: torch.uint8,
}

# Each function takes the node's inputs, and the node's attributes by name. Shapes, axes and slice
# bounds are tuples of integers.


def attend(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, *, scale: float
) -> Tensor:
    """Compute attention of queries, keys and values, [B, H, T, d] each.

    Args:
        query: queries, [B, H, T, d].
        key: keys, [B, H, S, d].
        value: values, [B, H, S, d].
        bias: bias of the scores, broadcast to [B, H, T, S]; None without one.
        scale: factor of the scores.
    """
    query = query.to(key.dtype)  # the graph may have cast it to scale it
    if bias is None:
        return functional.scaled_dot_product_attention(query, key, value, scale=scale)
    # With a mask, PyTorch's fused attention for CUDA cannot be exported for any number of tokens:
    # it guards their remainder by 8 (pytorch/pytorch#124502).
    scores = (query * scale) @ key.mT
    return (scores.float() + bias).softmax(-1).to(value.dtype) @ value


def _cast(x: Tensor, *, to: int) -> Tensor:
    return x.to(DTYPES[ir.DataType(to)])


def _concat(*parts: Any, axis: int) -> Any:
    if isinstance(parts[0], tuple):
        return sum(parts, ())
    return torch.cat(parts, axis)


def _convolve(
    x: Tensor, weight: Tensor, bias: Tensor, *, kernel_shape: list[int], strides: list[int]
) -> Tensor:
    """Convolve with patches that do not overlap, by a matrix product: cuDNN would use TF32."""
    if kernel_shape != strides:
        raise ModelError(
            f"the graph has a convolution of kernel {kernel_shape} with strides {strides}",
            "export the model again with this version: pnp-ovss export CHECKPOINT -o DIR",
        )
    (down, across), width, channels = strides, len(weight), x.shape[1]
    grid = (x.shape[2] // down, x.shape[3] // across)
    patches = x.reshape(-1, channels, grid[0], down, grid[1], across).permute(0, 2, 4, 1, 3, 5)
    rows = functional.linear(patches.flatten(3).flatten(1, 2), weight.reshape(width, -1), bias)
    return rows.transpose(1, 2).unflatten(2, grid)


def _expand(x: Tensor, shape: Sequence[int]) -> Tensor:
    return x.expand(*shape)


def _gather(x: Tensor, indices: Any, *, axis: int) -> Tensor:
    if isinstance(indices, tuple):
        return torch.stack([x.select(axis, index) for index in indices], axis)
    return functional.embedding(indices, x)


def _gather_by_row(x: Tensor, indices: Tensor, *, batch_dims: int) -> Tensor:
    """Gather entries of each row of a batch, at indices [B, R, 1]."""
    return x.gather(batch_dims, indices.expand(-1, -1, x.shape[-1]))


def _layer_norm(x: Tensor, weight: Tensor, bias: Tensor, *, axis: int, epsilon: float) -> Tensor:
    return functional.layer_norm(x, weight.shape, weight, bias, epsilon)


def _matmul(x: Tensor, y: Tensor) -> Tensor:
    """Multiply; a matrix may stand before a batch [M, h, w], whose size may be 1."""
    if x.ndim == 2 and y.ndim == 3:  # torch.matmul would refuse to be compiled for any size
        return torch.bmm(x.expand(y.shape[0], *x.shape), y)
    return torch.matmul(x, y)


def _max(x: Tensor, axes: tuple[int, ...], *, keepdims: int = 1) -> Tensor:
    return x.amax(axes, keepdim=bool(keepdims))


def _mean(x: Tensor, axes: tuple[int, ...], *, keepdims: int = 1) -> Tensor:
    return x.mean(axes, keepdim=bool(keepdims))


def _min(x: Tensor, axes: tuple[int, ...], *, keepdims: int = 1) -> Tensor:
    return x.amin(axes, keepdim=bool(keepdims))


def _pad(x: Tensor, pads: Sequence[int], value: float) -> Tensor:
    begins, ends = pads[: x.ndim], pads[x.ndim :]
    reversed_pads = [n for pair in zip(begins[::-1], ends[::-1], strict=True) for n in pair]
    return functional.pad(x, reversed_pads, value=value)


def _permute(x: Tensor, *, perm: Sequence[int]) -> Tensor:
    """Permute axes; pixels are copied with their channels first, as a convolution wants them."""
    permuted = x.permute(*perm)
    return _copy(permuted) if list(perm) == [0, 3, 1, 2] else permuted


def _range(start: int, end: int, step: int, *, like: Tensor) -> Tensor:
    return torch.arange(start, end, step, device=like.device)


def _reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    return x.reshape([size or x.shape[axis] for axis, size in enumerate(shape)])


def _shape(x: Tensor, *, start: int, end: int) -> tuple[int, ...]:
    return tuple(x.shape[start:end])


def _slice(x: Tensor, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int]) -> Tensor:
    for start, end, axis in zip(starts, ends, axes, strict=True):
        x = torch.ops.aten.slice.Tensor(x, axis, start, end)
    return x


def _softmax(x: Tensor, *, axis: int) -> Tensor:
    return x.softmax(axis)


def _split(x: Tensor, *, axis: int, num_outputs: int) -> tuple[Tensor, ...]:
    return x.chunk(num_outputs, axis)


def _squeeze(x: Any, axes: Sequence[int]) -> Any:
    return x[0] if isinstance(x, tuple) else x.squeeze(axes)


def _sum(x: Tensor, axes: tuple[int, ...], *, keepdims: int = 1) -> Tensor:
    return x.sum(axes, keepdim=bool(keepdims))


def _unsqueeze(x: Tensor, axes: Sequence[int]) -> Tensor:
    for axis in axes:
        x = x.unsqueeze(axis)
    return x


OPERATORS: dict[str, Callable[..., Any]] = {
    "Add": operator.add,
    "And": operator.and_,
    "Cast": _cast,
    "Concat": _concat,
    "Conv": _convolve,
    "Div": operator.truediv,
    "Equal": operator.eq,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Expand": _expand,
    "Gather": _gather,
    "GatherND": _gather_by_row,
    "Gelu": functional.gelu,
    "Greater": operator.gt,
    "GreaterOrEqual": operator.ge,
    "LayerNormalization": _layer_norm,
    "Less": operator.lt,
    "MatMul": _matmul,
    "Mul": operator.mul,
    "Or": operator.or_,
    "Pad": _pad,
    "Range": _range,
    "ReduceMax": _max,
    "ReduceMean": _mean,
    "ReduceMin": _min,
    "ReduceSum": _sum,
    "Relu": torch.relu,
    "Reshape": _reshape,
    "Shape": _shape,
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _split,
    "Sqrt": torch.sqrt,
    "Squeeze": _squeeze,
    "Sub": operator.sub,
    "Transpose": _permute,
    "Unsqueeze": _unsqueeze,
    "Where": torch.where,
}


def _add_by_image(rows: Tensor, images: Tensor, *, layout: tuple[int, int]) -> Tensor:
    return rows + images.repeat_interleave(layout[1], 0)


def _attend_by_image(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    *,
    scale: float,
    layout: tuple[int, int],
) -> Tensor:
    attended = attend(_fold(query, layout), key, value, bias, scale=scale)
    return _unfold(attended, layout)


def _matmul_by_image(rows: Tensor, images: Tensor, *, layout: tuple[int, int]) -> Tensor:
    return _unfold(_fold(rows, layout) @ images, layout)


def layout_of(captions: Tensor) -> tuple[int, int]:
    """Return the layout of captions [images, captions, tokens]: the first two sizes."""
    return captions.shape[0], captions.shape[1]


# These functions always copy. Whether a copy is needed depends on sizes of 1, but the code of a
# compiled graph must not depend on them.


def _fold(rows: Tensor, layout: tuple[int, int]) -> Tensor:
    """Fold captions into tokens, [images * captions, H, T, d] -> [images, H, captions * T, d]."""
    return _copy(rows.unflatten(0, layout).transpose(1, 2)).flatten(2, 3)


def _unfold(folded: Tensor, layout: tuple[int, int]) -> Tensor:
    """Unfold captions from tokens, [images, H, captions * T, d] -> [images * captions, H, T, d]."""
    return _copy(folded.unflatten(2, (layout[1], -1)).transpose(1, 2)).flatten(0, 1)


def _copy(x: Tensor) -> Tensor:
    return x.clone(memory_format=torch.contiguous_format)


# Replacements of functions whose inputs have rows of captions and rows of images.
BY_IMAGE = {
    operator.add: _add_by_image,
    _matmul: _matmul_by_image,
    attend: _attend_by_image,
}
