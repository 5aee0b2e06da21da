from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from pnp_ovss.engine.cli import main
from tests.conftest import Exported
from tests.engine.cli.command_line import assert_short, errors, in_a_process, segment

pytestmark = pytest.mark.usefixtures("workplace", "demo_is_loaded")

USAGE = {
    "no such command": (["segmnt", "cat.jpg"], "No such command"),
    "no such option": ([*segment("cat.jpg"), "--fast"], "No such option"),
    "no picture": (["segment", "-c", "cat"], "Missing argument"),
    "no classes": (["segment", "cat.jpg"], "no class was named"),
    "no class file": (["segment", "cat.jpg", "--classes-file", "no.txt"], "no.txt"),
    "word for a number": ([*segment("cat.jpg"), "--passes", "many"], "many"),
    "no passes": ([*segment("cat.jpg"), "--passes", "0"], "passes is 0"),
    "schedule": ([*segment("cat.jpg"), "--drop-schedule", "thirds"], "thirds"),
    "negative schedule": ([*segment("cat.jpg"), "--drop-schedule", "-1"], "drop_schedule is -1"),
    "threshold": ([*segment("cat.jpg"), "--threshold", "1.5"], "threshold is 1.5"),
    "not a number": ([*segment("cat.jpg"), "--threshold", "nan"], "threshold is nan"),
    "blur": ([*segment("cat.jpg"), "--blur", "inf"], "blur is inf"),
    "match threshold": ([*segment("cat.jpg"), "--match-threshold", "-1"], "match_threshold is -1"),
    "batch size": ([*segment("cat.jpg"), "--batch-size", "0"], "--batch-size"),
    "preset": ([*segment("cat.jpg"), "--preset", "best"], "--preset"),
    "crf": ([*segment("cat.jpg"), "--crf", "yes"], "--crf"),
    "present": ([*segment("cat.jpg"), "--present", "maybe"], "--present"),
    "backend": ([*segment("cat.jpg"), "--backend", "abacus"], "unknown backend 'abacus'"),
    "device": ([*segment("cat.jpg"), "--device", "tpu"], "unknown device 'tpu'"),
    "demo argument": (["demo", "cat.jpg"], "unexpected extra argument"),
}


@pytest.mark.parametrize(("words", "cause"), USAGE.values(), ids=USAGE)
def test_usage_that_cannot_work(
    capsys: pytest.CaptureFixture[str], words: list[str], cause: str
) -> None:
    assert main([*words, "--json"] if words[0] == "segment" else words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert cause in printed.err
    assert len(printed.err.splitlines()) <= 2
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("classes", "cause"),
    [
        ("", "class 1 of 1 has an empty name"),
        ("water,,cat", "class 2 of 3 has an empty name"),
        ("water, ", "class 2 of 2 has an empty name"),
        ("water,cat, Water", "'Water' is named twice"),
        ("cat,🐈", "class '🐈' cannot be written"),
        ("w" * 300, "cannot be written"),
        ("water " * 510, "is 510 word pieces long"),
        ("caf\udce9", "is not valid text"),
        ("\u200b", "cannot be written"),
        ("cat,c\u200bat", "are read alike"),
    ],
    ids=lambda value: value[:12].encode("ascii", "backslashreplace").decode(),
)
def test_class_names_that_cannot_be_used(
    refused: Callable[..., str], exported: Exported, classes: str, cause: str
) -> None:
    words = segment("cat.jpg", "--json", "-m", exported.folder, classes=classes)
    assert cause in refused(*words)
    assert not Path("out").exists()


def test_a_class_unknown_to_the_demo_model_lists_the_known_ones(
    refused: Callable[..., str],
) -> None:
    said = refused(*segment("cat.jpg", classes="water,dog"))  # a word of its "hot dog"
    assert "class 'dog' was not taught to this model" in said
    assert "it knows: alarm clock, avocado," in said


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        *((b"\xff\xfecat", "UTF-8"), (b"", "no class"), (b"\n \n", "no class")),
        (b'cat\n"dog\n', "line 2 of 'names.txt' has a stray quote"),
    ],
)
def test_class_files_that_cannot_be_used(
    refused: Callable[..., str], content: bytes, cause: str
) -> None:
    Path("names.txt").write_bytes(content)
    words = ["segment", "cat.jpg", "--classes-file", "names.txt", "-o", "out"]
    assert cause in refused(*words)


BAD_PICTURES: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: None,
    "empty": lambda path: path.touch(),
    "text": lambda path: path.write_text("hello"),
    "truncated": lambda path: path.write_bytes(Path("cat.jpg").read_bytes()[:300]),
    "folder": lambda path: path.mkdir(),
    "huge": lambda path: path.write_bytes(b"P6 20000 20000 255\n"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "floating point": lambda path: Image.new("F", (4, 4)).save(path, "TIFF"),
}


@pytest.mark.parametrize("spoil", BAD_PICTURES.values(), ids=BAD_PICTURES)
def test_a_bad_picture_fails_alone(
    capsys: pytest.CaptureFixture[str],
    picture: Callable[..., Image.Image],
    spoil: Callable[[Path], object],
) -> None:
    picture(4).save("dog.png")
    spoil(Path("bad.jpg"))
    words = segment("cat.jpg", "bad.jpg", "dog.png", "--json", "--batch-size", "2")
    assert main(words) == 2
    printed = capsys.readouterr()
    assert_short(errors(printed.err))
    assert "bad.jpg" in printed.err
    assert [report["image"] for report in json.loads(printed.out)] == ["cat.jpg", "dog.png"]
    names = {f"{stem}.{end}" for stem in ("cat", "dog") for end in ("png", "overlay.png", "json")}
    assert {path.name for path in Path("out").iterdir()} == names


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_picture_without_permission_fails_alone(capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy("cat.jpg", "bad.jpg")
    Path("bad.jpg").chmod(0)
    assert main(segment("bad.jpg", "cat.jpg")) == 2
    assert_short(errors(capsys.readouterr().err))
    assert Path("out/cat.json").exists()


def test_every_bad_picture_is_named_and_json_stays_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(segment("one.jpg", "two.jpg", "--json")) == 2
    printed = capsys.readouterr()
    assert json.loads(printed.out) == []
    assert printed.err.count("pnp-ovss: no image at") == 2
    assert not list(Path("out").iterdir())


def test_a_line_break_in_a_file_name_adds_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(segment("no\nsuch\nfile.jpg")) == 2
    assert_short(errors(capsys.readouterr().err))


@pytest.mark.parametrize(
    "obstacle",
    [
        lambda: Path("out/bad.overlay.png").mkdir(parents=True),
        lambda: Path("out/bad.json").mkdir(parents=True),
        lambda: (Path("out").mkdir(), Path("out/bad.json").write_text('{"image": "mine"}')),
        lambda: (Path("out").mkdir(), Path("out/bad.png").write_bytes(b"mine")),
    ],
    ids=["overlay folder", "report folder", "other json", "other picture"],
)
def test_what_is_no_result_is_never_replaced(
    refused: Callable[..., str], obstacle: Callable[[], None]
) -> None:
    obstacle()
    shutil.copy("cat.jpg", "bad.jpg")
    assert "which is no result" in refused(*segment("bad.jpg", "cat.jpg"))
    assert len(list(Path("out").iterdir())) == 1


def test_results_of_an_earlier_run_are_replaced() -> None:
    assert main(segment("cat.jpg")) == 0
    before = Path("out/cat.json").read_bytes()
    assert main([*segment("cat.jpg", classes="sand"), "--passes", "1"]) == 0
    assert Path("out/cat.json").read_bytes() != before


def test_a_name_too_long_for_its_results_fails_alone(capsys: pytest.CaptureFixture[str]) -> None:
    stem = "l" * 246
    shutil.copy("cat.jpg", f"{stem}.jpg")
    assert main(segment(f"{stem}.jpg", "cat.jpg")) == 2
    said = errors(capsys.readouterr().err)
    assert_short(said)
    assert "File name too long" in said
    assert "free some space" not in said
    assert Path("out/cat.json").exists()


@pytest.mark.parametrize(("first", "second"), [("a.png", "a.bmp"), ("a/b.jpg", "a/../a/b.jpeg")])
def test_two_pictures_of_one_stem_are_refused(
    refused: Callable[..., str], first: str, second: str
) -> None:
    said = refused(*segment(first, second))
    assert f"'{first}' and '{second}' would both be written" in said
    assert "--output" in said
    assert not Path("out").exists()


def test_a_picture_named_twice_is_refused(refused: Callable[..., str]) -> None:
    assert "is named twice" in refused(*segment("cat.jpg", "../work/../work/cat.jpg"))


def test_stems_that_differ_only_by_overlay_are_refused(refused: Callable[..., str]) -> None:
    assert "would both be written" in refused(*segment("a.jpg", "a.overlay.jpg"))


@pytest.mark.parametrize(
    ("name", "output"),
    [("dog.png", "."), ("dog.png", "../work"), ("dog.png", "link"), ("dog.png", "")],
)
def test_pictures_are_never_overwritten(
    refused: Callable[..., str], picture: Callable[..., Image.Image], name: str, output: str
) -> None:
    Path("link").symlink_to(".")
    picture(5).save(name)
    before = Path(name).read_bytes()
    said = refused(*segment(name, "cat.jpg", output=output))
    assert "would overwrite" in said
    assert f"{name}'" in said
    assert Path(name).read_bytes() == before
    assert {path.name for path in Path().iterdir()} == {"cat.jpg", "link", name}


@pytest.mark.parametrize("output", ["cat.jpg", "cat.jpg/below"])
def test_an_output_that_cannot_be_a_folder(refused: Callable[..., str], output: str) -> None:
    said = refused(*segment("cat.jpg", "--json", output=output))
    assert f"cannot write to '{output}'" in said
    assert "--output" in said


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_without_permission(refused: Callable[..., str]) -> None:
    Path("locked").mkdir(mode=0o555)
    assert "Permission denied" in refused(*segment("cat.jpg", output="locked"))


@pytest.mark.skipif(sys.platform == "win32", reason="needs setrlimit")
@pytest.mark.parametrize("limit", [0, 100, 3000])
def test_a_full_disk_leaves_no_part_of_a_file(limit: int) -> None:
    import resource

    done = in_a_process(
        segment("cat.jpg", "--json"),
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 2
    assert done.stdout in ("", "[]\n")
    assert_short(errors(done.stderr))
    assert "cannot write to 'out': File too large" in done.stderr
    for path in Path("out").iterdir():
        assert not path.name.startswith(".")
        with Image.open(path) as image:
            image.load()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", [segment("cat.jpg", "--json"), ["doctor", "--json"]])
def test_standard_output_on_a_full_disk_is_no_defect(words: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = in_a_process(words, stdout=full)
    assert done.returncode in (1, 2)
    assert "No space left on device" in done.stderr
    assert "defect" not in done.stderr
    assert len(errors(done.stderr).splitlines()) <= 2


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX pipes")
def test_a_reader_that_goes_away_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = in_a_process(["doctor", "--json"], stdout=writing)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def break_segment(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    def install(error: BaseException) -> None:
        def run(*_: object, **__: object) -> None:
            raise error

        module = importlib.import_module("pnp_ovss.engine.cli.segment")
        monkeypatch.setattr(module, "run", run)

    return install


def test_an_unexpected_error_is_reported_in_two_lines(
    break_segment: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    break_segment(RuntimeError("first\nsecond"))
    assert main(segment("cat.jpg")) == 1
    said = errors(capsys.readouterr().err)
    assert said.startswith("pnp-ovss: unexpected RuntimeError: first second\n")
    assert len(said.splitlines()) == 2

    assert main(["--debug", *segment("cat.jpg")]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_has_its_own_code(
    break_segment: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    break_segment(KeyboardInterrupt())
    assert main(segment("cat.jpg")) == 130
    assert errors(capsys.readouterr().err).strip() == "pnp-ovss: interrupted"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--help"],
        ["-h"],
        *([c, "-h"] for c in ("demo", "segment", "export", "build", "evaluate", "doctor")),
    ],
)
def test_help_goes_to_standard_output(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert main(words) == 0
    printed = capsys.readouterr()
    assert "Usage: pnp-ovss" in printed.out
    assert printed.err == ""
