"""Stage explain: a text or a file, and exported networks, to one page that shows what they make of it, and JSON."""

import json
from pathlib import Path

from pipeline.base.config import RunConfig
from pipeline.base.errors import UserError
from pipeline.base.files import write_atomic
from pipeline.base.log import get_logger, setup_logging
from pipeline.base.run_folder import RunFolder
from pipeline.base.tracking import start_run
from pipeline.explaining.page import render
from pipeline.explaining.report import Inputs, find_inputs, make_report
from pipeline.tasks.job import prepare_device
from pipeline.tasks.origin import run_tags

PAGE = "explain.html"


def run(config: RunConfig) -> None:
    """Writes the page and, beside it, the same as JSON; each replaces its last one whole."""
    page, data = _outputs(config)
    inputs = find_inputs(config)
    device = prepare_device(config)
    folder = RunFolder(Path(config.run_dir))
    setup_logging(folder)
    with start_run(config, "explain", folder, _parents(inputs)) as tracker:
        report = make_report(config, inputs, device)
        write_atomic(data, json.dumps(report, ensure_ascii=False, allow_nan=False) + "\n")
        write_atomic(page, render(report))
        tracker.artifact(data)
        tracker.artifact(page)
    for note in (*report["missing"], *report["notes"]):
        get_logger().info(note)
    get_logger().info(f"written: {page} (open it in a browser) and {data}")


def plan(config: RunConfig) -> list[tuple[str, str]]:
    """Checks texts and folders; what would be shown."""
    page, data = _outputs(config)
    inputs = find_inputs(config)
    characters = sum(len(part) for text in inputs.texts for part in text.parts)
    rows = [("texts", f"{len(inputs.texts):,} ({characters:,} characters), {inputs.left_out:,} more left out")]
    rows += [(kind, folder.describe()) for kind, folder in inputs.folders.items()]
    if inputs.classifier is not None:
        rows.append(("classifier", f"{inputs.classifier.path} ({', '.join(inputs.classifier.labels)})"))
    rows += [("missing", sentence) for sentence in inputs.missing]
    return [*rows, ("page", str(page)), ("JSON", str(data))]


def _outputs(config: RunConfig) -> tuple[Path, Path]:
    """Page and JSON file. Raises UserError where they are one, or a folder is in their place or none above them."""
    page = Path(config.explain.output or RunFolder(Path(config.run_dir)).path / PAGE)
    if page.suffix == ".json":
        raise UserError(f"explain.output {page} is the page; the JSON is written beside it. Let it end in .html.")
    if page.is_dir():
        raise UserError(f"explain.output {page} is a folder. Name a file, such as {page / PAGE}.")
    above = next(parent for parent in page.absolute().parents if parent.exists())
    if not above.is_dir():
        raise UserError(f"explain.output {page}: {above} is a file, not a folder. Name a file in a folder.")
    return page, page.with_suffix(".json")


def _parents(inputs: Inputs) -> dict[str, str]:
    """Digests of what is asked, and the runs that the exports came from."""
    tags = {f"{kind}_sha256": folder.digest() for kind, folder in inputs.folders.items()}
    if inputs.classifier is not None:
        tags["classifier_sha256"] = inputs.classifier.digest()
    for folder in inputs.folders.values():
        tags = run_tags(RunFolder(folder.path.resolve().parent.parent)) | tags
    return tags
