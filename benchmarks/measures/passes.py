"""The K passes of Salience DropOut: every backend that is installed against PyTorch.

Timing contract: from normalized pixels and token ids to the accumulated salience, all on the
device; the clock stops when the device is done. No decoding, no refinement, no CRF. All contenders
of a case see the same pixels and captions. One at a time is loaded beside eager PyTorch in fp32,
with which it takes turns, and is freed before the next; those that are quickly loaded come first.
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
    """A batch of pictures that all contenders at an image size are given.

    Attributes:
        inputs: the pictures and captions.
        reference: eager PyTorch in fp32 on them, if it runs here.
        wanted: its salience of one pass, float32 [B, T, P].
        errors: of contenders so far, relative to the largest value of that.
    """

    inputs: Inputs
    reference: Run | None = None
    wanted: np.ndarray | None = None
    errors: dict[str, float] = field(default_factory=dict)

    @property
    def batch(self) -> int:
        """B."""
        return len(self.inputs.ids)


@dataclass(frozen=True)
class _Plan:
    """Settings of all contenders: see `measure`; `rates` are FLOP/s, by precision."""

    rates: Mapping[str, float]
    rounds: int
    until: float
    say: Callable[[str], None]

    def begin(self, step: str) -> None:
        """Say what comes next.

        Raises:
            SkippedError: there is no time for it.
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
    """Rows: of each contender in each case, or that it was skipped, and why.

    Args:
        model: its name, as `models.prepare` takes it.
        device: "cpu" or "cuda:N".
        sizes: of the model's input.
        batches: pictures in a batch.
        names: contenders, of `passes.PASSES_CONTENDERS`.
        rounds: turns of each, at least; see `timing`.
        folder: for the checkpoint, its exports and builds.
        until: of `time.monotonic`; what has not begun by then is skipped.
        about: fields of the first row, which says where this is measured.
        say: is told of each step.
    """
    plan = _Plan({}, rounds, until, say)
    for size in sizes:
        if time.monotonic() > until:
            yield {"image_size": size, **_skipped(SkippedError(_LATE))}
            continue
        made = prepare(model, image_size=size, device=device, folder=folder, say=say)
        if not plan.rates:
            plan = replace(plan, rates=_matrix_rates(names, device))
            tflops = {name: rate / 1e12 for name, rate in plan.rates.items()}
            yield {"what": "matrix rate", "tflops": tflops, **about}
        of_model = {"model": identity(model, made)}
        loader = PassesLoader.open(made, batches)
        for row in _at_size(loader, names, plan):
            yield row | of_model if "median_s" in row else row
        loader.free()


def _matrix_rates(names: Sequence[str], device: str) -> dict[str, float]:
    """FLOP/s of matrix products in each precision of the contenders."""
    precisions = {name.rpartition("-")[2] for name in names}
    return {name: matrix_rate(DTYPES[name], device) for name in sorted(precisions)}


def _skipped(error: SkippedError) -> dict[str, Any]:
    return {"skipped": str(error), "failed": error.failed}


def _at_size(loader: PassesLoader, names: Sequence[str], plan: _Plan) -> Iterator[dict[str, Any]]:
    """Rows of all contenders at one image size, one contender after the other."""
    cases = [
        PassesCase(Inputs.random(loader.model, batch, loader.size)) for batch in loader.batches
    ]
    with ExitStack() as kept:
        for name in sorted(dict.fromkeys(names), key=_cost):
            with ExitStack() as own:
                stack = kept if name == REFERENCE else own
                yield from _contender(loader, name, stack, cases, plan)
            loader.free()


def _cost(name: str) -> int:
    """Rank of a contender by what it costs to load; the reference comes first."""
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
    """Rows of one contender at one image size; nothing holds it once they have been read."""
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
        SkippedError: it fails, or is wrong.
    """
    with skipped_if_it_fails():
        run = contender.feed(case.inputs)
        used_mib = loader.used_mib(contender, lambda: run(PASSES))
        total = to_host(run(1))  # by now it is replayed, where a CUDA graph is recorded
        if name == REFERENCE:
            case.wanted = total
        if case.wanted is not None:
            # Of one pass, as later ones hang on which patches go.
            off = np.abs(total - case.wanted).max() / np.abs(case.wanted).max()
            case.errors[name] = float(off)
        if _is_wrong(name, contender.precision, case.errors):
            raise SkippedError(f"wrong: off by {case.errors[name]:.1e}", failed=True)
        runs = {name: partial(run, PASSES)}
        if case.reference is not None:
            runs = {REFERENCE: partial(case.reference, PASSES), **runs}
        seconds = interleaved(runs, plan.rounds)
        if name == REFERENCE:
            case.reference = run
        read_back = contender.read_back()
    own = seconds[name]
    ratios = {}
    if REFERENCE in seconds:
        ratios[REFERENCE] = paired_ratio(seconds[REFERENCE], own)
    low, middle, high = np.percentile(own, [5, 50, 95]).tolist()
    work = flops_of_pass(loader.model, loader.size, TOKENS) * PASSES * case.batch
    return {
        "median_s": middle,
        "p05_s": low,
        "p95_s": high,
        "rounds": len(own),
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
    """The rows as Markdown."""
    rates = next((row["tflops"] for row in rows if row.get("what") == "matrix rate"), {})
    timed = [row for row in rows if "median_s" in row]
    compiled = {_case_of(row): row for row in timed if row["contender"] == COMPILED}
    lines = [
        "Matrix products: "
        + ", ".join(f"{name} {rate:.3g} TFLOP/s" for name, rate in rates.items()),
        "",
        f"| px | batch | contender | {PASSES} passes | rounds | pictures/s | times {REFERENCE}"
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
            f" {REFERENCE}; where that was not timed, of both medians.",
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
    """Ratio to compiled PyTorch, if that was timed in the same case."""
    if compiled is None:
        return None
    ratios = [one["ratios"].get(REFERENCE) for one in (row, compiled)]
    if None in ratios:
        return compiled["median_s"] / row["median_s"]
    return ratios[0]["median"] / ratios[1]["median"]


def _ratio(ratio: Mapping[str, float] | None) -> str:
    if ratio is None:
        return "-"
    return f"{ratio['median']:.2f} ({ratio['p05']:.2f} to {ratio['p95']:.2f})"


def draw(rows: Iterable[dict[str, Any]], output: Path) -> None:
    """Pictures a second by batch, a panel for each image size, PNG."""
    timed = [row for row in rows if "median_s" in row]
    sizes = sorted({row["image_size"] for row in timed})
    names = list(dict.fromkeys(row["contender"] for row in timed))
    figure = Figure(figsize=(5.5 * max(1, len(sizes)), 4.5), layout="constrained")
    panels = figure.subplots(1, max(1, len(sizes)), squeeze=False)[0]
    for axes, size in zip(panels, sizes, strict=False):
        for number, name in enumerate(names):
            own = [r for r in timed if (r["contender"], r["image_size"]) == (name, size)]
            batches = [row["batch"] for row in own]
            axes.loglog(
                batches,
                [row["pictures_per_s"] for row in own],
                marker="osv^D"[number % 5],
                linestyle="--" if name in (*EAGER_PASSES, COMPILED) else "-",
                label=name,
            )
            axes.set_xticks(batches, [str(batch) for batch in batches])
        axes.minorticks_off()
        axes.set(xlabel="pictures in a batch", ylabel=f"pictures a second, {PASSES} passes")
        axes.set_title(f"{size} px")
    if names:
        panels[0].legend(fontsize=8)
    figure.savefig(output, dpi=110)
