"""The command `pnp-ovss`: one module a subcommand."""

from __future__ import annotations

import io
import sys
import traceback
from collections.abc import Sequence

import click

from ..errors import PnpOvssError
from . import build, demo, doctor, evaluate, export, segment
from .terminal import complain

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="pnp-ovss", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error; goes anywhere.")
def _cli(debug: bool) -> None:
    """Name the things in a picture, get a mask of each.

    PnP-OVSS: training-free, open-vocabulary semantic segmentation.
    """


for _module in (demo, segment, export, build, evaluate, doctor):
    _cli.add_command(_module.command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; return its exit code: 0 done, 1 failed while working, 2 bad input."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # which may not write every letter of a name
            stream.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"] or ["--help"]
    try:
        return _cli.main(words, prog_name="pnp-ovss", standalone_mode=False) or DONE
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        complain(error.format_message(), f"see: {context.command_path} --help" if context else "")
        return BAD_INPUT
    except PnpOvssError as error:
        if debug:
            traceback.print_exc()
        complain(error.cause, error.cure)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        complain("interrupted")
        return INTERRUPTED
    except Exception as error:
        if debug:
            traceback.print_exc()
        complain(
            f"unexpected {type(error).__name__}: {error}",
            "this is a defect: please report it with the output of the same command and --debug",
        )
        return FAILED
