from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from benchmarks.harness.timing import longest_wait
from pnp_ovss.engine.evaluation.datasets.stickers.scenes import scene
from pnp_ovss.engine.refine import pydensecrf_worker
from pnp_ovss.kernels import densecrf, reference
from pnp_ovss.kernels.cpu import densecrf as crf
from tests import thresholds
from tests.kernels.cpu.compiled import build, run

ROOT = Path(__file__).parents[3]
SAMPLES = sorted((ROOT / "engine" / "data" / "samples").glob("*.jpg"))
TERMS: tuple[dict[str, Any], ...] = (
    {},
    {"gaussian_sxy": 1, "gaussian_compat": 3, "bilateral_sxy": 20, "bilateral_srgb": 3},
    {"bilateral_sxy": 80, "bilateral_srgb": 13, "bilateral_compat": 4},
    {"gaussian_sxy": 8, "gaussian_compat": 2, "bilateral_sxy": 160, "bilateral_srgb": 1},
    {"gaussian_sxy": 0.5, "bilateral_sxy": 5, "bilateral_srgb": 40},
)


def noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def flat(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), rng.integers(0, 256, 3), np.uint8)


def saturated(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    return (rng.random((height, width, 3)) > 0.5).astype(np.uint8) * 255


def photograph(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    with Image.open(SAMPLES[rng.integers(len(SAMPLES))]) as image:
        return np.array(image.convert("RGB").resize((width, height)))


def stickers(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    return np.array(scene("stickers", int(rng.integers(1 << 20)), 0).image.resize((width, height)))


PICTURES = (noise, flat, saturated, photograph, stickers)


def smooth(rng: np.random.Generator, labels: int, height: int, width: int) -> np.ndarray:
    """Probabilities that vary as those of class maps do."""
    coarse = rng.random((labels, 5, 6), np.float32)
    channels = [np.asarray(Image.fromarray(c).resize((width, height), 2)) for c in coarse]
    return reference.softmax(np.stack(channels))


def rough(rng: np.random.Generator, labels: int, height: int, width: int) -> np.ndarray:
    return reference.softmax(rng.random((labels, height, width), np.float32))


def theirs(image: np.ndarray, probabilities: np.ndarray, terms: dict[str, Any]) -> np.ndarray:
    kernels = {
        "gaussian": {
            "sxy": terms.get("gaussian_sxy", 3),
            "compat": terms.get("gaussian_compat", 7),
        },
        "bilateral": {
            "sxy": terms.get("bilateral_sxy", 50),
            "srgb": terms.get("bilateral_srgb", 5),
            "compat": terms.get("bilateral_compat", 10),
        },
    }
    return pydensecrf_worker.infer(image, probabilities, 10, kernels)


@pytest.mark.parametrize("problems", [4, pytest.param(10, marks=pytest.mark.slow)])
@pytest.mark.parametrize("terms", TERMS, ids=range(len(TERMS)))
@pytest.mark.parametrize("make", PICTURES)
def test_labels_are_those_of_pydensecrf(
    make: Callable[..., np.ndarray], terms: dict[str, Any], problems: int
):
    pytest.importorskip("pydensecrf")
    rng = np.random.default_rng([PICTURES.index(make), TERMS.index(terms)])
    for number in range(problems):
        height, width = (int(side) for side in rng.integers(3, 160, 2))
        labels = int(rng.integers(2, 22))
        image = make(rng, height, width)
        likely = (smooth, rough)[number % 2](rng, labels, height, width)
        ours = densecrf(image, likely, **terms, threads=1 + number % 3)
        expected = theirs(image, likely, terms)
        # pydensecrf adds up to 3 points to the lattice where pixels do not come in fours
        fours = height * width % 4 == 0
        others = np.count_nonzero(ours.argmax(axis=0) != expected.argmax(axis=0))
        case = f"{make.__name__} {width}x{height}, {labels} labels, {terms}"
        allowed = thresholds.CRF_LABELS if fours else thresholds.CRF_LABELS_ODD
        assert others <= np.ceil((1 - allowed) * height * width), case  # one pixel may be level
        if fours:
            assert np.abs(ours - expected).max() <= thresholds.CRF_MARGINALS, case


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height", "labels"), [(500, 375, 3), (512, 384, 21)])
@pytest.mark.parametrize("make", PICTURES)
def test_labels_of_large_pictures(make, width, height, labels):
    rng = np.random.default_rng(labels)
    image, likely = make(rng, height, width), smooth(rng, labels, height, width)
    same = densecrf(image, likely).argmax(axis=0) == theirs(image, likely, {}).argmax(axis=0)
    assert same.mean() >= thresholds.CRF_LABELS


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 40), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_marginals_are_distributions(width: int, height: int, labels: int, seed: int):
    rng = np.random.default_rng(seed)
    likely = rng.random((labels, height, width), np.float32) * rng.choice([1, 1e-30, 1e30])
    likely[rng.random(likely.shape) < 0.2] = 0
    marginals = densecrf(noise(rng, height, width), likely.astype(np.float32))
    assert marginals.dtype == np.float32
    assert (marginals >= 0).all()
    np.testing.assert_allclose(marginals.sum(axis=0), 1, rtol=0, atol=thresholds.SOFTMAX)


@pytest.mark.parametrize("labels", [1, 2, 3, 4, 5, 8, 9, 16, 17, 24, 25, 32, 33, 256, 600])
def test_padding_labels_take_nothing(labels: int):
    rng = np.random.default_rng(labels)
    image, likely = noise(rng, 9, 14), rough(rng, labels, 9, 14)
    none = densecrf(image, likely, iterations=0)
    np.testing.assert_allclose(none, likely, rtol=1e-4, atol=1e-7)
    extra = np.concatenate([likely, np.zeros((1, 9, 14), np.float32)])
    np.testing.assert_allclose(densecrf(image, extra)[:labels], densecrf(image, likely), atol=1e-4)


def test_a_kernel_without_weight_is_left_out():
    rng = np.random.default_rng(0)
    image, likely = photograph(rng, 40, 60), rough(rng, 3, 40, 60)
    neither = densecrf(image, likely, gaussian_compat=0, bilateral_compat=0)
    np.testing.assert_allclose(neither, likely, atol=1e-6)
    one = densecrf(image, likely, bilateral_compat=0)
    np.testing.assert_array_equal(one, densecrf(flat(rng, 40, 60), likely, bilateral_compat=0))
    assert np.abs(one - densecrf(image, likely)).max() > 0.1


def test_the_lattice_is_the_same_whichever_keys_it_needs():
    """A deviation so small that coordinates outgrow 64-bit keys leaves every pixel on its own."""
    rng = np.random.default_rng(0)
    image, likely = noise(rng, 40, 50), rough(rng, 3, 40, 50)
    short, long = (densecrf(image, likely, bilateral_srgb=srgb) for srgb in (0.02, 0.002))
    np.testing.assert_allclose(short, long, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": np.zeros((4, 5, 3), np.float32)}, "image is float32"),
        ({"image": np.zeros((4, 5), np.uint8)}, r"image is uint8 \[4, 5\]"),
        ({"probabilities": np.ones((2, 5, 4))}, r"not \[C, 4, 5\]"),
        ({"probabilities": np.ones((0, 4, 5))}, "empty"),
        ({"probabilities": np.full((2, 4, 5), np.nan)}, "NaN"),
        ({"probabilities": np.full((2, 4, 5), np.inf)}, "NaN"),
        ({"probabilities": np.full((2, 4, 5), -1)}, "NaN"),
        ({"iterations": -1}, "out of range"),
        ({"threads": 0}, "out of range"),
        ({"gaussian_sxy": 0}, "out of range"),
        ({"bilateral_srgb": float("nan")}, "out of range"),
        ({"bilateral_sxy": float("inf")}, "out of range"),
        ({"gaussian_compat": -1}, "out of range"),
        ({"bilateral_srgb": 1e-7}, "so small"),
    ],
)
def test_what_cannot_be_used_is_refused(change: dict, message: str):
    given = {
        "image": np.zeros((4, 5, 3), np.uint8),
        "probabilities": np.ones((2, 4, 5), np.float32),
        **change,
    }
    with pytest.raises(ValueError, match=message):
        densecrf(**given)


def test_the_extension_is_loaded_when_it_is_first_used():
    program = (
        "from pnp_ovss.kernels.cpu import kernels, library\n"
        "import numpy as np\n"
        "before = library.load.cache_info().currsize\n"
        "kernels.densecrf(np.zeros((1, 1, 3), np.uint8), np.ones((1, 1, 1), np.float32))\n"
        "print(before, library.load.cache_info().currsize)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "0 1\n", done.stderr


def test_a_profile_is_filled_in():
    rng = np.random.default_rng(0)
    profile = crf.Profile()
    densecrf(noise(rng, 20, 30), rough(rng, 3, 20, 30), profile=profile)
    assert profile.vertices > 100
    assert all(getattr(profile, name) > 0 for name, *_ in crf.Profile._fields_)


@pytest.mark.timing
def test_other_threads_go_on_meanwhile():
    rng = np.random.default_rng(0)
    image, likely = photograph(rng, 375, 500), smooth(rng, 21, 375, 500)
    began = time.perf_counter()
    wait = longest_wait(lambda: densecrf(image, likely))
    took = time.perf_counter() - began
    assert wait < took / 3  # a held GIL is one gap as long as the call


def test_a_child_waits_for_no_thread_of_its_parent():
    """Threads share a pool of memory, whose lock one of them may hold when the process forks."""
    program = """
import os, signal, threading
import numpy as np
from pnp_ovss.kernels.cpu.densecrf import densecrf
image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
likely = np.full((3, 60, 80), 1 / 3, np.float32)
stop = threading.Event()
def work():
    while not stop.is_set(): densecrf(image, likely, iterations=0)
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads: thread.start()
def status():
    child = os.fork()
    if not child:
        signal.alarm(10)  # ends a child that hangs
        densecrf(image, likely, iterations=0)
        os._exit(0)
    return os.waitpid(child, 0)[1]
hung = any(status() for _ in range(60))
stop.set()
for thread in threads: thread.join()
print("hung" if hung else "done")
"""
    words = [sys.executable, "-W", "ignore:This process", "-c", program]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.stdout == "done\n", done.stderr


SIZE = ("211", "93")


@pytest.mark.skipif(
    sys.platform != "linux", reason="sanitizers are as GCC and Clang have them here"
)
@pytest.mark.slow
def test_random_problems_under_address_and_undefined_behavior_sanitizers(tmp_path: Path):
    program = build(tmp_path, "densecrf_test.cpp", "-O1", "-fsanitize=address,undefined")
    for count in (500, 10_000):
        assert f"{count} problems" in run(program, "fuzz", str(count), str(count))
    run(program, "threads", *SIZE)


@pytest.mark.skipif(
    sys.platform != "linux", reason="sanitizers are as GCC and Clang have them here"
)
@pytest.mark.slow
def test_threads_under_thread_sanitizer(tmp_path: Path):
    program = build(tmp_path, "densecrf_test.cpp", "-O1", "-fsanitize=thread")
    run(program, "threads", *SIZE)
    run(program, "fuzz", "100", "2")
