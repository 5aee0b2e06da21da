"""What the tests of command lines share."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(sys.executable).with_name("pnp-ovss")


def errors(printed: str) -> str:
    """What was printed, less the note that a model is untrained."""
    lines = printed.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("pnp-ovss: note: "))


def assert_short(said: str) -> None:
    assert said.startswith("pnp-ovss: ")
    assert len(said.splitlines()) <= 2
    assert "Traceback" not in said
    assert "unexpected" not in said


def segment(*words: object, classes: str = "water,cat", output: str = "out") -> list[str]:
    return ["segment", *map(str, words), "-c", classes, "-o", output, "--crf", "none"]


def in_a_process(words: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SCRIPT), *words],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 60} | options,  # type: ignore[call-overload]
        text=True,
    )
