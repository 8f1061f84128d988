"""The allocation of one file as a heat map: layer by role of the tensor, coloured by bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llamacpp_pipeline.report.plots.table import Cell, PlotTable
from llamacpp_pipeline.report.plots.theme import Theme, shades
from llamacpp_pipeline.results.table import VariantRow

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OUTSIDE = -1  # the column of tensors outside the blocks
MOST_WRITTEN = 16  # layers: with more, the squares are too small for words
INCHES_PER_ROLE = 0.27
TYPES_IN_A_LINE = 4
COLUMNS = ("tensor", "layer", "role", "type", "bpw", "status")


def allocation_table(row: VariantRow) -> PlotTable | None:
    """Every tensor whose type was chosen or pinned, in the file's order."""
    if row.allocation is None:
        return None
    rows: list[tuple[Cell, ...]] = [
        (one.name, one.layer, one.role, one.type, one.bpw, one.status)
        for one in row.allocation.tensors
    ]
    return PlotTable(columns=COLUMNS, rows=tuple(rows)) if rows else None


def roles(table: PlotTable) -> list[str]:
    """The rows of the map, those outside the blocks first."""
    at = table.columns.index("layer")
    outside = [row for row in table.rows if row[at] is None]
    inside = [row for row in table.rows if row[at] is not None]
    return list(dict.fromkeys(str(row[table.columns.index("role")]) for row in outside + inside))


def height(table: PlotTable) -> float:
    """Inches that the map needs."""
    return 1.6 + INCHES_PER_ROLE * (len(roles(table)) + len(types(table)) // TYPES_IN_A_LINE)


def draw_allocation(figure: Figure, table: PlotTable, theme: Theme) -> None:
    """A square for each tensor: the type's colour, and its name where there is room."""
    from matplotlib.patches import Patch, Rectangle  # noqa: PLC0415  optional
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    axes = figure.subplots()
    names, kinds = roles(table), types(table)
    colours = dict(zip(kinds, shades(len(kinds), theme), strict=True))
    layers = [OUTSIDE if row[1] is None else int(str(row[1])) for row in table.rows]
    for layer, role, kind in zip(layers, table.texts("role"), table.texts("type"), strict=True):
        corner = (layer - 0.46, names.index(role) - 0.46)
        axes.add_patch(Rectangle(corner, 0.92, 0.92, color=colours[kind], lw=0))
        if max(layers) < MOST_WRITTEN:
            ink = contrast(colours[kind])
            axes.text(layer, names.index(role), kind, ha="center", va="center", size=7, color=ink)
    axes.set_xlim(min(layers) - 0.6, max(layers) + 0.6)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks(range(len(names)), names)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter(lambda at, _: "none" if at == OUTSIDE else f"{at:g}")
    axes.grid(visible=False)
    axes.set_xlabel("layer")
    figure.legend(
        handles=[
            Patch(color=colours[kind], label=f"{kind} ({bits:.4g})") for kind, bits in kinds.items()
        ],
        loc="outside upper center",
        ncols=TYPES_IN_A_LINE,
        title="type (bits per weight)",
    )


def types(table: PlotTable) -> dict[str, float]:
    """Ggml type to its bits per weight, the fewest bits first."""
    pairs = sorted(zip(table.numbers("bpw"), table.texts("type"), strict=True))
    return {kind: bits for bits, kind in pairs}


def contrast(colour: tuple[float, ...]) -> str:
    """Black or white, whichever is read better on a colour (its luma, ITU-R BT.601)."""
    red, green, blue = colour[:3]
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
