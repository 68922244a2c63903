"""BLEU and chrF by sacrebleu, ROUGE by rouge-score, with a tokenisation that fits the writing system.

Promise: the figures of a plain call of the library with the settings that the signature names. sacrebleu's default
(13a) and rouge-score's (ASCII letters and digits) are right for English only: text without spaces between words is
scored by characters (Chinese by sacrebleu's own `zh`), and ROUGE of other alphabets by whole Unicode words.
Price: no Porter stemmer but for ASCII text; Japanese and Thai words are not found, so their figures are of characters.
"""

import itertools
import re
import unicodedata
from collections.abc import Iterable, Sequence

from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import Tokenizer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Thai, Lao, Burmese, Khmer, kana, Han: scripts that put no space between words."""
_UNIT = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
_UNSPACED_LETTER, _HAN = re.compile(rf"[{_UNSPACED}]"), re.compile("[\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff]")
ENOUGH = 0.3
"""Share of the letters from which on a script decides."""

FOREIGN = 0.001
"""Share of letters beyond ASCII that a name or two in English text makes; German has fifteen times as many."""

ROUGE = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}


class UnicodeWords(Tokenizer):
    """Words in lower case, of any alphabet; characters of scripts that put no space between words."""

    def tokenize(self, text: str) -> list[str]:
        """Tokens of a text, without punctuation."""
        return units(unicodedata.normalize("NFKC", text).lower())


def units(text: str) -> list[str]:
    """Words, and characters of scripts without spaces, in order."""
    return _UNIT.findall(text)


def first_units(text: str, count: int) -> str:
    """The text up to the end of its unit number `count`."""
    found = next(itertools.islice(_UNIT.finditer(text), count - 1, None), None)
    return text[: found.end()] if found else text


def bleu_tokenizer(texts: Iterable[str]) -> str:
    """sacrebleu's name of the tokenizer for such references: 13a, zh, or char for other scripts without spaces."""
    letters = [letter for text in texts for letter in text if letter.isalpha()]
    unspaced = sum(_UNSPACED_LETTER.match(letter) is not None for letter in letters)
    if unspaced < ENOUGH * len(letters) or not letters:
        return "13a"
    return "zh" if sum(_HAN.match(letter) is not None for letter in letters) > 0.95 * unspaced else "char"


def translation_metrics(
    generated: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[dict[str, float], dict[str, str]]:
    """bleu and chrf of a corpus, 0 to 100, and sacrebleu's signature of each. references: one or more a text.

    Papineni et al. 2002; Popovic 2015; Post 2018.
    """
    streams = [list(stream) for stream in itertools.zip_longest(*references)]
    tokenizer = bleu_tokenizer(text for texts in references for text in texts)
    scores, signatures = {}, {}
    for name, metric in (("bleu", BLEU(tokenize=tokenizer)), ("chrf", CHRF())):
        scores[name] = float(metric.corpus_score(list(generated), streams).score)
        signatures[f"{name}_signature"] = str(metric.get_signature())
    return scores, signatures


def summary_metrics(
    generated: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[dict[str, float], dict[str, str]]:
    """rouge_1, rouge_2 and rouge_l: mean F measure, 0 to 1, of each text's best reference; and what tokenised them.

    Lin 2004; rouge_l is over the whole text as one sentence ("rougeL"). References in ASCII letters take
    rouge-score's own tokenizer with its Porter stemmer, others UnicodeWords.
    """
    letters = [letter for texts in references for text in texts for letter in text if letter.isalpha()]
    ascii_only = sum(not letter.isascii() for letter in letters) <= FOREIGN * len(letters)
    tokenizer = None if ascii_only else UnicodeWords()
    scorer = RougeScorer(list(ROUGE.values()), use_stemmer=ascii_only, tokenizer=tokenizer)
    rows = [scorer.score_multi(list(texts), text) for texts, text in zip(references, generated, strict=True)]
    scores = {name: sum(row[theirs].fmeasure for row in rows) / len(rows) for name, theirs in ROUGE.items()}
    kind = "rouge-score's own, Porter stemmer" if ascii_only else "Unicode words, characters of scripts without spaces"
    return scores, {"rouge_tokenizer": kind}
