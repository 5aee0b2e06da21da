"""`pnp-ovss demo`: segment the sample images with the demo model."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import click
import msgspec

from ..model.folder import DEMO
from ..paths import expanded
from ..segmenter import Segmenter
from .placement import tell
from .segment_files import Job, run, warn_if_untrained
from .terminal import print_json, say


def samples() -> list[tuple[Path, list[str]]]:
    """List the sample images, and the names to look for in each."""
    folder = Path(str(resources.files("pnp_ovss.engine") / "data" / "samples"))
    found = msgspec.json.decode((folder / "samples.json").read_bytes())
    return [(folder / one["file"], one["classes"]) for one in found]


@click.command("demo")
@click.option(
    "-o",
    "--output",
    default="pnp-ovss-demo",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder for the results.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the reports on standard output.")
def command(output: Path, as_json: bool) -> int:
    """Segment the sample images with the demo model; needs no network."""
    with Segmenter.load(DEMO) as segmenter:
        tell(segmenter.placement)
        warn_if_untrained(segmenter)
        jobs = [Job(path, classes, str(path), path.stem) for path, classes in samples()]
        reports, exit_code = run(segmenter, jobs, expanded(output), segmenter.settings)
    if as_json:
        print_json(reports)
        return exit_code
    for report in reports:
        names = ", ".join(found["name"] for found in report["classes"])
        say(f"{report['files']['overlay']}  ({names})")
    return exit_code
