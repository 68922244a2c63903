"""The measured part of a model card: evaluation, pairs of texts, bias, fine-tuned tasks, corpus, known failures.

Everything comes from the run's own records; where there are none the card says "not measured" and how to measure.
"""

from collections.abc import Mapping
from typing import Any

from pipeline.release.markdown import as_text, table
from pipeline.release.measured_tasks import task_failures, tasks_section
from pipeline.release.records import Records

BEGIN = "<!-- measured: begin; pipeline/evaluate.py and pipeline/finetune.py rewrite this part -->"
END = "<!-- measured: end -->"
NOT = "Not measured"
SHOWN = 20
"""Rows of a table at most."""
WEAKEST = 3

_MEANINGS = {
    "generator/loss": "cross-entropy at masked positions, nats",
    "generator/accuracy": "masked tokens guessed right by the most likely piece",
    "generator/unigram_accuracy": "the same by always guessing the most frequent piece",
    "generator/sampled_accuracy": "masked tokens that a sample hits",
    "discriminator/loss": "binary cross-entropy a token, nats",
    "discriminator/auc": "area under the ROC curve; 0.5 is chance",
    "discriminator/frequency_auc": "the same by the tokens' frequency alone",
    "discriminator/fake_rate": "share of replaced tokens",
    "discriminator/loss_over_entropy": "loss over the entropy of the fake rate; 1.0 has learned nothing",
}


def measured(records: Records) -> str:
    """Markdown between BEGIN and END, both included."""
    parts = [
        BEGIN,
        "## Evaluation",
        _evaluation(records),
        "## Minimal pairs",
        _pairs(records),
        "## Bias: gender and occupation",
        _bias(records),
        "## Fine-tuned tasks",
        tasks_section(records),
        "## Corpus",
        _corpus(records),
        "## Known failures",
        _failures(records),
        END,
    ]
    return "\n\n".join(parts)


def _evaluation(records: Records) -> str:
    if not records.evaluation:
        return f"{NOT}: no evaluation was logged up to this checkpoint; run `pipeline/evaluate.py`."
    rows = []
    for key, value in sorted(records.evaluation.items()):
        rows.append((f"`{key}`", f"{value:.4f}", _MEANINGS.get(key.removeprefix("eval/"), "")))
    return f"{records.evaluated}\n\n" + table(("name", "value", ""), rows)


def _sets(records: Records, kind: str) -> dict[str, Any]:
    return {n: s for n, s in records.pairs.items() if s.get("kind") == kind and records.name in s.get("overall", {})}


def _pairs(records: Records) -> str:
    sets = _sets(records, "grammar")
    if not sets:
        return f"{NOT}. `pipeline/evaluate.py evaluate.probes=[grammar_en]` measures it."
    score = "pseudo-log-likelihood" if records.name == "generator" else "sum of the tokens' log odds of being original"
    parts = [
        f"Share of pairs in which the network prefers the grammatical text, by its {score}; 0.5 is chance, with 95 % "
        "intervals."
    ]
    for name, one in sets.items():
        by = sorted(one["phenomena"].items(), key=lambda item: item[1][records.name]["accuracy"])
        rows = [_row(phenomenon, figures[records.name]) for phenomenon, figures in by[:SHOWN]]
        more = f"\n\n… and {len(by) - SHOWN} more phenomena, all better." if len(by) > SHOWN else ""
        rows.append(_row("**all pairs**", one["overall"][records.name]))
        parts.append(
            f"{as_text(f'`{name}`')}, weakest first:\n\n"
            + table(("phenomenon", "pairs", "accuracy", "interval"), rows)
            + more
        )
    return "\n\n".join(parts)


def _bias(records: Records) -> str:
    sets = _sets(records, "bias")
    if not sets:
        return f"{NOT}. `pipeline/evaluate.py evaluate.probes=[bias_en,bias_zh]` measures it."
    parts = [
        "Share of pairs in which the network prefers the text whose gendered word fits the stereotype of the "
        "occupation; 0.5 is no preference, 95 % interval. A network that always prefers one gender has 1 in one group "
        "and 0 in the other. Templates of two dozen sentences and occupations: no measure of all prejudice."
    ]
    for name, one in sets.items():
        overall = one["overall"][records.name]
        groups = [
            _row("men expected" if g == "male" else "women expected", by[records.name])
            for g, by in one["groups"].items()
        ]
        rows = [_row("**all pairs**", overall), *groups]
        by = sorted(one["phenomena"].items(), key=lambda item: -item[1][records.name]["accuracy"])
        strongest = ", ".join(f"{word} {figures[records.name]['accuracy']:.2f}" for word, figures in by[:5])
        difference = f"{overall['mean_difference']:+.3f} nats (standard error {overall['standard_error']:.3f})"
        parts.append(
            f"{as_text(f'`{name}`')}: mean difference {difference}; strongest stereotypes: {as_text(strongest)}.\n\n"
            + table(("pairs", "number", "share", "interval"), rows)
        )
    return "\n\n".join(parts)


def _row(label: str, figure: Mapping[str, float]) -> tuple[str, ...]:
    interval = f"{figure['low']:.3f} to {figure['high']:.3f}"
    return (label, f"{figure['pairs']:,}", f"{figure['accuracy']:.3f}", interval)


def _corpus(records: Records) -> str:
    corpus = records.corpus
    if corpus is None:
        return f"{NOT}: the run has no statistics of the data that this network was trained on."
    tokens = int(corpus.get("tokens", 0))
    rows = [
        ("documents", f"{corpus.get('documents', 0):,}"),
        ("characters", f"{corpus.get('characters', 0):,}"),
        ("tokens", f"{tokens:,}"),
        ("records set aside", _dropped(corpus)),
        ("letters by script", _scripts(corpus)),
    ]
    if records.tokens_seen and tokens and not corpus.get("corpora"):  # of a mixture each has its own: see Origin
        rows.append(("passes over it", f"{records.tokens_seen / tokens:.2f}"))
    text = table(("", ""), rows)
    if records.continued:
        text = f"Of this run; what its first weights were trained on before (see Origin) is not counted here.\n\n{text}"
    inputs = sorted(corpus.get("inputs", []), key=lambda one: -one["characters"])
    if not inputs:
        return f"{text}\n\nBy input file: not recorded."
    total = max(1, sum(one["characters"] for one in inputs))
    shown = [
        (f"`{one['input']}`", f"{one['documents']:,}", f"{one['characters']:,}", f"{one['characters'] / total:.1%}")
        for one in inputs[:SHOWN]
    ]
    more = f"\n\n… and {len(inputs) - SHOWN} more." if len(inputs) > SHOWN else ""
    return f"{text}\n\n" + table(("input", "documents", "characters", "share"), shown) + more


def _dropped(corpus: Mapping[str, Any]) -> str:
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in corpus.get("dropped_by_reason", {}).items())
    return f"{corpus.get('dropped', 0):,}" + (f" ({reasons})" if reasons else "")


def _scripts(corpus: Mapping[str, Any]) -> str:
    shares = corpus.get("scripts") or {}
    shown = [f"{name} {share:.1%}" for name, share in list(shares.items())[:6] if share >= 0.001]
    return ", ".join(shown) + " (of a sample)" if shown else "not measured"


def _failures(records: Records) -> str:
    failures = []
    for name, one in _sets(records, "grammar").items():
        by = sorted(one["phenomena"].items(), key=lambda item: item[1][records.name]["accuracy"])
        weak = [(word, figures[records.name]) for word, figures in by if figures[records.name]["low"] <= 0.5]
        if weak:
            words = ", ".join(f"{word} ({figure['accuracy']:.2f})" for word, figure in weak[:SHOWN])
            failures.append(f"No better than chance on these phenomena of `{name}`: {words}.")
        elif by:
            word, figures = by[0]
            failures.append(f"Weakest phenomenon of `{name}`: {word} ({figures[records.name]['accuracy']:.2f}).")
    for name, one in _sets(records, "bias").items():
        overall = one["overall"][records.name]
        if not overall["low"] <= 0.5 <= overall["high"]:
            way = "follows" if overall["accuracy"] > 0.5 else "goes against"
            failures.append(
                f"{way.capitalize()} gender stereotypes of `{name}` ({overall['accuracy']:.2f} of the pairs)."
            )
    failures += task_failures(records)
    unmeasured = [
        what
        for what, there in (
            ("minimal pairs", _sets(records, "grammar")),
            ("bias", _sets(records, "bias")),
            ("fine-tuned tasks", records.tasks),
        )
        if not there
    ]
    if unmeasured:
        failures.append(f"{NOT}, so nothing is known: {', '.join(unmeasured)}.")
    return "\n".join(f"- {as_text(failure)}" for failure in failures) or "None was found by what was measured above."
