#!/usr/bin/env bash
# What a machine with an NVIDIA GPU has to show, unattended, in less than 8 minutes: the tests marked
# `gpu`, and the K passes of a BLIP-large against PyTorch. No network is needed; what is not installed is
# skipped by name. Results: benchmarks/results/gpu/.
#
#   benchmarks/gpu_check.sh [--wheels DIR] [--output DIR] [--minutes N] [-- OPTIONS OF python -m benchmarks passes]
#
#   --wheels DIR   wheels of what is missing (msgspec and platformdirs, say); nothing is downloaded
#   --output DIR   where results go, instead of benchmarks/results/gpu
#   --minutes N    for all of it; 8 by default
#   --cpu          try the script itself where there is no GPU: a tiny model on the CPU, no tests
#
# PYTHON names the interpreter; python3 by default.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
output=benchmarks/results/gpu
minutes=8
wheels=
gpu=1
options=(--device cuda:0 --image-size 336 --image-size 768 --batch 1 --batch 4 --batch 16)
# in the order of what would be missed most, should the time be up
for contender in eager-fp32 eager-bf16 compile-bf16 tensorrt-fp16 aotinductor-bf16 onnxruntime-fp32 \
    eager-fp16 tensorrt-bf16 tensorrt-rtx-fp16 aotinductor-fp16; do
    options+=(--contender "$contender")
done
while (($#)); do
    case $1 in
        --wheels) wheels=$2; shift 2 ;;
        --output) output=$2; shift 2 ;;
        --minutes) minutes=$2; shift 2 ;;
        --cpu)
            gpu=
            options=(--device cpu --model random:blip-tiny --image-size 96 --batch 2)
            options+=(--contender eager-fp32 --contender eager-fp16 --contender onnxruntime-fp32)
            shift
            ;;
        --) shift; options=("$@"); break ;;
        *) echo "unknown option $1; see the head of $0" >&2; exit 2 ;;
    esac
done
began=$SECONDS
mkdir -p "$output"
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
# the links show the folders as they are installed; nothing has to be
export PYTHONPATH=$place:$PWD/.pyright:$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1

has() { "$python" -c 'import importlib.util as u, sys; sys.exit(any(u.find_spec(n) is None for n in sys.argv[1:]))' "$@"; }
missing() { for name; do has "$name" || printf ' %s' "$name"; done; }
skip() { echo "skipped: $1" | tee -a "$output/skipped.txt"; }
: >"$output/skipped.txt"

if [[ -n $wheels ]]; then
    "$python" -m pip install --quiet --no-index --no-deps --target "$place" "$wheels"/*.whl ||
        skip "the wheels of $wheels cannot be installed"
fi
if ! "$python" -c 'import importlib.metadata as m; m.version("pnp-ovss")' 2>/dev/null; then
    version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)  # exports are stamped with it
    mkdir "$place/pnp_ovss-$version.dist-info"
    printf 'Metadata-Version: 2.1\nName: pnp-ovss\nVersion: %s\n' "$version" \
        >"$place/pnp_ovss-$version.dist-info/METADATA"
fi
if [[ -n $gpu ]]; then
    if ! has torch cupy; then
        echo "needs PyTorch and CuPy; missing:$(missing torch cupy)" >&2
        exit 2
    fi
    if ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
        echo "PyTorch finds no GPU: check the driver with nvidia-smi" >&2
        exit 2
    fi
fi
"$python" - "$output/machine.txt" <<'PYTHON' || skip "what the machine is: it cannot be read"
import importlib.metadata as metadata
import platform
import sys

import torch

names = "torch cupy-cuda13x cupy-cuda12x transformers onnxruntime-gpu tensorrt tensorrt-rtx".split()
installed = {own.metadata["Name"].lower(): own.version for own in metadata.distributions()}
with open(sys.argv[1], "w") as file:
    if torch.cuda.is_available():
        import cupy

        print(torch.cuda.get_device_name(0), file=file)
        print("CUDA", torch.version.cuda, "driver", cupy.cuda.runtime.driverGetVersion(), file=file)
    else:
        print(platform.processor(), "no GPU", file=file)
    print("Python", platform.python_version(), file=file)
    print(*(f"{name} {installed[name]}" for name in names if name in installed), sep="\n", file=file)
    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    print("TF32 in matrix products", matmul, "in convolutions", cudnn, file=file)
    print("precision of float32 products", torch.get_float32_matmul_precision(), file=file)
PYTHON
cat "$output/machine.txt"

# The package's own CRF in C++, which the tests compare with, has to be built where it is not yet.
if ! ls kernels/_densecrf*.so >/dev/null 2>&1; then
    flags="-std=c++17 -O3 -ffp-contract=fast -fno-math-errno -fvisibility=hidden -pthread -shared -fPIC"
    # shellcheck disable=SC2086
    c++ $flags -o kernels/_densecrf.abi3.so kernels/cpu/densecrf.cpp kernels/cpu/loops.cpp ||
        skip "the CRF in C++: there is no C++ compiler"
fi

failed=0
needed=(pytest hypothesis msgspec platformdirs transformers tokenizers onnx_ir onnx safetensors click)
if [[ -z $gpu ]]; then
    skip "the tests marked gpu: there is no GPU"
elif has "${needed[@]}"; then
    half=$("$python" -c "print(max(1, 30 * $minutes))")
    timeout --signal INT --kill-after 20 "$half" "$python" -m pytest -m gpu -q -rs 2>&1 | tee "$output/tests.txt"
    case ${PIPESTATUS[0]} in
        0) ;;
        124 | 137) skip "the rest of the tests marked gpu: half of the time was up"; failed=1 ;;
        *) failed=1 ;;
    esac
else
    skip "the tests marked gpu; missing:$(missing "${needed[@]}")"
fi
needed=(msgspec platformdirs transformers tokenizers onnx_ir onnx onnxruntime safetensors matplotlib click)
if has "${needed[@]}"; then
    left=$("$python" -c "print($minutes - ($SECONDS - $began) / 60 - 1)")  # the last step takes a while
    "$python" -m benchmarks passes "${options[@]}" --rounds 3 --minutes "$left" --output "$output" || failed=1
else
    skip "the K passes; missing:$(missing "${needed[@]}")"
fi
echo "done in $((SECONDS - began)) s; results in $output"
cat "$output/skipped.txt"
exit $failed
