from __future__ import annotations

import re
from importlib import resources

import pytest

from pnp_ovss.engine.cli import main

COMMANDS = sorted(
    path.name.removesuffix(".py")
    for room in ("engine", "export")
    for path in resources.files(f"pnp_ovss.{room}.cli").iterdir()
    if path.is_file() and "@click.command(" in path.read_text()
)


def test_the_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out.partition("Commands:")[2]
    assert re.findall(r"^  (\w+)  +[A-Z].*\.$", listed, re.MULTILINE) == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_each_has_help_of_its_own(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert f"Usage: pnp-ovss {name} " in capsys.readouterr().out
