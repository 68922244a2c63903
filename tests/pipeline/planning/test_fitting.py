"""train.micro_batch_size: auto. The largest that fits, found once for a setting and kept."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.base.config import RunConfig, load_config
from pipeline.base.errors import UserError
from pipeline.base.files import read_json
from pipeline.base.free_memory import free_memory
from pipeline.base.run_folder import RunFolder
from pipeline.planning import fitting
from pipeline.planning.counts import nets_of, parameters
from pipeline.planning.fitting import PART, check_micro_batch, largest_fit, with_micro_batch
from pipeline.planning.memory import Sharding, memory_of
from pipeline.planning.micro import micro_of, one_document_a_row
from pipeline.training.engine_config import deepspeed_config
from pipeline.training.ranks import Ranks

VOCABULARY = 5000


def config(folder: Path, *changes: str) -> RunConfig:
    small = ("model.layers=2", "model.hidden_size=64", "model.heads=1", "model.ffn_size=128", "train.precision=fp32")
    sizes = ("train.batch_size=100", "train.micro_batch_size=auto", "data.sequence_length=64", f"run_dir={folder}")
    return load_config(None, [*small, *sizes, *changes])


def reckoned(given: RunConfig, rows: int) -> float:
    """Bytes of a rank with this many rows."""
    nets = nets_of("electra", given.model, VOCABULARY)
    micro = micro_of(given, one_document_a_row(rows, given.data.sequence_length))
    steps = -(-given.train.batch_size // rows)
    return memory_of(nets, micro, Sharding(1, 1, "fp32", parameters(nets), steps)).total


def has(monkeypatch: pytest.MonkeyPatch, size: float) -> None:
    monkeypatch.setattr(fitting, "free_memory", lambda: int(size))


@pytest.mark.parametrize("largest", range(8))
@pytest.mark.parametrize("most", [1, 2, 5, 7])
def test_the_largest_that_fits(largest: int, most: int) -> None:
    assert largest_fit(lambda rows: rows <= largest, most) == min(largest, most)


def test_as_much_as_the_memory_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = config(tmp_path)
    has(monkeypatch, (reckoned(given, 41) - 1) / PART)
    found = with_micro_batch(given, VOCABULARY, Ranks(), RunFolder(tmp_path))
    kept = read_json(tmp_path / "micro_batch.json")
    assert reckoned(given, kept["largest"]) <= reckoned(given, 41) - 1 < reckoned(given, kept["largest"] + 1)
    assert kept["largest"] == 40
    assert found.train.micro_batch_size == kept["micro_batch_size"] == 34  # 100 rows in 3 parts
    assert found == config(tmp_path, "train.micro_batch_size=34")


def test_a_share_that_fits_whole_is_taken_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, 1e12)
    assert with_micro_batch(config(tmp_path), VOCABULARY, Ranks(), RunFolder(tmp_path)).train.micro_batch_size == 100


def test_it_is_found_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = config(tmp_path)
    has(monkeypatch, reckoned(given, 20) / PART + 2)
    first = with_micro_batch(given, VOCABULARY, Ranks(), RunFolder(tmp_path))
    has(monkeypatch, 1e12)
    assert with_micro_batch(given, VOCABULARY, Ranks(), RunFolder(tmp_path)) == first
    other = config(tmp_path, "data.sequence_length=32")
    assert with_micro_batch(other, VOCABULARY, Ranks(), RunFolder(tmp_path)).train.micro_batch_size == 100


def test_a_number_is_left_as_it_is(tmp_path: Path) -> None:
    given = config(tmp_path, "train.micro_batch_size=7")
    assert with_micro_batch(given, VOCABULARY, Ranks(), RunFolder(tmp_path)) is given
    assert not list(tmp_path.iterdir())


def test_memory_that_holds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, 1e6)
    with pytest.raises(UserError, match=r"not even one sequence of 64 tokens fits in the 0\.0 GB that rank 0 may take"):
        with_micro_batch(config(tmp_path), VOCABULARY, Ranks(), RunFolder(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["LOCAL_WORLD_SIZE", "LOCAL_SIZE"])
def test_ranks_of_a_host_share_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    given = config(tmp_path)
    has(monkeypatch, 2 * reckoned(given, 25) / PART + 4)
    monkeypatch.setenv(name, "2")
    assert with_micro_batch(given, VOCABULARY, Ranks(), RunFolder(tmp_path)).train.micro_batch_size == 25


def test_a_card_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tries on a device whose memory ends at 30 rows, and which has room for DeepSpeed's part up to 27."""
    given = config(tmp_path)
    state = sum(parameter.numel() for parameter in fitting.make_objective(given, VOCABULARY).parameters())

    def taken(objective: Any, rows: int, *rest: Any) -> float:
        if rows > 30:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 1e6 * rows

    monkeypatch.setattr(fitting, "taken_on_card", taken)
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: None)
    fits = on_card(monkeypatch, given, 27e6 + 16 * state)  # moments, masters, DeepSpeed's buffer
    assert largest_fit(fits, 100) == 27
    assert largest_fit(on_card(monkeypatch, given, 1e9), 100) == 30


def on_card(monkeypatch: pytest.MonkeyPatch, given: RunConfig, free: float) -> Callable[[int], bool]:
    """The tries of a rank that believes to be on a card; the weights stay on this device."""
    ranks = Ranks()
    ranks.device = torch.device("cuda", 0)
    made = fitting.make_objective(given, VOCABULARY)
    monkeypatch.setattr(made, "to", lambda device: made)
    with monkeypatch.context() as patched:
        patched.setattr(fitting, "make_objective", lambda *_: made)
        return fitting.tried_fit(given, VOCABULARY, ranks, free)


@pytest.mark.parametrize("offload", [False, True])
def test_an_offloaded_optimizer_takes_nothing_of_a_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offload: bool
) -> None:
    zero = "deepspeed.zero_optimization={stage: 1, offload_optimizer: {device: cpu}}" if offload else "seed=0"
    given = config(tmp_path, zero)
    count = sum(parameter.numel() for parameter in fitting.make_objective(given, VOCABULARY).parameters())
    monkeypatch.setattr(fitting, "taken_on_card", lambda objective, rows, *rest: 1e6 * rows)
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: None)
    fits = on_card(monkeypatch, given, 10e6 + 4 * count)
    assert largest_fit(fits, 100) == (10 if offload else 0)


def test_gradients_are_held_where_an_update_has_several_micro_steps() -> None:
    """Of stages 0 and 1 whole, of stage 2 this rank's part."""
    given = config(Path("run"))
    nets = nets_of("electra", given.model, VOCABULARY)
    micro, whole = micro_of(given, one_document_a_row(50, 64)), 4 * parameters(nets)
    for stage, held in ((0, whole), (1, whole), (2, whole / 2)):
        one, two = (memory_of(nets, micro, Sharding(stage, 2, "fp32", 1, steps)) for steps in (1, 2))
        assert two.gradients + two.activations > one.gradients + one.activations
        assert two.gradients >= held


@pytest.mark.parametrize(
    ("changes", "cards", "message"),
    [
        (["train.compile=graphs"], False, "train.compile graphs"),
        (["deepspeed.zero_optimization.stage=3"], True, "deepspeed.zero_optimization.stage 3 on a GPU"),
        (["deepspeed.zero_optimization.stage=3"], False, None),
        (["objective.name=mlm"], True, None),
        (["train.compile=graphs", "train.micro_batch_size=4"], True, None),
    ],
)
def test_what_auto_does_not_go_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: list[str], cards: bool, message: str | None
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: cards)
    given = config(tmp_path, *changes)
    if message is None:
        check_micro_batch(given)
    else:
        with pytest.raises(UserError, match=re.escape(f"auto does not go with {message}")):
            check_micro_batch(given)


@pytest.mark.parametrize("key", ["train_micro_batch_size_per_gpu", "gradient_accumulation_steps"])
def test_deepspeeds_own_keys_do_not_go_with_auto(tmp_path: Path, key: str) -> None:
    with pytest.raises(UserError, match=f"deepspeed.{key} 4 does not go with train.micro_batch_size auto"):
        deepspeed_config(config(tmp_path, f"deepspeed.{key}=4"), 1)


def test_a_bucket_that_is_no_number(tmp_path: Path) -> None:
    given = config(tmp_path, "deepspeed.zero_optimization.reduce_bucket_size=lots")
    with pytest.raises(UserError, match="reduce_bucket_size is 'lots'; it must be a number"):
        with_micro_batch(given, VOCABULARY, Ranks(), RunFolder(tmp_path))


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/", {}, 4_096_000),
        ("0::/", {"memory.max": "max", "memory.current": "5"}, 4_096_000),
        ("0::/", {"memory.max": "3000", "memory.current": "9", "memory.stat": "anon 9\ninactive_file 5\n"}, 2996),
        ("0::/", {"memory.max": "3000", "memory.current": "4000"}, 0),
        ("0::/job/step", {"job/memory.max": "3000", "job/memory.current": "1000"}, 2000),
        ("0::/job/step", {"other/memory.max": "3000", "other/memory.current": "1000"}, 4_096_000),
        (
            "5:cpu,cpuacct:/\n4:memory:/job",
            {
                "memory/job/memory.limit_in_bytes": "2000000",
                "memory/job/memory.usage_in_bytes": "500000",
                "memory/job/memory.stat": "inactive_file 1\ntotal_inactive_file 7\n",
            },
            1_500_007,
        ),
        (
            "4:memory:/",
            {"memory/memory.limit_in_bytes": "9223372036854771712", "memory/memory.usage_in_bytes": "5"},
            4_096_000,
        ),
    ],
)
def test_free_memory_is_what_system_and_containers_leave(
    tmp_path: Path, groups: str, files: dict[str, str], expected: int
) -> None:
    wanted = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    wanted |= {"proc/meminfo": "MemTotal:  9000 kB\nMemAvailable:   4000 kB\n", "proc/self/cgroup": groups + "\n"}
    for name, text in wanted.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert free_memory(tmp_path) == expected


def test_a_system_that_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert free_memory(tmp_path) is None
    monkeypatch.setattr(fitting, "free_memory", lambda: None)
    with pytest.raises(UserError, match="does not tell how much memory is free"):
        with_micro_batch(config(tmp_path), VOCABULARY, Ranks(), RunFolder(tmp_path))
