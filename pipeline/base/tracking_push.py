"""Sends the journals of a run's folder that no process of the run sends any more, parents before what is nested."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.base.config import load_config
from pipeline.base.errors import UserError
from pipeline.base.files import lock_folder
from pipeline.base.run_folder import RunFolder
from pipeline.base.tracking import import_mlflow
from pipeline.base.tracking_anew import tell_killed
from pipeline.base.tracking_sender import Sender, as_remembered, journal_path, read_state


def push(run_dir: Path, settings: Sequence[str]) -> Iterator[str]:
    """Sends all that waits; a line for each stage. UserError: no journal, a live run, no answer."""
    folder = RunFolder(run_dir)
    stages = _stages(folder)
    if not stages:
        raise UserError(f"{run_dir} holds no journal (log/tracking-STAGE.jsonl). Name a run's folder.")
    config = load_config(folder.config if folder.config.is_file() else None, settings)
    given = {key.partition("=")[0].strip() for key in settings}
    with lock_folder(folder.path):
        import_mlflow()
        senders: dict[str, Sender] = {}
        for stage in _parents_first(stages):
            state = stages[stage]
            above = senders.get(str(state.get("parent")))
            sender = Sender(as_remembered(config, state, given), stage, folder, journal_path(folder, stage), above)
            senders[stage] = sender
            yield _send(sender)


def _send(sender: Sender) -> str:
    """Sends a journal, and the word of a stage that was killed without one; what to say of it."""
    killed = tell_killed(sender.journal)
    if sender.all_sent():
        return f"{sender.stage}: all is sent, in run {sender.run_id}"
    waiting = sender.journal.stat().st_size - sender.sent
    if not sender.send():
        raise UserError(f"{sender.failure}. {waiting:,} bytes of {sender.journal} wait: start the same command again.")
    marked = ", which was killed and is marked so" if killed else ""
    return f"{sender.stage}: {waiting:,} bytes of points sent to run {sender.run_id}{marked}"


def _stages(folder: RunFolder) -> dict[str, dict[str, Any]]:
    """What tracking.json remembers of each stage that has a journal."""
    state = read_state(folder)
    names = [path.stem.removeprefix("tracking-") for path in sorted(folder.log.glob("tracking-*.jsonl"))]
    by_file = {journal_path(folder, stage).stem.removeprefix("tracking-"): stage for stage in state}
    found = [by_file.get(name, name.replace("+", "/")) for name in names]
    return {stage: state.get(stage, {}) for stage in found}


def _parents_first(stages: dict[str, dict[str, Any]]) -> list[str]:
    """The stages, each after the one that it is nested under."""

    def depth(stage: str) -> int:
        above, steps = stages[stage].get("parent"), 0
        while isinstance(above, str) and above in stages and steps < len(stages):
            above, steps = stages[above].get("parent"), steps + 1
        return steps

    return sorted(stages, key=lambda stage: (depth(stage), stage))
