"""Runs `agreement`, which checks that a device computes what the CPU does."""

from __future__ import annotations

from pathlib import Path

import click

from pnp_ovss.engine.device import open_device, usable_devices

from ..contenders.base import Skipped
from ..contenders.registry import ENGINE_SEGMENTERS
from ..harness.records import machine
from .options import chosen, json_option, output_option, say_with_time, work_folder, work_option
from .results import command_line, write

DEFAULT = ("aotinductor-fp32", "aotinductor-bf16")


@click.command("agreement")
@click.option(
    "--device",
    default="auto",
    show_default=True,
    help="Device to check: cpu or cuda:N; auto takes the first usable GPU, or else the CPU.",
)
@click.option(
    "--contender",
    "names",
    multiple=True,
    help=f"Backend and precision; repeatable. By default {' and '.join(DEFAULT)}.",
)
@click.option(
    "--build/--no-build",
    "build_first",
    default=False,
    help="Build a copy of the demo model in --work for each contender that needs a build.",
)
@work_option
@json_option
@output_option("agreement")
def command(
    device: str,
    names: tuple[str, ...],
    build_first: bool,
    work: Path | None,
    json_file: Path | None,
    output: Path,
) -> int:
    """Compare the demo model on a device with the CPU: class maps and labels of the sample images.

    A contender that needs a build needs it first: give --build, or run `pnp-ovss build demo`.

    Fails if the class maps of a contender in fp32 are off by over 0.001, or if it labels over 0.1 %
    of an image's pixels otherwise. Fails also if nothing could be compared.
    """
    from ..measures import agreement

    opened = usable_devices()[0] if device == "auto" else open_device(device)
    with work_folder(work) as folder:
        rows = agreement.measure(
            chosen(names or DEFAULT, ENGINE_SEGMENTERS),
            device=opened.name,
            folder=folder,
            build_first=build_first,
            about={"machine": machine(opened.name), "command": command_line()},
            say=say_with_time(),
        )
        written = write(rows, "agreement", output, json_file)
    compared = [row for row in written if isinstance(row, agreement.AgreementRow)]
    skipped = [row for row in written if isinstance(row, Skipped)]
    errors = [f"{row.contender} does not agree on {row.image}" for row in compared if row.is_off]
    errors += [f"{row.contender} broke: {row.skipped}" for row in skipped if row.failed]
    if not compared:
        reasons = "; ".join(dict.fromkeys(row.skipped for row in skipped))
        errors.append(f"nothing was compared: {reasons}")
    for error in errors:
        click.echo(f"benchmarks: {error}", err=True)
    return int(bool(errors))
