"""An exported graph as a PyTorch module: the same operators, in a form that PyTorch can compile.

It is made from the ONNX graph, not from the checkpoint: so it needs the model folder alone, and
computes what the other backends do, gradient and precision included. Attention of which nothing
else reads the probabilities becomes PyTorch's fused one.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, fx
from torch.nn import functional

from ...engine.errors import ModelError

_IMAGES = "images"  # the first axis of an input that belongs to pictures, not to captions

_DTYPES = {
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.FLOAT16: torch.float16,
    ir.DataType.BFLOAT16: torch.bfloat16,
}


def torch_module(model: ir.Model) -> fx.GraphModule:
    """The module of a graph that was exported by this package, or of one converted from it.

    It takes inputs by name, as `input_shapes` says, and returns the graph's outputs by name. One
    compiled module serves a caption for each picture as well as many about one, and never copies a
    picture's keys and values.

    Weights are buffers that share the graph's memory, except where the graph casts them.

    Raises:
        ModelError: the graph has an operator that is not known here.
    """
    return _Translation(model).module()


def input_shapes(model: ir.Model) -> dict[str, list[int | str]]:
    """Shapes of a module's inputs; dynamic dimensions by name.

    They are the graph's; but where it has pictures and captions, captions come by picture,
    [images, captions, tokens], and the rows of what is returned are images * captions.
    """
    shapes = {str(value.name): _sizes(value) for value in model.graph.inputs}
    if any(shape[0] == _IMAGES for shape in shapes.values()):
        for shape in shapes.values():
            shape[:1] = [_IMAGES] if shape[0] == _IMAGES else [_IMAGES, "captions"]
    return shapes


def _sizes(value: ir.Value) -> list[int | str]:
    return [size if isinstance(size, int) else str(size) for size in value.shape or ()]


class _Translation:
    """From ONNX nodes to those of `torch.fx`, one by one."""

    def __init__(self, model: ir.Model) -> None:
        self._source = model.graph
        self._graph = fx.Graph()
        self._constants = {value: _tensor(value) for value in model.graph.initializers.values()}
        self._weights: dict[str, Tensor] = {}
        self._made: dict[ir.Value | None, Any] = {None: None}
        self._pictures: set[ir.Value] = set()  # values with a row for each picture
        self._rows: set[ir.Value] = set()  # values with a row for each caption
        self._layout: fx.Node | None = None  # of the rows: images, captions of each

    def module(self) -> fx.GraphModule:
        self._take_inputs()
        for node in self._source:
            if node.op_type == "Cast" and node.inputs[0] in self._constants:
                dtype = _DTYPES[node.attributes["to"].value]
                self._constants[node.outputs[0]] = self._constants[node.inputs[0]].to(dtype)
            else:
                self._translate(node)
        self._graph.output({str(value.name): self._made[value] for value in self._source.outputs})
        self._graph.eliminate_dead_code()  # what a fused attention has replaced
        return fx.GraphModule(self._weights, self._graph)

    def _take_inputs(self) -> None:
        inputs = self._source.inputs
        for value in inputs:
            self._made[value] = self._graph.placeholder(str(value.name))
            if value.shape and value.shape[0] == _IMAGES:
                self._pictures.add(value)
            else:
                self._rows.add(value)
        for value in inputs:
            if self._pictures and value in self._rows:
                captions = self._made[value]
                self._layout = self._graph.call_function(_layout, (captions,))
                self._made[value] = self._graph.call_function(torch.flatten, (captions, 0, 1))

    def _translate(self, node: ir.Node) -> None:
        attributes: dict[str, Any] = {name: value.value for name, value in node.attributes.items()}
        function, inputs = _OPERATORS.get(node.op_type), list(node.inputs)
        if node.op_type == "MatMul" and (fused := _fused_attention(node)):
            function, inputs = _attend, [fused.query, fused.key, fused.value, fused.bias]
            attributes = {"scale": fused.scale}
        elif node.op_type == "Range":
            attributes = {"like": self._made[self._source.inputs[0]]}
        if not self._rows.isdisjoint(inputs):
            if not self._pictures.isdisjoint(inputs):
                function = _BY_PICTURE.get(function) if inputs[0] in self._rows else None
                attributes["layout"] = self._layout
            self._rows.update(node.outputs)
        elif not self._pictures.isdisjoint(inputs):
            self._pictures.update(node.outputs)
        if function is None:
            raise ModelError(
                f"the graph has an operator {node.op_type} that cannot be translated to PyTorch",
                "export the model again with this version of pnp-ovss",
            )
        made = self._graph.call_function(
            function, tuple(self._argument(value) for value in inputs), attributes
        )
        for index, value in enumerate(node.outputs):
            self._made[value] = (
                self._graph.call_function(operator.getitem, (made, index))
                if len(node.outputs) > 1
                else made
            )

    def _argument(self, value: ir.Value | None) -> Any:
        """What was made for a value; of constants, numbers are written into the code."""
        if value and value not in self._made:
            constant = self._constants[value]
            if constant.ndim == 0 or constant.dtype == torch.int64:
                numbers = constant.tolist()
                self._made[value] = tuple(numbers) if constant.ndim else numbers
            else:
                name = str(value.name).replace(".", "/")  # a dot would ask for a module
                self._weights[name] = constant
                self._made[value] = self._graph.get_attr(name)
        return self._made[value]


def _tensor(value: ir.Value) -> Tensor:
    assert value.const_value is not None, f"{value.name} has no value"
    array = value.const_value.numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the memory is read-only; so is the use of it
        if value.dtype == ir.DataType.BFLOAT16:  # which NumPy has from another package
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(array)


class _Attention(NamedTuple):
    """softmax(scale * query key^T + bias) value."""

    query: ir.Value
    key: ir.Value
    value: ir.Value
    bias: ir.Value | None
    scale: float


def _fused_attention(last: ir.Node) -> _Attention | None:
    """The attention that ends in a matrix product, if nothing else reads what is in between."""
    probabilities, value = _operands(last)
    softmax = _made_for_this(probabilities, "Softmax")
    if not softmax:
        return None
    (scores,), bias, scale = _operands(softmax), None, 1.0
    if add := _made_for_this(scores, "Add"):
        scores, bias = _operands(add)
    product = _made_for_this(scores, "MatMul")
    if not product:
        return None
    query, transposed = _operands(product)
    transpose = transposed.producer()
    if not transpose or transpose.op_type != "Transpose":
        return None
    if list(transpose.attributes["perm"].as_ints()) != [0, 1, 3, 2]:
        return None
    if multiply := _made_for_this(query, "Mul"):
        scaled, factor = _operands(multiply)
        if factor.const_value and factor.const_value.size == 1:
            query, scale = scaled, float(factor.const_value.numpy())
    return _Attention(query, _operands(transpose)[0], value, bias, scale)


def _made_for_this(value: ir.Value, op_type: str) -> ir.Node | None:
    """The node of this type that made a value for one use, apart from casts on the way."""
    while (node := value.producer()) and len(value.uses()) == 1 and not value.is_graph_output():
        if node.op_type == op_type:
            return node
        if node.op_type != "Cast":
            return None
        (value,) = _operands(node)
    return None


def _operands(node: ir.Node) -> list[ir.Value]:
    return [value for value in node.inputs if value]


# Operators: functions of the node's inputs, and of its attributes by name. Shapes, axes and bounds
# come as tuples of numbers.


def _attend(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, *, scale: float
) -> Tensor:
    query = query.to(key.dtype)  # it may have been cast to be scaled
    if bias is None:
        return functional.scaled_dot_product_attention(query, key, value, scale=scale)
    # With a mask, PyTorch's own for CUDA cannot be exported for any number of tokens: it guards
    # their remainder by 8 (pytorch/pytorch#124502).
    scores = (query * scale) @ key.mT
    return (scores.float() + bias).softmax(-1).to(value.dtype) @ value


def _cast(x: Tensor, *, to: int) -> Tensor:
    return x.to(_DTYPES[ir.DataType(to)])


def _concat(*parts: Any, axis: int) -> Any:
    if isinstance(parts[0], tuple):
        return sum(parts, ())
    return torch.cat(parts, axis)


def _convolve(
    x: Tensor, weight: Tensor, bias: Tensor, *, kernel_shape: list[int], strides: list[int]
) -> Tensor:
    """Convolution of patches side by side, as a matrix product: cuDNN's would be in TF32."""
    if kernel_shape != strides:
        raise ModelError("the graph's convolution is not one of patches", "export the model again")
    width, channels, height = len(weight), x.shape[1], x.shape[2]
    patch = strides[0]
    grid = height // patch
    patches = x.reshape(-1, channels, grid, patch, grid, patch).permute(0, 2, 4, 1, 3, 5)
    rows = functional.linear(patches.flatten(3).flatten(1, 2), weight.reshape(width, -1), bias)
    return rows.transpose(1, 2).unflatten(2, (grid, grid))


def _expand(x: Tensor, shape: Sequence[int]) -> Tensor:
    return x.expand(*shape)


def _gather(x: Tensor, indices: Any, *, axis: int) -> Tensor:
    if isinstance(indices, tuple):
        return torch.stack([x.select(axis, index) for index in indices], axis)
    return functional.embedding(indices, x)


def _gather_by_row(x: Tensor, indices: Tensor, *, batch_dims: int) -> Tensor:
    """Of each row of a batch, the entries at indices [B, R, 1]."""
    return x.gather(batch_dims, indices.expand(-1, -1, x.shape[-1]))


def _layer_norm(x: Tensor, weight: Tensor, bias: Tensor, *, axis: int, epsilon: float) -> Tensor:
    return functional.layer_norm(x, weight.shape, weight, bias, epsilon)


def _mean(x: Tensor, axes: tuple[int, ...], *, keepdims: int = 1) -> Tensor:
    return x.mean(axes, keepdim=bool(keepdims))


def _pad(x: Tensor, pads: Sequence[int], value: float) -> Tensor:
    begins, ends = pads[: x.ndim], pads[x.ndim :]
    from_the_last = [n for pair in zip(begins[::-1], ends[::-1], strict=True) for n in pair]
    return functional.pad(x, from_the_last, value=value)


def _permute(x: Tensor, *, perm: list[int]) -> Tensor:
    return x.permute(perm)


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


def _sum(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    return x.sum(axes, keepdim=True)


def _unsqueeze(x: Tensor, axes: Sequence[int]) -> Tensor:
    for axis in axes:
        x = x.unsqueeze(axis)
    return x


_OPERATORS: dict[str, Callable[..., Any]] = {
    "Add": operator.add,
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
    "LayerNormalization": _layer_norm,
    "MatMul": torch.matmul,
    "Mul": operator.mul,
    "Pad": _pad,
    "Range": _range,
    "ReduceMean": _mean,
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


def _add_by_picture(rows: Tensor, pictures: Tensor, *, layout: tuple[int, int]) -> Tensor:
    return rows + pictures.repeat_interleave(layout[1], 0)


def _attend_by_picture(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    *,
    scale: float,
    layout: tuple[int, int],
) -> Tensor:
    attended = _attend(_fold(query, layout), key, value, bias, scale=scale)
    return _unfold(attended, layout)


def _matmul_by_picture(rows: Tensor, pictures: Tensor, *, layout: tuple[int, int]) -> Tensor:
    return _unfold(_fold(rows, layout) @ pictures, layout)


def _layout(captions: Tensor) -> tuple[int, int]:
    """Of an input [images, captions, tokens], the first two."""
    return captions.shape[0], captions.shape[1]


# Both copy always. Whether they must depends on sizes being 1, and a compiled graph may not.


def _fold(rows: Tensor, layout: tuple[int, int]) -> Tensor:
    """[images * captions, H, T, d] -> [images, H, captions * T, d]."""
    return _copy(rows.unflatten(0, layout).transpose(1, 2)).flatten(2, 3)


def _unfold(folded: Tensor, layout: tuple[int, int]) -> Tensor:
    """[images, H, captions * T, d] -> [images * captions, H, T, d]."""
    return _copy(folded.unflatten(2, (layout[1], -1)).transpose(1, 2)).flatten(0, 1)


def _copy(x: Tensor) -> Tensor:
    return x.clone(memory_format=torch.contiguous_format)


# What these become where a value with a row for each caption meets values with one for each picture
_BY_PICTURE = {
    operator.add: _add_by_picture,
    torch.matmul: _matmul_by_picture,
    _attend: _attend_by_picture,
}
