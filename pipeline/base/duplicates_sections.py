"""Which repeated documents and paragraphs are dropped."""

from pipeline.base.section import Section


class DeduplicateConfig(Section):
    """Exact and near duplicates."""
