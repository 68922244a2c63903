"""The part of a model card about fine-tuned tasks."""

from pipeline.release.records import Records


def tasks_section(records: Records) -> str:
    """A table of the tasks fine-tuned from this network."""
    return "Not measured."


def task_failures(records: Records) -> list[str]:
    """Tasks in which the network is no better than the trivial answer."""
    return []
