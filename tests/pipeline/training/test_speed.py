"""What is told of a run's speed."""

import re
from pathlib import Path

from pipeline.base.log import setup_logging
from pipeline.base.run_folder import RunFolder
from pipeline.training.speed import Speed


def test_the_first_step_tells_how_long_the_start_took(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    setup_logging(folder)
    speed = Speed()
    for _ in range(3):
        speed.stepped()
    told = re.findall(
        r"first step after (\d+\.\d) s, the last (\d+\.\d) of them", (folder.log / "rank-0.log").read_text()
    )
    assert len(told) == 1
    whole, own = map(float, told[0])
    assert whole >= own
    assert speed.steps == 3
