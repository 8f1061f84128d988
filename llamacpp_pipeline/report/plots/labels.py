"""Names beside points, where they cover neither points nor one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from llamacpp_pipeline.report.plots.theme import Theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation

NEAR = 6.0  # points from the dot to its name
DIRECTIONS = (
    (1, 0, "left", "center"), (0, 1, "center", "bottom"), (-1, 0, "right", "center"),
    (0, -1, "center", "top"), (1, 1, "left", "bottom"), (1, -1, "left", "top"),
    (-1, 1, "right", "bottom"), (-1, -1, "right", "top"),
)  # fmt: skip
DISTANCES = (1.0, 2.2, 3.6)
DOT = 3.0  # points that a dot takes around its middle
LONGEST = 28  # characters of a name


class Box(NamedTuple):
    """A rectangle in pixels."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: Box) -> float:
        """The area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(width, 0.0) * max(height, 0.0)

    def outside(self, frame: Box) -> float:
        """The area that lies outside a frame."""
        own = (self.right - self.left) * (self.top - self.bottom)
        return own - self.overlap(frame)


class Named(NamedTuple):
    """A point with its name, and how far its error bar goes up and down."""

    x: float
    y: float
    name: str
    error: float = 0.0


def name_points(axes: Axes, points: Sequence[Named], theme: Theme) -> None:
    """Write each name where it covers least; the axes' limits and scales must be final."""
    figure: Any = axes.figure  # the whole figure: we make no subfigures
    figure.draw_without_rendering()  # lays the axes out
    taken = [_dot(axes, point) for point in points]
    frame = _box(axes.get_window_extent())
    for point in points:
        note = axes.annotate(
            shortened(point.name),
            (point.x, point.y),
            (0.0, 0.0),
            textcoords="offset points",
            fontsize="small",
            color=theme.ink,
            arrowprops={"arrowstyle": "-", "color": theme.faint, "lw": 0.7, "shrinkA": 0},
        )
        taken.append(_placed(note, taken=taken, frame=frame))


def _dot(axes: Axes, point: Named) -> Box:
    figure, low = axes.figure, point.y - point.error
    low = low if low > 0 or axes.get_yscale() == "linear" else point.y
    left, bottom = map(float, axes.transData.transform((point.x, low)))
    _, top = map(float, axes.transData.transform((point.x, point.y + point.error)))
    dot = DOT * float(figure.dpi) / 72
    return Box(left - dot, bottom - dot, left + dot, top + dot)


def shortened(name: str) -> str:
    """A name that fits beside a point."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def _placed(note: Annotation, *, taken: Sequence[Box], frame: Box) -> Box:
    best: tuple[float, int] | None = None
    tries = [(d, way) for d in DISTANCES for way in DIRECTIONS]
    for at, (distance, way) in enumerate(tries):
        box = _move(note, distance, way)
        cost = sum(box.overlap(other) for other in taken) + 4 * box.outside(frame)
        if best is None or cost < best[0]:
            best = (cost, at)
        if cost == 0:
            return box
    assert best is not None  # noqa: S101  there are directions
    return _move(note, *tries[best[1]])


def _move(note: Annotation, distance: float, way: tuple[int, int, str, str]) -> Box:
    x, y, across, along = way
    note.set_position((x * NEAR * distance, y * NEAR * distance))
    note.set(ha=across, va=along)
    return _text_box(note)


def _text_box(note: Annotation) -> Box:
    from matplotlib.text import Text  # noqa: PLC0415  optional

    note.get_window_extent()  # lets the note find its place
    return _box(Text.get_window_extent(note))  # without the line to the point


def _box(extent: object) -> Box:
    left, bottom, right, top = (getattr(extent, name) for name in ("x0", "y0", "x1", "y1"))
    return Box(float(left), float(bottom), float(right), float(top))
