"""Workbooks and tables of separated values: each row with the names of its columns."""

from collections.abc import Iterable, Iterator, Sequence

# A row is found by what is in it; without the names of its columns it does not say what its values mean.
SEPARATOR = "; "


def rows_to_texts(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A line for each row: "Part: Quillstone; Price: 12". The names are those of the first row, if it has only words.

    Rows before the names, such as a title in one cell, stay as they are.
    """
    names: Sequence[str] = ()
    for row in rows:
        filled = [value for value in row if value]
        if not filled:
            # A blank row ends a table; the next one has names of its own.
            names = ()
        elif not names and _are_names(row):
            names = row
            yield "\t".join(filled) + "\n"
        else:
            yield SEPARATOR.join(_named(names, row)) + "\n"


def _are_names(row: Sequence[str]) -> bool:
    filled = [value for value in row if value]
    return len(filled) > 1 and all(any(map(str.isalpha, value)) for value in filled)


def _named(names: Sequence[str], row: Sequence[str]) -> Iterator[str]:
    for index, value in enumerate(row):
        if value:
            name = names[index] if index < len(names) else ""
            yield f"{name}: {value}" if name else value
