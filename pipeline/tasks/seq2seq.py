"""What translation and summarisation share: a source text in, a target text out, by an encoder-decoder.

Trained by cross entropy with the target given (teacher forcing); answers by beam search with a key-value cache, and
greedily while the loop only watches training. Price: generation takes a pass of the decoder a token, so predicting a
split costs about as much as an epoch over as many examples.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

from pipeline.base.errors import UserError
from pipeline.base.log import get_logger
from pipeline.base.task_sections import FinetuneConfig
from pipeline.tasks.encoding import encode_texts
from pipeline.tasks.families.base import Batch, Encoded, Task, refuse_windows
from pipeline.tasks.formats.fields import choices, kind_of, text_of
from pipeline.tasks.formats.reading import read_records
from pipeline.tasks.pretrained import Pretrained, reload_model, save_model
from pipeline.tasks.rates import layer_powers
from pipeline.tasks.seq2seq_warm_start import build_encoder_decoder

SOURCES = ("source", "src", "document", "article", "text")
TARGETS = ("target", "tgt", "summary", "translation")
REFERENCES = "references"
IGNORED = -100
"""Target that cross entropy leaves out."""


@dataclass(frozen=True)
class Example:
    """One record: what is read, what is to be written, and other right answers where the file has them."""

    line: int
    source: str
    target: str
    references: tuple[str, ...] = ()


class Generation(Task):
    """Reads {"source", "target"} and perhaps {"references": [...]}; a family adds vocabulary, metrics and baseline."""

    auto_class = "AutoModel"
    head_module = None
    pipeline_name = None
    no_repeat: ClassVar[int] = 0
    """Length of the word pieces' sequences that no answer says twice; 0: any may be."""

    def __init__(self, settings: FinetuneConfig, examples: dict[str, list[Example]]) -> None:
        super().__init__(settings, examples)
        self.target: Any = None
        """Tokenizer of the target side, once there is one."""
        self.told: dict[str, Any] = {}

    @classmethod
    def open(
        cls, settings: FinetuneConfig, files: Mapping[str, Path], labels: Sequence[str] | None = None
    ) -> "Generation":
        """UserError for windows, a record without source or target, a blank one, or a file without records."""
        refuse_windows(settings)
        return cls(settings, {split: _read(path, settings) for split, path in files.items()})

    def describe(self) -> list[tuple[str, str]]:
        """Examples, mean lengths in characters, and how many have several references."""
        rows = []
        for split in self.splits:
            examples = self.examples[split]
            source, target = (
                sum(map(len, texts)) / len(examples) for texts in zip(*map(_sides, examples), strict=True)
            )
            several = sum(bool(example.references) for example in examples)
            more = f", {several:,} with other references" if several else ""
            rows.append((split, f"{len(examples):,} pairs ({source:.0f} characters to {target:.0f} on average{more})"))
        return rows

    def head_config(self) -> dict[str, Any]:
        """Nothing: what is written has no fixed labels."""
        return {}

    @abstractmethod
    def target_tokenizer(self, source: Any) -> Any:
        """The fast tokenizer of the target side, the same one each time; from the training file where it is new."""

    @abstractmethod
    def shared(self, source: Any) -> dict[int, int]:
        """Ids of the target's vocabulary to those of the source's for the pieces that both have."""

    @abstractmethod
    def scores(
        self, generated: Sequence[str], references: Sequence[Sequence[str]]
    ) -> tuple[dict[str, float], dict[str, str]]:
        """The family's metrics, and what belongs beside them: signatures, tokenizers."""

    def check(self, pretrained: Pretrained) -> None:
        """UserError for targets beyond the decoder's positions, of which the first token takes one."""
        positions, wanted = pretrained.config.max_position_embeddings, self.settings.max_target_length
        if pretrained.config.model_type != "modernbert" and positions < wanted + 1:
            raise UserError(
                f"finetune.max_target_length {wanted} needs {wanted + 1} positions, but {pretrained.path} has "
                f"{positions}. Set it to {positions - 1} or less."
            )

    def load(self, pretrained: Pretrained, seed: int, device: torch.device) -> nn.Module:
        """Encoder and decoder from the folder (or of its shape), and how answers are searched for, in the model."""
        target = self.target_tokenizer(pretrained.tokenizer)
        shared = self.shared(pretrained.tokenizer)
        longest = self.settings.max_target_length + 1
        model, copied = build_encoder_decoder(pretrained, target, shared, longest, seed)
        get_logger().info(
            f"decoder: {copied['decoder_tensors']} tensors and the rows of {copied['decoder_pieces']:,} of its "
            f"{len(target):,} pieces copied from {pretrained.path}; the rest is new"
        )
        self.told |= copied | {"target_pieces": len(target)}
        model.generation_config = self._search(target, self.settings.beams)
        return model.to(device)

    def save(self, model: nn.Module, tokenizer: Any, path: Path) -> None:
        """The folder of an EncoderDecoderModel with the source's tokenizer."""
        save_model(model, tokenizer, path, self.settings.max_length)

    def reload(self, path: Path, device: torch.device) -> tuple[nn.Module, Any]:
        """Model and source tokenizer; sets the target's."""
        model, tokenizer = reload_model(path, "EncoderDecoderModel", device)
        self.target = self.saved_target_tokenizer(path, tokenizer)
        return model, tokenizer

    def saved_target_tokenizer(self, path: Path, source: Any) -> Any:
        """The target side's tokenizer of a folder that `save` wrote."""
        return source

    def layer_powers(self, model: nn.Module) -> Iterator[tuple[str, int]]:
        """The encoder's layers learn the slower the lower; all of the decoder, with more to learn, at full rate."""
        return layer_powers(model, "encoder", self.settings.top_layer_power)

    def encode(self, split: str, tokenizer: Any) -> Encoded:
        """Rows of source ids; targets are ids that end in [SEP], cut to finetune.max_target_length and then counted."""
        target, settings = self.target_tokenizer(tokenizer), self.settings
        examples = self.examples[split]
        sources, cut = encode_texts(tokenizer, [example.source for example in examples], settings.max_length)
        framed, target_cut = encode_texts(
            target, [example.target for example in examples], settings.max_target_length + 1
        )
        if target_cut:
            get_logger().info(
                f"{split}: {len(target_cut):,} targets are longer than finetune.max_target_length "
                f"{settings.max_target_length} tokens and were cut for the loss; metrics see them whole"
            )
        targets = [ids[1:] for ids in framed]
        return Encoded([{"input_ids": ids} for ids in sources], targets, range(len(examples)), len(cut))

    def loss(self, model: Any, batch: Batch, targets: Sequence[list[int]]) -> Tensor:
        """Cross entropy in nats a target token, [SEP] included; the decoder reads [CLS] and then the target."""
        width = max(map(len, targets))
        device = batch["input_ids"].device
        start, pad = self.target.cls_token_id, self.target.pad_token_id
        wanted = torch.tensor([[*ids, *[IGNORED] * (width - len(ids))] for ids in targets], device=device)
        given = wanted.roll(1, dims=1).masked_fill_(wanted.roll(1, dims=1) == IGNORED, pad)
        given[:, 0] = start
        lengths = torch.tensor([len(ids) for ids in targets], device=device)
        mask = (torch.arange(width, device=device) < lengths[:, None]).long()
        logits = model(**batch, decoder_input_ids=given, decoder_attention_mask=mask, use_cache=False).logits
        return F.cross_entropy(logits.float().flatten(0, 1), wanted.flatten(), ignore_index=IGNORED)

    def outputs(self, model: Any, batch: Batch) -> list[str]:
        """Generated texts: greedy while `quick`, else by finetune.beams beams."""
        search = self._search(self.target, 1 if self.quick else self.settings.beams)
        ids = model.generate(**batch, generation_config=search)
        return [text.strip() for text in self.target.batch_decode(ids.cpu(), skip_special_tokens=True)]

    def decide(self, split: str, encoded: Encoded, outputs: Sequence[str]) -> list[str]:
        """The generated text of each example."""
        return list(outputs)

    def metrics(self, split: str, decisions: Sequence[str]) -> dict[str, float]:
        """Against the target; and as NAME_multi against it and the other references, where any example has some."""
        return self._scored(split, decisions)

    def predictions(self, split: str, decisions: Sequence[str]) -> list[dict[str, Any]]:
        """Line, source, target, other references, and what was generated."""
        rows = []
        for example, text in zip(self.examples[split], decisions, strict=True):
            row: dict[str, Any] = {"line": example.line, "source": example.source, "target": example.target}
            others = {"references": list(example.references)} if example.references else {}
            rows.append(row | others | {"generated": text})
        return rows

    def facts(self) -> dict[str, Any]:
        """Signatures of the metrics, size of the target vocabulary, and what the decoder took over."""
        return dict(self.told)

    def with_training(self, chosen: Sequence[int]) -> "Task":
        """A new target vocabulary belongs to the chosen examples."""
        smaller = super().with_training(chosen)
        assert isinstance(smaller, Generation)
        smaller.target, smaller.told = None, {}
        return smaller

    def _scored(self, split: str, answers: Sequence[str]) -> dict[str, float]:
        examples = self.examples[split]
        figures, told = self.scores(answers, [(example.target,) for example in examples])
        if any(example.references for example in examples):
            several = self.scores(answers, [(example.target, *example.references) for example in examples])
            figures |= {f"{name}_multi": value for name, value in several[0].items()}
            told |= {f"{name}_multi": value for name, value in several[1].items()}
        self.told |= told
        return figures

    def _search(self, target: Any, beams: int) -> transformers.GenerationConfig:
        return transformers.GenerationConfig(
            decoder_start_token_id=target.cls_token_id,
            bos_token_id=target.cls_token_id,
            eos_token_id=target.sep_token_id,
            pad_token_id=target.pad_token_id,
            max_length=self.settings.max_target_length + 1,
            min_new_tokens=2,  # something and [SEP]: a model that has learned little would rather say nothing
            num_beams=beams,
            early_stopping=True if beams > 1 else None,
            no_repeat_ngram_size=self.no_repeat,
            do_sample=False,
            use_cache=True,
        )


def _sides(example: Example) -> tuple[str, str]:
    return example.source, example.target


def _read(path: Path, settings: FinetuneConfig) -> list[Example]:
    sources, targets = (
        choices(settings.fields, "source", SOURCES),
        choices(settings.fields, "target", TARGETS),
    )
    examples = []
    for line, record in read_records(path, settings):
        place = f"{path}:{line}"
        source, target = text_of(record, sources, place), text_of(record, targets, place)
        examples.append(Example(line, source, target, _references(record, place)))
    return examples


def _references(record: dict[str, Any], place: str) -> tuple[str, ...]:
    """Other right answers, without blank ones. UserError when they are no list of strings."""
    found = record.get(REFERENCES) or []
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise UserError(f"{place}: {REFERENCES!r} is {kind_of(found)}; it must be a list of strings.")
    return tuple(text for text in found if text.strip())
