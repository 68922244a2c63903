"""DeepSpeed's JSON from the run's config: what the trainer owns is filled in; a contradiction names both keys.

Imports no DeepSpeed but where it says so: a mistake is told before those seconds.
"""

import math
from typing import Any

from pydantic import ValidationError

from pipeline.base.config import RunConfig
from pipeline.base.errors import UserError
from pipeline.training.deepspeed_keys import check_keys

OTHERS_TASK = {
    "optimizer": "optimizer.* sets the optimizer",
    "scheduler": "schedule.* sets the learning rate",
    "torch_autocast": "train.precision sets the precision, and the networks open autocast themselves",
    "amp": "train.precision sets the precision",
    "data_efficiency": "data.* sets the order of the data",
    "curriculum_learning": "data.* sets the order of the data",
    "checkpoint": "checkpoints are the trainer's own",
    "pipeline": "the networks are not cut into pipeline stages",
    "tensor_parallel": "the networks are not cut into tensor-parallel parts",
    "sequence_parallel_size": "sequences are not cut over ranks",
    "elasticity": "train.batch_size does not depend on the number of ranks as it is",
}
"""Keys of DeepSpeed that would do a task twice, and who does it here."""

LARGEST_BUCKET = 500_000_000
"""DeepSpeed's own zero_optimization.reduce_bucket_size, in elements."""


def largest_share(batch_size: int, world: int) -> int:
    """Sequences of a global batch on the rank that has most; shares differ by one at most."""
    return math.ceil(batch_size / world)


def micro_size(config: RunConfig, world: int) -> int:
    """Most sequences that one forward takes; of auto, which a run replaces at its start, the most it can become."""
    share, given = largest_share(config.train.batch_size, world), config.train.micro_batch_size
    return min(given, share) if isinstance(given, int) else share


def micro_steps(config: RunConfig, world: int) -> int:
    """Forwards of an update: the same on every rank, so that every rank joins the same collectives."""
    return math.ceil(largest_share(config.train.batch_size, world) / micro_size(config, world))


def zero_stage(config: RunConfig) -> int:
    """ZeRO stage, 0 to 3. Raises UserError."""
    block = config.deepspeed.get("zero_optimization", {})
    if not isinstance(block, dict):
        raise UserError("deepspeed.zero_optimization must be a mapping, such as {stage: 1}.")
    stage = block.get("stage", 0)
    if isinstance(stage, bool) or not isinstance(stage, int) or stage not in range(4):
        raise UserError(f"deepspeed.zero_optimization.stage is {stage!r}; it must be 0, 1, 2 or 3.")
    return stage


def check_zero_block(config: RunConfig) -> None:
    """UserError for what DeepSpeed refuses in deepspeed.zero_optimization. Imports DeepSpeed, which takes seconds."""
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    try:
        DeepSpeedZeroConfig(**config.deepspeed.get("zero_optimization", {}))
    except ValidationError as error:
        raise refused_by_deepspeed(error) from None


def refused_by_deepspeed(error: ValidationError) -> UserError:
    """DeepSpeed's own check of a section, in one message."""
    wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
    return UserError(f"DeepSpeed refuses the deepspeed block of the config ({error.title}): {wrong}.")


def check_batch(config: RunConfig, world: int) -> None:
    """UserError when some rank would have no sequence."""
    batch = config.train.batch_size
    if batch < world:
        raise UserError(
            f"train.batch_size {batch} is smaller than the {world} ranks: each needs a sequence. "
            f"Raise it to {world} or more, or start fewer ranks."
        )


def deepspeed_config(
    config: RunConfig, world: int, parameters: int | None = None, device: str | None = None
) -> dict[str, Any]:
    """DeepSpeed's whole config for `world` ranks. UserError for a contradiction, a bad stage or too small a batch.

    parameters, device: their number and the kind of device, where they are known: for what the exchange is tuned by.
    """
    check_batch(config, world)
    zero_stage(config)
    given = config.deepspeed
    check_keys(given)
    for key, why in OTHERS_TASK.items():
        if _enabled(given.get(key)):
            raise UserError(f"deepspeed.{key} cannot be set: {why}. Delete it.")
    offload = given.get("zero_optimization", {}).get("offload_optimizer") or {}
    if isinstance(offload, dict) and offload.get("device") == "nvme":
        raise UserError(
            "deepspeed.zero_optimization.offload_optimizer.device nvme is not supported: checkpoints read the moments "
            "by name. Use cpu or none."
        )
    if given.get("zero_optimization", {}).get("compute_grad_norm") is False:
        raise UserError(
            "deepspeed.zero_optimization.compute_grad_norm false leaves no norm to clip by (optimizer.clip "
            f"{config.optimizer.clip}) and no check that gradients are finite. Delete the key."
        )
    for key in ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps"):
        if config.train.micro_batch_size == "auto" and given.get(key) not in (None, "auto"):
            raise UserError(
                f"deepspeed.{key} {given[key]!r} does not go with train.micro_batch_size auto, which finds it. "
                f"Delete deepspeed.{key}, or set train.micro_batch_size to a number."
            )
    for key, value, origin in _owned(config, world):
        _check_agreement(key, given.get(key), value, origin)
    micro, steps = micro_size(config, world), micro_steps(config, world)
    filled: dict[str, Any] = {
        "train_batch_size": micro * steps * world,  # DeepSpeed's count, places left empty included
        "train_micro_batch_size_per_gpu": micro,
        "gradient_accumulation_steps": steps,
        "gradient_clipping": config.optimizer.clip,
        "fp16": {**(given.get("fp16") or {}), "enabled": config.train.precision == "fp16"},
        "bf16": {"enabled": False},  # bf16 is autocast over fp32 parameters: the same numbers at every ZeRO stage
        "steps_per_print": 2**62,  # the loop logs
        "zero_allow_untested_optimizer": True,
    }
    if parameters is not None and zero_stage(config) > 0:
        filled["zero_optimization"] = {**_exchange(config, parameters, device), **given["zero_optimization"]}
    return {"zero_force_ds_cpu_optimizer": False, **given, **filled}


def _exchange(config: RunConfig, parameters: int, device: str | None) -> dict[str, Any]:
    """How gradients are exchanged, where the config leaves it open.

    The buffer need not be larger than they are: DeepSpeed's default takes 2 GB, which a CPU's system hands out anew at
    each step. A CPU also does without their copies into one buffer as they come, which save a GPU's memory from
    fragments; with an offloaded optimizer DeepSpeed needs them.
    """
    chosen: dict[str, Any] = {"reduce_bucket_size": min(parameters, LARGEST_BUCKET)}
    offloaded = config.deepspeed["zero_optimization"].get("offload_optimizer")
    if device == "cpu" and zero_stage(config) < 3 and not offloaded:
        chosen["contiguous_gradients"] = False
    return chosen


def _owned(config: RunConfig, world: int) -> list[tuple[str, Any, str]]:
    """What the trainer owns: DeepSpeed's key, the value that agrees with the config, our key that it comes from."""
    train, micro = config.train, f"train.micro_batch_size {config.train.micro_batch_size}"
    precision = f"train.precision {train.precision}"
    return [
        ("train_batch_size", train.batch_size, f"train.batch_size {train.batch_size}"),
        ("train_micro_batch_size_per_gpu", micro_size(config, world), micro),
        (
            "gradient_accumulation_steps",
            micro_steps(config, world),
            f"train.batch_size {train.batch_size} and {micro} on {world} ranks",
        ),
        ("gradient_clipping", config.optimizer.clip, f"optimizer.clip {config.optimizer.clip}"),
        ("fp16", {"enabled": train.precision == "fp16"}, precision),
        ("bf16", {"enabled": train.precision == "bf16"}, precision),
        ("bfloat16", {"enabled": train.precision == "bf16"}, precision),
        ("steps_per_print", train.log_every, f"train.log_every {train.log_every}"),
        ("zero_allow_untested_optimizer", True, f"optimizer.name {config.optimizer.name}"),
    ]


def _check_agreement(key: str, given: Any, value: Any, origin: str) -> None:
    if given is None or given == "auto":
        return
    if isinstance(value, dict) and isinstance(given, dict):
        for inner in value:
            _check_agreement(f"{key}.{inner}", given.get(inner), value[inner], origin)
    elif isinstance(given, bool) != isinstance(value, bool) or given != value:
        raise UserError(
            f"deepspeed.{key} {given!r} contradicts {origin}, which makes it {value!r}. "
            f"Delete deepspeed.{key}: it is filled in from the run's config."
        )


def _enabled(block: Any) -> bool:
    return bool(block.get("enabled", True)) if isinstance(block, dict) and block else bool(block)
