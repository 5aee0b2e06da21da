from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pnp_ovss.engine.cli import main
from pnp_ovss.engine.result.palette import class_colors
from tests import thresholds
from tests.conftest import SAMPLES, Exported

pytestmark = pytest.mark.usefixtures("demo_is_loaded")
CLASSES = ["water", "turtle", "sailing boat"]
KINDS = ("labels", "overlay", "report")


@pytest.fixture
def segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., list[dict[str, Any]]]:
    """Run `segment --json` in an empty folder, without the CRF; return the reports."""
    monkeypatch.chdir(tmp_path)

    def run(*pictures: object, classes: str = ",".join(CLASSES), options: str = "") -> Any:
        words = [*map(str, pictures), "-c", classes, "-o", "out", "--crf", "none", "--json"]
        assert main(["segment", *words, *options.split()]) == 0
        printed = capsys.readouterr()
        assert_only_notes(printed.err)
        return json.loads(printed.out)

    return run


def assert_only_notes(printed: str) -> None:
    assert all(line.startswith("pnp-ovss: note: ") for line in printed.splitlines())


@pytest.fixture
def photo(tmp_path: Path, picture: Callable[..., Image.Image]) -> Path:
    picture(0, 60, 40).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def labels_of(report: dict[str, Any]) -> np.ndarray:
    with Image.open(report["files"]["labels"]) as image:
        return np.asarray(image)


def test_label_map_overlay_and_report_agree(segment: Callable[..., Any]) -> None:
    (report,) = segment(SAMPLES / "beach.jpg")
    names = ["beach.png", "beach.overlay.png", "beach.json"]
    assert [report["files"][kind] for kind in KINDS] == [str(Path("out") / n) for n in names]
    assert sorted(path.name for path in Path("out").iterdir()) == sorted(names)

    with Image.open("out/beach.png") as image:
        assert image.mode == "P"
        assert image.size == (report["width"], report["height"]) == (640, 480)
        assert image.palette is not None
        palette = np.array(image.getpalette()).reshape(-1, 3)
        labels = np.asarray(image)
    assert (palette[: len(CLASSES) + 1] == class_colors(len(CLASSES))).all()
    assert [found["name"] for found in report["classes"]] == CLASSES
    for found in [report["background"], *report["classes"]]:
        assert found["pixels"] == np.count_nonzero(labels == found["label"])
    for found in report["classes"]:
        assert found["color"] == "#" + bytes(palette[found["label"]].tolist()).hex()
        assert 0 <= found["score"] <= 1
    assert len(np.unique(labels)) > 1

    with Image.open("out/beach.overlay.png") as overlay:
        assert overlay.mode == "RGB"
        assert overlay.width >= 640
    written = json.loads(Path("out/beach.json").read_text())
    assert written == {key: value for key, value in report.items() if key != "files"}


def test_without_json_the_overlays_are_listed(
    tmp_path: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["segment", str(photo), "-c", "sand", "-o", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{tmp_path / 'out' / 'photo.overlay.png'}\n"
    assert_only_notes(printed.err)


def test_every_kind_of_picture_in_one_batch(
    tmp_path: Path, segment: Callable[..., Any], picture: Callable[..., Image.Image]
) -> None:
    rgb = picture(1, 40, 30)
    turned = Image.Exif()
    turned[0x0112] = 6
    gray = np.asarray(rgb.convert("L")).astype(np.uint16) * np.uint16(257)
    rgb.save("rgb.jpg")
    rgb.resize((1, 1)).save("dot.png")
    rgb.resize((1500, 1)).save("wide.png")
    rgb.resize((1, 1500)).save("tall.png")
    rgb.convert("CMYK").save("cmyk.jpg")
    rgb.quantize(9).save("palette.png", transparency=3)
    rgb.convert("RGBA").save("alpha.png")
    rgb.convert("1").save("bits.bmp")
    rgb.save("turned.jpg", exif=turned)
    Image.fromarray(gray).save("grey16.png")
    rgb.save("animated.gif", save_all=True, append_images=[rgb.rotate(90)])
    rgb.save("häß lich 🐈.webp")
    sizes = {"dot": (1, 1), "wide": (1500, 1), "tall": (1, 1500), "turned": (30, 40)}

    pictures = sorted(path for path in tmp_path.iterdir() if path.is_file())
    reports = segment(*pictures)

    assert [report["image"] for report in reports] == [str(path) for path in pictures]
    for path, report in zip(pictures, reports, strict=True):
        size = sizes.get(path.stem, (40, 30))
        assert (report["width"], report["height"]) == size, path
        assert labels_of(report).shape == size[::-1]
        counted = report["background"]["pixels"] + sum(c["pixels"] for c in report["classes"])
        assert counted == size[0] * size[1]


def test_labels_do_not_depend_on_the_batch(photo: Path, segment: Callable[..., Any]) -> None:
    others = [SAMPLES / name for name in ("beach.jpg", "party.jpg", "picnic.jpg")]
    alone = labels_of(segment(photo)[0])
    together = segment(*others, photo, options="--batch-size 3")
    assert (labels_of(together[3]) == alone).all()


def test_16_bit_grey_is_segmented_like_its_8_bit_self(
    segment: Callable[..., Any], picture: Callable[..., Image.Image]
) -> None:
    gray = picture().convert("L")
    gray.save("eight.png")
    Image.fromarray(np.asarray(gray).astype(np.uint16) * np.uint16(257)).save("sixteen.png")
    eight, sixteen = segment("eight.png", "sixteen.png")
    assert (labels_of(eight) == labels_of(sixteen)).all()


@pytest.mark.parametrize(
    ("options", "field", "value"),
    [
        ("", "crf", None),
        ("--passes 2", "passes", 2),
        ("--drop-schedule 3", "drop_schedule", 3),
        ("--drop-schedule halving", "drop_schedule", "halving"),
        ("--drop-mode attention", "drop_mode", "attention"),
        ("--drop-mode tokens", "drop_mode", "tokens"),
        ("--threshold 0.5", "threshold", 0.5),
        ("--blur 0", "blur", 0),
        ("--background never", "background", "never"),
        ("--match-threshold 0.25", "match_threshold", 0.25),
        ("--preset released", "join_words", True),
        ("--preset released --drop-schedule 4", "drop_schedule", 4),
        ("--preset paper", "drop_schedule", "halving"),
    ],
)
def test_options_become_settings(
    photo: Path, segment: Callable[..., Any], options: str, field: str, value: object
) -> None:
    (report,) = segment(photo, classes="water,turtle", options=options)
    assert report["settings"][field] == value
    assert report["settings"]["crf"] is None
    assert len(report["match"]) == report["settings"]["passes"]


def test_background_never_leaves_no_pixel_unnamed(photo: Path, segment: Callable[..., Any]) -> None:
    assert segment(photo, options="--background never")[0]["background"]["pixels"] == 0


def test_present_match_drops_what_does_not_match(photo: Path, segment: Callable[..., Any]) -> None:
    scores = {c["name"]: c["score"] for c in segment(photo)[0]["classes"]}
    level = sorted(scores.values())[1]
    (report,) = segment(photo, options=f"--present match --match-threshold {level + 1e-6}")
    present = {c["name"]: c["present"] for c in report["classes"]}
    assert present == {name: score > level + 1e-6 for name, score in scores.items()}
    assert all(c["pixels"] == 0 for c in report["classes"] if not c["present"])


def test_present_match_without_any_match_is_all_background(
    photo: Path, segment: Callable[..., Any]
) -> None:
    beach = SAMPLES / "beach.jpg"
    for report in segment(photo, beach, options="--present match --match-threshold 1"):
        assert not any(c["present"] for c in report["classes"])
        assert report["background"]["pixels"] == report["width"] * report["height"]
        assert not labels_of(report).any()


def test_names_come_from_options_and_file(photo: Path, segment: Callable[..., Any]) -> None:
    Path("names.txt").write_bytes(b"sand\r\n\r\n  hot dog \n\n")
    classes = "water , fire  engine"
    (report,) = segment(photo, classes=classes, options="-c cat --classes-file names.txt")
    names = [found["name"] for found in report["classes"]]
    assert names == ["water", "fire engine", "cat", "sand", "hot dog"]


def test_a_byte_order_mark_is_no_part_of_a_name(photo: Path, segment: Callable[..., Any]) -> None:
    Path("names.txt").write_text("sand\ncrown\n", encoding="utf-8-sig")
    (report,) = segment(photo, classes="cat", options="--classes-file names.txt")
    assert [found["name"] for found in report["classes"]] == ["cat", "sand", "crown"]


def test_synonyms_of_a_class_file_are_reported(photo: Path, segment: Callable[..., Any]) -> None:
    Path("names.txt").write_text('sand,"Hot dog"\ncrown\n')
    (report,) = segment(photo, classes="cat", options="--classes-file names.txt")
    told = [(found["name"], found.get("synonyms")) for found in report["classes"]]
    assert told == [("cat", None), ("sand", ["Hot dog"]), ("crown", None)]


def test_500_names_and_one_of_300_characters(
    photo: Path, exported: Exported, segment: Callable[..., Any]
) -> None:
    long = "very " * 58 + "large cats"
    assert len(long) == 300
    names = [long, *(f"{c} {n}" for c in ("red", "blue") for n in range(250))][:500]
    (report,) = segment(
        photo, classes=",".join(names), options=f"--model {exported.folder} --passes 1"
    )
    assert [found["name"] for found in report["classes"]] == names
    labels = labels_of(report)
    assert labels.max() > 255
    assert all(c["pixels"] == np.count_nonzero(labels == c["label"]) for c in report["classes"])


def test_results_of_an_earlier_run_are_replaced(photo: Path, segment: Callable[..., Any]) -> None:
    first, second = segment(photo), segment(photo, classes="sand,crown")
    assert first[0]["files"] == second[0]["files"]
    assert labels_of(second[0]).max() <= 2
    written = json.loads(Path("out/photo.json").read_text())
    assert [found["name"] for found in written["classes"]] == ["sand", "crown"]
    assert len(list(Path("out").iterdir())) == 3


def test_a_file_name_that_is_no_text(
    segment: Callable[..., Any], picture: Callable[..., Image.Image]
) -> None:
    name = "caf\udce9"  # b"caf\xe9" in Latin-1, as the command line hands it over
    try:
        picture().save(f"{name}.png")
    except (OSError, UnicodeError):
        pytest.skip("this file system takes Unicode names only")
    segment(f"{name}.png")
    assert len(list(Path("out").iterdir())) == 3


def test_the_crf_is_not_needed_when_not_asked_for(
    photo: Path, segment: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    assert segment(photo)[0]["settings"]["crf"] is None


def test_the_crf_changes_the_labels(
    photo: Path, segment: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pydensecrf")
    plain = labels_of(segment(photo)[0])
    words = ["segment", str(photo), "-c", ",".join(CLASSES), "-o", "crf", "--json"]
    labels = {}
    for kind in ("densecrf", "pydensecrf"):
        assert main([*words, "--crf", kind]) == 0
        (report,) = json.loads(capsys.readouterr().out)
        assert report["settings"]["crf"] == kind
        labels[kind] = labels_of(report)
    assert (labels["densecrf"] != plain).any()
    assert (labels["densecrf"] == labels["pydensecrf"]).mean() > thresholds.CRF_LABELS_ODD
