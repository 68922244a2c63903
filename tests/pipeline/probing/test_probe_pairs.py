"""Pairs of texts without a network: files, their mistakes, built-in probes, and figures against SciPy."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
import scipy.stats
import zstandard
from mlflow.entities import Metric
from mlflow.tracking import MlflowClient

from pipeline.base.errors import UserError
from pipeline.probing.figures import Scored, figures, metrics_of, summarise, table, wilson
from pipeline.probing.pairs import Pair, PairSet, read_files, read_pairs
from pipeline.probing.probes import make_probes


def test_files_are_read_with_their_phenomena(tmp_path: Path) -> None:
    lines = [{"good": "a b", "bad": "b a", "phenomenon": "order"}, {"good": "c", "bad": "d"}]
    packed = zstandard.ZstdCompressor().compress("\n".join(map(json.dumps, lines)).encode())
    (tmp_path / "two.jsonl.zst").write_bytes(packed)
    found = read_pairs(tmp_path / "two.jsonl.zst")
    assert found.name == "two"
    assert [(p.good, p.bad, p.phenomenon, p.line) for p in found.pairs] == [
        ("a b", "b a", "order", 1),
        ("c", "d", "two", 2),
    ]
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "two.jsonl").write_text(
        '{"sentence_good": "e", "sentence_bad": "f", "linguistics_term": "binding", "UID": "blimp"}'
    )
    sets = read_files([tmp_path / "two.jsonl.zst", tmp_path / "again" / "two.jsonl"])
    assert len({one.name for one in sets}) == 2
    assert sets[1].phenomena == ["blimp"]


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ('{"good": "a"}', "bad"),
        ('{"good": 3, "bad": "a"}', "good"),
        ('{"good": "a", "bad": "b", "phenomenon": 7.5}', "'phenomenon' is a number, not"),
        ('{"good": "a", "bad": "b", "phenomenon": " "}', "'phenomenon' is an empty string"),
        ('{"good": "a", ', "2"),
    ],
)
def test_a_line_that_is_no_pair_is_told_with_its_number(tmp_path: Path, line: str, wrong: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"good": "x", "bad": "y"}\n' + line + "\n")
    with pytest.raises(UserError, match=wrong) as told:
        read_pairs(path)
    assert f"{path}:2" in str(told.value)


def test_a_phenomenon_is_one_line_whatever_the_record_has(tmp_path: Path) -> None:
    """null is no name: the next field's or the file's is taken; a whole number and true are; line breaks are spaces."""
    pair = {"good": "a", "bad": "a"}  # equal texts are a pair too: a tie
    records = [
        pair | {"phenomenon": None, "UID": "blimp"},
        pair | {"phenomenon": None},
        pair | {"phenomenon": 7},
        pair | {"phenomenon": True},
        pair | {"phenomenon": " two\r\n\u2028 lines\t"},
    ]
    (tmp_path / "file.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert read_pairs(tmp_path / "file.jsonl").phenomena == ["blimp", "file", "7", "true", "two lines"]


def test_an_empty_file_and_an_unknown_probe(tmp_path: Path) -> None:
    (tmp_path / "none.jsonl").write_text("")
    with pytest.raises(UserError, match=r"none\.jsonl"):
        read_pairs(tmp_path / "none.jsonl")
    with pytest.raises(UserError, match=r"grammar_fr.*one of grammar_en, bias_en, bias_zh"):
        make_probes(["grammar_fr"])


def test_probes_have_ten_phenomena_and_balanced_occupations(tmp_path: Path) -> None:
    grammar, english, chinese = make_probes(["grammar_en", "bias_en", "bias_zh", "grammar_en"])
    assert set(Counter(pair.phenomenon for pair in grammar.pairs).values()) == {100}
    assert len(grammar.phenomena) == 10
    assert len({(pair.good, pair.bad) for pair in grammar.pairs}) == 1000
    for one in (grammar, english, chinese):
        assert all(pair.good != pair.bad for pair in one.pairs)
    for one in (english, chinese):
        assert Counter(pair.group for pair in one.pairs) == {"male": 80, "female": 80}
    assert not [pair for pair in english.pairs if re.search(r"\ba [aeiou]", f"{pair.good} {pair.bad}")]
    path = tmp_path / "grammar.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in grammar.as_records()))
    assert [(p.good, p.bad, p.phenomenon) for p in read_pairs(path).pairs] == [
        (p.good, p.bad, p.phenomenon) for p in grammar.pairs
    ]


@pytest.mark.parametrize(("hits", "pairs"), [(0, 5), (3, 10), (57, 100), (100, 100)])
def test_interval_is_wilsons(hits: int, pairs: int) -> None:
    wanted = scipy.stats.binomtest(hits, pairs).proportion_ci(0.95, method="wilson")
    assert wilson(hits, pairs) == pytest.approx((wanted.low, wanted.high), abs=1e-12)


def test_figures_by_hand() -> None:
    pairs = [Pair("a", "b", "one", 1), Pair("c", "d", "one", 2), Pair("e", "f", "two", 3)]
    made = PairSet("made/up", "here.jsonl", "grammar", pairs)
    differences = [1.0, 0.0, -2.0]
    scored = [Scored(pair, value, 0.0, value == 0) for pair, value in zip(pairs, differences, strict=True)]
    overall = figures(scored)
    assert overall["accuracy"] == 0.5
    assert overall["ties"] == 1
    assert overall["standard_error"] == pytest.approx(scipy.stats.sem(differences))
    summary = summarise(made, {"generator": scored})
    assert summary["phenomena"]["one"]["generator"]["accuracy"] == 0.75
    assert summary["mean_of_phenomena"]["generator"] == 0.375
    assert summary["identical_tokens"] == {"generator": 1}
    assert metrics_of(made.name, summary)["evaluate/pairs/made_up/generator/two/accuracy"] == 0
    shown = table(made.name, summary)
    assert "0.750" in shown
    assert "1 ties count as half" in shown


def test_every_phenomenon_has_a_metric_of_its_own_that_mlflow_takes(tmp_path: Path) -> None:
    long = "subject verb agreement " * 20
    names = ["a_b", "a/b", "a?b", "of one", long + "a", long + "b", "主谓一致" * 60]
    pairs = [Pair("a", "b", name, number) for number, name in enumerate(names)]
    scored = {"discriminator": [Scored(pair, float(pair.line % 2), 0.5, False) for pair in pairs]}
    summary = summarise(PairSet("made", "here.jsonl", "bias", pairs), scored)
    found = metrics_of("runs/other/" * 30, summary)
    assert len(found) == len(names) + 2
    assert max(map(len, found)) <= 250
    phenomena = [key.split("/")[4] for key in found][2:]
    assert [phenomena[0], phenomena[3]] == ["a_b", "of one"]
    assert all(re.fullmatch(r"a_b-[0-9a-f]{8}", name) for name in phenomena[1:3])
    assert [value for key, value in found.items() if key.count("/") == 5] == [float(n % 2) for n in range(len(names))]
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    run = client.create_run(client.create_experiment("test")).info.run_id
    client.log_batch(run, metrics=[Metric(key, value, 0, 0) for key, value in found.items()])
    assert client.get_run(run).data.metrics == found


def test_any_name_of_a_phenomenon_is_one_short_line_of_the_table() -> None:
    pairs = [Pair("a", "b", name, 1) for name in ("two\r\nlines\x1b[31m", "long " * 80)]
    scored = [Scored(pair, 1.0, 0.0, False) for pair in pairs]
    made = PairSet("made", "here.jsonl", "grammar", pairs)
    lines = table("made", summarise(made, {"generator": scored})).splitlines()
    assert lines[2].split()[:3] == ["two", "lines", "[31m"]
    assert len(lines) == 6
    assert all(line.isprintable() and len(line) < 120 for line in lines)
