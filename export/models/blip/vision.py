"""Builds the graph of BLIP's image encoder, from pixels to patch embeddings."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from transformers import BlipForImageTextRetrieval

from ...graphs.blocks import (
    attention,
    attention_bias,
    gelu,
    layer_norm,
    linear,
    merge_heads,
    split_heads,
)
from ...graphs.builder import Graph


def vision_graph(model: BlipForImageTextRetrieval, *, token_subset: bool = False) -> ir.Model:
    """Build the graph of the image encoder.

    Input: pixel_values [B, 3, S, S] with S the model's image size. Output: image_embeds
    [B, 1 + P, D], of the image's [CLS] and P patches.

    With `token_subset` the encoder runs on some of the tokens. A second input, kept int64 [B, R],
    has the positions of these tokens among the 1 + P, and image_embeds is [B, R, D]. The first
    position must be 0, the image's [CLS]; any later 0 is padding, which no token attends to.

    Args:
        model: model.
        token_subset: whether the encoder runs on some of the tokens.

    Returns:
        The graph.
    """
    encoder: Any = model.vision_model
    graph = Graph(model)
    size = encoder.config.image_size
    inputs = [graph.input("pixel_values", ir.DataType.FLOAT, ["batch", 3, size, size])]
    tokens: int | str = encoder.embeddings.position_embedding.shape[1]

    hidden, bias = _embed(graph, encoder, inputs[0]), None
    if token_subset:
        tokens = "kept"
        kept = graph.input("kept", ir.DataType.INT64, ["batch", tokens])
        inputs.append(kept)
        hidden = graph.GatherND(hidden, graph.Unsqueeze(kept, graph.ints(2)), batch_dims=1)
        bias = attention_bias(graph, _is_token(graph, kept))
    for layer in encoder.encoder.layers:
        normalized, _ = layer_norm(graph, hidden, layer.layer_norm1)
        hidden = graph.Add(hidden, _self_attention(graph, normalized, layer.self_attn, bias))
        normalized, _ = layer_norm(graph, hidden, layer.layer_norm2)
        expanded, _ = linear(graph, normalized, layer.mlp.fc1)
        contracted, _ = linear(graph, gelu(graph, expanded)[0], layer.mlp.fc2)
        hidden = graph.Add(hidden, contracted)
    embeds, _ = layer_norm(graph, hidden, encoder.post_layernorm)

    return graph.finish(
        inputs, {"image_embeds": (embeds, ["batch", tokens, encoder.config.hidden_size])}
    )


def _embed(graph: Graph, encoder: Any, pixels: ir.Value) -> ir.Value:
    """Append the embedding of [CLS] and patches, [B, 1 + P, D]."""
    embeddings = encoder.embeddings
    projection = embeddings.patch_embedding
    patch, width = encoder.config.patch_size, encoder.config.hidden_size
    patches = graph.Conv(
        pixels,
        graph.weight(projection.weight),
        graph.weight(projection.bias),
        kernel_shape=[patch, patch],
        strides=[patch, patch],
    )
    patches = graph.Transpose(graph.Reshape(patches, graph.ints(0, width, -1)), perm=[0, 2, 1])
    batch = graph.Shape(pixels, start=0, end=1)
    shape = graph.Concat(batch, graph.ints(1, width), axis=0)
    first = graph.Expand(graph.weight(embeddings.class_embedding), shape)
    tokens = graph.Concat(first, patches, axis=1)
    return graph.Add(tokens, graph.weight(embeddings.position_embedding))


def _is_token(graph: Graph, kept: ir.Value) -> ir.Value:
    """Turn positions [B, R] into a mask, float32 [B, R]: 1 for a token, 0 for padding."""
    one, zero, first = graph.scalar(1.0), graph.scalar(0.0), graph.integer(0)
    length = graph.Squeeze(graph.Shape(kept, start=1, end=2), graph.ints(0))
    columns = graph.Range(first, length, graph.integer(1))
    is_cls = graph.Where(graph.Equal(columns, first), one, zero)
    return graph.Where(graph.Equal(kept, first), is_cls, one)


def _self_attention(graph: Graph, x: ir.Value, module: Any, bias: ir.Value | None) -> ir.Value:
    """Append self-attention with its output projection, [B, T, D] -> [B, T, D]."""
    packed, _ = linear(graph, x, module.qkv)
    query, key, value = (
        split_heads(graph, part, module.num_heads)
        for part in graph.op_multi_out(
            "Split", [packed], {"axis": -1, "num_outputs": 3}, num_outputs=3
        )
    )
    attended = attention(graph, query, key, value, module.head_dim, bias)
    return linear(graph, merge_heads(graph, attended.output), module.projection)[0]
