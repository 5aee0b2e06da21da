"""`agreement`: whether a device computes what the CPU does."""

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
    help="cpu or cuda:N; auto takes the first GPU, or the CPU where there is none.",
)
@click.option(
    "--contender",
    "names",
    multiple=True,
    help=f"A backend and a precision; repeatable. By default {' and '.join(DEFAULT)}.",
)
@click.option(
    "--build/--no-build",
    "build_first",
    default=False,
    help="Build what a contender runs, for a copy of the demo model in --work.",
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
    """The demo model on a device against the CPU: class maps and labels of the sample pictures.

    What a contender runs must have been built, or give --build.

    Fails if a contender in fp32 is off by over 0.001 in its class maps, or labels over 0.1 % of a
    picture's pixels otherwise; or if nothing could be compared.
    """
    from ..measures import agreement

    place = usable_devices()[0] if device == "auto" else open_device(device)
    with work_folder(work) as folder:
        rows = agreement.measure(
            chosen(names or DEFAULT, ENGINE_SEGMENTERS),
            device=place.name,
            folder=folder,
            build_first=build_first,
            about={"machine": machine(place.name), "command": command_line()},
            say=say_with_time(),
        )
        kept = write(rows, "agreement", output, json_file)
    compared = [row for row in kept if isinstance(row, agreement.AgreementRow)]
    skipped = [row for row in kept if isinstance(row, Skipped)]
    complaints = [
        f"{row.contender} does not agree on {row.picture}" for row in compared if row.is_off
    ]
    complaints += [f"{one.contender} broke: {one.skipped}" for one in skipped if one.failed]
    if not compared:
        why = "; ".join(dict.fromkeys(one.skipped for one in skipped))
        complaints.append(f"nothing was compared: {why}")
    for complaint in complaints:
        click.echo(f"benchmarks: {complaint}", err=True)
    return int(bool(complaints))
