from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pnp_ovss.engine import InputError
from pnp_ovss.engine.cli import main
from pnp_ovss.engine.cli.images import SUFFIXES, FoundImage, find_images
from tests.engine.cli.command_line import SCRIPT, assert_short, errors, segment

pytestmark = pytest.mark.usefixtures("workplace", "demo_is_loaded")


def copies(*names: str) -> None:
    """Copies of the picture `cat.jpg`."""
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy("cat.jpg", name)


def stems(*arguments: str, output: str = "out") -> list[str]:
    found = find_images(arguments, Path(output))
    assert not [one.image for one in found if isinstance(one.image, InputError)]
    return [one.stem for one in found]


def refusal(argument: str, output: str = "out") -> InputError:
    """The error that an argument is, which must not be the error of all."""
    (found,) = find_images([argument], Path(output))
    assert isinstance(found.image, InputError)
    assert found.image.cure
    return found.image


def written(folder: str = "out") -> set[str]:
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*.json")}


def test_a_folder_gives_all_its_images_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    copies("p/b.JPG", "p/a.jpg", "p/z/y/c.jpg", "p/z/d.webp", "p/.hidden.jpg", "p/.git/e.jpg")
    Path("p/notes.txt").write_text("a.jpg")
    Path("p/circle").symlink_to(".", target_is_directory=True)
    assert main([*segment("p"), "--json"]) == 0
    printed = capsys.readouterr()
    names = ["p/a.jpg", "p/b.JPG", "p/z/d.webp", "p/z/y/c.jpg"]
    assert [report["image"] for report in json.loads(printed.out)] == names
    assert written() == {"a.json", "b.json", "z/d.json", "z/y/c.json"}
    assert all(Path("out", name).with_suffix(".overlay.png").exists() for name in written())


def test_the_output_folder_is_no_input() -> None:
    copies("p/a.jpg")
    for _ in range(2):
        assert main(segment("p", output="p/out")) == 0
        assert written("p/out") == {"a.json"}
    assert "among the images" in refusal("p", output="p").cause
    assert "among the images" in refusal("p", output="p/../p/.").cause


def test_an_empty_folder_fails_alone(capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    assert main(segment("empty", "cat.jpg")) == 2
    said = errors(capsys.readouterr().err)
    assert_short(said)
    assert "'empty' has no image" in said
    assert all(suffix in said for suffix in SUFFIXES)
    assert written() == {"cat.json"}


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission_is_named() -> None:
    copies("p/a.jpg")
    Path("p/locked").mkdir(mode=0)
    first, second = find_images(["p"], Path("out"))
    assert "locked' cannot be read" in str(first.image)
    assert second.name == "p/a.jpg"


def test_a_list_is_read_like_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    copies("p/a.jpg", "p/ b .jpg", "q/c.jpg")
    Path("q/list.txt").write_bytes("﻿cat.jpg\r\n\r\n  \np/ b .jpg\nq\ngone.jpg\n".encode())
    assert main([*segment("q/list.txt"), "--json"]) == 2
    printed = capsys.readouterr()
    assert [report["image"] for report in json.loads(printed.out)] == [
        "cat.jpg",
        "p/ b .jpg",
        "q/c.jpg",
    ]
    assert "no image at 'gone.jpg', which line 6 of 'q/list.txt' names" in printed.err


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "is empty"),
        (b" \n\r\n", "is empty"),
        (b"caf\xe9.jpg", "cannot be read"),
        (b"\xff\xfea\0", "cannot be read"),
        (b"a\0b.jpg", "is no name of an image"),
        (b"list.txt\n", "a list within a list"),
        (b"./other.TXT", "a list within a list"),
    ],
)
def test_lists_that_cannot_be_used_fail_alone(content: bytes, cause: str) -> None:
    Path("other.TXT").write_text("cat.jpg")
    Path("list.txt").write_bytes(content)
    assert cause in refusal("list.txt").cause
    assert main(segment("list.txt", "cat.jpg")) == 2
    assert written() == {"cat.json"}


@given(st.binary(max_size=40))
def test_any_list_gives_images_or_errors(content: bytes) -> None:
    Path("any.txt").write_bytes(content)
    found = find_images(["any.txt"], Path("out"))
    assert all(isinstance(one, FoundImage) for one in found)


def test_an_empty_name_fails_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(segment("", "cat.jpg")) == 2
    assert_short(errors(capsys.readouterr().err))
    assert written() == {"cat.json"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["a/1.jpg", "b/1.jpg"], ["a/1", "b/1"]),
        (["a/1.jpg", "b/1.png", "2.jpg"], ["a/1", "b/1", "2"]),
        (["x/a/1.jpg", "y/a/1.jpg"], ["x/a/1", "y/a/1"]),
        (["x/a/1.jpg", "y/a/1.jpg", "y/b/1.jpg"], ["x/a/1", "y/a/1", "b/1"]),
        (["a/1.jpg", "../work/b/../b/1.jpg"], ["a/1", "b/1"]),
        (["1.jpg", "a/1.jpg"], ["work/1", "a/1"]),
        (["a/1.jpg", "http://h/p/1.jpg"], ["a/1", "p/1"]),
        (["http://g/p/1.jpg", "http://h/p/1.jpg"], ["g/p/1", "h/p/1"]),
        (["http://h/1.jpg", "http://h/p/1.jpg"], ["h/1", "p/1"]),
        (["a.b.jpg", "c"], ["a.b", "c"]),
    ],
)
def test_images_of_one_stem_are_told_apart_by_their_folders(
    arguments: list[str], expected: list[str]
) -> None:
    assert stems(*arguments) == expected


def test_folders_with_images_of_one_stem() -> None:
    copies("x/p/1.jpg", "x/p/s/2.jpg", "y/p/1.jpg", "y/p/3.jpg")
    assert stems("x/p", "y/p") == ["x/p/1", "s/2", "y/p/1", "3"]
    assert main(segment("x/p", "y/p")) == 0
    assert written() == {"x/p/1.json", "s/2.json", "y/p/1.json", "3.json"}


def test_an_image_named_twice_through_a_link_is_refused(refused: Callable[..., str]) -> None:
    copies("p/a.jpg")
    Path("link").symlink_to("p", target_is_directory=True)
    assert "named twice" in refused(*segment("p/a.jpg", "link/a.jpg"))
    assert "named twice" in refused(*segment("p", "p/a.jpg"))
    assert "named twice" in refused(*segment("http://h/a.jpg", "http://h/a.jpg"))


@pytest.mark.parametrize(
    ("url", "stem"),
    [
        ("http://h/a/cat.jpg?size=9#top", "cat"),
        ("http://h/a%20b.jpg", "a b"),
        ("http://h", "h"),
        ("http://h.example/", "h.example"),
        ("http://h:80/a/", "a"),
        ("http://h/..%2F..%2Fetc%2Fpasswd", ".._."),
        ("http://h/%2Fetc%2Fpasswd.jpg", "_etc_passwd"),
        ("http://h/..", "_.."),
        ("http://h/%2e%2e", "_.."),
        ("http://h/a%00b%0A.jpg", "a_b_"),
        ("http://h/..%5C..%5Ca.jpg", ".._.._a"),
        ("http://[::1/a", "url"),
    ],
)
def test_urls_give_plain_names(url: str, stem: str) -> None:
    assert stems(url) == [stem]


@given(st.text(max_size=300), st.text(max_size=300))
def test_no_url_names_a_place_outside(first: str, second: str) -> None:
    output = Path("out").absolute()
    found = find_images([f"http://h/{first}", f"http://h/{second}"], output)
    for one in found:
        assert all(0 < len(os.fsencode(part)) < 200 for part in one.stem.split("/"))
        place = os.path.normpath(output / f"{one.stem}.json")
        assert place.startswith(f"{output}{os.sep}")


def test_long_urls_keep_names_of_their_own() -> None:
    first, second = stems(f"http://h/{'ä' * 300}1.jpg", f"http://h/{'ä' * 300}2.jpg")
    assert first != second


def test_a_link_does_not_lead_out_of_the_output(refused: Callable[..., str]) -> None:
    copies("a/1.jpg", "b/1.jpg")
    Path("elsewhere").mkdir()
    Path("out").mkdir()
    Path("out/a").symlink_to("../elsewhere", target_is_directory=True)
    said = refused(*segment("a/1.jpg", "b/1.jpg"))
    assert "would leave 'out' by the link 'out/a'" in said
    assert not list(Path("elsewhere").iterdir())


def test_what_is_no_result_is_kept_in_folders_too(refused: Callable[..., str]) -> None:
    copies("a/1.jpg", "b/1.jpg")
    Path("out/b").mkdir(parents=True)
    Path("out/b/1.png").write_bytes(b"mine")
    assert "which is no result" in refused(*segment("a/1.jpg", "b/1.jpg"))


def test_many_images_are_found_quickly() -> None:
    lines = [f"far/{index % 100}/{index // 100}.jpg" for index in range(5000)]
    for line in lines:
        Path(line).parent.mkdir(parents=True, exist_ok=True)
        Path(line).touch()
    Path("many.txt").write_text("\n".join(lines))
    assert len(set(stems("many.txt"))) == 5000


def feed(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_standard_input_is_an_image(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    feed(monkeypatch, Path("cat.jpg").read_bytes())
    assert main([*segment("-", "cat.jpg"), "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["image"], second["image"]) == ("stdin", "cat.jpg")
    assert Path(first["files"]["labels"]).read_bytes() == Path("out/cat.png").read_bytes()


@pytest.mark.parametrize(
    ("data", "cause"), [(b"", "standard input is empty"), (b"text", "image 'stdin' is no image")]
)
def test_standard_input_that_is_no_image(
    monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str], data: bytes, cause: str
) -> None:
    feed(monkeypatch, data)
    assert cause in refused(*segment("-"))


def test_standard_input_is_read_once(
    monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    feed(monkeypatch, Path("cat.jpg").read_bytes())
    assert "named twice" in refused(*segment("-", "-"))


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
def test_a_pipe_is_read_once() -> None:
    command = f"cat cat.jpg | '{SCRIPT}' segment - - -c cat --crf none -o out"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert_short(errors(done.stderr))
    assert "standard input is empty" in done.stderr
    assert written() == {"stdin.json"}


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
def test_standard_input_that_is_closed() -> None:
    done = subprocess.run(
        f"'{SCRIPT}' segment - -c cat <&-", shell=True, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert_short(errors(done.stderr))
    assert "standard input is closed" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_standard_input_that_is_a_terminal(
    monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    terminal, other = os.openpty()
    with os.fdopen(other) as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        assert "is a terminal" in refused(*segment("-"))
    os.close(terminal)


@pytest.fixture
def server(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    monkeypatch.setenv("no_proxy", "*")
    handler = partial(Quiet, directory=str(workplace))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=[0.01])
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def test_urls_are_fetched_and_fail_alone(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    copies("p/dog.jpg")
    Path("list.txt").write_text(f"{server}/gone.jpg\n{server}/list.txt\n{server}/p/dog.jpg\n")
    assert main([*segment(f"{server}/cat.jpg", "list.txt"), "--json"]) == 2
    printed = capsys.readouterr()
    images = [report["image"] for report in json.loads(printed.out)]
    assert images == [f"{server}/cat.jpg", f"{server}/p/dog.jpg"]
    assert written() == {"cat.json", "dog.json"}
    assert f"'{server}/gone.jpg' cannot be fetched: HTTP 404" in printed.err
    assert f"image '{server}/list.txt' is no image of a known format" in printed.err


@pytest.mark.skipif(os.name != "posix", reason="a working folder cannot be removed")
def test_a_working_folder_that_is_gone(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert "working folder was deleted" in refused(*segment("cat.jpg"))
    assert "working folder was deleted" in refused(*segment("cat.jpg", output=str(tmp_path)))


def test_oddities_of_an_image_add_no_line(capfd: pytest.CaptureFixture[str]) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20), "red").save(buffer, "TIFF")
    Path("odd.tif").write_bytes(buffer.getvalue()[:60])
    assert main(segment("odd.tif")) == 2
    assert_short(errors(capfd.readouterr().err))
