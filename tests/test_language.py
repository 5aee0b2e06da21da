"""Checks that docstrings are plain: short sentences, a verb first, no private words."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("benchmarks", "engine", "export", "kernels")
LONGEST = 30  # words of a sentence
CODE = re.compile(r"^ *(?:>>>|\.\.\.).*|`[^`]*`", re.MULTILINE)
SENTENCE_END = re.compile(r"(?<=[.!?:])\s+(?=[A-Z\[\"'(>])|\n\s*\n|\n\s*(?:- |\w+: )")
NO_VERB = re.compile(
    r"(A|An|The|Of|What|Whether|How|Those|Labels|Class maps|Rows|Pixels)\b|\W"
)  # begins no imperative
BANNED = re.compile(
    r"\b(likewise|beside|as above|pictures?|colours?|centred?|neighbours?|behaviour"
    r"|(?:normal|optim|initial|quant|general|special|serial|recogn|summar)is(?:e[ds]?|ing|ation))\b",
    re.IGNORECASE,
)


def faults(source: str) -> list[str]:
    """List what a newcomer would stumble over in the docstrings of a source."""
    result: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            continue
        prose = CODE.sub("Code", ast.get_docstring(node) or "")
        name = getattr(node, "name", "module")
        if isinstance(node, ast.FunctionDef) and not name.startswith("_"):
            is_property = "property" in map(ast.unparse, node.decorator_list)
            if not is_property and NO_VERB.match(prose):
                result.append(f"{name} does not begin with a verb: {prose.splitlines()[0]}")
        result += [f"{name} has the word {word!r}" for word in BANNED.findall(prose)]
        for sentence in SENTENCE_END.split(prose):
            words = [word for word in sentence.split() if re.search(r"\w", word)]
            if len(words) > LONGEST:
                result.append(f"{name} has a sentence of {len(words)} words: {' '.join(words)}")
    return result


@pytest.mark.parametrize("package", PACKAGES)
def test_docstrings_are_plain(package: str) -> None:
    for path in sorted((ROOT / package).rglob("*.py")):
        assert not faults(path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize(
    "docstring", ["Do it likewise.", "Normalise.", "The map.", "No" + " x" * 30]
)
def test_faults_are_seen(docstring: str) -> None:
    assert faults(f'def answer():\n    """{docstring}"""\n')
    assert not faults('def answer():\n    """Give a map; `likewise` is a name."""\n')
