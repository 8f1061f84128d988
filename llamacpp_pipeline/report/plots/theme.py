"""How the pictures look: one light and one dark theme, colours that the colour-blind can tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FONT_POINTS = 11
WIDTH_INCHES = 8.0  # a Hub page shows it about 8 x 96 pixels wide
DOTS_PER_INCH = 200


@dataclass(frozen=True, kw_only=True)
class Theme:
    """Colours of Okabe and Ito (jfly.uni-koeln.de/color), on light and on dark."""

    name: Literal["light", "dark"]
    background: str
    ink: str
    faint: str
    ours: str
    theirs: str
    third: str
    series: str  # a matplotlib colour map, of even lightness steps
    span: tuple[float, float]  # the part of it that stands off the background


LIGHT = Theme(
    name="light",
    background="#ffffff",
    ink="#1f2328",
    faint="#6e7781",
    ours="#0072b2",
    theirs="#d55e00",
    third="#009e73",
    series="viridis",
    span=(0.0, 0.85),
)
DARK = Theme(
    name="dark",
    background="#0b0f19",
    ink="#e6edf3",
    faint="#8b949e",
    ours="#56b4e9",
    theirs="#e69f00",
    third="#2bc49b",
    series="viridis",
    span=(0.25, 1.0),
)
THEMES = (LIGHT, DARK)


def settings(theme: Theme) -> dict[str, object]:
    """Matplotlib's settings for a theme."""
    ink = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    return {
        "svg.hashsalt": "llamacpp-pipeline",  # ids by content, not by chance
        "svg.fonttype": "none",  # text stays text
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib
        "font.size": FONT_POINTS,
        "axes.labelsize": FONT_POINTS,
        "axes.titlesize": FONT_POINTS,
        "legend.fontsize": FONT_POINTS - 1,
        "legend.frameon": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": theme.faint,
        "grid.alpha": 0.25,
        "lines.linewidth": 1.6,
        "figure.facecolor": theme.background,
        "axes.facecolor": theme.background,
        "savefig.facecolor": theme.background,
        "text.parse_math": False,  # a `$` in a name is a `$`
        **dict.fromkeys(ink, theme.ink),
    }


def shades(n: int, theme: Theme) -> list[tuple[float, ...]]:
    """So many colours in order, each lighter than the one before."""
    import matplotlib as mpl  # noqa: PLC0415  optional

    low, high = theme.span
    colours = mpl.colormaps[theme.series]
    return [tuple(colours(low + (high - low) * at / max(n - 1, 1))) for at in range(n)]
