"""Runs PnP-OVSS in eager PyTorch on Hugging Face's BLIP: the baseline, and the tests' reference.

It was written from the description of the method. It shares no code with the engine but the spans
of the stages, and the dense CRF where pydensecrf2 cannot be imported. It takes one image at a time,
in two forms that compute the same numbers:

- `released` does what the authors' script does: it keeps the maps of every layer and head, and
  back-propagates through the whole model, the image encoder included;
- `lean` runs the image encoder without gradients and differentiates from the chosen layer up only.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch.nn import functional
from transformers import AutoTokenizer, BlipForImageTextRetrieval, PreTrainedTokenizerBase

from pnp_ovss.engine.tracing import span

from . import tf32

MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711])


@dataclass(frozen=True)
class Preset:
    """Stores settings of the method; those without a default differ in the paper and its code.

    Attributes:
        drops: Number of patches that a pass drops; None to drop half of the remaining patches.
        first_pass_weight: Weight of the first pass in the sum of salience.
        join_words: Whether the words of a class name are joined into one word.
        sum_last_class: Whether the salience of the last class's tokens is summed, not averaged.
        drop_mode: Meaning of dropping a patch; the paper's is "pixels".
        passes: Number K of passes.
        threshold: Threshold of the class maps, after min-max scaling to [0, 1].
        blur: Standard deviation of the blur, as a part of the image's longer side.
    """

    drops: int | None
    first_pass_weight: int
    join_words: bool
    sum_last_class: bool
    drop_mode: Literal["pixels", "tokens", "attention"] = "pixels"
    passes: int = 4
    threshold: float = 0.15
    blur: float = 0.05


PRESETS = {
    "paper": Preset(drops=None, first_pass_weight=1, join_words=False, sum_last_class=False),
    "released": Preset(drops=10, first_pass_weight=2, join_words=True, sum_last_class=True),
}


@dataclass(frozen=True)
class Maps:
    """Stores what the passes compute.

    Attributes:
        class_maps: Class maps, float32 [C, p, p].
        match: Match probability (ITM) of each pass, float32 [K].
    """

    class_maps: np.ndarray
    match: np.ndarray


class EagerSegmenter:
    """Segments images by the method in eager PyTorch.

    Args:
        model: BLIP image-text-matching model with cross-attention in its text encoder.
        tokenizer: Fast tokenizer of the model; its offsets are needed.
        image_size: Side of the model's square input, in pixels.
        layers: Cross-attention layers whose salience is averaged, from 0.
        heads: Heads of these layers whose salience is averaged, from 0.
        form: "released" or "lean"; see the module.
        device: Name of PyTorch's device.
    """

    def __init__(
        self,
        model: BlipForImageTextRetrieval,
        tokenizer: PreTrainedTokenizerBase,
        *,
        image_size: int,
        layers: Sequence[int] = (7,),
        heads: Sequence[int] = (9,),
        form: Literal["released", "lean"] = "lean",
        device: str = "cpu",
    ) -> None:
        tf32.refuse()
        self.device = torch.device(device)
        self.model: Any = model.eval()
        self.model.to(self.device)
        self.model.requires_grad_(form == "released")
        self.tokenizer = tokenizer
        self.image_size = image_size
        self.layers = list(layers)
        self.heads = list(heads)
        self.form = form
        self.patch: int = self.model.config.vision_config.patch_size

    @classmethod
    def load(cls, checkpoint: str | Path, **options: Any) -> EagerSegmenter:
        """Load a folder or hub id of Hugging Face; `options` are keyword arguments of the class."""
        model = BlipForImageTextRetrieval.from_pretrained(checkpoint)
        return cls(model, AutoTokenizer.from_pretrained(checkpoint), **options)

    def maps(
        self, image: Image.Image, classes: Sequence[str], preset: Preset = PRESETS["paper"]
    ) -> Maps:
        """Run K passes of Salience DropOut and average the salience of each class's tokens."""
        with span("preprocess"):
            pixels = self._pixels(image)
        ids, positions = self._caption(classes, preset)
        grid = self.image_size // self.patch
        dropped = torch.zeros(grid * grid, dtype=torch.bool, device=self.device)
        class_tokens = [token for tokens in positions for token in tokens]
        total = torch.zeros(ids.shape[1], grid * grid, device=self.device)
        match = []
        for index in range(preset.passes):
            with span("vision"), torch.set_grad_enabled(self.form == "released"):
                embeds = self._embeds(pixels, dropped, preset.drop_mode)
            with span("salience"):
                probability, salience = self._salience(embeds, dropped, ids, preset.drop_mode)
            with span("drop"):
                total += salience * (preset.first_pass_weight if index == 0 else 1)
                match.append(probability)
                scores = salience[class_tokens].sum(dim=0)
                left = int((~dropped).sum())
                count = left // 2 if preset.drops is None else min(preset.drops, left)
                order = scores.masked_fill(dropped, -1).sort(descending=True, stable=True).indices
                dropped = dropped.clone()
                dropped[order[:count]] = True
        rows = [total[tokens].mean(dim=0) for tokens in positions]
        if preset.sum_last_class:
            rows[-1] = total[positions[-1]].sum(dim=0)
        maps = torch.stack(rows).reshape(-1, grid, grid)
        return Maps(maps.cpu().numpy(), np.array(match, np.float32))

    def segment(
        self,
        image: Image.Image,
        classes: Sequence[str],
        preset: Preset = PRESETS["paper"],
        *,
        background: bool = True,
        crf: bool = True,
    ) -> np.ndarray:
        """Segment an image; `crf_package` names the CRF that runs.

        Args:
            image: Image of any size [H, W].
            classes: Class names.
            preset: Settings of the method.
            background: Whether pixels without any class are labeled 0.
            crf: Whether the dense CRF runs.

        Returns:
            Labels, uint16 [H, W]: 0 for background, i + 1 for classes[i].
        """
        maps = self.maps(image, classes, preset)
        with span("refine"):
            channels = refine(maps.class_maps, image, preset, background)
        if crf:
            run_crf = dense_crf if crf_package() == PYDENSECRF else package_crf
            with span("crf"):
                channels = run_crf(image, channels)
        return (channels.argmax(axis=0) + (0 if background else 1)).astype(np.uint16)

    def _pixels(self, image: Image.Image) -> torch.Tensor:
        side, bicubic = self.image_size, Image.Resampling.BICUBIC
        lines = image.convert("RGB").resize((side, image.height), bicubic)  # first, in all versions
        square = lines.resize((side, side), bicubic)
        values = torch.from_numpy(np.array(square)).float() / 255
        return ((values - MEAN) / STD).permute(2, 0, 1)[None].contiguous().to(self.device)

    def _caption(
        self, classes: Sequence[str], preset: Preset
    ) -> tuple[torch.Tensor, list[list[int]]]:
        """Write the caption: token ids [1, T], and the positions of each class's word pieces."""
        if preset.join_words:
            classes = ["".join(name.replace("-", " ").split()) for name in classes]
        caption = "A picture of"
        spans = []
        for name in classes:
            caption += " "
            spans.append((len(caption), len(caption) + len(name)))
            caption += name
        encoded = self.tokenizer(caption.lower(), return_offsets_mapping=True)
        ids = list(encoded["input_ids"])
        ids[0] = self._enc_id()
        positions = [
            [
                token
                for token, (start, end) in enumerate(encoded["offset_mapping"])
                if start < end and first <= start and end <= last
            ]
            for first, last in spans
        ]
        return torch.tensor([ids], device=self.device), positions

    def _enc_id(self) -> int:
        enc_id = self.tokenizer.get_vocab().get("[ENC]")
        return self.model.config.text_config.bos_token_id + 1 if enc_id is None else enc_id

    def _blank(self, pixels: torch.Tensor, dropped: torch.Tensor) -> torch.Tensor:
        grid = self.image_size // self.patch
        keep = (~dropped).float().reshape(1, 1, grid, grid)
        return pixels * functional.interpolate(keep, scale_factor=self.patch, mode="nearest")

    def _embeds(self, pixels: torch.Tensor, dropped: torch.Tensor, drop_mode: str) -> torch.Tensor:
        """Embed the patches that cross-attention sees: all, blanked, or only the remaining ones."""
        encoder = self.model.vision_model
        if drop_mode == "pixels":
            blanked = self._blank(pixels, dropped)
            return encoder(blanked, interpolate_pos_encoding=True).last_hidden_state
        left = functional.pad(~dropped, (1, 0), value=True)  # and the image's [CLS]
        if drop_mode == "attention":
            return encoder(pixels, interpolate_pos_encoding=True).last_hidden_state[:, left]
        tokens = encoder.embeddings(pixels, interpolate_pos_encoding=True)[:, left]
        return encoder.post_layernorm(encoder.encoder(inputs_embeds=tokens).last_hidden_state)

    def _salience(
        self, embeds: torch.Tensor, dropped: torch.Tensor, ids: torch.Tensor, drop_mode: str
    ) -> tuple[float, torch.Tensor]:
        """Compute the match probability and the salience [T, P]; 0 at dropped patches."""
        released = self.form == "released"
        layers = range(len(self.model.text_encoder.encoder.layer)) if released else self.layers
        with self._attention(layers, detach=not released) as attention, torch.enable_grad():
            hidden = self.model.text_encoder(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                encoder_hidden_states=embeds,
                encoder_attention_mask=torch.ones(embeds.shape[:2], device=ids.device).long(),
            ).last_hidden_state
            logits = self.model.itm_head(hidden[:, 0])
            taps = [attention[layer] for layer in self.layers]
            if released:
                self.model.zero_grad()
                logits[:, 1].sum().backward()
                gradients = [tap.grad for tap in taps if tap.grad is not None]
            else:
                gradients = torch.autograd.grad(logits[:, 1].sum(), taps)
        maps = [
            (tap * functional.relu(gradient))[0, self.heads, :, 1:]
            for tap, gradient in zip(taps, gradients, strict=True)
        ]
        probability = logits.softmax(dim=-1)[0, 1].item()
        seen = torch.stack(maps).mean(dim=(0, 1)).detach()
        if drop_mode == "pixels":
            return probability, seen.masked_fill(dropped, 0)
        salience = seen.new_zeros(len(seen), len(dropped))
        salience[:, ~dropped] = seen
        return probability, salience

    @contextmanager
    def _attention(
        self, layers: Sequence[int], *, detach: bool
    ) -> Iterator[dict[int, torch.Tensor]]:
        """Record the cross-attention [1, H, T, 1 + P] of layers.

        With `detach`, gradients stop at the lowest of the layers.
        """
        attention: dict[int, torch.Tensor] = {}

        def hook(layer: int):
            def record(_module, _inputs, output: torch.Tensor) -> torch.Tensor:
                if detach and layer == min(layers):
                    output = output.detach().requires_grad_()
                else:
                    output.retain_grad()
                attention[layer] = output
                return output

            return record

        text_layers = self.model.text_encoder.encoder.layer
        handles = [
            text_layers[layer].crossattention.self.dropout.register_forward_hook(hook(layer))
            for layer in layers
        ]
        try:
            yield attention
        finally:
            for handle in handles:
                handle.remove()


def refine(
    class_maps: np.ndarray, image: Image.Image, preset: Preset, background: bool
) -> np.ndarray:
    """Refine class maps: threshold, upsample, add the background, blur. Computes in float64.

    Args:
        class_maps: Class maps [C, p, p].
        image: Image, whose size is that of the channels.
        preset: Settings of the method: threshold and blur.
        background: Whether a channel for the background comes first.

    Returns:
        Channels in [0, 1], float32 [C, H, W], or [1 + C, H, W] with the background.
    """
    size = (image.height, image.width)
    maps = np.stack([_threshold(m, preset.threshold) for m in class_maps.astype(np.float64)])
    channels = _upsample(maps, size)
    if background:
        # PyTorch rounds source positions, which leaves traces of 1e-14 where all classes are 0. The
        # smallest value of a real foreground is 1 / (H W).
        foreground = _upsample(np.any(maps, axis=0, keepdims=True).astype(np.float64), size)
        channels = np.concatenate([(foreground < 1e-10).astype(np.float64), channels])
    sigma = preset.blur * max(size)
    blurred = (gaussian_filter(channel, sigma) for channel in channels)
    return np.stack([_min_max(channel, 1e-5).astype(np.float32) for channel in blurred])


PYDENSECRF, PACKAGE_CRF = "pydensecrf2", "densecrf"


def crf_package() -> str:
    """Name the package that runs the dense CRF: pydensecrf2, or this one where that is missing.

    pydensecrf2 has no wheels, and its sources do not compile for every Python. The CRF of this
    package gives the same labels in a quarter of the time.
    """
    try:
        importlib.import_module("pydensecrf.densecrf")
    except ImportError:
        return PACKAGE_CRF
    return PYDENSECRF


def package_crf(image: Image.Image, channels: np.ndarray) -> np.ndarray:
    """Run the dense CRF of this package on one thread; see `dense_crf`."""
    from pnp_ovss.kernels import densecrf

    probabilities = torch.from_numpy(channels).softmax(dim=0).numpy()
    return densecrf(
        np.array(image.convert("RGB")),
        probabilities,
        iterations=10,
        gaussian_sxy=3,
        gaussian_compat=7,
        bilateral_sxy=50,
        bilateral_srgb=5,
        bilateral_compat=10,
    )


def dense_crf(image: Image.Image, channels: np.ndarray) -> np.ndarray:
    """Run the dense CRF of pydensecrf2 on an image [H, W].

    Channels and the returned marginals are float32 [C, H, W].
    """
    from pydensecrf import densecrf  # pyright: ignore[reportAttributeAccessIssue]

    labels, height, width = channels.shape
    probabilities = torch.from_numpy(channels).softmax(dim=0).numpy()
    crf = densecrf.DenseCRF2D(width, height, labels)
    crf.setUnaryEnergy(np.ascontiguousarray(-np.log(probabilities).reshape(labels, -1)))
    crf.addPairwiseGaussian(sxy=3, compat=7)
    crf.addPairwiseBilateral(sxy=50, srgb=5, rgbim=np.array(image.convert("RGB")), compat=10)
    return np.array(crf.inference(10)).reshape(labels, height, width)


def _threshold(class_map: np.ndarray, threshold: float) -> np.ndarray:
    """Set the values to 0 whose min-max-scaled values are below the threshold."""
    return np.where(_min_max(class_map) < threshold, 0, class_map)


def _upsample(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return functional.interpolate(
        torch.from_numpy(maps)[None], size=size, mode="bilinear", align_corners=True
    )[0].numpy()


def _min_max(values: np.ndarray, rounding: float = 0) -> np.ndarray:
    """Scale values to [0, 1]; to 0 if their span is at most `rounding` of the largest magnitude."""
    span = values.max() - values.min()
    flat = span <= rounding * np.abs(values).max()
    return np.zeros_like(values) if flat else (values - values.min()) / span
