"""BLEU, chrF and ROUGE: the libraries' own calls, and figures worked out by hand for other writing systems."""

import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from pipeline.tasks.seq2seq_metrics import bleu_tokenizer, first_units, summary_metrics, translation_metrics, units

GENERATED = ["Ein Mann schläft in einem Zimmer.", "Zwei Hunde laufen über das Gras", ""]
TARGETS = ["Ein Mann schläft in einem grünen Zimmer.", "Zwei Hunde rennen über das Gras.", "Ein Haus"]


def test_bleu_and_chrf_are_sacrebleus() -> None:
    scores, told = translation_metrics(GENERATED, [(target,) for target in TARGETS])
    assert scores["bleu"] == sacrebleu.corpus_bleu(GENERATED, [TARGETS]).score
    assert scores["chrf"] == sacrebleu.corpus_chrf(GENERATED, [TARGETS]).score
    assert "tok:13a" in told["bleu_signature"]
    assert "nc:6" in told["chrf_signature"]


def test_texts_with_fewer_references() -> None:
    first, second = ["a small house", "the cat sat down"], ["a little house", None]
    scores, told = translation_metrics(
        ["a little house", "the cat sat down"], [("a small house", "a little house"), ("the cat sat down",)]
    )
    assert scores["bleu"] == sacrebleu.corpus_bleu(["a little house", "the cat sat down"], [first, second]).score
    assert "nrefs:var" in told["bleu_signature"]


@pytest.mark.parametrize(
    ("texts", "tokenizer"),
    [
        (["Ein Haus"], "13a"),
        (["\u4eca\u5929\u5929\u6c14\u5f88\u597d\u3002"], "zh"),
        (["\u4eca\u65e5\u306f\u5929\u6c17\u304c\u3044\u3044\u3067\u3059\u3002"], "char"),
        (["\u0e27\u0e31\u0e19\u0e19\u0e35\u0e49"], "char"),
        (["\u0421\u0435\u0433\u043e\u0434\u043d\u044f"], "13a"),
        (["The word \u4e2d means middle"], "13a"),
        (["123"], "13a"),
    ],
)
def test_tokenizer_by_the_writing_system(texts: list[str], tokenizer: str) -> None:
    assert bleu_tokenizer(texts) == tokenizer


def test_chinese_bleu_is_of_characters() -> None:
    answer, right = "\u4eca\u5929\u5929\u6c14\u5f88\u597d", "\u4eca\u5929\u5929\u6c14\u4e0d\u597d"
    scores, told = translation_metrics([answer], [(right,)])
    assert scores["bleu"] == sacrebleu.corpus_bleu([answer], [[right]], tokenize="zh").score > 0
    assert "tok:zh" in told["bleu_signature"]


def test_rouge_is_the_librarys_for_english() -> None:
    answers, right = ["meetings on Monday", "budget"], ["Monday meeting", "the budgets of May"]
    scores, told = summary_metrics(answers, [(text,) for text in right])
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    for name, theirs in (("rouge_1", "rouge1"), ("rouge_2", "rouge2"), ("rouge_l", "rougeL")):
        each = [scorer.score(target, text)[theirs].fmeasure for target, text in zip(right, answers, strict=True)]
        assert scores[name] == sum(each) / 2
    assert "Porter" in told["rouge_tokenizer"]


def test_rouge_of_other_alphabets_counts_their_words() -> None:
    scores, told = summary_metrics(["\u5f00\u4f1a\u901a\u77e5"], [("\u4f1a\u8bae\u901a\u77e5",)])
    assert scores["rouge_1"] == pytest.approx(3 / 4)  # three of four characters
    assert scores["rouge_2"] == pytest.approx(1 / 3)
    german, _ = summary_metrics(["grüne Häuser"], [("grune Häuser",)])
    assert german["rouge_1"] == pytest.approx(1 / 2)  # the library's own tokenizer would break both words
    assert "Unicode" in told["rouge_tokenizer"]


def test_units() -> None:
    assert units("Ein Haus, \u4e2d\u6587 x_1") == ["Ein", "Haus", "\u4e2d", "\u6587", "x", "1"]
    assert first_units("One, two. Three", 2) == "One, two"
    assert first_units("One", 5) == "One"
    assert first_units("\u4eca\u5929\u5f88\u597d", 2) == "\u4eca\u5929"
