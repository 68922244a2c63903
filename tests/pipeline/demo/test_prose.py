"""Prose out of documentation strings: each rule of pipeline/demo/prose.py on a string that needs it."""

import inspect

import pytest

from pipeline.demo.prose import is_prose, paragraphs, strip_markup


def of(text: str) -> list[str]:
    return paragraphs(inspect.cleandoc(text))


def test_lines_of_a_paragraph_are_joined_and_paragraphs_kept_apart() -> None:
    assert of("""Return the sum of all elements
        of the array.

        The sum is taken over the last axis by default.""") == [
        "Return the sum of all elements of the array.",
        "The sum is taken over the last axis by default.",
    ]


def test_doctests_fences_directives_tables_and_headings_are_dropped() -> None:
    assert of("""
        Return the sum of all elements of the array.

        Examples of the use
        -------------------
        >>> total = sum_of([1, 2])
        and this is the output of it

        ```python
        this is the code in a fence
        ```

        .. note::
            this is the text under a directive

        ====== ======
        name   the meaning of it
        ====== ======
        | this is | a row of the table |

        After all of that the text goes on.
        """) == [
        "Return the sum of all elements of the array.",
        "After all of that the text goes on.",
    ]


def test_headers_of_parameters_and_bullets_are_taken_off() -> None:
    assert of("""
        Args:
            axis (`int`, *optional*): The axis along which the sum
                is taken by the function.
            keep: Whether to keep the axis in the result.
        :param dtype: The type of the result of the sum.

        - The first of the points is made here
          and it goes on in the next line.
        - The second of the points is made here.
        """) == [
        "The axis along which the sum is taken by the function.",
        "Whether to keep the axis in the result.",
        "The type of the result of the sum.",
        "The first of the points is made here and it goes on in the next line.",
        "The second of the points is made here.",
    ]


@pytest.mark.parametrize(
    ("marked", "plain"),
    [
        ("see :class:`~pkg.Thing` and :py:meth:`run`", "see pkg.Thing and run"),
        ("the `value` of ``x`` in *this* **case**", "the value of x in this case"),
        ("read [the guide](https://example.org/a) first", "read the guide first"),
        ("2 * 3 and *args stay", "2 * 3 and *args stay"),
    ],
)
def test_markup_is_taken_off(marked: str, plain: str) -> None:
    assert strip_markup(marked) == plain


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("The axis along which the sum is taken.", True),
        ("too short to keep", False),
        ("numpy.float64 x[0] y=3 foo_bar self.baz the of", False),
        ("alpha beta gamma delta epsilon zeta", False),
    ],
)
def test_what_counts_as_prose(text: str, kept: bool) -> None:
    assert is_prose(text) is kept
