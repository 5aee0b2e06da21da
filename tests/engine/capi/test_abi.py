"""Programs and libraries of other versions go together: structs only grow, at their ends."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import pytest

from benchmarks.contenders import c_library as binding
from tests.engine.capi import built, folders, variants

pytestmark = pytest.mark.slow  # the library is built

HEADER = variants.CAPI / "include" / "pnp_ovss.h"
KEPT = variants.HERE / "abi" / "1" / "pnp_ovss.h"
STRUCT = re.compile(r"typedef struct \{\n(.*?)\n\} (\w+);", re.DOTALL)
FIELD = re.compile(r"(?P<type>[\w ]+?[ *]+)(?P<names>\w+(?:\[\w+\])?(?:, \w+)*);")

BINDINGS = {
    "pnp_ovss_error": binding.Error,
    "pnp_ovss_runtime_options": binding.RuntimeOptions,
    "pnp_ovss_settings": binding.CSettings,
    "pnp_ovss_model_options": binding.ModelOptions,
    "pnp_ovss_model_info": binding.ModelInfo,
    "pnp_ovss_image": binding.CImage,
    "pnp_ovss_timings": binding.Timings,
    "pnp_ovss_output": binding.Output,
    "pnp_ovss_item": binding.Item,
    "pnp_ovss_tokens": binding.Tokens,
}


def without_comments(text: str) -> str:
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


def structs(header: Path) -> dict[str, list[tuple[str, str]]]:
    """Read the fields of each struct: type and name."""
    found: dict[str, list[tuple[str, str]]] = {}
    for body, name in STRUCT.findall(without_comments(header.read_text())):
        assert ":" not in body, f"{name} has a bit field"
        fields = [
            (match["type"].strip(), one.strip())
            for match in FIELD.finditer(body)
            for one in match["names"].split(",")
        ]
        assert body.count(";") == len(FIELD.findall(body)), name
        found[name] = fields
    return found


def functions(header: Path) -> set[str]:
    """Read the declarations of functions, each in one line."""
    text = re.sub(r"\s+", " ", without_comments(header.read_text()))
    return set(re.findall(r"PNP_OVSS_API ([^#;]+?\([^;]*\));", text))


def constants(header: Path) -> dict[str, str]:
    text = without_comments(header.read_text())
    named = re.findall(r"(PNP_OVSS_\w+) = (-?\d+)", text)
    return dict([*named, *re.findall(r"#define (PNP_OVSS_(?!H\b|API\b)\w+) \(?(-?\d+)\)?", text)])


def test_todays_header_has_all_that_the_kept_one_has():
    today, kept = structs(HEADER), structs(KEPT)
    assert len(kept) == 10
    assert len(functions(KEPT)) == 22
    for name, fields in kept.items():
        assert today[name][: len(fields)] == fields
    assert functions(KEPT) <= functions(HEADER)
    assert constants(KEPT).items() <= constants(HEADER).items()
    assert constants(KEPT)["PNP_OVSS_ABI"] == "1"


def layout(header: Path, tmp_path: Path) -> dict[str, list[tuple[str, int, int]]]:
    """Ask a C compiler where the fields of the structs lie: name, offset, size."""
    lines = [
        "#include <stdio.h>",
        "#include <stddef.h>",
        f'#include "{header}"',
        "int main(void) {",
    ]
    for name, fields in structs(header).items():
        lines.append(f'printf("{name} sizeof %zu 0\\n", sizeof({name}));')
        for _, field in fields:
            bare = field.split("[")[0]
            place = f"offsetof({name}, {bare}), sizeof((({name} *)0)->{bare})"
            lines.append(f'printf("{name} {bare} %zu %zu\\n", {place});')
    source = tmp_path / "layout.c"
    source.write_text("\n".join([*lines, "return 0; }"]))
    variants.command(built.tool("cc"), *built.C99, source, "-o", tmp_path / "layout")
    found: dict[str, list[tuple[str, int, int]]] = {}
    for line in variants.command(tmp_path / "layout").splitlines():
        name, field, offset, size = line.split()
        found.setdefault(name, []).append((field, int(offset), int(size)))
    return found


def test_structs_have_no_holes_but_before_pointers(tmp_path: Path):
    """Padding is where 4 bytes come before 8 only, and never at an end."""
    for name, fields in layout(HEADER, tmp_path).items():
        (_, size, _), *members = fields
        end = 0
        for field, offset, length in members:
            assert offset - end in (0, 4), f"{name}.{field}"
            assert offset == end or length == 8
            end = offset + length
        assert end == size, f"{name} has padding at its end: its next field would lie in it"
        assert members[0] == ("struct_size", 0, 4)


def test_the_binding_of_the_tests_has_the_same_layout(tmp_path: Path):
    found = layout(HEADER, tmp_path)
    assert found.keys() == BINDINGS.keys()
    for name, ((_, size, _), *members) in found.items():
        mirror = BINDINGS[name]
        assert ctypes.sizeof(mirror) == size
        assert members == [
            (field[0], getattr(mirror, field[0]).offset, getattr(mirror, field[0]).size)
            for field in mirror._fields_
        ]


# ---- Programs and libraries of other versions ----


def grow(include: Path) -> Path:
    """Make a header of a later version: each struct has two more fields."""
    include.mkdir()
    text = HEADER.read_text()
    count = len(STRUCT.findall(without_comments(text)))
    more = "    int32_t grown_number, grown_reserved;\n    const void *grown_pointer;\n"
    grown, made = re.subn(r"^(\} pnp_ovss_\w+;)$", more + r"\1", text, flags=re.MULTILINE)
    assert made == count
    (include / "pnp_ovss.h").write_text(grown)
    return include


def program(tmp_path: Path, include: Path, library: Path, *flags: str) -> Path:
    """Compile the program that uses every function, by the header of a folder."""
    made = tmp_path / "versions"
    words = [built.tool("gcc"), "-std=gnu99", "-Wall", "-Wextra", *flags, f"-I{include}"]
    words += [f"-I{variants.HERE}", f"-I{variants.CAPI / 'src'}"]
    sources = [variants.HERE / name for name in ("versions.c", "calls.c", "world.c")]
    linked = library, f"-Wl,-rpath,{library.parent}", "-pthread", "-ldl"
    variants.command(*words, *sources, *linked, "-o", made)
    return made


def test_a_program_of_the_kept_header_runs_on_this_library(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
):
    made = program(tmp_path, KEPT.parent, built.library(tmp_path_factory))
    small = folders.make_folder(tmp_path / "small")
    variants.run(made, variants.stub(tmp_path_factory, "built"), small)


def test_a_program_of_a_later_header_runs_on_this_library(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
):
    """It is refused where it sets what this library does not know."""
    include = grow(tmp_path / "include")
    made = program(tmp_path, include, built.library(tmp_path_factory), "-DGROWN")
    small = folders.make_folder(tmp_path / "small")
    variants.run(made, variants.stub(tmp_path_factory, "built"), small)


@pytest.mark.slow
def test_a_program_of_the_kept_header_runs_on_a_later_library(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
):
    include = grow(tmp_path / "include")
    objects = tmp_path / "objects"
    objects.mkdir()
    includes = f"-I{include}", *variants.INCLUDES
    variants.compile_all("plain", objects, (variants.CAPI / "src").glob("*.cpp"), includes)
    library = tmp_path / "libpnp_ovss.so"
    variants.compile_all("plain", objects, variants.KERNELS.glob("*.cpp"))
    linked = [*objects.glob("*.o"), "-pthread", "-ldl", "-o", library]
    variants.command(variants.compiler("plain", "c++"), "-shared", *linked)
    made = program(tmp_path, KEPT.parent, library)
    small = folders.make_folder(tmp_path / "small")
    variants.run(made, variants.stub(tmp_path_factory, "built"), small)
