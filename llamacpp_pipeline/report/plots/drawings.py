"""How each table is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from llamacpp_pipeline.report.plots.labels import Named, name_points, shortened
from llamacpp_pipeline.report.plots.table import PlotTable
from llamacpp_pipeline.report.plots.theme import Theme, shades

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

Columns = tuple[list[float], list[float], list[float]]  # x, y, the error of y
UNITS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
MARKERS = "osD^vP*X<>hp"
BOTTOM, TOP = 0.0005, 0.9999  # shares of tokens; 100 % is drawn at TOP
NEARLY_EQUAL = 1.0  # percent of PPL: below it a logarithmic axis is linear
MUCH_WORSE = 10.0  # percent of PPL: a linear axis would press the good files together
MANY_FOLD = 300.0  # an axis so long has marks enough at the powers of ten


def draw_kld_by_size(figure: Figure, table: PlotTable, theme: Theme) -> None:
    """Mean KLD against size, log; the files that none beats are joined."""
    axes = figure.subplots()
    sizes, unit = scaled(table.numbers("file_bytes"))
    values, errors = table.numbers("mean_kld"), table.errors("stderr")
    best = sorted(
        (size, value)
        for size, value, on in zip(sizes, values, table.flags("pareto"), strict=True)
        if on
    )
    axes.plot(*zip(*best, strict=True), color=theme.third, lw=1.2, ls="--", zorder=1,
              label="none is as small and closer")  # fmt: skip
    _points(axes, (sizes, values, errors), table, theme)
    axes.set_xlabel(f"file size ({unit})")
    axes.set_ylabel("mean KLD (nats)")
    axes.legend(loc="best")
    axes.margins(x=0.12, y=0.12)
    log_axis(axes)
    name_points(axes, _named((sizes, values, errors), table), theme)


def draw_ppl_ratio(figure: Figure, table: PlotTable, theme: Theme) -> None:
    """How far PPL is above the reference's, against bits per weight; close to 0 not log."""
    from matplotlib.ticker import FuncFormatter  # noqa: PLC0415  optional

    axes = figure.subplots()
    bpw = table.numbers("bpw")
    above = [100 * (ratio - 1) for ratio in table.numbers("ppl_ratio")]
    errors = [100 * error for error in table.errors("stderr")]
    axes.axhline(0.0, color=theme.faint, lw=1, ls=":", zorder=0, label="the reference")
    _points(axes, (bpw, above, errors), table, theme)
    if max(map(abs, above)) > MUCH_WORSE:
        axes.set_yscale("symlog", linthresh=NEARLY_EQUAL, linscale=1.5)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    axes.set_xlabel("bits per weight")
    axes.set_ylabel("PPL above the reference's")
    axes.legend(loc="best")
    axes.margins(x=0.12, y=0.12)
    name_points(axes, _named((bpw, above, errors), table), theme)


def draw_percentiles(figure: Figure, table: PlotTable, theme: Theme) -> None:
    """The KLD that so many of the tokens stay below: one curve a file, the ends stretched."""
    from matplotlib.ticker import FixedLocator, NullLocator  # noqa: PLC0415  optional

    axes = figure.subplots()
    labels = list(dict.fromkeys(table.texts("label")))
    percents = sorted({float(text) for text in table.texts("percent_of_tokens")})
    axes.set_xscale("logit")
    for at, (label, colour) in enumerate(zip(labels, shades(len(labels), theme), strict=True)):
        rows = table.where("label", label)
        shares = [_share(float(text)) for text in rows.texts("percent_of_tokens")]
        axes.plot(shares, rows.numbers("kld"), color=colour, marker=MARKERS[at % len(MARKERS)],
                  ms=4.5, label=shortened(label))  # fmt: skip
    log_axis(axes)
    axes.xaxis.set_major_locator(FixedLocator([_share(percent) for percent in percents]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels(["max" if p == 100 else f"{p:g}" for p in percents], rotation=45)
    axes.set_xlabel("percent of the tokens (the ends are stretched)")
    axes.set_ylabel("their KLD is below (nats)")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), title="fewest bits first")


def draw_speed(figure: Figure, table: PlotTable, theme: Theme) -> None:
    """Tokens per second against size: one panel a test."""
    tests = list(dict.fromkeys(table.texts("test")))
    panels = figure.subplots(len(tests), 1, sharex=True, squeeze=False)
    for axes, test in zip(panels[:, 0], tests, strict=True):
        rows = table.where("test", test)
        sizes, unit = scaled(table.numbers("file_bytes"), rows.numbers("file_bytes"))
        values, errors = rows.numbers("tokens_per_second"), rows.errors("stddev")
        _points(axes, (sizes, values, errors), rows, theme)
        axes.set_title(test, loc="left")
        axes.set_ylabel("tokens per second")
        axes.margins(x=0.12, y=0.25)
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]) if min(values) <= 0 else 0)
        axes.set_xlabel(f"file size ({unit})" if test == tests[-1] else "")
    for axes, test in zip(panels[:, 0], tests, strict=True):
        rows = table.where("test", test)
        sizes, _ = scaled(table.numbers("file_bytes"), rows.numbers("file_bytes"))
        at = (sizes, rows.numbers("tokens_per_second"), rows.errors("stddev"))
        name_points(axes, _named(at, rows), theme)


def draw_tasks(figure: Figure, table: PlotTable, theme: Theme) -> None:
    """Average score against size, with what answers taken at random would score."""
    axes = figure.subplots()
    sizes, unit = scaled(table.numbers("file_bytes"))
    values, errors = table.numbers("task_average"), table.errors("stderr")
    chance = table.numbers("chance")[0]
    near = min(values) - chance <= max(values) - min(values)
    if near:  # a line far below would press the files together
        axes.axhline(chance, color=theme.faint, lw=1, ls=":", zorder=0, label="by chance")
    _points(axes, (sizes, values, errors), table, theme)
    axes.set_xlabel(f"file size ({unit})")
    axes.set_ylabel(f"average score (% right{'' if near else f'; by chance {chance:.4g}'})")
    axes.legend(loc="best")
    axes.margins(x=0.12, y=0.12)
    name_points(axes, _named((sizes, values, errors), table), theme)


def draw_profile(figure: Figure, table: PlotTable, theme: Theme) -> None:
    """Activations by layer: their energy, and how like the layer before's they are."""
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415  optional

    upper, lower = figure.subplots(2, 1, sharex=True)
    tensors, layers = table.where("of", "tensor"), table.where("of", "layer")
    for rows, look in (
        (tensors, {"ls": "", "marker": ".", "color": theme.faint, "label": "tensor"}),
        (layers, {"marker": "o", "ms": 4.5, "color": theme.ours, "label": "layer"}),
    ):
        energies = zip(rows.numbers("layer"), rows.numbers("h_diag"), strict=True)
        known = [(layer, energy) for layer, energy in energies if energy > 0]
        if known:
            upper.plot(*zip(*known, strict=True), **look)
    log_axis(upper)
    upper.set_ylabel("H_diag = mean(x²)")
    upper.legend()
    alike = [
        (float(row[2]), float(row[4]))
        for row in layers.rows
        if isinstance(row[2], int) and isinstance(row[4], float)
    ]
    if alike:
        lower.plot(*zip(*alike, strict=True), marker="o", ms=4.5, color=theme.theirs)
    lower.set_ylabel("cosine similarity\nto the layer before")
    lower.set_xlabel("layer")
    lower.xaxis.set_major_locator(MaxNLocator(integer=True))


def scaled(sizes: list[float], those: list[float] | None = None) -> tuple[list[float], str]:
    """Bytes in the unit that suits the largest of `sizes`: `those`, or all of them."""
    largest = max(sizes)
    factor, unit = next((one for one in UNITS if largest >= one[0]), (1, "bytes"))
    return [size / factor for size in (sizes if those is None else those)], unit


def _points(
    axes: Axes,
    at: Columns,
    table: PlotTable,
    theme: Theme,
) -> None:
    looks = {
        "variant": (theme.ours, "o", "these files"),
        "reference": (theme.faint, "s", "the unquantized reference"),
    }
    kinds = table.texts("kind")
    for kind in dict.fromkeys(kinds):
        colour, marker, label = looks.get(kind, (theme.theirs, "D", "files of other publishers"))
        x, y, error = (
            [value for value, of in zip(values, kinds, strict=True) if of == kind] for values in at
        )
        axes.errorbar(x, y, _error_bars(error), ls="", marker=marker, ms=6, color=colour, lw=1.4,
                      capsize=3, label=label)  # fmt: skip


def _named(at: Columns, table: PlotTable) -> list[Named]:
    points = zip(*at, table.texts("label"), strict=True)
    return [Named(x, y, name, error) for x, y, error, name in points]


def _error_bars(errors: list[float]) -> list[float] | None:
    return errors if any(errors) else None


def log_axis(axes: Axes, along: Literal["x", "y"] = "y") -> None:
    """A logarithmic axis with its numbers written out."""
    (axes.set_yscale if along == "y" else axes.set_xscale)("log")
    low, high = axes.get_ylim() if along == "y" else axes.get_xlim()
    log_marks(axes.yaxis if along == "y" else axes.xaxis, many_fold=high / low > MANY_FOLD)


def log_marks(axis: Axis, *, many_fold: bool) -> None:
    """Numbers written out on an axis that is logarithmic: more of them where it is short."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter  # noqa: PLC0415

    marks = (1.0,) if many_fold else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=marks, numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _share(percent: float) -> float:
    return min(max(percent / 100, BOTTOM), TOP)
