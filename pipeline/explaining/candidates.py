"""What a generator would put at each place of a text: the token is masked, all others stay, in a forward pass a token.

Price: a text of n tokens costs n readings of its window. So a budget of tokens read is spent on the first tokens, text
by text; the places that it does not reach have no candidates, and whoever shows them says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.explaining.tokens import Tokens, Window, framed, room_of, shown_piece, window_length, windows
from pipeline.probing.networks import Folder
from pipeline.probing.scores import BATCH_TOKENS, Advance, logits_at
from pipeline.tasks.batches import pad, token_batches


@dataclass(frozen=True)
class Guesses:
    """A generator's answer for one masked place."""

    own: float
    """Probability of the token that stands there."""
    rank: int
    """Its place in the list of all pieces, from 1."""
    best: list[tuple[str, str, float]]
    """Pieces, the same for people, and probabilities; most probable first."""


@dataclass(frozen=True)
class Query:
    """One token of one text, to be masked in its window."""

    owner: int
    place: int
    window: Window


def affordable(folder: Folder, texts: Sequence[Tokens], budget: int) -> list[Query]:
    """The first tokens, text by text, whose windows together have at most `budget` tokens; at least one."""
    length = window_length(folder.tokenizer, folder.config)
    queries: list[Query] = []
    for owner, text in enumerate(texts):
        for window in windows(len(text.ids), room_of([text], length)):
            cost = len(framed(text, window))
            for place in range(window.first_kept, window.last_kept):
                if queries and cost > budget:
                    return queries
                budget -= cost
                queries.append(Query(owner, place, window))
    return queries


def guess(
    folder: Folder, model: Any, texts: Sequence[Tokens], queries: Sequence[Query], count: int, advance: Advance
) -> list[list[Guesses | None]]:
    """The `count` best candidates for each queried token; None for the others."""
    tokenizer, device = folder.tokenizer, next(model.parameters()).device
    ids_of_pieces = set(tokenizer.get_vocab().values())
    no_piece = torch.ones(max(ids_of_pieces) + 1, dtype=torch.bool, device=device)  # vocabularies may have gaps
    no_piece[list(ids_of_pieces)] = False
    result: list[list[Guesses | None]] = [[None] * len(text.ids) for text in texts]
    for batch in token_batches(queries, lambda query: len(framed(texts[query.owner], query.window)), BATCH_TOKENS):
        ids, attention = pad([framed(texts[query.owner], query.window) for query in batch], tokenizer.pad_token_id)
        rows = torch.arange(len(batch))
        at = torch.tensor([len(texts[q.owner].before) + q.place - q.window.first for q in batch])
        own = ids[rows, at].clone()
        ids[rows, at] = tokenizer.mask_token_id
        with torch.no_grad():
            logits = logits_at(model, ids.to(device), attention.to(device), at.to(device))
        chances = torch.softmax(logits[:, : len(no_piece)].float().masked_fill(no_piece, -torch.inf), -1).cpu()
        mine = chances[rows, own]
        ranks = (chances > mine[:, None]).sum(-1) + 1
        top = chances.topk(min(count, len(ids_of_pieces)), -1)
        for row, query in enumerate(batch):
            indices = top.indices[row].tolist()
            pieces = tokenizer.convert_ids_to_tokens(indices)
            shown = [shown_piece(tokenizer, *pair) for pair in zip(indices, pieces, strict=True)]
            best = list(zip(pieces, shown, top.values[row].tolist(), strict=True))
            result[query.owner][query.place] = Guesses(float(mine[row]), int(ranks[row]), best)
        advance(len(batch))
    return result
