"""What a config holds and does: parameters, bytes kept for the backward pass, and the work of a step, by formula.

Pure functions of sizes. Promise: parameters are exact; bytes kept are those that autograd saves in the forms for a CPU
(model/paths.py) and, by the same count, in the plain ones. Price: it follows model/ by hand, and tests hold them
together.
"""

from dataclasses import dataclass

from model.config import SEGMENT_TYPES, EncoderConfig, ModelConfig, discriminator_config, generator_config
from model.masking import most_masked
from pipeline.base.errors import UserError

FLOAT = 4
INTEGER = 8


@dataclass(frozen=True)
class Net:
    """An encoder and the head on it: language scores the masked positions, detection every token."""

    sizes: EncoderConfig
    language: bool


@dataclass(frozen=True)
class Seen:
    """What a layer's attention works on: pairs of query and key, added over the rows, and tiles (model/tiles.py)."""

    pairs: int
    tiles: int


@dataclass(frozen=True)
class Micro:
    """A micro-batch."""

    rows: int
    seq: int
    masked: int
    """Places for masked positions, of all rows together."""
    everywhere: Seen
    nearby: Seen
    """In layers with a local window."""
    compute: int
    """Bytes of an element in the networks' products."""
    by_hand: bool
    """The forms for a CPU; else the plain ones."""
    weights_copied: bool = False
    """Autocast keeps copies of the linear weights for the backward pass."""
    recompute: bool = False
    """train.recompute: of a layer only its input is kept."""

    @property
    def tokens(self) -> int:
        """Padding included."""
        return self.rows * self.seq


def nets_of(objective: str, model: ModelConfig, vocab_size: int) -> list[Net]:
    """The networks in the order of their forward passes; they share their embeddings. UserError: another objective."""
    if objective == "electra":
        return [Net(generator_config(model, vocab_size), True), Net(discriminator_config(model, vocab_size), False)]
    if objective == "mlm":
        return [Net(discriminator_config(model, vocab_size), True)]
    raise UserError(f"the predictor knows the objectives electra and mlm, not {objective}.")


def masked_places(rows: int, seq: int, fraction: float) -> int:
    """Micro.masked."""
    return rows * most_masked(seq, fraction)


def embedding_parameters(sizes: EncoderConfig) -> int:
    """Tables and their LayerNorm."""
    width = sizes.embedding_size
    if sizes.body == "modernbert":
        return width * (sizes.vocab_size + 1)
    return width * (sizes.vocab_size + sizes.max_positions + SEGMENT_TYPES + 2)


def layer_parameters(sizes: EncoderConfig, first: bool) -> int:
    """One layer; the first of the modernbert body has a LayerNorm less."""
    hidden, ffn = sizes.hidden_size, sizes.ffn_size
    if sizes.body == "modernbert":
        return 4 * hidden**2 + 3 * hidden * ffn + hidden * (1 if first else 2)
    return 4 * hidden**2 + 2 * hidden * ffn + ffn + 9 * hidden


def around_parameters(net: Net) -> int:
    """Projection, last LayerNorm and head; the language head's matrix is the word table."""
    sizes = net.sizes
    hidden, width, modern = sizes.hidden_size, sizes.embedding_size, sizes.body == "modernbert"
    project = 0 if width == hidden else (width + 1) * hidden
    last = hidden if modern else 0
    if net.language:
        return project + last + hidden * width + (width if modern else 3 * width) + sizes.vocab_size
    return project + last + hidden**2 + 2 * hidden + 1


def parameters(nets: list[Net]) -> int:
    """Of all networks, shared ones once."""
    layers = sum(layer_parameters(net.sizes, n == 0) for net in nets for n in range(net.sizes.layers))
    return embedding_parameters(nets[0].sizes) + layers + sum(around_parameters(net) for net in nets)


def parameter_tensors(nets: list[Net]) -> int:
    """How many there are."""
    modern = nets[0].sizes.body == "modernbert"
    count = 2 if modern else 5  # the embeddings'
    for net in nets:
        sizes = net.sizes
        count += sizes.layers * (6 if modern else 12) + (3 if modern and net.language else 5 if net.language else 4)
        if sizes.embedding_size != sizes.hidden_size:
            count += 2
    return count  # modernbert: the last LayerNorm makes up for the first layer's missing one


def layer_saved(sizes: EncoderConfig, seen: Seen, micro: Micro, first: bool) -> int:
    """Bytes that a layer keeps for its backward pass."""
    tokens, hidden, ffn, c = micro.tokens, sizes.hidden_size, sizes.ffn_size, micro.compute
    norm = FLOAT * tokens * (hidden + 2)  # its input, and two figures a token
    dropped = 1 if sizes.dropout else 0
    attention_dropped = 1 if sizes.attention_dropout else 0
    if micro.by_hand:
        attention = sizes.heads * seen.pairs * (c + attention_dropped)
    else:
        attention = FLOAT * tokens * sizes.heads
    kept = c * tokens * (1 + 3 + 1 + 1) * hidden + attention  # inputs of qkv, out and ffn_in; query, key, value
    if sizes.body == "modernbert":
        ffn_kept = tokens * ffn * (4 * c + dropped)
        return kept + ffn_kept + norm * (1 if first else 2) + attention_dropped * tokens * hidden
    outputs = 0 if micro.by_hand and c == FLOAT else c * tokens * ffn  # of the GELU: see model/products.py
    return kept + c * tokens * ffn + outputs + 2 * norm + 2 * dropped * tokens * hidden


def layers_saved(net: Net, micro: Micro) -> list[int]:
    """Bytes that each layer keeps from forward to backward."""
    sizes = net.sizes
    if micro.recompute:
        return [FLOAT * micro.tokens * sizes.hidden_size] * sizes.layers
    return layers_whole(net, micro)


def layers_whole(net: Net, micro: Micro) -> list[int]:
    """`layer_saved` of each layer."""
    sizes = net.sizes
    return [
        layer_saved(sizes, micro.everywhere if sizes.is_global(n) else micro.nearby, micro, n == 0)
        for n in range(sizes.layers)
    ]


def embeddings_saved(net: Net, micro: Micro) -> int:
    """Bytes that the embeddings and the projection keep."""
    sizes, tokens = net.sizes, micro.tokens
    width = sizes.embedding_size
    projected = 0 if width == sizes.hidden_size else micro.compute * tokens * width
    return FLOAT * tokens * (width + 2) + (tokens * width if sizes.dropout else 0) + projected + INTEGER * tokens


def head_saved(net: Net, micro: Micro) -> int:
    """Bytes that the last LayerNorm and the head keep; of the scores their gradient (model/guesses.py)."""
    sizes, c = net.sizes, micro.compute
    hidden, width, modern = sizes.hidden_size, sizes.embedding_size, sizes.body == "modernbert"
    last = FLOAT * micro.tokens * (hidden + 2) if modern else 0
    if net.language:
        rows, scores = micro.masked, micro.masked * sizes.vocab_size
        kept = c * rows * (hidden + 2 * width) + FLOAT * rows * (width + 2) + FLOAT * micro.tokens * hidden
        return last + kept + (c * scores if micro.by_hand else FLOAT * scores)
    normed = FLOAT * micro.tokens * (hidden + 2) if modern else 0
    return last + c * micro.tokens * 3 * hidden + normed


def weight_copies(net: Net, micro: Micro) -> int:
    """Bytes of the linear weights that autocast copies to two bytes and keeps for the backward pass."""
    if not micro.weights_copied:
        return 0
    sizes = net.sizes
    hidden, width = sizes.hidden_size, sizes.embedding_size
    matrices = 4 * hidden**2 + (3 if sizes.body == "modernbert" else 2) * hidden * sizes.ffn_size
    project = 0 if width == hidden else width * hidden
    head = width * (hidden + sizes.vocab_size) if net.language else hidden * (hidden + 1)
    return 2 * (sizes.layers * matrices + project + head)
