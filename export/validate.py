"""Compares exported graphs with the PyTorch model in float64, for any family.

An ill-conditioned model amplifies the rounding of float32, in PyTorch as well as in a graph. So the
tolerance of a graph is a multiple of eager PyTorch's error in float32. A model whose rounding error
would be visible is refused.
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
FLOOR = 1e-5  # smallest tolerance of a graph; seen: errors of 1e-6
MARGIN = 4  # tolerance over eager PyTorch's error; seen: ratios of 0.3 to 2, by chance above 4
LIMIT = 1e-2  # largest tolerance; a model that would need more is refused
REPEATS = 8  # further runs of eager PyTorch before a graph is refused


@dataclass(frozen=True)
class Accuracy:
    """Errors of an output against float64, relative to its largest float64 value over all trials.

    Attributes:
        graph: error of the exported graph, on ONNX Runtime.
        eager: errors of eager PyTorch (with autograd) in float32: first that of the model, then
            those of models whose parameters were perturbed by their rounding.
    """

    graph: float
    eager: tuple[float, ...]

    @property
    def ill_conditioned(self) -> bool:
        """Whether float32 is too coarse for the model."""
        return not MARGIN * self.eager[0] <= LIMIT

    @property
    def tolerance(self) -> float:
        """Largest error that the graph may have."""
        return min(max(FLOOR, MARGIN * max(self.eager)), LIMIT)

    @property
    def beyond_limit(self) -> bool:
        """Whether the output is refused, whatever the next run of eager PyTorch gives."""
        return self.ill_conditioned or not self.graph <= LIMIT


def accuracy(
    family: Family,
    model: nn.Module,
    graphs: Mapping[str, Path],
    choice: Choice,
    *,
    seed: int = 0,
) -> dict[str, Accuracy]:
    """Measure the errors of exported graphs and of eager PyTorch against float64.

    A single run of eager PyTorch in float32 can be nearly exact by chance, where rounding is
    amplified along one direction. So before a graph is refused, eager PyTorch runs again, with
    parameters perturbed by their rounding.

    Args:
        family: family of the model.
        model: exported model, in float32. It is in float64 during the call, and in float32 after.
        graphs: path of each graph's ONNX file, by the graph's name.
        choice: cross-attention layers and heads that were exported.
        seed: seed of the random inputs.

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
    first = _errors(trials, eager(), exact)
    result = {name: Accuracy(exported[name], (first[name],)) for name in exported}
    for _ in range(REPEATS):
        outputs = result.values()
        if any(o.beyond_limit for o in outputs) or all(o.graph <= o.tolerance for o in outputs):
            break
        with _perturbed(model, random):
            errors = _errors(trials, eager(), exact)
        result = {
            name: Accuracy(output.graph, (*output.eager, errors[name]))
            for name, output in result.items()
        }
    return result


def require_accurate(outputs: Mapping[str, Accuracy], expected: Iterable[str] = ()) -> None:
    """Refuse an ill-conditioned model, and a graph whose error is above its tolerance.

    Args:
        outputs: accuracy of each output, by "graph.output".
        expected: names of the outputs that must have been compared.

    Raises:
        ModelError: float32 is too coarse for the model, or an output is not finite.
        ExecutionError: a graph's error is above its tolerance, or an output was not compared.
    """
    missing = [name for name in expected if name not in outputs]
    if missing:
        raise ExecutionError(
            f"the exported {missing[0]} was not compared with PyTorch; nothing was written",
            "report it with the checkpoint's name and the output of: pnp-ovss doctor",
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
def _perturbed(model: nn.Module, random: np.random.Generator) -> Iterator[None]:
    """Perturb the biases and scales of every layer by at most their rounding, temporarily."""
    vectors = [parameter.data for parameter in model.parameters() if parameter.ndim == 1]
    originals = [vector.clone() for vector in vectors]
    try:
        for vector in vectors:
            factor = 1 + np.finfo(np.float32).eps * random.uniform(-1, 1, vector.shape)
            vector.copy_(vector.double() * torch.from_numpy(factor))
        yield
    finally:
        for vector, original in zip(vectors, originals, strict=True):
            vector.copy_(original)


def _run_graphs(graphs: Mapping[str, Path], trials: Sequence[Trial]) -> list[Arrays]:
    """Run the trials on the exported graphs, of which one is loaded at a time."""
    outputs: dict[int, Arrays] = {}
    for name, path in graphs.items():
        runner = OnnxRuntimeRunner(path)
        for index, trial in enumerate(trials):
            if trial.graph == name:
                outputs[index] = runner.run(trial.feeds)
        runner.close()
    return [outputs[index] for index in range(len(trials))]


def _errors(
    trials: Sequence[Trial], computed: Sequence[Arrays], exact: Sequence[Arrays]
) -> dict[str, float]:
    """Return the `relative_error` of each output ("graph.output") over all trials of its graph."""
    values: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for trial, outputs, expected in zip(trials, computed, exact, strict=True):
        for name in expected:
            pairs = values.setdefault(f"{trial.graph}.{name}", [])
            pairs.append((outputs[name].ravel(), expected[name].ravel()))
    return {
        name: relative_error(*(np.concatenate(side) for side in zip(*pairs, strict=True)))
        for name, pairs in values.items()
    }


def relative_error(computed: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest absolute difference over the largest magnitude of the expected values.

    Args:
        computed: computed values, of any shape.
        expected: expected values, of the same shape.

    Returns:
        The error; infinite if any value is not finite.
    """
    if not (np.isfinite(computed).all() and np.isfinite(expected).all()):
        return float("inf")
    difference = float(np.abs(computed - expected).max())
    largest = float(np.abs(expected).max())
    return difference and difference / max(largest, np.finfo(np.float32).tiny)
