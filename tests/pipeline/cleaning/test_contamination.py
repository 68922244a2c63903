"""Documents with evaluation text are found, named and cut as an independent reference in plain Python does it."""

import json
import random
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.decontaminate_sections import DecontaminateConfig
from pipeline.base.errors import UserError
from pipeline.cleaning.contamination import BETWEEN_PIECES, MARGIN, SHORTEST_PIECE, Contamination
from pipeline.cleaning.contamination_index import Index, build_index, load_index, save_index
from pipeline.cleaning.contamination_units import BLOCK, units_of

TEXT = (
    "The committee met on Tuesday to consider whether the old harbour wall could be repaired before the winter storms, "
    "and it heard three engineers who did not agree with each other about the cost."
)
CHINESE = "委员会于星期二开会，讨论在冬季风暴来临之前能否修复旧港口的防波堤，并听取了三位工程师的意见。"
FILLER = "Nothing here is of any interest to anyone, page after page of plain invented prose. "


def indexed(folder: Path, texts: dict[str, list[str]], **settings: object) -> Contamination:
    for name, strings in texts.items():
        lines = [json.dumps({"text": text}, ensure_ascii=False) for text in strings]
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    config = DecontaminateConfig(paths=(str(folder),), **settings)
    save_index(build_index(config, sorted(folder.glob("*.jsonl"))), folder / "index")
    return Contamination(folder / "index")


def units(text: str) -> list[tuple[str, bool]]:
    """Words and single characters in plain Python: (form, whether it is a character of a script without spaces)."""
    found: list[tuple[str, bool]] = []
    word = ""
    for character in [*unicodedata.normalize("NFKC", text), " "]:
        name = unicodedata.name(character, "")
        if unicodedata.category(character) == "Cf":
            continue
        single = name.startswith(("CJK UNIFIED", "HIRAGANA", "KATAKANA LETTER", "THAI CHARACTER"))
        if unicodedata.category(character)[0] in "LMN" and not single:
            word += character
            continue
        if word:
            bare = "".join(part for part in unicodedata.normalize("NFD", word) if not 0x300 <= ord(part) < 0x370)
            found.append((unicodedata.normalize("NFC", bare).lower(), False))
            word = ""
        if single:
            found.append((character, True))
    return found


def sequences(text: str, words: int, characters: int) -> set[tuple[str, ...]]:
    """What of an evaluation text is looked for, by the docs' definition."""
    row = units(text)
    found = []
    for length, kind in ((words, False), (characters, True)):
        windows = [row[start : start + length] for start in range(len(row) - length + 1)]
        found += [window for window in windows if any(single for _, single in window) == kind]
    spaceless = any(single for _, single in row)
    least, enough = (12, characters) if spaceless else (8, words)
    if least <= len(row) < enough:
        found.append(row)
    return {tuple(form for form, _ in window) for window in found if len({form for form, _ in window}) > 3}


def contains(document: str, wanted: set[tuple[str, ...]]) -> bool:
    row = tuple(form for form, _ in units(document))
    return any(row[start : start + len(one)] == one for one in wanted for start in range(len(row) - len(one) + 1))


def test_a_document_with_thirteen_words_of_an_evaluation_text_is_dropped(tmp_path: Path) -> None:
    checker = indexed(
        tmp_path, {"harbour": [TEXT], "other": ["A wholly different text of more than eight words here."]}
    )
    words = TEXT.split()
    hit = checker.check(f"{FILLER} {' '.join(words[3:16])} {FILLER}")
    assert hit is not None
    assert (hit.action, hit.text, hit.files) == ("drop", None, ("harbour.jsonl",))
    assert hit.sequence == " ".join(words[3:16])
    assert checker.check(f"{FILLER} {' '.join(words[3:15])} {FILLER}") is None, "twelve words are no match"


def test_case_punctuation_accents_and_line_breaks_make_no_difference(tmp_path: Path) -> None:
    checker = indexed(
        tmp_path, {"a": ["The café's naïve owner said: don't you ever dare to touch my coffee-machine again!"]}
    )
    for same in (
        "THE CAFÉ’S NAÏVE OWNER SAID — DON’T YOU EVER DARE TO TOUCH MY COFFEE MACHINE AGAIN",
        "the cafe's naive owner said\ndon't you ever\r\n\r\ndare to touch\tmy coffee machine again",
        "the cafe\u0301 's nai\u0308ve owner said : don 't you ev\u00ader dare to touch my cof\u200bfee machine again",
        "the café s naïve owner ｓａｉｄ don t you ever dare to touch my coffee machine again",
    ):
        assert checker.check(same) is not None, same
    assert checker.check("the cafes naive owner said dont you ever dare to touch my coffeemachine again") is None


def test_chinese_is_compared_by_characters(tmp_path: Path) -> None:
    checker = indexed(tmp_path, {"zh": [CHINESE]})
    characters = [character for character in CHINESE if character not in "，。"]
    assert checker.check("前文" + "".join(characters[5:25]) + "后文") is not None, "without its punctuation"
    assert checker.check("前文" + "\n".join(characters[5:25]) + "后文") is not None, "a character a line"
    assert checker.check("前文" + "".join(characters[5:24]) + "后文") is None, "nineteen characters"


def test_words_among_chinese_count_as_one_unit_each(tmp_path: Path) -> None:
    text = "我们在2019年8月用Google Translate翻译了这本书的前三章内容"
    checker = indexed(tmp_path, {"zh": [text]})
    assert checker.check(text.replace("Google Translate", "google\ntranslate")) is not None
    assert checker.check(text.replace("Google Translate", "GoogleTranslate")) is None


@pytest.mark.parametrize(("count", "found"), [(7, False), (8, True), (12, True)])
def test_a_short_evaluation_text_counts_as_a_whole(tmp_path: Path, count: int, found: bool) -> None:
    words = TEXT.split()[:count]
    checker = indexed(tmp_path, {"short": [" ".join(words)], "long": [CHINESE]})
    assert (checker.check(f"Before. {' '.join(words)} after") is not None) == found
    assert checker.check(f"Before. {' '.join(words[:-1])} after") is None


@pytest.mark.parametrize(("count", "found"), [(11, False), (12, True), (19, True)])
def test_a_short_chinese_text_counts_as_a_whole(tmp_path: Path, count: int, found: bool) -> None:
    text = "".join(character for character in CHINESE if character not in "，。")[:count]
    checker = indexed(tmp_path, {"short": [text], "long": [TEXT]})
    assert (checker.check(f"前文{text}后文") is not None) == found
    assert checker.check(f"前文{text[:-1]}后文") is None


def test_sequences_of_hardly_any_different_words_are_no_evidence(tmp_path: Path) -> None:
    checker = indexed(tmp_path, {"tags": ["o o o o b o o o b i o o o o o o", "哈" * 30], "long": [TEXT]})
    assert checker.check("o o o o b o o o b i o o o o o o") is None
    assert checker.check("哈" * 40) is None


def test_tokens_given_as_lists_are_found_in_running_text(tmp_path: Path) -> None:
    (tmp_path / "ner.jsonl").write_text(json.dumps({"tokens": TEXT.split(), "tags": ["O"] * len(TEXT.split())}))
    config = DecontaminateConfig(paths=(str(tmp_path / "ner.jsonl"),))
    save_index(build_index(config, [tmp_path / "ner.jsonl"]), tmp_path / "index")
    assert Contamination(tmp_path / "index").check(TEXT.upper()) is not None


def test_every_file_with_a_match_is_named(tmp_path: Path) -> None:
    checker = indexed(tmp_path, {"a": [TEXT], "b": [TEXT[:140]], "c": [CHINESE]})
    both, one = checker.check_many([f"{TEXT} {CHINESE}", TEXT[-90:]])
    assert both is not None
    assert one is not None
    assert both.files == ("a.jsonl", "b.jsonl", "c.jsonl")
    assert one.files == ("a.jsonl",)


def test_a_match_does_not_run_over_into_the_next_document(tmp_path: Path) -> None:
    checker = indexed(tmp_path, {"a": [TEXT]})
    words = TEXT.split()
    halves = [" ".join(words[:12]), " ".join(words[12:24])]
    assert checker.check_many(halves) == [None, None]
    assert checker.check("\n".join(halves)) is not None


def test_cut_takes_the_match_and_the_margin_and_no_half_words(tmp_path: Path) -> None:
    checker = indexed(tmp_path, {"a": [TEXT]}, action="cut")
    before, after = FILLER * 10, FILLER * 9
    hit = checker.check(before + TEXT + " " + after)
    assert hit is not None
    assert hit.text is not None
    assert hit.action == "cut"
    left, right = hit.text.split(BETWEEN_PIECES)
    assert before.startswith(left)
    assert after.endswith(right + " ")
    assert MARGIN <= len(before) - len(left) < MARGIN + 20
    assert MARGIN <= len(after) - len(right) < MARGIN + 20
    assert before[len(left)] == " "
    assert after[-len(right) - 2] == " "
    assert checker.check(hit.text) is None


def test_cut_joins_matches_that_lie_close_and_drops_short_pieces(tmp_path: Path) -> None:
    checker = indexed(tmp_path, {"a": [TEXT]}, action="cut")
    prose = FILLER * 12
    hit = checker.check(f"{prose}{TEXT} {FILLER * 3}{TEXT} {prose}")
    assert hit is not None
    assert hit.text is not None
    assert hit.text.count(BETWEEN_PIECES) == 1
    short = checker.check(FILLER * 4 + TEXT + FILLER * 4)
    assert short is not None
    assert (short.action, short.text) == ("drop", None), f"no piece of {SHORTEST_PIECE} characters is left"


def test_a_document_in_more_than_ten_pieces_is_dropped(tmp_path: Path) -> None:
    checker = indexed(tmp_path, {"a": [TEXT]}, action="cut")
    prose = FILLER * 10
    kept, lost = checker.check_many([(prose + TEXT + " ") * 9 + prose, (prose + TEXT + " ") * 10 + prose])
    assert kept is not None
    assert kept.text is not None
    assert kept.text.count(BETWEEN_PIECES) == 9
    assert lost is not None
    assert lost.text is None


def test_cut_knows_where_chinese_may_be_cut(tmp_path: Path) -> None:
    checker = indexed(tmp_path, {"a": [CHINESE]}, action="cut")
    around = "山中有一条小路通向古老的村庄，村民们每天清晨沿着它去田里劳作。" * 20
    hit = checker.check(around + CHINESE + around)
    assert hit is not None
    assert hit.text is not None
    left, right = hit.text.split(BETWEEN_PIECES)
    assert around.startswith(left)
    assert around.endswith(right)
    assert len(left) >= len(around) - MARGIN - 1


ALPHABET = ["Ab", "a", "B", "ca", "é", "E", "x1", "中", "文", "字", "か", "ไ", ",", "\n", "\u200b", "’", " "]


@given(
    evaluation=st.lists(st.lists(st.sampled_from(ALPHABET), max_size=30), min_size=1, max_size=4),
    documents=st.lists(st.lists(st.sampled_from(ALPHABET), max_size=60), min_size=1, max_size=4),
    cuts=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30), st.integers(0, 30)), max_size=3),
)
def test_agrees_with_the_reference(
    tmp_path_factory: pytest.TempPathFactory,
    evaluation: list[list[str]],
    documents: list[list[str]],
    cuts: list[tuple[int, int, int]],
) -> None:
    """Texts of few different words, so that matches are frequent; some documents get a piece of evaluation text."""
    folder = tmp_path_factory.mktemp("reference")
    texts = {f"f{number}": [" ".join(parts) + "."] for number, parts in enumerate(evaluation)}
    for number, start, length in cuts:
        documents.append(evaluation[number % len(evaluation)][start : start + length])
    checker = indexed(folder, texts, words=9, characters=14)
    wanted = {f"{name}.jsonl": sequences(strings[0], 9, 14) for name, strings in texts.items()}
    spaced = [" ".join(parts) for parts in documents]
    for document, hit in zip(spaced, checker.check_many(spaced), strict=True):
        expected = tuple(name for name, among in wanted.items() if contains(document, among))
        assert (hit.files if hit is not None else ()) == expected
        assert checker.check(document) == hit


def test_long_texts_are_hashed_in_blocks_without_a_seam() -> None:
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghij", k=draw.randint(1, 9))) for _ in range(40_000)]
    words += [chr(draw.randrange(0x4E00, 0x9FA5)) for _ in range(2 * BLOCK)]
    text = " ".join(words[:40_000]) + "".join(words[40_000:])
    found = units_of(text)
    assert [text[start:end] for start, end in zip(found.starts, found.ends, strict=True)] == words
    assert found.hashes[:40_000:997].tolist() == [units_of(word).hashes[0] for word in words[:40_000:997]]
    assert found.single.sum() == 2 * BLOCK


def test_a_word_longer_than_a_block_is_cut_and_nothing_else_is_lost() -> None:
    found = units_of("before " + "x" * (2 * BLOCK + 5) + " after")
    assert found.hashes[[0, -1]].tolist() == [units_of(word).hashes[0] for word in ("before", "after")]


def test_the_saved_index_is_the_built_one_and_damage_is_told(tmp_path: Path) -> None:
    checker = indexed(tmp_path, {"a": [TEXT, "label"], "b": [CHINESE]}, words=10, action="cut")
    built = build_index(DecontaminateConfig(paths=("x",), words=10, action="cut"), sorted(tmp_path.glob("*.jsonl")))
    loaded: Index = checker.index
    for name in ("words", "characters", "action", "files", "lengths"):
        assert getattr(loaded, name) == getattr(built, name)
    for name in ("hashes", "owners", "bits"):
        assert (getattr(loaded, name) == getattr(built, name)).all()
    assert loaded.files[0]._asdict() == {"name": "a.jsonl", "texts": 2, "used": 1, "sequences": len(TEXT.split()) - 9}
    (tmp_path / "broken").write_bytes((tmp_path / "index").read_bytes()[:-8])
    (tmp_path / "else").write_bytes(b'{"format": "x"}\n')
    for name in ("broken", "else"):
        with pytest.raises(UserError, match=f"{name} is no contamination index 1"):
            load_index(tmp_path / name)


def test_a_file_without_a_sequence_finds_nothing_and_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checker = indexed(tmp_path, {"labels": ["positive", "negative"]})
    assert "none of its 2 texts is long enough" in caplog.text
    assert checker.check_many([TEXT, CHINESE, ""]) == [None, None, None]
