"""Imports run one way, none of them in a circle, and no file grows too long to read."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("kernels", "engine", "export", "benchmarks", "tests")  # each imports those before it
PACKAGE = "pnp_ovss."
LONGEST = 400  # lines

# Layers of the engine: each imports those before it.
LAYERS = (
    ("errors", "json_text", "paths", "fork", "limits", "memory", "processors"),
    ("precision", "settings", "device", "tracing"),
    ("model",),
    ("inputs",),
    ("runners",),
    ("methods",),
    ("refine",),
    ("result",),
    ("pipeline",),
    ("segmenter",),
    ("evaluation",),
    ("cli",),
)


def sources() -> dict[str, str]:
    """The text of every module, by its dotted name."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): (
            path.read_text(encoding="utf-8")
        )
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if "__pycache__" not in path.parts
    }


def is_package(name: str, modules: dict[str, str]) -> bool:
    return any(other.startswith(f"{name}.") for other in modules)


def imports(name: str, modules: dict[str, str]) -> Iterator[str]:
    """The modules of this repository that one imports, wherever in it."""
    package = name if is_package(name, modules) else name.rpartition(".")[0]
    for node in _imports_of(modules[name]):
        if isinstance(node, ast.Import):
            wanted = [alias.name.removeprefix(PACKAGE) for alias in node.names]
        else:
            base = (node.module or "").removeprefix(PACKAGE)
            if node.level:
                parts = package.split(".")
                parts = parts[: len(parts) - node.level + 1]
                base = ".".join([*parts, *([base] if base else [])])
            wanted = [
                f"{base}.{alias.name}" if f"{base}.{alias.name}" in modules else base
                for alias in node.names
            ]
        yield from (one for one in wanted if one in modules and one != name)


@cache
def _imports_of(source: str) -> list[ast.Import | ast.ImportFrom]:
    """The import statements of a source, which is parsed once for all tests."""
    nodes = ast.walk(ast.parse(source))
    return [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]


def upwards(modules: dict[str, str]) -> list[str]:
    """Imports of a package that lies above, or of a layer of the engine that does."""
    wrong = []
    for name in modules:
        for other in imports(name, modules):
            packages = [PACKAGES.index(one.partition(".")[0]) for one in (name, other)]
            layers = [layer(one) for one in (name, other)]
            if packages[1] > packages[0] or (None not in layers and layers[1] > layers[0]):  # type: ignore[operator]
                wrong.append(f"{name} imports {other}")
    return wrong


def layer(name: str) -> int | None:
    """Which layer of the engine a module is on; None for what is no part of it."""
    package, _, rest = name.partition(".")
    part = rest.partition(".")[0]
    if package != "engine" or not part:
        return None
    return next(index for index, parts in enumerate(LAYERS) if part in parts)


def circle(modules: dict[str, str]) -> list[str]:
    """Modules each of which imports the next, and the last the first; empty where there are none.

    That a module belongs to a package is no import of it.
    """
    graph = {name: set(imports(name, modules)) for name in modules}
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str]:
        if name in path:
            return path[path.index(name) :]
        if name in done:
            return []
        found = next(filter(None, (walk(other, [*path, name]) for other in graph[name])), [])
        done.add(name)
        return found

    return next(filter(None, (walk(name, []) for name in sorted(graph))), [])


def test_no_module_imports_upwards():
    assert not upwards(sources())


def test_no_circle_of_imports():
    assert not circle(sources())


@pytest.mark.parametrize(
    ("module", "line", "complaint"),
    [
        ("engine.runners.openvino", "from ..cli import main", "imports engine.cli"),
        ("engine.runners.openvino", "def f():\n    from ..cli import x", "imports engine.cli"),
        ("engine.model.hub", "from ...export import export", "imports export"),
        ("engine.segmenter", "import pnp_ovss.export.exporter", "imports export.exporter"),
        ("kernels.reference.passes", "from ...engine.device import CPU", "imports engine.device"),
        ("export.exporter", "from benchmarks.harness import timing", "imports benchmarks.harness"),
        ("engine.device", "from .model import folder", "imports engine.model.folder"),
    ],
)
def test_an_import_upwards_is_noticed(module: str, line: str, complaint: str):
    modules = sources()
    modules[module] += f"\n\n{line}\n"
    (found,) = upwards(modules)
    assert found.startswith(f"{module} {complaint}")


def test_a_circle_is_noticed():
    modules = sources()
    modules["engine.model.signature"] += "\n\nfrom .manifest import Manifest\n"
    assert sorted(circle(modules)) == ["engine.model.manifest", "engine.model.signature"]


def test_what_is_named_upwards_is_there():
    """The engine names modules of other packages in strings, and imports none of them."""
    modules = sources()
    named = {
        node.value.removeprefix(PACKAGE)
        for name, text in modules.items()
        if name.startswith("engine")
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.startswith((f"{PACKAGE}export.", f"{PACKAGE}benchmarks"))
    }
    assert named == {
        "export.build.cuda_toolkit",
        "export.cli.build",
        "export.cli.export",
        "export.exporter",
    }
    assert named <= modules.keys()


def test_no_file_is_too_long():
    code = [
        path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.suffix in (".py", ".cu", ".cuh", ".cpp", ".hpp", ".h", ".inl")
    ]
    assert len(code) > 100
    long = {
        str(path.relative_to(ROOT)): lines
        for path in code
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > LONGEST
    }
    assert not long
