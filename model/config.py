"""Sizes: what a person writes (ModelConfig) and what one network is built from (EncoderConfig).

No torch, so that reading a config is quick. Promise: every size is checked here, before anything is built; a network
never guesses a size for itself.
"""

from dataclasses import dataclass, field

PAD_ID, UNK_ID, CLS_ID, SEP_ID, MASK_ID = range(5)
SPECIAL_IDS = (PAD_ID, UNK_ID, CLS_ID, SEP_ID, MASK_ID)

BODIES = ("electra", "modernbert")
SEGMENT_TYPES = 2
"""Token types 0 and 1 (the paper's two segments)."""

LAYER_NORM_EPS = {"electra": 1e-12, "modernbert": 1e-5}
GENERATOR_HEAD_WIDTH = 64
"""The released code gives the generator one head for each 64 of its width, and at least one."""


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """The generator's size: a fraction of the discriminator's, or values of its own (None = by the fraction)."""

    size: float = 0.25
    """electra: fraction of the width (paper: 1/4 small and large, 1/3 base). modernbert: fraction of the layers."""
    hidden_size: int | None = None
    layers: int | None = None
    heads: int | None = None
    ffn_size: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.size <= 1:
            raise ValueError(f"generator.size is {self.size}: a fraction above 0, at most 1")
        for name in ("hidden_size", "layers", "heads", "ffn_size"):
            _require_positive(f"generator.{name}", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Architecture and sizes of the discriminator (of the only network, for mlm); the generator follows from it."""

    body: str = "electra"
    """electra: the paper's encoder. modernbert: the encoder of transformers' ModernBERT."""
    hidden_size: int = 256
    layers: int = 12
    heads: int = 4
    ffn_size: int = 1024
    embedding_size: int | None = None
    """Width of the embedding tables, electra only; None: hidden_size. Another width is projected."""
    dropout: float = 0.1
    """electra: after the embeddings and both sublayers. modernbert: after the embeddings and inside the GeGLU."""
    attention_dropout: float = 0.1
    """On the attention probabilities; modernbert: also after the attention's output, as transformers has it."""
    max_positions: int = 512
    """Longest sequence; electra learns a vector for each position."""
    initializer_range: float = 0.02
    """Standard deviation of the normal distribution, cut at two of them, that weights start from."""
    embedding_initializer_range: float | None = None
    """The same of the embedding tables; None: initializer_range."""
    layer_norm_eps: float | None = None
    """None: 1e-12 for electra, 1e-5 for modernbert."""
    local_window: int = 128
    """modernbert: local layers see local_window // 2 tokens on each side (transformers' local_attention)."""
    global_every: int = 3
    """modernbert: layers 0, global_every, 2 * global_every ... attend to everything, the others locally."""
    rope_theta: float = 160_000.0
    """modernbert: base of the rotary angles in global layers."""
    rope_theta_local: float = 10_000.0
    """modernbert: the same in local layers."""
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)

    def __post_init__(self) -> None:
        if self.body not in BODIES:
            raise ValueError(f"body is {self.body!r}: one of {', '.join(BODIES)}")
        for name in (
            "hidden_size",
            "layers",
            "heads",
            "ffn_size",
            "embedding_size",
            "max_positions",
            "initializer_range",
            "embedding_initializer_range",
            "layer_norm_eps",
            "local_window",
            "global_every",
            "rope_theta",
            "rope_theta_local",
        ):
            _require_positive(name, getattr(self, name))
        for name in ("dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: a probability from 0 to below 1")
        if self.body == "modernbert":
            self._check_modernbert()
        discriminator_config(self, vocab_size=len(SPECIAL_IDS) + 1)
        generator_config(self, vocab_size=len(SPECIAL_IDS) + 1)

    def _check_modernbert(self) -> None:
        if self.embedding_size not in (None, self.hidden_size):
            raise ValueError(
                f"embedding_size is {self.embedding_size} but hidden_size is {self.hidden_size}: the modernbert body "
                "has no embedding projection. Leave embedding_size out, or take body electra"
            )
        if self.generator.hidden_size not in (None, self.hidden_size):
            raise ValueError(
                f"generator.hidden_size is {self.generator.hidden_size} but hidden_size is {self.hidden_size}: the "
                "modernbert generator is as wide as the discriminator. Make it smaller by generator.layers"
            )


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """All sizes of one network, resolved. Fields as in ModelConfig."""

    body: str
    vocab_size: int
    hidden_size: int
    layers: int
    heads: int
    ffn_size: int
    embedding_size: int
    dropout: float
    attention_dropout: float
    max_positions: int
    initializer_range: float
    layer_norm_eps: float
    local_window: int
    global_every: int
    rope_theta: float
    rope_theta_local: float

    def __post_init__(self) -> None:
        if self.vocab_size <= len(SPECIAL_IDS):
            raise ValueError(
                f"vocab_size is {self.vocab_size}: ids 0 to {len(SPECIAL_IDS) - 1} are special, so at least one more"
            )
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of the {self.heads} heads")
        if self.body == "modernbert" and self.head_size % 2:
            raise ValueError(
                f"hidden_size {self.hidden_size} over {self.heads} heads is {self.head_size} each: "
                "rotary positions need an even number"
            )

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.heads

    def is_global(self, layer: int) -> bool:
        """Whether this layer attends to the whole document (every layer of the electra body does)."""
        return self.body == "electra" or layer % self.global_every == 0


def discriminator_config(model: ModelConfig, vocab_size: int) -> EncoderConfig:
    """Sizes of the full network: the discriminator's, and the mlm objective's. Raises ValueError if they do not fit."""
    return _resolve(model, vocab_size, model.hidden_size, model.layers, model.heads, model.ffn_size)


def generator_config(model: ModelConfig, vocab_size: int) -> EncoderConfig:
    """Sizes of the generator. Raises ValueError if they do not fit together.

    electra: as deep and narrower, 4 x FFN, one head for each 64 (ELECTRA, Clark et al. 2020, section 3.2, and the
    released code). modernbert: as wide and shallower (DeBERTa v3, He et al. 2021).
    """
    own = model.generator
    if model.body == "modernbert":
        hidden, heads, ffn = model.hidden_size, model.heads, model.ffn_size
        layers = max(1, round(model.layers * own.size))
    else:
        hidden = own.hidden_size or max(1, round(model.hidden_size * own.size))
        heads, ffn, layers = max(1, hidden // GENERATOR_HEAD_WIDTH), 4 * hidden, model.layers
    return _resolve(model, vocab_size, hidden, own.layers or layers, own.heads or heads, own.ffn_size or ffn)


def _resolve(
    model: ModelConfig, vocab_size: int, hidden_size: int, layers: int, heads: int, ffn_size: int
) -> EncoderConfig:
    return EncoderConfig(
        body=model.body,
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        layers=layers,
        heads=heads,
        ffn_size=ffn_size,
        embedding_size=model.embedding_size or model.hidden_size,  # the shared tables', in both networks
        dropout=model.dropout,
        attention_dropout=model.attention_dropout,
        max_positions=model.max_positions,
        initializer_range=model.initializer_range,
        layer_norm_eps=model.layer_norm_eps or LAYER_NORM_EPS[model.body],
        local_window=model.local_window,
        global_every=model.global_every,
        rope_theta=model.rope_theta,
        rope_theta_local=model.rope_theta_local,
    )


def _require_positive(name: str, value: float | None) -> None:
    if value is not None and not value > 0:
        raise ValueError(f"{name} is {value}: it must be above 0")
