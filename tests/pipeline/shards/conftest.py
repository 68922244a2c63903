"""The fixtures of tests of `python -m pipeline.shards`."""

from tests.pipeline.shards.running import made, run

__all__ = ["made", "run"]
