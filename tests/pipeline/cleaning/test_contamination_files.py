"""Evaluation files of every kind give their strings; a fault is told with file and line."""

import gzip
import json
import os
import re
from pathlib import Path

import pytest
import zstandard

from pipeline.base.decontaminate_sections import DecontaminateConfig
from pipeline.base.errors import UserError
from pipeline.base.storage import place_of
from pipeline.cleaning.contamination import Contamination
from pipeline.cleaning.contamination_files import find_evaluation_files, names_of, texts_of
from pipeline.cleaning.contamination_index import build_index, config_files, save_index
from tests.s3_server import S3Server
from tests.web_server import web_server

SQUAD = {
    "version": "1.1",
    "data": [
        {
            "title": "Harbours",
            "paragraphs": [{"context": "A context.", "qas": [{"question": "Which?", "answers": [{"text": "this"}]}]}],
        }
    ],
}


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize(
    ("name", "text", "texts"),
    [
        (
            "a.jsonl",
            '\ufeff{"a": "one", "b": {"c": ["two", 3, ["three"]]}, "d": null}\r\n\r\n"four"\n',
            "one two three four",
        ),
        ("list.jsonl", '{"tokens": ["x", "y"]}', ["x", "y", "x y"]),
        ("one.json", json.dumps(SQUAD), ["1.1", "Harbours", "A context.", "Which?", "this"]),
        ("indented.json", json.dumps(SQUAD, indent=1), ["1.1", "Harbours", "A context.", "Which?", "this"]),
        ("lines.json", '{"a": "one"}\n{"a": "two"}\n', "one two"),
        ("a.tsv", 'text\tlabel\r\nsaid "so\tyes\r\n', ["text", "label", 'said "so', "yes", ""]),
        ("a.csv", 'text,label\n"two\nlines, ""quoted""",yes\n', ["text", "label", 'two\nlines, "quoted"', "yes"]),
        ("a.txt", "one\ntwo\n\n \nthree\n", ["one", "two", "one\ntwo", "three", "three"]),
    ],
)
def test_all_strings_of_a_file_are_read(tmp_path: Path, name: str, text: str, texts: str | list[str]) -> None:
    expected = sorted(texts.split() if isinstance(texts, str) else texts)
    assert sorted(texts_of(write(tmp_path / name, text))) == expected
    packed = tmp_path / f"{name}.gz"
    packed.write_bytes(gzip.compress(text[:3].encode()) + gzip.compress(text[3:].encode()))
    assert sorted(texts_of(packed)) == expected
    packed = tmp_path / f"{name}.zst"
    packed.write_bytes(zstandard.compress(text[:3].encode()) + zstandard.compress(text[3:].encode()))
    assert sorted(texts_of(packed)) == expected


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.jsonl", b'{"a": "x"}\n\n{"a": }\n', r"a\.jsonl:3: broken JSON \(Expecting value, column 7\)"),
        ("a.json", b'{"a":\n "x",\n}', r"a\.json:3: broken JSON"),
        ("b.json", b'{"a": "x"}\n{"a": "y"', r"b\.json:2: broken JSON"),
        ("deep.jsonl", b"[" * 200_000, r"deep\.jsonl:1: (JSON that is nested too deeply|broken JSON)"),
        ("a.txt", b"good\n\xff\xfe\n", r"a\.txt:2: not UTF-8"),
        ("a.csv", b'a,b\n"x"y,z\n', r"a\.csv:2: broken CSV"),
        ("a.jsonl.gz", gzip.compress(b'{"a": "x"}', mtime=0)[:-9], r"a\.jsonl\.gz is not a whole \.gz file"),
        ("a.jsonl.zst", zstandard.compress(b'{"a": "x"}' * 99)[:-3], r"a\.jsonl\.zst is not a whole \.zst file"),
        ("no.jsonl.zst", b"not zstd", r"no\.jsonl\.zst is not a whole \.zst file"),
        ("empty.jsonl", b"\n", r"empty\.jsonl holds no text"),
    ],
)
def test_a_fault_is_told_with_file_and_line(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=message):
        build_index(DecontaminateConfig(paths=(str(tmp_path / name),)), [tmp_path / name])


def test_files_folders_and_globs_are_found_each_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b/dev.jsonl", "b/test.tsv.gz", "a/dev.jsonl", "a/.hidden.jsonl", ".git/x.jsonl", "a/model.bin"):
        (tmp_path / "eval" / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / "eval" / name, "{}")
    monkeypatch.chdir(tmp_path)

    def found(*paths: str) -> list[str]:
        return [os.path.relpath(file, tmp_path) for file in config_files(DecontaminateConfig(paths=paths))]

    everything = ["eval/a/dev.jsonl", "eval/b/dev.jsonl", "eval/b/test.tsv.gz"]
    assert found("eval") == everything
    assert found("eval/**/*") == everything
    assert found("eval/*/dev.*") == everything[:2]
    assert found(f"{tmp_path}/eval/b/*") == everything[1:]
    assert found("eval/b/test.tsv.gz", "eval", str(tmp_path / "eval")) == [everything[2], *everything[:2]]
    assert found("eval/a/.hidden.jsonl") == ["eval/a/.hidden.jsonl"], "as it is named"
    assert found() == []
    assert names_of(config_files(DecontaminateConfig(paths=("eval",)))) == [
        "a/dev.jsonl",
        "b/dev.jsonl",
        "b/test.tsv.gz",
    ]
    assert names_of(config_files(DecontaminateConfig(paths=("eval/a/dev.jsonl",)))) == ["dev.jsonl"]
    assert names_of([]) == []


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("nowhere.jsonl", "nowhere.jsonl does not exist"),
        ("*.jsonl", "the glob *.jsonl matches no file that is .jsonl"),
        ("empty", "the folder empty holds no file that is .jsonl"),
        ("a.parquet", "a.parquet is not .jsonl"),
        ("ftp://host/a.jsonl", "ftp:// is not known"),
    ],
)
def test_what_cannot_be_used_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    write(tmp_path / "a.parquet", "x")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=re.escape(message)):
        find_evaluation_files([entry])


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.jsonl"):
        list(texts_of(tmp_path / "a.jsonl"))


@pytest.mark.slow
def test_files_in_a_store_are_read_as_local_ones(tmp_path: Path, s3: S3Server) -> None:
    for name in ("b/dev.jsonl", "b/test.jsonl.gz", "a/dev.jsonl", "a/.hidden.jsonl", "a/model.bin"):
        text = json.dumps({"text": f"These are more than eight words of an evaluation text, {name}"}).encode()
        (place_of(s3.url) / "eval" / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)

    def found(path: str) -> list[str]:
        return [str(file).removeprefix(s3.url) for file in find_evaluation_files([path])]

    everything = ["/eval/a/dev.jsonl", "/eval/b/dev.jsonl", "/eval/b/test.jsonl.gz"]
    assert found(f"{s3.url}/eval") == everything
    assert found(f"{s3.url}/eval/*/dev.jsonl") == everything[:2]
    assert found(f"{s3.url}/eval/**/*.gz") == everything[2:]
    assert found(f"{s3.url}/eval/b/dev.jsonl") == everything[1:2]
    for entry, message in (("no", "does not exist"), ("n*", "matches no file"), ("eval/a/model.bin", "is not .jsonl")):
        with pytest.raises(UserError, match=message):
            find_evaluation_files([f"{s3.url}/{entry}"])

    files = find_evaluation_files([f"{s3.url}/eval"])
    save_index(build_index(DecontaminateConfig(paths=("x",)), files), tmp_path / "index")
    (place_of(s3.url) / "index").write_bytes((tmp_path / "index").read_bytes())
    hit = Contamination(place_of(s3.url) / "index").check(
        "These are more than eight words of an evaluation text: b, test, jsonl, gz"
    )
    assert hit is not None
    assert hit.files == ("b/test.jsonl.gz",)


@pytest.mark.slow
def test_files_of_a_web_server_are_named_one_by_one(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", '{"text": "one"}')
    with web_server(tmp_path) as server:
        url = server.url
        assert list(texts_of(find_evaluation_files([f"{url}/a.jsonl"])[0])) == ["one"]
        for entry in ("nowhere.jsonl", "*.jsonl", ""):
            with pytest.raises(UserError):
                list(texts_of(find_evaluation_files([f"{url}/{entry}"])[0]))
