"""Wrong arguments are refused in words, wherever a caller may make mistakes."""

from __future__ import annotations

from typing import Any

import pytest

from pnp_ovss.engine import BackendError, InputError, Segmenter


@pytest.mark.parametrize("requests", [None, 5, [1], "ab", [None]])
def test_requests_that_are_none(segmenter: Segmenter, requests: Any) -> None:
    with pytest.raises(InputError, match="requests is"):
        segmenter.locate(requests)


def test_classes_are_checked_with_settings_alone(segmenter: Segmenter) -> None:
    with pytest.raises(InputError, match="settings is"):
        segmenter.check_classes(["cat"], settings=5)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["backend", "device", "precision"])
@pytest.mark.parametrize("value", [["x"], 5, None, [], {}])
def test_where_a_model_is_to_run_is_a_name(name: str, value: Any) -> None:
    with pytest.raises(BackendError, match=f"{name} is "):
        Segmenter.load(**{name: value})


@pytest.mark.parametrize("name", ["fetch_urls", "verify"])
@pytest.mark.parametrize("value", ["no", 1, None])
def test_a_switch_is_true_or_false(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{name} is "):
        Segmenter.load(**{name: value})
