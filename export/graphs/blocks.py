"""Appends transformer blocks to a graph as ONNX nodes, each with its pullback.

A block returns its output and a pullback (vector-Jacobian product). The pullback takes the gradient
of a scalar with respect to the output. It appends the nodes that compute the gradient with respect
to the input. It appends nothing before it is called. So layers below the lowest cross-attention
that is read have no backward nodes.

Shapes: hidden states [B, T, D], attention probabilities [B, H, T, S].

The derivatives are written by hand. Tracing autograd gives a graph several times larger, slow to
export and full of shape arithmetic. `validate` compares every exported graph with autograd.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import onnx_ir as ir
from torch import nn

from .builder import Graph

Pullback = Callable[[ir.Value], ir.Value]

# Added to an attention score, it makes the probability exactly 0: scores of models reach 1e4.
# Scores are summed in float32 in every precision.
MASKED = -1e30


def linear(graph: Graph, x: ir.Value, layer: nn.Linear) -> tuple[ir.Value, Pullback]:
    """Append an affine map over the last axis; return its output and pullback."""
    weight = graph.weight(layer.weight, transpose=True)
    y = graph.MatMul(x, weight)
    if layer.bias is not None:
        y = graph.Add(y, graph.weight(layer.bias))

    def pullback(dy: ir.Value) -> ir.Value:
        return graph.MatMul(dy, graph.Transpose(weight, perm=[1, 0]))

    return y, pullback


def layer_norm(graph: Graph, x: ir.Value, layer: nn.LayerNorm) -> tuple[ir.Value, Pullback]:
    """Append layer normalization over the last axis; return its output and pullback.

    The pullback normalizes x again instead of taking mean and deviation from LayerNormalization:
    TensorRT refuses that node with more than one output.
    """
    scale = graph.weight(layer.weight)
    y = graph.LayerNormalization(x, scale, graph.weight(layer.bias), axis=-1, epsilon=layer.eps)

    def mean(value: ir.Value) -> ir.Value:
        return graph.ReduceMean(value, graph.ints(-1))

    def pullback(dy: ir.Value) -> ir.Value:
        centered = graph.Sub(x, mean(x))
        variance = mean(graph.Mul(centered, centered))
        deviation = graph.Sqrt(graph.Add(variance, graph.scalar(layer.eps)))
        normal = graph.Div(centered, deviation)
        dnormal = graph.Mul(dy, scale)
        along = graph.Mul(normal, mean(graph.Mul(dnormal, normal)))
        return graph.Div(graph.Sub(graph.Sub(dnormal, mean(dnormal)), along), deviation)

    return y, pullback


def gelu(graph: Graph, x: ir.Value) -> tuple[ir.Value, Pullback]:
    """Append the exact GELU, x * Phi(x); return its output and pullback."""

    def pullback(dy: ir.Value) -> ir.Value:
        erf = graph.Erf(graph.Mul(x, graph.scalar(math.sqrt(0.5))))
        cdf = graph.Mul(graph.Add(erf, graph.scalar(1.0)), graph.scalar(0.5))
        exp = graph.Exp(graph.Mul(graph.Mul(x, x), graph.scalar(-0.5)))
        pdf = graph.Mul(exp, graph.scalar(1 / math.sqrt(2 * math.pi)))
        return graph.Mul(dy, graph.Add(cdf, graph.Mul(x, pdf)))

    return graph.Gelu(x), pullback


def split_heads(graph: Graph, x: ir.Value, heads: int) -> ir.Value:
    """Split heads, [B, T, H * d] -> [B, H, T, d]."""
    return graph.Transpose(graph.Reshape(x, graph.ints(0, 0, heads, -1)), perm=[0, 2, 1, 3])


def merge_heads(graph: Graph, x: ir.Value) -> ir.Value:
    """Merge heads, [B, H, T, d] -> [B, T, H * d]."""
    return graph.Reshape(graph.Transpose(x, perm=[0, 2, 1, 3]), graph.ints(0, 0, -1))


def matmul_transposed(graph: Graph, a: ir.Value, b: ir.Value) -> ir.Value:
    """Multiply by a transposed matrix, a @ b^T, over the last two axes of rank-4 values."""
    return graph.MatMul(a, graph.Transpose(b, perm=[0, 1, 3, 2]))


def attention_bias(graph: Graph, keep: ir.Value) -> ir.Value:
    """Turn a mask [B, S] (1 keeps, 0 masks) into a bias of attention scores, [B, 1, 1, S]."""
    masked = graph.Mul(graph.Sub(graph.scalar(1.0), keep), graph.scalar(MASKED))
    return graph.Unsqueeze(masked, graph.ints(1, 2))


class Attention(NamedTuple):
    """Softmax attention over split heads, with the values that its derivatives need."""

    query: ir.Value  # [B, H, T, d], scaled
    key: ir.Value  # [B, H, S, d]
    value: ir.Value  # [B, H, S, d]
    probabilities: ir.Value  # [B, H, T, S]
    output: ir.Value  # [B, H, T, d]
    scale: float

    def gradient_of_probabilities(self, graph: Graph, dy: ir.Value) -> ir.Value:
        """Return GradCAM's G [B, H, T, S], given the gradient of the output [B, H, T, d]."""
        return matmul_transposed(graph, dy, self.value)

    def _gradient_of_scores(self, graph: Graph, dprobabilities: ir.Value) -> ir.Value:
        weighted = graph.Mul(self.probabilities, dprobabilities)
        total = graph.ReduceSum(weighted, graph.ints(-1))
        return graph.Sub(weighted, graph.Mul(self.probabilities, total))

    def _gradient_of_query(self, graph: Graph, dscores: ir.Value) -> ir.Value:
        return graph.Mul(graph.MatMul(dscores, self.key), graph.scalar(self.scale))

    def gradient_of_query(self, graph: Graph, dprobabilities: ir.Value) -> ir.Value:
        """Return the gradient of the query [B, H, T, d], given that of the probabilities."""
        return self._gradient_of_query(graph, self._gradient_of_scores(graph, dprobabilities))

    def gradients(self, graph: Graph, dy: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
        """Return the gradients of query, key and value, given that of the output."""
        dscores = self._gradient_of_scores(graph, self.gradient_of_probabilities(graph, dy))
        dquery = self._gradient_of_query(graph, dscores)
        dkey = graph.MatMul(graph.Transpose(dscores, perm=[0, 1, 3, 2]), self.query)
        dvalue = graph.MatMul(graph.Transpose(self.probabilities, perm=[0, 1, 3, 2]), dy)
        return dquery, dkey, dvalue


def attention(
    graph: Graph,
    query: ir.Value,
    key: ir.Value,
    value: ir.Value,
    head_width: int,
    bias: ir.Value | None = None,
) -> Attention:
    """Append attention over split heads, softmax(query key^T / sqrt(d) + bias) value.

    The query is scaled, not the scores: unscaled scores may be too large for float16, and TensorRT
    fuses attention only in this form.

    Args:
        graph: graph that the nodes are appended to.
        query: query, [B, H, T, d].
        key: key, [B, H, S, d].
        value: value, [B, H, S, d].
        head_width: width of a head, d.
        bias: bias of the scores, broadcast to [B, H, T, S].
    """
    scale = 1 / math.sqrt(head_width)
    query = graph.Mul(query, graph.scalar(scale))
    scores = matmul_transposed(graph, query, key)
    if bias is not None:
        scores = graph.Add(scores, bias)
    probabilities = graph.Softmax(scores, axis=-1)
    return Attention(query, key, value, probabilities, graph.MatMul(probabilities, value), scale)
