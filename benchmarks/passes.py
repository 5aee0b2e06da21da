"""The K passes of Salience DropOut: every backend that is installed against PyTorch.

Timing contract: from normalised pixels and token ids to the accumulated salience, all on the
device; the clock stops when the device is done. No decoding, no refinement, no CRF. All contenders
of a case see the same pixels and captions, and take turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .contenders import (
    COMPILED,
    DTYPES,
    EAGER,
    TOKENS,
    Bench,
    Contender,
    Inputs,
    Run,
    to_host,
)
from .flops import flops_of_pass, matrix_rate
from .models import identity, prepare
from .report import or_dash
from .segmenters import SkippedError, skipped_if_it_fails
from .timing import interleaved, paired_ratio

PASSES = 4
REFERENCE = EAGER[0]
_EXACT = 1e-3  # of the largest salience of one pass, in fp32
_LATE = "the time was up"
_SPREAD = 2.0  # times the error of eager PyTorch in the same precision, in fp16 and bf16


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
        names: contenders, of `contenders.CONTENDERS`.
        rounds: turns of each.
        folder: for the checkpoint, its exports and engines.
        until: of `time.monotonic`; what has not begun by then is skipped.
        about: fields of the first row, which says where this is measured.
        say: is told of each step.
    """
    rates: dict[str, float] = {}
    for size in sizes:
        if time.monotonic() > until:
            yield {"image_size": size, **_skipped(SkippedError(_LATE))}
            continue
        made = prepare(model, image_size=size, device=device, folder=folder, say=say)
        if not rates:
            rates = _matrix_rates(names, device)
            tflops = {name: rate / 1e12 for name, rate in rates.items()}
            yield {"what": "matrix rate", "tflops": tflops, **about}
        of_model = {"model": identity(model, made)}
        with ExitStack() as stack:
            bench = Bench.open(made, batches, stack)
            loaded: dict[str, Contender] = {}
            for name in names:
                say(f"{size} px: loading {name}")
                try:
                    _in_time(until)
                    loaded[name] = bench.load(name)
                except SkippedError as error:
                    yield {"contender": name, "image_size": size, **_skipped(error)}
            for batch in batches:
                say(f"{size} px, batch {batch}: {', '.join(loaded)}")
                try:
                    _in_time(until)
                    for row in _case(bench, batch, loaded, rates, rounds):
                        yield row | of_model
                except SkippedError as error:
                    yield {"image_size": size, "batch": batch, **_skipped(error)}


def _matrix_rates(names: Sequence[str], device: str) -> dict[str, float]:
    """FLOP/s of matrix products in each precision of the contenders."""
    precisions = {name.rpartition("-")[2] for name in names}
    return {name: matrix_rate(DTYPES[name], device) for name in sorted(precisions)}


def _skipped(error: SkippedError) -> dict[str, Any]:
    return {"skipped": str(error), "failed": error.failed}


def _in_time(until: float) -> None:
    if time.monotonic() > until:
        raise SkippedError(_LATE)


def _case(
    bench: Bench,
    batch: int,
    loaded: Mapping[str, Contender],
    rates: Mapping[str, float],
    rounds: int,
) -> Iterator[dict[str, Any]]:
    case = {"image_size": bench.size, "batch": batch, "passes": PASSES, "tokens": TOKENS}
    inputs = Inputs.random(bench.model, batch, bench.size)
    runs: dict[str, Run] = {}
    totals: dict[str, np.ndarray] = {}
    for name, one in loaded.items():
        try:
            with skipped_if_it_fails():
                run = one.feed(inputs)
                totals[name] = to_host(run(1))
                run(PASSES)
            runs[name] = run
        except SkippedError as error:
            yield {"contender": name, **case, **_skipped(error)}
    errors = _errors({name: totals[name] for name in runs})
    for name in list(runs):
        if _is_wrong(name, loaded[name].precision, errors):
            del runs[name]
            error = SkippedError(f"wrong: off by {errors[name]:.1e}", failed=True)
            yield {"contender": name, **case, **_skipped(error)}
    seconds = interleaved({name: partial(run, PASSES) for name, run in runs.items()}, rounds)
    work = flops_of_pass(bench.model, bench.size, TOKENS) * PASSES * batch
    for name, own in seconds.items():
        low, middle, high = np.percentile(own, [5, 50, 95]).tolist()
        yield {
            "contender": name,
            **case,
            "median_s": middle,
            "p05_s": low,
            "p95_s": high,
            "pictures_per_s": batch / middle,
            "ratios": {
                other: paired_ratio(seconds[other], own)
                for other in (REFERENCE, COMPILED)
                if other in seconds
            },
            "tflops": work / middle / 1e12,
            "of_matrix_rate": work / middle / rates[loaded[name].precision],
            "salience_error": errors.get(name),
            "used_mib": loaded[name].used_mib,
            **loaded[name].read_back(),
        }


def _errors(totals: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Of one pass, relative to its largest salience; later ones hang on which patches go."""
    if REFERENCE not in totals:
        return {}
    wanted = totals[REFERENCE]
    scale = np.abs(wanted).max()
    return {name: float(np.abs(own - wanted).max() / scale) for name, own in totals.items()}


def _is_wrong(name: str, precision: str, errors: Mapping[str, float]) -> bool:
    """More so than eager PyTorch is in the same precision, if that is known."""
    if name in EAGER or not errors:
        return False
    limit = _EXACT
    if precision != "fp32":
        limit = _SPREAD * errors.get(f"eager-{precision}", np.inf)
    return not errors[name] <= limit


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    rates = next((row["tflops"] for row in rows if row.get("what") == "matrix rate"), {})
    lines = [
        "Matrix products: "
        + ", ".join(f"{name} {rate:.3g} TFLOP/s" for name, rate in rates.items()),
        "",
        f"| px | batch | contender | {PASSES} passes | pictures/s | times {REFERENCE}"
        f" | times {COMPILED} | of the matrix rate | error | MiB | graphs | host, ms a pass |",
        "|" + "---|" * 12,
    ]
    for row in rows:
        if "median_s" not in row:
            continue
        ratios = [_ratio(row["ratios"].get(name)) for name in (REFERENCE, COMPILED)]
        lines.append(
            f"| {row['image_size']} | {row['batch']} | {row['contender']}"
            f" | {1000 * row['median_s']:.4g} ms ({1000 * row['p05_s']:.4g}"
            f" to {1000 * row['p95_s']:.4g}) | {row['pictures_per_s']:.3g}"
            f" | {ratios[0]} | {ratios[1]} | {100 * row['of_matrix_rate']:.1f} %"
            f" | {or_dash(row['salience_error'], '.0e')} | {or_dash(row['used_mib'], '.0f')}"
            f" | {row.get('cuda_graphs', '-')}"
            f" | {or_dash(row.get('host_between_passes_ms'), '.3f')} |"
        )
    skipped = [row for row in rows if "skipped" in row]
    if skipped:
        lines += ["", "Skipped:", ""]
    for row in skipped:
        batch = f", batch {row['batch']}" if "batch" in row else ""
        name = f"{row['contender']}, " if "contender" in row else ""
        lines.append(f"- {name}{row['image_size']} px{batch}: {row['skipped']}")
    return "\n".join(lines)


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
                linestyle="--" if name in (*EAGER, COMPILED) else "-",
                label=name,
            )
            axes.set_xticks(batches, [str(batch) for batch in batches])
        axes.minorticks_off()
        axes.set(xlabel="pictures in a batch", ylabel=f"pictures a second, {PASSES} passes")
        axes.set_title(f"{size} px")
    if names:
        panels[0].legend(fontsize=8)
    figure.savefig(output, dpi=110)
