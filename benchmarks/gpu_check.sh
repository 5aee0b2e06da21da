#!/usr/bin/env bash
# Checks and measures a machine with an NVIDIA GPU in a few minutes, unattended and without a network. It runs in
# stages, the most important first. Each writes its results at once, and a stage that breaks does not stop the others.
# benchmarks/gpu_check.md says what each stage records.
#
#   benchmarks/gpu_check.sh [--wheels DIR] [--output DIR] [--pack FILE] [--work DIR] [--minutes N] [--no-768] [--cpu]
#
#   --wheels DIR   folder with wheels of missing packages, such as msgspec and platformdirs; nothing is downloaded
#   --output DIR   folder for results; by default benchmarks/results/gpu, with --cpu the folder results in --work
#   --pack FILE    archive of all results (tar, gzip), made anew after each stage
#   --work DIR     folder for checkpoints, exports, packages and notes of finished stages; by default gpu-check in
#                  the folder for temporary files. A second run does the stages that are not done
#   --minutes N    minutes for all stages; 9 by default. Then no stage starts, and a running stage is stopped
#   --no-768       skip the stages at 768 px
#   --cpu          try the script without a GPU: a tiny model on the CPU, no tests
#
# PYTHON names the interpreter; python3 by default. Exit codes: 0 all is done, 1 some stages are not, 2 bad usage.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3} output='' pack='' work=${TMPDIR:-/tmp}/gpu-check minutes=9 wheels=''
device=cuda:0 model=random:blip-large size=336 large=768 batches=(--batch 1 --batch 16)
slower=1 # times the limits of the stages
while (($#)); do
    case $1 in
        --wheels | --output | --pack | --work | --minutes)
            (($# > 1)) || { echo "$1 needs a value; see $0 --help" >&2; exit 2; }
            printf -v "${1#--}" %s "$2"; shift 2 ;;
        --no-768) large=''; shift ;;
        --cpu) device=cpu model=random:blip-tiny size=96 large=${large:+128} batches=(--batch 1 --batch 2) slower=6; shift ;;
        -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"; exit 0 ;;
        *) echo "unknown option $1; see $0 --help" >&2; exit 2 ;;
    esac
done
[[ $minutes =~ ^[0-9]+(\.[0-9]+)?$ ]] || { echo "--minutes $minutes is not a number: say 9, or 4.5" >&2; exit 2; }
"$python" --version >/dev/null 2>&1 || { echo "$python cannot be run: name a Python 3.10 to 3.13 in PYTHON" >&2; exit 2; }
[[ -z $wheels || -d $wheels ]] || { echo "--wheels $wheels is not a folder" >&2; exit 2; }
mkdir -p "$work" && work=$(cd "$work" && pwd) || exit 2
if [[ -z $output ]]; then
    output=$root/benchmarks/results/gpu
    [[ $device != cpu ]] || output=$work/results
fi
mkdir -p "$output" && output=$(cd "$output" && pwd) || exit 2
[[ -z $wheels ]] || wheels=$(cd "$wheels" && pwd) || exit 2
[[ -z $pack ]] || pack=$(realpath -m "$pack")
cd "$root" || exit 2
logs=$output/logs done=$work/done-$device
mkdir -p "$logs" "$done" "$work/site" || exit 2
limit=$(awk "BEGIN { print int(60 * $minutes) }")
deadline=$limit # seconds after which no stage starts; changed below
SECONDS=0 failed=0

note() { printf '[%4d s] %s\n' "$SECONDS" "$*" | tee -a "$output/stages.txt"; }
packed() {
    [[ -n $pack ]] || return 0
    tar czf "$pack.$BASHPID" --exclude "${pack##*/}*" -C "$output" . && mv "$pack.$BASHPID" "$pack"
}
trap packed EXIT

# stage NAME SECONDS COMMAND...: runs a command, its output goes to logs/NAME.txt. A finished stage is not run again.
stage() {
    local name=$1 most=$(($2 * slower)) code began=$SECONDS; shift 2
    [[ ! -e $done/$name ]] || return 0
    ((deadline - SECONDS >= most)) || most=$((deadline - SECONDS))
    if ((most < 10)); then note "$name: skipped, the time is up"; return 1; fi
    timeout --signal INT --kill-after 20 "$most" "$@" >"$logs/$name.txt" 2>&1
    code=$?
    note "$name: exit code $code after $((SECONDS - began)) s"
    if ((code == 0)); then
        touch "$done/$name"
    else
        ((code != 124 && code != 137)) || note "$name: stopped after $most s"
        tail -15 "$logs/$name.txt" | cut -c1-200
    fi
    packed
    return "$code"
}

has() { "$python" -c 'import importlib.util as u, sys; sys.exit(u.find_spec(sys.argv[1]) is None)' "$1"; }

if [[ -n $wheels && ! -e $done/wheels ]]; then
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --upgrade --target "$work/site" "$wheels"/*.whl || exit 2
    touch "$done/wheels"
fi
# the links in .pyright make the package importable without its being installed
export PYTHONPATH=$work/site:$root/.pyright:$root${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
if ! "$python" -c 'import importlib.metadata as m; m.version("pnp-ovss")' 2>/dev/null; then
    version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml) # exports are stamped with it
    mkdir -p "$work/site/pnp_ovss-$version.dist-info"
    printf 'Metadata-Version: 2.1\nName: pnp-ovss\nVersion: %s\n' "$version" >"$work/site/pnp_ovss-$version.dist-info/METADATA"
fi
needed=(msgspec platformdirs click tokenizers torch transformers onnx onnx_ir onnxruntime safetensors matplotlib filelock scipy)
[[ $device == cpu ]] || needed+=(cupy pytest hypothesis)
missing=$(for name in "${needed[@]}"; do has "$name" || printf ' %s' "$name"; done)
if [[ -n $missing ]]; then
    echo "$("$python" -c 'import sys; print(sys.executable)') lacks the modules:$missing; install them, or bring wheels: --wheels DIR" >&2
    exit 2
fi
command -v c++ >/dev/null || { echo "there is no C++ compiler: install one (apt install g++)" >&2; exit 2; }
if [[ $device != cpu ]] && ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    echo "PyTorch finds no GPU: check the driver with nvidia-smi" >&2
    exit 2
fi

note "begun, for $minutes minutes: $model on $device"
headers=$("$python" - <<'PYTHON'
from pnp_ovss.engine.errors import BackendError
from pnp_ovss.export.build.cuda_toolkit import find_toolkit

try:
    print(find_toolkit())
except BackendError as error:
    print("AOTInductor will compile nothing for a GPU:", error)
PYTHON
)
note "CUDA's headers: $headers"

machine() {
    nvidia-smi
    nvcc --version
    c++ --version
    lscpu
    "$python" -m pip list --format freeze
    "$python" - <<'PYTHON'
import torch

print("CUDA of PyTorch", torch.version.cuda, "float32 products", torch.get_float32_matmul_precision())
PYTHON
    echo "CUDA's headers: $headers"
}
machine >"$output/machine.txt" 2>&1 &
# The tests compare with the dense CRF in C++, which is built unless the clone has it.
if ! ls kernels/_densecrf*.so >/dev/null 2>&1; then
    flags=(-std=c++17 -O3 -ffp-contract=fast -fno-math-errno -fvisibility=hidden -Wno-psabi -pthread -shared -fPIC)
    stage densecrf 60 c++ "${flags[@]}" -o kernels/_densecrf.abi3.so kernels/cpu/densecrf.cpp kernels/cpu/loops.cpp
fi

# 1. Stages that are not timed, several at the same time: the tests, and the packages of both graphs of each model.
# The deadline leaves time for the most important timed stages.
folder() { echo "$work/${model//:/-}-$1"; }
export_model() { # SIZE
    stage "export-$1" 120 "$python" -m benchmarks prepare --model $model --image-size "$1" --work "$work"
}
package() { # NAME FOLDER PRECISION GRAPH
    # several builds run at once, each with so many processes for its kernels
    stage "packages-$1-$4" 280 env TORCHINDUCTOR_COMPILE_THREADS=4 "$python" -c 'import sys; from pnp_ovss.engine.cli import main; sys.exit(main(sys.argv[1:]))' \
        build "$2" --target aotinductor --precision "$3" --device $device --graph "$4"
}
packages() { # NAME FOLDER PRECISION
    package "$1" "$2" "$3" vision & local vision=$!
    package "$1" "$2" "$3" salience
    wait "$vision"
}
built() { # NAME
    [[ -e $done/packages-$1-vision && -e $done/packages-$1-salience ]]
}
deadline=$((limit * 11 / 20))
if [[ $device != cpu ]]; then
    stage tests 270 "$python" -m pytest -m gpu -q -rs --durations 12 -p no:cacheprovider \
        tests/kernels tests/engine tests/export &
fi
{ [[ -d $work/demo ]] || cp -r engine/data/demo "$work/demo"; } && packages demo "$work/demo" fp32 &
(
    export_model $size && packages $size "$(folder $size)" bf16
    # this export reads the checkpoint that the first export made
    [[ -z $large ]] || { export_model $large && packages $large "$(folder $large)" bf16; }
) &
wait
[[ ! -e $logs/tests.txt ]] || tail -25 "$logs/tests.txt" | cut -c1-200

# 2. Timed stages, one at a time.
deadline=$limit
measure() { # NAME SECONDS SUBCOMMAND OPTIONS...: results go to a folder of that name
    local name=$1 most=$2; shift 2
    [[ -d $output/$name ]] || rm -f "$done/$name" # the results are in another --output
    stage "$name" "$most" "$python" -m benchmarks "$@" --device $device -o "$output/$name"
}
passes() { # NAME SECONDS ROUNDS SIZE CONTENDERS...; without contenders that are not built: the stage is then not done
    local name=$1 most=$2 rounds=$3 px=$4 contender left all=1 options=(); shift 4
    for contender; do
        case $contender in
            aotinductor-bf16) built "$px" || { all=; continue; } ;;
            aotinductor-fp16) built "$px-fp16" || { all=; continue; } ;;
        esac
        options+=(--contender "$contender")
    done
    left=$((deadline - SECONDS < most * slower ? deadline - SECONDS : most * slower))
    measure "$name" "$most" passes --model $model --image-size "$px" "${batches[@]}" --rounds "$rounds" --work "$work" \
        --minutes "$(awk "BEGIN { print ($left - 15) / 60 }")" "${options[@]}"
    [[ -n $all ]] || { note "$name: without AOTInductor, as it is not built"; rm -f "$done/$name"; }
}
case=(--model $model --image-size $size --work "$work")
passes passes-$size 100 10 $size eager-fp32 eager-bf16 aotinductor-bf16
! built demo || measure agreement 60 agreement --work "$work" --contender aotinductor-fp32
if built $size; then
    measure end-to-end 110 end-to-end "${case[@]}" --drop-mode pixels --contender lean --contender aotinductor-bf16 --rounds 9
    measure kernel-times 60 kernel-times "${case[@]}" --contender aotinductor-bf16
fi
passes passes-$size-compiled 180 10 $size eager-fp32 eager-bf16 compile-bf16
measure kernels 60 kernels --rounds 5
[[ -z $large ]] || ! built $large || passes passes-$large 100 5 $large eager-fp32 eager-bf16 aotinductor-bf16
packages $size-fp16 "$(folder $size)" fp16
! built $size-fp16 || passes passes-$size-fp16 90 10 $size eager-fp32 eager-fp16 aotinductor-fp16

wanted=(export-$size packages-{demo,$size,$size-fp16}-{vision,salience})
wanted+=(passes-$size{,-compiled,-fp16} agreement end-to-end kernel-times kernels)
[[ -z $large ]] || wanted+=(export-$large packages-$large-{vision,salience} passes-$large)
[[ $device == cpu ]] || wanted+=(tests)
for name in "${wanted[@]}"; do
    [[ -e $done/$name ]] || { note "not done: $name"; failed=1; }
done
note "results are in $output"
exit $failed
