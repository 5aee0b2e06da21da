"""The examples in C and Rust give the engine's labels, and refuse in words what is damaged."""

from __future__ import annotations

import json
import re
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from PIL import Image, ImageOps

from pnp_ovss.engine import Segmentation, Segmenter
from pnp_ovss.engine.inputs.images import load_rgb
from pnp_ovss.engine.result.palette import class_colors
from tests.conftest import SAMPLES
from tests.engine.capi import built
from tests.once import made_once

pytestmark = pytest.mark.slow  # the library is built

EXAMPLES = built.CAPI / "examples"
SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")

NAMES = {one["file"]: one["classes"] for one in json.loads((SAMPLES / "samples.json").read_text())}
LINE = re.compile(r"(.+?) +score (\d\.\d{3}) +(\d+\.\d) % of the pixels")
PARTY = SAMPLES / "party.jpg"

Program = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    pytest.importorskip("onnxruntime")
    return Segmenter.load("demo", backend="onnxruntime", device="cpu", threads=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built.library(tmp_path_factory).parent


@pytest.fixture
def segment_image(folder: Path) -> Program:
    """Run the example on an image, by default for a cat and with one thread."""

    def run(image: object, names: str = "cat", *more: object) -> CompletedProcess[str]:
        return built.attempt(folder / "segment_image", built.DEMO, image, names, "-t", 1, *more)

    return run


@pytest.fixture(scope="module")
def reader(formats: set[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reader and the writer of the example by themselves, with sanitizers."""

    def make(folder: Path) -> None:
        kinds = [kind for kind in ("png", "jpeg") if kind in formats]
        sources = [EXAMPLES / f"image_{kind}.c" for kind in ("io", *kinds)]
        flags = [*SANITIZED, *(f"-DHAVE_{kind.upper()}" for kind in kinds)]
        places = [f"-I{built.INCLUDE}", f"-I{EXAMPLES}", "-o", folder / "reader"]
        libraries = [f"-l{kind}" for kind in kinds]
        compiler, source = built.tool("cc"), Path(__file__).with_name("reader.c")
        built.run(compiler, "-std=c99", "-g", *flags, *places, *sources, source, *libraries)

    return made_once(tmp_path_factory, "capi-reader", make) / "reader"


@pytest.fixture(scope="module")
def formats(folder: Path) -> set[str]:
    """The formats that the example was built for."""
    entries = json.loads((folder / "compile_commands.json").read_text())
    sources = {Path(one["file"]).name for one in entries}
    return {"ppm"} | {kind for kind in ("png", "jpeg") if f"image_{kind}.c" in sources}


def require(kind: str, formats: set[str]) -> None:
    if kind not in formats:
        pytest.skip(f"built without lib{kind}")


def read(reader: Path, path: Path) -> np.ndarray:
    """Read an image by the example's reader."""
    out = path.with_name("read")
    built.run(reader, path, out)
    return np.array(Image.open(out), int)


def tell(wanted: Segmentation, names: list[str]) -> list[tuple[str, str, str]]:
    """What the lines of the example should say."""
    shares = 100 * wanted.areas()[1:] / wanted.labels.size
    scores = [f"{score:.3f}" for score in wanted.scores]
    return list(zip(names, scores, (f"{share:.1f}" for share in shares), strict=True))


def saved(image: Image.Image, path: Path) -> Path:
    image.save(path)
    return path


def written(stem: Path, kind: str) -> np.ndarray:
    """Read a file that the example wrote."""
    (found,) = stem.parent.glob(f"{stem.name}.{kind}.p*")
    return np.array(Image.open(found))


@pytest.mark.parametrize(
    ("sample", "kind"), [*((sample, "ppm") for sample in NAMES), ("picnic.jpg", "png")]
)
def test_labels_are_those_of_the_engine(
    sample: str,
    kind: str,
    segment_image: Program,
    segmenter: Segmenter,
    formats: set[str],
    tmp_path: Path,
):
    """Every pixel, and the scores that are printed."""
    require(kind, formats)
    image, stem = Image.open(SAMPLES / sample).convert("RGB"), tmp_path / "out"
    done = segment_image(
        saved(image, tmp_path / f"image.{kind}"), ", ".join(NAMES[sample]), "-o", stem
    )
    assert (done.returncode, done.stderr) == (0, "")
    wanted = segmenter.segment(image, NAMES[sample])
    assert [LINE.fullmatch(line).groups() for line in done.stdout.splitlines()] == tell(  # type: ignore[union-attr]
        wanted, NAMES[sample]
    )
    np.testing.assert_array_equal(written(stem, "labels"), wanted.labels)
    np.testing.assert_array_equal(written(stem, "overlay"), overlay(image, wanted.labels))


def overlay(image: Image.Image, labels: np.ndarray) -> np.ndarray:
    """The colors of the classes, by 45 %, and by 100 % at their edges."""
    edges = np.zeros(labels.shape, bool)
    edges[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edges[:-1] |= labels[:-1] != labels[1:]
    share = np.where(labels == 0, 0, np.where(edges, 100, 45))[..., None]
    color = class_colors(int(labels.max()))[labels].astype(int)
    return ((np.array(image, int) * (100 - share) + color * share + 50) // 100).astype(np.uint8)


@pytest.mark.parametrize("sample", NAMES)
def test_a_jpeg_is_read(
    sample: str,
    segment_image: Program,
    segmenter: Segmenter,
    formats: set[str],
    tmp_path: Path,
):
    """Decoders may round a color otherwise, and few labels hang on that. Seen: none differs."""
    require("jpeg", formats)
    stem = tmp_path / "out"
    done = segment_image(SAMPLES / sample, ",".join(NAMES[sample]), "-o", stem)
    assert done.returncode == 0, done.stderr
    wanted = segmenter.segment(SAMPLES / sample, NAMES[sample]).labels
    assert (written(stem, "labels") != wanted).mean() < 1e-3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_is_turned_upright(
    orientation: int, reader: Path, formats: set[str], tmp_path: Path
):
    require("jpeg", formats)
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "a maker", orientation
    path = tmp_path / "turned.jpg"
    Image.open(PARTY).resize((48, 32)).save(path, exif=exif, quality=95, subsampling=0)
    found = read(reader, path)
    wanted = np.array(ImageOps.exif_transpose(Image.open(path)), int)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= 2


@pytest.mark.parametrize("mode", ["RGBA", "LA", "L", "1", "P", "I;16", "transparent"])
def test_a_png_of_any_kind_is_read(mode: str, reader: Path, formats: set[str], tmp_path: Path):
    """As the engine reads it."""
    require("png", formats)
    path = tmp_path / "image.png"
    image = Image.open(PARTY).resize((40, 30))
    if mode == "I;16":
        Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(path)
    elif mode == "transparent":
        image.convert("P").save(path, transparency=3)
    else:
        image.putalpha(Image.linear_gradient("L").resize(image.size))
        (image if "A" in mode else image.convert("RGB")).convert(mode).save(path)
    np.testing.assert_array_equal(read(reader, path), load_rgb(path))


def refused(done: CompletedProcess[str], cause: str) -> None:
    """The program told what is wrong and what mends it, and ended by itself."""
    assert (done.returncode, done.stdout) == (1, "")
    first, second = done.stderr.splitlines()
    assert re.match(rf"segment_image: .*{cause}", first), first
    assert second


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "is cut off or damaged"),
        (b"P", "is cut off or damaged"),
        (b"GIF89a" + bytes(100), "is neither PPM"),
        (b"P6\n", "no header"),
        (b"P6 4 4", "no header"),
        (b"P6 -4 4 255\n" + bytes(48), "no header"),
        (b"P6 4 4 65535\n" + bytes(96), "highest value"),
        (b"P6 4 4 255\n" + bytes(47), "ends too early"),
        (b"P6 0 4 255\n", "0 x 4 pixels"),
        (b"P6 7072 7072 255\n", "7072 x 7072 pixels"),
        (b"P6 99999999999999999999 4 255\n", "no header"),
        (b"P6 50000000 50000000 255\n", "pixels"),
    ],
    ids=str,
)
def test_a_damaged_ppm_is_refused(content: bytes, cause: str, reader: Path, tmp_path: Path):
    (tmp_path / "image.ppm").write_bytes(content)
    refused(built.attempt(reader, tmp_path / "image.ppm", tmp_path / "out"), cause)


def test_comments_in_a_ppm_are_skipped(reader: Path, tmp_path: Path):
    pixels = bytes(range(256)) * 12
    (tmp_path / "image.ppm").write_bytes(b"P6 # a comment 4 4\n32 #\n32\n255\n" + pixels)
    assert read(reader, tmp_path / "image.ppm").ravel().tolist() == list(pixels)


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_a_damaged_image_is_refused_or_read(
    kind: str, reader: Path, formats: set[str], tmp_path: Path
):
    """Cut off at any place it is refused; with any byte changed the program ends by itself."""
    require(kind, formats)
    path, out = tmp_path / f"image.{kind}", tmp_path / "out"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(PARTY).resize((64, 48)).save(path, exif=exif)
    whole = path.read_bytes()
    chance = np.random.default_rng(0)
    for end in chance.integers(2, len(whole) - 30, 30):
        path.write_bytes(whole[:end])
        refused(built.attempt(reader, path, out), "is cut off or damaged")
    failed = 0
    for place, value in chance.integers(0, [len(whole), 256], (100, 2)):
        path.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
        done = built.attempt(reader, path, out)
        if done.returncode:
            refused(done, "")
            failed += 1
    assert failed > 3


def test_a_huge_png_is_refused(reader: Path, formats: set[str], tmp_path: Path):
    """Before its pixels are allocated."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    require("png", formats)
    header = (60000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + bytes(12)
    (tmp_path / "huge.png").write_bytes(content)
    refused(built.attempt(reader, tmp_path / "huge.png", tmp_path / "out"), "60000 x 60000 pixels")


def test_bad_arguments_are_refused(segment_image: Program, folder: Path, tmp_path: Path):
    image = saved(Image.new("RGB", (16, 16)), tmp_path / "image.ppm")
    program = folder / "segment_image"
    refused(segment_image(tmp_path / "none.png"), "none.png: No such file")
    refused(segment_image(tmp_path), "")
    refused(segment_image(image, "cat,,turtle"), "")
    done = segment_image(image, "cat", "-o", tmp_path / "none" / "out")
    assert (done.returncode, len(done.stdout.splitlines())) == (1, 1)
    assert "cannot be written: No such file" in done.stderr
    refused(segment_image(image, "cat", "-o"), "arguments")
    refused(segment_image(image, "cat", "-t", "0"), "arguments")
    refused(segment_image(image, "cat", "more"), "arguments")
    refused(built.attempt(program, built.DEMO, image), "arguments")
    refused(built.attempt(program, tmp_path, image, "cat"), "")
    no_runtime = built.attempt(program, built.DEMO, image, "cat", PNP_OVSS_ORT="/none/ort.so")
    refused(no_runtime, "")
    assert "/none/ort.so" in no_runtime.stderr


def test_colors_are_those_of_the_engine(tmp_path: Path):
    source = tmp_path / "colors.c"
    source.write_text(
        '#include "colors.h"\n#include <stdio.h>\n'
        "int main(void) {\n    uint8_t rgb[3];\n"
        "    for (unsigned i = 0; i < 1000; ++i) {\n        class_color(i, rgb);\n"
        '        printf("%d %d %d\\n", rgb[0], rgb[1], rgb[2]);\n    }\n    return 0;\n}\n'
    )
    program = tmp_path / "colors"
    built.run(
        built.tool("cc"), "-std=c99", f"-I{EXAMPLES}", source, EXAMPLES / "colors.c", "-o", program
    )
    found = np.array(built.run(program).split(), int).reshape(1000, 3)
    np.testing.assert_array_equal(found, class_colors(1000)[1:])


def test_many_classes_are_written_in_16_bits(folder: Path, tmp_path: Path):
    """By the writer, as the demo model knows too few names."""
    source = tmp_path / "labels.c"
    source.write_text(
        '#include "image_io.h"\n'
        "int main(int argc, char **argv) {\n"
        "    static uint16_t labels[30][50];\n"
        '    pnp_ovss_error error = {sizeof error, 0, "", ""};\n'
        "    for (int i = 0; i < 1500; ++i) labels[i / 50][i % 50] = (uint16_t)i;\n"
        "    return argc != 2 || write_labels(argv[1], labels[0], 50, 30, 1, &error);\n"
        "}\n"
    )
    program, out = tmp_path / "labels", tmp_path / "labels.pgm"
    words = ["-std=c99", f"-I{built.INCLUDE}", f"-I{EXAMPLES}", source, EXAMPLES / "image_io.c"]
    built.run(built.tool("cc"), *words, "-o", program)
    built.run(program, out)
    np.testing.assert_array_equal(
        np.array(Image.open(out)).astype(int), np.arange(1500).reshape(30, 50)
    )


@pytest.mark.parametrize(
    ("threads", "rounds"), [(4, 3), pytest.param(64, 4, marks=pytest.mark.slow)]
)
def test_many_threads_give_what_one_gives(folder: Path, threads: int, rounds: int):
    told = built.run(folder / "stress", built.DEMO, threads, rounds)
    assert told == f"{threads} threads, {rounds} calls each: all results equal\n"


@pytest.fixture
def rust(folder: Path, tmp_path: Path) -> Path:
    program, source = tmp_path / "segment", EXAMPLES / "rust" / "segment.rs"
    rpath = f"link-arg=-Wl,-rpath,{folder}"
    built.run(
        built.tool("rustc"), "-D", "warnings", "-L", folder, "-C", rpath, source, "-o", program
    )
    return program


def test_the_program_in_rust_gives_the_same(
    rust: Path, segment_image: Program, segmenter: Segmenter, tmp_path: Path
):
    names = NAMES["party.jpg"]
    image = Image.open(PARTY).convert("RGB")
    path = saved(image, tmp_path / "image.ppm")
    told = built.run(rust, built.DEMO, path, ",".join(names), tmp_path / "labels.pgm")
    assert told == segment_image(path, ",".join(names)).stdout
    labels = np.array(Image.open(tmp_path / "labels.pgm"))
    np.testing.assert_array_equal(labels, segmenter.segment(image, names).labels)
    done = built.attempt(rust, built.DEMO, path, "cat,,turtle")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 2
    shutil.copyfile(PARTY, path)
    done = built.attempt(rust, built.DEMO, path, "cat")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 2)
