"""A kept step run again: see `--help`. The stage itself is pipeline/stages/replay.py."""

import sys
from pathlib import Path

# A script's own folder comes first on the path, where its files would shadow installed packages of the same name.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from pipeline.command import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main("replay"))
