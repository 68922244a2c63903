"""The model card (README.md) of an exported network: what it is, how to load it, its origin and limits.

What was measured has a place between two marks, which refresh.py fills.
"""

from typing import Any

from pipeline.release.facts import Facts
from pipeline.release.markdown import table
from pipeline.release.measured import BEGIN, END
from pipeline.vocabulary.fast import has_exact_twin
from pipeline.vocabulary.reading import codec_of, is_json

_GENERATOR_USE = """\
```python
from transformers import pipeline

print(pipeline("fill-mask", "{place}")("The {mask} is here."))
```"""

_ELECTRA_USE = """\
```python
import torch

inputs = tokenizer("The banana is here.", return_tensors="pt")
with torch.no_grad():
    replaced = model(**inputs).logits.sigmoid()  # (1, tokens): probability that each token was replaced
```"""

_TAGGER_USE = """\
```python
from transformers import pipeline

print(pipeline("token-classification", "{place}")("The banana is here."))  # labels: original, replaced
```"""


def model_card(facts: Facts, name: str, class_name: str, auto_class: str, parameters: int) -> str:
    """Markdown with the YAML head that model hubs read. name: "generator" or "discriminator"."""
    place = f"{facts.config.run_dir}/export/{name}"
    use = _GENERATOR_USE if name == "generator" else _TAGGER_USE if "Token" in class_name else _ELECTRA_USE
    parts = [
        _head(facts, class_name),
        f"# {name.capitalize()} of the {facts.config.objective.name} run `{facts.config.run_dir}`",
        _what(facts, name, class_name, parameters),
        "## Use",
        "```python\n"
        f"from transformers import {auto_class}, AutoTokenizer\n\n"
        f'tokenizer = AutoTokenizer.from_pretrained("{place}")\n'
        f'model = {auto_class}.from_pretrained("{place}")\n```',
        use.format(place=place, mask=_mask(facts)),
        "## Origin",
        _origin(facts),
        f"{BEGIN}\n{END}",
        "## Limits",
        _limits(facts, name),
    ]
    return "\n\n".join(parts) + "\n"


def _head(facts: Facts, class_name: str) -> str:
    task = {"MaskedLM": "fill-mask", "TokenClassification": "token-classification"}.get(class_name.partition("For")[2])
    lines = ["---", "library_name: transformers", *([f"pipeline_tag: {task}"] if task else [])]
    tags = sorted({facts.config.model.body, facts.config.objective.name})
    return "\n".join([*lines, "tags:", *(f"- {tag}" for tag in tags), "---"])


def _what(facts: Facts, name: str, class_name: str, parameters: int) -> str:
    if facts.config.objective.name == "mlm":
        role = "A masked language model."
    elif name == "generator":
        role = "The generator: a smaller masked language model that proposed the replacements."
    else:
        role = "The discriminator: for each token, whether the generator replaced it. This is the network to fine-tune."
    body = {"electra": "ELECTRA's body (Clark et al. 2020)", "modernbert": "ModernBERT's body (Warner et al. 2024)"}
    return (
        f"`{class_name}`, {parameters:,} parameters, vocabulary of {facts.vocab_size:,} pieces. {role} "
        f"{body[facts.config.model.body]}, objective `{facts.config.objective.name}`."
    )


def _origin(facts: Facts) -> str:
    state, train = facts.state, facts.config.train
    here = " in this run" if facts.initial else ""
    rows = [
        ("checkpoint", f"{facts.checkpoint.name}, step {state.step:,} of {train.steps:,}"),
        ("checkpoint, sha256 of its manifest", facts.sha256),
        *[(f"first weights, init.{name}", _source(source)) for name, source in _sources(facts).items()],
        ("data, sha256 of the manifest", facts.data_manifest_sha256),
        *[(f"corpus {name}{here}", _seen(seen)) for name, seen in facts.corpora.items()],
        (f"tokenizer, sha256 of the {facts.tokenizer_kind}", facts.tokenizer_sha256),
        (f"sequences seen{here}", f"{state.samples:,} of {facts.config.data.sequence_length} tokens each"),
        (f"tokens seen{here}", f"{state.tokens:,}"),
        (f"training FLOPs{here}", f"{state.flops:.3g}"),
        ("precision, seed", f"{train.precision}, {facts.config.seed}"),
        ("MLflow run", facts.pretrain_run_id or "none"),
    ]
    return table(("", ""), rows)


def _seen(seen: dict[str, float]) -> str:
    return f"{seen['share']:.2%} of the sequences, {seen['epochs']:.2f} epochs"


def _sources(facts: Facts) -> dict[str, dict[str, Any]]:
    """init.json's sources by the key that named them; {} where the first weights were random."""
    return dict((facts.initial or {}).get("sources", {}))


def _source(source: dict[str, Any]) -> str:
    """Folder, digest, and what of it was used: rows of the vocabulary, what was drawn at random, positions."""
    return "; ".join([f"`{source['from']}`", f"sha256 {source['sha256']}", *source["notes"]])


def _limits(facts: Facts, name: str) -> str:
    trained = facts.trained_length
    limits = [
        f"{_lengths(facts)} The tokenizer's `model_max_length` is {trained}, so `truncation=True` cuts there.",
        _tokenizer_limits(facts),
        _knowledge(facts),
    ]
    if name == "discriminator":
        limits.append("It judges tokens against this run's generator: no detector of errors or of machine text.")
    return "\n".join(f"- {limit}" for limit in limits)


def _lengths(facts: Facts) -> str:
    here, trained = facts.config.data.sequence_length, facts.trained_length
    positions = facts.config.model.max_positions
    said = [f"Trained on sequences of {here} tokens."]
    if trained > here:
        said.append(f"What the run started from was trained on up to {trained} tokens.")
    if positions > trained:
        said.append(f"The network takes {positions}, but positions past {trained} were never trained.")
    return " ".join(said)


def _knowledge(facts: Facts) -> str:
    if not facts.initial:
        return (
            "It knows the language, domain and prejudices of its corpus and nothing else; no licence is given here, "
            "for it depends on that corpus."
        )
    return (
        "It knows the languages, domains and prejudices of its corpus and of whatever its first weights (see Origin) "
        "were trained on, and nothing else; no licence is given here, for it depends on both."
    )


def _tokenizer_limits(facts: Facts) -> str:
    names = (
        f"A special token's name in a text, such as `{_mask(facts)}`, is that token; with `split_special_tokens=True` "
        "it is plain text."
    )
    if is_json(facts.tokenizer):
        return (
            f"The tokenizer is the {facts.tokenizer_kind} that was given, as `tokenizer.json`, with its special tokens "
            f"as ids 0 to 4: text becomes the pieces that it became there. {names}"
        )
    if has_exact_twin(facts.tokenizer):
        return (
            f"The tokenizer gives SentencePiece's ids on any text. {names} Text in decomposed form is not composed: "
            "pass NFC text."
        )
    return f"The SentencePiece model was not trained here: in rare texts the fast tokenizer's ids differ. {names}"


def _mask(facts: Facts) -> str:
    """The mask token's name, which a given tokenizer chooses."""
    return codec_of(facts.tokenizer).special_names[-1]
