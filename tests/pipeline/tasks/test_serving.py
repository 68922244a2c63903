"""A fine-tuned classifier behind `mlflow models serve` on loopback, asked in English and in Chinese over HTTP."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas
import pytest
import torch
import transformers
from mlflow.pyfunc.scoring_server import invocations

from pipeline.base.config import load_config
from pipeline.base.journal import Journal
from pipeline.base.run_folder import RunFolder
from pipeline.base.task_sections import FinetuneConfig
from pipeline.base.tracking import read_run_id
from pipeline.base.tracking_model import save_mlflow_model
from pipeline.stages import finetune
from pipeline.tasks.serving import keep_model, requirements
from tests.pipeline.tasks.tiny_folders import SPECIAL, tiny_tokenizer
from tests.ports import free_port

LETTERS = list("abdfgimopt 好坏片很电影的我看过")
TELLING = {"negative": ("bad", "坏"), "positive": ("good", "好")}
STARTS_SECONDS = 90.0


def tiny_export(path: Path) -> None:
    """A ModernBERT that reads by characters, of both languages."""
    sizes = {"vocab_size": len(SPECIAL) + len(LETTERS), "hidden_size": 32, "intermediate_size": 64}
    places = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": None, "cls_token_id": 2, "sep_token_id": 3}
    config = transformers.ModernBertConfig(
        **sizes, **places, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=64, initializer_range=0.1
    )
    torch.manual_seed(0)
    transformers.ModernBertForTokenClassification(config).save_pretrained(path)
    tiny_tokenizer(LETTERS, by_words=False).save_pretrained(path)


def write_data(folder: Path) -> None:
    draw = random.Random(0)
    for split, size in {"train": 320, "dev": 64}.items():
        with open(folder / f"{split}.jsonl", "w", encoding="utf-8") as file:
            for _ in range(size):
                label = draw.choice(list(TELLING))
                english, chinese = TELLING[label]
                noise = "".join(draw.choice("我看过电影的") for _ in range(5))
                text = f"a {english} film" if draw.random() < 0.5 else f"{noise}很{chinese}"
                file.write(json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n")


@contextmanager
def server(uri: str, store: str, log: Path) -> Iterator[int]:
    """`mlflow models serve` in a session of its own, on a free port of loopback; ended by its process id."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"]
    command += ["-m", uri, "-h", "127.0.0.1", "-p", str(port)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # as an activated environment has it
    with open(log, "wb") as file:
        process = subprocess.Popen(
            command,
            stdout=file,
            stderr=file,
            start_new_session=True,
            env=os.environ | {"MLFLOW_TRACKING_URI": store, "PATH": path},
        )
        try:
            yield port
            assert process.poll() is None
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(20)
    until = time.monotonic() + 20
    while not gone(process.pid):
        assert time.monotonic() < until, "a process of the server is left"
        time.sleep(0.2)


def ask(port: int, texts: list[str], log: Path) -> Any:
    """Posts texts as soon as the server answers."""
    body = json.dumps({"inputs": texts}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"})
    until = time.monotonic() + STARTS_SECONDS
    while True:
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)["predictions"]
        except urllib.error.HTTPError as error:
            pytest.fail(f"{error}: {error.read().decode()}\n{log.read_text()}")
        except (ConnectionError, urllib.error.URLError):
            assert time.monotonic() < until, log.read_text()
            time.sleep(1)


def gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.slow
def test_a_classifier_is_served_in_two_languages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As docs/serving.md tells: fine-tune, take the run's id, serve, ask."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    tiny_export(tmp_path / "export")
    write_data(tmp_path)
    settings = {"run_dir": "run", "tracking.uri": "sqlite:///mlflow.db", "train.threads": 1}
    settings |= {f"finetune.{split}": f"{split}.jsonl" for split in ("train", "dev")}
    settings |= {"finetune.name": "mood", "finetune.export": "export", "finetune.lr": 5e-3, "finetune.max_length": 32}
    settings |= {"finetune.epochs": 8}
    finetune.run(load_config(None, [f"{key}={value}" for key, value in settings.items()]))
    texts = ["a good film", "a bad film", "我看过的电影很好", "电影很坏"]
    classify = transformers.pipeline("text-classification", str(tmp_path / "run" / "finetune" / "mood" / "model"))
    expected = classify(texts)
    assert [row["label"] for row in expected] == ["positive", "negative"] * 2
    run_id, log = read_run_id(RunFolder(tmp_path / "run"), "finetune-mood"), tmp_path / "server.log"
    with server(f"runs:/{run_id}/model", f"sqlite:///{tmp_path}/mlflow.db", log) as port:
        answers = ask(port, texts, log)
        long = ask(port, ["a good film " * 500], log)
    assert [row["label"] for row in answers] == [row["label"] for row in expected]
    assert [row["score"] for row in answers] == pytest.approx([row["score"] for row in expected], abs=1e-5)
    assert long[0]["label"] == "positive"


def saved(tmp_path: Path, model: Any, task: str, pairs: bool = False) -> Any:
    """The MLflow model of a random network, loaded as a server loads it."""
    model.save_pretrained(tmp_path / "model")
    tiny_tokenizer(LETTERS, by_words=False).save_pretrained(tmp_path / "model")
    entry = {"path": str(tmp_path / "model"), "task": task, "requirements": requirements(), "pairs": pairs}
    save_mlflow_model(entry, tmp_path / "kept")
    return mlflow.pyfunc.load_model(str(tmp_path / "kept"))


def tiny_network(kind: str, labels: list[str]) -> Any:
    sizes = {"vocab_size": len(SPECIAL) + len(LETTERS), "hidden_size": 16, "intermediate_size": 16}
    config = transformers.BertConfig(**sizes, num_hidden_layers=1, num_attention_heads=1)
    config.id2label, config.label2id = dict(enumerate(labels)), {label: place for place, label in enumerate(labels)}
    return getattr(transformers, kind)(config)


def test_a_tagger_answers_also_where_it_finds_nothing(tmp_path: Path) -> None:
    """One tag a piece, which is less than a word here; MLflow itself stumbles over a text without entities."""
    network = tiny_network("BertForTokenClassification", ["O", "B-X"])
    network.classifier.bias.data[0] = 100.0
    served = saved(tmp_path, network, "token-classification")
    assert served.predict(pandas.DataFrame({"text": ["我看", "a", "a film"]})) == ["O,O", "O", "O,O,O,O,O,O"]


@pytest.mark.parametrize("text", ["5", "['a', 'b']", "a good film " * 500, "'", "{"])
def test_a_text_is_text_whatever_it_looks_like(tmp_path: Path, text: str) -> None:
    """Without a named column MLflow would read it as a Python literal."""
    served = saved(tmp_path, tiny_network("BertForSequenceClassification", ["no", "yes"]), "text-classification")
    pipe = transformers.pipeline("text-classification", str(tmp_path / "model"), truncation=True)
    for body in ({"inputs": [text]}, {"inputs": {"text": [text]}}, {"dataframe_records": [{"text": text}]}):
        answer = invocations(json.dumps(body), "application/json", served, served.metadata.get_input_schema())
        (found,) = json.loads(answer.response)["predictions"]
        assert (found["label"], found["score"]) == (pipe(text)[0]["label"], pytest.approx(pipe(text)[0]["score"]))


def test_pairs_are_two_columns(tmp_path: Path) -> None:
    served = saved(tmp_path, tiny_network("BertForSequenceClassification", ["no", "yes"]), "text-classification", True)
    asked = pandas.DataFrame({"text": ["a film", "a film"], "text_pair": ["a film", "好"]})
    answers = served.predict(asked)
    pipe = transformers.pipeline("text-classification", str(tmp_path / "model"))
    expected = [pipe(row) for row in asked.to_dict("records")]
    assert list(answers["score"]) == pytest.approx([row["score"] for row in expected], abs=1e-6)
    assert answers["score"][0] != answers["score"][1]
    body = json.dumps({"dataframe_records": asked.to_dict("records")})
    answer = invocations(body, "application/json", served, served.metadata.get_input_schema())
    assert json.loads(answer.response)["predictions"] == answers.to_dict("records")


def test_only_what_is_wanted_and_can_be_served_is_kept(tmp_path: Path) -> None:
    class Fake:
        pipeline_name, examples = "text-classification", {"dev": [object()]}
        settings = FinetuneConfig()

    for name, wanted, lines in (("text-classification", True, 1), ("text-classification", False, 0), (None, True, 0)):
        Fake.pipeline_name, Fake.settings = name, FinetuneConfig(log_model=wanted)  # type: ignore[assignment]
        journal = Journal(tmp_path / f"{name}-{wanted}.jsonl")
        keep_model(journal, tmp_path, Fake())  # type: ignore[arg-type]
        journal.close()
        assert (tmp_path / f"{name}-{wanted}.jsonl").read_text().count('"model"') == lines
