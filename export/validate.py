"""Holds exported graphs to the model itself in float64, whatever its family.

A model can be ill-conditioned: its own rounding in float32 is then large, whoever computes it. So a
graph is allowed a multiple of what eager PyTorch in float32 is off, and no model is taken whose
rounding would show.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..engine.errors import ExecutionError, ModelError
from ..engine.runners.onnxruntime import OnnxRuntimeRunner
from .models.base import Arrays, Choice, Family, Trial

# Errors are relative to the largest value of an output.
FLOOR = 1e-5  # what any graph may be off; seen: 1e-6
MARGIN = 4  # times what eager PyTorch in float32 is off; seen: 0.3 to 2, by chance above 4
LIMIT = 1e-2  # a model that would need more is refused
REPEATS = 8  # runs of eager PyTorch before a graph is refused


@dataclass(frozen=True)
class Accuracy:
    """How far an output is off float64, relative to its largest value there over all inputs.

    Attributes:
        graph: error of the exported graph, on ONNX Runtime.
        eager: error of the model itself and autograd in float32; then of the same with its
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
    family: Family,
    model: nn.Module,
    graphs: Mapping[str, Path],
    choice: Choice,
    *,
    seed: int = 0,
) -> dict[str, Accuracy]:
    """Compare graphs with the model in float64, and the model in float32 too, on random inputs.

    A single run in float32 can be nearly right by chance, where rounding is amplified along one
    direction. So before a graph is found to be out of tolerance, eager PyTorch runs again, with
    parameters moved by their own rounding.

    Args:
        family: of the model.
        model: as exported; in float32, as it is again when this returns.
        graphs: the ONNX file of each, by name.
        choice: as exported.
        seed: of the inputs.

    Returns:
        The accuracy of each output, by "graph.output".
    """
    random = np.random.default_rng(seed)
    trials = list(family.trials(model, random))

    def eager() -> list[Arrays]:
        return [family.reference(model, choice, trial) for trial in trials]

    model.double()
    try:
        exact = eager()
    finally:
        model.float()
    exported = _errors(trials, _run_graphs(graphs, trials), exact)
    once = _errors(trials, eager(), exact)
    result = {name: Accuracy(exported[name], (once[name],)) for name in exported}
    for _ in range(REPEATS):
        outputs = result.values()
        if any(o.hopeless for o in outputs) or all(o.graph <= o.tolerance for o in outputs):
            break
        with _moved(model, random):
            again = _errors(trials, eager(), exact)
        result = {
            name: Accuracy(output.graph, (*output.eager, again[name]))
            for name, output in result.items()
        }
    return result


def require_accurate(outputs: Mapping[str, Accuracy], expected: Iterable[str] = ()) -> None:
    """Refuse an ill-conditioned model, and a graph that is out of tolerance.

    Args:
        outputs: the accuracy of each output.
        expected: outputs that must be among them.

    Raises:
        ModelError: float32 is not enough for the model.
        ExecutionError: a graph is off by more than that explains, or was not compared.
    """
    missing = [name for name in expected if name not in outputs]
    if missing:
        raise ExecutionError(
            f"the exported {missing[0]} was not compared with PyTorch; nothing was written",
            "the family of the checkpoint has no trial of it: report it",
        )
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


@contextmanager
def _moved(model: nn.Module, random: np.random.Generator) -> Iterator[None]:
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


def _run_graphs(graphs: Mapping[str, Path], trials: Sequence[Trial]) -> list[Arrays]:
    """Outputs of the exported graphs, one of which is loaded at a time."""
    found: dict[int, Arrays] = {}
    for name, path in graphs.items():
        runner = OnnxRuntimeRunner(path)
        for index, trial in enumerate(trials):
            if trial.graph == name:
                found[index] = runner.run(trial.feeds)
        runner.close()
    return [found[index] for index in range(len(trials))]


def _errors(
    trials: Sequence[Trial], found: Sequence[Arrays], exact: Sequence[Arrays]
) -> dict[str, float]:
    """`relative_error` of each output, "graph.output", over all trials of the graph."""
    values: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for trial, outputs, wanted in zip(trials, found, exact, strict=True):
        for name in wanted:
            pairs = values.setdefault(f"{trial.graph}.{name}", [])
            pairs.append((outputs[name].ravel(), wanted[name].ravel()))
    return {
        name: relative_error(*(np.concatenate(side) for side in zip(*pairs, strict=True)))
        for name, pairs in values.items()
    }


def relative_error(found: np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference, relative to the largest value wanted; infinite if one is not finite."""
    if not (np.isfinite(found).all() and np.isfinite(wanted).all()):
        return float("inf")
    difference = float(np.abs(found - wanted).max())
    return difference and difference / max(float(np.abs(wanted).max()), np.finfo(np.float32).tiny)
