"""A stage that begins anew in its run's folder, at step 0: its MLflow run stays as it is, and it gets a new one.

Else the first point of each step would stay, and the new training's points be left out. The journal is kept as that of
the stage STAGE.1, .2 and so on, with what tracking.json knows of it, so that what waits in it is still sent.
"""

import os
from itertools import count, takewhile
from pathlib import Path

from pipeline.base.config import RunConfig
from pipeline.base.files import told_plainly
from pipeline.base.journal import Journal, read_journal
from pipeline.base.run_folder import RunFolder
from pipeline.base.tracking_sender import Sender, as_remembered, journal_path, read_state, rename_stage

EARLIER = "earlier_run_id"
"""The tag of a run that was begun anew."""


def set_aside(folder: RunFolder, stage: str) -> str | None:
    """Keeps the stage's journal and run under another name, where it has points; that run's id, if it has one."""
    journal = journal_path(folder, stage)
    if not journal.is_file() or not any(
        entry["kind"] == "metrics" and entry["step"] for entry in read_journal(journal)
    ):
        return None
    tell_killed(journal)
    name = f"{stage}.{len(_earlier(folder, stage)) + 1}"
    rename_stage(folder, stage, name)  # first: after a kill in between the journal is still to be moved, to this name
    place = journal_path(folder, name)
    with told_plainly(place):
        os.replace(journal, place)
    run_id = read_state(folder).get(name, {}).get("run_id")
    return run_id if isinstance(run_id, str) else None


def earlier_senders(config: RunConfig, folder: RunFolder, stage: str) -> list[Sender]:
    """For what was set aside and not wholly sent; each goes where its run is."""
    state = read_state(folder)
    senders = [
        Sender(as_remembered(config, state.get(name, {})), name, folder, journal_path(folder, name))
        for name in _earlier(folder, stage)
    ]
    return [sender for sender in senders if not sender.all_sent()]


def tell_killed(journal: Path) -> bool:
    """Adds the word of a stage that was killed without one; whether it was."""
    statuses = [entry["status"] for entry in read_journal(journal) if entry["kind"] == "status"]
    if not statuses or statuses[-1] != "RUNNING":
        return False
    told = Journal(journal)
    told.status("KILLED")
    told.close()
    return True


def _earlier(folder: RunFolder, stage: str) -> list[str]:
    names = (f"{stage}.{number}" for number in count(1))
    return list(takewhile(lambda name: journal_path(folder, name).exists(), names))
