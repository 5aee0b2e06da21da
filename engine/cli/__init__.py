"""The command `pnp-ovss`: one module a subcommand, loaded when it is called."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Sequence

import click

from ..errors import PnpOvssError
from .terminal import complain

_COMMANDS = ("demo", "segment", "export", "doctor")

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        return importlib.import_module(f".{cmd_name}", __name__).command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pnp-ovss", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def _cli(debug: bool) -> None:
    """Name the things in a picture, get a mask of each.

    PnP-OVSS: training-free, open-vocabulary semantic segmentation.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; return its exit code: 0 done, 1 failed while working, 2 bad input."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"] or ["--help"]
    try:
        return _cli.main(words, prog_name="pnp-ovss", standalone_mode=False) or DONE
    except click.ClickException as error:
        return _fail(error.format_message(), _help_of(error))
    except PnpOvssError as error:
        if debug:
            traceback.print_exc()
        return _fail(error.cause, error.cure)
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted", code=INTERRUPTED)
    except Exception as error:
        if debug:
            traceback.print_exc()
        return _fail(
            f"unexpected {type(error).__name__}: {error}".splitlines()[0],
            "this is a defect: please report it with the output of the same command and --debug",
            code=FAILED,
        )


def _fail(cause: str, cure: str = "", code: int = BAD_INPUT) -> int:
    complain(cause, cure)
    return code


def _help_of(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return f"see: {context.command_path} --help" if context else ""
