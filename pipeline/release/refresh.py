"""Puts what was measured since the export into its model cards; everything else in the folder stays as it is."""

from pathlib import Path

from pipeline.base.errors import UserError
from pipeline.base.files import read_json, sha256_file, write_atomic, write_json
from pipeline.base.run_folder import RunFolder
from pipeline.release.measured import BEGIN, END, measured
from pipeline.release.records import gather_records

MARK = "export.json"
CARD = "README.md"


def refresh_cards(folder: RunFolder, export: Path | None = None) -> list[Path]:
    """Rewrites the measured part of each card of run_dir/export; the cards that changed. Leaves others' folders alone.

    A folder is ours where export.json names it and its card has the two marks around the measured part. export: the
    folder, where it is not in its place yet. The cards' digests in export.json are made anew.
    """
    export = export or folder.export
    try:
        mark = read_json(export / MARK)
        names = sorted({str(file).split("/")[0] for file in mark["files"]})
    except (UserError, KeyError, TypeError):
        return []
    changed = []
    for name in names:
        card = export / name / CARD
        if not card.is_file() or not (card.parent / "model.safetensors").is_file():
            continue
        text = card.read_text(encoding="utf-8")
        head, begin, rest = text.partition(BEGIN)
        _, end, tail = rest.partition(END)
        if not begin or not end:
            continue
        now = head + measured(gather_records(folder, card.parent, name, mark)) + tail
        if now != text:
            write_atomic(card, now)
            changed.append(card)
            mark["files"][f"{name}/{CARD}"] = sha256_file(card)
    if changed:
        write_json(export / MARK, mark)
    return changed
