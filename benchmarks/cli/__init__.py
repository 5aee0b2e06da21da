"""Runs the command line of `python -m benchmarks`; each subcommand is a module."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from pnp_ovss.engine.errors import PnpOvssError

from . import (
    agreement,
    c_library,
    crf,
    end_to_end,
    kernel_times,
    kernels,
    memory,
    passes,
    precision,
    prepare,
    refinement,
    report,
    scaling,
    soak,
    stages,
    startup,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def cli() -> None:
    """Measure the speed and exactness of the engine on this machine.

    Speed drifts, so contenders take turns: trust the ratios more than the seconds. Needs the extras
    `evaluate` and `export`.
    """


for _module in (
    end_to_end,
    stages,
    passes,
    kernels,
    kernel_times,
    crf,
    scaling,
    startup,
    refinement,
    c_library,
    soak,
    precision,
    memory,
    agreement,
    prepare,
    report,
):
    cli.add_command(_module.command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code: 0 done, 1 failed, 2 bad input."""
    try:
        return cli.main(arguments, "python -m benchmarks", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return 2
    except PnpOvssError as error:
        click.echo(f"benchmarks: {error}", err=True)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return 130


def run() -> None:
    """Run the command line of this process, and exit with its code."""
    sys.exit(main())
