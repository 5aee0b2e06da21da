"""Builds the graph of BLIP's image-text matching with salience (GradCAM).

Salience is cross-attention times the positive part of its gradient. The graph runs the text encoder
forward. Then it runs backward from the match logit to the lowest cross-attention that is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
from transformers import BlipForImageTextRetrieval

from ...graphs.blocks import (
    Attention,
    attention,
    attention_bias,
    gelu,
    layer_norm,
    linear,
    merge_heads,
    split_heads,
)
from ...graphs.builder import Graph

MATCH = 1  # index of the logit "match" in the ITM head
# Factor of all gradients. Unscaled, float16 lost gradients 2^-6 times as large as those of the
# models measured, and held gradients 2^14 times as large. In float32 a power of two is exact.
GRADIENT_SCALE = 2.0**5


def salience_graph(
    model: BlipForImageTextRetrieval,
    layers: Sequence[int],
    heads: Sequence[int],
    *,
    separate: bool = False,
) -> ir.Model:
    """Build the graph of the match and of its salience.

    Inputs: image_embeds [I, 1 + P, D], input_ids [B, T], attention_mask [B, T], patch_keep [I, P].
    I is B; or it is 1, and all captions are about one image, whose keys and values they share.

    Outputs: itm_logits [B, 2] and salience [B, T, P], the average over layers and heads of
    A * max(dlogit[1]/dA, 0). Rows of padding are zero. With `separate`, salience is
    [B, L, H, T, P].

    Args:
        model: model.
        layers: indices of cross-attention layers, from 0.
        heads: indices of attention heads, from 0.
        separate: whether to return the map of every layer and head instead of the average.

    Returns:
        The graph.
    """
    graph = Graph(model)
    patches = model.vision_model.embeddings.position_embedding.shape[1] - 1
    width = model.vision_model.post_layernorm.weight.shape[0]
    image = graph.input("image_embeds", ir.DataType.FLOAT, ["images", 1 + patches, width])
    ids = graph.input("input_ids", ir.DataType.INT64, ["batch", "tokens"])
    mask = graph.input("attention_mask", ir.DataType.INT64, ["batch", "tokens"])
    keep = graph.input("patch_keep", ir.DataType.FLOAT, ["images", patches])

    tokens = graph.Cast(mask, to=ir.DataType.FLOAT)
    text_bias = attention_bias(graph, tokens)
    keep_with_cls = graph.Pad(keep, graph.ints(0, 1, 0, 0), graph.scalar(1.0))
    image_bias = attention_bias(graph, keep_with_cls)

    hidden = _embed(graph, model.text_encoder.embeddings, ids)
    text_layers: list[_TextLayer] = []
    for module in model.text_encoder.encoder.layer:
        layer = _TextLayer(graph, module, hidden, image, text_bias, image_bias)
        text_layers.append(layer)
        hidden = layer.output
    enc = graph.Squeeze(graph.Slice(hidden, *map(graph.ints, (0, 1, 1))), graph.ints(1))
    logits, _ = linear(graph, enc, model.itm_head)

    gradient = _gradient_of_match(graph, model, ids)
    maps: dict[int, ir.Value] = {}
    for index in reversed(range(min(layers), len(text_layers))):
        layer = text_layers[index]
        dprobabilities, dresidual = layer.gradient_of_attention(gradient)
        if index in layers:
            maps[index] = _salience(graph, layer.probabilities, dprobabilities, heads)
        if index > min(layers):
            gradient = layer.gradient_of_input(dprobabilities, dresidual)

    stack = graph.Concat(*(maps[index] for index in layers), axis=1)  # [B, L, H, T, P]
    shape = ["batch", len(layers), len(heads), "tokens", patches]
    if not separate:
        stack = graph.ReduceMean(stack, graph.ints(1, 2), keepdims=0)
        shape = ["batch", "tokens", patches]
    unscaled = graph.Mul(tokens, graph.scalar(1 / GRADIENT_SCALE))
    rows = graph.Unsqueeze(unscaled, graph.ints(1, 2, 4) if separate else graph.ints(2))
    return graph.finish(
        [image, ids, mask, keep],
        {"itm_logits": (logits, ["batch", 2]), "salience": (graph.Mul(stack, rows), shape)},
    )


class _TextLayer:
    """A layer of the text encoder; its methods append the nodes of its gradients."""

    def __init__(
        self,
        graph: Graph,
        module: Any,  # BlipTextLayer
        hidden: ir.Value,
        image: ir.Value,
        text_bias: ir.Value,
        image_bias: ir.Value,
    ) -> None:
        self._graph = graph
        self_attention, cross = module.attention.self, module.crossattention.self
        self._heads = self_attention.num_attention_heads
        width = self_attention.attention_head_size

        query, self._query_pullback = linear(graph, hidden, self_attention.query)
        key, self._key_pullback = linear(graph, hidden, self_attention.key)
        value, self._value_pullback = linear(graph, hidden, self_attention.value)
        self._self = self._attend(query, key, value, width, text_bias)
        mixed, self._self_output_pullback = linear(
            graph, merge_heads(graph, self._self.output), module.attention.output.dense
        )
        text, self._self_norm_pullback = layer_norm(
            graph, graph.Add(mixed, hidden), module.attention.output.LayerNorm
        )

        query, self._cross_query_pullback = linear(graph, text, cross.query)
        key, _ = linear(graph, image, cross.key)
        value, _ = linear(graph, image, cross.value)
        self._cross = self._attend(query, key, value, width, image_bias)
        mixed, self._cross_output_pullback = linear(
            graph, merge_heads(graph, self._cross.output), module.crossattention.output.dense
        )
        fused, self._cross_norm_pullback = layer_norm(
            graph, graph.Add(mixed, text), module.crossattention.output.LayerNorm
        )

        expanded, self._expand_pullback = linear(graph, fused, module.intermediate.dense)
        active, self._gelu_pullback = gelu(graph, expanded)
        contracted, self._contract_pullback = linear(graph, active, module.output.dense)
        self.output, self._output_norm_pullback = layer_norm(
            graph, graph.Add(contracted, fused), module.output.LayerNorm
        )

    @property
    def probabilities(self) -> ir.Value:
        """Cross-attention probabilities, [B, H, T, 1 + P]."""
        return self._cross.probabilities

    def gradient_of_attention(self, doutput: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Return GradCAM's G [B, H, T, 1 + P], and the gradient of the residual stream [B, T, D].

        Args:
            doutput: gradient of the layer's output, [B, T, D].
        """
        dsum = self._output_norm_pullback(doutput)
        dfused = self._graph.Add(
            dsum, self._expand_pullback(self._gelu_pullback(self._contract_pullback(dsum)))
        )
        dresidual = self._cross_norm_pullback(dfused)
        dcross = self._split(self._cross_output_pullback(dresidual))
        return self._cross.gradient_of_probabilities(self._graph, dcross), dresidual

    def gradient_of_input(self, dprobabilities: ir.Value, dresidual: ir.Value) -> ir.Value:
        """Return the gradient of the layer's input [B, T, D], given `gradient_of_attention`."""
        graph = self._graph
        dquery = self._cross.gradient_of_query(graph, dprobabilities)
        dtext = graph.Add(dresidual, self._cross_query_pullback(merge_heads(graph, dquery)))
        dsum = self._self_norm_pullback(dtext)
        dself = self._split(self._self_output_pullback(dsum))
        dhidden = dsum
        for pullback, part in zip(
            (self._query_pullback, self._key_pullback, self._value_pullback),
            self._self.gradients(graph, dself),
            strict=True,
        ):
            dhidden = graph.Add(dhidden, pullback(merge_heads(graph, part)))
        return dhidden

    def _attend(
        self, query: ir.Value, key: ir.Value, value: ir.Value, head_width: int, bias: ir.Value
    ) -> Attention:
        parts = (self._split(part) for part in (query, key, value))
        return attention(self._graph, *parts, head_width=head_width, bias=bias)

    def _split(self, value: ir.Value) -> ir.Value:
        return split_heads(self._graph, value, self._heads)


def _embed(graph: Graph, embeddings: Any, ids: ir.Value) -> ir.Value:
    """Append the embedding of tokens, ids [B, T] -> [B, T, D]."""
    words = graph.Gather(graph.weight(embeddings.word_embeddings.weight), ids, axis=0)
    length = graph.Shape(ids, start=1, end=2)
    positions = graph.Slice(
        graph.weight(embeddings.position_embeddings.weight), graph.ints(0), length, graph.ints(0)
    )
    return layer_norm(graph, graph.Add(words, positions), embeddings.LayerNorm)[0]


def _gradient_of_match(graph: Graph, model: BlipForImageTextRetrieval, ids: ir.Value) -> ir.Value:
    """Append the gradient of the match logit by the last hidden states, scaled, [1, T, D].

    It is the ITM head's weight at the first token, and zero at all other tokens.
    """
    row = graph.Gather(
        graph.weight(model.itm_head.weight, transpose=True), graph.ints(MATCH), axis=1
    )
    length = graph.Squeeze(graph.Shape(ids, start=1, end=2), graph.ints(0))
    positions = graph.Range(graph.integer(0), length, graph.integer(1))
    is_first = graph.Equal(positions, graph.integer(0))
    scale = graph.Where(is_first, graph.scalar(GRADIENT_SCALE), graph.scalar(0.0))
    first = graph.Unsqueeze(scale, graph.ints(0, 2))
    return graph.Mul(first, graph.Reshape(row, graph.ints(1, 1, -1)))


def _salience(
    graph: Graph, probabilities: ir.Value, dprobabilities: ir.Value, heads: Sequence[int]
) -> ir.Value:
    """Append A * max(G, 0) of the chosen heads, without the image's [CLS], [B, 1, H, T, P]."""
    a, g = (
        graph.Slice(
            graph.Gather(value, graph.ints(*heads), axis=1),
            *map(graph.ints, (1, 2**31 - 1, 3)),
        )
        for value in (probabilities, dprobabilities)
    )
    return graph.Unsqueeze(graph.Mul(a, graph.Relu(g)), graph.ints(1))
