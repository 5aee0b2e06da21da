"""Random bytes, guided by what they reach in the library: libFuzzer on what reads them."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from tests.engine.capi import folders, variants
from tests.once import made_once

TARGETS = ("json", "wordpiece", "segment")
SECONDS = 60
pytestmark = pytest.mark.long


def fuzzer(factory: pytest.TempPathFactory, target: str) -> Path:
    def make(folder: Path) -> None:
        words = [variants.compiler("fuzz", "c++"), "-std=c++17", "-g", "-O1", *variants.INCLUDES]
        words += ["-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"]
        source = variants.HERE / "fuzz" / f"{target}.cpp"
        objects = variants.objects(factory, "fuzz")
        variants.command(*words, source, *objects, "-pthread", "-ldl", "-o", folder / target)

    return made_once(factory, f"capi-fuzz-{target}", make) / target


def corpus(target: str, folder: Path) -> None:
    """Write inputs to begin with."""
    tokenizer = (folders.DEMO / "tokenizer.json").read_bytes()
    seeds = {
        "json": [
            *(tokenizer, (folders.DEMO / "manifest.json").read_bytes()),
            *(b'[1e-5,"\\ud83d\\ude00"]', '{"é":"猫😀"}'.encode(), b'"\xc3\xa9"', b"-0.5E+07"),
        ],
        "wordpiece": [
            *(tokenizer + b"\0" + name for name in (b"cat", b"sailing boat")),
            *(
                b"\0" + name.encode()
                for name in ("hot dog", "CAFÉ au lait", "猫 İΣ", "[SEP]", "e\u0301")
            ),
        ],
        "segment": [random.Random(seed).randbytes(400) for seed in range(20)],
    }
    for number, seed in enumerate(seeds[target]):
        (folder / str(number)).write_bytes(seed)


@pytest.mark.parametrize("target", TARGETS)
def test_no_input_breaks_it(target: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory):
    program = fuzzer(tmp_path_factory, target)
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    corpus(target, inputs)
    environment = {
        "FUZZ_TOKENIZER": str(folders.DEMO / "tokenizer.json"),
        "FUZZ_FOLDER": str(folders.make_folder(tmp_path / "model")),
        "FUZZ_RUNTIME": str(variants.stub(tmp_path_factory, "fuzz")),
    }
    limits = f"-max_total_time={SECONDS}", "-timeout=25", "-rss_limit_mb=3000", "-max_len=8192"
    done = subprocess.run(
        [program, inputs, *limits, f"-artifact_prefix={tmp_path}/", "-seed=1"],
        env=os.environ | variants.OPTIONS | environment,
        capture_output=True,
        text=True,
        errors="replace",
    )
    assert done.returncode == 0, done.stderr[-6000:]
    assert "Done" in done.stderr
