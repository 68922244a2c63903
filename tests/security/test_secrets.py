"""Passwords and tokens: used where they are needed, and in nothing that is written down or shown."""

from pathlib import Path

import pytest

from pipeline.base.config import dump_config, load_config
from pipeline.base.errors import UserError
from pipeline.base.stores import faults
from pipeline.base.stores.faults import hide, refuse_secrets, shown


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "_HIDDEN", set())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("https://me:pw-of-mine@host:5000/x", "https://***@host:5000/x"),
        ("https://me:p@w@host/x", "https://***@host/x"),
        ("https://token-of-mine@host", "https://***@host"),
        ("postgresql://me:pw@host/db?password=pw&x=1", "postgresql://***@host/db?***"),
        ("see https://host/x?X-Amz-Signature=abc and https://host", "see https://host/x?*** and https://host"),
        ("mail me@host, s3://bucket/a@b", "mail me@host, s3://bucket/a@b"),
        ("http://host/?x=a@b", "http://host/?x=a@b"),
    ],
)
def test_urls_are_shown_without_secrets(text: str, told: str) -> None:
    assert shown(text) == told


def test_a_hidden_password_is_shown_nowhere() -> None:
    hide("mysql://me:p%40ssword@host/db")
    assert shown("access denied for me with p@ssword (p%40ssword)") == "access denied for me with *** (***)"
    hide("sqlite:///mlflow.db")
    hide("http://***@host")
    assert shown("***: mlflow.db") == "***: mlflow.db"


@pytest.mark.parametrize("name", faults._SECRETS)
def test_keys_of_the_environment_are_shown_nowhere(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "a-key-of-length")
    assert shown("refused: a-key-of-length") == "refused: ***"


def test_a_config_is_written_without_the_password_of_its_server(tmp_path: Path) -> None:
    config = load_config(None, ["tracking.uri=https://me:hunter2-x@host:5000"])
    assert config.tracking.uri == "https://me:hunter2-x@host:5000"
    assert config.written()["tracking"]["uri"] == "https://***@host:5000"
    (path := tmp_path / "config.yaml").write_text(dump_config(config))
    assert "hunter2" not in path.read_text()
    assert load_config(path).tracking.uri == "https://***@host:5000"


@pytest.mark.parametrize(
    "setting", ["tracking.uri=ftp://me:hunter2-x@host", "https://me:hunter2-x@host", "seed=[https://me:hunter2-x@host"]
)
def test_mistakes_are_told_without_passwords(setting: str) -> None:
    with pytest.raises(UserError) as error:
        load_config(None, [setting])
    assert "hunter2" not in str(error.value)
    with pytest.raises(UserError, match="holds a user, a password"):
        refuse_secrets("s3://me:hunter2-x@bucket")
