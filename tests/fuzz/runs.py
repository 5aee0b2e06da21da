"""Run cases in a child process, whose end is the fault of the case that was under way."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
_TAIL = 6000  # characters of what a process said before it ended


@dataclass
class Outcome:
    """What became of some cases of a kind.

    Attributes:
        kind: a key of `cases.KINDS`.
        results: number of cases that gave a result.
        refused: number of cases that were refused with a good error.
        slowest: seconds that the slowest took.
        faults: what was wrong, and how to repeat it, for each other case.
    """

    kind: str
    results: int = 0
    refused: int = 0
    slowest: float = 0
    faults: list[str] = field(default_factory=list[str])

    def __str__(self) -> str:
        return (
            f"{self.kind}: {self.results} results, {self.refused} refused,"
            f" {len(self.faults)} faults, {self.slowest:.1f} s the slowest"
        )

    def add(self, record: dict[str, object]) -> None:
        self.slowest = max(self.slowest, float(str(record["seconds"])))
        if record["fault"]:
            self.add_fault(record["case"], str(record["fault"]))
        elif record["said"]:
            self.refused += 1
        else:
            self.results += 1

    def add_fault(self, case: object, told: str) -> None:
        again = f"python -m tests.fuzz.cases {self.kind} {case} {int(str(case)) + 1}"
        self.faults.append(f"case {case} of {self.kind}, again by: {again}\n{told}")


def run(kind: str, first: int, end: int, folder: Path) -> Outcome:
    """Run cases `first` to `end` - 1 of a kind; after one that ends its process, in another.

    Args:
        kind: a key of `cases.KINDS`.
        first: number of the first case.
        end: number after that of the last case.
        folder: empty folder for the log.
    """
    outcome = Outcome(kind)
    while first < end:
        log = folder / f"{kind}-{first}.jsonl"
        words = ["-m", "tests.fuzz.cases", kind, str(first), str(end), str(log)]
        done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True)
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        records = [json.loads(line) for line in lines]
        for record in records:
            if "fault" in record:
                outcome.add(record)
        if done.returncode == 0:
            return outcome
        said = done.stderr.decode(errors="replace")[-_TAIL:]
        assert records, f"no case began: {said}"
        first = records[-1]["case"]
        outcome.add_fault(first, f"it ended its process ({done.returncode}):\n{said}")
        first += 1
    return outcome
