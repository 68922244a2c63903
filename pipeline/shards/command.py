"""The command line of `python -m pipeline.shards`: looks into data sets, changes nothing.

Light on purpose: NumPy and the tokenizers are imported after the arguments are read.
"""

import argparse
import itertools
import json
import logging
import os
import sys
from functools import partial
from typing import Any

from pipeline.base.errors import UserError
from pipeline.base.tool import run_tool

DESCRIPTIONS = {
    "ls": "Splits and shards with their blocks, tokens, documents, bytes and digests.",
    "cat": "Documents as JSON lines, decoded by the run's tokenizer; joined where they go on over blocks and shards.",
    "verify": "Every byte against the manifest's digests, every block against the format; names the first bad shard.",
    "stat": "Tokens, lengths of documents, most frequent pieces, padding, share of unknown pieces.",
}
_PLACE = "a run, its data folder, a manifest.json, a split's folder or a .tar shard: a path, or s3://, gs://, hf://, http(s)://"


def parser() -> argparse.ArgumentParser:
    """The arguments of all four."""
    arguments = argparse.ArgumentParser(
        prog="python -m pipeline.shards",
        description="Looks into tokenised data sets; changes nothing.",
        epilog="docs/data.md has the format. Exit codes: 0 done, 2 something is wrong with the data or the arguments.",
    )
    commands = arguments.add_subparsers(dest="command", required=True, metavar="ls|cat|verify|stat")
    for name, description in DESCRIPTIONS.items():
        one = commands.add_parser(name, description=description, help=description)
        one.add_argument("place", metavar="URL", help=_PLACE)
        if name in ("cat", "stat"):
            one.add_argument("--split", help="only this one")
            one.add_argument("--tokenizer", metavar="PATH", help="by default the one beside the data")
        if name in ("ls", "stat"):
            one.add_argument("--json", action="store_true", help="one JSON object")
        if name in ("verify", "stat"):
            cores = os.cpu_count() or 1
            one.add_argument("--jobs", type=_positive, default=cores, help=f"threads (default: {cores}, one a core)")
    cat, stat = commands.choices["cat"], commands.choices["stat"]
    which = cat.add_mutually_exclusive_group()
    which.add_argument("--block", metavar="N", help="documents with a token in this block: its number or key")
    which.add_argument(
        "--document", type=_natural, metavar="N", help="the document of this number in its split, from 0"
    )
    cat.add_argument("--limit", type=_positive, metavar="N", help="so many documents at most")
    cat.add_argument("--ids", action="store_true", help="numbers in place of text; needs no tokenizer")
    cat.add_argument("--text", action="store_true", help="plain text, an empty line after each document")
    stat.add_argument("--shards", type=_positive, metavar="N", help="read so many of each split, spread evenly")
    return arguments


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is no number from 0")
    return int(text)


def _positive(text: str) -> int:
    if _natural(text) == 0:
        raise argparse.ArgumentTypeError("give 1 or more")
    return int(text)


def main(argv: list[str] | None = None) -> int:
    """Runs a command; returns the exit code. A UserError is one message, and a reader that goes away is none."""
    arguments = parser().parse_args(argv)
    logger = logging.getLogger("pipeline")
    handler = logging.StreamHandler(sys.stderr)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        return run_tool(f"shards {arguments.command}", partial(_run, arguments))
    finally:
        logger.removeHandler(handler)


def _run(arguments: argparse.Namespace) -> int:
    _COMMANDS[arguments.command](arguments)
    return 0


def _ls(arguments: argparse.Namespace) -> None:
    from pipeline.shards.dataset import find_dataset
    from pipeline.shards.figures import listing
    from pipeline.shards.tables import listing_table

    found = listing(find_dataset(arguments.place))
    print(json.dumps(found, indent=2, ensure_ascii=False) if arguments.json else listing_table(found))


def _cat(arguments: argparse.Namespace) -> None:
    from pipeline.shards.dataset import find_dataset
    from pipeline.shards.text import as_json, as_text, chosen, find_codec

    dataset = find_dataset(arguments.place)
    codec = None if arguments.ids else find_codec(dataset, arguments.tokenizer)
    documents = chosen(dataset, arguments.split, arguments.block, arguments.document)
    for document in itertools.islice(documents, arguments.limit):
        print(as_text(document, codec) if arguments.text else as_json(document, codec))


def _verify(arguments: argparse.Namespace) -> None:
    from pipeline.shards.dataset import find_dataset
    from pipeline.shards.verify import verify

    print(verify(find_dataset(arguments.place), arguments.jobs))


def _stat(arguments: argparse.Namespace) -> None:
    from pipeline.shards.dataset import find_dataset
    from pipeline.shards.figures import statistics
    from pipeline.shards.tables import statistics_table
    from pipeline.shards.text import find_codec

    dataset = find_dataset(arguments.place).of(arguments.split)
    pieces = None
    try:
        pieces = find_codec(dataset, arguments.tokenizer).pieces()
    except UserError:
        if arguments.tokenizer is not None:
            raise
    found: dict[str, Any] = statistics(dataset, arguments.shards, arguments.jobs, pieces)
    print(json.dumps(found, indent=2, ensure_ascii=False) if arguments.json else statistics_table(found))


_COMMANDS = {"ls": _ls, "cat": _cat, "verify": _verify, "stat": _stat}
