"""Looks at one step from outside the objective: what the networks are given and give, gradients, weights, the update.

Promise: nothing of the step changes, no random number is drawn. Price: at the steps looked at, hooks on the networks, a
softmax, a pass over gradients and state, and two messages among the ranks; at all others nothing.
"""

import inspect
import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from model.objectives.base import Batch
from pipeline.health.checks import Call, check_sums, gradient_sums
from pipeline.health.facts import Expected, Facts, Parameters
from pipeline.training.engine import Engine
from pipeline.training.gradients import gradient_squares, state_sums
from pipeline.training.schedule import learning_rate
from pipeline.training.step import StepResult, add

KNOWN = ("electra", "mlm")
"""Objectives whose networks and losses the rules know."""
ROW_WEIGHT = 0x9E3779B97F4A7C15 - (1 << 64)


class Probe:
    """Of one step, on all ranks alike."""

    def __init__(self, engine: Engine, expected: Expected) -> None:
        self.engine, self.expected = engine, expected
        self.sums: dict[str, Tensor] = {}
        self.calls: dict[str, Call] = {}
        self.weight = 1.0
        """Of the coming micro-batch: 0 for one that only repeats a row."""
        self.squares: Tensor | None = None
        self.batch: Batch | None = None
        self.totals: dict[str, Tensor] = {}

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Around the micro-steps."""
        objective = self.engine.objective
        stance = torch.compiler.set_stance("force_eager") if self.engine.compiled else nullcontext()
        hooks = [objective.register_forward_hook(self._judge)]
        for name, network in objective.networks().items():
            hooks.append(network.register_forward_hook(self._note(name), with_kwargs=True))
        try:
            with stance:  # compiled code passes the networks' hooks by
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def before_update(self) -> None:
        """Between the last micro-step and the update."""
        self.squares = gradient_squares(self.engine)

    def facts(self, result: StepResult, step: int, before: int) -> Facts:
        """After the update: all of it, summed over the ranks. before: updates applied before the step. Collective."""
        engine, config = self.engine, self.engine.config
        updates = before + 1 - result.skipped
        rate = float(engine.engine.optimizer.param_groups[0]["lr"])  # which result.rate should be
        state = state_sums(engine, 0.0 if result.skipped else rate, updates)
        mine = {f"own/{key}": value for key, value in result.sums.items()}
        mine |= {f"look/{key}": value for key, value in self.sums.items()} | state
        mine["gradient"] = torch.zeros(len(engine.shapes)) if self.squares is None else self.squares
        mine["rows"] = self._row_hashes(result.batch)
        totals = engine.ranks.sum(mine)
        sums = {key.removeprefix("look/"): value for key, value in totals.items() if key.startswith("look/")}
        bias = sums.pop("generator/bias", None)
        numbers = {key: float(value) for key, value in sums.items()}
        if bias is not None:
            numbers["generator/bias_squares"] = float(bias.square().sum())
        reported = {k.removeprefix("own/"): float(v) for k, v in totals.items() if k.startswith("own/") and not v.ndim}
        return Facts(
            step=step,
            updates=updates,
            skipped=bool(result.skipped),
            loss=result.loss,
            rate=rate,
            schedule_rate=learning_rate(config.optimizer.lr, config.schedule, before, config.train.steps),
            sums=numbers,
            reported=reported,
            parameters=self._parameters(totals),
            untied=untied(engine.objective.networks()),
            settings=other_settings(engine),
            rows=tuple(int(value) for value in totals["rows"].tolist()),
        )

    def _note(self, name: str) -> Any:
        def note(network: nn.Module, given: tuple[Any, ...], named: dict[str, Any], output: Tensor) -> None:
            bound = inspect.signature(type(network).forward).bind(network, *given, **named).arguments
            call = Call(bound["ids"], bound["groups"].numbers, output.detach(), bound.get("positions"))
            self.calls[name] = call
            if output.requires_grad and self.expected.objective in KNOWN:
                output.register_hook(lambda gradient: self._judge_gradient(name, call, gradient))

        return note

    def _judge(self, objective: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        calls, self.calls = self.calls, {}
        self.batch, self.totals = given[0], given[1]
        if self.expected.objective in KNOWN and "generator" in calls:
            found = check_sums(given[0], self.expected.mask_fraction, calls["generator"], calls.get("discriminator"))
            self.sums |= add(self.sums, found, self.weight)

    def _judge_gradient(self, name: str, call: Call, gradient: Tensor) -> None:
        """At a network's output: which labels it comes from, and whether it is as large as they make it."""
        scale = self.engine.ranks.world * self.engine.scaler().get("cur_scale", 1.0) * self.weight
        if self.batch is None or not scale:
            return
        weight = self.expected.discriminator_weight if name == "discriminator" else 1.0
        unit = gradient.detach().float() * (float(self.totals.get(name, 1.0)) / (scale * weight))
        self.sums |= add(self.sums, gradient_sums(name, self.batch, call, unit))

    def _row_hashes(self, batch: Batch) -> Tensor:
        """(global batch,) float64, whole numbers below 2 ** 50: this rank's, at its places; the others' are 0."""
        ranks, size = self.engine.ranks, self.engine.config.train.batch_size
        found = torch.zeros(size, dtype=torch.float64)
        ids = batch.ids.cpu()
        mixed = ids * ROW_WEIGHT + torch.arange(ids.shape[1]) * 0x2545F4914F6CDD1D
        mixed = (mixed ^ (mixed >> 29)) * ROW_WEIGHT
        start = size * ranks.rank // ranks.world
        found[start : start + len(ids)] = (mixed.sum(1) & ((1 << 63) - 1)).div(1 << 13, rounding_mode="floor").double()
        return found

    def _parameters(self, totals: dict[str, Tensor]) -> Parameters:
        def named(key: str, root: bool = False) -> dict[str, float]:
            values = totals[key].clamp(min=0).sqrt() if root else totals[key]
            return dict(zip(self.engine.shapes, values.tolist(), strict=True))

        return Parameters(
            gradient=named("gradient", root=True),
            weight=named("weight", root=True),
            update=named("update", root=True),
            sums=named("sum"),
            squared_mean=named("squared_mean"),
            mean_square=named("mean_square"),
        )


def untied(networks: dict[str, nn.Module]) -> list[str]:
    """Word tables of the networks, and of the language head, that are not the one table."""
    tables: dict[str, Any] = {}
    for name, network in networks.items():
        encoder, head = getattr(network, "encoder", None), getattr(network, "head", None)
        word = getattr(getattr(encoder, "embeddings", None), "word", None)
        decoder = getattr(head, "decoder", None)
        tables |= {
            f"{name}.embeddings": getattr(word, "weight", None),
            f"{name}.head": getattr(decoder, "weight", None),
        }
    known = {name: table for name, table in tables.items() if table is not None}
    first = next(iter(known.values()), None)
    return [name for name, table in known.items() if table is not first]


def other_settings(engine: Engine) -> list[str]:
    """What optimizer and networks are set to otherwise than the config says, in words."""
    config, found = engine.config, []
    optimizer = config.optimizer
    for group in engine.engine.optimizer.param_groups:
        for key, wanted in (("betas", tuple(optimizer.betas)), ("eps", optimizer.eps)):
            now = tuple(group[key]) if key == "betas" else group[key]
            if now != wanted:
                found.append(f"the optimizer's {key} is {now} where optimizer.{key} says {wanted}.")
        if group["weight_decay"] not in (0.0, optimizer.weight_decay):
            found.append(f"the optimizer decays by {group['weight_decay']}; the config says {optimizer.weight_decay}.")
    asleep = [name for name, module in engine.objective.named_modules() if not module.training]
    if asleep:
        found.append(
            f"{len(asleep)} modules, such as {asleep[0] or 'the objective'}, are in evaluation mode in training."
        )
    for name, module in engine.objective.named_modules():
        if isinstance(module, nn.Dropout) and module.p >= 0.9:
            found.append(f"{name} drops {module.p:.0%} of its input.")
    return list(dict.fromkeys(found))


def finite(values: dict[str, float | None]) -> dict[str, float]:
    """Those that are numbers."""
    return {key: value for key, value in values.items() if value is not None and math.isfinite(value)}
