"""The table of CONTRIBUTING.md names what there is."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_every_path_of_the_table_is_there():
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.M)
    rows = [row for row in rows if row[0] != "I want to change ..."]
    assert len(rows) >= 10
    for what, where in rows:
        paths = [path for path in re.findall(r"`([^`]+)`", where) if "/" in path or "." in path]
        assert paths, what
        assert not [path for path in paths if not (ROOT / path).exists()], what
