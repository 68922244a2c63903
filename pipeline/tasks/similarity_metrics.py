"""How well a search finds, by sentence-transformers' retrieval figures, and how many words two texts share.

Price: a search compares every query with every text of the split, in chunks.
"""

import re
from collections.abc import Sequence

from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from sentence_transformers.util import semantic_search
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.preprocessing import normalize
from torch import Tensor

DEPTH = 10
"""Results of a search that are looked at."""
_WORDS = r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]|\w+"
"""A word, or a character of a script without spaces."""


def retrieval_metrics(pairs: Sequence[tuple[str, str, bool]], first: Tensor, second: Tensor) -> dict[str, float]:
    """mrr_10 and recall_10: first texts of relevant pairs search among all second texts of the split.

    pairs: (first text, second text, whether relevant); first, second: their embeddings, (pairs, dimensions). The same
    text is one query, or one text to find. {} where no pair is relevant.
    """
    queries = {one: place for place, (one, _, relevant) in reversed(list(enumerate(pairs))) if relevant}
    corpus = {other: place for place, (_, other, _) in reversed(list(enumerate(pairs)))}
    if not queries:
        return {}
    wanted: dict[str, set[str]] = {query: set() for query in queries}
    for one, other, relevant in pairs:
        if relevant:
            wanted[one].add(other)
    evaluator = InformationRetrievalEvaluator(
        {query: query for query in queries},
        {text: text for text in corpus},
        wanted,
        mrr_at_k=[DEPTH],
        precision_recall_at_k=[DEPTH],
        ndcg_at_k=[],
        accuracy_at_k=[],
        map_at_k=[],
        write_csv=False,
    )
    names = list(corpus)
    found = semantic_search(first[list(queries.values())], second[list(corpus.values())], top_k=DEPTH)
    hits: list[object] = [
        [{"corpus_id": names[int(hit["corpus_id"])], "score": hit["score"]} for hit in one] for one in found
    ]
    figures = evaluator.compute_metrics(hits)
    return {"mrr_10": float(figures["mrr@k"][DEPTH]), "recall_10": float(figures["recall@k"][DEPTH])}


def overlap(pairs: Sequence[tuple[str, str]]) -> list[float]:
    """Cosine of the counts of words of each pair, case aside; 0 where a text has none."""
    if not any(re.search(_WORDS, text) for pair in pairs for text in pair):
        return [0.0] * len(pairs)  # scikit-learn counts nothing without a word
    counter = CountVectorizer(token_pattern=_WORDS)
    counts = normalize(counter.fit_transform([text for pair in pairs for text in pair]))
    return [float(value) for value in counts[0::2].multiply(counts[1::2]).sum(axis=1).A1]
