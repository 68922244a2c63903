"""Tokenizers of the Hugging Face kinds, trained on generated text in a moment."""

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tests.pipeline.vocabulary.generated_text import make_documents

BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ROBERTA = ("<pad>", "<unk>", "<s>", "</s>", "<mask>")


def word_piece(vocab_size: int = 400, unused: int = 20) -> Tokenizer:
    """The layout of google's BERT and ELECTRA: [PAD], unused pieces, then the other four; lower case."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", *(f"[unused{n}]" for n in range(unused)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(make_documents(300), trainer)
    frame = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=frame
    )
    tokenizer.decoder = decoders.WordPiece()
    values = json.loads(tokenizer.to_str())  # unused pieces are ordinary ones there
    values["added_tokens"] = [token for token in values["added_tokens"] if token["content"] in BERT]
    return Tokenizer.from_str(json.dumps(values))


def byte_bpe() -> Tokenizer:
    """RoBERTa's: bytes, its own names, the mask added behind the vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(make_documents(300), trainer)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def unigram(after: Sequence[str] = ("<extra>", "<mask>", "<more>")) -> Tokenizer:
    """XLM-R's: SentencePiece's marks, and added tokens behind the vocabulary."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=400, unk_token="<unk>", special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(make_documents(300), trainer)
    tokenizer.add_special_tokens(list(after))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def save(tokenizer: Tokenizer, folder: Path, names: Sequence[str] = (), length: int | None = None) -> Path:
    """folder/tokenizer.json, and tokenizer_config.json with these names of the five roles; the path of the first."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    roles = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    config: dict[str, object] = {"tokenizer_class": "PreTrainedTokenizerFast", **dict(zip(roles, names, strict=False))}
    config |= {"model_max_length": length} if length else {}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder / "tokenizer.json"
