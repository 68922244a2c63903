"""The job that looks at a step, writes its health figures and says in words what is wrong, once a state.

Looked at are the first two steps and those of train.log_every. What is found goes to the log as a warning when it
begins and a line when it ends, to run_dir/health.jsonl, and to the MLflow run's tag `health`.
"""

import json
import math
from pathlib import Path

from pipeline.base.config import RunConfig
from pipeline.base.files import told_plainly
from pipeline.base.log import get_logger
from pipeline.health.bands import Bands
from pipeline.health.facts import Expected, Facts, Finding
from pipeline.health.history import History
from pipeline.health.reference import reference_for
from pipeline.health.rules import RULES
from pipeline.training.checkpoint import TrainState
from pipeline.training.gradients import noise_scale
from pipeline.training.initial import is_continued
from pipeline.training.jobs import due
from pipeline.training.metrics_file import cut_metrics, note
from pipeline.training.probe import KNOWN, Probe, finite
from pipeline.training.run import Run
from pipeline.training.step import StepResult

FILE = "health.jsonl"
FIRST = 2
"""Steps looked at from the start, so that what is wrong from the start is told at once."""


class Health:
    """Looks, judges, tells. Collective."""

    def __init__(self, run: Run, state: TrainState) -> None:
        self.context, self.path = run, run.folder.path / FILE
        self.expected = expected_of(run.config, run.origin.vocab_size)
        self.history = History(self.expected)
        self.before = state
        self.probe: Probe | None = None
        self.figures: dict[str, float] = {}
        self.active: dict[str, str] = {}
        with run.ranks.together(), told_plainly(self.path):
            if run.ranks.rank == 0:
                cut_metrics(self.path, state.step)
                self.active = still_active(self.path)
        self.bands = Bands(reference_for(run.config, run.origin.vocab_size), self.active)

    def prepare(self, state: TrainState) -> Probe | None:
        """The probe of the coming step, where it is looked at."""
        step = state.step + 1
        looked_at = step <= FIRST or due(self.context, step, self.context.config.train.log_every)
        self.before, self.figures = state, {}
        self.probe = Probe(self.context.engine, self.expected) if looked_at else None
        return self.probe

    def due(self, step: int) -> bool:
        return self.probe is not None

    def run(self, state: TrainState, result: StepResult) -> None:
        if self.probe is None:
            return
        facts = self.probe.facts(result, state.step, self.before.updates)
        self.figures = figures_of(facts, self.context.config)
        found = [finding for rule in RULES for finding in rule(facts, self.expected)] if self._known else []
        found += self.history.look(facts) if self._known else []
        found += self.bands.look(state.step, self.figures)
        if self.context.ranks.rank == 0:
            self._tell(state.step, found)

    @property
    def _known(self) -> bool:
        return self.expected.objective in KNOWN

    def _tell(self, step: int, found: list[Finding]) -> None:
        now = {finding.code: finding.words for finding in reversed(found)}
        for code, words in now.items():
            if code not in self.active:
                get_logger().warning(f"step {step}: health: {words}")
                note(self.path, step, {"state": "begins", "code": code, "words": words})
        for code in self.active:
            if code not in now:
                get_logger().info(f"step {step}: health: no longer: {code}")
                note(self.path, step, {"state": "ends", "code": code})
        if now.keys() != self.active.keys():
            self.context.tracker.tags({"health": ", ".join(sorted(now)) or "sound"})
        self.active = now


def expected_of(config: RunConfig, vocab_size: int) -> Expected:
    """What the rules are given of the config."""
    objective = config.objective
    return Expected(
        objective=objective.name,
        mask_fraction=getattr(objective, "mask_fraction", 0.0),
        mask_share=getattr(objective, "mask_share", 0.0),
        random_share=getattr(objective, "random_share", 0.0),
        discriminator_weight=getattr(objective, "discriminator_weight", 0.0),
        vocab_size=vocab_size,
        batch_size=config.train.batch_size,
        warmup_steps=config.schedule.warmup_steps,
        continued=is_continued(config),
    )


def still_active(path: Path) -> dict[str, str]:
    """Codes and words of what had begun and not ended, by health.jsonl: it is not told again after a restart."""
    active: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        entry = json.loads(line)
        if entry["state"] == "begins":
            active[entry["code"]] = entry["words"]
        else:
            active.pop(entry["code"], None)
    return active


def network_of(name: str) -> str:
    """embeddings (what the networks share), generator or discriminator."""
    return "embeddings" if "embeddings" in name else name.partition(".")[0]


def figures_of(facts: Facts, config: RunConfig) -> dict[str, float]:
    """train/... of docs/interface.md, from the global sums."""
    s, parameters = facts.sums, facts.parameters
    values: dict[str, float | None] = {}
    if s.get("generator/positions"):
        values["generator/accuracy"] = s["generator/right"] / s["generator/positions"]
    if s.get("discriminator/tokens"):
        rate = s["discriminator/fakes"] / s["discriminator/tokens"]
        values["discriminator/fake_rate"] = rate
        if 0 < rate < 1:
            entropy = -rate * math.log(rate) - (1 - rate) * math.log(1 - rate)
            values["discriminator/loss_over_entropy"] = s["discriminator/nats"] / s["discriminator/tokens"] / entropy
    for network in sorted({network_of(name) for name in parameters.weight}):
        names = [name for name in parameters.weight if network_of(name) == network]
        weight = math.hypot(*(parameters.weight[name] for name in names))
        values[f"gradient/{network}"] = math.hypot(*(parameters.gradient[name] for name in names))
        if weight and not facts.skipped:
            values[f"update_ratio/{network}"] = math.hypot(*(parameters.update[name] for name in names)) / weight
    moments = sum(parameters.squared_mean.values()), sum(parameters.mean_square.values())
    values["noise_scale"] = noise_scale(moments, config.optimizer, facts.updates, config.train.batch_size)
    return {f"train/{key}": value for key, value in finite(values).items()}
