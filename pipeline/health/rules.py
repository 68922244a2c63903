"""Invariants of one step: what holds in every sound run whatever is learned. Each rule gives words, or nothing.

They compare what the networks were given and gave with the batch and the config; none knows a curve. Chance is allowed
for: a rule about random draws speaks at eight standard deviations. Price: a few comparisons of numbers.
"""

import math
from collections.abc import Callable, Iterator

from pipeline.health.facts import Expected, Facts, Finding

DEVIATIONS = 8.0
CLOSE = 2e-3
"""Relative difference that rounding may make between a loss and its recomputation (bf16 logits are recomputed from)."""
GRADIENT_CLOSE = 0.05
"""The same for gradients, which bf16 rounds on the way."""

Rule = Callable[[Facts, Expected], Iterator[Finding]]


def masks(facts: Facts, expected: Expected) -> Iterator[Finding]:
    """Positions: how many, where, all different, and [MASK] shown at the right share of them."""
    s = {key.partition("/")[2]: value for key, value in facts.sums.items() if key.startswith("generator/")}
    if s["special"]:
        yield Finding(
            "masks-at-special-tokens",
            f"{s['special']:,.0f} masked positions lie at [CLS], [SEP], [MASK] or padding: the networks are taught to "
            "guess the frame. Look at what may be masked (model/masking.py, `_candidates`).",
        )
    if s["positions"] != s["expected_positions"]:
        yield Finding(
            "mask-count",
            f"{s['positions']:,.0f} positions are masked where objective.mask_fraction {expected.mask_fraction} makes "
            f"{s['expected_positions']:,.0f}. Look at model/masking.py, `count_masked`.",
        )
    if s["twice"] or s["elsewhere"]:
        yield Finding(
            "mask-places",
            f"{s['twice']:,.0f} positions are masked twice and {s['elsewhere']:,.0f} tokens are changed that are not "
            "masked. Look at model/masking.py.",
        )
    if s["rows"] and s["same_rows"] > 0.5 * s["rows"]:
        yield Finding(
            "same-masks",
            f"{s['same_rows']:,.0f} of {s['rows']:,.0f} sequences have the positions of the one before: masks do not "
            "depend on the sample. Look at the seed and sample numbers given to model/masking.py.",
        )
    shares = {"[MASK]": (s["shown"], expected.mask_share)}
    shares["the token itself"] = (s["kept"], 1 - expected.mask_share - expected.random_share)
    for name, (count, share) in shares.items():
        slack = DEVIATIONS * math.sqrt(s["positions"] * share * (1 - share)) + 0.005 * s["positions"] + 1
        if abs(count - share * s["positions"]) > slack:
            yield Finding(
                "mask-share",
                f"the generator sees {name} at {count:,.0f} of {s['positions']:,.0f} masked positions where the config "
                f"says {share:.0%}. Look at objective.mask_share and at model/masking.py, `mask_tokens`.",
            )


def documents(facts: Facts, expected: Expected) -> Iterator[Finding]:
    """Attention stays within documents."""
    for network in ("generator", "discriminator"):
        wrong = facts.sums.get(f"{network}/groups", 0.0)
        if wrong:
            yield Finding(
                "documents-mixed",
                f"{wrong:,.0f} tokens are given to the {network} as of another document than the data says: it "
                "attends across documents, or not within them. Look at the `groups` it is called with.",
            )


def sampler(facts: Facts, expected: Expected) -> Iterator[Finding]:
    """Samples are drawn from the generator's own distribution and stand where they belong."""
    s = facts.sums
    if "discriminator/tokens" not in s:
        return
    masks = s["discriminator/masks"]  # a generator may draw [MASK], as it may any piece, but not often
    if s["discriminator/elsewhere"] or masks > 0.2 * s["generator/positions"] + DEVIATIONS:
        yield Finding(
            "discriminator-input",
            f"the discriminator reads {masks:,.0f} [MASK] and {s['discriminator/elsewhere']:,.0f} "
            "changed tokens outside the masked positions: it must read the original with the samples in place. Look "
            "at what the samples are put into (model/masking.py, `replace_tokens`).",
        )
    spread = math.sqrt(s["discriminator/surprise_variance"])
    over = s["discriminator/surprise"] / max(spread, 1e-9)
    right, chance = s["discriminator/sampled_right"], s["generator/chance"]
    far = abs(right - chance) / math.sqrt(s["generator/chance_variance"] + 1)
    if abs(over) <= DEVIATIONS and far <= DEVIATIONS:
        return
    how = "much likelier than draws would be: the best guess is taken instead of a draw, or the temperature is below 1"
    if over < -DEVIATIONS:
        how = "much less likely than draws would be: they do not come from the generator, as from a uniform sampler"
    elif over <= DEVIATIONS:
        how = "not draws of the generator"
    yield Finding(
        "sampler",
        f"the samples are {how} ({over:+.0f} standard deviations; {right:,.0f} are the original token where "
        f"{chance:,.0f} are expected). Look at model/sampling.py, `draw_tokens`, and what it is given.",
    )


def losses(facts: Facts, expected: Expected) -> Iterator[Finding]:
    """The losses are the cross-entropies of the outputs with the right labels, over the right counts."""
    s, reported = facts.sums, facts.reported
    if not all(map(math.isfinite, (facts.loss, *s.values()))):
        return  # the step is skipped, and told as that
    generator, wanted = s["generator/nats"], 0.0
    if not _close(reported.get("generator/nats", generator), generator):
        yield Finding(
            "generator-labels",
            f"the generator's loss is {reported['generator/nats'] / s['generator/positions']:.4f} nats a position, "
            f"but the cross-entropy of its outputs with the original tokens is "
            f"{generator / s['generator/positions']:.4f}: it is taught other targets. Look at the targets.",
        )
    wanted = generator / max(s["generator/positions"], 1)
    if "discriminator/tokens" in s:
        yield from _detection_loss(facts)
        wanted += expected.discriminator_weight * s["discriminator/nats"] / max(s["discriminator/tokens"], 1)
    own = reported.get("generator/nats", generator) / max(s["generator/positions"], 1)
    if "discriminator/nats" in reported:
        tokens = max(s["discriminator/tokens"], 1)
        own += expected.discriminator_weight * reported["discriminator/nats"] / tokens
    if not _close(facts.loss, wanted) and not _close(facts.loss, own):
        yield Finding(
            "normalisation",
            f"the loss that is optimised is {facts.loss:.4f}, but its terms over the global counts, weighted as the "
            f"config says, are {wanted:.4f} ({facts.loss / wanted:.3f} of it). Look at what the terms are divided by "
            "and at objective.discriminator_weight.",
        )


def _detection_loss(facts: Facts) -> Iterator[Finding]:
    s, reported = facts.sums, facts.reported
    nats, tokens = s["discriminator/nats"], max(s["discriminator/tokens"], 1)
    told = reported.get("discriminator/nats", nats)
    if _close(told, nats):
        return
    if _close(told, s["discriminator/inverted"]):
        yield _inverted(f"its loss is {told / tokens:.4f} and should be {nats / tokens:.4f}")
        return
    yield Finding(
        "discriminator-labels",
        f"the discriminator's loss is {told / tokens:.4f} nats a token, but the cross-entropy of its outputs with "
        f"'this token is not the original' is {nats / tokens:.4f}: its labels are not those of its input (shuffled, "
        "shifted, or of another batch), or tokens are left out. Look at `fake` and `tokens` in the objective.",
    )


def rates(facts: Facts, expected: Expected) -> Iterator[Finding]:
    """The fake rate is possible, and the learning rate is the schedule's."""
    s = facts.sums
    positions, fakes = s["generator/positions"], s.get("discriminator/fakes", 0.0)
    if fakes > positions:
        yield Finding(
            "fake-rate",
            f"{fakes:,.0f} tokens are replaced, more than the {positions:,.0f} that were masked.",
        )
    if not math.isclose(facts.rate, facts.schedule_rate, rel_tol=1e-6, abs_tol=1e-15):
        yield Finding(
            "learning-rate",
            f"the optimizer's learning rate is {facts.rate:.3g} where optimizer.lr and schedule.* make it "
            f"{facts.schedule_rate:.3g} ({facts.rate / max(facts.schedule_rate, 1e-30):.3g} times as much). Look at "
            "what sets the optimizer's parameter groups.",
        )
    for words in facts.settings:
        yield Finding("settings", words)


def tied(facts: Facts, expected: Expected) -> Iterator[Finding]:
    """The tables that are to be one are one."""
    if facts.untied:
        yield Finding(
            "embeddings-not-tied",
            f"embeddings are not tied: {', '.join(facts.untied)} are tables of their own. The discriminator then "
            "learns its embeddings without the generator's signal. Look at model/networks.py, `build_pair`, and "
            "model/heads.py.",
        )


def flow(facts: Facts, expected: Expected) -> Iterator[Finding]:
    """Gradients reach the networks, and are as large as the outputs say."""
    if facts.skipped:
        return
    gradient = facts.parameters.gradient
    for network in ("discriminator", "generator"):
        mine = {name: value for name, value in gradient.items() if name.startswith(f"{network}.")}
        own = {name: value for name, value in mine.items() if "embeddings" not in name}  # those are shared
        if own and not any(own.values()):
            yield Finding(
                f"{network}-no-gradient",
                f"the {network} is not learning: the gradient of each of its {len(own)} parameters is exactly 0. Its "
                "loss is detached, not part of the sum that is optimised, or its parameters are frozen.",
            )
    s = facts.sums
    for network in ("discriminator", "generator"):
        yield from _taught(network, facts)
    found, wanted = gradient.get("generator.head.decoder.bias", 0.0), math.sqrt(s.get("generator/bias_squares", 0.0))
    wanted /= max(s["generator/positions"], 1)
    if wanted and found and not math.isclose(found, wanted, rel_tol=GRADIENT_CLOSE):
        yield _gradient_size("generator", found, wanted)
    if "discriminator/slope" in s and gradient.get("discriminator.head.out.bias"):
        unit = expected.discriminator_weight / max(s["discriminator/tokens"], 1)
        found, wanted = gradient["discriminator.head.out.bias"], unit * abs(s["discriminator/slope"])
        if abs(found - wanted) > GRADIENT_CLOSE * unit * s["discriminator/spread"]:
            yield _gradient_size("discriminator", found, wanted)


def _taught(network: str, facts: Facts) -> Iterator[Finding]:
    """The labels that the gradient at the network's output comes from, which a loss alone may hide."""
    s = {key.partition("/")[2]: value for key, value in facts.sums.items() if key.startswith(f"{network}/")}
    if not s.get("judged"):
        return
    wrong = s["wrong_labels"] / s["judged"]
    if network == "discriminator" and wrong > 0.99:
        yield _inverted(f"by its gradient {wrong:.0%} of the tokens have the other label")
    elif wrong > 0.01:
        yield Finding(
            f"{network}-labels",
            f"the {network} is taught wrong labels: by the gradient at its output {wrong:.1%} of the "
            f"{s['judged']:,.0f} labels are not those of its input (shuffled, shifted, or of another batch). Look at "
            "the targets and at `fake` in the objective.",
        )
    elif not math.isclose(s["size"], s["wanted_size"], rel_tol=GRADIENT_CLOSE):
        yield _gradient_size(network, s["size"], s["wanted_size"])


def _inverted(how: str) -> Finding:
    return Finding(
        "labels-inverted",
        f"the discriminator is trained on inverted labels, real and replaced exchanged: {how}. Look at `fake` in the "
        "objective: 1 where the token is not the original.",
    )


def _gradient_size(network: str, found: float, wanted: float) -> Finding:
    return Finding(
        f"{network}-gradient-size",
        f"the gradient at the {network}'s output is {found:.3g} where its outputs make it {wanted:.3g}: the loss "
        "is scaled wrongly on the way (counts, ranks, micro-batches), part of it is detached, or the labels that the "
        "gradient comes from are not those of the loss. Look at the objective's forward and at the engine's "
        "`micro_step`.",
    )


def repeated_rows(facts: Facts, expected: Expected) -> Iterator[Finding]:
    """The sequences of a batch are different ones."""
    if len(facts.rows) >= 4 and len(set(facts.rows)) <= len(facts.rows) // 2:
        yield Finding(
            "repeated-rows",
            f"only {len(set(facts.rows))} of the batch's {len(facts.rows)} sequences are different. Look at the corpus "
            "(copies?) and at the stream's order.",
        )


RULES: tuple[Rule, ...] = (masks, documents, sampler, losses, rates, tied, flow, repeated_rows)


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=CLOSE, abs_tol=1e-9)
