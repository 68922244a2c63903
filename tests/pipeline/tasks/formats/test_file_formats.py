"""Files of other formats than JSON lines, good and broken, against what the csv and json modules make of them."""

import bz2
import csv
import gzip
import io
import json
import lzma
import zipfile
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.errors import UserError
from pipeline.base.task_sections import FieldsConfig, FinetuneConfig
from pipeline.tasks.formats.reading import format_of, read_records


def read(path: Path, content: str | bytes, **settings: Any) -> list[tuple[int, dict[str, Any]]]:
    data = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return list(read_records(path, FinetuneConfig(**settings)))


def test_csv_quotes_line_breaks_bom_and_long_values(tmp_path: Path) -> None:
    content = '\ufefftext, label\r\n"a, ""b""\n\nc",x\r\n\r\nd,y\r\n"",z\r\n'
    assert read(tmp_path / "a.csv.gz", content) == [
        (2, {"text": 'a, "b"\n\nc', "label": "x"}),
        (6, {"text": "d", "label": "y"}),
        (7, {"text": "", "label": "z"}),
    ]
    long = "word " * 50_000
    assert read(tmp_path / "b.csv", f"text,label\n{long},x\n")[0][1]["text"] == long


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(st.lists(st.tuples(CELL, CELL), min_size=1))
def test_csv_is_read_as_the_csv_module_writes_it(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    target = io.StringIO(newline="")
    csv.writer(target, quoting=csv.QUOTE_ALL).writerows([("a", "b"), *rows])
    path = tmp_path_factory.getbasetemp() / "written.csv"
    assert [tuple(record.values()) for _, record in read(path, target.getvalue())] == [tuple(row) for row in rows]


def test_tsv_takes_quotes_as_text(tmp_path: Path) -> None:
    content = 'sentence\tlabel\n"He said\t0\n\n say "" so"\t1\r\n'
    assert read(tmp_path / "a.tsv", content) == [
        (2, {"sentence": '"He said', "label": "0"}),
        (4, {"sentence": ' say "" so"', "label": "1"}),
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_tables_of_any_line_end(tmp_path: Path, end: str) -> None:
    rows = [(2, {"text": "a", "label": "x"}), (4, {"text": "b", "label": ""})]
    for name, mark in (("a.tsv", "\t"), ("a.csv", ",")):
        lines = ("text,label", "a,x", "", "b,")
        assert read(tmp_path / name, end.join(lines).replace(",", mark)) == rows


CONLL = """-DOCSTART- -X- O O

# id = 1
EU NNP B-NP B-ORG
rejects VBZ B-VP O
# # B-NP O

# # O O
\u3000 SYM O O
"""


def test_conll_columns_comments_and_docstart(tmp_path: Path) -> None:
    assert read(tmp_path / "a.conll", CONLL) == [
        (4, {"tokens": ["EU", "rejects", "#"], "tags": ["B-ORG", "O", "O"], "token_lines": [4, 5, 6]}),
        (8, {"tokens": ["#", "\u3000"], "tags": ["O", "O"], "token_lines": [8, 9]}),
    ]
    fields = FieldsConfig(tokens="1", tags="-2")
    content = "1\tNew York\tB-LOC\t_\r\n2\t \tI-LOC\t_\r\n \t\r\n\r\n3\tx\tO\t_"
    assert read(tmp_path / "b.txt", content, format="conll", fields=fields) == [
        (1, {"tokens": ["New York", " "], "tags": ["B-LOC", "I-LOC"], "token_lines": [1, 2]}),
        (5, {"tokens": ["x"], "tags": ["O"], "token_lines": [5]}),
    ]


NUMBERED = "# sent_id = 1\n1\tNew\tB-LOC\n2-3\tYorker\t_\n2\tYork\tI-LOC\n3\ter\tO\n\n1\tx\tO\n"


def test_numbers_of_tokens_are_not_read_as_tokens(tmp_path: Path) -> None:
    """CoNLL-U numbers its words in the first column, and so do Universal NER's files."""
    for name in ("a.conllu", "a.CoNLLU.gz"):
        sentences = [record["tokens"] for _, record in read(tmp_path / name, NUMBERED)]
        assert sentences == [["New", "Yorker", "York", "er"], ["x"]]
    with pytest.raises(UserError) as told:
        read(tmp_path / "a.iob2", NUMBERED)
    said = "column 0 holds token numbers: set finetune.fields.tokens=1."
    assert str(told.value) == f"{tmp_path / 'a.iob2'}:2: {said}"
    assert read(tmp_path / "a.iob2", NUMBERED, fields=FieldsConfig(tokens="1"))[1][1]["tokens"] == ["x"]
    assert read(tmp_path / "a.iob2", NUMBERED, fields=FieldsConfig(tokens="0"))[1][1]["tokens"] == ["1"]


@pytest.mark.parametrize("content", ["1 O\n\n1 O\n", "1 O\n2 O\n\n7 O\n", "1 O\n2 O\n\nx O\n"])
def test_tokens_may_be_numbers(tmp_path: Path, content: str) -> None:
    words = [word for _, record in read(tmp_path / "a.conll", content) for word in record["tokens"]]
    assert words == content.replace("O", "").split()
    assert read(tmp_path / "a.conllu", "Ada O\n") == [(1, {"tokens": ["Ada"], "tags": ["O"], "token_lines": [1]})]


SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "paragraphs": [
                {
                    "qas": [
                        {"question": "Who?", "id": "q1", "answers": [{"text": "Ada", "answer_start": 0}]},
                        {
                            "id": "q2",
                            "is_impossible": True,
                            "answers": [],
                            "plausible_answers": [{"text": "ran", "answer_start": 4}],
                            "question": "When?",
                        },
                    ],
                    "context": "Ada ran.",
                }
            ],
            "title": "T",
        },
        {"title": "Empty", "paragraphs": []},
    ],
}


@pytest.mark.parametrize("indent", [None, 1])
def test_squad_in_one_line_or_many(tmp_path: Path, indent: int | None) -> None:
    text = json.dumps(SQUAD, indent=indent)
    (first, one), (second, two) = read(tmp_path / "a.json", text)
    shared = {"title": "T", "context": "Ada ran."}
    assert one == shared | {"id": "q1", "question": "Who?", "answers": {"text": ["Ada"], "answer_start": [0]}}
    empty = {"text": [], "answer_start": []}
    assert two == shared | {"id": "q2", "question": "When?", "answers": empty, "is_impossible": True}
    lines = text.split("\n")
    if indent:
        assert '"question": "Who?"' in lines[first]
        assert '"id": "q2"' in lines[second]
    else:
        assert (first, second) == (1, 1)


def test_format_by_suffix(tmp_path: Path) -> None:
    names = {"a.jsonl": "jsonl", "a.csv.zst": "csv", "a.TSV.gz": "tsv", "a.bio": "conll", "train": "jsonl"}
    for name, kind in names.items():
        assert format_of(tmp_path / name, FinetuneConfig()) == kind
    assert format_of(tmp_path / "a.csv", FinetuneConfig(format="tsv")) == "tsv"
    lines = tmp_path / "a.json"
    lines.write_text('\n{"data": "x"}\n{"data": "y"}\n')
    assert format_of(lines, FinetuneConfig()) == "jsonl"


def zipped() -> bytes:
    """A zip archive, as .xlsx and .docx are."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("sheet.xml", "<row/>")
    return content.getvalue()


def test_a_text_may_begin_like_another_format(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", "PAR1,PK\nBZh9,x\n") == [(2, {"PAR1": "BZh9", "PK": "x"})]


BAD = {
    "few.csv": ("text,label\na,b\n\nc\n", ":4: 1 columns, but the header has 2"),
    "quote.csv": ('text,label\na,b\n"c,d\ne,f\n', ":3: broken CSV"),
    "after.csv": ('text,label\n"a" b,c\n', ":2: broken CSV"),
    "twice.csv": ("text,text\na,b\n", ":1: the header has the column 'text' twice"),
    "blank.csv": ("text,\na,b\n", ":1: the header has a column without a name"),
    "semicolons.csv": ("text;label\na;b\n", ":1: the header is one column, 'text;label'"),
    "latin.csv": (b"text,label\n\xe9,b\n", ":2: not UTF-8"),
    "many.tsv": ("text\tlabel\na\tb\tc\n", ":2: 3 columns, but the header has 2"),
    "break.tsv": ('text\tlabel\n"a\nb"\tc\n', ":2: 1 columns, .*Quotes mean nothing"),
    "ragged.conll": ("a O\nb\n", ":2: 1 columns, but the lines before have 2"),
    "single.conll": ("a\n", ":1: tokens and tags are both column 0 of 1"),
    "cut.json": ('{"data": [\n{"title": "a",', ":2: broken JSON"),
    "list.json": ('{"data": {"a":\n 1}}', ":1: 'data' is not a list"),
    "paragraphs.json": ('{"data": [{},\n {}]}', ":1: no 'paragraphs'"),
    "context.json": ('{"data": [{"paragraphs":\n [{"qas": []}]}]}', ":2: a paragraph without 'context'"),
    "half.json": (
        json.dumps({"data": [{"paragraphs": [{"context": "a", "qas": [{"id": "\udc00", "answers": []}]}]}]}),
        ":1: 'id' holds half",
    ),
    "array.json": ("[1,\n 2]", ":1: no SQuAD file.* an object a line"),
    "text.jsonl": ("text,label\n", r":1: broken JSON \(.*column 1\).*name it in finetune\.format\.$"),
    "header.csv": ("text,label\n\n", " holds no record: read as csv"),
    "book.xlsx": (zipped(), r" is a zip archive, such as a spreadsheet \(\.xlsx\) is\. Save .* as \.csv"),
    "book.csv.gz": (zipped(), " is a zip archive"),
    "packed.csv": (gzip.compress(b"text,label\n"), r" is compressed by gzip\. Let its name end in \.gz\.$"),
    "packed.csv.bz2": (bz2.compress(b"text,label\n"), " is compressed by bzip2. Decompress it"),
    "packed.csv.xz": (lzma.compress(b"text,label\n"), " is compressed by xz"),
    "packed.jsonl": (zstandard.compress(b"text"), r" is compressed by zstd\. Let its name end in \.zst"),
    "rows.parquet": (b"PAR1\x15\x04\x15PAR1", " is a Parquet file"),
}


@pytest.mark.parametrize("name", BAD)
def test_broken_files_name_the_line(tmp_path: Path, name: str) -> None:
    content, message = BAD[name]
    with pytest.raises(UserError, match=rf"{name}{message}"):
        read(tmp_path / name, content)


def test_columns_that_are_not_there(tmp_path: Path) -> None:
    for fields, message in (
        (FieldsConfig(tags="5"), "no finetune.fields.tags 5"),
        (FieldsConfig(tags="ner"), "number"),
    ):
        with pytest.raises(UserError, match=message):
            read(tmp_path / "a.conll", "a O\n", fields=fields)
