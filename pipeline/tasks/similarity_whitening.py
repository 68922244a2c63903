"""The layer that makes averaged token vectors comparable: centred, and of the same spread in every direction.

A pretrained encoder's vectors lie in a narrow cone (a discriminator's most of all: they were trained to tell replaced
tokens), so that all cosines are alike. Su et al. 2021, "Whitening Sentence Representations for Better Semantics and
Faster Retrieval". Price: one pass over at most MOST_TEXTS training texts, and a matrix of width times width.
"""

from collections.abc import Sequence

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense
from sklearn.covariance import LedoitWolf
from torch import nn

MOST_TEXTS = 4_000


def whitening(model: SentenceTransformer, texts: Sequence[str]) -> Dense:
    """sentence-transformers' Dense with W(x - mean), where W is the root of the inverse covariance over `texts`.

    The covariance is Ledoit and Wolf's (2004), which comes near a multiple of the identity where texts are few. W is
    scaled to the norm of an identity; a cosine does not see that, and the learning rate does.
    """
    chosen = list(dict.fromkeys(texts))[:MOST_TEXTS]
    vectors = np.asarray(model.encode(chosen, show_progress_bar=False), dtype=np.float64)
    covariance = LedoitWolf().fit(vectors)
    spread, directions = np.linalg.eigh(covariance.covariance_)
    matrix = directions.T / np.sqrt(np.maximum(spread, 1e-12 * spread.max()))[:, None]
    matrix = directions @ matrix * np.sqrt(len(spread)) / np.linalg.norm(matrix)
    weight, bias = (torch.tensor(values, dtype=torch.float32) for values in (matrix, -matrix @ covariance.location_))
    width = len(spread)
    return Dense(width, width, activation_function=nn.Identity(), init_weight=weight, init_bias=bias)
