"""How fast the library is, and what a process of it takes, against the Python engine in one run."""

from __future__ import annotations

import pytest

from benchmarks.measures import c_library
from tests import thresholds
from tests.engine.capi import built

pytestmark = [pytest.mark.slow, pytest.mark.timing]


def test_the_library_is_as_fast_as_demanded(tmp_path_factory: pytest.TempPathFactory):
    build = built.build_folder(tmp_path_factory) / "build"
    rows = list(c_library.measure(build, 3, {}, print))
    for row in rows:
        if row["what"] == "latency":
            assert row["own_s"] < thresholds.C_OWN_SECONDS
        elif row["what"] == "throughput":
            assert row["times_as_fast"] > thresholds.C_THROUGHPUT
        else:
            assert row["ours_peak_mb"] < thresholds.C_PEAK_MB
    (start,) = [row for row in rows if row.get("backend") == "auto"]
    assert start["times_as_fast"] > thresholds.C_START
