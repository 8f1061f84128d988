"""Sensitivities: the map of alpha, the fit through few types, predicted against measured KLD."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from llamacpp_pipeline.report.plots.drawings import MANY_FOLD, MARKERS, log_axis, log_marks
from llamacpp_pipeline.report.plots.heat import (
    INCHES_PER_ROLE,
    MOST_WRITTEN,
    OUTSIDE,
    contrast,
    roles,
)
from llamacpp_pipeline.report.plots.labels import Named, name_points
from llamacpp_pipeline.report.plots.table import Cell, PlotTable
from llamacpp_pipeline.report.plots.theme import Theme, shades
from llamacpp_pipeline.results.curve_fit import log_error
from llamacpp_pipeline.results.document import ResultsDocument

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

N_SHADES = 256
WORDS = "alpha alone (fitted to them all)", "the tensor's other types alone"
WHAT = "line", "others"


def sensitivity_profile(document: ResultsDocument) -> PlotTable | None:
    """Sensitivity of each tensor: measured, or as the first file by size assumes it."""
    if document.sensitivity is not None:
        rows: list[tuple[Cell, ...]] = [
            (one.name, one.layer, one.role, one.alpha.value, one.alpha.stderr, "measured")
            for one in document.sensitivity.tensors
            if one.alpha.value > 0
        ]
    else:
        chosen = (row.allocation for row in document.variants if row.allocation is not None)
        found = next(chosen, None)
        rows = [
            (one.name, one.layer, one.role, one.alpha, None, "assumed")
            for one in (() if found is None else found.tensors)
            if one.alpha is not None and one.alpha > 0
        ]
    columns = ("tensor", "layer", "role", "alpha", "stderr", "source")
    return PlotTable(columns=columns, rows=tuple(rows)) if rows else None


def fit_points(document: ResultsDocument) -> PlotTable | None:
    """Every measured divergence, what alpha says of it, and what the tensor's other types say."""
    facts = document.sensitivity
    if facts is None or facts.fit is None:
        return None
    rows = tuple(
        (one.tensor, one.type, one.rho, one.measured.value, one.measured.stderr, one.line,
         one.others)
        for one in facts.fit.points
        if one.line > 0
    )  # fmt: skip
    columns = ("tensor", "type", "rho", "measured", "stderr", *WHAT)
    return PlotTable(columns=columns, rows=rows) if rows else None


def predicted_klds(document: ResultsDocument) -> PlotTable | None:
    """Each file's predicted mean KLD and the one measured."""
    facts = document.sensitivity
    found = tuple(
        (one.label, row.kind, row.size.bpw, one.predicted, one.measured.value, one.measured.stderr)
        for one in (() if facts is None else facts.predictions)
        if one.ratio is not None
        and one.measured is not None
        and (row := document.row(one.label)) is not None
    )
    columns = ("label", "kind", "bpw", "predicted", "measured", "stderr")
    return PlotTable(columns=columns, rows=found) if found else None


def map_height(table: PlotTable) -> float:
    """Inches that the map needs."""
    return 1.4 + INCHES_PER_ROLE * len(roles(table))


def draw_sensitivity(figure: Figure, table: PlotTable, theme: Theme) -> None:
    """A square for each tensor, coloured by its alpha, log; the figure where there is room."""
    from matplotlib.cm import ScalarMappable  # noqa: PLC0415  optional
    from matplotlib.colors import LogNorm  # noqa: PLC0415
    from matplotlib.patches import Rectangle  # noqa: PLC0415
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    axes = figure.subplots()
    names, alphas = roles(table), table.numbers("alpha")
    layers = [OUTSIDE if row[1] is None else int(str(row[1])) for row in table.rows]
    low, high = min(alphas), max(alphas)
    norm = LogNorm(low, high if high > low else 2 * low)
    shading = colour_map(theme)
    for layer, role, alpha in zip(layers, table.texts("role"), alphas, strict=True):
        colour, at = shading(float(norm(alpha))), names.index(role)
        axes.add_patch(Rectangle((layer - 0.46, at - 0.46), 0.92, 0.92, color=colour, lw=0))
        if max(layers) < MOST_WRITTEN:
            ink = contrast(tuple(colour))
            axes.text(layer, at, f"{alpha:.2g}", ha="center", va="center", size=7, color=ink)
    axes.set_xlim(min(layers) - 0.6, max(layers) + 0.6)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks(range(len(names)), names)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter(lambda at, _: "none" if at == OUTSIDE else f"{at:g}")
    axes.grid(visible=False)
    axes.set_xlabel("layer")
    colours = ScalarMappable(norm=norm, cmap=shading)
    bar = figure.colorbar(colours, ax=axes, label="alpha (nats per unit of relative error)")
    log_marks(bar.ax.yaxis, many_fold=high / low > MANY_FOLD)


def colour_map(theme: Theme) -> Colormap:
    """The theme's colours without a step."""
    from matplotlib.colors import ListedColormap  # noqa: PLC0415  optional

    return ListedColormap(shades(N_SHADES, theme))


def draw_fit(figure: Figure, table: PlotTable, theme: Theme) -> None:
    """What was measured against what the fit says; a mark for each tensor at each type."""
    shown = [at for at, what in enumerate(WHAT) if has(table, what)]
    panels = figure.subplots(1, len(shown), sharex=True, sharey=True, squeeze=False)[0]
    kinds = list(dict.fromkeys(table.texts("type")))
    for axes, at in zip(panels, shown, strict=True):
        for index, (kind, colour) in enumerate(zip(kinds, shades(len(kinds), theme), strict=True)):
            x, y, error = columns_of(table.where("type", kind), WHAT[at])
            axes.errorbar(x, y, error, ls="", marker=MARKERS[index % len(MARKERS)], ms=4.5,
                          color=colour, lw=0.9, label=kind)  # fmt: skip
        x, y, _ = columns_of(table, WHAT[at])
        found = log_error(list(zip(x, y, strict=True)))
        said = "" if found is None else f"\nmedian |ln| {found.median:.3f}, rms {found.rms:.3f}"
        axes.set_title(f"{WORDS[at]}{said}", loc="left", fontsize="medium")
        axes.set_xlabel("predicted divergence (nats)")
        log_axis(axes, "x")
        log_axis(axes)
        diagonal(axes, theme, factor=1.0, label="equal")
    panels[0].set_ylabel("measured divergence (nats)")
    panels[0].legend(loc="upper left")


def draw_predicted(figure: Figure, table: PlotTable, theme: Theme) -> None:
    """Measured mean KLD against the predicted one, log; below, one over the other."""
    upper, lower = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (3, 1)})
    looks = {"variant": (theme.ours, "o", "these files")}
    for kind in dict.fromkeys(table.texts("kind")):
        colour, marker, label = looks.get(kind, (theme.theirs, "D", "files of other publishers"))
        x, y, error = columns_of(table.where("kind", kind), "predicted")
        upper.errorbar(x, y, error, ls="", marker=marker, ms=6, color=colour, capsize=3,
                       label=label)  # fmt: skip
        ratios = [b / a for a, b in zip(x, y, strict=True)]
        errors = [e / a for a, e in zip(x, error, strict=True)]
        lower.errorbar(x, ratios, errors, ls="", marker=marker, ms=6, color=colour, capsize=3)
    x, y, error = columns_of(table, "predicted")
    factor = statistics.median(b / a for a, b in zip(x, y, strict=True))
    upper.margins(x=0.12, y=0.12)
    lower.margins(y=0.3)
    log_axis(upper, "x")
    log_axis(upper)
    for axes, sloped in ((upper, True), (lower, False)):
        reference_lines(axes, theme, factor=factor, sloped=sloped)
    upper.set_ylabel("measured: mean KLD on\nthe evaluation text (nats)")
    lower.set_ylabel("measured /\npredicted")
    lower.set_xlabel("predicted: sum of single divergences on the probe text (nats)")
    upper.legend(loc="upper left")
    named = sorted(zip(x, y, table.texts("label"), error, strict=True), reverse=True)
    name_points(upper, [Named(*one) for one in named], theme)


def reference_lines(axes: Axes, theme: Theme, *, factor: float, sloped: bool) -> None:
    """Where measured is predicted, and where it is the median times that."""
    if sloped:
        diagonal(axes, theme, factor=1.0, label="equal")
        diagonal(axes, theme, factor=factor, label=f"measured = {factor:.2f} predicted (median)")
        return
    axes.axhline(1.0, color=theme.faint, lw=1.1, ls=":", zorder=1)
    axes.axhline(factor, color=theme.third, lw=1.1, ls="--", zorder=1)


def has(table: PlotTable, column: str) -> bool:
    """Whether any row has a figure there."""
    return any(row[table.columns.index(column)] is not None for row in table.rows)


def columns_of(table: PlotTable, predicted: str) -> tuple[list[float], list[float], list[float]]:
    """Predicted, measured and its error, of the rows that have a prediction above zero."""
    at = table.columns.index(predicted)
    rows = tuple(row for row in table.rows if above_zero(row[at]))
    known = PlotTable(columns=table.columns, rows=rows)
    return known.numbers(predicted), known.numbers("measured"), known.errors("stderr")


def above_zero(cell: Cell) -> bool:
    """Whether it is a number that has a logarithm."""
    return isinstance(cell, (int, float)) and cell > 0


def diagonal(axes: Axes, theme: Theme, *, factor: float, label: str) -> None:
    """The line where measured is so many times predicted; limits stay."""
    left, right = axes.get_xlim()
    low, high = axes.get_ylim()
    colour, style = (theme.faint, ":") if factor == 1.0 else (theme.third, "--")
    ends = [factor * left, factor * right]
    axes.plot([left, right], ends, lw=1.1, zorder=1, color=colour, ls=style, label=label)
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)
