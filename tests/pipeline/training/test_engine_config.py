"""DeepSpeed's JSON: what is filled in, and that contradictions name both keys."""

import re
from typing import Any

import pytest

from pipeline.base.config import RunConfig
from pipeline.base.errors import UserError
from pipeline.stream.order import share
from pipeline.training.engine_config import deepspeed_config, largest_share, micro_size, micro_steps


def config(deepspeed: dict[str, Any] | None = None, **train: Any) -> RunConfig:
    return RunConfig(deepspeed=deepspeed or {}, train={"batch_size": 10, "precision": "fp32"} | train)


@pytest.mark.parametrize("batch", [1, 2, 7, 10, 64])
@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("micro", [None, 1, 3, 100])
def test_micro_steps_hold_every_share(batch: int, world: int, micro: int | None) -> None:
    if batch < world:
        return
    run = config(batch_size=batch, micro_batch_size=micro)
    sizes = [len(share(batch, rank, world)) for rank in range(world)]
    assert largest_share(batch, world) == max(sizes)
    assert (
        (micro_steps(run, world) - 1) * micro_size(run, world)
        < max(sizes)
        <= micro_steps(run, world) * micro_size(run, world)
    )
    filled = deepspeed_config(run, world)
    assert filled["train_batch_size"] == (
        filled["train_micro_batch_size_per_gpu"] * filled["gradient_accumulation_steps"] * world
    )


def test_other_keys_pass_through_verbatim() -> None:
    zero = {"stage": 2, "offload_optimizer": {"device": "cpu"}, "reduce_bucket_size": 1000}
    filled = deepspeed_config(config({"zero_optimization": zero, "communication_data_type": "fp32"}), 2)
    assert filled["zero_optimization"] == zero
    assert filled["communication_data_type"] == "fp32"
    assert filled["gradient_clipping"] == 1.0
    assert filled["zero_allow_untested_optimizer"] is True


@pytest.mark.parametrize(
    ("zero", "parameters", "bucket"),
    [
        ({"stage": 1}, 14_000_000, 14_000_000),
        ({"stage": 3}, 2_000_000_000, 500_000_000),
        ({"stage": 2, "reduce_bucket_size": 1000}, 14_000_000, 1000),
        ({"stage": 1}, None, None),
        ({"stage": 0}, 14_000_000, None),
    ],
)
def test_the_gradients_buffer_is_no_larger_than_they_are(
    zero: dict[str, int], parameters: int | None, bucket: int | None
) -> None:
    filled = deepspeed_config(config({"zero_optimization": zero}), 2, parameters)
    assert filled["zero_optimization"].get("reduce_bucket_size") == bucket
    assert filled["zero_optimization"]["stage"] == zero["stage"]


@pytest.mark.parametrize(
    ("zero", "device", "expected"),
    [
        ({"stage": 1}, "cpu", False),
        ({"stage": 2}, "cpu", False),
        ({"stage": 2, "contiguous_gradients": True}, "cpu", True),
        ({"stage": 2, "offload_optimizer": {"device": "cpu"}}, "cpu", None),
        ({"stage": 3}, "cpu", None),
        ({"stage": 2}, "cuda", None),
    ],
)
def test_a_cpu_does_not_copy_gradients_together_as_they_come(
    zero: dict[str, Any], device: str, expected: bool | None
) -> None:
    filled = deepspeed_config(config({"zero_optimization": zero}), 2, 1000, device)
    assert filled["zero_optimization"].get("contiguous_gradients") == expected


def test_bf16_is_autocast_over_fp32_parameters() -> None:
    filled = deepspeed_config(config(precision="bf16"), 1)
    assert filled["bf16"] == {"enabled": False}
    assert filled["fp16"] == {"enabled": False}


def test_fp16_keeps_the_users_loss_scale_settings() -> None:
    filled = deepspeed_config(config({"fp16": {"loss_scale_window": 50}}, precision="fp16"), 1)
    assert filled["fp16"] == {"enabled": True, "loss_scale_window": 50}


@pytest.mark.parametrize(
    ("block", "named"),
    [
        ({"gradient_clipping": 0.5}, ("deepspeed.gradient_clipping", "optimizer.clip")),
        ({"train_batch_size": 11}, ("deepspeed.train_batch_size", "train.batch_size")),
        ({"train_micro_batch_size_per_gpu": 3}, ("deepspeed.train_micro_batch_size_per_gpu", "train.micro_batch_size")),
        ({"gradient_accumulation_steps": 4}, ("deepspeed.gradient_accumulation_steps", "train.batch_size")),
        ({"fp16": {"enabled": True}}, ("deepspeed.fp16.enabled", "train.precision")),
        ({"bf16": {"enabled": True}}, ("deepspeed.bf16.enabled", "train.precision")),
        ({"steps_per_print": 7}, ("deepspeed.steps_per_print", "train.log_every")),
        ({"optimizer": {"type": "Adam"}}, ("deepspeed.optimizer", "optimizer.*")),
        ({"scheduler": {"type": "WarmupLR"}}, ("deepspeed.scheduler", "schedule.*")),
        ({"torch_autocast": {"enabled": True}}, ("deepspeed.torch_autocast", "train.precision")),
        ({"zero_optimization": {"stage": 4}}, ("deepspeed.zero_optimization.stage", "0, 1, 2 or 3")),
        ({"zero_optimization": {"stage": "two"}}, ("deepspeed.zero_optimization.stage", "0, 1, 2 or 3")),
        ({"gradient_cliping": 1.0}, ("deepspeed.gradient_cliping", "deepspeed.gradient_clipping")),
        ({"zero_optimization": 2}, ("deepspeed.zero_optimization", "mapping")),
        (
            {"zero_optimization": {"stage": 1, "compute_grad_norm": False}},
            ("deepspeed.zero_optimization.compute_grad_norm", "optimizer.clip"),
        ),
        (
            {"zero_optimization": {"stage": 1, "offload_optimizer": {"device": "nvme"}}},
            ("deepspeed.zero_optimization.offload_optimizer.device", "cpu"),
        ),
    ],
)
def test_contradictions_name_both_keys(block: dict[str, Any], named: tuple[str, str]) -> None:
    with pytest.raises(UserError) as error:
        deepspeed_config(config(block), 2)
    for key in named:
        assert key in str(error.value)


def test_agreeing_values_are_no_contradiction() -> None:
    block = {"gradient_clipping": 1.0, "train_batch_size": 10, "fp16": {"enabled": False}, "steps_per_print": 100}
    deepspeed_config(config(block | {"train_micro_batch_size_per_gpu": "auto"}), 3)


def test_a_batch_smaller_than_the_ranks() -> None:
    with pytest.raises(UserError, match=re.escape("train.batch_size 10 is smaller than the 11 ranks")):
        deepspeed_config(config(), 11)
