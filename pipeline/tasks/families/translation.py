"""Translation: {"source", "target"} a record; the decoder writes in a vocabulary trained on the training targets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from pipeline.base.errors import UserError
from pipeline.tasks.pretrained import open_tokenizer
from pipeline.tasks.seq2seq import Generation
from pipeline.tasks.seq2seq_metrics import translation_metrics
from pipeline.tasks.seq2seq_vocabulary import shared_pieces, train_target_vocabulary

FOLDER = "target_tokenizer"
"""Beside the model's files, whose own tokenizer is the source's."""


class Translation(Generation):
    """Chosen by chrF on dev, as BLEU is 0 until four words in a row are right.

    The vocabulary has finetune.target_vocab_size pieces, or as many as the data gives.
    """

    selection = "chrf"
    headline = ("bleu", "chrf")
    sentencepiece = b""

    def target_tokenizer(self, source: Any) -> Any:
        """Trained on the training targets the first time; afterwards, or from a folder, the one there is."""
        if self.target is None:
            targets = [example.target for example in self.examples["train"]]
            settings = self.settings
            self.target, self.sentencepiece = train_target_vocabulary(
                targets, settings.target_vocab_size, settings.max_target_length + 1
            )
        return self.target

    def shared(self, source: Any) -> dict[int, int]:
        """Pieces that spell the same, and the special tokens by their role."""
        return shared_pieces(self.target_tokenizer(source), source)

    def save(self, model: nn.Module, tokenizer: Any, path: Path) -> None:
        """And the target's tokenizer in target_tokenizer/, its SentencePiece model beside."""
        super().save(model, tokenizer, path)
        self.target.save_pretrained(path / FOLDER)
        (path / FOLDER / "tokenizer.model").write_bytes(self.sentencepiece)

    def saved_target_tokenizer(self, path: Path, source: Any) -> Any:
        """target_tokenizer/ of the folder. UserError where there is none."""
        if not (path / FOLDER).is_dir():
            raise UserError(f"{path} has no {FOLDER}/: it is no translation model of this pipeline.")
        return open_tokenizer(path / FOLDER)

    def scores(
        self, generated: Sequence[str], references: Sequence[Sequence[str]]
    ) -> tuple[dict[str, float], dict[str, str]]:
        """bleu and chrf, 0 to 100, and sacrebleu's signatures."""
        return translation_metrics(generated, references)

    def baseline(self, split: str) -> dict[str, float]:
        """The source, copied."""
        return self._scored(split, [example.source for example in self.examples[split]])
