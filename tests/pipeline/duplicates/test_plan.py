"""The plan is read once in a process, and another run's in the same place is not taken for it."""

from pathlib import Path

import numpy as np

from pipeline.base.files import write_json
from pipeline.duplicates.plan import load_plan


def write_plan(out: Path, starts: list[int]) -> None:
    """A plan of one source after the other, in its two files."""
    out.mkdir(exist_ok=True)
    np.save(out / "starts.npy", np.array([starts, starts]))
    sizes = {"parts": 0, "unit": 1 << 16, "paragraph_unit": 1 << 20, "buckets": {"documents": 1}}
    write_json(out / "plan.json", sizes | {"results": ["documents"]})


def test_a_plan_is_read_once_until_it_is_another(tmp_path: Path) -> None:
    write_plan(tmp_path / "one", [0, 3, 9])
    first = load_plan(tmp_path / "one")
    assert load_plan(tmp_path / "one") is first
    write_plan(tmp_path / "two", [0, 1, 9])
    assert load_plan(tmp_path / "two").documents.tolist() == [0, 1, 9]
    write_plan(tmp_path / "one", [0, 4, 9])
    assert load_plan(tmp_path / "one").documents.tolist() == [0, 4, 9]
    assert load_plan(tmp_path / "one").results == ("documents",)
