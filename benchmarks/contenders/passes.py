"""Contenders that run the K passes: eager and compiled PyTorch, the engine on each backend."""

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

TOKENS = 16  # of a caption
OWNERS = [(0, [4, 5]), (1, [6, 7]), (2, [8, 9])]  # three classes of two tokens each
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

EAGER_PASSES = [f"eager-{precision}" for precision in DTYPES]
COMPILED = "compile-bf16"
PASSES_CONTENDERS = [
    *EAGER_PASSES,
    COMPILED,
    *(f"{backend}-{precision}" for backend in BACKENDS for precision in DTYPES),
]

Run = Callable[[int], Any]
"""Runs so many passes, and waits: salience summed over them, float32 [B, T, P], on the device."""


@dataclass(frozen=True)
class Inputs:
    """Pictures and captions of a case, on the host.

    Attributes:
        pixels: float32 [B, 3, S, S].
        ids: int64 [B, T].
    """

    pixels: np.ndarray
    ids: np.ndarray

    @classmethod
    def random(cls, model: BlipForImageTextRetrieval, batch: int, size: int) -> Inputs:
        """The same ones for every contender."""
        random = np.random.default_rng(batch)
        words: Any = model.config.text_config
        pixels = random.normal(size=(batch, 3, size, size)).astype(np.float32)
        return cls(pixels, random.integers(0, words.vocab_size, (batch, TOKENS)))


@dataclass
class PassesContender:
    """The K passes of one contender, loaded, to be fed and timed.

    Attributes:
        feed: puts a case on the device; what it gives may be timed.
        precision: of its arithmetic.
        read_back: how it really runs.
        free_before: bytes that were free on the GPU before it was loaded.
    """

    feed: Callable[[Inputs], Run]
    precision: str
    read_back: Callable[[], dict[str, Any]] = dict
    free_before: int | None = None


@dataclass
class PassesLoader:
    """Loads contenders for a model at one image size, and counts what they take of the GPU.

    Attributes:
        model: resized to it.
        exported: its export, for the engine.
        device: "cpu" or "cuda:N".
        batches: of the cases to come.
    """

    model: BlipForImageTextRetrieval
    exported: ModelFolder
    device: str
    batches: Sequence[int]

    @classmethod
    def open(cls, made: PreparedModel, batches: Sequence[int]) -> PassesLoader:
        """Load a checkpoint and its export."""
        files, _ = find_checkpoint(made.checkpoint)
        model, exported = blip.load(files, None).model, open_model(made.folder, verify=False)
        blip.resize(model, exported.manifest.preprocess.sides)
        return cls(model, exported, made.device, batches)

    @property
    def size(self) -> int:
        """S."""
        return self.exported.manifest.preprocess.sides[0]

    def load(self, name: str, stack: ExitStack) -> PassesContender:
        """A contender of `PASSES_CONTENDERS`.

        Args:
            name: of it.
            stack: closes it.

        Raises:
            SkippedError: it cannot be had here.
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
        """MiB of the GPU that a contender takes for a run, its weights and caches included."""
        self._empty_caches()
        run()
        free = self._free_memory()
        if free is None or contender.free_before is None:
            return None
        return (contender.free_before - free) / 2**20

    def free(self) -> None:
        """Give back the memory of contenders that are closed, and that nothing holds any more."""
        gc.collect()  # modules of PyTorch hold themselves
        self._empty_caches()

    def _empty_caches(self) -> None:
        """Give back what PyTorch and CuPy keep for later."""
        if self.device != "cpu":
            torch.cuda.empty_cache()
            cupy = importlib.import_module("cupy")
            with cupy.cuda.Device(torch.device(self.device).index):
                cupy.get_default_memory_pool().free_all_blocks()

    def _free_memory(self) -> int | None:
        """Bytes free on the GPU."""
        if self.device == "cpu":
            return None
        return torch.cuda.mem_get_info(self.device)[0]

    def _pytorch(self, precision: str, stack: ExitStack, *, compiled: bool) -> PassesContender:
        if compiled:
            stack.callback(torch.compiler.reset)  # it keeps what it compiled
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
            class_token = np.zeros(inputs.ids.shape, bool)
            class_token[:, [token for _, own in OWNERS for token in own]] = True
            pixels, ids, owned = (
                torch.from_numpy(array).to(self.device)
                for array in (inputs.pixels, inputs.ids, class_token)
            )
            mask = torch.ones_like(ids)

            def run(count: int) -> torch.Tensor:
                total = passes(pixels, ids, mask, owned, count)
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
        return PassesContender(lambda inputs: _fed(graphs, inputs), precision, read_back)


def to_host(total: Any) -> np.ndarray:
    """Copy what a run gave to the host's memory."""
    if isinstance(total, torch.Tensor):
        return total.cpu().numpy()
    return total if isinstance(total, np.ndarray) else total.get()


def _fed(graphs: Graphs, inputs: Inputs) -> Run:
    device = graphs.device
    captions = [[CaptionTokens(ids, OWNERS)] for ids in inputs.ids.tolist()]
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
    """A runner that gives at once what another gave once."""

    def __init__(self, runner: Runner) -> None:
        self.device = runner.device
        self.precision: Arithmetic = runner.precision
        self.build = runner.build
        self._runner = runner
        self._given: dict[str, Array] = {}

    def run(self, feeds: Any, outputs: Any = None) -> dict[str, Array]:
        self._given = self._given or self._runner.run(feeds, outputs)
        return self._given

    def close(self) -> None:
        pass


def _read_back(graphs: Graphs) -> dict[str, Any]:
    found: dict[str, Any] = {"device": graphs.device.name}
    if graphs.device.stream is not None:
        found["cuda_graphs"] = [
            sum(replayed for _, replayed in getattr(runner, "captured", []))
            for runner in graphs.runners.loaded.values()
        ]
        found["host_between_passes_ms"] = _host_between_passes(graphs)
    return found


def _host_between_passes(graphs: Graphs, count: int = 100) -> float:
    """Milliseconds in which the host queues what lies between two runs of the graphs."""
    size = graphs.manifest.preprocess.sides[0]
    known = graphs.runners.loaded
    replaying = Runners(lambda name: _ReplayingRunner(known[name]), graphs.device, list(known))
    standing = replace(graphs, runners=replaying)
    captions = [[CaptionTokens(list(range(1, TOKENS + 1)), OWNERS)]]
    with graphs.device.on_stream():
        pixels = graphs.device.xp.zeros((1, 3, size, size), np.float32)
        batch = CaptionBatch.of(graphs.captioner, captions, graphs.device)
        _passes(standing, pixels, batch, 2)
        graphs.device.stream.synchronize()
        began = time.perf_counter()
        _passes(standing, pixels, batch, count)
        elapsed = time.perf_counter() - began
        graphs.device.stream.synchronize()
    return 1000 * elapsed / count
