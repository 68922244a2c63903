"""Summarisation: {"document", "summary"} a record; encoder and decoder share the export's vocabulary."""

from collections.abc import Sequence
from statistics import median
from typing import Any

from pipeline.base.errors import UserError
from pipeline.tasks.seq2seq import Generation
from pipeline.tasks.seq2seq_metrics import first_units, summary_metrics, units


class Summarisation(Generation):
    """Chosen by ROUGE-L on dev; no answer says the same three pieces twice."""

    selection = "rouge_l"
    headline = ("rouge_1", "rouge_2", "rouge_l")
    no_repeat = 3

    def target_tokenizer(self, source: Any) -> Any:
        """The source's. UserError where it has no token to begin or to end with."""
        if source.cls_token_id is None or source.sep_token_id is None:
            raise UserError(
                "the export's tokenizer has no [CLS] or no [SEP]: a summary needs both to begin and to end."
            )
        self.target = source
        return source

    def shared(self, source: Any) -> dict[int, int]:
        """Every piece."""
        return {number: number for number in range(len(source))}

    def scores(
        self, generated: Sequence[str], references: Sequence[Sequence[str]]
    ) -> tuple[dict[str, float], dict[str, str]]:
        """rouge_1, rouge_2 and rouge_l, 0 to 1, and what tokenised them."""
        return summary_metrics(generated, references)

    def baseline(self, split: str) -> dict[str, float]:
        """The first words of the document, as many as a summary has (median of the training file, else of this one)."""
        count = max(1, round(median(len(units(e.target)) for e in self.examples[self.splits[0]])))
        return self._scored(split, [first_units(example.source, count) for example in self.examples[split]])
