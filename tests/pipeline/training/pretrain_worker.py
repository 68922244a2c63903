"""Runs the pretrain stage once for each argument list of a JSON file, in one process: imports are paid once a rank."""

import json
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[3])

from pipeline.command import main  # noqa: E402

for arguments in json.loads(Path(sys.argv[1]).read_text()):
    code = main("pretrain", arguments)
    if code:
        sys.exit(code)
