"""What only several looked-at steps tell: nothing moves, the same batch again, a rate too high, nothing learned.

The thresholds are wide: they were held against runs of the demo and stay silent there (docs/health.md). Price: the last
few steps' facts are kept in memory, so after a restart these rules begin anew.
"""

import math
from collections.abc import Iterator

from pipeline.health.facts import Expected, Facts, Finding

LARGE, TOO_LARGE = 0.1, 0.25
"""An update's norm over the weights': too much where it is met twice in a row, and where it is met once."""
GROWN, WINDOW = 2.0, 200
"""Weights whose norm has become so many times as large within so many updates."""
WARM = 60
"""Updates at the peak rate after which something must have been learned."""
RISEN = 1.6
"""Times the lowest loss so far."""


class History:
    """Looks at facts in the order of their steps."""

    def __init__(self, expected: Expected) -> None:
        self.expected = expected
        self.before: Facts | None = None
        self.still: dict[str, int] = {}
        self.large = 0
        self.norms: list[tuple[int, float]] = []
        self.risen = 0
        self.lowest = math.inf

    def look(self, facts: Facts) -> list[Finding]:
        """What the steps up to this one tell."""
        found = [*self._still(facts), *self._same_batch(facts), *self._sizes(facts), *self._learning(facts)]
        self.before = facts
        return found

    def _still(self, facts: Facts) -> Iterator[Finding]:
        """Parameters that have not moved since the step before that was looked at."""
        before, now = self.before, facts.parameters
        if before is None or facts.updates - before.updates < 2 or not facts.schedule_rate > 0:
            return
        old = before.parameters
        same = [n for n in now.weight if now.weight[n] == old.weight.get(n) and now.sums[n] == old.sums.get(n)]
        self.still = {name: self.still.get(name, 0) + 1 for name in same}
        frozen = [name for name, times in self.still.items() if times >= 2 or len(same) == len(now.weight)]
        if not frozen:
            return
        moving = sum(1 for name in frozen if now.gradient[name] > 0)
        why = "though they have gradients: the update does not reach them" if moving else "and have no gradient"
        yield Finding(
            "frozen",
            f"{len(frozen)} of {len(now.weight)} parameters, such as {frozen[0]}, have not changed by a bit since step "
            f"{before.step}, {why}. Look at requires_grad, at what is detached, and at the optimizer's groups.",
        )

    def _same_batch(self, facts: Facts) -> Iterator[Finding]:
        before = self.before
        if before is None or len(facts.rows) < 2 or before.step == facts.step:
            return
        known = set(before.rows)
        again = sum(row in known for row in facts.rows)
        if again > len(facts.rows) // 2:
            yield Finding(
                "repeated-batch",
                f"{again} of the {len(facts.rows)} sequences of step {facts.step} were in the batch of step "
                f"{before.step} as well: the data does not move on. Look at the stream's position.",
            )

    def _sizes(self, facts: Facts) -> Iterator[Finding]:
        if facts.skipped:
            return
        whole, update = math.hypot(*facts.parameters.weight.values()), math.hypot(*facts.parameters.update.values())
        ratio = update / max(whole, 1e-30)
        self.large = self.large + 1 if ratio > LARGE else 0
        self.norms = [(at, norm) for at, norm in self.norms if facts.updates - at <= WINDOW]
        grown = max((whole / norm for _, norm in self.norms), default=1.0)
        self.norms.append((facts.updates, whole))
        if self.large >= 2 or ratio > TOO_LARGE or grown > GROWN:
            what = f"one update is {ratio:.1%} of the weights' norm (sound runs stay near 1 %)"
            if grown > GROWN:
                what = f"the weights' norm has grown {grown:.1f} times within {WINDOW} updates"
            yield Finding(
                "learning-rate-too-high",
                f"the learning rate {facts.rate:.3g} is too high, maybe ten times or more: {what}. Lower optimizer.lr, "
                "in another run_dir.",
            )

    def _learning(self, facts: Facts) -> Iterator[Finding]:
        if facts.skipped or not math.isfinite(facts.loss):
            return
        self.risen = self.risen + 1 if facts.loss > RISEN * self.lowest else 0
        self.lowest = min(self.lowest, facts.loss)
        if self.risen >= 3:
            yield Finding(
                "diverging",
                f"the loss is {facts.loss:.4f} and was {self.lowest:.4f}: training diverges. Lower optimizer.lr or "
                "lengthen schedule.warmup_steps, in another run_dir, or go on from an older checkpoint.",
            )
        expected, s = self.expected, facts.sums
        if warm_updates(facts.updates, expected.warmup_steps) < WARM or expected.continued:
            return
        loss, uniform = s["generator/nats"] / max(s["generator/positions"], 1), math.log(expected.vocab_size)
        if loss > 0.97 * uniform:
            yield Finding(
                "generator-not-learning",
                f"the generator is not learning: its loss is {loss:.3f} after {facts.updates:,} updates, and guessing "
                f"all {expected.vocab_size:,} pieces alike costs {uniform:.3f}. Look at the learning rate, at what the "
                "optimizer is given, and at the targets.",
            )
        if "discriminator/tokens" in s:
            yield from self._detection(facts)

    def _detection(self, facts: Facts) -> Iterator[Finding]:
        s = facts.sums
        rate = s["discriminator/fakes"] / max(s["discriminator/tokens"], 1)
        if not 0 < rate < 1:
            return
        entropy = -rate * math.log(rate) - (1 - rate) * math.log(1 - rate)
        ratio = s["discriminator/nats"] / max(s["discriminator/tokens"], 1) / entropy
        if ratio > 1.5:
            yield Finding(
                "discriminator-worse-than-guessing",
                f"the discriminator's loss is {ratio:.2f} times that of someone who knows only the share of replaced "
                f"tokens ({rate:.1%}), after {facts.updates:,} updates: it learns something else than its labels, or "
                "the learning rate is far too high.",
            )


def warm_updates(updates: int, warmup: int) -> float:
    """Updates as many as of the peak rate would go as far: half of those of the warm-up's ramp at its end."""
    if updates >= warmup:
        return updates - warmup / 2
    return updates * updates / (2 * warmup)
