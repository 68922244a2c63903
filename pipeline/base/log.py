"""Plain log lines: to the console from rank 0, to run_dir/log/rank-N.log from every rank."""

import logging
import sys

from pipeline.base.files import told_plainly
from pipeline.base.run_folder import RunFolder
from pipeline.base.stores.faults import shown

_FORMAT = "%(asctime)s %(levelname)s %(message)s"


def get_logger() -> logging.Logger:
    """The one logger of the pipeline."""
    return logging.getLogger("pipeline")


def setup_logging(folder: RunFolder | None, rank: int = 0) -> None:
    """Sends the pipeline's lines to the console (rank 0) and, with a folder, to its log file. Safe to call again."""
    logger = get_logger()
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logging.raiseExceptions = False  # a full disk is told once, by what the stage itself writes
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    if rank == 0:
        console = logging.StreamHandler(sys.stdout)
        console.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(console)
    if folder is not None:
        with told_plainly(folder.log):
            folder.log.mkdir(parents=True, exist_ok=True)
            file = logging.FileHandler(folder.log / f"rank-{rank}.log")
        file.setFormatter(logging.Formatter(_FORMAT))
        logger.addHandler(file)
    for handler in logger.handlers:
        handler.addFilter(_without_secrets)
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())


def _without_secrets(record: logging.LogRecord) -> bool:
    """Passwords in URLs and keys of the environment do not get into a log, whoever writes the line."""
    record.msg, record.args = shown(record.getMessage()), None
    return True
