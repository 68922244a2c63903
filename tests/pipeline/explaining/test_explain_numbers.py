"""What the networks say, against the networks asked directly, captum called directly, and a closed form."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import transformers
from captum.attr import LayerIntegratedGradients
from torch import Tensor, nn

from pipeline.explaining.attribution import MOST_DOUBLINGS, attribute, baseline_ids, integrate
from pipeline.explaining.candidates import affordable, guess
from pipeline.explaining.classifier import decide, load_classifier, open_classifier, pool
from pipeline.explaining.detection import BATCH_TOKENS, replaced_probabilities
from pipeline.explaining.tokens import tokenize
from pipeline.probing.networks import load_network, open_folder
from tests.pipeline.explaining.explained_folders import fine_tuned, tiny_classifier, tiny_generator
from tests.pipeline.tasks.tiny_folders import ARCHITECTURES, tiny_folder

CPU = torch.device("cpu")
TEXT = "the very good film was a bad plot"
LONG = " ".join(f"w{i % 40}" for i in range(150))


def ignored(_: int) -> None:
    """Takes the place of a progress bar."""


@pytest.mark.parametrize("architecture", ["electra", "modernbert"])
def test_replaced_is_the_networks_own_probability(tmp_path: Path, architecture: str) -> None:
    path = tiny_folder(tmp_path, architecture)
    if architecture == "modernbert":
        config = json.loads((path / "config.json").read_text())
        config |= {"id2label": {"0": "original", "1": "replaced"}, "label2id": {"original": 0, "replaced": 1}}
        (path / "config.json").write_text(json.dumps(config))
    folder = open_folder(path, "discriminator")
    model = load_network(folder, CPU)
    tokens = [tokenize(folder.tokenizer, text, "here") for text in (TEXT, "bad", LONG, " ".join([LONG] * 20))]
    sizes: list[int] = []
    model.register_forward_pre_hook(lambda _, __, inputs: sizes.append(inputs["input_ids"].numel()), with_kwargs=True)
    found = replaced_probabilities(folder, model, tokens, ignored)
    assert max(sizes) <= BATCH_TOKENS
    with torch.no_grad():
        logits = model(**folder.tokenizer(TEXT, return_tensors="pt")).logits[0, 1:-1].double()
    expected = torch.sigmoid(logits) if architecture == "electra" else logits.softmax(-1)[:, 1]
    torch.testing.assert_close(torch.tensor(found[0], dtype=torch.double), expected, atol=1e-6, rtol=0)
    assert [len(row) for row in found] == [8, 1, 150, 3000]
    with torch.no_grad():  # windows of 62 tokens, half shared: token 100 is nearest to the middle of 88 … 149
        last = torch.tensor([[2, *tokens[2].ids[88:150], 3]])
        logits = model(input_ids=last).logits[0].double()
    expected = torch.sigmoid(logits) if architecture == "electra" else logits.softmax(-1)[:, 1]
    assert found[2][140] == pytest.approx(float(expected[1 + 140 - 88]), abs=1e-6)


def test_candidates_are_those_of_the_masked_text(tmp_path: Path) -> None:
    folder = open_folder(tiny_generator(tmp_path), "generator")
    model = load_network(folder, CPU)
    tokens = [tokenize(folder.tokenizer, text, "here") for text in (TEXT, "bad")]
    queries = affordable(folder, tokens, 10**6)
    found = guess(folder, model, tokens, queries, 4, ignored)
    fill = transformers.pipeline("fill-mask", model=model, tokenizer=folder.tokenizer, device="cpu", top_k=4)
    words = TEXT.split()
    for place, word in enumerate(words):
        answers = fill(" ".join([*words[:place], "[MASK]", *words[place + 1 :]]))
        guesses = found[0][place]
        assert guesses is not None
        assert [piece for piece, _, _ in guesses.best] == [answer["token_str"] for answer in answers]
        assert [chance for *_, chance in guesses.best] == pytest.approx([a["score"] for a in answers], abs=1e-6)
        if word in [piece for piece, _, _ in guesses.best]:
            assert guesses.best[guesses.rank - 1][0] == word
            assert guesses.best[guesses.rank - 1][2] == guesses.own


def test_ids_without_a_piece_are_no_candidates(tmp_path: Path) -> None:
    """A vocab.txt that has a line twice leaves a gap, so that the last id is not below the number of pieces."""
    path = tiny_generator(tmp_path)
    saved = json.loads((path / "tokenizer.json").read_text())
    gaps = {word: saved["model"]["vocab"].pop(word) for word in ("very", "plot")}
    (path / "tokenizer.json").write_text(json.dumps(saved))
    folder = open_folder(path, "generator")
    model = load_network(folder, CPU)
    with torch.no_grad():
        model.generator_lm_head.bias[list(gaps.values())] = 20.0
    text = tokenize(folder.tokenizer, "w39 film", "here")
    assert max(text.ids) >= len(folder.tokenizer)
    count = model.config.vocab_size
    for guesses in guess(folder, model, [text], affordable(folder, [text], 10**6), count, ignored)[0]:
        assert guesses is not None
        assert sorted(piece for piece, _, _ in guesses.best) == sorted(folder.tokenizer.get_vocab())
        assert sum(chance for *_, chance in guesses.best) == pytest.approx(1, abs=1e-5)
        assert guesses.best[guesses.rank - 1][2] == guesses.own


def test_labels_of_one_name_are_numbered(tmp_path: Path) -> None:
    classifier = open_classifier(tiny_classifier(tmp_path, labels=("same", "same", "same (2)", "same")))
    assert classifier.labels == ["same", "same (2)", "same (2) (2)", "same (3)"]


def test_the_budget_is_spent_on_the_first_tokens(tmp_path: Path) -> None:
    folder = open_folder(tiny_generator(tmp_path), "generator")
    tokens = [tokenize(folder.tokenizer, text, "here") for text in (TEXT, LONG)]
    queries = affordable(folder, tokens, 10 * 8 + 64 * 5 + 63)
    assert [(query.owner, query.place) for query in queries] == [(0, i) for i in range(8)] + [(1, i) for i in range(5)]
    assert len(affordable(folder, tokens, 1)) == 1


class Linear(nn.Module):
    """logits = sum over tokens of W e(token): attributions are W (e(token) - e(baseline)), exactly."""

    def __init__(self, curve: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.top, self.curve = nn.Embedding(20, 6), nn.Linear(6, 3), curve

    def get_input_embeddings(self) -> nn.Module:
        """The table."""
        return self.table

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        """Logits (rows, 3)."""
        logits = (self.top(self.table(input_ids)) * attention_mask[..., None]).sum(1)
        return SimpleNamespace(logits=torch.tanh(40 * logits) if self.curve else logits)


@torch.no_grad()
def test_a_linear_model_in_closed_form() -> None:
    model = Linear()
    ids = [2, 7, 11, 7, 3]
    baseline = baseline_ids(ids, [True, False, False, False, True], 0)
    assert baseline == [2, 0, 0, 0, 3]
    found = attribute(model, ids, baseline, 1, 2)
    table, weight = model.table.weight, model.top.weight[1]
    expected = [float(weight @ (table[a] - table[b])) for a, b in zip(ids, baseline, strict=True)]
    assert found.values == pytest.approx(expected, abs=1e-6)
    assert (found.values[0], found.values[-1], found.steps) == (0.0, 0.0, 2)
    assert abs(found.gap) < 1e-5
    assert not found.is_wide


def test_a_wide_gap_asks_for_more_points() -> None:
    model = Linear(curve=True)
    rough = integrate(model, [2, 7, 11, 3], [2, 0, 0, 3], 0, 1)
    assert rough.is_wide
    found = attribute(model, [2, 7, 11, 3], [2, 0, 0, 3], 0, 1)
    assert found.steps == 1 << MOST_DOUBLINGS or not found.is_wide
    fine = attribute(model, [2, 7, 11, 3], [2, 0, 0, 3], 0, 60)
    assert not fine.is_wide
    assert fine.total == pytest.approx(fine.at_text - fine.at_baseline, rel=0.05)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_attributions_are_those_of_captum(tmp_path: Path, architecture: str) -> None:
    classifier = open_classifier(tiny_classifier(tmp_path / "model", architecture))
    model = load_classifier(classifier, CPU)
    tokens = tokenize(classifier.tokenizer, TEXT, "here")
    decision = decide(classifier, model, [tokens], 30)
    row = torch.tensor([[2, *tokens.ids, 3]])
    with torch.no_grad():
        logits = model(input_ids=row).logits[0]
    assert decision.outputs == pytest.approx(logits.softmax(-1).tolist(), abs=1e-6)
    assert decision.answer == int(logits.argmax())
    start = torch.tensor([[2, *[0] * len(tokens.ids), 3]])
    captum = LayerIntegratedGradients(lambda ids: model(input_ids=ids).logits, model.get_input_embeddings())
    values, delta = captum.attribute(
        row, start, target=decision.answer, n_steps=decision.attribution.steps, return_convergence_delta=True
    )
    assert decision.values == [pytest.approx(values[0].sum(-1)[1:-1].tolist(), abs=1e-5)]
    assert decision.attribution.gap == pytest.approx(float(delta), abs=1e-4)
    assert decision.attribution.at_text == pytest.approx(float(logits[decision.answer]), abs=1e-5)
    assert math.isclose(sum(v or 0 for v in decision.values[0]), decision.attribution.total, abs_tol=1e-6)


@pytest.mark.parametrize(("pooling", "windows"), [(None, 1), ("mean", 4), ("max", 4)])
def test_a_long_text_is_read_as_the_task_says(tmp_path: Path, pooling: str | None, windows: int) -> None:
    settings = {"long_text": "windows", "pooling": pooling, "stride": 30} if pooling else {}
    classifier = open_classifier(fine_tuned(tmp_path, None, **settings))
    model = load_classifier(classifier, CPU)
    tokens = tokenize(classifier.tokenizer, LONG, "here")
    decision = decide(classifier, model, [tokens], 8)
    assert decision.windows == windows
    assert decision.read == [62 if pooling is None else 150]
    assert decision.explained_windows == (4 if pooling == "mean" else 1)
    known = [value for value in decision.values[0] if value is not None]
    assert sum(known) == pytest.approx(decision.attribution.total, abs=1e-5)
    if pooling == "mean":
        assert None not in decision.values[0]


def test_windows_decide_together() -> None:
    config = SimpleNamespace(num_labels=2)
    logits = torch.tensor([[3.0, 0.0], [0.0, 1.0], [0.0, 1.5]], dtype=torch.double)
    mean = SimpleNamespace(is_regression=False, pooling="mean", config=config)
    outputs, answer, chosen = pool(mean, logits)  # type: ignore[arg-type]
    assert (answer, chosen) == (0, [0, 1, 2])
    assert outputs == pytest.approx(logits.log_softmax(-1).mean(0).softmax(-1).tolist())
    surest = SimpleNamespace(is_regression=False, pooling="max", config=config)
    assert pool(surest, logits.flip(0))[1:] == (0, [2])  # type: ignore[arg-type]
    score = SimpleNamespace(is_regression=True, pooling="mean", config=config)
    assert pool(score, torch.tensor([[2.0], [4.0]]))[:2] == ([3.0], 0)  # type: ignore[arg-type]
    largest = SimpleNamespace(is_regression=True, pooling="max", config=config)
    assert pool(largest, torch.tensor([[2.0], [4.0]])) == ([4.0], 0, [1])  # type: ignore[arg-type]


def test_a_regression_has_a_score(tmp_path: Path) -> None:
    classifier = open_classifier(tiny_classifier(tmp_path, labels=("similarity",)))
    model = load_classifier(classifier, CPU)
    decision = decide(classifier, model, [tokenize(classifier.tokenizer, TEXT, "here")], 20)
    assert classifier.is_regression
    assert decision.outputs == pytest.approx([decision.attribution.at_text], abs=1e-5)
