"""Transformer blocks as ONNX nodes, each with its pullback.

A block returns its output and a *pullback*: a function that, given the gradient of a scalar with
respect to the output, appends the nodes that compute the gradient with respect to the input.
Nothing is appended until a pullback is called, so a layer below the lowest tapped one costs
nothing backwards. Shapes: hidden states [B, T, D]; attention probabilities [B, H, T, S].

The derivatives are written out, not traced, because tracing autograd gives a graph several times
larger, slow to export and full of shape arithmetic; `validate` holds every exported graph to
PyTorch's autograd.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import onnx_ir as ir
from torch import nn

from .builder import Graph

Pullback = Callable[[ir.Value], ir.Value]

# Added to a score, it leaves a probability of exactly 0, beside scores of any model: 1e4 was seen.
# Scores are summed in float32 in every precision.
MASKED = -1e30


def linear(graph: Graph, x: ir.Value, layer: nn.Linear) -> tuple[ir.Value, Pullback]:
    """Affine map over the last axis."""
    weight = graph.weight(layer.weight, transpose=True)
    y = graph.MatMul(x, weight)
    if layer.bias is not None:
        y = graph.Add(y, graph.weight(layer.bias))

    def pullback(dy: ir.Value) -> ir.Value:
        return graph.MatMul(dy, graph.Transpose(weight, perm=[1, 0]))

    return y, pullback


def layer_norm(graph: Graph, x: ir.Value, layer: nn.LayerNorm) -> tuple[ir.Value, Pullback]:
    """Layer normalization over the last axis.

    The pullback normalizes x again instead of asking LayerNormalization for its mean and deviation:
    TensorRT refuses that node with more than one output.
    """
    scale = graph.weight(layer.weight)
    y = graph.LayerNormalization(x, scale, graph.weight(layer.bias), axis=-1, epsilon=layer.eps)

    def mean(value: ir.Value) -> ir.Value:
        return graph.ReduceMean(value, graph.ints(-1))

    def pullback(dy: ir.Value) -> ir.Value:
        centerd = graph.Sub(x, mean(x))
        variance = mean(graph.Mul(centerd, centerd))
        deviation = graph.Sqrt(graph.Add(variance, graph.scalar(layer.eps)))
        normal = graph.Div(centerd, deviation)
        dnormal = graph.Mul(dy, scale)
        along = graph.Mul(normal, mean(graph.Mul(dnormal, normal)))
        return graph.Div(graph.Sub(graph.Sub(dnormal, mean(dnormal)), along), deviation)

    return y, pullback


def gelu(graph: Graph, x: ir.Value) -> tuple[ir.Value, Pullback]:
    """The exact GELU, x * Phi(x)."""

    def pullback(dy: ir.Value) -> ir.Value:
        erf = graph.Erf(graph.Mul(x, graph.scalar(math.sqrt(0.5))))
        cdf = graph.Mul(graph.Add(erf, graph.scalar(1.0)), graph.scalar(0.5))
        exp = graph.Exp(graph.Mul(graph.Mul(x, x), graph.scalar(-0.5)))
        pdf = graph.Mul(exp, graph.scalar(1 / math.sqrt(2 * math.pi)))
        return graph.Mul(dy, graph.Add(cdf, graph.Mul(x, pdf)))

    return graph.Gelu(x), pullback


def split_heads(graph: Graph, x: ir.Value, heads: int) -> ir.Value:
    """[B, T, H*d] -> [B, H, T, d]."""
    return graph.Transpose(graph.Reshape(x, graph.ints(0, 0, heads, -1)), perm=[0, 2, 1, 3])


def merge_heads(graph: Graph, x: ir.Value) -> ir.Value:
    """[B, H, T, d] -> [B, T, H*d]."""
    return graph.Reshape(graph.Transpose(x, perm=[0, 2, 1, 3]), graph.ints(0, 0, -1))


def matmul_transposed(graph: Graph, a: ir.Value, b: ir.Value) -> ir.Value:
    """A @ b^T over the last two axes of rank-4 values."""
    return graph.MatMul(a, graph.Transpose(b, perm=[0, 1, 3, 2]))


def attention_bias(graph: Graph, keep: ir.Value) -> ir.Value:
    """[B, S] of ones and zeros -> [B, 1, 1, S], added to attention scores."""
    masked = graph.Mul(graph.Sub(graph.scalar(1.0), keep), graph.scalar(MASKED))
    return graph.Unsqueeze(masked, graph.ints(1, 2))


class Attention(NamedTuple):
    """Softmax attention over split heads, and what its derivative needs."""

    query: ir.Value  # [B, H, T, d], scaled
    key: ir.Value  # [B, H, S, d]
    value: ir.Value  # [B, H, S, d]
    probabilities: ir.Value  # [B, H, T, S]
    output: ir.Value  # [B, H, T, d]
    scale: float

    def gradient_of_probabilities(self, graph: Graph, dy: ir.Value) -> ir.Value:
        """[B, H, T, S]: the G of GradCAM, given the gradient of the output."""
        return matmul_transposed(graph, dy, self.value)

    def _gradient_of_scores(self, graph: Graph, dprobabilities: ir.Value) -> ir.Value:
        weighted = graph.Mul(self.probabilities, dprobabilities)
        total = graph.ReduceSum(weighted, graph.ints(-1))
        return graph.Sub(weighted, graph.Mul(self.probabilities, total))

    def _gradient_of_query(self, graph: Graph, dscores: ir.Value) -> ir.Value:
        return graph.Mul(graph.MatMul(dscores, self.key), graph.scalar(self.scale))

    def gradient_of_query(self, graph: Graph, dprobabilities: ir.Value) -> ir.Value:
        """[B, H, T, d]."""
        return self._gradient_of_query(graph, self._gradient_of_scores(graph, dprobabilities))

    def gradients(self, graph: Graph, dy: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
        """Gradients of query, key and value, given that of the output."""
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
    """softmax(query key^T / sqrt(d) + bias) value, over split heads.

    The query is scaled rather than the scores: those are larger, may not fit into float16 unscaled,
    and TensorRT asks for it where it fuses attention.
    """
    scale = 1 / math.sqrt(head_width)
    query = graph.Mul(query, graph.scalar(scale))
    scores = matmul_transposed(graph, query, key)
    if bias is not None:
        scores = graph.Add(scores, bias)
    probabilities = graph.Softmax(scores, axis=-1)
    return Attention(query, key, value, probabilities, graph.MatMul(probabilities, value), scale)
