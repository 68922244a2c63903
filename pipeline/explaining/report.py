"""What the networks make of the texts, as one JSON-able value: the page shows it, and the file beside it holds it.

Networks are loaded one after another, so that the memory is that of the largest.
"""

import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.base.config import RunConfig
from pipeline.base.errors import UserError
from pipeline.base.progress import Progress
from pipeline.base.run_folder import RunFolder
from pipeline.base.task_sections import FieldsConfig
from pipeline.explaining.attribution import WIDE_GAP
from pipeline.explaining.candidates import Guesses, affordable, guess
from pipeline.explaining.classifier import WHERE, Classifier, Decision, decide, load_classifier, open_classifier
from pipeline.explaining.detection import replaced_probabilities
from pipeline.explaining.page import PARTS
from pipeline.explaining.texts import Text, read_texts
from pipeline.explaining.tokens import Tokens, tokenize, tokenize_together, window_length
from pipeline.probing.networks import KINDS, Folder, Kind, load_network, open_folder
from pipeline.probing.scores import require_finite
from pipeline.tasks.text_task import KINDS_OF_TEXTS

FORMAT = 1
"""Of the JSON file."""
CLASSIFIER = "classifier"

Json = dict[str, Any]


@dataclass(frozen=True)
class Inputs:
    """Everything that has been found, nothing of it loaded."""

    texts: list[Text]
    left_out: int
    """Texts of the file beyond what one page shows."""
    folders: dict[Kind, Folder]
    classifier: Classifier | None
    missing: list[str]
    """A sentence for each network that is not there."""
    tokens: dict[str, list[list[Tokens]]]
    """By network (CLASSIFIER too): of each text, or of each of two, the tokens."""


def find_inputs(config: RunConfig) -> Inputs:
    """Texts, their tokens, and folders.

    Raises UserError for what is named and not there, a text without a token, and where there is no network at all.
    """
    settings = config.explain
    classifier = open_classifier(Path(settings.classifier)) if settings.classifier else None
    fields = classifier.fields if classifier else FieldsConfig()
    texts, left_out = read_texts(settings, fields.overridden(config.finetune.fields))
    if classifier is not None:
        _check_kind(classifier, texts)
    folders: dict[Kind, Folder] = {}
    missing = []
    for kind in KINDS:
        named = settings.discriminator if kind == "discriminator" else settings.generator
        path = Path(named) if named else RunFolder(Path(config.run_dir)).export / kind
        if named or path.exists():
            folders[kind] = open_folder(path, kind, "explain")
        else:
            missing.append(
                f"No {kind}: {path} does not exist (pipeline/export.py makes it; explain.{kind} names another)."
            )
    if not folders and classifier is None:
        raise UserError("no network to explain with. " + " ".join(missing))
    if classifier is None:
        missing.append("No classifier: explain.classifier is not set, so no decision is attributed.")
    tokens = {
        str(kind): [[tokenize(folder.tokenizer, part, text.place) for part in text.parts] for text in texts]
        for kind, folder in folders.items()
    }
    if classifier is not None:
        tokens[CLASSIFIER] = [tokenize_together(classifier.tokenizer, text.parts, text.place) for text in texts]
    return Inputs(texts, left_out, folders, classifier, missing, tokens)


def _check_kind(classifier: Classifier, texts: list[Text]) -> None:
    """UserError for one text where the classifier was fine-tuned on two, or the other way round, if that is known."""
    if classifier.paired is None:
        return
    for text in texts:
        paired = text.pair is not None
        if paired != classifier.paired:
            both = 'Give explain.file with both in each record, such as {"sentence1": …, "sentence2": …}'
            raise UserError(
                f"{text.place}: {KINDS_OF_TEXTS[paired]}, but the classifier {classifier.path} was fine-tuned "
                f"on {KINDS_OF_TEXTS[classifier.paired]} at once, and would answer at random. "
                f"{'Leave the second out' if paired else both}."
            )


def make_report(config: RunConfig, inputs: Inputs, device: torch.device) -> Json:
    """Loads, asks, and forgets one network after another."""
    settings = config.explain
    notes: list[str] = []
    report: Json = {"format": FORMAT, "networks": {}, "missing": inputs.missing, "notes": notes}
    report["texts"] = [dict(zip(PARTS, text.parts, strict=False)) | {"place": text.place} for text in inputs.texts]
    if inputs.left_out:
        notes.append(f"{inputs.left_out:,} more texts of the file are not shown: one page holds a million characters.")
    for kind, folder in inputs.folders.items():
        report["networks"][kind] = {
            "path": str(folder.path),
            "class": (folder.config.architectures or ["?"])[0],
            "weights_sha256": folder.digest(),
            "window": window_length(folder.tokenizer, folder.config),
        }
        ask = _detect if kind == "discriminator" else _guess
        ask(folder, inputs.tokens[kind], report, device, settings.candidates, settings.candidate_budget)
        gc.collect()
    if inputs.classifier is not None:
        _classify(inputs.classifier, inputs.tokens[CLASSIFIER], report, device, settings.steps)
    return report


def _detect(folder: Folder, tokens: list[list[Tokens]], report: Json, device: torch.device, *_: int) -> None:
    """texts[i].tokens: piece, start, end, of, replaced. Of two texts each is read by itself."""
    model = load_network(folder, device)
    each = [part for parts in tokens for part in parts]
    with Progress(sum(len(part.ids) for part in each), "tokens", "discriminator") as progress:
        chances = replaced_probabilities(folder, model, each, progress.advance)
    rows = iter([[{"replaced": chance} for chance in row] for row in chances])
    for entry, parts in zip(report["texts"], tokens, strict=True):
        entry["tokens"] = _places(parts, rows)


def _guess(
    folder: Folder, tokens: list[list[Tokens]], report: Json, device: torch.device, count: int, budget: int
) -> None:
    """Candidates of each token; beside the discriminator's judgement where both cut the text into the same tokens."""
    model = load_network(folder, device)
    each = [part for parts in tokens for part in parts]
    queries = affordable(folder, each, budget)
    with Progress(len(queries), "tokens", "generator") as progress:
        guesses = guess(folder, model, each, queries, count, progress.advance)
    asked = [one for row in guesses for one in row if one is not None]
    require_finite((chance for one in asked for chance in (one.own, *(best[-1] for best in one.best))), folder.where)
    apart = False
    rows = iter([[_as_json(one) for one in row] for row in guesses])
    for entry, parts in zip(report["texts"], tokens, strict=True):
        found = _places(parts, rows)
        known = entry.get("tokens")
        if known is not None and [_place(one) for one in known] != [_place(one) for one in found]:
            entry["generator_tokens"] = found
            apart = True
        else:
            entry["tokens"] = [old | new for old, new in zip(known or found, found, strict=True)]
    total = sum(len(part.ids) for part in each)
    if len(queries) < total:
        report["notes"].append(
            f"The generator was asked about the first {len(queries):,} of {total:,} tokens only: each one costs a "
            "reading of its window (explain.candidate_budget)."
        )
    if apart:
        report["notes"].append(
            "The generator cuts the text into other tokens than the discriminator: see its own list."
        )


def _classify(
    classifier: Classifier, tokens: list[list[Tokens]], report: Json, device: torch.device, steps: int
) -> None:
    """texts[i].classification, and a note for what is not explained or not to be trusted."""
    name, _ = classifier.filler
    report["networks"][CLASSIFIER] = {
        "path": str(classifier.path),
        "class": (classifier.config.architectures or ["?"])[0],
        "weights_sha256": classifier.digest(),
        "window": classifier.length,
        "window_from": classifier.length_from or "unknown",
        "fine_tuned_on": "unknown" if classifier.paired is None else KINDS_OF_TEXTS[classifier.paired],
        "labels": classifier.labels,
        "baseline": f"every token of the text is {name}, the special tokens around it stay",
        "method": "integrated gradients over the word embeddings (captum, Gauss-Legendre quadrature)",
    }
    report["notes"] += _unknown(classifier)
    model = load_classifier(classifier, device)
    with Progress(len(tokens), "texts", "classifier") as progress:
        for entry, parts in zip(report["texts"], tokens, strict=True):
            decision = decide(classifier, model, parts, steps)
            ends = decision.attribution.at_text, decision.attribution.at_baseline
            require_finite([*decision.outputs, *decision.attribution.values, *ends], f"{WHERE}: {classifier.path}")
            entry["classification"] = _decision(classifier, decision, parts)
            progress.advance()
    wide = sum(entry["classification"]["warning"] is not None for entry in report["texts"])
    if wide:
        report["notes"].append(
            f"The attributions of {wide:,} of {len(tokens):,} texts are not to be trusted: see there."
        )


def _unknown(classifier: Classifier) -> list[str]:
    """Notes on what the folder does not tell of its fine-tuning."""
    notes = []
    if classifier.length_from is None:
        notes.append(
            "Nothing tells how long the texts were that the classifier was fine-tuned on (no finetune.max_length in a "
            f"metrics.json, no model_max_length): it is given at most {classifier.length:,} tokens at once."
        )
    if classifier.paired is None:
        notes.append(
            "Nothing tells whether the classifier was fine-tuned on one text or on two at once (no `paired` in a "
            "metrics.json): asked otherwise, it answers at random."
        )
    return notes


def _decision(classifier: Classifier, decision: Decision, texts: list[Tokens]) -> Json:
    attribution, label = decision.attribution, classifier.labels[decision.answer]
    ends = zip(decision.values, decision.read, strict=True)
    rows = iter([[{"attribution": value} for value in values[:end]] for values, end in ends])
    result: Json = {"label": label, "regression": classifier.is_regression}
    if classifier.is_regression:
        result["score"] = decision.outputs[0]
    else:
        result["probabilities"] = dict(zip(classifier.labels, decision.outputs, strict=True))
    result |= {
        "target": ("score" if classifier.is_regression else f"logit of {label}")
        + (f", mean of {decision.explained_windows} windows" if decision.explained_windows > 1 else ""),
        "steps": attribution.steps,
        "at_text": attribution.at_text,
        "at_baseline": attribution.at_baseline,
        "difference": attribution.at_text - attribution.at_baseline,
        "sum": attribution.total,
        "gap": attribution.gap,
        "relative_gap": attribution.relative_gap,
        "warning": None,
        "tokens_read": sum(decision.read),
        "tokens_of_text": sum(len(text.ids) for text in texts),
        "windows": decision.windows,
        "windows_explained": decision.explained_windows,
        "tokens": _places(texts, rows),
    }
    if attribution.is_wide:
        size = "" if attribution.relative_gap is None else f" of {attribution.relative_gap:.1%}"
        result["warning"] = (
            f"The gap{size} is over {WIDE_GAP:.0%}, even with {attribution.steps} points: these attributions are "
            "not to be trusted. Raise explain.steps."
        )
    return result


def _as_json(guesses: Guesses | None) -> Json:
    if guesses is None:
        return {"candidates": None}
    best = [{"piece": piece, "shown": shown, "probability": chance} for piece, shown, chance in guesses.best]
    return {"generator": {"probability": guesses.own, "rank": guesses.rank}, "candidates": best}


def _places(texts: Sequence[Tokens], rows: Iterator[Sequence[Json]]) -> list[Json]:
    """The tokens of a text or two, one after another, with what the next rows, one a text, say of their first ones."""
    found = []
    for of, tokens in zip(PARTS, texts, strict=False):
        row = next(rows)
        places = zip(tokens.pieces, tokens.shown, tokens.spans, strict=True)
        for (piece, shown, (start, end)), more in zip(places, row, strict=False):
            found.append({"piece": piece, "shown": shown, "start": start, "end": end, "of": of} | more)
    return found


def _place(token: Json) -> tuple[Any, ...]:
    return token["piece"], token["start"], token["end"], token["of"]
