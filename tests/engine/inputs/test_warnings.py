from __future__ import annotations

import io
import warnings
from typing import Any

import pytest
from PIL import Image

from pnp_ovss.engine import InputError
from pnp_ovss.engine.inputs.images import load_rgb


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (13, 9), "red").save(buffer, kind)
    return buffer.getvalue()


def test_a_warning_that_is_an_error_is_an_input_error() -> None:
    data = encoded("TIFF")[:60]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match="without a warning") as caught:
            load_rgb(data)
    assert "Pillow's" in caught.value.cure


@pytest.mark.parametrize(
    ("limit", "action", "said"),
    [
        (50, "default", "MAX_IMAGE_PIXELS to 50, so the limit is 100:"),
        (100, "error", "MAX_IMAGE_PIXELS to 100, so the limit is 100:"),
        (100, "ignore", ""),
        (None, "error", ""),
    ],
)
def test_the_limit_of_the_application_is_told_from_ours(
    monkeypatch: pytest.MonkeyPatch, limit: int | None, action: Any, said: str
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    data = encoded("PNG")  # 117 pixels
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        if not said:
            assert load_rgb(data).size == (13, 9)
            return
        with pytest.raises(InputError) as caught:
            load_rgb(data)
    assert caught.value.cause == "the image has 117 pixels"
    assert said in caught.value.cure


def test_reading_leaves_the_filters_of_warnings_alone() -> None:
    class Seen(io.BytesIO):
        def seek(self, *position: int) -> int:
            seen.append((warnings.filters, list(warnings.filters)))
            return super().seek(*position)

    seen: list[Any] = []
    filters = warnings.filters
    with Image.open(Seen(encoded("PNG"))) as picture:
        load_rgb(picture)
    assert seen
    assert all(one is filters and held == filters for one, held in seen)
