"""Filters of documents: one class a filter, one line a key; a filter is off unless it is named."""

from pipeline.base.section import Section


class CleanConfig(Section):
    """What is mended in a document, and which documents are dropped; in this order."""
