"""Launches the kernels of `passes.cu`, `refine.cu` and `densecrf.cu` on arrays of a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt

from ..interface import Array, Launch
from ..reference import ROUNDING, Lines
from . import densecrf as cuda_crf

BLOCK = 256  # threads of a block
_SOURCES = ("grid.cuh", "passes.cu", "refine.cu", "densecrf.cu")
_PIECE = 4096  # floats that a block reduces at a time; PIECE in refine.cu


def source() -> str:
    """Return the CUDA C source of all kernels, as one text."""
    folder = resources.files("pnp_ovss.kernels") / "cuda"
    return "\n".join((folder / name).read_text() for name in _SOURCES)


@dataclass(frozen=True)
class CudaKernels:
    """The kernels on a GPU; `reference` defines what each computes, its shapes and its dtypes.

    Only `densecrf` waits for the GPU. Pixels and salience may also be float16.

    Attributes:
        xp: array module, CuPy.
        launch: function that runs a kernel.
    """

    xp: Any
    launch: Launch

    def normalize(
        self, pixels: Array, mean: npt.NDArray[np.float32], std: npt.NDArray[np.float32]
    ) -> Array:
        """Normalize pixels, uint8 [B, H, W, 3] -> float32 [B, 3, H, W]."""
        batch, height, width, channels = pixels.shape
        out = self.xp.empty((batch, channels, height, width), np.float32)
        self.launch(
            "normalize",
            out.size,
            pixels,
            np.int64(batch),
            np.int64(height * width),
            self.xp.asarray(mean),
            self.xp.asarray(std),
            out,
        )
        return out

    def blank_patches(self, pixels: Array, dropped: Array, patch: int) -> Array:
        """Zero the pixels of dropped patches, [B, 3, H, W], float32 or float16."""
        batch, _, height, width = pixels.shape
        out = self.xp.empty_like(pixels)
        self.launch(
            f"blank_patches_{pixels.dtype}",
            out.size,
            pixels,
            dropped,
            np.int64(batch),
            np.int32(height),
            np.int32(width),
            np.int32(patch),
            out,
        )
        return out

    def accumulate(
        self,
        total: Array,
        salience: Array,
        dropped: Array,
        class_token: Array,
        first_caption: Array,
        weight: float,
    ) -> Array:
        """Add salience [N, T, P] to the total; return the scores of patches, float32 [B, P]."""
        batch, patches = dropped.shape
        scores = self.xp.empty((batch, patches), np.float32)
        self.launch(
            f"accumulate_{salience.dtype}",
            scores.size,
            salience,
            dropped,
            class_token,
            first_caption,
            np.int64(batch),
            np.int32(salience.shape[1]),
            np.int64(patches),
            np.float32(weight),
            total,
            scores,
        )
        return scores

    def drop_salient(self, scores: Array, dropped: Array, count: int | None) -> Array:
        """Drop the patches of the highest scores; return all dropped patches, bool [B, P]."""
        batch, patches = dropped.shape
        out = self.xp.empty_like(dropped)
        self.launch(
            "drop_salient",
            batch * -(-patches // BLOCK) * BLOCK,
            scores,
            dropped,
            np.int64(batch),
            np.int32(patches),
            np.int32(-1 if count is None else min(count, patches)),
            out,
        )
        return out

    def class_maps(self, total: Array, members: Array, first_member: Array, summed: Array) -> Array:
        """Average salience over the tokens of each class, [N, T, P] -> [C, P]."""
        classes, patches = len(summed), total.shape[-1]
        maps = self.xp.empty((classes, patches), np.float32)
        self.launch(
            "class_maps",
            maps.size,
            total,
            members,
            first_member,
            summed,
            np.int64(classes),
            np.int64(patches),
            maps,
        )
        return maps

    def threshold(self, maps: Array, level: float) -> Array:
        """Zero each class map below the threshold, [C, gh, gw] -> [C, gh, gw]."""
        out = self.xp.empty_like(maps)
        classes, patches = len(maps), maps[0].size
        self.launch(
            "threshold",
            classes * BLOCK,
            maps,
            np.int64(classes),
            np.int64(patches),
            np.float64(level),
            out,
        )
        return out

    def background(self, maps: Array) -> Array:
        """Mark where every class map is zero, [C, gh, gw] -> [2gh - 1, 2gw - 1]."""
        _, grid_height, grid_width = maps.shape
        out = self.xp.empty((2 * grid_height - 1, 2 * grid_width - 1), np.float32)
        self.launch("background", out.size, maps, *map(np.int64, maps.shape), out)
        return out

    def resample(
        self,
        rows: npt.NDArray[np.float64],
        maps: Array,
        columns: npt.NDArray[np.float64],
        out: Array,
        levels: Array,
    ) -> None:
        """Upsample class maps [C, gh, gw] to the pixels, into out [C, H, W] and levels [C]."""
        count, height, width = out.shape
        _, grid_height, grid_width = maps.shape
        rows, columns = (
            self.xp.ascontiguousarray(self.xp.asarray(matrix)) for matrix in (rows, columns.T)
        )
        tall = self.xp.empty((count, height, grid_width), np.float64)
        units = self.xp.empty(count, np.float64)
        cells = np.int64(grid_height * grid_width)
        self.launch("units", count * BLOCK, maps, np.int64(count), cells, units)
        shape = tuple(map(np.int64, (count, height, grid_height, grid_width)))
        self.launch("resample_rows", tall.size, rows, maps, units, *shape, tall)
        shape = tuple(map(np.int64, (count, height, grid_width, width)))
        self.launch("first_pixels", count, tall, columns, *shape, levels)
        self.launch("resample_columns", out.size, tall, columns, levels, *shape, out)

    def scale_channels(self, channels: Array, levels: Array, rounding: float) -> None:
        """Scale each channel [C, H, W] to [0, 1], in place."""
        count, pixels = len(channels), channels[0].size
        extents = self.xp.asarray(np.tile(np.array([2**32 - 1, 0], np.uint32), (count, 1)))
        pieces = count * -(-pixels // _PIECE)
        shape = (np.int64(count), np.int64(pixels))
        self.launch("extents", pieces * BLOCK, channels, *shape, extents)
        self.launch(
            "scale_channels", channels.size, channels, *shape, levels, extents, np.float64(rounding)
        )

    def softmax(self, channels: Array) -> Array:
        """Return the softmax over the channels, [C, H, W] -> [C, H, W]."""
        out = self.xp.empty_like(channels)
        pixels = channels[0].size
        self.launch("softmax", pixels, channels, np.int64(len(channels)), np.int64(pixels), out)
        return out

    def choose_labels(self, channels: Array, numbers: npt.NDArray[np.uint16]) -> Array:
        """Label each pixel by its largest channel, [C, H, W] -> uint16 [H, W]."""
        out = self.xp.empty(channels.shape[1:], np.uint16)
        self.launch(
            "choose_labels",
            out.size,
            channels,
            np.int64(len(channels)),
            np.int64(out.size),
            self.xp.asarray(numbers),
            out,
        )
        return out

    def channels(self, maps: Array, lines: Lines, level: float) -> Array:
        """Make channels of class maps, each scaled to [0, 1]: [C, gh, gw] -> [N, H, W]."""
        kept = self.threshold(maps, level)
        first = int(lines.has_background)
        out = self.xp.empty((first + len(maps), len(lines.rows), len(lines.columns)), np.float32)
        levels = self.xp.empty(len(out), np.float64)
        if lines.cell_rows is not None and lines.cell_columns is not None:
            cells = self.background(kept)[None]
            self.resample(lines.cell_rows, cells, lines.cell_columns, out[:1], levels[:1])
        self.resample(lines.rows, kept, lines.columns, out[first:], levels[first:])
        self.scale_channels(out, levels, ROUNDING)
        return out

    def probabilities(self, maps: Array, lines: Lines, level: float) -> Array:
        """Return the softmax over the channels of class maps: [C, gh, gw] -> [N, H, W]."""
        return self.softmax(self.channels(maps, lines, level))

    def labels(
        self, maps: Array, lines: Lines, level: float, numbers: npt.NDArray[np.uint16]
    ) -> Array:
        """Label each pixel with the number of its largest channel: [C, gh, gw] -> uint16 [H, W]."""
        return self.choose_labels(self.channels(maps, lines, level), numbers)

    def enlarged_labels(
        self, probabilities: Array, numbers: npt.NDArray[np.uint16], height: int, width: int
    ) -> Array:
        """Enlarge probabilities [N, h, w] bilinearly, and label each pixel: uint16 [H, W]."""
        out = self.xp.empty((height, width), np.uint16)
        sizes = map(np.int64, (*probabilities.shape, height, width))
        self.launch(
            "enlarged_labels", out.size, probabilities, *sizes, self.xp.asarray(numbers), out
        )
        return out

    def densecrf(
        self, image: Array, probabilities: Array, *, threads: int = 1, memory: int = 0, **terms: Any
    ) -> Array:
        """Compute the marginals of the dense CRF, float32 [C, H, W] -> float32 [C, H, W].

        `terms` are the parameters of `cuda.densecrf`. `threads` and `memory` are parameters of the
        CPU's CRF, and have no effect on a GPU.
        """
        return cuda_crf.densecrf(image, probabilities, xp=self.xp, launch=self.launch, **terms)
