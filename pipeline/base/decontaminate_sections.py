"""Evaluation files whose texts must not be trained on."""

from pipeline.base.section import Section


class DecontaminateConfig(Section):
    """Documents that share long sequences with given evaluation files."""
