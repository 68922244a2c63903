"""How well a network likes a text: log odds of "original", or a masked language model's pseudo-likelihood.

A text's score is that of its own tokens; [CLS] and [SEP] are given to the network but not counted. A text's score does
not depend on the batch it is in (to the rounding of fp32), and texts of the same tokens have the same score exactly.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pipeline.base.errors import UserError
from pipeline.probing.networks import Folder, replaced_logits
from pipeline.tasks.batches import pad, token_batches

BATCH_TOKENS = 2048
"""Tokens of a batch, padding included; never fewer than one row."""

Ids = tuple[int, ...]
Advance = Callable[[int], None]
"""Takes the number of tokens that are done."""


def encode(tokenizer: Any, texts: Sequence[str]) -> tuple[list[Ids], dict[Ids, list[bool]]]:
    """Ids of each text with special ones, and for each ids which are the text's own; `[MASK]` in a text is text."""
    encoding = tokenizer(
        list(texts),
        split_special_tokens=True,
        return_special_tokens_mask=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    ids = [tuple(row) for row in encoding["input_ids"]]
    own = {row: [not flag for flag in flags] for row, flags in zip(ids, encoding["special_tokens_mask"], strict=True)}
    return ids, own


def score_texts(
    folder: Folder, model: Any, own: dict[Ids, list[bool]], advance: Advance, batch_tokens: int = BATCH_TOKENS
) -> dict[Ids, float]:
    """The score of each distinct row of ids. Masked language models need a forward pass a token, discriminators one."""
    score = _pseudo_log_likelihoods if folder.kind == "generator" else _log_odds
    with torch.no_grad():
        return score(folder, model, own, advance, batch_tokens)


def require_finite(values: Iterable[float], where: str) -> None:
    """UserError for NaN and infinities, which compare with nothing. where: the network's key and folder."""
    if not all(map(math.isfinite, values)):
        raise UserError(
            f"{where} gives numbers that are not finite: its weights are damaged, or its training went astray. Take an "
            "earlier checkpoint, or get the folder anew."
        )


def _log_odds(
    folder: Folder, model: Any, own: dict[Ids, list[bool]], advance: Advance, batch_tokens: int
) -> dict[Ids, float]:
    """Sum over the text's tokens of log p(original) - log p(replaced), in nats (Clark et al. 2020, section 2: D)."""
    device = next(model.parameters()).device
    scores: dict[Ids, float] = {}
    for chosen in token_batches(list(own), len, batch_tokens):
        ids, attention = pad(chosen, folder.tokenizer.pad_token_id)
        counted = pad_sequence([torch.tensor(own[row]) for row in chosen], batch_first=True)
        logits = model(input_ids=ids.to(device), attention_mask=attention.to(device)).logits
        odds = -replaced_logits(folder, logits).double().cpu()
        sums = odds.masked_fill(~counted, 0.0).sum(-1).tolist()
        scores |= dict(zip(chosen, sums, strict=True))
        advance(int(counted.sum()))
    return scores


def _pseudo_log_likelihoods(
    folder: Folder, model: Any, own: dict[Ids, list[bool]], advance: Advance, batch_tokens: int
) -> dict[Ids, float]:
    """Sum over the text's tokens of log p(token | the others), each masked in turn (Salazar et al. 2020, eq. 1)."""
    device = next(model.parameters()).device
    queries = [(row, place) for row, counted in own.items() for place, flag in enumerate(counted) if flag]
    scores: dict[Ids, float] = dict.fromkeys(own, 0.0)
    for chosen in token_batches(queries, lambda query: len(query[0]), batch_tokens):
        ids, attention = pad([row for row, _ in chosen], folder.tokenizer.pad_token_id)
        rows, places = torch.arange(len(chosen)), torch.tensor([place for _, place in chosen])
        wanted = ids[rows, places].clone()
        ids[rows, places] = folder.tokenizer.mask_token_id
        logits = logits_at(model, ids.to(device), attention.to(device), places.to(device))
        chances = F.log_softmax(logits.double(), -1)[rows.to(device), wanted.to(device)].tolist()
        for (row, _), chance in zip(chosen, chances, strict=True):
            scores[row] += chance
        advance(len(chosen))
    return scores


def logits_at(model: Any, ids: Tensor, attention: Tensor, places: Tensor) -> Tensor:
    """Logits (rows, vocabulary) at one place a row: the decoder, most of the work, is asked about no other."""

    def only_these(module: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden = inputs[0]
        return (hidden[torch.arange(len(hidden), device=hidden.device), places][:, None],)

    hook = model.get_output_embeddings().register_forward_pre_hook(only_these)
    try:
        logits: Tensor = model(input_ids=ids, attention_mask=attention).logits[:, 0]
        return logits
    finally:
        hook.remove()
