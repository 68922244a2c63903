"""Trains the run's SentencePiece model: unigram, byte fallback, [PAD] [UNK] [CLS] [SEP] [MASK] as ids 0 to 4.

The same sentences give the same bytes, on any number of cores. Two choices serve the Hugging Face twin
(`pipeline.vocabulary.fast`), which must give the same ids: normalisation works on single code points, and the scores
are multiples of SCORE_STEP, so that sums in single and in double precision are equal.
The price: text in decomposed form (e and U+0301) is not composed, and scores are off by half a step (1/32 nat) at most.
SentencePiece holds all sentences that it is given: `tokenizer.sample_bytes` bounds them (50 MB of English and 32,000
pieces took 1.1 GB and a minute of CPU time).
"""

import io
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as sentencepiece_proto

from pipeline.base.errors import UserError
from pipeline.base.sections import TokenizerConfig

SPECIAL_PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""Pieces 0 to 4. All but [UNK] are SentencePiece's control symbols: no text becomes one."""

NORMALISATION = "nmt_nfkc_code_points"
"""Name, in the model, of the rules of `normalisation_rules`; the twin relies on their being of one code point each."""

SCORE_STEP = 2.0**-4
"""Scores are multiples of this (nats): single precision then adds a text's scores without rounding up to 2^20 nats."""

LINE_CHARACTERS = 1_000
"""Longest line given to SentencePiece, at most 4 bytes a character; it drops lines over MAX_LINE_BYTES."""

MAX_LINE_BYTES = 4 * LINE_CHARACTERS + 4

THREADS = 16
"""Fixed, for SentencePiece adds its expected counts thread by thread, and the sum depends on how many there are."""

ALWAYS_CHARACTERS = "".join(sorted({*"".join(SPECIAL_PIECES), *"<0x123456789ABCDEF>"}))
"""Characters of the names of special and byte pieces. Each is a piece, so that such a name in a text can be spelt."""


class SizeError(UserError):
    """The text gives no vocabulary of the size that was asked for."""

    def __init__(self, message: str, nearest: int = 0) -> None:
        super().__init__(message)
        self.nearest = nearest
        """The nearest size that it gives."""


def train_tokenizer(sentences: Iterable[str], config: TokenizerConfig, seed: int) -> bytes:
    """Bytes of a SentencePiece model of exactly `config.vocab_size` pieces, from at most `config.sample_bytes` of text.

    sentences: documents or lines, of any length; line breaks end a sentence. seed: for SentencePiece's random draws.
    Raises SizeError where the text gives no vocabulary of that size.
    Unigram language model: Kudo 2018, "Subword Regularization", section 3.
    """
    sentencepiece.set_random_generator_seed(seed)
    model = io.BytesIO()
    failed: list[Exception] = []
    with tempfile.TemporaryDirectory() as folder:
        rules = Path(folder) / "rules.tsv"
        rules.write_text(normalisation_rules(), encoding="ascii")
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=cut_lines(_watched(sentences, failed), config.sample_bytes),
                model_writer=model,
                model_type="unigram",
                vocab_size=config.vocab_size,
                character_coverage=config.character_coverage,
                byte_fallback=True,
                required_chars=ALWAYS_CHARACTERS,
                normalization_rule_tsv=str(rules),
                max_sentence_length=MAX_LINE_BYTES,
                num_threads=THREADS,
                minloglevel=2,
                **_special_pieces(),
            )
        except RuntimeError as error:
            if failed:  # the sentences' own error, which SentencePiece wraps
                raise failed[0] from None
            raise _explained(str(error), config) from error
    return _finish(model.getvalue())


def cut_lines(sentences: Iterable[str], most_bytes: int) -> Iterator[str]:
    """Lines of at most LINE_CHARACTERS, cut at white space where there is any; ends after `most_bytes` of UTF-8."""
    left = most_bytes
    for sentence in sentences:
        for line in sentence.splitlines():
            for part in _cut(line):
                left -= len(part.encode("utf-8"))
                if left < 0:
                    return
                if part:
                    yield part


def _watched(sentences: Iterable[str], failed: list[Exception]) -> Iterator[str]:
    """The sentences; an exception on the way is kept in `failed` as well."""
    try:
        yield from sentences
    except Exception as error:
        failed.append(error)
        raise


def _cut(line: str) -> Iterator[str]:
    while len(line) > LINE_CHARACTERS:
        space = max(line.rfind(" ", 1, LINE_CHARACTERS), line.rfind("\t", 1, LINE_CHARACTERS))
        end = space if space > 0 else LINE_CHARACTERS
        yield line[:end]
        line = line[end:]
    yield line


def normalisation_rules() -> str:
    """SentencePiece's own nmt_nfkc restricted to single code points: lines of "HEX\\tHEX HEX" for its trainer.

    Compatibility forms (NFKC), white space of any kind and U+2581 to a space, control characters deleted. Rules over
    several code points are left out: `tokenizers` applies such rules in another way, and the ids would differ.
    """
    normalizer = sentencepiece.SentencePieceNormalizer(
        rule_name="nmt_nfkc", add_dummy_prefix=False, escape_whitespaces=False, remove_extra_whitespaces=False
    )
    characters = [chr(code) for code in range(1, 0x110000) if not 0xD800 <= code < 0xE000]
    rules = []
    for character, normal in zip(characters, normalizer.normalize(characters), strict=True):
        if normal != character:
            replacement = " ".join(f"{ord(one):X}" for one in normal)
            rules.append(f"{ord(character):X}\t{replacement}\n")
    return "".join(rules)


def _special_pieces() -> dict[str, Any]:
    pad, unknown, begin, end, mask = SPECIAL_PIECES
    pieces = {"pad_piece": pad, "unk_piece": unknown, "bos_piece": begin, "eos_piece": end}
    ids = {"pad_id": 0, "unk_id": 1, "bos_id": 2, "eos_id": 3}
    return {**pieces, **ids, "control_symbols": [mask]}


def _finish(model: bytes) -> bytes:
    """Scores onto the grid; the path of the temporary table out of the model, so that its bytes repeat."""
    proto = sentencepiece_proto.ModelProto.FromString(model)
    proto.normalizer_spec.normalization_rule_tsv = ""
    proto.normalizer_spec.name = NORMALISATION
    for piece in proto.pieces:
        piece.score = round(piece.score / SCORE_STEP) * SCORE_STEP
    return bytes(proto.SerializeToString(deterministic=True))


def _explained(message: str, config: TokenizerConfig) -> UserError:
    """SentencePiece's complaint in our words."""
    size = f"tokenizer.vocab_size {config.vocab_size:,}"
    too_large = re.search(r"Vocabulary size too high .*<= (\d+)", message)
    if too_large:
        largest = int(too_large.group(1))
        return SizeError(
            f"{size} is larger than the text supports: the sample gives at most {largest:,} pieces. "
            f"Set tokenizer.vocab_size={largest} or less, or give more text (corpus.paths, tokenizer.sample_bytes).",
            largest,
        )
    too_small = re.search(r"smaller than required_chars\. \d+ vs (\d+)", message)
    if too_small:
        least = int(too_small.group(1))
        return SizeError(
            f"{size} is too small: special pieces, 256 bytes and the characters of the text need {least:,}. "
            f"Raise tokenizer.vocab_size to {least} or more, or lower tokenizer.character_coverage (to 0.98 at least).",
            least,
        )
    if "sentences_.empty()" in message:
        return UserError("tokenizer: there is no text to train on. Check corpus.paths and tokenizer.sample_bytes.")
    return UserError(f"tokenizer: SentencePiece cannot train {size} on this text: {message}")
