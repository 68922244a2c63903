"""Faults as they could be made in the code, each planted from outside; and a short tiny training that is looked at."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from model import guesses, masking
from model.attention import document_groups
from model.config import CLS_ID, PAD_ID, SEP_ID, discriminator_config, generator_config
from model.networks import Discriminator, MaskedLanguageModel, build_pair
from model.objectives import electra
from pipeline.base.config import load_config
from pipeline.health.history import History
from pipeline.health.rules import RULES
from pipeline.stream.loader import Rows
from pipeline.training.checkpoint import TrainState
from pipeline.training.engine import Engine
from pipeline.training.health_job import expected_of
from pipeline.training.probe import Probe
from pipeline.training.ranks import Ranks
from pipeline.training.step import train_step
from tests.pipeline.training.pretrain_runs import CONFIG, VOCABULARY

Patch = pytest.MonkeyPatch
Plant = Callable[[Patch], None]
BATCH, LENGTH = 8, 24


def rows_of_step(step: int) -> Rows:
    """Sequences of two documents, whose pieces are as skewed as words are."""
    draw = np.random.default_rng(step)
    ids = np.minimum(5 + draw.zipf(1.6, (BATCH, LENGTH)), VOCABULARY - 1)
    ids[:, 0], ids[:, -1] = CLS_ID, SEP_ID
    documents = np.repeat((np.arange(LENGTH) >= LENGTH // 2)[None].astype(np.int64), BATCH, 0)
    return Rows(ids.astype(np.int64), documents, None, np.arange(BATCH) + step * BATCH)


def found_in(folder: Path, ranks: Ranks, steps: int, *settings: str) -> list[tuple[int, str, str]]:
    """(step, code, words) of all that is found while a tiny model trains, looked at every fourth step."""
    (folder / "tiny.yaml").write_text(CONFIG)
    own = [f"train.batch_size={BATCH}", "train.micro_batch_size=3", f"train.steps={4 * steps}", "optimizer.lr=1e-3"]
    config = load_config(folder / "tiny.yaml", [*own, "schedule.warmup_steps=2", *settings])
    engine = Engine(config, VOCABULARY, ranks)
    expected = expected_of(config, VOCABULARY)
    history, told, state = History(expected), [], TrainState()
    for step in range(steps):
        probe = Probe(engine, expected) if step < 2 or step % 4 == 3 else None
        result = train_step(engine, rows_of_step(step), state, probe)
        if probe is not None:
            facts = probe.facts(result, step + 1, state.updates)
            findings = [one for rule in RULES for one in rule(facts, expected)] + history.look(facts)
            told += [(step + 1, one.code, one.words) for one in findings]
        state = TrainState(step=step + 1, skipped_steps=state.skipped_steps + result.skipped)
    return told


def play_with(**changed: Callable[[Any], Any]) -> Plant:
    """Changes fields of the Round that the objective plays."""
    play = electra.Electra._play

    def plant(patch: Patch) -> None:
        def other(self: electra.Electra, batch: Any) -> electra.Round:
            round_ = play(self, batch)
            return dataclasses.replace(round_, **{name: change(round_) for name, change in changed.items()})

        patch.setattr(electra.Electra, "_play", other)

    return plant


def labels_as(change: Callable[[torch.Tensor], torch.Tensor]) -> Plant:
    """Other labels for the discriminator."""
    told = binary_cross_entropy_with_logits

    def plant(patch: Patch) -> None:
        def other(logits: torch.Tensor, target: torch.Tensor, reduction: str) -> torch.Tensor:
            return told(logits, change(target), reduction=reduction)

        patch.setattr(electra, "binary_cross_entropy_with_logits", other)

    return plant


def shuffled(labels: torch.Tensor) -> torch.Tensor:
    """The same number of them, elsewhere."""
    return labels.flatten()[torch.randperm(labels.numel())].view_as(labels)


def two_tables(patch: Patch) -> None:
    """Networks that share nothing."""

    def build(model: Any, vocab: int) -> tuple[Discriminator, MaskedLanguageModel]:
        return Discriminator(discriminator_config(model, vocab)), MaskedLanguageModel(generator_config(model, vocab))

    patch.setattr(electra, "build_pair", build)


def rate_times(factor: float) -> Plant:
    """The optimizer gets another rate than the schedule says."""
    set_rate = Engine.set_rate
    return lambda patch: patch.setattr(Engine, "set_rate", lambda self, rate: set_rate(self, factor * rate))


def counted_twice(patch: Patch) -> None:
    """The discriminator's loss over twice its tokens."""
    counts = electra.Electra.counts

    def other(self: electra.Electra, batch: Any) -> Any:
        found = counts(self, batch)
        return found | {"discriminator": 2 * found["discriminator"]}

    patch.setattr(electra.Electra, "counts", other)


def gradient_times(factor: float) -> Plant:
    """The loss is as it should be, its gradient another."""
    forward = electra.Electra.forward

    def other(self: electra.Electra, batch: Any, totals: Any) -> Any:
        loss, sums = forward(self, batch, totals)
        return factor * loss + (1 - factor) * loss.detach(), sums

    return lambda patch: patch.setattr(electra.Electra, "forward", other)


def one_mask_for_all(patch: Patch) -> None:
    """Masks that do not depend on the sample."""
    draw = masking.draw_positions
    patch.setattr(masking, "draw_positions", lambda ids, sample, *more: draw(ids, torch.zeros_like(sample), *more))


def ignored_documents(patch: Patch) -> None:
    """Attention across documents."""
    patch.setattr(electra, "document_groups", lambda ids, documents, room: document_groups(ids, None))


def drawn_as(draw: Callable[..., torch.Tensor]) -> Plant:
    """Another sampler."""
    return lambda patch: patch.setattr(guesses, "draw_by_weight", lambda w, uniforms: (draw(w, uniforms), w.sum(-1)))


def frozen_layer(patch: Patch) -> None:
    """The optimizer is not given the generator's first layer."""

    def other(model: Any, vocab: int) -> Any:
        pair = build_pair(model, vocab)
        for parameter in pair[1].encoder.layers[0].parameters():
            parameter.register_hook(torch.zeros_like)
        return pair

    patch.setattr(electra, "build_pair", other)


PLANTED: dict[str, tuple[str, Plant, tuple[str, ...]]] = {
    "detached discriminator loss": (
        "discriminator-no-gradient",
        play_with(discriminator_nats=lambda r: r.discriminator_nats.detach()),
        (),
    ),
    "labels inverted": ("labels-inverted", labels_as(lambda labels: 1 - labels), ()),
    "masks at special tokens": (
        "masks-at-special-tokens",
        lambda patch: patch.setattr(masking, "_candidates", lambda ids: ids != PAD_ID),
        (),
    ),
    "embeddings not tied": ("embeddings-not-tied", two_tables, ()),
    "learning rate x 30": ("learning-rate-too-high", lambda patch: None, ("optimizer.lr=3e-2",)),
    "rate x 30 behind the config": ("learning-rate", rate_times(30.0), ()),
    "generator detached": (
        "generator-no-gradient",
        play_with(generator_nats=lambda r: r.generator_nats.detach()),
        (),
    ),
    "labels shuffled": ("discriminator-labels", labels_as(shuffled), ()),
    "labels shifted": ("discriminator-labels", labels_as(lambda labels: labels.roll(1, 1)), ()),
    "counts doubled": ("normalisation", counted_twice, ()),
    "gradient halved": ("discriminator-gradient-size", gradient_times(0.5), ()),
    "one mask for all": ("same-masks", one_mask_for_all, ()),
    "documents ignored": ("documents-mixed", ignored_documents, ()),
    "arg-max sampler": ("sampler", drawn_as(lambda weights, uniforms: weights.argmax(-1)), ()),
    "uniform sampler": (
        "sampler",
        drawn_as(lambda weights, uniforms: (uniforms[..., 0] * (weights.shape[-1] - 5)).long() + 5),
        ("optimizer.lr=2e-2",),
    ),
    "a frozen layer": ("frozen", frozen_layer, ("optimizer.weight_decay=0",)),
    "rate 0": ("frozen", rate_times(0.0), ()),
}
"""What is planted: the code that must be found, how it is planted, the run's settings."""
