"""The list of jobs: what wins over what, which folders, and what is refused before any work."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.base.config import RunConfig, config_from_dict, load_config
from pipeline.base.errors import UserError
from pipeline.stages import finetune
from pipeline.tasks.families.base import open_task
from pipeline.tasks.identity import comparable
from pipeline.tasks.sweep import CURVE_UPDATES, is_sweep, plan_sweep

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
TASKS = sorted((CONFIGS / "tasks").glob("*.yaml"))
SWEEPS = sorted((CONFIGS / "sweeps").glob("*.yaml"))


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write("one.yaml", name="one", train="one.jsonl", dev="one.jsonl", epochs=7, lr=0.5, max_length=99)
    write("two.yaml", name="two", family="regression", train="two.jsonl", dev="two.jsonl", fields={"text": "a"})


def write(file: str, **section: Any) -> None:
    Path(file).write_text(yaml.safe_dump({"finetune": section}))


def sweep(*settings: str, **section: Any) -> RunConfig:
    write("sweep.yaml", **{"tasks": ["one.yaml", "two.yaml"], "export": "export", **section})
    return load_config(Path("sweep.yaml"), ["run_dir=run", *settings])


def refused(*settings: str, **section: Any) -> str:
    with pytest.raises(UserError) as caught:
        plan_sweep(sweep(*settings, **section))
    return str(caught.value)


def test_what_the_sweep_sets_wins_over_the_task_and_an_exception_over_both() -> None:
    config = sweep("finetune.lr=0.25", name="all", epochs=2, data_folder="data", task_settings={"two": {"epochs": 5}})
    one, two = (job.config.finetune for job in plan_sweep(config).jobs)
    assert (one.name, one.epochs, one.lr, one.max_length) == ("one", 2, 0.25, 99)
    assert (two.name, two.family, two.epochs, two.lr, two.max_length) == ("two", "regression", 5, 0.25, 128)
    assert two.fields.text == "a"
    assert one.train == str(Path("data/one.jsonl").resolve())
    assert one.export == str(Path("export").resolve())


def test_a_task_may_ask_for_the_linear_model_and_the_sweep_has_the_last_word() -> None:
    write("one.yaml", name="one", train="one.jsonl", dev="one.jsonl", bag_of_words=True)
    cases: list[tuple[dict[str, Any], list[bool]]] = [
        ({}, [True, False]),
        ({"train_examples": [8]}, [True, True]),
        ({"bag_of_words": False}, [False, False]),
        ({"bag_of_words": False, "task_settings": {"two": {"bag_of_words": True}}}, [False, True]),
    ]
    for settings, wanted in cases:
        planned = plan_sweep(sweep(**settings))
        assert [planned.counts_words(name) for name in ("one", "two")] == wanted, settings
        assert all(job.config.finetune.bag_of_words is None for job in planned.jobs)


def test_every_combination_has_a_folder_of_its_own_and_an_ordinary_config() -> None:
    exports = {"ours": {"path": "a"}, "random": {"path": "a", "weights": "random"}}
    jobs = plan_sweep(sweep("seed=4", exports=exports, seeds=2, train_examples=[32, 8])).jobs
    names = [job.name for job in jobs]
    assert len(set(names)) == len(names) == 2 * 2 * 2 * 2
    assert names[:3] == ["ours/one/examples-8/seed-4", "ours/one/examples-8/seed-5", "random/one/examples-8/seed-4"]
    job = jobs[2]
    assert job.target == Path("run").resolve() / "finetune" / job.name
    assert (job.config.seed, job.config.finetune.max_train_examples) == (4, 8)
    assert (job.config.finetune.weights, job.config.finetune.min_updates) == ("random", CURVE_UPDATES)
    assert job.config.train.threads == 1
    assert job.config.tracking.uri == f"sqlite:///{Path('mlflow.db').resolve()}"
    assert not is_sweep(job.config.finetune)
    again = config_from_dict(job.config.to_dict())
    assert comparable(again) == comparable(job.config)


def test_seeds_alone_need_no_task_file() -> None:
    write("sweep.yaml", name="toy", train="t", dev="d", seeds=3, export="export")
    config = load_config(Path("sweep.yaml"), ["run_dir=run"])
    assert [job.name for job in plan_sweep(config).jobs] == ["toy/seed-0", "toy/seed-1", "toy/seed-2"]
    assert not plan_sweep(config).nested
    assert not is_sweep(load_config(Path("sweep.yaml"), ["finetune.seeds=1"]).finetune)


def test_mistakes_are_told_before_any_work() -> None:
    assert "three.yaml" in refused("finetune.tasks=[one.yaml, three.yaml]")
    write("other.yaml", name="one", train="t", dev="d")
    assert "is also that of one.yaml" in refused(tasks=["one.yaml", "other.yaml"])
    Path("other.yaml").write_text("seed: 3\nfinetune: {name: x}\n")
    assert "sets seed" in refused(tasks=["other.yaml"])
    write("other.yaml", name="x", seeds=3)
    assert "finetune.seeds belongs to the sweep" in refused(tasks=["other.yaml"])
    write("other.yaml", train="t")
    assert "finetune.name is not set" in refused(tasks=["other.yaml"])
    write("other.yaml", name="x", epoch=3)
    assert "other.yaml:2: unknown key finetune.epoch" in refused(tasks=["other.yaml"])
    assert "task_settings.three: the sweep's tasks are one, two" in refused(task_settings={"three": {}})
    assert "task_settings.two.epochs" in refused(task_settings={"two": {"epochs": 0}})
    assert "task_settings.two.epoch" in refused(task_settings={"two": {"epoch": 1}})
    assert "task_settings.two.seeds" in refused(task_settings={"two": {"seeds": 1}})
    assert "'a/b' names a folder" in refused(exports={"a/b": {"path": "x"}})
    with pytest.raises(UserError, match=r"one\.jsonl does not exist"):
        finetune.plan(sweep())
    assert not Path("run").exists()


@pytest.mark.parametrize("path", TASKS, ids=lambda path: path.stem)
def test_each_task_file_is_a_task(path: Path) -> None:
    config = load_config(path)
    assert config.model_fields_set == {"finetune"}
    assert config.finetune.name == path.stem
    assert not is_sweep(config.finetune)
    assert path.read_text().startswith("# ")


def test_there_is_a_file_for_every_data_set() -> None:
    names = "sst2 cola chnsenticorp mrpc rte sts2015 sick conll2003 conll2000 msra_ner weibo_ner xquad_en xquad_zh"
    names += " cmrc2018 subjqa multi30k_en_de aeslc sts2015-embedding sick-embedding"
    assert {path.stem for path in TASKS} == set(names.split())


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_each_sweep_plans_all_its_jobs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CONFIGS.parent)
    config = load_config(path)
    sweep = plan_sweep(config)
    assert len(sweep.jobs) == len(config.finetune.tasks) * len(config.finetune.exports) * config.finetune.seeds


@pytest.mark.slow
@pytest.mark.parametrize("path", TASKS, ids=lambda path: path.stem)
def test_each_task_file_opens_its_data(path: Path, real_data: Path) -> None:
    task = open_task(load_config(path, [f"finetune.data_folder={real_data / 'bench'}"]).finetune)
    assert len(task.examples["train"]) > 500
    assert task.describe()
