from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pnp_ovss.engine.result import overlay, palette

GREY = (100, 100, 100)


def halves(height: int, width: int, left: int, right: int) -> np.ndarray:
    labels = np.full((height, width), left, np.uint16)
    labels[:, width // 2 :] = right
    return labels


def with_legend(
    size: tuple[int, int], names: list[str], shares: list[float], *, present: bool = True
) -> Image.Image:
    return overlay.add_legend(
        Image.new("RGB", size, GREY),
        names,
        palette.class_colors(len(names)),
        np.array(shares),
        [present] * len(names),
    )


def ink_columns(page: Image.Image, below: int) -> np.ndarray:
    """Whether each column of a page has anything drawn on it below a picture."""
    strip = np.asarray(page)[below:]
    return (strip != strip[-1, 0]).any(axis=(0, 2))


def test_classes_are_colored_and_the_background_is_left_alone():
    labels = halves(700, 800, 0, 2)
    colors = palette.class_colors(2)
    drawn = np.asarray(overlay.draw(Image.new("RGB", (800, 700), GREY), labels, colors))
    assert drawn.shape == (700, 800, 3)
    assert (drawn[:, :350] == GREY).all()
    mixed = (1 - overlay.OPACITY) * np.array(GREY) + overlay.OPACITY * colors[2]
    np.testing.assert_allclose(drawn[:, 450:], np.broadcast_to(mixed, (700, 350, 3)), atol=1)


def test_a_class_is_outlined_in_its_color_with_white_beyond():
    drawn = np.asarray(
        overlay.draw(
            Image.new("RGB", (800, 700), GREY),
            halves(700, 800, 0, 1),
            palette.class_colors(1),
        )
    )
    assert (drawn[:, 400:402] == palette.class_colors(1)[1]).all()
    assert (drawn[:, 398:400] == 255).all()


@pytest.mark.parametrize("label", [0, 1])
def test_one_label_everywhere_has_no_outline(label):
    labels = np.full((700, 800), label, np.uint16)
    drawn = overlay.draw(Image.new("RGB", (800, 700), GREY), labels, palette.class_colors(1))
    assert len(drawn.getcolors() or []) == 1


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (5000, 2), (2, 5000), (30, 20)])
@pytest.mark.parametrize("classes", [0, 1, 2, 20, 25, 300])
def test_overlay_of_any_size_and_number_of_classes(size, classes):
    width, height = size
    labels = (np.arange(width * height) % (classes + 1)).reshape(height, width).astype(np.uint16)
    colors = palette.class_colors(classes)
    drawn = overlay.draw(Image.new("RGB", size, GREY), labels, colors)
    assert abs(drawn.width * height - drawn.height * width) <= max(size)
    shares = np.bincount(labels.ravel(), minlength=classes + 1)[1:] / labels.size
    names = [f"class {index}" for index in range(classes)]
    page = overlay.add_legend(drawn, names, colors, shares, [True] * classes)
    assert page.width == max(drawn.width, overlay.MIN_LEGEND_WIDTH)
    assert page.height > drawn.height


def test_the_legend_starts_with_the_largest_class():
    page = with_legend((640, 100), ["a", "b", "c"], [0.1, 0.6, 0.3])
    swatch = page.getpixel((15 + 7, 100 + 15 + 7))
    assert swatch == tuple(palette.class_colors(3)[2].tolist())


@pytest.mark.parametrize(
    ("share", "present", "note"),
    [
        (0, True, "not found"),
        (0, False, "no match"),
        (0.0001, True, "<1%"),
        (0.01, True, "1%"),
        (0.5, True, "50%"),
        (1, True, "100%"),
    ],
)
def test_the_legend_says_how_much_was_found(share, present, note):
    assert overlay._entry("cat", share, present, (1, 2, 3))[:2] == ("cat", note)


def test_classes_beyond_the_legend_are_counted():
    some, more = (
        with_legend((640, 100), ["name"] * count, [0.001] * count)
        for count in (overlay.MAX_ENTRIES, 300)
    )
    assert some.height <= more.height < 2 * some.height


@pytest.mark.parametrize("width", [40, 640, 4000])
@pytest.mark.parametrize(
    "name",
    ["W" * 300, "word " * 60, "W" * 40, "x", "", "two\nlines", "\u732b \u00fc"],
)
def test_legend_entries_end_on_the_page(width, name):
    page = with_legend((width, 50), [name, "b"], [0.5, 0.4])
    assert not ink_columns(page, 50)[-8:].any()


def test_palette_colors_are_distinct_and_not_the_background():
    colors = palette.class_colors(300)
    assert colors.shape == (301, 3)
    assert colors.dtype == np.uint8
    assert colors[0].tolist() == [0, 0, 0]
    assert len(np.unique(colors, axis=0)) == 301


@pytest.mark.parametrize("classes", [0, 1, 17, 18, 19, 100])
def test_a_class_keeps_its_color_whatever_the_number_of_classes(classes):
    np.testing.assert_array_equal(
        palette.class_colors(classes), palette.class_colors(300)[: classes + 1]
    )
