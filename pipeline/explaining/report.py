"""What the networks make of the texts, as one JSON-able value: the page shows it, and the file beside it holds it.

Networks are loaded one after another, so that the memory is that of the largest.
"""

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.base.config import RunConfig
from pipeline.base.errors import UserError
from pipeline.base.progress import Progress
from pipeline.base.run_folder import RunFolder
from pipeline.explaining.attribution import WIDE_GAP
from pipeline.explaining.candidates import Guesses, affordable, guess
from pipeline.explaining.classifier import Classifier, Decision, decide, load_classifier, open_classifier
from pipeline.explaining.detection import replaced_probabilities
from pipeline.explaining.texts import Text, read_texts
from pipeline.explaining.tokens import Tokens, tokenize, window_length
from pipeline.probing.networks import KINDS, Folder, Kind, load_network, open_folder

FORMAT = 1
"""Of the JSON file."""

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


def find_inputs(config: RunConfig) -> Inputs:
    """Texts and folders. Raises UserError for what is named and not there, and where there is no network at all."""
    settings = config.explain
    texts, left_out = read_texts(settings)
    folders: dict[Kind, Folder] = {}
    missing = []
    for kind in KINDS:
        named = settings.discriminator if kind == "discriminator" else settings.generator
        path = Path(named) if named else RunFolder(Path(config.run_dir)).export / kind
        if named and (path / kind / "config.json").is_file():
            path = path / kind  # the export as a whole was named
        if named or path.exists():
            folders[kind] = open_folder(path, kind, "explain")
        else:
            missing.append(
                f"No {kind}: {path} does not exist (pipeline/export.py makes it; explain.{kind} names another)."
            )
    classifier = open_classifier(Path(settings.classifier)) if settings.classifier else None
    if not folders and classifier is None:
        raise UserError("no network to explain with. " + " ".join(missing))
    if classifier is None:
        missing.append("No classifier: explain.classifier is not set, so no decision is attributed.")
    return Inputs(texts, left_out, folders, classifier, missing)


def make_report(config: RunConfig, inputs: Inputs, device: torch.device) -> Json:
    """Loads, asks, and forgets one network after another."""
    settings = config.explain
    notes: list[str] = []
    report: Json = {"format": FORMAT, "networks": {}, "missing": inputs.missing, "notes": notes}
    report["texts"] = [{"text": text.text, "place": text.place} for text in inputs.texts]
    if inputs.left_out:
        notes.append(f"{inputs.left_out:,} more texts of the file are not shown: one page holds a million characters.")
    for kind, folder in inputs.folders.items():
        report["networks"][kind] = {
            "path": str(folder.path),
            "class": (folder.config.architectures or ["?"])[0],
            "weights_sha256": folder.digest(),
            "window": window_length(folder.tokenizer, folder.config),
        }
        tokens = _tokenize(folder.tokenizer, inputs.texts)
        ask = _detect if kind == "discriminator" else _guess
        ask(folder, tokens, report, device, settings.candidates, settings.candidate_budget)
        gc.collect()
    if inputs.classifier is not None:
        _classify(inputs.classifier, inputs.texts, report, device, settings.steps)
    return report


def _tokenize(tokenizer: Any, texts: list[Text]) -> list[Tokens]:
    return [tokenize(tokenizer, text.text, text.place) for text in texts]


def _detect(folder: Folder, tokens: list[Tokens], report: Json, device: torch.device, *_: int) -> None:
    """texts[i].tokens: piece, start, end, replaced."""
    model = load_network(folder, device)
    with Progress(sum(len(text.ids) for text in tokens), "tokens", "discriminator") as progress:
        chances = replaced_probabilities(folder, model, tokens, progress.advance)
    for entry, text, row in zip(report["texts"], tokens, chances, strict=True):
        entry["tokens"] = _places(text, [{"replaced": chance} for chance in row])


def _guess(folder: Folder, tokens: list[Tokens], report: Json, device: torch.device, count: int, budget: int) -> None:
    """Candidates of each token; beside the discriminator's judgement where both cut the text into the same tokens."""
    model = load_network(folder, device)
    queries = affordable(folder, tokens, budget)
    with Progress(len(queries), "tokens", "generator") as progress:
        guesses = guess(folder, model, tokens, queries, count, progress.advance)
    apart = False
    for entry, text, row in zip(report["texts"], tokens, guesses, strict=True):
        found = _places(text, [_as_json(guesses) for guesses in row])
        known = entry.get("tokens")
        if known is not None and [_place(one) for one in known] != [_place(one) for one in found]:
            entry["generator_tokens"] = found
            apart = True
        else:
            entry["tokens"] = [old | new for old, new in zip(known or found, found, strict=True)]
    total = sum(len(text.ids) for text in tokens)
    if len(queries) < total:
        report["notes"].append(
            f"The generator was asked about the first {len(queries):,} of {total:,} tokens only: each one costs a "
            "reading of its window (explain.candidate_budget)."
        )
    if apart:
        report["notes"].append(
            "The generator cuts the text into other tokens than the discriminator: see its own list."
        )


def _classify(classifier: Classifier, texts: list[Text], report: Json, device: torch.device, steps: int) -> None:
    """texts[i].classification, and a note for what is not explained or not to be trusted."""
    name, _ = classifier.filler
    report["networks"]["classifier"] = {
        "path": str(classifier.path),
        "class": (classifier.config.architectures or ["?"])[0],
        "weights_sha256": classifier.digest(),
        "window": classifier.length,
        "labels": classifier.labels,
        "baseline": f"every token of the text is {name}, the special tokens around it stay",
        "method": "integrated gradients over the word embeddings (captum, Gauss-Legendre quadrature)",
    }
    model = load_classifier(classifier, device)
    tokens = _tokenize(classifier.tokenizer, texts)
    with Progress(len(texts), "texts", "classifier") as progress:
        for entry, text in zip(report["texts"], tokens, strict=True):
            entry["classification"] = _decision(classifier, decide(classifier, model, text, steps), text)
            progress.advance()
    wide = sum(entry["classification"]["warning"] is not None for entry in report["texts"])
    if wide:
        report["notes"].append(
            f"The attributions of {wide:,} of {len(texts):,} texts are not to be trusted: see there."
        )


def _decision(classifier: Classifier, decision: Decision, tokens: Tokens) -> Json:
    attribution, label = decision.attribution, classifier.labels[decision.answer]
    result: Json = {"label": label, "regression": classifier.is_regression}
    if classifier.is_regression:
        result["score"] = decision.outputs[0]
    else:
        result["probabilities"] = dict(zip(classifier.labels, decision.outputs, strict=True))
    result |= {
        "target": f"{'score' if classifier.is_regression else 'logit of'} {label}"
        + (f", mean of {decision.explained_windows} windows" if decision.explained_windows > 1 else ""),
        "steps": attribution.steps,
        "at_text": attribution.at_text,
        "at_baseline": attribution.at_baseline,
        "difference": attribution.at_text - attribution.at_baseline,
        "sum": attribution.total,
        "gap": attribution.gap,
        "relative_gap": attribution.relative_gap,
        "warning": None,
        "tokens_read": decision.read,
        "tokens_of_text": len(tokens.ids),
        "windows": decision.windows,
        "windows_explained": decision.explained_windows,
        "tokens": _places(tokens, [{"attribution": value} for value in decision.values[: decision.read]]),
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


def _places(tokens: Tokens, more: Sequence[Json]) -> list[Json]:
    return [
        {"piece": tokens.pieces[index], "shown": tokens.shown[index], "start": start, "end": end} | more[index]
        for index, (start, end) in enumerate(tokens.spans[: len(more)])
    ]


def _place(token: Json) -> tuple[str, int, int]:
    return token["piece"], token["start"], token["end"]
