"""Parts of a run are killed in every pass, on a real Ray: the same command goes on to the same bytes, nothing twice."""

import json
import random
import time
from pathlib import Path

import pytest

from benchmarks.kills import CLEAN, SETTINGS, Kill, Trial, Watch, compare, follow, strike
from tests.corpora import make_texts
from tests.in_process import life

KILLS = [
    Kill("reading", 0.2, "worker"),
    Kill("tokenising", 0.3, "head"),  # the driver too
    Kill("shards", 0.3, "raylet"),
]
CODES = {"worker": None, "head": -9, "raylet": 75}


@pytest.mark.slow
def test_killed_in_every_pass(tmp_path: Path) -> None:
    lines = [json.dumps({"text": text}) for text in make_texts(3, 3000)]
    (tmp_path / "corpus.jsonl").write_text("\n".join([*lines, "{", *lines[:500]]))
    own = [f"corpus.paths=[{tmp_path / 'corpus.jsonl'}]", f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}"]
    sizes = ["tokenizer.vocab_size=700", "corpus.task_bytes=12000", "data.shard_blocks=2"]
    settings = [*SETTINGS, *sizes, *own, "ray.num_cpus=2", CLEAN[-1]]
    whole, killed = (Trial(tmp_path / name, settings, tmp_path / f"{name}.log") for name in ("whole", "killed"))
    assert life([f"run_dir={whole.run_dir}", *settings], tmp_path / "begun", 0) == 0
    (tmp_path / "killed.log").touch()
    watch, plan, draw = Watch(killed, whole.logged()), list(KILLS), random.Random(0)
    code: int | None = None
    while code != 0:
        watch.restart()
        child = killed.start()
        while child.poll() is None:
            time.sleep(0.02)
            if plan and watch.reached(plan[0]) and strike(child.pid, plan[0].kind, draw):
                outcome = follow(killed, child, plan.pop(0))
                assert outcome.code == CODES[outcome.kill.kind], killed.end_of_log()
        code = child.returncode
        assert code in (0, 75, -9), killed.end_of_log()
    assert not plan, "the run has ended before all kills"
    assert killed.starts == 3
    files, differs = compare(killed, whole)
    assert files > 50
    assert not differs
    assert set(killed.tasks().values()) == {1}
