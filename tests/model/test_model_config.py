"""Sizes: the paper's generators, and errors that bring the numbers."""

import pytest
import transformers

from model.config import GeneratorConfig, ModelConfig, discriminator_config, generator_config
from model.networks import Discriminator, build_pair

SMALL = ModelConfig(hidden_size=256, layers=12, heads=4, ffn_size=1024, embedding_size=128)
BASE = ModelConfig(hidden_size=768, layers=12, heads=12, ffn_size=3072, generator=GeneratorConfig(size=1 / 3))
LARGE = ModelConfig(hidden_size=1024, layers=24, heads=16, ffn_size=4096)


@pytest.mark.parametrize(
    ("model", "hidden", "ffn", "heads", "embedding"),
    [(SMALL, 64, 256, 1, 128), (BASE, 256, 1024, 4, 768), (LARGE, 256, 1024, 4, 1024)],
)
def test_the_papers_generators_are_narrower_and_as_deep(
    model: ModelConfig, hidden: int, ffn: int, heads: int, embedding: int
) -> None:
    """ELECTRA, table 6 (small 1/4, base 1/3, large 1/4), heads as in the released code."""
    generator = generator_config(model, 30522)
    assert (generator.hidden_size, generator.ffn_size, generator.heads) == (hidden, ffn, heads)
    assert (generator.layers, generator.embedding_size) == (model.layers, embedding)


def test_a_modernbert_generator_is_as_wide_and_shallower() -> None:
    model = ModelConfig(body="modernbert", hidden_size=96, heads=3, ffn_size=200, layers=9)
    generator = generator_config(model, 1000)
    assert (generator.hidden_size, generator.heads, generator.ffn_size, generator.layers) == (96, 3, 200, 2)
    assert [n for n in range(9) if discriminator_config(model, 1000).is_global(n)] == [0, 3, 6]


def test_own_values_win_over_the_fraction() -> None:
    own = GeneratorConfig(size=0.5, hidden_size=80, layers=2, heads=5, ffn_size=7)
    generator = generator_config(ModelConfig(generator=own), 1000)
    assert (generator.hidden_size, generator.layers, generator.heads, generator.ffn_size) == (80, 2, 5, 7)


def test_small_has_the_published_number_of_parameters() -> None:
    """The paper gives 14M for ELECTRA-small; transformers' ElectraConfig has its sizes by default."""
    network = Discriminator(discriminator_config(SMALL, 30522))
    theirs = transformers.ElectraForPreTraining(transformers.ElectraConfig()).num_parameters()
    assert sum(p.numel() for p in network.parameters()) == theirs == 13_549_057
    assert network.encoder.embeddings.position.num_embeddings == 512  # whatever length it trains at


def test_networks_share_tables_and_norm_but_not_the_projection() -> None:
    discriminator, generator = build_pair(SMALL, 1000)
    assert generator.encoder.embeddings is discriminator.encoder.embeddings
    assert generator.head.decoder.weight is discriminator.encoder.embeddings.word.weight
    assert generator.encoder.project.weight.shape == (64, 128)
    assert discriminator.encoder.project.weight.shape == (256, 128)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"body": "bert"}, "one of electra, modernbert"),
        ({"hidden_size": 100, "heads": 3}, "hidden_size 100"),
        ({"dropout": 1.0}, "dropout is 1"),
        ({"layers": 0}, "layers is 0"),
        ({"body": "modernbert", "embedding_size": 64}, "no embedding projection"),
        ({"body": "modernbert", "generator": GeneratorConfig(hidden_size=64)}, "as wide as"),
        ({"body": "modernbert", "hidden_size": 12, "heads": 4, "ffn_size": 8}, "even number"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ModelConfig(**settings)


def test_a_generator_size_is_a_fraction() -> None:
    with pytest.raises(ValueError, match=r"size is 1\.5"):
        GeneratorConfig(size=1.5)
