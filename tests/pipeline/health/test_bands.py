"""A figure outside its band is told once, by figure and direction, and once when it is back; whom a reference fits."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.base.config import load_config
from pipeline.base.errors import UserError
from pipeline.health import reference as reference_module
from pipeline.health.bands import CODE, STREAK, Bands, figures, words
from pipeline.health.make_reference import NEAR, main, make, to_json
from pipeline.health.reference import Curve, Place, Reference, no_reference, reference_for, references, shape_of
from tests.pipeline.health.curved import ACCURACY, GRADIENT, NOISE, STEPS, VOCABULARY, accuracy, config_of, gradient
from tests.pipeline.health.curved import run_folder as run_of

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
FLAT = Reference(
    preset="flat",
    about="",
    shape={},
    curves={ACCURACY: Curve(steps=[10, 110], mean=[0.2, 0.4], low=[0.1, 0.3], high=[0.3, 0.5])},
)


def codes(values: list[float | None], bands: Bands) -> list[bool]:
    """Whether the accuracy is told at steps 20, 30, ...: the band's middle plus each value, None where unknown."""
    told = []
    for step, value in enumerate(values, 2):
        found = bands.look(10 * step, {} if value is None else {ACCURACY: 0.2 + 0.02 * (step - 1) + value})
        told.append(bool(found))
    return told


def test_between_the_steps_of_a_curve() -> None:
    curve = FLAT.curves[ACCURACY]
    for step in range(10, 111):
        middle = 0.2 + 0.2 * (step - 10) / 100
        assert curve.at(step) == pytest.approx((middle, middle - 0.1, middle + 0.1))
    assert curve.at(9) is None
    assert curve.at(111) is None
    assert Curve(steps=[], mean=[], low=[], high=[]).at(1) is None
    assert Curve(steps=[5], mean=[1], low=[0], high=[2]).at(5) == (1, 0, 2)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([0, 0.09, -0.09, 0, 0, 0], [0, 0, 0, 0, 0, 0]),
        ([-0.11, -0.11, -0.11, -0.11, 0, 0, 0, 0], [0, 0, 1, 1, 1, 1, 0, 0]),
        ([0.11, 0.11, -0.11, -0.11, 0.11, 0.11], [0, 0, 0, 0, 0, 0]),  # not on one side
        ([-0.2, -0.2, 0, -0.2, -0.2, 0], [0, 0, 0, 0, 0, 0]),  # not in a row
        ([-0.2, None, -0.2, None, -0.2], [0, 0, 0, 0, 1]),  # a figure that is not known says nothing
        ([0.2, 0.2, 0.2, 0, 0, 0.2, 0, 0, 0], [0, 0, 1, 1, 1, 1, 1, 1, 0]),  # to and fro is one finding
    ],
)
def test_outside_and_back(values: list[float | None], told: list[int]) -> None:
    assert codes(values, Bands(FLAT)) == [bool(one) for one in told]
    assert not any(codes(values, Bands(None)))


def test_not_compared_after_the_last_step() -> None:
    bands = Bands(FLAT)
    for step in (90, 100, 110):
        bands.look(step, {ACCURACY: 0.0})
    assert [one.code for one in bands.look(120, {ACCURACY: 0.45})] == [f"{CODE}/generator/accuracy"]
    late = Bands(FLAT)
    assert not any(late.look(step, {ACCURACY: 0.0}) for step in range(111, 200))


def test_what_was_told_before_a_restart_goes_on() -> None:
    bands = Bands(FLAT, ["frozen", f"{CODE}/generator/accuracy"])
    assert codes([0, 0, 0], bands) == [True, True, False]


def test_the_words_name_figure_numbers_and_direction() -> None:
    bands = Bands(FLAT)
    found = [one for step in (20, 30, 40) for one in bands.look(step, {ACCURACY: 0.01})]
    assert len(found) == 1
    for part in (
        "the generator is not learning",
        ACCURACY,
        "0.01 at step 40",
        "preset flat",
        "0.26",
        "0.16",
        "Look at",
    ):
        assert part in found[0].words
    place, told = Place(1.0, 0.5, 2.0), set()
    for prefix in figures():
        name = prefix if "/" in prefix.removeprefix("train/") or prefix == NOISE else f"{prefix}/embeddings"
        for value in (0.1, 9.0):
            text = words(name, "p", 7, value, place)
            assert "{" not in text
            assert any(verb in text for verb in ("Look at", "Lower"))
            told.add(text.partition("(")[0])
    assert len(told) == 2 * len(figures())
    assert "the generator's own parameters" in words(GRADIENT, "p", 7, 9.0, place)


def test_made_from_runs(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / f"seed-{seed}", seed) for seed in range(4)]
    made = make(runs, [], "p", 300)
    assert set(made.curves) == {ACCURACY, GRADIENT, NOISE}
    assert made.last <= 300
    curve = made.curves[ACCURACY]
    for step, mean in zip(curve.steps, curve.mean, strict=True):
        near = [s for s in STEPS if s <= min(step * NEAR, 300) and s * NEAR >= step]
        assert mean == pytest.approx(np.mean([[accuracy(s, seed) for s in near] for seed in range(4)]), abs=1e-4)
    near = [s for s in STEPS if 100 / NEAR <= s <= 100 * NEAR]
    logs = [math.log(gradient(s, seed)) for s in near for seed in range(4)]
    assert made.curves[GRADIENT].at(100) == pytest.approx(
        (math.exp(np.mean(logs)), math.exp(np.mean(logs)) / 3, math.exp(np.mean(logs)) * 3), rel=0.05
    )  # the floor: a factor of 3


def test_no_seed_leaves_the_band_of_the_others(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / f"seed-{seed}", seed) for seed in range(5)]
    for seed, left_out in enumerate(runs):
        bands = Bands(make([run for run in runs if run != left_out], [], "p", 400))
        for step in STEPS:
            assert bands.look(step, {ACCURACY: accuracy(step, seed), GRADIENT: gradient(step, seed)}) == []


def test_room_for_other_text(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / f"seed-{seed}", seed) for seed in range(3)]
    other = run_of(tmp_path / "other", 9, shift=-0.15)
    narrow, wide = make(runs, [], "p", 400), make(runs, [other], "p", 400)
    place, before = wide.curves[ACCURACY].at(300), narrow.curves[ACCURACY].at(300)
    assert place is not None
    assert before is not None
    assert place.low < accuracy(300, 9) - 0.15 < before.low
    assert (place.mean, place.high) == (before.mean, before.high)
    assert "1 runs on other text" in wide.about


def test_carried_on_behind_its_last_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What it has stays; behind it the mean is the new runs', and the band is as wide as it was, or wider."""
    runs = [run_of(tmp_path / f"seed-{seed}", seed) for seed in range(6)]
    other = run_of(tmp_path / "other", 9, shift=-0.15)
    first, then, out = make(runs[:3], [other], "p", 200), make(runs[3:], [], "p", 400), tmp_path / "p.json"
    out.write_text(to_json(first))
    assert main([*map(str, runs[3:]), "--preset", "p", "--onto", str(out), "--out", str(out)]) == 0
    both = Reference.model_validate_json(out.read_bytes())
    assert (both.last, both.shape) == (400, first.shape)
    assert both.about == f"to step 200: {first.about}; behind it: {then.about}"
    for name, before in first.curves.items():
        curve = both.curves[name]
        for step in (60, 100, 200):
            assert curve.at(step) == before.at(step)
        if before.steps[-1] < 200:  # known at one step only
            assert curve == before
            continue
        narrow, wide, end = then.curves[name].at(390), curve.at(390), before.at(200)
        assert narrow is not None and wide is not None and end is not None  # noqa: PT018
        assert wide.mean == pytest.approx(narrow.mean, rel=1e-3)
        assert wide.low < wide.mean < wide.high
        if name == ACCURACY:
            assert wide.mean - wide.low == pytest.approx(end.mean - end.low, abs=1e-3)
            assert wide.low < narrow.low - 0.01
        else:
            assert wide.mean / wide.low == pytest.approx(max(end.mean / end.low, narrow.mean / narrow.low), rel=5e-3)
    assert main([*map(str, runs[3:]), "--preset", "p", "--onto", str(out), "--out", str(out)]) == 2
    assert "do not go farther than step 400" in capsys.readouterr().err
    out.write_text(to_json(first.model_copy(update={"shape": {}})))
    assert main([*map(str, runs[3:]), "--preset", "p", "--onto", str(out), "--out", str(out)]) == 2
    assert "other settings than the reference p" in capsys.readouterr().err


def test_the_tool_and_its_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [str(run_of(tmp_path / f"seed-{seed}", seed)) for seed in range(3)]
    out = tmp_path / "p.json"
    assert main([*runs, "--preset", "p", "--out", str(out)]) == 0
    assert Reference.model_validate_json(out.read_bytes()) == make([Path(run) for run in runs], [], "p", 400)
    assert main([*runs[:2], "--preset", "p", "--out", str(out)]) == 2
    assert "2 runs are too few" in capsys.readouterr().err
    other = str(run_of(tmp_path / "other", 9, "optimizer.lr=1e-3"))
    assert main([*runs, other, "--preset", "p", "--out", str(out)]) == 2
    assert "optimizer.lr" in capsys.readouterr().err


@pytest.mark.parametrize(
    "setting", ["train.precision=fp32", "seed=7", "run_dir=x", "train.log_every=3", "ray.address=local"]
)
def test_what_a_reference_does_not_mind(setting: str) -> None:
    assert shape_of(config_of(setting), VOCABULARY) == shape_of(config_of(), VOCABULARY)


@pytest.mark.parametrize(
    "setting",
    [
        *("objective.mask_fraction=0.2", "objective.name=mlm", "model.layers=3", "model.generator.layers=2"),
        *("optimizer.lr=1e-3", "optimizer.betas=[0.9, 0.98]", "schedule.warmup_steps=7", "train.steps=9999"),
        *("train.batch_size=64", "data.sequence_length=64", "init.discriminator=/x", "data.isolate_documents=false"),
    ],
)
def test_what_a_reference_minds(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of()
    own = FLAT.model_copy(update={"shape": json.loads(json.dumps(shape_of(config, VOCABULARY)))})
    monkeypatch.setattr(reference_module, "references", lambda: (own,))
    assert reference_for(config, VOCABULARY) is own
    assert reference_for(config, VOCABULARY + 1) is None
    changed = config_of(setting)
    assert reference_for(changed, VOCABULARY) is None
    assert "only" in no_reference(changed, VOCABULARY)
    if not setting.startswith("objective.name"):
        assert setting.partition("=")[0] in no_reference(changed, VOCABULARY)


def test_each_reference_is_of_its_preset() -> None:
    assert {one.preset for one in references()} >= {"demo"}
    for one in references():
        config = load_config(CONFIGS / f"{one.preset}.yaml")
        assert reference_for(config, config.tokenizer.vocab_size) == one
        for name, curve in one.curves.items():
            assert name.startswith(figures())
            assert curve.steps == sorted(set(curve.steps))
            sides = np.array([curve.low, curve.mean, curve.high])
            assert np.isfinite(sides).all()
            assert (np.diff(sides, axis=0) >= 0).all()
            assert sides.shape[1] == len(curve.steps) >= STREAK or not curve.steps


def test_too_few_lines_are_a_message(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / f"seed-{seed}", seed) for seed in range(3)]
    (runs[1] / "metrics.jsonl").unlink()
    with pytest.raises(UserError, match="does not exist"):
        make(runs, [], "p", 400)


@pytest.mark.parametrize(
    ("figure", "change", "word"),
    [
        ("generator/accuracy", lambda mean: 0.06, "the generator is not learning"),
        ("generator/accuracy", lambda mean: 0.9, "guesses more"),
        ("discriminator/fake_rate", lambda mean: 0.5 * mean, "too few"),
        ("discriminator/loss_over_entropy", lambda mean: 1.2, "the discriminator is not learning"),
        ("discriminator/loss_over_entropy", lambda mean: 0.5, "too easily"),
        ("gradient/generator", lambda mean: mean / 50, "hardly any gradient reaches the generator"),
        ("gradient/discriminator", lambda mean: 50 * mean, "too large"),
        ("update_ratio/embeddings", lambda mean: mean / 100, "hardly move"),
        ("update_ratio/embeddings", lambda mean: 30 * mean, "Lower optimizer.lr"),
    ],
)
def test_the_demo_is_told_within_200_steps(figure: str, change: Callable[[float], float], word: str) -> None:
    (demo,) = [one for one in references() if one.preset == "demo"]
    sound, spoilt = Bands(demo), Bands(demo)
    for step in range(50, 201, 50):  # as its log_every
        means = {name: place.mean for name, curve in demo.curves.items() if (place := curve.at(step))}
        assert sound.look(step, means) == []
        found = spoilt.look(step, means | {f"train/{figure}": change(means[f"train/{figure}"])})
    assert [one.code for one in found] == [f"{CODE}/{figure}"]
    assert word in found[0].words
