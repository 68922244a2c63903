"""The stage: what it leaves, what it says is missing, what it refuses; and that a text cannot get out of its page."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from tokenizers import normalizers

from pipeline.base.errors import UserError
from pipeline.base.task_sections import FieldsConfig
from pipeline.command import main
from pipeline.explaining.page import json_in_page, render
from pipeline.stages import explain
from tests.pipeline.explaining.explained_folders import all_folders, explain_config, tiny_classifier
from tests.pipeline.tasks.tiny_folders import tiny_folder, tiny_tokenizer

HOSTILE = "good </script><img src=x onerror=\"alert('&amp;')\"> <!-- film {{ 7*7 }}\u2028 \x00 bad"


class Elements(HTMLParser):
    """Names, attributes and texts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.starts: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[tuple[str, str | None]] = []
        self.cells: list[str] = []
        self.scripts: list[str] = []
        self.shown = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.starts.append((tag, attributes))
        self.open.append((tag, attributes.get("role")))
        if attributes.get("role") == "option":
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == ("script", None):
            self.scripts.append(data)
        if any(role == "option" for _, role in self.open):
            self.cells[-1] += data
        if any(role == "listbox" for _, role in self.open):
            self.shown += data


def test_everything_at_once(tmp_path: Path) -> None:
    folders = all_folders(tmp_path)
    (tmp_path / "in.jsonl").write_text(json.dumps({"text": HOSTILE}) + "\n" + json.dumps({"text": "the film"}) + "\n")
    config = explain_config(tmp_path, file=tmp_path / "in.jsonl", candidates=3, **folders)
    explain.run(config)
    page, data = tmp_path / "run" / "explain.html", tmp_path / "run" / "explain.json"
    report = json.loads(data.read_text())
    assert set(report["networks"]) == {"discriminator", "generator", "classifier"}
    assert (report["missing"], [text["place"][-2:] for text in report["texts"]]) == ([], [":1", ":2"])
    first = report["texts"][0]
    assert first["text"] == HOSTILE
    for token in first["tokens"]:
        assert HOSTILE[token["start"] : token["end"]] in (token["piece"], *re.findall(r"[^\s\w]+|\w+", HOSTILE))
        assert 0 <= token["replaced"] <= 1
        assert len(token["candidates"]) == 3
    made = first["classification"]
    assert sum(token["attribution"] for token in made["tokens"]) == pytest.approx(made["sum"])
    assert made["gap"] == pytest.approx(made["sum"] - (made["at_text"] - made["at_baseline"]))
    assert sum(made["probabilities"].values()) == pytest.approx(1)
    assert made["label"] == max(made["probabilities"], key=made["probabilities"].get)
    assert "[PAD]" in report["networks"]["classifier"]["baseline"]
    before = page.read_bytes()
    explain.run(config)
    assert page.read_bytes() == before
    assert [path.name for path in page.parent.iterdir() if "aside" in path.name] == []


def test_texts_are_data(tmp_path: Path) -> None:
    folders = {"discriminator": tiny_folder(tmp_path / "</title><b>", "electra")}
    folders["classifier"] = tiny_classifier(tmp_path / "c", labels=("<b>", "\"'"))
    config = explain_config(tmp_path, **folders)
    settings = config.explain.model_copy(update={"text": HOSTILE})
    explain.run(config.model_copy(update={"explain": settings}))
    page = (tmp_path / "run" / "explain.html").read_text()
    elements = Elements(page)
    tags = {tag for tag, _ in elements.starts}
    assert not tags & {"img", "link", "iframe", "base", "object"}
    assert sum(tag == "script" for tag, _ in elements.starts) == 2
    assert not any(name in ("src", "href", "style") or name.startswith("on") for _, a in elements.starts for name in a)
    assert elements.shown == 2 * HOSTILE.replace("\0", "\ufffd")
    assert "url(" not in page
    assert "@import" not in page
    assert "49" not in elements.shown
    assert re.search(r"Content-Security-Policy\" content=\"default-src &#39;none&#39;; script-src &#39;sha256-", page)
    options = [attributes for _, attributes in elements.starts if attributes.get("role") == "option"]
    assert all(attributes["tabindex"] in ("0", "-1") and attributes["aria-label"] for attributes in options)
    assert sum(attributes["tabindex"] == "0" for attributes in options) == 2
    assert re.fullmatch(r"good: replaced \d+\.\d %", str(options[0]["aria-label"]))


def test_json_in_a_page_has_no_markup() -> None:
    value = ["</script><!--", "&lt;\u2028\u2029", "中\0"]
    text = json_in_page(value)
    assert not set(text) & set("<>&\u2028\u2029\0")
    assert json.loads(text) == value


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    folders = all_folders(tmp_path)
    for name, said in (
        ("discriminator", ["No generator", "No classifier"]),
        ("generator", ["No discriminator", "No classifier"]),
        ("classifier", ["No discriminator", "No generator"]),
    ):
        explain.run(
            explain_config(tmp_path, text="the film", output=tmp_path / f"{name}.html", **{name: folders[name]})
        )
        report = json.loads((tmp_path / f"{name}.json").read_text())
        assert [sentence[: len(start)] for sentence, start in zip(report["missing"], said, strict=True)] == said
        page = (tmp_path / f"{name}.html").read_text()
        assert all(start in page for start in said)
        assert page.count('role="listbox"') == 1
    for name in ("discriminator", "generator"):  # where the run has its export
        (tmp_path / "run" / "export").mkdir(parents=True, exist_ok=True)
        folders[name].rename(tmp_path / "run" / "export" / name)
    explain.run(explain_config(tmp_path, text="the film"))
    assert [s[:13] for s in json.loads((tmp_path / "run" / "explain.json").read_text())["missing"]] == ["No classifier"]


def test_a_wide_gap_and_what_was_not_asked_are_said(tmp_path: Path) -> None:
    folders = all_folders(tmp_path)
    explain.run(explain_config(tmp_path, text="the very good film", candidate_budget=7, **folders))
    report = json.loads((tmp_path / "run" / "explain.json").read_text())
    assert report["notes"] == [
        "The generator was asked about the first 1 of 4 tokens only: each one costs a reading of its window "
        "(explain.candidate_budget).",
        "Nothing tells whether the classifier was fine-tuned on one text or on two at once (no `paired` in a "
        "metrics.json): asked otherwise, it answers at random.",
    ]
    assert [token["candidates"] is None for token in report["texts"][0]["tokens"]] == [False, True, True, True]
    assert "The generator was asked about the first 1 of 4" in (tmp_path / "run" / "explain.html").read_text()
    report["texts"][0]["classification"]["warning"] = "The gap of 7.0% is over 5%"
    assert '<p class="warning" role="note">The gap of 7.0% is over 5%' in render(report)


def test_what_a_classifier_does_not_read_is_shown_apart(tmp_path: Path) -> None:
    text = " ".join(["film"] * 62 + ["plot"] * 600)
    explain.run(explain_config(tmp_path, text=text, classifier=tiny_classifier(tmp_path / "c")))
    (entry,) = json.loads((tmp_path / "run" / "explain.json").read_text())["texts"]
    made = entry["classification"]
    assert (made["tokens_read"], made["tokens_of_text"], len(made["tokens"])) == (62, 662, 62)
    page = (tmp_path / "run" / "explain.html").read_text()
    elements = Elements(page)
    assert elements.cells == ["film"] * 62
    assert re.fullmatch(r"(film ?){62} (plot )*plo?t? … \(2,600 characters\) … \w*( plot)*", elements.shown)
    assert "reads the first 62 of 662 tokens" in page


def test_tokens_cut_otherwise_are_shown_apart(tmp_path: Path) -> None:
    folders = all_folders(tmp_path)
    tiny_tokenizer(["good", *"thefilm"], by_words=False).save_pretrained(folders["generator"])
    explain.run(
        explain_config(
            tmp_path, text="the film", generator=folders["generator"], discriminator=folders["discriminator"]
        )
    )
    (entry,) = json.loads((tmp_path / "run" / "explain.json").read_text())["texts"]
    assert ([t["piece"] for t in entry["tokens"]], len(entry["generator_tokens"])) == (["the", "film"], 8)
    assert (tmp_path / "run" / "explain.html").read_text().count('role="listbox"') == 2


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"text": "a"}, "no network to explain with"),
        ({"text": "a", "discriminator": "absent"}, "explain.discriminator: absent is no Hugging Face folder"),
        ({"text": "a", "generator": "{discriminator}"}, "holds ElectraForPreTraining; wanted is a masked language"),
        ({"text": "a", "classifier": "absent"}, "explain.classifier: absent does not exist"),
        ({"text": "a", "classifier": "{discriminator}"}, "wanted is a sequence classifier"),
        ({"text": "a", "discriminator": "{discriminator}", "output": "a.json"}, "Let it end in .html"),
        ({"text": "a", "discriminator": "{discriminator}", "output": "."}, "is a folder"),
        ({"text": "a", "discriminator": "{discriminator}", "output": "d/config.json/a.html"}, "is a file, not a fold"),
        ({"text": "\u3000", "discriminator": "{discriminator}"}, "no visible character"),
    ],
)
@pytest.mark.parametrize("dry", [True, False])
def test_mistakes_are_one_message(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    keys: dict[str, str],
    message: str,
    dry: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    if "{discriminator}" in keys.values():
        tiny_folder(tmp_path / "d", "electra")
    values = {key: value.replace("{discriminator}", "d") for key, value in keys.items()}
    arguments = ["run_dir=run", *(f"explain.{key}={json.dumps(value)}" for key, value in values.items())]
    assert main("explain", [*arguments, *(["--dry-run"] if dry else [])]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


def test_the_commands_own_fields_are_read(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"body": "the film"}\n')
    config = explain_config(tmp_path, file=tmp_path / "in.jsonl", discriminator=tiny_folder(tmp_path / "d", "electra"))
    with pytest.raises(UserError, match=r"in\.jsonl:1: no 'text' .*Name it by finetune\.fields\.text\."):
        explain.plan(config)
    named = config.finetune.model_copy(update={"fields": FieldsConfig(text="body")})
    assert dict(explain.plan(config.model_copy(update={"finetune": named})))["texts"].startswith("1 (8 characters)")


@pytest.mark.parametrize("network", ["generator", "classifier"])
def test_a_text_without_a_token_is_refused_beforehand(tmp_path: Path, network: str) -> None:
    folder = all_folders(tmp_path)[network]
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("\ufffd", "")
    tokenizer.save_pretrained(folder)
    for ask in (explain.plan, explain.run):
        with pytest.raises(UserError, match=r"^explain\.text: the tokenizer of .* leaves no token of this text\.$"):
            ask(explain_config(tmp_path, text="\ufffd", **{network: folder}))
    assert not (tmp_path / "run").exists()


def test_a_classifier_without_its_weights_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = tiny_classifier(tmp_path / "c")
    tensors = load_file(path / "model.safetensors")
    save_file({k: v for k, v in tensors.items() if "out_proj" not in k}, path / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="lacks 2 tensors"):
        explain.run(explain_config(tmp_path, text="a", classifier=path))
    (path / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(UserError, match="cannot be loaded"):
        explain.run(explain_config(tmp_path, text="a", classifier=path))
    (path / "model.safetensors").unlink()
    with pytest.raises(UserError, match="has no weights"):
        explain.run(explain_config(tmp_path, text="a", classifier=path))


@pytest.mark.parametrize(
    ("network", "tensor", "value"),
    [
        ("discriminator", "discriminator_predictions.dense_prediction.weight", "inf"),
        ("generator", "generator_predictions.dense.bias", "nan"),
        ("classifier", "classifier.out_proj.bias", "nan"),
    ],
)
def test_a_network_whose_numbers_are_not_finite_is_refused(
    tmp_path: Path, network: str, tensor: str, value: str
) -> None:
    """JSON has no NaN, and the sigmoid of an infinity looks like a sure answer."""
    from safetensors.torch import load_file, save_file

    path = all_folders(tmp_path)[network]
    tensors = load_file(path / "model.safetensors")
    tensors[tensor].view(-1)[0] = float(value)
    save_file(tensors, path / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=f"^explain\\.{network}: {path} gives numbers that are not finite"):
        explain.run(explain_config(tmp_path, text="the good film", **{network: path}))
    assert not (tmp_path / "run" / "explain.json").exists()


def test_the_plan_writes_nothing(tmp_path: Path) -> None:
    folders = all_folders(tmp_path)
    rows: dict[str, Any] = dict(explain.plan(explain_config(tmp_path, text="the film", **folders)))
    assert set(rows) == {"texts", "discriminator", "generator", "classifier", "page", "JSON"}
    assert "negative, positive" in rows["classifier"]
    assert not (tmp_path / "run").exists()


def test_an_export_may_be_named_as_a_whole(tmp_path: Path) -> None:
    all_folders(tmp_path / "export")
    whole = {"discriminator": tmp_path / "export", "generator": tmp_path / "export"}
    rows = dict(explain.plan(explain_config(tmp_path, text="the film", **whole)))
    assert (rows["discriminator"].split(" ")[0], rows["generator"].split(" ")[0]) == tuple(
        str(tmp_path / "export" / name) for name in whole
    )
