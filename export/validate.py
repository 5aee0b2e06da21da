"""Holds exported graphs to float64: Hugging Face's own forward, and autograd.

A model can be ill-conditioned: its own rounding in float32 is then large, whoever computes it. So a
graph is allowed a multiple of what eager PyTorch in float32 is off, and no model is taken whose
rounding would show.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BlipForImageTextRetrieval

from ..engine.errors import ExecutionError, ModelError
from ..engine.model.folder import SALIENCE, VISION, VISION_TOKENS
from ..engine.runners.onnxruntime import OnnxRuntimeRunner
from .models.blip.salience import MATCH

BATCHES = (1, 3)
CAPTION_LENGTHS = (6, 17)

# Errors are relative to the largest value of an output.
FLOOR = 1e-5  # what any graph may be off; seen: 1e-6
MARGIN = 4  # times what eager PyTorch in float32 is off; seen: 0.3 to 2, by chance above 4
LIMIT = 1e-2  # a model that would need more is refused
REPEATS = 8  # runs of eager PyTorch before a graph is refused

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Accuracy:
    """How far an output is off float64, relative to its largest value there over all inputs.

    Attributes:
        graph: error of the exported graph, on ONNX Runtime.
        eager: error of Hugging Face's model and autograd in float32; then of the same with its
            parameters moved by their rounding, as often as that was tried.
    """

    graph: float
    eager: tuple[float, ...]

    @property
    def ill_conditioned(self) -> bool:
        """Whether float32 is not enough for the model."""
        return not MARGIN * self.eager[0] <= LIMIT

    @property
    def tolerance(self) -> float:
        """What the graph may be off."""
        return min(max(FLOOR, MARGIN * max(self.eager)), LIMIT)

    @property
    def hopeless(self) -> bool:
        """Whether the output is refused, however eager PyTorch's next run turns out."""
        return self.ill_conditioned or not self.graph <= LIMIT


def accuracy(
    model: BlipForImageTextRetrieval,
    folder: Path,
    layers: Sequence[int],
    heads: Sequence[int],
    *,
    separate: bool,
    seed: int = 0,
) -> dict[str, Accuracy]:
    """Compare the graphs with the model in float64, and the model in float32 too, on random inputs.

    Two batch sizes and two caption lengths are tried, with padding, masked patches, and one picture
    shared by several captions. `kept_embeds` are the image embeddings of some of the tokens.

    A single run in float32 can be nearly right by chance, where rounding is amplified along one
    direction. So before a graph is found to be out of tolerance, eager PyTorch runs again, with
    parameters moved by their own rounding.

    Args:
        model: resized to the exported image size; in float32, as it is again when this returns.
        folder: of the exported graphs.
        layers: as exported.
        heads: as exported.
        separate: as exported.
        seed: of the inputs.

    Returns:
        The accuracy of each output, by the output's name.
    """
    random = np.random.default_rng(seed)
    vision, branch = _inputs(random, model)

    def eager() -> list[Arrays]:
        return [
            *(_eager_vision(model, feeds) for feeds in vision),
            *(
                autograd_salience(model, feeds, layers, heads, separate=separate)
                for feeds in branch
            ),
        ]

    model.double()
    try:
        exact = eager()
    finally:
        model.float()
    graphs, singles = _errors(_run_graphs(folder, vision, branch), exact), _errors(eager(), exact)
    result = {name: Accuracy(graphs[name], (singles[name],)) for name in graphs}
    for _ in range(REPEATS):
        outputs = result.values()
        if any(o.hopeless for o in outputs) or all(o.graph <= o.tolerance for o in outputs):
            break
        with _moved(model, random):
            again = _errors(eager(), exact)
        result = {
            name: Accuracy(output.graph, (*output.eager, again[name]))
            for name, output in result.items()
        }
    return result


def require_accurate(outputs: Mapping[str, Accuracy]) -> None:
    """Refuse an ill-conditioned model, and a graph that is out of tolerance.

    Raises:
        ModelError: float32 is not enough for the model.
        ExecutionError: the graph is off by more than that explains.
    """
    for name, output in outputs.items():
        if not np.isfinite(output.eager[0]):
            raise ModelError(
                f"{name} of this model is not finite; nothing was written",
                "its weights are damaged: download or save the checkpoint again",
            )
        if output.ill_conditioned:
            raise ModelError(
                f"the model is ill-conditioned, it amplifies rounding: {name} of PyTorch itself in"
                f" float32 is off by {output.eager[0]:.1e} of its largest value, more than"
                f" {LIMIT / MARGIN:.1e}; nothing was written",
                "its weights are damaged or far from any trained model's: take another checkpoint",
            )
    for name, output in outputs.items():
        if not output.graph <= output.tolerance:
            raise ExecutionError(
                f"the exported {name} is off by {output.graph:.1e} of its largest value, more than"
                f" {output.tolerance:.1e} (PyTorch itself in float32: {max(output.eager):.1e});"
                " nothing was written",
                "report it with the checkpoint's name and the output of: pnp-ovss doctor",
            )


def _inputs(
    random: np.random.Generator, model: BlipForImageTextRetrieval
) -> tuple[list[Arrays], list[Arrays]]:
    """Random inputs of the image encoders, and of the matching branch.

    The image embeddings of the latter are what the model in float32 makes of the former.
    """
    size = model.vision_model.config.image_size
    vision: list[Arrays] = []
    branch: list[Arrays] = []
    for batch in BATCHES:
        pixels = {"pixel_values": random.normal(size=(batch, 3, size, size)).astype(np.float32)}
        embeds = _eager_vision(model, pixels)["image_embeds"]
        vision += [pixels, {**pixels, "kept": _kept(random, batch, embeds.shape[1])}]
        for length in CAPTION_LENGTHS:
            branch.append(_branch_inputs(random, model, embeds, batch, length))
        branch.append(_branch_inputs(random, model, embeds[:1], batch, CAPTION_LENGTHS[0]))
    return vision, branch


@contextmanager
def _moved(model: BlipForImageTextRetrieval, random: np.random.Generator) -> Iterator[None]:
    """Move the biases and the scales of every layer by their rounding, at most, for a while."""
    vectors = [parameter.data for parameter in model.parameters() if parameter.ndim == 1]
    kept = [vector.clone() for vector in vectors]
    try:
        for vector in vectors:
            by = 1 + np.finfo(np.float32).eps * random.uniform(-1, 1, vector.shape)
            vector.copy_(vector.double() * torch.from_numpy(by))
        yield
    finally:
        for vector, before in zip(vectors, kept, strict=True):
            vector.copy_(before)


def _eager_vision(model: BlipForImageTextRetrieval, feeds: Arrays) -> Arrays:
    """Image embeddings, [B, 1 + P, D]; "kept_embeds" where only the tokens in `kept` are seen."""
    if "kept" in feeds:
        return {"kept_embeds": embeds_of_kept(model, feeds["pixel_values"], feeds["kept"])}
    pixels = torch.from_numpy(feeds["pixel_values"]).to(model.dtype)
    with torch.no_grad():
        return {"image_embeds": model.vision_model(pixels).last_hidden_state.numpy()}


def _run_graphs(folder: Path, vision: Sequence[Arrays], branch: Sequence[Arrays]) -> list[Arrays]:
    """Outputs of the exported graphs, one of which is loaded at a time."""
    found: list[Arrays] = []
    for graph, inputs in (
        (VISION, [feeds for feeds in vision if "kept" not in feeds]),
        (VISION_TOKENS, [feeds for feeds in vision if "kept" in feeds]),
        (SALIENCE, branch),
    ):
        runner = OnnxRuntimeRunner(folder / graph)
        for feeds in inputs:
            outputs = runner.run(feeds)
            if "kept" in feeds:
                outputs = {"kept_embeds": outputs["image_embeds"]}
            found.append(outputs)
        runner.close()
    return found


def _errors(found: Sequence[Arrays], exact: Sequence[Arrays]) -> dict[str, float]:
    """`relative_error` of each output, over all cases that have it."""
    errors: dict[str, float] = {}
    for name in ("image_embeds", "kept_embeds", "itm_logits", "salience"):
        values, wanted = (
            np.concatenate([outputs[name].ravel() for outputs in cases if name in outputs])
            for cases in (found, exact)
        )
        errors[name] = relative_error(values, wanted)
    return errors


def embeds_of_kept(
    model: BlipForImageTextRetrieval, pixels: np.ndarray, kept: np.ndarray
) -> np.ndarray:
    """What the image encoder should give of some tokens, from Hugging Face's layers: [B, R, D].

    Each picture is run alone, without padding, the rows of which repeat that of [CLS].
    """
    encoder: Any = model.vision_model
    rows: list[torch.Tensor] = []
    with torch.no_grad():
        embeddings = encoder.embeddings(torch.from_numpy(pixels).to(model.dtype))
        for tokens, positions in zip(embeddings, kept, strict=True):
            there, places = np.unique(positions, return_inverse=True)
            hidden = encoder.encoder(inputs_embeds=tokens[None, there]).last_hidden_state
            rows.append(encoder.post_layernorm(hidden)[0, places])
    return torch.stack(rows).numpy()


def autograd_salience(
    model: BlipForImageTextRetrieval,
    feeds: dict[str, np.ndarray],
    layers: Sequence[int],
    heads: Sequence[int],
    *,
    separate: bool,
) -> dict[str, np.ndarray]:
    """What the salience graph should give, from Hugging Face's forward and autograd.

    Each caption is run alone, without its padding and without the patches it must not see.
    """
    batch, length = feeds["input_ids"].shape
    images, patches = feeds["patch_keep"].shape
    logits = np.zeros((batch, 2))
    maps = np.zeros((batch, len(layers), len(heads), length, patches))
    for row in range(batch):
        image = row if images > 1 else 0
        kept = np.flatnonzero(feeds["patch_keep"][image])
        tokens = int(feeds["attention_mask"][row].sum())
        logits[row], own = _autograd_of_one(
            model,
            torch.from_numpy(feeds["image_embeds"][image][[0, *(kept + 1)]])[None].to(model.dtype),
            torch.from_numpy(feeds["input_ids"][row, :tokens])[None],
            layers,
            heads,
        )
        maps[row, :, :, :tokens, kept] = np.moveaxis(own, -1, 0)
    return {"itm_logits": logits, "salience": maps if separate else maps.mean(axis=(1, 2))}


def _autograd_of_one(
    model: BlipForImageTextRetrieval,
    embeds: torch.Tensor,
    ids: torch.Tensor,
    layers: Sequence[int],
    heads: Sequence[int],
) -> tuple[np.ndarray, np.ndarray]:
    """Logits [2] and salience [L, H, T, P] of one caption about one picture."""
    with _tapped(model, layers) as taps, torch.enable_grad():
        hidden = model.text_encoder(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            encoder_hidden_states=embeds,
            encoder_attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long),
        ).last_hidden_state
        logits = model.itm_head(hidden[:, 0])
        gradients = torch.autograd.grad(logits[:, MATCH].sum(), taps)
    maps = [
        (a * g.clamp(min=0))[0, list(heads), :, 1:] for a, g in zip(taps, gradients, strict=True)
    ]
    return logits[0].detach().numpy(), torch.stack(maps).detach().numpy()


def relative_error(found: np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference, relative to the largest value wanted; infinite if one is not finite."""
    if not (np.isfinite(found).all() and np.isfinite(wanted).all()):
        return float("inf")
    difference = float(np.abs(found - wanted).max())
    return difference and difference / max(float(np.abs(wanted).max()), np.finfo(np.float32).tiny)


@contextmanager
def _tapped(
    model: BlipForImageTextRetrieval, layers: Sequence[int]
) -> Iterator[list[torch.Tensor]]:
    """Collect the cross-attention of `layers`, cut off from what lies below the lowest.

    The tap is the attention's dropout, which passes its input on in eval mode.
    """
    found: dict[int, torch.Tensor] = {}
    taps: list[torch.Tensor] = []

    def hook(layer: int):
        def replace(_module, _inputs, output: torch.Tensor) -> torch.Tensor:
            found[layer] = output.detach().requires_grad_() if layer == min(layers) else output
            if len(found) == len(layers):
                taps.extend(found[index] for index in layers)
            return found[layer]

        return replace

    text_layers: Any = model.text_encoder.encoder.layer
    handles = [
        text_layers[layer].crossattention.self.dropout.register_forward_hook(hook(layer))
        for layer in layers
    ]
    try:
        yield taps
    finally:
        for handle in handles:
            handle.remove()


def _kept(random: np.random.Generator, batch: int, tokens: int) -> np.ndarray:
    """Half of the tokens of each picture; of the last one fewer, and padding."""
    kept = np.stack([1 + random.permutation(tokens - 1)[: tokens // 2] for _ in range(batch)])
    kept[:, 0] = kept[-1, tokens // 4 :] = 0
    return kept


def _branch_inputs(
    random: np.random.Generator,
    model: BlipForImageTextRetrieval,
    embeds: np.ndarray,
    batch: int,
    length: int,
) -> dict[str, np.ndarray]:
    config: Any = model.config.text_config
    length = min(length, config.max_position_embeddings)
    ids = random.integers(0, config.vocab_size, (batch, length))
    mask = np.ones((batch, length), np.int64)
    mask[-1, 1 + length // 2 :] = 0
    keep = (random.random((len(embeds), embeds.shape[1] - 1)) < 0.7).astype(np.float32)
    return {"image_embeds": embeds, "input_ids": ids, "attention_mask": mask, "patch_keep": keep}
