"""Every cross-attention layer and head by itself: which of them knows where things are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...kernels import reference
from ..errors import ModelError
from ..inputs.images import preprocess
from ..methods.pnp_ovss.captions import CaptionBatch
from ..methods.pnp_ovss.graphs import Network, finite
from ..model.folder import open_model
from ..precision import PrecisionChoice
from ..refine.channels import to_channels
from ..settings import Settings
from . import metrics
from .datasets.base import Dataset, Sample
from .evaluate import Progress, mean_iou

_SHOWN = 3  # classes, as near as can be, in the picture that is drawn


@dataclass(frozen=True, eq=False)
class Sweep:
    """What each layer and head found by itself.

    Attributes:
        layers: as numbered in the model.
        heads: likewise.
        miou: as fractions, [L, H].
        sample: the picture that `maps` are of.
        maps: salience of its classes, float32 [L, H, C, p, p].
    """

    layers: list[int]
    heads: list[int]
    miou: np.ndarray
    sample: Sample
    maps: np.ndarray


def open_all_heads(
    model: str,
    *,
    backend: str = "auto",
    device: str = "auto",
    precision: PrecisionChoice = "auto",
) -> Network:
    """A model that was exported with --all-heads.

    Raises:
        ModelError: it was not, or cannot be opened.
        BackendError: the backend, the device or the precision cannot be had.
    """
    found = open_model(model)
    if not found.manifest.all_heads:
        raise ModelError(
            f"'{found.path}' keeps one map, so its layers and heads cannot be compared",
            "export the checkpoint again with --all-heads",
        )
    return Network.open(found, backend=backend, device=device, precision=precision)


def sweep(
    network: Network,
    dataset: Dataset,
    settings: Settings,
    *,
    pictures: int | None = None,
    progress: Progress = iter,
) -> Sweep:
    """Segment with one pass of each layer and head, without a CRF.

    Args:
        network: of a model with every map apart.
        dataset: what to segment, the classes of each picture given.
        settings: for threshold, blur and background.
        pictures: how many, from the first; all by default.
        progress: is wrapped around the pictures.
    """
    layers, heads = (listed(value) for value in (network.manifest.layer, network.manifest.head))
    classes = len(dataset.names)
    counts = np.zeros((len(layers), len(heads), classes, classes), np.int64)
    shown: list[tuple[Sample, np.ndarray]] = []
    for index in progress(range(dataset.pictures if pictures is None else pictures)):
        sample = dataset.sample(index)
        maps = every_map(network, sample, settings)
        shown = [min([*shown, (sample, maps)], key=lambda one: abs(len(one[0].classes) - _SHOWN))]
        for place in np.ndindex(maps.shape[:2]):
            found = labels(maps[place], sample, dataset, settings)
            counts[place] += metrics.confusion(sample.truth, found, classes)
    miou = np.array([[mean_iou(own, dataset) for own in row] for row in counts])
    return Sweep(layers, heads, miou, *shown[0])


def every_map(network: Network, sample: Sample, settings: Settings) -> np.ndarray:
    """Salience of the classes of a picture in the first pass, float32 [L, H, C, p, p]."""
    device, grid = network.device, network.manifest.grid
    captions = CaptionBatch.of(
        network.captioner,
        [network.captioner.write(sample.classes, join=settings.join_words)],
        device,
    )
    with device.on_stream():
        pixels = device.xp.asarray(preprocess(sample.image, network.manifest.image_size)[None])
        keep = device.xp.ones((1, grid**2), np.float32)
        salience, _ = network.read(network.embed(pixels), keep, captions)
        salience = finite("salience", device.to_host(salience))
    members, first, summed = map(
        device.to_host, (captions.members, captions.first_member, captions.summed)
    )
    return np.array(
        [
            [
                reference.class_maps(head, members, first, summed).reshape(-1, grid, grid)
                for head in np.moveaxis(layer, 1, 0)
            ]
            for layer in np.moveaxis(salience, 1, 0)
        ]
    )


def labels(maps: np.ndarray, sample: Sample, dataset: Dataset, settings: Settings) -> np.ndarray:
    """Class maps [C, p, p] of a picture to labels, numbered as its truth is; no CRF."""
    channels = to_channels(maps, sample.image.height, sample.image.width, settings)
    numbers = dataset.numbers(sample.classes)
    return numbers[-len(channels) :][channels.argmax(axis=0)]


def listed(value: int | list[int]) -> list[int]:
    """Layers or heads of a manifest, which writes one without a list."""
    return [value] if isinstance(value, int) else value
