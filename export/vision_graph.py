"""The image encoder: pixels to patch embeddings."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from transformers import BlipForImageTextRetrieval

from .blocks import attention, gelu, layer_norm, linear, merge_heads, split_heads
from .graph import Graph


def vision_graph(model: BlipForImageTextRetrieval) -> ir.Model:
    """pixel_values [B, 3, S, S] -> image_embeds [B, 1 + P, D], S being the model's image size."""
    encoder: Any = model.vision_model
    graph = Graph(model)
    size = encoder.config.image_size
    pixels = graph.input("pixel_values", ir.DataType.FLOAT, ["batch", 3, size, size])

    hidden = _embed(graph, encoder, pixels)
    for layer in encoder.encoder.layers:
        normal, _ = layer_norm(graph, hidden, layer.layer_norm1)
        hidden = graph.Add(hidden, _self_attention(graph, normal, layer.self_attn))
        normal, _ = layer_norm(graph, hidden, layer.layer_norm2)
        wide, _ = linear(graph, normal, layer.mlp.fc1)
        narrow, _ = linear(graph, gelu(graph, wide)[0], layer.mlp.fc2)
        hidden = graph.Add(hidden, narrow)
    embeds, _ = layer_norm(graph, hidden, encoder.post_layernorm)

    tokens = encoder.embeddings.position_embedding.shape[1]
    return graph.finish(
        [pixels], {"image_embeds": (embeds, ["batch", tokens, encoder.config.hidden_size])}
    )


def _embed(graph: Graph, encoder: Any, pixels: ir.Value) -> ir.Value:
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


def _self_attention(graph: Graph, x: ir.Value, module: Any) -> ir.Value:
    packed, _ = linear(graph, x, module.qkv)
    query, key, value = (
        split_heads(graph, part, module.num_heads)
        for part in graph.op_multi_out(
            "Split", [packed], {"axis": -1, "num_outputs": 3}, num_outputs=3
        )
    )
    attended = attention(graph, query, key, value, module.head_dim)
    return linear(graph, merge_heads(graph, attended.output), module.projection)[0]
