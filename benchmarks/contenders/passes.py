"""Loads the contenders that run the K passes: eager and compiled PyTorch, and the engine."""

from __future__ import annotations

import copy
import gc
import importlib
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import BlipForImageTextRetrieval

from pnp_ovss.engine.device import Array
from pnp_ovss.engine.inputs.text import CaptionTokens
from pnp_ovss.engine.methods.pnp_ovss.captions import CaptionBatch
from pnp_ovss.engine.methods.pnp_ovss.graphs import Graphs
from pnp_ovss.engine.methods.pnp_ovss.passes import salience_dropout
from pnp_ovss.engine.model.folder import ModelFolder, open_model
from pnp_ovss.engine.precision import Arithmetic
from pnp_ovss.engine.runners import BACKENDS, Runners
from pnp_ovss.engine.runners.base import Runner
from pnp_ovss.engine.settings import Settings
from pnp_ovss.export.build import BUILDERS
from pnp_ovss.export.models import blip
from pnp_ovss.export.models.source import find_checkpoint

from ..baselines import tf32
from ..baselines.passes import EagerPasses
from ..harness.models import build
from ..harness.prepared import PreparedModel
from .base import skipped_if_it_fails

TOKENS = 16  # length of a caption
CLASS_TOKENS = [(0, [4, 5]), (1, [6, 7]), (2, [8, 9])]  # class and token positions: 3 classes
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

EAGER_PASSES = [f"eager-{precision}" for precision in DTYPES]
COMPILED = "compile-bf16"
PASSES_CONTENDERS = [
    *EAGER_PASSES,
    COMPILED,
    *(f"{backend}-{precision}" for backend in BACKENDS for precision in DTYPES),
]

Run = Callable[[int], Any]
"""Runs a number of passes and waits for the device.

Returns the salience summed over the passes, float32 [B, T, P], on the device.
"""


@dataclass(frozen=True)
class Inputs:
    """Stores the images and captions of a case, in the host's memory.

    Attributes:
        pixels: Normalized pixels, float32 [B, 3, S, S].
        ids: Token ids of the captions, int64 [B, T].
    """

    pixels: np.ndarray
    ids: np.ndarray

    @classmethod
    def random(cls, model: BlipForImageTextRetrieval, batch: int, size: int) -> Inputs:
        """Draw inputs at random; the same arguments give the same inputs.

        Args:
            model: Model, whose vocabulary the ids are drawn from.
            batch: Number B of images, each with a caption.
            size: Side S of the images, in pixels.
        """
        random = np.random.default_rng(batch)
        words: Any = model.config.text_config
        pixels = random.normal(size=(batch, 3, size, size)).astype(np.float32)
        return cls(pixels, random.integers(0, words.vocab_size, (batch, TOKENS)))


@dataclass
class PassesContender:
    """Holds one loaded contender that runs the K passes.

    Attributes:
        feed: Function that copies inputs to the device, and returns the function to time.
        precision: Precision of the contender's arithmetic.
        read_back: Function that returns facts of how the contender runs: TF32, CUDA graphs.
        free_before: Free bytes of the GPU before the contender was loaded; None on the CPU.
    """

    feed: Callable[[Inputs], Run]
    precision: str
    read_back: Callable[[], dict[str, Any]] = dict
    free_before: int | None = None


@dataclass
class PassesLoader:
    """Loads contenders for a model at one image size, and measures their GPU memory.

    Attributes:
        model: BLIP model for PyTorch, resized to the image size.
        exported: Model folder for the engine.
        device: Device, "cpu" or "cuda:N".
        batches: Batch sizes that will be run.
    """

    model: BlipForImageTextRetrieval
    exported: ModelFolder
    device: str
    batches: Sequence[int]

    @classmethod
    def open(cls, prepared: PreparedModel, batches: Sequence[int]) -> PassesLoader:
        """Load a checkpoint and open its export."""
        files, _ = find_checkpoint(prepared.checkpoint)
        model, exported = blip.load(files, None).model, open_model(prepared.folder, verify=False)
        blip.resize(model, exported.manifest.preprocess.sides)
        return cls(model, exported, prepared.device, batches)

    @property
    def size(self) -> int:
        """Return the side of the model's input, in pixels."""
        return self.exported.manifest.preprocess.sides[0]

    def load(self, name: str, stack: ExitStack) -> PassesContender:
        """Load a contender, and run two passes to see that it works.

        Args:
            name: Name of the contender, of `PASSES_CONTENDERS`.
            stack: Exit stack that will close the contender.

        Raises:
            SkippedError: The contender cannot be loaded or run here.
        """
        kind, _, precision = name.rpartition("-")
        self._empty_caches()
        free = self._free_memory()
        with skipped_if_it_fails():
            if kind in ("eager", "compile"):
                contender = self._pytorch(precision, stack, compiled=kind == "compile")
            else:
                contender = self._engine(kind, precision, stack)
            contender.feed(Inputs.random(self.model, min(self.batches), self.size))(2)
        contender.free_before = free
        return contender

    def used_mib(self, contender: PassesContender, run: Callable[[], object]) -> float | None:
        """Measure the GPU memory of a contender, its weights and caches included.

        Args:
            contender: Loaded contender.
            run: Function that runs the contender.

        Returns:
            MiB in use after a run; None on the CPU.
        """
        self._empty_caches()
        run()
        free = self._free_memory()
        if free is None or contender.free_before is None:
            return None
        return (contender.free_before - free) / 2**20

    def free(self) -> None:
        """Free the memory of closed contenders that nothing refers to."""
        gc.collect()  # modules of PyTorch refer to themselves
        self._empty_caches()

    def _empty_caches(self) -> None:
        """Free the memory that PyTorch and CuPy cache."""
        if self.device != "cpu":
            torch.cuda.empty_cache()
            cupy = importlib.import_module("cupy")
            with cupy.cuda.Device(torch.device(self.device).index):
                cupy.get_default_memory_pool().free_all_blocks()

    def _free_memory(self) -> int | None:
        """Return the free bytes of the GPU; None on the CPU."""
        if self.device == "cpu":
            return None
        return torch.cuda.mem_get_info(self.device)[0]

    def _pytorch(self, precision: str, stack: ExitStack, *, compiled: bool) -> PassesContender:
        if compiled:
            stack.callback(torch.compiler.reset)  # frees the compiled code
        best = blip.known_best(self.model)
        passes = EagerPasses(
            copy.deepcopy(self.model),
            layer=best.layers[0],
            head=best.heads[0],
            dtype=DTYPES[precision],
            device=self.device,
            compiled=compiled,
        )

        def feed(inputs: Inputs) -> Run:
            is_class_token = np.zeros(inputs.ids.shape, bool)
            is_class_token[:, [token for _, tokens in CLASS_TOKENS for token in tokens]] = True
            pixels, ids, class_token = (
                torch.from_numpy(array).to(self.device)
                for array in (inputs.pixels, inputs.ids, is_class_token)
            )
            mask = torch.ones_like(ids)

            def run(count: int) -> torch.Tensor:
                total = passes(pixels, ids, mask, class_token, count)
                if self.device != "cpu":
                    torch.cuda.synchronize(self.device)
                return total

            return run

        return PassesContender(feed, precision, lambda: {"tf32": tf32.allowed()})

    def _engine(self, backend: str, precision: Any, stack: ExitStack) -> PassesContender:
        if backend in BUILDERS:
            build(
                self.exported,
                backend,
                precision,
                device=self.device,
                batches=self.batches,
                tokens=[TOKENS],
            )
        graphs = Graphs.open(
            self.exported,
            backend=backend,
            device=self.device,
            precision=precision,
        )
        stack.callback(graphs.runners.close)
        read_back = partial(_read_back, graphs)
        return PassesContender(lambda inputs: _feed(graphs, inputs), precision, read_back)


def to_host(total: Any) -> np.ndarray:
    """Copy the salience of a run to the host's memory.

    Args:
        total: Tensor of PyTorch, or array of CuPy or NumPy.
    """
    if isinstance(total, torch.Tensor):
        return total.cpu().numpy()
    return total if isinstance(total, np.ndarray) else total.get()


def _feed(graphs: Graphs, inputs: Inputs) -> Run:
    device = graphs.device
    captions = [[CaptionTokens(ids, CLASS_TOKENS)] for ids in inputs.ids.tolist()]
    with device.on_stream():
        pixels = device.xp.asarray(inputs.pixels)
        batch = CaptionBatch.of(graphs.captioner, captions, device)

    def run(count: int) -> Array:
        with device.on_stream():
            total = _passes(graphs, pixels, batch, count)
            if device.stream is not None:
                device.stream.synchronize()
        return total

    return run


def _passes(graphs: Graphs, pixels: Array, captions: CaptionBatch, count: int) -> Array:
    embeds = graphs.embed(pixels)
    settings = Settings(passes=count, crf=None)
    return salience_dropout(graphs, pixels, embeds, captions, settings)[0]


class _ReplayingRunner:
    """Runs a graph once, and returns the outputs of that run in every later call."""

    def __init__(self, runner: Runner) -> None:
        self.device = runner.device
        self.precision: Arithmetic = runner.precision
        self.build = runner.build
        self._runner = runner
        self._outputs: dict[str, Array] = {}

    def run(self, feeds: Any, outputs: Any = None) -> dict[str, Array]:
        self._outputs = self._outputs or self._runner.run(feeds, outputs)
        return self._outputs

    def close(self) -> None:
        pass


def _read_back(graphs: Graphs) -> dict[str, Any]:
    facts: dict[str, Any] = {"device": graphs.device.name}
    if graphs.device.stream is not None:
        facts["cuda_graphs"] = [
            sum(replayed for _, replayed in getattr(runner, "captured", []))
            for runner in graphs.runners.loaded.values()
        ]
        facts["host_between_passes_ms"] = _host_between_passes(graphs)
    return facts


def _host_between_passes(graphs: Graphs, count: int = 100) -> float:
    """Measure the host's time, in ms, to queue the kernels between two runs of the graphs."""
    size = graphs.manifest.preprocess.sides[0]
    loaded = graphs.runners.loaded
    runners = Runners(lambda name: _ReplayingRunner(loaded[name]), graphs.device, list(loaded))
    replaying = replace(graphs, runners=runners)
    captions = [[CaptionTokens(list(range(1, TOKENS + 1)), CLASS_TOKENS)]]
    with graphs.device.on_stream():
        pixels = graphs.device.xp.zeros((1, 3, size, size), np.float32)
        batch = CaptionBatch.of(graphs.captioner, captions, graphs.device)
        _passes(replaying, pixels, batch, 2)
        graphs.device.stream.synchronize()
        began = time.perf_counter()
        _passes(replaying, pixels, batch, count)
        elapsed = time.perf_counter() - began
        graphs.device.stream.synchronize()
    return 1000 * elapsed / count
