"""Keys that are equal: of each only the first in input order goes on, in a shuffle by ranges of keys.

A unit keeps its own repeats to itself and hands each key once to the key's bucket. So a key that all of a corpus shares
is there once a unit, not once a document, and nothing is quadratic in the size of a group.
"""

from typing import Any, NamedTuple

import numpy as np

from pipeline.duplicates.tables import Rows


class Groups(NamedTuple):
    """Rows in the order of their keys, then as they were; and of each in turn the place of its group's first."""

    order: Any
    """(rows,): the row at each sorted place."""
    first: Any
    """(rows,): the row that is the first with the same key, at each sorted place."""

    @property
    def repeats(self) -> tuple[Any, Any]:
        """Rows that are not the first with their key, and those firsts."""
        later = self.order != self.first
        return self.order[later], self.first[later]

    @property
    def firsts(self) -> Any:
        """One row a key, the first one."""
        return self.order[self.order == self.first]


def group_equal(*columns: Any) -> Groups:
    """Groups of rows that are equal in all columns; a group's first is the one that stands first."""
    order = np.lexsort(columns[::-1])
    begins = np.ones(len(order), bool)
    for number, column in enumerate(columns):
        ordered = column[order]
        if number == 0:
            begins[1:] = False
        begins[1:] |= ordered[1:] != ordered[:-1]
    places = np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))
    return Groups(order, order[places])


def sums(groups: Groups, values: Rows) -> Any:
    """Sum of `values` over each group, one for each of groups.firsts."""
    begins = np.flatnonzero(groups.order == groups.first)
    return np.add.reduceat(values[groups.order], begins) if len(begins) else np.zeros(0, np.int64)
