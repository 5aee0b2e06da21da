"""Times whole segmenters against eager PyTorch, from the image file to the label file.

Timing contract: the clock of a run starts before the image is opened and stops when the PNG of its
labels is written. Decoding, the K passes, refinement and the dense CRF are included; loading the
model and the first run are not. Every contender runs in a separate process, and they take turns:
one run of each, then the next run of each. The settings are the paper's.
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

CONTRACT = "image file to label file: decode, K passes, refine, CRF, write; model loaded, warm"
_STAGES_SHOWN = {"vision", "salience", "refine", "crf"}  # stages with columns in the table


class EndToEndRow(msgspec.Struct, frozen=True, kw_only=True):
    """Records the time, memory and exactness of a contender in a drop mode.

    A ratio divides the seconds of `released` or `lean` by those of the contender, round by round:
    it says how many times as fast the contender is.

    Attributes:
        contender: Name of the segmenter, and after a slash a drop mode other than "pixels".
        contract: Description of what the clock includes.
        drop_mode: Meaning of dropping a patch; only "pixels" is the paper's method.
        precision: Precision of the arithmetic.
        median_s: Median time of an image, in seconds.
        p05_s: 5th percentile of the time of an image, in seconds.
        p95_s: 95th percentile of the time of an image, in seconds.
        rounds: Number of timed runs.
        ratio_to_released: Median ratio to `released`; None if `released` was not timed.
        ratio_to_released_interval: 95 % bootstrap interval of the median ratio to `released`.
        ratio_to_lean: Median ratio to `lean`; None if `lean` was not timed.
        ratio_to_lean_interval: 95 % bootstrap interval of the median ratio to `lean`.
        stages: Seconds of each stage in a separate run, summed over the passes.
        peak_memory_mib: Peak memory of the contender's process in a run, in MiB.
        load_s: Time to load the model and segment the first image, in seconds.
        maps_error: Error of the class maps against `lean`, relative to their largest value; in fp32
            after all passes, in lower precision after the first. None if it was not checked.
        same_labels: Part of the pixels that `lean` labels alike; None if it was not checked.
        read_back: Facts of how the contender runs: providers, dtypes, threads.
        case: Image, classes, passes, image size and device.
        model: Name of the model, and sha256 of its graphs.
        machine: Facts of the machine: processor, versions, date.
        command: Command that repeats the measurement.
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
    """Pairs a contender's process with the task that it is timed with.

    Attributes:
        worker: Process of the segmenter.
        task: Task, which has the drop mode.
    """

    worker: Worker
    task: Task

    @property
    def name(self) -> str:
        """Return the name of the contender in tables."""
        name, mode = self.worker.name, self.task.drop_mode
        return name if mode == PIXELS else f"{name}/{mode}"

    @property
    def precision(self) -> str:
        """Return the precision of the contender's arithmetic."""
        return precision_of(self.worker.name)


CachedWatch = Callable[[Worker, Task], Watched]
CachedMaps = Callable[[Worker, Task], np.ndarray]


@dataclass(frozen=True)
class ReferenceCheck:
    """Stores how far a contender is from eager PyTorch in fp32 with the same drop mode.

    Attributes:
        maps_error: Largest difference of the class maps, relative to their largest value.
        same_labels: Part of the pixels that both label alike.
    """

    maps_error: float
    same_labels: float

    @classmethod
    def of(
        cls, contender: Assignment, reference: Worker, watch: CachedWatch, maps: CachedMaps
    ) -> ReferenceCheck:
        """Compare a contender with the reference.

        Labels are compared for the classes of the task. Class maps are compared for the many
        classes of `CLASS_NAMES`, as a single class may have no salience at all.

        Args:
            contender: Contender to compare.
            reference: Process of eager PyTorch.
            watch: `Worker.watch`, whose results are cached.
            maps: `Worker.maps`, whose results are cached.

        Raises:
            InputError: All class maps of the reference are 0.
        """
        task, worker = contender.task, contender.worker
        labels, expected_labels = watch(worker, task).labels, watch(reference, task).labels
        same_labels = float(np.mean(labels == expected_labels))
        passes = task.passes if contender.precision == "fp32" else 1
        task = replace(task, classes=CLASS_NAMES, passes=passes)
        expected = maps(reference, task)
        if not expected.any():
            raise InputError(
                f"all class maps of PyTorch are 0 for '{task.image}', nothing can be compared",
                "take another --image, or --no-refcheck",
            )
        return cls(float(np.abs(maps(worker, task) - expected).max() / expected.max()), same_labels)


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
    """Measure a row for each contender.

    Args:
        model: Model that the contenders load.
        task: Task of the contenders.
        names: Names of segmenters, of `registry.SEGMENTERS`.
        modes: Drop modes of the engine's contenders; PyTorch drops pixels.
        rounds: Minimum number of turns of each contender; see `harness.timing`.
        refcheck: Whether each contender is first compared with `lean`; a wrong one is not timed.
        about: Fields that every row repeats: case, model, machine and command.
        say: Function that is called with a line of text at each step.

    Raises:
        ExecutionError: `lean` cannot run and `refcheck` needs it, or a process died.
        InputError: All class maps of `lean` are 0.
    """
    with loaded(names, model, task, say) as (workers, skipped):
        yield from skipped
        contenders = [
            Assignment(worker, replace(task, drop_mode=mode))
            for worker in workers
            for mode in (modes if worker.name in ENGINE_SEGMENTERS else [PIXELS])
        ]
        # All run before any is watched: several drop modes share a process, and its graphs.
        for contender in contenders:
            say(f"running {contender.name}")
            contender.worker.run(contender.task)
        watch, maps = cache(Worker.watch), cache(Worker.maps)
        for contender in contenders:
            say(f"watching {contender.name}")
            # Each drop mode has run twice before it is watched: a GPU records graphs in the second.
            if contender.task.drop_mode != PIXELS:
                contender.worker.run(contender.task)
            watch(contender.worker, contender.task)
        checks: dict[str, ReferenceCheck] = {}
        reference = next((worker for worker in workers if worker.name == LEAN), None)
        if refcheck:
            if reference is None:
                raise ExecutionError(
                    f"{LEAN}, which contenders are compared with, did not run:"
                    f" {_why(LEAN, skipped)}",
                    f"mend {LEAN}, or take --no-refcheck",
                )
            for contender in contenders:
                say(f"checking {contender.name}")
                checks[contender.name] = ReferenceCheck.of(contender, reference, watch, maps)
        for contender in list(contenders):
            check = checks.get(contender.name)
            if check and not check.maps_error <= LIMITS[contender.precision]:
                contenders.remove(contender)
                why = f"wrong: its class maps are off by {check.maps_error:.1e}"
                yield Skipped(contender.name, model.device, why, failed=True)
        say(f"timing {', '.join(contender.name for contender in contenders)}")
        runs = {
            contender.name: partial(contender.worker.run, contender.task)
            for contender in contenders
        }
        seconds = in_turns(runs, rounds, warm_up=False)  # all have run
        for contender in contenders:
            watched = watch(contender.worker, contender.task)
            yield _row(contender, seconds, watched, checks.get(contender.name), about)


def _why(name: str, skipped: Sequence[Skipped]) -> str:
    return next((row.skipped for row in skipped if row.contender == name), "it was not named")


_BASELINES = (RELEASED, LEAN)


def _row(
    contender: Assignment,
    seconds: Mapping[str, np.ndarray],
    watched: Watched,
    check: ReferenceCheck | None,
    about: Mapping[str, Any],
) -> EndToEndRow:
    times = seconds[contender.name]
    low, middle, high = np.percentile(times, [5, 50, 95]).tolist()
    ratios: dict[str, Any] = {}
    for name in _BASELINES:
        baseline = seconds.get(name)
        timed = baseline is not None
        ratios[f"ratio_to_{name}"] = float(np.median(baseline / times)) if timed else None
        ratios[f"ratio_to_{name}_interval"] = bootstrap_interval(baseline, times) if timed else None
    return EndToEndRow(
        contender=contender.name,
        contract=CONTRACT,
        drop_mode=contender.task.drop_mode,
        precision=contender.precision,
        median_s=middle,
        p05_s=low,
        p95_s=high,
        rounds=len(times),
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
    """Write the rows as Markdown, device by device."""
    return "\n\n".join(_on_device(device_rows) for device_rows in _by_device(rows).values())


def _by_device(rows: Rows) -> dict[str, Rows]:
    groups: dict[str, Rows] = {}
    for row in rows:
        device = row["case"]["device"] if "case" in row else row["device"]
        groups.setdefault(device, []).append(row)
    return groups


def _on_device(rows: Rows) -> str:
    timed = [row for row in rows if "median_s" in row]
    if not timed:
        return not_timed(rows)
    clock = (
        f"The clock: {timed[0]['contract']}. Median (5th to 95th percentile) of"
        f" {timed[0]['rounds']} rounds; in brackets after a ratio, the 95 % bootstrap interval of"
        " its median."
    )
    parts = [heading(timed[0]), clock, _times(timed), note_on_crf(timed), not_timed(rows)]
    return "\n\n".join(filter(None, parts))


def _times(timed: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| contender | an image, s | times `released` | times `lean` | vision, s | salience, s"
        " | refine, CRF, s | the rest, s | peak MiB | loaded, s | maps off by | same labels |",
        "|---|" + "---:|" * 11,
    ]
    for row in timed:
        stages = row["stages"]
        rest = sum(seconds for name, seconds in stages.items() if name not in _STAGES_SHOWN)
        lines.append(
            f"| {row['contender']}{'' if row['drop_mode'] == PIXELS else ' *'}"
            f" | {row['median_s']:.3g} ({row['p05_s']:.3g} to {row['p95_s']:.3g})"
            f" | {_ratio(row, 'released')} | {_ratio(row, 'lean')}"
            f" | {stages.get('vision', 0):.3f} | {stages.get('salience', 0):.3f}"
            f" | {stages.get('refine', 0) + stages.get('crf', 0):.3f} | {rest:.3f}"
            f" | {row['peak_memory_mib']:.0f} | {row['load_s']:.1f}"
            f" | {or_dash(row['maps_error'], '.0e')} | {or_dash(row['same_labels'], '.4f')} |"
        )
    if any(row["drop_mode"] != PIXELS for row in timed):
        lines += ["", "\\* drops patches in another way than the paper, with another result."]
    return "\n".join(lines)


def _ratio(row: dict[str, Any], baseline: str) -> str:
    ratio, interval = row[f"ratio_to_{baseline}"], row[f"ratio_to_{baseline}_interval"]
    if ratio is None:
        return "-"
    return f"{ratio:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]"


def summary(rows: Rows) -> str:
    """Write a short table for each device: seconds, ratios, memory."""
    parts = []
    for device_rows in _by_device(rows).values():
        timed = [row for row in device_rows if "median_s" in row]
        lines = [
            "| | seconds an image | times `released` | times `lean` | peak memory |",
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
