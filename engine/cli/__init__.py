"""The command `pnp-ovss`: one module a subcommand."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

import click

from ..errors import PnpOvssError, reason
from .process import Terminated, command_process
from .terminal import complain

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


class _Command(NamedTuple):
    """A command: the module that has it as `command`, and what it is for."""

    module: str
    purpose: str


_COMMANDS = {
    "build": _Command(
        "pnp_ovss.export.cli.build", "Build a model ahead of time, for a GPU or a CPU."
    ),
    "demo": _Command(f"{__name__}.demo", "Segment the sample images; needs no network."),
    "doctor": _Command(
        f"{__name__}.doctor", "Report what this machine can do, and what is missing."
    ),
    "evaluate": _Command(f"{__name__}.evaluate", "Measure segmentation quality on a data set."),
    "export": _Command(
        "pnp_ovss.export.cli.export", "Export a checkpoint, and compare it with PyTorch."
    ),
    "segment": _Command(f"{__name__}.segment", "Segment images into named classes."),
}
"""A module is imported to run its command, not for the help, which is quick."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = _COMMANDS.get(cmd_name)
        return import_module(found.module).command if found else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, one.purpose) for name, one in _COMMANDS.items()])


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="pnp-ovss", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error; goes anywhere.")
def _cli(debug: bool) -> None:
    """Name the things in an image, get a mask of each.

    PnP-OVSS: training-free, open-vocabulary semantic segmentation.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; return its exit code.

    The code is 0 where all was done, 1 for work that failed, and 2 for bad input. It is 130 after
    Ctrl-C, and 128 + N after a signal N that asked the process to end.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    with command_process():
        return _run(words)


def _run(words: list[str]) -> int:
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
    except Terminated as error:
        complain("terminated")
        return 128 + error.signal
    except OSError as error:
        if debug:
            traceback.print_exc()
        where = f": '{error.filename}'" if error.filename else ""
        complain(
            f"the system refused: {reason(error)}{where}",
            "XDG_CACHE_HOME, HF_HOME and TMPDIR name other places for the cache, downloads and"
            " temporary files",
        )
        return FAILED
    except Exception as error:
        if debug:
            traceback.print_exc()
        complain(
            f"unexpected {type(error).__name__}: {error}",
            "this is a defect: please report it with the output of the same command and --debug",
        )
        return FAILED
