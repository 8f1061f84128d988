"""Which pictures there are, and how one becomes files: SVG and PNG, light and dark, and CSV.

The same results and the same matplotlib give the same bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from llamacpp_pipeline.report.plots import data, drawings, heat, sensitive
from llamacpp_pipeline.report.plots.table import PlotTable
from llamacpp_pipeline.report.plots.theme import (
    DARK,
    DOTS_PER_INCH,
    THEMES,
    WIDTH_INCHES,
    Theme,
    settings,
)
from llamacpp_pipeline.results.document import ResultsDocument
from llamacpp_pipeline.results.table import VariantRow

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALLOCATION = "allocation-"  # and the label, which is a file name by the configuration
SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
Draw = Callable[["Figure", PlotTable, Theme], None]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture: what it shows and how."""

    name: str
    alt: str  # what it shows, for those who do not see it; our own words
    table: Callable[[ResultsDocument], PlotTable | None]
    draw: Draw
    height: Callable[[PlotTable], float] = lambda table: 5.0  # noqa: ARG005  inches


PICTURES = (
    Picture(
        name="kld-size",
        alt="Mean KLD of each file against its size",
        table=data.kld_by_size,
        draw=drawings.draw_kld_by_size,
    ),
    Picture(
        name="ppl-bpw",
        alt="PPL of each file over the reference's, against its bits per weight",
        table=data.ppl_ratio_by_bpw,
        draw=drawings.draw_ppl_ratio,
    ),
    Picture(
        name="kld-percentiles",
        alt="The KLD that so many percent of the tokens stay below, a curve for each file",
        table=data.kld_percentiles,
        draw=drawings.draw_percentiles,
    ),
    Picture(
        name="tasks-size",
        alt="Average task score of each file against its size",
        table=data.task_average_by_size,
        draw=drawings.draw_tasks,
    ),
    Picture(
        name="speed-size",
        alt="Tokens per second of each file against its size",
        table=data.speed_by_size,
        draw=drawings.draw_speed,
        height=lambda table: 1.2 + 2.6 * len(set(table.texts("test"))),
    ),
    Picture(
        name="sensitivity",
        alt="Sensitivity of each tensor to quantization, by layer and role",
        table=sensitive.sensitivity_profile,
        draw=sensitive.draw_sensitivity,
        height=sensitive.map_height,
    ),
    Picture(
        name="kld-predicted",
        alt="Mean KLD of each file against the one predicted from its tensors",
        table=sensitive.predicted_klds,
        draw=sensitive.draw_predicted,
        height=lambda _: 6.2,
    ),
    Picture(
        name="sensitivity-fit",
        alt="Divergence of single tensors against what the fit through few types predicts",
        table=sensitive.fit_points,
        draw=sensitive.draw_fit,
    ),
    Picture(
        name="activations",
        alt="Energy of the activations, and their similarity to the layer before, by layer",
        table=data.activation_profile,
        draw=drawings.draw_profile,
    ),
)


def pictures_of(document: ResultsDocument) -> tuple[Picture, ...]:
    """Those of every document, and the allocation of each file whose types were chosen."""
    allocated = (row for row in document.variants if row.allocation and SAFE.fullmatch(row.label))
    return (*PICTURES, *map(_allocation, allocated))


def _allocation(row: VariantRow) -> Picture:
    return Picture(
        name=f"{ALLOCATION}{row.label}",
        alt=f"The type of each tensor of {row.label}, by layer and role",
        table=lambda _: heat.allocation_table(row),
        draw=heat.draw_allocation,
        height=heat.height,
    )


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def files_of(picture: Picture, table: PlotTable) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file of a picture; only its CSV where nothing can draw."""
    yield f"{picture.name}.csv", table.csv().encode()
    if can_draw():
        for theme in THEMES:
            svg, png = _drawn(picture, table, theme)
            yield f"{stem(picture, theme)}.svg", svg
            yield f"{stem(picture, theme)}.png", png


def stem(picture: Picture, theme: Theme) -> str:
    """The files' name without its ending: the light ones have the plain name."""
    return f"{picture.name}-dark" if theme is DARK else picture.name


def _drawn(picture: Picture, table: PlotTable, theme: Theme) -> tuple[bytes, bytes]:
    import matplotlib as mpl  # noqa: PLC0415  optional, and half a second to import
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    with mpl.rc_context():
        mpl.rcdefaults()  # not the user's own style
        mpl.rcParams.update(settings(theme))
        size = (WIDTH_INCHES, picture.height(table))
        figure = Figure(figsize=size, dpi=DOTS_PER_INCH, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        picture.draw(figure, table, theme)
        png, svg = io.BytesIO(), io.StringIO()
        canvas.print_png(png, metadata={"Software": None})
        nothing = {"Date": None, "Creator": None}
        FigureCanvasSVG(figure).print_svg(svg, metadata=nothing)
    return svg.getvalue().encode(), png.getvalue()
