"""What the wheel contains, and that it works where nothing else is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from tests import thresholds
from tests.once import made_once

ROOT = Path(__file__).resolve().parent.parent
CAPI = ROOT / "engine" / "capi"
pytestmark = pytest.mark.slow  # they build a wheel

DOWNLOAD_LIMIT = 200e6  # bytes, without a GPU


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(folder: Path) -> None:
        source = folder / "source"  # apart, as old builds leave files behind
        shutil.copytree(ROOT, source, ignore=left_out)
        run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, source)

    (wheel,) = made_once(tmp_path_factory, "wheel", make).glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(folder: Path) -> None:
        source = folder / "source"
        shutil.copytree(ROOT, source, ignore=left_out)
        run(sys.executable, "-m", "build", "--sdist", "--outdir", folder, source)

    (archive,) = made_once(tmp_path_factory, "sdist", make).glob("*.tar.gz")
    return archive


def left_out(folder: str, names: list[str]) -> set[str]:
    """What is hidden, and what an earlier build made; packages may be called build, too."""
    built = shutil.ignore_patterns(".*", "*.egg-info")(folder, names)
    return built | {"build"} if Path(folder) == ROOT else built


def run(*command: object, **options) -> str:
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_wheel_puts_nothing_generic_into_site_packages(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {
        "pnp_ovss",
        f"pnp_ovss-{version('pnp-ovss')}.dist-info",
    }
    assert {name.split("/")[1] for name in names if name.startswith("pnp_ovss/")} == {
        "engine",
        "export",
        "kernels",
    }


def test_wheel_has_every_module_and_the_data(wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        f"pnp_ovss/{path.relative_to(ROOT)}"
        for room in ("engine", "export", "kernels")
        for path in (ROOT / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not is_kept_apart(path)
    }
    assert expected == {name for name in names if name.startswith("pnp_ovss/")}


def is_kept_apart(path: Path) -> bool:
    """What the wheel leaves out: notes, and the C library, which is installed by itself."""
    return path.suffix == ".md" or CAPI in path.parents


def test_the_c_library_is_built_from_the_source_distribution(sdist: Path, tmp_path: Path):
    shutil.unpack_archive(sdist, tmp_path)
    (source,) = tmp_path.iterdir()
    capi = source / CAPI.relative_to(ROOT)
    assert {path.relative_to(capi) for path in capi.rglob("*")} == {
        path.relative_to(CAPI) for path in CAPI.rglob("*") if "__pycache__" not in path.parts
    }
    cmake = shutil.which("cmake") or pytest.skip("no cmake")
    run(cmake, "-S", capi, "-B", tmp_path / "build")
    run(cmake, "--build", tmp_path / "build", "--parallel", 2)
    assert list((tmp_path / "build").glob("libpnp_ovss.*"))


def test_demo_runs_from_the_wheel_in_an_empty_environment(wheel: Path, tmp_path: Path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    downloads = tmp_path / "downloads"
    run(python, "-m", "pip", "download", "-q", "-d", downloads, f"{wheel}[cpu]")
    size = sum(path.stat().st_size for path in downloads.iterdir())
    assert size < DOWNLOAD_LIMIT
    run(python, "-m", "pip", "install", "-q", "--no-index", "-f", downloads, f"{wheel}[cpu]")
    command, empty = tmp_path / "venv" / "bin" / "pnp-ovss", tmp_path / "empty"
    empty.mkdir()
    assert len(run(command, "demo", cwd=empty).splitlines()) == 3
    assert len(list((empty / "pnp-ovss-demo").glob("*.overlay.png"))) == 3
    evaluate = (command, "evaluate", "stickers", "--pictures", 20)
    lines = run(*evaluate, cwd=empty).splitlines()
    assert lines[0] == "stickers, 20 images"
    (miou,) = [float(line.split()[1]) for line in lines if line.startswith("mIoU")]
    assert miou > thresholds.STICKERS_MIOU
    refused = subprocess.run([*map(str, evaluate), "-o", "out"], capture_output=True, cwd=empty)
    assert refused.returncode == 2
    assert b"figures need matplotlib" in refused.stderr
    assert b"pip install 'pnp-ovss[evaluate]'" in refused.stderr
    assert not (empty / "out").exists()
    assert "torch" not in run(python, "-m", "pip", "list")
    run(python, "-m", "pip", "check")
