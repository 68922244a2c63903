"""JSON lines: an object a line. A broken file of labelled examples is mended, not passed over: the first bad line ends
the stage.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.base.errors import UserError
from pipeline.tasks.formats.fields import SURROGATE, check_record, kind_of
from pipeline.tasks.formats.files import BOM, read_bytes, utf8_advice


def read_json_lines(path: Path, advice: str = "") -> Iterator[tuple[int, dict[str, Any]]]:
    """Objects of the file with their line numbers, from 1. Blank lines are no records; BOM and CRLF are accepted.

    advice: what else to do about a line that is no JSON. Raises UserError.
    """
    data = read_bytes(path)
    for number, line in enumerate(data.removeprefix(BOM).split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            where = f"{error.reason} at byte {error.start} of the line"
            raise UserError(f"{path}:{number}: not UTF-8 ({where}). {utf8_advice(data)}") from None
        except (ValueError, RecursionError) as error:
            fault = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
            raise UserError(f"{path}:{number}: broken JSON ({fault}). Each line is one object{advice}.") from None
        if not isinstance(record, dict):
            raise UserError(f"{path}:{number}: not a JSON object, but {kind_of(record)}. Each line is one object.")
        if SURROGATE.encode() in line.lower():
            check_record(record, f"{path}:{number}")
        yield number, record
