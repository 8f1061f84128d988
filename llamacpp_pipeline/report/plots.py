"""Pictures for the card, where matplotlib is installed (the extra `plots`).

They are SVG: the same bytes for the same results and the same matplotlib.
"""

from __future__ import annotations

import io
from importlib.util import find_spec
from typing import TYPE_CHECKING

from llamacpp_pipeline.results.imatrix import ImatrixFacts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE_INCHES = (8.0, 5.0)
STYLE = {
    "svg.hashsalt": "llamacpp-pipeline",  # ids by content, not by chance
    "svg.fonttype": "none",  # text stays text
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib
    "axes.grid": True,
    "grid.alpha": 0.3,
}
NOT_WRITTEN = {"Date": None, "Creator": None}


def profile_name(name: str) -> str:
    """The picture's file name in the result folder."""
    return f"{name}-imatrix.svg"


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def profile_svg(facts: ImatrixFacts) -> str | None:
    """The profile by layer; None where nothing can be drawn, or there is nothing to draw."""
    if not facts.layer_h_diag or not can_draw():
        return None
    import matplotlib as mpl  # noqa: PLC0415  optional, and half a second to import
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    with mpl.rc_context():
        mpl.rcdefaults()  # not the user's own style
        mpl.rcParams.update(STYLE)
        figure = Figure(figsize=SIZE_INCHES, layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True)
        _energy(upper, facts)
        _similarity(lower, facts)
        written = io.StringIO()
        FigureCanvasSVG(figure).print_svg(written, metadata=NOT_WRITTEN)
    return written.getvalue()


def _energy(axes: Axes, facts: ImatrixFacts) -> None:
    tensors = [t for t in facts.tensor_h_diag if t.layer is not None and t.h_diag > 0]
    layers = [one for one in facts.layer_h_diag if one.h_diag > 0]
    axes.set_yscale("log")
    axes.scatter(
        [float(t.layer or 0) for t in tensors],
        [t.h_diag for t in tensors],
        s=12,
        color="tab:gray",
        alpha=0.5,
        label="tensor",
    )
    axes.plot(
        [one.layer for one in layers], [one.h_diag for one in layers], marker="o", label="layer"
    )
    axes.set_ylabel("H_diag = mean(x²)")
    axes.legend()


def _similarity(axes: Axes, facts: ImatrixFacts) -> None:
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415  as above

    for name in ("means", "mean_squares"):
        found = [
            (layer.layer, distance.cosine_similarity)
            for layer in facts.layers
            if layer.to_previous is not None
            and (distance := getattr(layer.to_previous, name)) is not None
            and distance.cosine_similarity is not None
        ]
        if found:
            label = "E[x]" if name == "means" else "E[x²]"
            axes.plot(*zip(*found, strict=True), marker="o", label=label)
    axes.set_ylabel("cosine similarity\nto the layer before")
    axes.set_xlabel("layer")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if axes.lines:
        axes.legend()
