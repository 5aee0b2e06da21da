"""The kernels on a GPU: `cuda/passes.cu` and `cuda/refine.cu`, launched on arrays of the device."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

from . import cuda_crf, reference
from .interface import Array, Launch

BLOCK = 256  # threads
_SOURCES = ("grid.cuh", "passes.cu", "refine.cu", "densecrf.cu")
_PIECE = 4096  # floats that a block reduces at a time, as in refine.cu
_SPAN = 8  # pixels that a thread blurs, as in refine.cu


def source() -> str:
    """All the kernels, as one source of CUDA C."""
    folder = resources.files("pnp_ovss.kernels") / "cuda"
    return "\n".join((folder / name).read_text() for name in _SOURCES)


@dataclass(frozen=True)
class CudaKernels:
    """See `reference` for what each computes, and for shapes and dtypes.

    Nothing here but the CRF waits for the device. Pixels and salience may be float16.

    Attributes:
        xp: the array module, CuPy.
        launch: runs a kernel.
    """

    xp: Any
    launch: Launch

    def normalise(self, pixels: Array, mean: np.ndarray, std: np.ndarray) -> Array:
        """uint8 [B, S, S, 3] -> float32 [B, 3, S, S]."""
        batch, height, width, channels = pixels.shape
        out = self.xp.empty((batch, channels, height, width), np.float32)
        self.launch(
            "normalise",
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
        """[B, 3, S, S], [B, P] -> [B, 3, S, S], float32 or float16."""
        batch, _, size, _ = pixels.shape
        out = self.xp.empty_like(pixels)
        self.launch(
            f"blank_patches_{pixels.dtype}",
            out.size,
            pixels,
            dropped,
            np.int64(batch),
            np.int32(size),
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
        """Adds to total [N, T, P]; returns scores [B, P]."""
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
        """[B, P], [B, P] -> [B, P]."""
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
        """[N, T, P] -> [C, P]."""
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
        """[C, p, p] -> [C, p, p]."""
        out = self.xp.empty_like(maps)
        classes, patches = len(maps), maps[0].size
        self.launch(
            "threshold",
            classes * BLOCK,
            maps,
            np.int64(classes),
            np.int64(patches),
            np.float32(level),
            out,
        )
        return out

    def background(self, maps: Array, height: int, width: int) -> Array:
        """[C, p, p] -> [H, W]."""
        out = self.xp.empty((height, width), np.float32)
        self.launch(
            "background",
            out.size,
            maps,
            np.int64(len(maps)),
            np.int32(maps.shape[1]),
            np.int64(height),
            np.int64(width),
            out,
        )
        return out

    def resample(self, rows: np.ndarray, maps: Array, columns: np.ndarray, out: Array) -> None:
        """[H, p], [C, p, p], [W, p] -> [C, H, W]."""
        rows, columns = self.xp.asarray(rows), self.xp.ascontiguousarray(self.xp.asarray(columns).T)
        tall = self.xp.empty((len(maps), len(rows), maps.shape[2]), np.float32)
        self._matmul(rows, maps, tall)
        self._matmul(tall, columns, out)

    def blur(self, image: Array, sigma: float) -> Array:
        """[H, W] -> [H, W]."""
        weights = reference.gaussian_weights(sigma)
        radius = len(weights) // 2
        if radius == 0:
            return image.copy()
        padded = self.xp.asarray(np.pad(weights, _SPAN - 1).astype(np.float32))
        for _ in range(2):
            height, width = image.shape
            turned = self.xp.empty((width, height), np.float32)
            self.launch(
                "blur_and_turn",
                -(-height // _SPAN) * width,
                image,
                np.int64(height),
                np.int64(width),
                padded,
                np.int64(radius),
                turned,
            )
            image = turned
        return image

    def scale_channels(self, channels: Array, rounding: float) -> None:
        """[C, H, W], in place."""
        count, pixels = len(channels), channels[0].size
        extents = self.xp.asarray(np.tile(np.array([2**32 - 1, 0], np.uint32), (count, 1)))
        pieces = count * -(-pixels // _PIECE)
        shape = (np.int64(count), np.int64(pixels))
        self.launch("extents", pieces * BLOCK, channels, *shape, extents)
        self.launch(
            "scale_channels", channels.size, channels, *shape, extents, np.float32(rounding)
        )

    def softmax(self, channels: Array) -> Array:
        """[C, H, W] -> [C, H, W]."""
        out = self.xp.empty_like(channels)
        pixels = channels[0].size
        self.launch("softmax", pixels, channels, np.int64(len(channels)), np.int64(pixels), out)
        return out

    def choose_labels(self, channels: Array, numbers: np.ndarray) -> Array:
        """float32 [C, H, W], uint16 [C] -> uint16 [H, W]."""
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

    def densecrf(self, image: Array, probabilities: Array, **terms: Any) -> Array:
        """uint8 [H, W, 3], float32 [C, H, W] -> float32 [C, H, W]; see `cuda_crf.densecrf`."""
        return cuda_crf.densecrf(image, probabilities, xp=self.xp, launch=self.launch, **terms)

    def _matmul(self, left: Array, right: Array, out: Array) -> None:
        """Of matrices, or stacks of them."""
        steps = [np.int64(one[0].size if one.ndim == 3 else 0) for one in (left, right)]
        self.launch(
            "matmul",
            out.size,
            left,
            steps[0],
            right,
            steps[1],
            *map(np.int64, (len(out), out.shape[1], left.shape[-1], out.shape[2])),
            out,
        )
