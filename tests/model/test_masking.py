"""Masks: the released code's count and candidates, without replacement, from (seed, sample, position) alone."""

import pytest
import torch

from model.config import CLS_ID, MASK_ID, PAD_ID, SEP_ID
from model.counter import Stream, random_bits, random_uniforms
from model.masking import count_masked, draw_positions, mask_tokens, most_masked, replace_tokens
from tests.model.tiny import VOCAB, tiny_batch


def many(rows: int = 2000, seq: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows with every special id in them, the last half padded."""
    batch = tiny_batch(rows, seq)
    ids = batch.ids.clone()
    ids[:, 7], ids[:, 11] = SEP_ID, MASK_ID
    ids[rows // 2 :, 25:] = PAD_ID
    return ids, batch.sample


@pytest.mark.parametrize("fraction", [0.15, 0.25, 0.5])
@pytest.mark.parametrize("length", [2, 5, 9, 10, 30, 127, 128])
def test_the_count_is_the_released_codes(length: int, fraction: float) -> None:
    seq = 128
    ids = torch.full((1, seq), PAD_ID)
    ids[0, :length] = 7
    ids[0, 0] = CLS_ID
    expected = max(1, min(int((fraction + 0.005) * seq), round(fraction * length)))
    positions = draw_positions(ids, torch.tensor([3]), 0, fraction)
    assert int((positions >= 0).sum()) == expected == int(count_masked(ids, fraction))
    assert positions.shape[1] == most_masked(seq, fraction) <= int((fraction + 0.005) * seq)


def test_a_row_without_candidates_has_no_masks() -> None:
    ids = torch.tensor([[CLS_ID, SEP_ID, SEP_ID, PAD_ID], [CLS_ID, SEP_ID, 9, PAD_ID]])
    assert draw_positions(ids, torch.arange(2), 0, 0.15).tolist() == [[-1], [2]]
    assert count_masked(ids, 0.15).tolist() == [0, 1]


def test_positions_are_distinct_and_never_special_nor_the_first() -> None:
    ids, sample = many()
    ids[:, 0] = 9  # even an ordinary token there stays
    positions = draw_positions(ids, sample, 0, 0.15)
    for row, places in zip(ids.tolist(), positions.tolist(), strict=True):
        places = [p for p in places if p >= 0]
        assert len(set(places)) == len(places) > 0
        assert 0 not in places
        assert not {row[p] for p in places} & {PAD_ID, CLS_ID, SEP_ID, MASK_ID}


def test_every_candidate_is_equally_likely() -> None:
    """Chi-square over 20,000 rows; the bound is the 1 - 1e-6 quantile for 29 degrees of freedom."""
    ids = torch.full((20_000, 32), 9)
    ids[:, 0], ids[:, -1] = CLS_ID, SEP_ID
    hits = torch.bincount(draw_positions(ids, torch.arange(20_000), 5, 0.15).flatten(), minlength=32)
    assert hits[0] == hits[31] == 0
    expected = hits.sum() / 30
    # Drawing without replacement makes the counts vary less than a multinomial's, so the bound is safe.
    assert float(((hits[1:31] - expected) ** 2 / expected).sum()) < 79.0


def test_masks_depend_on_seed_and_sample_not_on_the_batch() -> None:
    ids, sample = many(64)
    whole = draw_positions(ids, sample, 0, 0.15)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(draw_positions(ids[order], sample[order], 0, 0.15), whole[order])
    assert torch.equal(draw_positions(ids[10:13], sample[10:13], 0, 0.15), whole[10:13])
    assert not torch.equal(draw_positions(ids, sample + 64, 0, 0.15), whole)  # the next epoch's numbers
    assert not torch.equal(draw_positions(ids, sample, 1, 0.15), whole)


@pytest.mark.parametrize(("mask_share", "random_share"), [(0.85, 0.0), (0.8, 0.1)])
def test_shares_of_masked_random_and_kept(mask_share: float, random_share: float) -> None:
    """85/15 (ELECTRA) and 80/10/10 (BERT), to four standard deviations."""
    ids, sample = many()
    masked = mask_tokens(ids, sample, 0, 0.15, mask_share, random_share, VOCAB)
    seen = masked.ids.gather(1, masked.positions.clamp(min=0))[masked.chosen]
    targets = masked.targets[masked.chosen]
    n = len(seen)
    hidden, kept = seen == MASK_ID, seen == targets
    by_chance = random_share / VOCAB  # a random token that is the original
    for share, found in ((mask_share, hidden), (1 - mask_share - random_share + by_chance, kept)):
        assert abs(float(found.double().mean()) - share) < 4 * (share * (1 - share) / n) ** 0.5
    assert (seen[~hidden & ~kept] > MASK_ID).all()  # random tokens are ordinary ones
    elsewhere = replace_tokens(masked.ids, masked.positions, masked.targets)
    assert torch.equal(elsewhere, ids)  # nothing else was touched, and the targets are the originals


def test_replacing_drops_what_has_no_position() -> None:
    ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
    replaced = replace_tokens(ids, torch.tensor([[2, -1], [-1, -1]]), torch.tensor([[9, 8], [7, 7]]))
    assert replaced.tolist() == [[1, 2, 9], [4, 5, 6]]


def test_bits_are_splitmix64s() -> None:
    """Against Python's unbounded integers, for odd seeds and samples as well."""

    def mix(x: int) -> int:
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
        return x ^ (x >> 31)

    golden = 0x9E3779B97F4A7C15
    for seed, sample, position in ((0, 0, 0), (1, 7, 3), (-5, 2**40 + 1, 511), (2**63 - 1, 12345, 1)):
        key = (seed * golden + Stream.SAMPLE * 0xBF58476D1CE4E5B9) % 2**64
        row = mix(mix((sample + key) % 2**64) ^ key)
        expected = mix((row + position * golden) % 2**64) % 2**63
        found = random_bits(seed, Stream.SAMPLE, torch.tensor([sample]), torch.tensor([[position]]))
        assert int(found) == expected


def test_uniforms_are_uniform_and_streams_differ() -> None:
    sample, places = torch.arange(1000), torch.arange(100)[None]
    draws = random_uniforms(3, Stream.SAMPLE, sample, places)
    assert draws.dtype == torch.float32
    assert 0 <= float(draws.min()) < 1e-4
    assert 1 - 1e-4 < float(draws.max()) < 1
    counts = torch.histc(draws, 50, 0, 1)
    assert float(((counts - 2000) ** 2 / 2000).sum()) < 112  # chi-square, 49 degrees, 1 - 1e-6
    other = random_uniforms(3, Stream.CORRUPTION, sample, places)
    assert abs(float(torch.corrcoef(torch.stack((draws.flatten(), other.flatten())))[0, 1])) < 0.015
