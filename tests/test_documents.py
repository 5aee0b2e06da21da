"""What the documents say holds: links, commands, programs, and the length of the README."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import numpy as np
import pytest

from pnp_ovss.engine import Settings
from pnp_ovss.engine.cli import _cli
from tests.conftest import SAMPLES, Exported

ROOT = Path(__file__).resolve().parent.parent
README_LINES = 150
DOCUMENTS = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)
FOLLOWED = [
    "README.md",
    "engine/runners/README.md",
    pytest.param("export/triton/README.md", marks=pytest.mark.slow),
]
PROGRAMS = ["README.md", "engine/model/README.md"]
NOT_HERE = (  # what needs a network, a GPU or an installation of its own
    r"\bpip install\b",
    r"\bpython3 -m venv\b",
    r"^make\b",
    r"^cmake\b",  # tests/engine/capi builds and runs what these make
    r"^build/capi/",
    r"^docker\b",
    r"^pnp-ovss export Salesforce/",
    r"^pnp-ovss build .*(--target tensorrt|--device cuda)",
    r"--device cuda",
)
HEADERS = (  # of ONNX Runtime, which its wheels do not bring
    os.environ.get("ONNXRUNTIME_INCLUDE", ""),
    "/usr/include/onnxruntime",
    "/usr/local/include/onnxruntime",
)


def blocks(document: str, language: str) -> list[str]:
    """The blocks of code of a document, in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / document).read_text(), re.M | re.S)


def commands(document: str) -> list[str]:
    """The lines of a document's shell blocks, without comments."""
    lines = "\n".join(blocks(document, "sh")).splitlines()
    return [line.split("  #")[0].strip() for line in lines if line.strip()]


@pytest.fixture
def workplace(exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the images and the model that the documents name, a small one."""
    for name in ("street.jpg", "beach.jpg"):
        shutil.copyfile(SAMPLES / "beach.jpg", tmp_path / name)
    shutil.copytree(exported.folder, tmp_path / "blip-large")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path):
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        linked = (path.parent / name).resolve() if name else path
        assert linked.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", linked.read_text(), re.M)
            anchors = {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in titles}
            assert anchor in anchors, target


def test_the_paths_that_contributors_are_told_exist():
    named = re.findall(r"`([\w.]+/[\w./-]+)`", (ROOT / "CONTRIBUTING.md").read_text())
    assert len(named) > 30
    assert not [path for path in named if not (ROOT / path).exists()]


@pytest.mark.parametrize("document", FOLLOWED)
def test_commands_can_be_run(document: str, workplace: Path):
    """Each has options that there are; those that need nothing else do run."""
    lines = commands(document)
    assert [line for line in lines if line.startswith("pnp-ovss ")]
    for line in lines:
        words = shlex.split(line)
        if words[0] == "pnp-ovss":
            group = click.Context(_cli, **_cli.context_settings)
            command = _cli.get_command(group, words[1])
            assert command, line
            command.make_context(words[1], words[2:], parent=group).close()
    here = [line for line in lines if not any(re.search(rule, line) for rule in NOT_HERE)]
    if document == "README.md":
        assert len(here) >= 2
    shell = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for line in here:
        done = subprocess.run(line, shell=True, env=shell, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    if document == "README.md":
        assert {"street.json", "street.png", "street.overlay.png"} <= set(os.listdir("out"))


@pytest.mark.parametrize(
    ("document", "program"),
    [(document, program) for document in PROGRAMS for program in blocks(document, "python")],
)
def test_programs_in_python_run(document: str, program: str, workplace: Path):
    from pnp_ovss.export.fused import Fused, add_fused

    if "segment" in program:
        settings = Settings(passes=1, drop_mode="attention")
        add_fused(workplace / "blip-large", Fused(settings=settings))
    exec(compile(program, document, "exec"), {"__name__": "__main__"})


def test_the_program_in_cpp_gives_the_class_map(
    workplace: Path, capsys: pytest.CaptureFixture[str]
):
    """It is compiled where the header of ONNX Runtime is installed."""
    headers = [one for one in HEADERS if one and Path(one, "onnxruntime_cxx_api.h").exists()]
    if not headers:
        pytest.skip("the headers of ONNX Runtime are not installed")
    (source,) = blocks("engine/model/README.md", "cpp")
    (inputs,) = blocks("engine/model/README.md", "python")
    Path("class_map.cpp").write_text(source)
    wheel = Path(str(import_module("onnxruntime").__file__)).parent / "capi"
    library = next(wheel.glob("libonnxruntime.so.*"))
    Path("libonnxruntime.so").symlink_to(library)
    Path("libonnxruntime.so.1").symlink_to(library)
    compiler = ["g++", "-std=c++17", "-Wall", "-Werror", "-isystem", headers[0], "class_map.cpp"]
    subprocess.run([*compiler, "-L.", "-lonnxruntime", "-o", "class_map"], check=True)
    exec(inputs, {})
    command, *values = capsys.readouterr().out.splitlines()
    arguments = shlex.split(command)
    assert arguments[0] == "./class_map"
    ran = subprocess.run(
        arguments, env={"LD_LIBRARY_PATH": "."}, check=True, capture_output=True, text=True
    )
    found, wanted = (np.array(one, np.float32) for one in (ran.stdout.split(), values))
    assert wanted.max() > 0
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * wanted.max())
