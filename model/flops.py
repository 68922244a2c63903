"""What a step costs: floating point operations of the matrix products, a multiplication and an addition for each
element.

Promise: equal to what torch.utils.flop_counter counts on the dense kernels. Elementwise work, softmax and embedding
lookups are free. The backward pass of a product is two products, so forward and backward are three times the forward.
(The ELECTRA release counts the backward once, and the embedding lookup as a product: do not compare.)
"""

from model.config import EncoderConfig

FORWARD_AND_BACKWARD = 3


def encoder_flops(config: EncoderConfig, batch: int, seq: int) -> float:
    """Forward pass over (batch, seq) tokens. Attention counts all pairs: local windows and documents spare nothing."""
    hidden, tokens = config.hidden_size, batch * seq
    ffn_matrices = 3 if config.body == "modernbert" else 2  # GeGLU has a gate
    weights = 4 * hidden**2 + ffn_matrices * hidden * config.ffn_size
    attention = 2 * seq * hidden  # each token: query against seq keys, then seq values
    projection = 0 if config.embedding_size == hidden else config.embedding_size * hidden
    return 2.0 * tokens * (config.layers * (weights + attention) + projection)


def language_head_flops(config: EncoderConfig, rows: int) -> float:
    """Forward pass of the language head over `rows` positions."""
    return 2.0 * rows * config.embedding_size * (config.hidden_size + config.vocab_size)


def detection_head_flops(config: EncoderConfig, rows: int) -> float:
    """Forward pass of the detection head over `rows` tokens."""
    return 2.0 * rows * config.hidden_size * (config.hidden_size + 1)
