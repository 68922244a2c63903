#!/usr/bin/env bash
# On a machine with a GPU, without a network, torch and PyYAML there: every form of the step against the plain one, then
# the table of benchmarks/step_device.py, in under 8 minutes. `gpu_smoke.sh cpu` shows on any machine that it runs.
# PYTHON chooses the interpreter. Ends with 1 if a check failed; the table is printed all the same.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2
device=${1:-cuda}
python=${PYTHON:-python3}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
export TORCHINDUCTOR_CACHE_DIR="${TORCHINDUCTOR_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/electra/kernels}"
status=0
timeout 170 "$python" benchmarks/device_check.py --device "$device" || status=1
if [ "$device" = cpu ]; then
    timeout 290 "$python" benchmarks/step_device.py --device cpu --shape small --batch 2 --seq 64 --ways eager || status=1
else
    # A case that has begun is finished, so the last one must begin well before the end.
    timeout 290 "$python" benchmarks/step_device.py --device "$device" --seconds 200 || status=1
fi
exit "$status"
