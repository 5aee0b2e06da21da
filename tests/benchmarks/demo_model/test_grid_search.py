from __future__ import annotations

import pytest

from benchmarks.demo_model import grid_search


@pytest.mark.slow
def test_tuning_tells_what_it_tried_and_what_was_best(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(grid_search, "THRESHOLDS", (0.1, 0.3))
    monkeypatch.setattr(grid_search, "GROUPS", ([{"passes": 1}, {"passes": 2}], [{"crf": None}]))
    monkeypatch.setattr(grid_search, "LEVELS", (0.5, 1.0))
    lines = list(grid_search.tune(images=2))
    assert len(lines) == grid_search.SHOWN + 2 + 1 + 2 + 1
    ranked = [float(line.split()[0]) for line in lines[: grid_search.SHOWN]]
    assert ranked == sorted(ranked, reverse=True)
    assert ranked[0] > 0.2
    assert "layers (" in lines[-1]
    assert "match_threshold=0.5" in lines[-1]
