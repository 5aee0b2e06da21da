"""Times the K passes of Salience DropOut on every installed backend against PyTorch.

Timing contract: from normalized pixels and token ids to the accumulated salience, all on the
device; the clock stops when the device is done. No decoding, no refinement, no CRF. All contenders
of a case get the same pixels and captions. Each contender takes turns with eager PyTorch in fp32,
which remains loaded; no other contender is in memory then. Contenders that load quickly come first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pnp_ovss.export.build import BUILDERS

from ..contenders.base import LIMITS, SkippedError, skipped_if_it_fails
from ..contenders.passes import (
    COMPILED,
    DTYPES,
    EAGER_PASSES,
    TOKENS,
    Inputs,
    PassesContender,
    PassesLoader,
    Run,
    to_host,
)
from ..harness.models import identity, prepare
from ..harness.tables import or_dash
from ..harness.timing import interleaved, paired_ratio
from .flops import flops_of_pass, matrix_rate

PASSES = 4
REFERENCE = EAGER_PASSES[0]
_LATE = "the time was up"


@dataclass
class PassesCase:
    """Stores a batch of inputs that all contenders get, and the salience they are compared with.

    Attributes:
        inputs: Images and captions.
        reference: Eager PyTorch in fp32 on these inputs; None if it does not run here.
        expected: Salience of one pass of the reference, float32 [B, T, P]; None without reference.
        errors: Error of each contender so far, relative to the largest value of `expected`.
    """

    inputs: Inputs
    reference: Run | None = None
    expected: np.ndarray | None = None
    errors: dict[str, float] = field(default_factory=dict)

    @property
    def batch(self) -> int:
        """Return the batch size B."""
        return len(self.inputs.ids)


@dataclass(frozen=True)
class _Plan:
    """Stores what all contenders share.

    Attributes:
        rates: FLOP/s of matrix products in each precision.
        rounds: Minimum number of rounds.
        until: Time of `time.monotonic` after which nothing starts.
        say: Function that is called with a line of text at each step.
    """

    rates: Mapping[str, float]
    rounds: int
    until: float
    say: Callable[[str], None]

    def begin(self, step: str) -> None:
        """Announce a step.

        Raises:
            SkippedError: The time is up.
        """
        if time.monotonic() > self.until:
            raise SkippedError(_LATE)
        self.say(step)


def measure(
    model: str,
    *,
    device: str,
    sizes: Sequence[int],
    batches: Sequence[int],
    names: Sequence[str],
    rounds: int,
    folder: Path,
    until: float,
    about: Mapping[str, Any],
    say: Callable[[str], None],
) -> Iterator[dict[str, Any]]:
    """Measure a row for each contender in each case; a skipped contender has a row with the reason.

    Args:
        model: Name of the model; see `harness.models.prepare`.
        device: Device, "cpu" or "cuda:N".
        sizes: Sides of the model's square input, in pixels.
        batches: Batch sizes.
        names: Names of contenders, of `contenders.passes.PASSES_CONTENDERS`.
        rounds: Minimum number of turns of each contender; see `harness.timing`.
        folder: Folder for the checkpoint, its exports and builds.
        until: Time of `time.monotonic`; a contender that has not started by then is skipped.
        about: Fields of the first row, machine and command.
        say: Function that is called with a line of text at each step.
    """
    plan = _Plan({}, rounds, until, say)
    for size in sizes:
        if time.monotonic() > until:
            yield {"image_size": size, **_skipped(SkippedError(_LATE))}
            continue
        prepared = prepare(model, image_size=size, device=device, folder=folder, say=say)
        if not plan.rates:
            plan = replace(plan, rates=_matrix_rates(names, device))
            tflops = {name: rate / 1e12 for name, rate in plan.rates.items()}
            yield {"what": "matrix rate", "tflops": tflops, **about}
        model_field = {"model": identity(model, prepared)}
        loader = PassesLoader.open(prepared, batches)
        for row in _at_size(loader, names, plan):
            yield row | model_field if "median_s" in row else row
        loader.free()


def _matrix_rates(names: Sequence[str], device: str) -> dict[str, float]:
    """Measure the FLOP/s of matrix products in each precision of the contenders."""
    precisions = {name.rpartition("-")[2] for name in names}
    return {name: matrix_rate(DTYPES[name], device) for name in sorted(precisions)}


def _skipped(error: SkippedError) -> dict[str, Any]:
    return {"skipped": str(error), "failed": error.failed}


def _at_size(loader: PassesLoader, names: Sequence[str], plan: _Plan) -> Iterator[dict[str, Any]]:
    """Measure all contenders at one image size, one contender after the other."""
    cases = [
        PassesCase(Inputs.random(loader.model, batch, loader.size)) for batch in loader.batches
    ]
    with ExitStack() as reference_stack:
        for name in sorted(dict.fromkeys(names), key=_cost):
            with ExitStack() as contender_stack:
                stack = reference_stack if name == REFERENCE else contender_stack
                yield from _contender(loader, name, stack, cases, plan)
            loader.free()


def _cost(name: str) -> int:
    """Rank a contender by the cost to load it; the reference comes first."""
    if name == REFERENCE:
        return 0
    if name in EAGER_PASSES:
        return 1
    if name == COMPILED:
        return 4
    return 3 if name.rpartition("-")[0] in BUILDERS else 2


def _contender(
    loader: PassesLoader, name: str, stack: ExitStack, cases: Sequence[PassesCase], plan: _Plan
) -> Iterator[dict[str, Any]]:
    """Measure one contender at one image size; after the last row nothing refers to it."""
    about = {"contender": name, "image_size": loader.size}
    try:
        plan.begin(f"{loader.size} px: loading {name}")
        contender = loader.load(name, stack)
    except SkippedError as error:
        yield {**about, **_skipped(error)}
        return
    for case in cases:
        about |= {"batch": case.batch, "passes": PASSES, "tokens": TOKENS}
        try:
            plan.begin(f"{loader.size} px, batch {case.batch}: {name}")
            yield {**about, **_timed(loader, name, contender, case, plan)}
        except SkippedError as error:
            yield {**about, **_skipped(error)}


def _timed(
    loader: PassesLoader, name: str, contender: PassesContender, case: PassesCase, plan: _Plan
) -> dict[str, Any]:
    """Measure a contender in a case, in turns with the reference.

    Raises:
        SkippedError: The contender fails or is wrong.
    """
    with skipped_if_it_fails():
        run = contender.feed(case.inputs)
        used_mib = loader.used_mib(contender, lambda: run(PASSES))
        # One pass is compared, as later passes depend on which patches were dropped. The runs above
        # have recorded any CUDA graph, so that this one replays it.
        salience = to_host(run(1))
        if name == REFERENCE:
            case.expected = salience
        if case.expected is not None:
            error = np.abs(salience - case.expected).max() / np.abs(case.expected).max()
            case.errors[name] = float(error)
        if _is_wrong(name, contender.precision, case.errors):
            raise SkippedError(f"wrong: off by {case.errors[name]:.1e}", failed=True)
        runs = {name: partial(run, PASSES)}
        if case.reference is not None:
            runs = {REFERENCE: partial(case.reference, PASSES), **runs}
        seconds = interleaved(runs, plan.rounds)
        if name == REFERENCE:
            case.reference = run
        read_back = contender.read_back()
    times = seconds[name]
    ratios = {}
    if REFERENCE in seconds:
        ratios[REFERENCE] = paired_ratio(seconds[REFERENCE], times)
    low, middle, high = np.percentile(times, [5, 50, 95]).tolist()
    work = flops_of_pass(loader.model, loader.size, TOKENS) * PASSES * case.batch
    return {
        "median_s": middle,
        "p05_s": low,
        "p95_s": high,
        "rounds": len(times),
        "pictures_per_s": case.batch / middle,
        "ratios": ratios,
        "tflops": work / middle / 1e12,
        "of_matrix_rate": work / middle / plan.rates[contender.precision],
        "salience_error": case.errors.get(name),
        "used_mib": used_mib,
        **read_back,
    }


def _is_wrong(name: str, precision: str, errors: Mapping[str, float]) -> bool:
    """Tell whether the error is over its limit, and over twice that of eager PyTorch."""
    if name in EAGER_PASSES or name not in errors:
        return False
    return not errors[name] <= max(LIMITS[precision], 2 * errors.get(f"eager-{precision}", 0))


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Write the rows as Markdown."""
    rates = next((row["tflops"] for row in rows if row.get("what") == "matrix rate"), {})
    timed = [row for row in rows if "median_s" in row]
    compiled = {_case_of(row): row for row in timed if row["contender"] == COMPILED}
    lines = [
        "Matrix products: "
        + ", ".join(f"{name} {rate:.3g} TFLOP/s" for name, rate in rates.items()),
        "",
        f"| px | batch | contender | {PASSES} passes | rounds | images/s | times {REFERENCE}"
        f" | times {COMPILED} | of the matrix rate | error | MiB | graphs | host, ms a pass |",
        "|" + "---|" * 13,
    ]
    for row in timed:
        lines.append(
            f"| {row['image_size']} | {row['batch']} | {row['contender']}"
            f" | {1000 * row['median_s']:.4g} ms ({1000 * row['p05_s']:.4g}"
            f" to {1000 * row['p95_s']:.4g}) | {row['rounds']} | {row['pictures_per_s']:.3g}"
            f" | {_ratio(row['ratios'].get(REFERENCE))}"
            f" | {or_dash(_to_compiled(row, compiled.get(_case_of(row))), '.2f')}"
            f" | {100 * row['of_matrix_rate']:.1f} %"
            f" | {or_dash(row['salience_error'], '.0e')} | {or_dash(row['used_mib'], '.0f')}"
            f" | {row.get('cuda_graphs', '-')}"
            f" | {or_dash(row.get('host_between_passes_ms'), '.3f')} |"
        )
    if compiled:
        lines += [
            "",
            f"Times {COMPILED}: not timed in turns with it, but the quotient of both ratios to"
            f" {REFERENCE}, or of both medians if {REFERENCE} was not timed.",
        ]
    skipped = [row for row in rows if "skipped" in row]
    if skipped:
        lines += ["", "Skipped:", ""]
    for row in skipped:
        batch = f", batch {row['batch']}" if "batch" in row else ""
        name = f"{row['contender']}, " if "contender" in row else ""
        lines.append(f"- {name}{row['image_size']} px{batch}: {row['skipped']}")
    return "\n".join(lines)


def _case_of(row: Mapping[str, Any]) -> tuple[int, int]:
    return row["image_size"], row["batch"]


def _to_compiled(row: Mapping[str, Any], compiled: Mapping[str, Any] | None) -> float | None:
    """Compute the ratio to compiled PyTorch; None if that was not timed in the same case."""
    if compiled is None:
        return None
    ratios = [timed["ratios"].get(REFERENCE) for timed in (row, compiled)]
    if None in ratios:
        return compiled["median_s"] / row["median_s"]
    return ratios[0]["median"] / ratios[1]["median"]


def _ratio(ratio: Mapping[str, float] | None) -> str:
    if ratio is None:
        return "-"
    return f"{ratio['median']:.2f} ({ratio['p05']:.2f} to {ratio['p95']:.2f})"


def draw(rows: Iterable[dict[str, Any]], output: Path) -> None:
    """Draw images per second by batch size, a panel for each input size, as a PNG file."""
    timed = [row for row in rows if "median_s" in row]
    sizes = sorted({row["image_size"] for row in timed})
    names = list(dict.fromkeys(row["contender"] for row in timed))
    figure = Figure(figsize=(5.5 * max(1, len(sizes)), 4.5), layout="constrained")
    panels = figure.subplots(1, max(1, len(sizes)), squeeze=False)[0]
    for axes, size in zip(panels, sizes, strict=False):
        for number, name in enumerate(names):
            points = [r for r in timed if (r["contender"], r["image_size"]) == (name, size)]
            batches = [row["batch"] for row in points]
            axes.loglog(
                batches,
                [row["pictures_per_s"] for row in points],
                marker="osv^D"[number % 5],
                linestyle="--" if name in (*EAGER_PASSES, COMPILED) else "-",
                label=name,
            )
            axes.set_xticks(batches, [str(batch) for batch in batches])
        axes.minorticks_off()
        axes.set(xlabel="images in a batch", ylabel=f"images per second, {PASSES} passes")
        axes.set_title(f"{size} px")
    if names:
        panels[0].legend(fontsize=8)
    figure.savefig(output, dpi=110)
