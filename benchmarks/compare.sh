#!/usr/bin/env bash
# Compares two commits: the training step of each, run in turns.
#   benchmarks/compare.sh A B [--rounds N] [--margin SHARE] [--precision fp32|bf16] [key=value ...]
# Exit 0: B is not slower than A by more than the margin (default 0.05) beyond the spread of the ratios; 1: it is;
# 2: a mistake in the command line, with one message. Both run from work trees in a temporary folder, by this
# checkout's .venv; each answers for a fresh process. See benchmarks/compare.py.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$root/.venv/bin/python
[ -x "$python" ] || { echo "$python is missing: run make setup first" >&2; exit 2; }
exec "$python" "$root/benchmarks/compare.py" "$@"
