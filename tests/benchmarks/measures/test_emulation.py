"""Emulated low precision against PyTorch's own, rounding by rounding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn
from torch.nn import functional

from benchmarks.measures.emulation import emulate
from pnp_ovss.engine.runners.onnxruntime import OnnxRuntimeRunner
from pnp_ovss.export.graphs import blocks, builder
from pnp_ovss.export.graphs.precision import convert
from tests import thresholds

HEADS, WIDTH, TOKENS, BATCH = 4, 64, 33, 3
LOW = {"fp16": torch.float16, "bf16": torch.bfloat16}


class Block(nn.Module):
    """Attention with a residual, and the gradient of its query: every kind of node there is."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def graph(self) -> ir.Model:
        g = builder.Graph(self)
        x, dy = (g.input(name, builder.FLOAT, ["batch", "tokens", WIDTH]) for name in ("x", "dy"))
        normal, _ = blocks.layer_norm(g, x, self.norm)
        query, to_query = blocks.linear(g, normal, self.query)
        key, _ = blocks.linear(g, normal, self.key)
        value, _ = blocks.linear(g, normal, self.value)
        split = (blocks.split_heads(g, part, HEADS) for part in (query, key, value))
        attended = blocks.attention(g, *split, head_width=WIDTH // HEADS)
        mixed, to_mixed = blocks.linear(g, blocks.merge_heads(g, attended.output), self.out)
        y = g.Add(x, mixed)
        dmixed = blocks.split_heads(g, to_mixed(dy), HEADS)
        dprobabilities = attended.gradient_of_probabilities(g, dmixed)
        dquery = attended.gradient_of_query(g, dprobabilities)
        dx = to_query(blocks.merge_heads(g, dquery))
        shape = ["batch", "tokens", WIDTH]
        return g.finish([x, dy], {"y": (y, shape), "dx": (dx, shape)})

    def explicit(self, x: torch.Tensor, dy: torch.Tensor, low: torch.dtype) -> list[torch.Tensor]:
        """The same in PyTorch, which adds up products of low precision in float32 as well."""

        def linear(value: torch.Tensor, layer: nn.Linear) -> torch.Tensor:
            return value @ layer.weight.to(low).t() + layer.bias.to(low)

        def split(value: torch.Tensor) -> torch.Tensor:
            return value.unflatten(-1, (HEADS, -1)).transpose(1, 2)

        def merge(value: torch.Tensor) -> torch.Tensor:
            return value.transpose(1, 2).flatten(2)

        normal = functional.layer_norm(x, (WIDTH,), self.norm.weight, self.norm.bias).to(low)
        query, key, value = (
            split(linear(normal, layer)) for layer in (self.query, self.key, self.value)
        )
        scale = (WIDTH // HEADS) ** -0.5
        probabilities = ((query * scale) @ key.mT).float().softmax(-1)
        y = x + linear(merge(probabilities.to(low) @ value), self.out).float()

        gradient = (split(dy.to(low) @ self.out.weight.to(low)) @ value.mT).float()
        weighted = probabilities * gradient
        dscores = weighted - probabilities * weighted.sum(-1, keepdim=True)
        dquery = (dscores.to(low) @ key) * scale
        return [y, merge(dquery).float() @ self.query.weight]  # an output: in float32


def run(model: ir.Model, path: Path, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    builder.save(model, path)
    return list(OnnxRuntimeRunner(path).run(feeds).values())


@pytest.mark.parametrize("precision", LOW)
def test_rounds_as_pytorch_does(precision, tmp_path: Path):
    torch.manual_seed(0)
    block = Block().requires_grad_(False)
    x, dy = torch.randn(2, BATCH, TOKENS, WIDTH)
    feeds = {"x": x.numpy(), "dy": dy.numpy()}
    exact = run(block.graph(), tmp_path / "fp32.onnx", feeds)
    found = run(emulate(convert(block.graph(), precision)), tmp_path / "low.onnx", feeds)
    wanted = block.explicit(x, dy, LOW[precision])
    for f, w, e in zip(found, wanted, exact, strict=True):
        rounding = np.abs(w.numpy() - e).mean()
        difference = np.abs(w.numpy() - f).mean()
        assert difference < thresholds.EMULATION * rounding
