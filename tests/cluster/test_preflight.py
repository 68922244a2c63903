"""The rounds of the preflight on fake hosts (no ssh): what each failure leads to, and how it is told."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster import preflight, probe
from cluster.checks import PACKAGES
from cluster.environment import REPOSITORY
from cluster.hostfile import Host
from cluster.preflight import Preflight, Settings
from cluster.remote import HostError
from pipeline.base.errors import UserError

HOSTS = [Host("alpha", 1, "hosts:1"), Host("beta", 2, "hosts:2")]
Change = Callable[[str, str, dict[str, Any]], dict[str, Any]]


class FakeSession:
    """This machine under another name: the probe's own functions, their answers changed by the test."""

    def __init__(self, host: Host, facts: dict[str, Any], change: Change) -> None:
        self.host = host
        self.facts = facts
        self.change = change

    def ask(self, question: str, timeout: float, **values: Any) -> dict[str, Any]:
        if question == "facts":
            answer = self.facts
        elif question == "route":
            answer = {"interface": "eth0", "address": "127.0.0.1"}
        else:
            answer = probe.QUESTIONS[question](**values)
        answer = json.loads(json.dumps(answer))
        if question == "route":
            answer["address"] = "10.0.0.1"
        return self.change(self.host.name, question, answer)


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    return probe.facts(str(REPOSITORY), list(PACKAGES), "/")


@pytest.fixture
def look(facts: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs all rounds with the change; returns the problems' text, empty when all is well."""
    monkeypatch.setattr(probe, "facts", lambda *given: facts)
    monkeypatch.setattr(probe, "WAIT", 0.2)
    monkeypatch.setattr(probe, "connect", lambda peers: {"failed": []})
    monkeypatch.setitem(probe.QUESTIONS, "connect", probe.connect)

    def run(change: Change = lambda name, question, answer: answer, **settings: Any) -> str:
        given = {"run_dir": str(tmp_path / "runs" / "a"), "data": "/nowhere", "config": None, "port": 0}
        given |= {"master_addr": None, "timeout": 5.0, "free_gb": 0.0, **settings}
        checked = Preflight(HOSTS, [FakeSession(host, facts, change) for host in HOSTS], Settings(**given))
        checked.run()
        assert list(tmp_path.iterdir()) == [], "the marker and the folder made for it are taken away again"
        try:
            preflight.report(HOSTS, checked.findings, checked.own)
        except UserError as error:
            return str(error)
        return ""

    return run


def test_all_well(look: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    assert look() == ""
    printed = capsys.readouterr().out
    assert "2 hosts, 3 ranks" in printed
    assert "FAIL" not in printed
    assert [line.split()[0] for line in printed.splitlines()[:3]] == ["host", "alpha", "beta"]


def test_a_silent_host_fails_alone(look: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    def silent(name: str, question: str, answer: dict[str, Any]) -> dict[str, Any]:
        if name == "beta":
            raise HostError("ssh", "No route to host", "Mend it.")
        return answer

    assert look(silent) == ("1 problem; nothing was started.\n  beta (hosts:2): ssh: No route to host\n    Mend it.")
    alpha, beta = capsys.readouterr().out.splitlines()[1:3]
    assert "FAIL" not in alpha
    assert beta.split() == ["beta", "FAIL", *["-"] * 10]


def test_a_silent_first_host_leaves_the_master_unchecked(look: Callable[..., str]) -> None:
    def silent(name: str, question: str, answer: dict[str, Any]) -> dict[str, Any]:
        if name == "alpha":
            raise HostError("ssh", "timed out", "Mend it.")
        return answer

    assert look(silent).count("\n") == 2


def test_a_host_lost_on_the_way(look: Callable[..., str]) -> None:
    def lost(name: str, question: str, answer: dict[str, Any]) -> dict[str, Any]:
        if name == "beta" and question == "listen":
            raise HostError("ssh", "no answer within 5 s", "Look.")
        return answer

    assert "beta (hosts:2): ssh: no answer" in look(lost)


def test_a_folder_that_is_not_shared(look: Callable[..., str]) -> None:
    def unseen(name: str, question: str, answer: dict[str, Any]) -> dict[str, Any]:
        return {"error": "the folder does not exist there"} if (name, question) == ("beta", "mark") else answer

    assert "beta (hosts:2): run_dir" in look(unseen)


def test_beside_a_store_nothing_need_be_shared(look: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    def unseen(name: str, question: str, answer: dict[str, Any]) -> dict[str, Any]:
        return {"error": "the folder does not exist there"} if (name, question) == ("beta", "mark") else answer

    assert look(unseen, store=True, data="s3://bucket/run/data") == ""
    assert "a store's" in capsys.readouterr().out


def test_a_run_dir_that_cannot_be_made(look: Callable[..., str]) -> None:
    assert "this machine: run_dir /proc/none/here: it cannot be made" in look(run_dir="/proc/none/here")


def test_many_problems_each_with_its_remedy(look: Callable[..., str]) -> None:
    def worse(name: str, question: str, answer: dict[str, Any]) -> dict[str, Any]:
        if name == "beta" and question == "facts":
            answer["packages"]["torch"] = "1.0"
        if name == "beta" and question == "clock":
            answer["time"] += 100
        return answer

    told = look(worse, free_gb=10.0**6)
    assert told.startswith("4 problems")
    assert "torch 1.0" in told
    assert "+100 s" in told
    assert told.count("GB free") == 2


def test_a_taken_port(look: Callable[..., str]) -> None:
    taken = probe.listen(0)["port"]
    assert f"port {taken} cannot be opened there: Address already in use" in look(port=taken)


def test_the_command_on_a_bad_hostfile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "hosts").write_text("alpha slots=1\nbeta slots=none\n")
    assert preflight.main([str(tmp_path / "hosts"), "run_dir=/nowhere/at/all"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"preflight: {tmp_path}/hosts:2: cannot read 'beta slots=none'")
    assert said.err.count("\n") == 1


def test_probe_routes_and_markers(tmp_path: Path) -> None:
    assert probe.route("127.0.0.1") == {"interface": "lo", "address": "127.0.0.1"}
    assert "error" in probe.route("no.such.host.invalid")
    port = probe.listen(0)["port"]
    assert probe.connect([["127.0.0.1", port]]) == {"failed": []}
    ((host, _, reason),) = probe.connect([["127.0.0.1", 1]])["failed"]
    assert (host, reason) == ("127.0.0.1", os.strerror(111))
    assert "error" in probe.mark(str(tmp_path / "absent"), "x")
    assert probe.mark(str(tmp_path), "x") == {}
    assert probe.seen(str(tmp_path), ["x"]) == {"missing": []}
    probe.unmark(str(tmp_path), "x")
    assert list(tmp_path.iterdir()) == []
