"""The image-text-matching branch, with salience: cross-attention times the gradient of the match.

Forward through the text encoder, then backward from the match logit down to the lowest tapped
cross-attention, and no further: that is all GradCAM needs.
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

MATCH = 1  # row of the ITM head that says "match"
# Gradients are computed this many times larger: unscaled, float16 lost some that were 2^-6 times
# those of the models measured, and held those of 2^14. A power of two changes nothing elsewhere.
GRADIENT_SCALE = 2.0**5


def salience_graph(
    model: BlipForImageTextRetrieval,
    layers: Sequence[int],
    heads: Sequence[int],
    *,
    separate: bool = False,
) -> ir.Model:
    """The graph of salience at the cross-attention of `layers` and `heads` (from 0).

    Inputs: image_embeds [I, 1 + P, D], input_ids [B, T], attention_mask [B, T], patch_keep [I, P],
    where I is B, or 1: then all captions are about one image, whose keys and values they share.
    Outputs: itm_logits [B, 2] and salience [B, T, P], the average over layers and heads of
    A * max(dlogit[1]/dA, 0) with the rows of padding zero; where `separate`, every map on its own,
    salience [B, L, H, T, P].
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
    image_cls_kept = graph.Pad(keep, graph.ints(0, 1, 0, 0), graph.scalar(1.0))
    image_bias = attention_bias(graph, image_cls_kept)

    hidden = _embed(graph, model.text_encoder.embeddings, ids)
    run: list[_TextLayer] = []
    for module in model.text_encoder.encoder.layer:
        run.append(_TextLayer(graph, module, hidden, image, text_bias, image_bias))
        hidden = run[-1].output
    enc = graph.Squeeze(graph.Slice(hidden, *map(graph.ints, (0, 1, 1))), graph.ints(1))
    logits, _ = linear(graph, enc, model.itm_head)

    gradient = _gradient_of_match(graph, model, ids)
    maps: dict[int, ir.Value] = {}
    for index in reversed(range(min(layers), len(run))):
        dprobabilities, dresidual = run[index].gradient_of_attention(gradient)
        if index in layers:
            maps[index] = _salience(graph, run[index].probabilities, dprobabilities, heads)
        if index > min(layers):
            gradient = run[index].gradient_of_input(dprobabilities, dresidual)

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
    """One text layer, run forward; its gradients are appended when they are asked for."""

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
        own, cross = module.attention.self, module.crossattention.self
        self._heads = own.num_attention_heads
        width = own.attention_head_size

        query, self._to_query = linear(graph, hidden, own.query)
        key, self._to_key = linear(graph, hidden, own.key)
        value, self._to_value = linear(graph, hidden, own.value)
        self._self = self._attend(query, key, value, width, text_bias)
        mixed, self._to_self = linear(
            graph, merge_heads(graph, self._self.output), module.attention.output.dense
        )
        text, self._to_text_sum = layer_norm(
            graph, graph.Add(mixed, hidden), module.attention.output.LayerNorm
        )

        query, self._to_cross_query = linear(graph, text, cross.query)
        key, _ = linear(graph, image, cross.key)
        value, _ = linear(graph, image, cross.value)
        self._cross = self._attend(query, key, value, width, image_bias)
        mixed, self._to_cross = linear(
            graph, merge_heads(graph, self._cross.output), module.crossattention.output.dense
        )
        fused, self._to_fused_sum = layer_norm(
            graph, graph.Add(mixed, text), module.crossattention.output.LayerNorm
        )

        wide, self._to_narrow = linear(graph, fused, module.intermediate.dense)
        active, self._to_wide = gelu(graph, wide)
        narrow, self._to_active = linear(graph, active, module.output.dense)
        self.output, self._to_sum = layer_norm(
            graph, graph.Add(narrow, fused), module.output.LayerNorm
        )

    @property
    def probabilities(self) -> ir.Value:
        """Cross-attention, [B, H, T, 1 + P]."""
        return self._cross.probabilities

    def gradient_of_attention(self, doutput: ir.Value) -> tuple[ir.Value, ir.Value]:
        """G [B, H, T, 1 + P], and the gradient that passes it by, [B, T, D]."""
        dsum = self._to_sum(doutput)
        dfused = self._graph.Add(dsum, self._to_narrow(self._to_wide(self._to_active(dsum))))
        dresidual = self._to_fused_sum(dfused)
        dcross = self._split(self._to_cross(dresidual))
        return self._cross.gradient_of_probabilities(self._graph, dcross), dresidual

    def gradient_of_input(self, dprobabilities: ir.Value, dresidual: ir.Value) -> ir.Value:
        """The gradient of the layer's input [B, T, D], from what `gradient_of_attention` gave."""
        graph = self._graph
        dquery = self._cross.gradient_of_query(graph, dprobabilities)
        dtext = graph.Add(dresidual, self._to_cross_query(merge_heads(graph, dquery)))
        dsum = self._to_text_sum(dtext)
        dself = self._split(self._to_self(dsum))
        dhidden = dsum
        for pullback, part in zip(
            (self._to_query, self._to_key, self._to_value),
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
    words = graph.Gather(graph.weight(embeddings.word_embeddings.weight), ids, axis=0)
    length = graph.Shape(ids, start=1, end=2)
    positions = graph.Slice(
        graph.weight(embeddings.position_embeddings.weight), graph.ints(0), length, graph.ints(0)
    )
    return layer_norm(graph, graph.Add(words, positions), embeddings.LayerNorm)[0]


def _gradient_of_match(graph: Graph, model: BlipForImageTextRetrieval, ids: ir.Value) -> ir.Value:
    """D logit[1] / d hidden, scaled, [1, T, D]: the ITM head's row at the first token."""
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
    """A * max(G, 0) of the chosen heads without the image's [CLS]: [B, 1, H, T, P]."""
    a, g = (
        graph.Slice(
            graph.Gather(value, graph.ints(*heads), axis=1),
            *map(graph.ints, (1, 2**31 - 1, 3)),
        )
        for value in (probabilities, dprobabilities)
    )
    return graph.Unsqueeze(graph.Mul(a, graph.Relu(g)), graph.ints(1))
