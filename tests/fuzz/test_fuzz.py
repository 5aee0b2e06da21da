"""Bad input of every kind gives an error that helps, never a traceback, a crash or a wait."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

pytest.importorskip("onnx")
pytest.importorskip("openvino")

from tests.fuzz import manifests
from tests.fuzz.cases import KINDS, LONGEST
from tests.fuzz.runs import Outcome, run

FEW = 50
MANY = {"images": 5000, "names": 5000, "manifests": 5000, "folders": 300, "settings": 300}


def require_no_fault(outcome: Outcome, cases: int) -> None:
    print(outcome)
    assert not outcome.faults, "\n\n".join(outcome.faults)
    assert outcome.results + outcome.refused == cases
    assert outcome.refused > cases // 10
    assert outcome.slowest < LONGEST


@pytest.mark.parametrize("kind", KINDS)
def test_a_few(kind: str, tmp_path: Path) -> None:
    require_no_fault(run(kind, 0, FEW, tmp_path), FEW)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_many(kind: str, tmp_path: Path) -> None:
    require_no_fault(run(kind, 0, MANY[kind], tmp_path), MANY[kind])


def test_a_case_is_the_same_whatever_ran_before() -> None:
    numbers = range(500)
    made = [manifests.make(Random(number)) for number in numbers]
    again = [manifests.make(Random(number)) for number in reversed(numbers)]
    assert made == again[::-1]
