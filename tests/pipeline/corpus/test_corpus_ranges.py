"""Any cut of a file into tasks gives the same records with the same line numbers as reading it whole."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipeline.corpus.files import find_files
from pipeline.corpus.records import Tally
from pipeline.corpus.tasks import plan_tasks, read_span

LIMIT = 40
QUICK = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
BOM = b"\xef\xbb\xbf"
BLANK = [b"", b" \t", b"\r", "\u3000\u00a0".encode(), BOM]
LINES = st.sampled_from([*BLANK, b"word", b"two words\r", "漢字".encode(), b"bad \xff", b"x" * 45])
GOOD_JSON = [b'{"text": "one"}', BOM + b'{"text": "two"}\r']
BAD_JSON = [b'{"text": 3}', b"{broken", b'{"text": "\\ud800"}', b'{"text": "\xff"}', b'["text"]', b'{"txt": "no"}']
LONG_JSON = json.dumps({"text": "long " * 20}).encode()
JSON_LINES = st.sampled_from([b"", b"  ", b"\r", *GOOD_JSON, *BAD_JSON, LONG_JSON])


def records(path: Path, task_bytes: int) -> list[tuple[int, str | None, str | None]]:
    """(line, text, reason) of every record, with absolute lines, read task by task."""
    found = []
    before: Counter[str] = Counter()
    for task in plan_tasks(find_files([str(path)]), task_bytes):
        for span in task.spans:
            tally = Tally()
            for record in read_span(span, "text", LIMIT, tally):
                found.append((before[span.file.path] + record.line, record.text, record.reason))
            before[span.file.path] += tally.lines
    return found


def expected_documents(content: bytes) -> list[tuple[int, str | None]]:
    """(line, text or None where the document is bad), by a plain reading of the rules."""
    found: list[tuple[int, str | None]] = []
    lines: list[bytes] = []
    for number, line in enumerate([*content.split(b"\n"), b""], start=1):
        visible = line.removeprefix(BOM).removesuffix(b"\r")
        if visible.decode(errors="replace").strip():
            lines.append(visible)
        elif lines:
            joined = b"\n".join(lines)
            size = sum(len(one) + 1 for one in content.split(b"\n")[number - 1 - len(lines) : number - 1]) - 1
            good = size <= LIMIT and b"\xff" not in joined
            found.append((number - len(lines), joined.decode() if good else None))
            lines = []
    return found


@QUICK
@given(lines=st.lists(LINES, max_size=12), newline=st.booleans(), task_bytes=st.integers(1, 80))
@example(lines=[b"a"], newline=False, task_bytes=1)
def test_text_ranges(tmp_path: Path, lines: list[bytes], newline: bool, task_bytes: int) -> None:
    content = b"\n".join(lines) + b"\n" * newline
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    found = records(path, task_bytes)
    assert [(line, text) for line, text, _ in found] == expected_documents(content)
    assert all((text is None) != (reason is None) for _, text, reason in found)


@QUICK
@given(lines=st.lists(JSON_LINES, max_size=12), newline=st.booleans(), task_bytes=st.integers(1, 120))
def test_json_line_ranges(tmp_path: Path, lines: list[bytes], newline: bool, task_bytes: int) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n" * newline)
    whole = records(path, 1 << 20)
    assert records(path, task_bytes) == whole
    assert [line for line, _, _ in whole] == [number for number, line in enumerate(lines, 1) if line.strip()]
    assert [text for _, text, _ in whole if text] == [
        json.loads(line.decode("utf-8-sig"))["text"] for line in lines if line in GOOD_JSON
    ]


def test_one_record_over_many_ranges(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"first\n\n" + b"y" * 30 + b"\n" + b"z" * 500 + b"\n\nlast")
    found = records(path, 7)
    assert [(line, text) for line, text, _ in found] == [(1, "first"), (3, None), (6, "last")]
    assert found[1][2] == "too long: over corpus.max_record_bytes (40)"


def test_plan_does_not_exceed_the_task_size(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number:02d}.txt").write_bytes(b"x" * number * 10)
    (tmp_path / "big.jsonl").write_bytes(b"{}\n" * 500)
    tasks = list(plan_tasks(find_files([str(tmp_path)]), 400))
    assert all(task.weight <= 400 for task in tasks)
    assert sum(task.weight for task in tasks) == sum(range(30)) * 10 + 1500
    names = [span.file.name for task in tasks for span in task.spans]
    assert names == sorted(names)


@pytest.mark.parametrize("suffix", [".txt", ".jsonl"])
def test_empty_file_gives_no_task(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a{suffix}").touch()
    assert list(plan_tasks(find_files([str(tmp_path)]), 100)) == []
