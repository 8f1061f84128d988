"""The data of one picture: what is drawn, and what its CSV file says, are one value."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

Cell = str | int | float | bool | None


@dataclass(frozen=True, kw_only=True)
class PlotTable:
    """Columns by name, rows in their order; None is an empty cell."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def texts(self, column: str) -> list[str]:
        """A column of names."""
        at = self.columns.index(column)
        return [str(row[at]) for row in self.rows]

    def numbers(self, column: str) -> list[float]:
        """A column of numbers.

        Raises:
            TypeError: where a cell is none.

        """
        at = self.columns.index(column)
        return [_number(row[at]) for row in self.rows]

    def errors(self, column: str) -> list[float]:
        """A column of standard errors, 0 where none is known."""
        at = self.columns.index(column)
        return [0.0 if row[at] is None else _number(row[at]) for row in self.rows]

    def flags(self, column: str) -> list[bool]:
        """A column of yes and no."""
        at = self.columns.index(column)
        return [row[at] is True for row in self.rows]

    def where(self, column: str, value: Cell) -> PlotTable:
        """The rows that have a value in a column."""
        at = self.columns.index(column)
        rows = tuple(row for row in self.rows if row[at] == value)
        return PlotTable(columns=self.columns, rows=rows)

    def csv(self) -> str:
        """The table as a CSV file of the usual form; numbers with all their digits."""
        written = io.StringIO()
        writer = csv.writer(written, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([_written(cell) for cell in row] for row in self.rows)
        return written.getvalue()


def _number(cell: Cell) -> float:
    if isinstance(cell, (int, float)) and not isinstance(cell, bool):
        return float(cell)
    message = f"{cell!r} is no number"
    raise TypeError(message)


def _written(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    text = str(cell)
    # A spreadsheet would run a name that begins like a formula.
    return f"'{text}" if isinstance(cell, str) and text[:1] in ("=", "+", "-", "@") else text
