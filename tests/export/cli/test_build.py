from __future__ import annotations

import importlib
import importlib.util
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

from pnp_ovss.engine.cli import main
from pnp_ovss.engine.device import usable_devices
from pnp_ovss.engine.model import builds
from pnp_ovss.engine.model.folder import open_model
from pnp_ovss.export.build import BUILDERS

needs_rtx = pytest.mark.skipif(
    not importlib.util.find_spec("tensorrt_rtx"), reason="needs tensorrt-rtx"
)
SMALLEST = ["--target", "tensorrt-rtx", "--batch", "1", "--tokens", "8"]
FOR_AMPERE = ["--compute-capability", "8.6"]


@pytest.fixture
def refused(model_copy: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Build with options that must be refused, in two lines; return what was said."""

    def run(*words: str) -> str:
        assert main(["build", str(model_copy), *words]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert len(printed.err.splitlines()) == 2
        assert not list(model_copy.glob("builds/*"))
        return printed.err

    return run


BAD_OPTIONS = {
    "no target": ([], "Missing option '--target'"),
    "target": (["--target", "tensorflow"], "tensorflow"),
    "precision": ([*SMALLEST, "--precision", "int8"], "int8"),
    "no batch": ([*SMALLEST, "--batch", "0"], "'0' are not numbers from 1"),
    "a word for a batch": ([*SMALLEST, "--batch", "1,many"], "'1,many' are not numbers"),
    "negative tokens": ([*SMALLEST, "--tokens=-8"], "'-8' are not numbers"),
    "no tokens": ([*SMALLEST, "--tokens", ""], "'' are not numbers"),
    "architecture": ([*SMALLEST, "--compute-capability", "sm_86"], "'sm_86' are not compute"),
    "drop mode": ([*SMALLEST, "--drop-mode", "patches"], "'patches' is not one of"),
    "graph": (
        ["--target", "aotinductor", "--device", "cpu", "--graph", "text"],
        "there is no graph 'text'",
    ),
    "device": (
        [*SMALLEST, "--device", "cuda:1"],
        "--device cuda:1 is an option of aotinductor only",
    ),
    "no such device": (["--target", "aotinductor", "--device", "tpu"], "unknown device 'tpu'"),
    "capability": ([*SMALLEST, "--compute-capability", "8.6;8.9"], "'8.6;8.9' are not compute"),
}


@pytest.mark.parametrize(("words", "cause"), BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_options_that_cannot_work(refused: Callable[..., str], words: list[str], cause: str):
    assert cause in refused(*words)


def test_what_the_builders_are_told(model_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only one of them knows of devices."""
    told: list[dict[str, Any]] = []
    for name in set(BUILDERS.values()):
        builder = importlib.import_module(f"pnp_ovss.export.build.{name}")
        monkeypatch.setattr(builder, "build", lambda _, **options: told.append(options) or [])
    words = [str(model_copy), "--graph", "salience", "--graph", "vision"]
    assert main(["build", *words, "--target", "aotinductor", "--device", "cuda:1"]) == 0
    assert main(["build", *words, "--target", "tensorrt"]) == 0
    assert [one["graphs"] for one in told] == [("salience", "vision")] * 2
    assert [one.get("device") for one in told] == ["cuda:1", None]


def test_a_model_that_is_not_there(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["build", "nowhere", *SMALLEST]) == 2
    assert "no model folder at 'nowhere'" in capsys.readouterr().err


@pytest.mark.parametrize("target", ["tensorrt", "tensorrt-rtx"])
def test_a_target_that_is_not_installed(model_copy: Path, target: str) -> None:
    done = run_without([target.replace("-", "_")], model_copy, "--target", target, *FOR_AMPERE)
    assert done.returncode == 2
    cause, cure = done.stderr.splitlines()
    assert f"{target} is not installed" in cause
    assert cure.strip() == f"pip install --upgrade 'pnp-ovss[{target}]'"


@pytest.mark.parametrize("package", ["filelock", "onnx", "onnx_ir"])
def test_a_package_that_is_not_installed(model_copy: Path, package: str) -> None:
    done = run_without([package], model_copy, *SMALLEST, *FOR_AMPERE)
    assert done.returncode == 2
    cause, cure = done.stderr.splitlines()
    assert package in cause
    assert cure.strip() == "pip install 'pnp-ovss[tensorrt-rtx]'"


@needs_rtx
def test_no_gpu_and_none_named(refused: Callable[..., str]) -> None:
    if usable_devices()[0].index is not None:
        pytest.skip("there is a GPU")
    assert "--compute-capability" in refused(*SMALLEST)


@needs_rtx
def test_a_gpu_that_it_does_not_build_for(refused: Callable[..., str]) -> None:
    said = refused(*SMALLEST, "--compute-capability", "8.6,9.0")
    assert "builds here for sm_75, sm_80, sm_86, sm_89, sm_120" in said
    assert "not for sm_90" in said


@needs_rtx
@pytest.mark.slow
def test_a_build_needs_no_torch(model_copy: Path) -> None:
    """And none is longer than a caption."""
    most = open_model(model_copy).manifest.text.context
    words = ["--target", "tensorrt-rtx", "--batch", "1", "--tokens", f"8,{most + 1}", "--json"]
    words += ["--drop-mode", "tokens"]
    capabilities = ["--compute-capability", "12.0,8.6"]
    done = run_without(["torch", "transformers"], model_copy, *words, *capabilities)
    assert done.returncode == 0, done.stderr
    assert f"note: captions of this model have {most} tokens at most" in done.stderr
    encoder, branch, of_tokens = json.loads(done.stdout)
    graphs = ((encoder, "vision"), (branch, "salience"), (of_tokens, "vision_tokens"))
    for one, graph in graphs:
        assert one["record"]["recipe"]["graph"] == graph
        assert one["record"]["recipe"]["precision"] == "fp16"
        assert one["record"]["recipe"]["architectures"] == ["sm_86", "sm_120"]
        assert one["record"]["file"]["size"] == Path(one["path"]).stat().st_size
    assert [one["tokens"] for one in branch["record"]["recipe"]["profiles"]] == [8, most]


@needs_rtx
@pytest.mark.slow
def test_of_two_commands_at_once_each_build_is_made_by_one(model_copy: Path) -> None:
    commands = [start(model_copy, *SMALLEST, *FOR_AMPERE) for _ in range(2)]
    printed = [command.communicate(timeout=120) for command in commands]
    assert [command.returncode for command in commands] == [0, 0]
    assert printed[0][0] == printed[1][0]  # the same paths
    for graph in ("vision", "salience"):
        assert "".join(err for _, err in printed).count(f"build of {graph} ") == 1
    assert len(builds.recorded(open_model(model_copy))) == 2


@needs_rtx
@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_an_interrupted_build_leaves_nothing_half_written(model_copy: Path) -> None:
    command = start(model_copy, *SMALLEST, *FOR_AMPERE)
    read_until(command.stderr, "build of salience")
    command.send_signal(signal.SIGINT)
    _, err = command.communicate(timeout=60)
    assert command.returncode == 130
    assert err.strip() == "pnp-ovss: interrupted"
    (whole,) = builds.recorded(open_model(model_copy))
    left = {path.name for path in (model_copy / "builds").iterdir()}
    assert {name for name in left if not name.endswith(".lock")} == {
        whole.path.name,
        builds.record_path(whole.path).name,
    }


@needs_rtx
@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.slow
def test_a_build_after_one_that_was_killed(
    model_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = start(model_copy, *SMALLEST, *FOR_AMPERE)
    read_until(command.stderr, "build of vision")
    command.kill()
    command.communicate()
    assert builds.recorded(open_model(model_copy)) == []
    assert main(["build", str(model_copy), *SMALLEST, *FOR_AMPERE]) == 0
    printed = capsys.readouterr()
    assert len(builds.recorded(open_model(model_copy))) == 2
    assert not list((model_copy / "builds").glob(".*.work"))

    assert main(["build", str(model_copy), *SMALLEST, *FOR_AMPERE]) == 0
    assert capsys.readouterr() == (printed.out, "")  # the same builds, not made again


def start(model: Path, *words: str) -> subprocess.Popen[str]:
    script = Path(sys.executable).with_name("pnp-ovss")
    return subprocess.Popen(
        [str(script), "build", str(model), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read_until(stream: IO[str] | None, words: str) -> None:
    assert stream
    assert any(words in line for line in iter(stream.readline, ""))


def run_without(packages: list[str], model: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command, where importing some packages fails."""
    code = f"""
import sys
sys.modules.update(dict.fromkeys({packages!r}))
from pnp_ovss.engine.cli import main
raise SystemExit(main({["build", str(model), *words]!r}))
"""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
