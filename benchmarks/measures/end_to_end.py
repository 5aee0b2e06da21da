"""Whole segmenters against eager PyTorch: from a picture's file to the file of its labels.

Timing contract: the clock of a run starts before the picture is opened and stops when the PNG of
its labels is written; decoding, the K passes, refinement and the dense CRF are in it, loading the
model and the first run are not. Every contender is a process of its own, and they take turns: one
run of each, then the next of each. The settings are the paper's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import msgspec
import numpy as np

from pnp_ovss.engine.errors import ExecutionError, InputError

from ..contenders.base import CLASS_NAMES, DROP_MODES, LEAN, LIMITS, PIXELS, RELEASED, Skipped, Task
from ..contenders.registry import ENGINE_SEGMENTERS, precision_of
from ..contenders.worker import Watched, Worker, loaded
from ..harness.prepared import PreparedModel
from ..harness.records import Rows
from ..harness.tables import heading, not_timed, note_on_crf, or_dash
from ..harness.timing import bootstrap_interval, in_turns

CONTRACT = "picture file to label file: decode, K passes, refine, CRF, write; model loaded, warm"
_STAGES_SHOWN = {"vision", "salience", "refine", "crf"}  # have columns of their own


class EndToEndRow(msgspec.Struct, frozen=True, kw_only=True):
    """A contender in a drop mode.

    A ratio says how many times as fast as that other contender it is, round by round.

    Attributes:
        contender: the segmenter, and after a slash a drop mode other than "pixels".
        contract: what the clock includes.
        drop_mode: what dropping a patch means; only "pixels" is the paper's method.
        precision: of the arithmetic.
        median_s: seconds of a picture.
        p05_s: 5th percentile.
        p95_s: 95th.
        rounds: runs that were timed.
        ratio_to_released: the median of the ratios; None where there was no such contender.
        ratio_to_released_interval: where that median lies, by 95 % of a bootstrap.
        ratio_to_lean: likewise.
        ratio_to_lean_interval: likewise.
        stages: seconds of each, in a run apart; of the passes all together.
        peak_memory_mib: of its process, in a run.
        load_s: seconds to load the model and segment the first picture.
        maps_error: of the class maps against `lean`, as `LIMITS` has it.
        same_labels: part of the pixels that `lean` labels alike.
        read_back: how it really runs.
        case: picture, classes, passes, image size.
        model: its name and sha256.
        machine: processor, versions.
        command: that repeats it.
    """

    contender: str
    contract: str
    drop_mode: str
    precision: str
    median_s: float
    p05_s: float
    p95_s: float
    rounds: int
    ratio_to_released: float | None
    ratio_to_released_interval: tuple[float, float] | None
    ratio_to_lean: float | None
    ratio_to_lean_interval: tuple[float, float] | None
    stages: dict[str, float]
    peak_memory_mib: float
    load_s: float
    maps_error: float | None
    same_labels: float | None
    read_back: dict[str, Any]
    case: dict[str, Any]
    model: dict[str, Any]
    machine: dict[str, Any]
    command: str


@dataclass(frozen=True)
class Assignment:
    """A process and the task that it is timed with: a contender in a drop mode."""

    worker: Worker
    task: Task

    @property
    def name(self) -> str:
        """Name in tables."""
        name, mode = self.worker.name, self.task.drop_mode
        return name if mode == PIXELS else f"{name}/{mode}"

    @property
    def precision(self) -> str:
        """Precision of its arithmetic."""
        return precision_of(self.worker.name)


CachedWatch = Callable[[Worker, Task], Watched]
CachedMaps = Callable[[Worker, Task], np.ndarray]


@dataclass(frozen=True)
class ReferenceCheck:
    """Agreement of a contender with eager PyTorch in fp32 and the same drop mode.

    Attributes:
        maps_error: largest difference of the class maps, relative to their largest value.
        same_labels: part of the pixels that both label alike.
    """

    maps_error: float
    same_labels: float

    @classmethod
    def of(
        cls, contender: Assignment, oracle: Worker, watch: CachedWatch, maps: CachedMaps
    ) -> ReferenceCheck:
        """Compare labels, and the class maps of many classes, as one may have no salience at all.

        Args:
            contender: to be compared.
            oracle: PyTorch.
            watch: `Worker.watch`, or what it gave before.
            maps: `Worker.maps`, likewise.

        Raises:
            InputError: the oracle finds nothing in the picture.
        """
        task, worker = contender.task, contender.worker
        found, wanted = (watch(one, task).labels for one in (worker, oracle))
        same_labels = float(np.mean(found == wanted))
        passes = task.passes if contender.precision == "fp32" else 1
        task = replace(task, classes=CLASS_NAMES, passes=passes)
        wanted = maps(oracle, task)
        if not wanted.any():
            raise InputError(
                f"PyTorch finds nothing in '{task.picture}' to compare with",
                "take another --picture, or --no-refcheck",
            )
        return cls(float(np.abs(maps(worker, task) - wanted).max() / wanted.max()), same_labels)


def measure(
    model: PreparedModel,
    task: Task,
    names: Sequence[str],
    *,
    modes: Sequence[str] = DROP_MODES,
    rounds: int,
    refcheck: bool,
    about: Mapping[str, Any],
    say: Callable[[str], None],
) -> Iterator[EndToEndRow | Skipped]:
    """A row for each contender.

    Args:
        model: that they load.
        task: what they do.
        names: of `registry.SEGMENTERS`.
        modes: what dropping a patch may mean to the engine; PyTorch drops pixels.
        rounds: turns of each, at least; see `timing`.
        refcheck: first compare what each finds with `lean`, and time none that is wrong.
        about: fields of every row.
        say: is told of each step.

    Raises:
        ExecutionError: there is nothing to compare with, or a process died.
    """
    with loaded(names, model, task, say) as (workers, skipped):
        yield from skipped
        contenders = [
            Assignment(worker, replace(task, drop_mode=mode))
            for worker in workers
            for mode in (modes if worker.name in ENGINE_SEGMENTERS else [PIXELS])
        ]
        for one in contenders:
            say(f"running {one.name}")  # before any is watched: one may load a graph for another
            one.worker.run(one.task)
        watch, maps = cache(Worker.watch), cache(Worker.maps)
        for one in contenders:
            say(f"watching {one.name}")
            if one.task.drop_mode != PIXELS:  # as often as the others: a GPU records the second run
                one.worker.run(one.task)
            watch(one.worker, one.task)
        checks: dict[str, ReferenceCheck] = {}
        oracle = next((worker for worker in workers if worker.name == LEAN), None)
        if refcheck:
            if oracle is None:
                raise ExecutionError(
                    f"there is no {LEAN} to compare with: {_why(LEAN, skipped)}",
                    "mend that, or take --no-refcheck",
                )
            for one in contenders:
                say(f"checking {one.name}")
                checks[one.name] = ReferenceCheck.of(one, oracle, watch, maps)
        for one in list(contenders):
            check = checks.get(one.name)
            if check and not check.maps_error <= LIMITS[one.precision]:
                contenders.remove(one)
                why = f"wrong: its class maps are off by {check.maps_error:.1e}"
                yield Skipped(one.name, model.device, why, failed=True)
        say(f"timing {', '.join(one.name for one in contenders)}")
        runs = {one.name: partial(one.worker.run, one.task) for one in contenders}
        seconds = in_turns(runs, rounds, warm_up=False)  # all have run
        for one in contenders:
            watched = watch(one.worker, one.task)
            yield _row(one, seconds, watched, checks.get(one.name), about)


def _why(name: str, skipped: Sequence[Skipped]) -> str:
    return next((one.skipped for one in skipped if one.contender == name), "it was not named")


_BASE = (RELEASED, LEAN)


def _row(
    contender: Assignment,
    seconds: Mapping[str, np.ndarray],
    watched: Watched,
    check: ReferenceCheck | None,
    about: Mapping[str, Any],
) -> EndToEndRow:
    own = seconds[contender.name]
    low, middle, high = np.percentile(own, [5, 50, 95]).tolist()
    ratios: dict[str, Any] = {}
    for other in _BASE:
        there = other in seconds
        ratios[f"ratio_to_{other}"] = float(np.median(seconds[other] / own)) if there else None
        ratios[f"ratio_to_{other}_interval"] = (
            bootstrap_interval(seconds[other], own) if there else None
        )
    return EndToEndRow(
        contender=contender.name,
        contract=CONTRACT,
        drop_mode=contender.task.drop_mode,
        precision=contender.precision,
        median_s=middle,
        p05_s=low,
        p95_s=high,
        rounds=len(own),
        **ratios,
        stages=watched.stages,
        peak_memory_mib=watched.peak_memory_mib,
        load_s=contender.worker.load_s,
        maps_error=check.maps_error if check else None,
        same_labels=check.same_labels if check else None,
        read_back=contender.worker.read_back(),
        **about,
    )


def table(rows: Rows) -> str:
    """The rows as Markdown, device by device."""
    return "\n\n".join(_on_device(own) for own in _by_device(rows).values())


def _by_device(rows: Rows) -> dict[str, Rows]:
    found: dict[str, Rows] = {}
    for row in rows:
        found.setdefault(row["case"]["device"] if "case" in row else row["device"], []).append(row)
    return found


def _on_device(rows: Rows) -> str:
    timed = [row for row in rows if "median_s" in row]
    if not timed:
        return not_timed(rows)
    clock = f"The clock: {timed[0]['contract']}. Median (5th to 95th percentile) of"
    clock += (
        f" {timed[0]['rounds']} rounds; in brackets after a ratio, where its median lies by 95 %"
    )
    clock += " of a bootstrap."
    parts = [heading(timed[0]), clock, _times(timed), note_on_crf(timed), not_timed(rows)]
    return "\n\n".join(filter(None, parts))


def _times(timed: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| contender | a picture, s | times `released` | times `lean` | vision, s | salience, s"
        " | refine, CRF, s | the rest, s | peak MiB | loaded, s | maps off by | same labels |",
        "|---|" + "---:|" * 11,
    ]
    for row in timed:
        own = row["stages"]
        rest = sum(seconds for name, seconds in own.items() if name not in _STAGES_SHOWN)
        lines.append(
            f"| {row['contender']}{'' if row['drop_mode'] == PIXELS else ' *'}"
            f" | {row['median_s']:.3g} ({row['p05_s']:.3g} to {row['p95_s']:.3g})"
            f" | {_ratio(row, 'released')} | {_ratio(row, 'lean')}"
            f" | {own.get('vision', 0):.3f} | {own.get('salience', 0):.3f}"
            f" | {own.get('refine', 0) + own.get('crf', 0):.3f} | {rest:.3f}"
            f" | {row['peak_memory_mib']:.0f} | {row['load_s']:.1f}"
            f" | {or_dash(row['maps_error'], '.0e')} | {or_dash(row['same_labels'], '.4f')} |"
        )
    if any(row["drop_mode"] != PIXELS for row in timed):
        lines += ["", "\\* another way of dropping patches than the paper's: another result."]
    return "\n".join(lines)


def _ratio(row: dict[str, Any], other: str) -> str:
    ratio, interval = row[f"ratio_to_{other}"], row[f"ratio_to_{other}_interval"]
    if ratio is None:
        return "-"
    return f"{ratio:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]"


def summary(rows: Rows) -> str:
    """Short tables for benchmarks/README.md: what it runs on, seconds, ratios, memory."""
    parts = []
    for own in _by_device(rows).values():
        timed = [row for row in own if "median_s" in row]
        lines = [
            "| | seconds a picture | times `released` | times `lean` | peak memory |",
            "|---|---:|---:|---:|---:|",
            *(
                f"| {row['contender']} | {row['median_s']:.2f}"
                f" | {_plain(row['ratio_to_released'])} | {_plain(row['ratio_to_lean'])}"
                f" | {row['peak_memory_mib'] / 1024:.1f} GiB |"
                for row in timed
            ),
        ]
        parts += [heading(timed[0]), "\n".join(lines), note_on_crf(timed)] if timed else []
    return "\n\n".join(filter(None, parts))


def _plain(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.1f}"
