"""How surely a discriminator calls each token of a text replaced. Long texts by windows: memory is flat in length."""

from collections.abc import Sequence
from typing import Any

import torch

from pipeline.explaining.tokens import Tokens, Window, framed, room_of, window_length, windows
from pipeline.probing.networks import Folder, replaced_logits
from pipeline.probing.scores import BATCH_TOKENS, Advance, require_finite
from pipeline.tasks.batches import pad, token_batches


def replaced_probabilities(folder: Folder, model: Any, texts: Sequence[Tokens], advance: Advance) -> list[list[float]]:
    """p(replaced) of each token of each text (Clark et al. 2020, section 2: 1 - D)."""
    length = window_length(folder.tokenizer, folder.config)
    jobs = [
        (owner, window)
        for owner, text in enumerate(texts)
        for window in windows(len(text.ids), room_of([text], length))
    ]
    result = [[0.0] * len(text.ids) for text in texts]
    device = next(model.parameters()).device
    for batch in token_batches(jobs, lambda job: len(framed(texts[job[0]], job[1])), BATCH_TOKENS):
        ids, attention = pad([framed(texts[owner], window) for owner, window in batch], folder.tokenizer.pad_token_id)
        with torch.no_grad():
            logits = model(input_ids=ids.to(device), attention_mask=attention.to(device)).logits
        odds = replaced_logits(folder, logits).double().cpu()
        require_finite(odds[attention.bool()].tolist(), folder.where)
        chances = torch.sigmoid(odds)
        for row, (owner, window) in zip(chances.tolist(), batch, strict=True):
            keep(result[owner], row, len(texts[owner].before), window)
            advance(window.last_kept - window.first_kept)
    return result


def keep(result: list[float], row: Sequence[float], before: int, window: Window) -> None:
    """Copies what a window's row (special tokens included) says of the tokens that it keeps."""
    shift = before - window.first
    result[window.first_kept : window.last_kept] = row[window.first_kept + shift : window.last_kept + shift]
