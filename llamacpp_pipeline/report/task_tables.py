"""Task scores in the shape of the published cards, and which differences are more than chance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llamacpp_pipeline.report.figures import ABSENT, close_estimate, count, digest, number
from llamacpp_pipeline.report.markdown import Markdown, escaped, table
from llamacpp_pipeline.results.document import ResultsDocument
from llamacpp_pipeline.results.table import VariantRow
from llamacpp_pipeline.results.task_scores import TaskConditions
from llamacpp_pipeline.results.tasks import AverageDifference, TaskDifference, TaskFacts
from llamacpp_pipeline.units import Estimate

MARK = "*"
AVERAGE = "Avg Score"
DIFFERENCE_HEAD = ["Set", "Better", "Worse", "Difference", "95% interval", "p"]
SMALL = 1e-4
TEST = "exact McNemar test on the same tasks, corrected by Holm over the table, 5 %"


def score_cells(document: ResultsDocument) -> tuple[list[str], list[tuple[VariantRow, list[str]]]]:
    """The titles of the columns, and each scored file's cells; none where nothing was scored."""
    facts = document.tasks
    if facts is None:
        return [], []
    titles = [each.title for each in facts.sets]
    rows = [(row, _cells(row, facts)) for row in document.rows() if row.tasks]
    return [*titles, AVERAGE], rows


def score_table(document: ResultsDocument, names: Sequence[Markdown]) -> Markdown:
    """One row per scored file; `names` are those of all rows of the document, in order."""
    titles, rows = score_cells(document)
    if not rows:
        return Markdown("")
    named = dict(zip((row.label for row in document.rows()), names, strict=True))
    head = ["Model", *map(escaped, titles)]
    lines = [
        [str(named[row.label]), *(cell.replace(MARK, f"\\{MARK}") for cell in cells)]
        for row, cells in rows
    ]
    return table(head, lines)


def difference_table(document: ResultsDocument) -> Markdown:
    """The files other than the reference that differ from one another by more than chance."""
    facts = document.tasks
    if facts is None:
        return Markdown("")
    titles = {each.name: each.title for each in facts.sets}
    rows = [
        [*map(escaped, (titles[found.set], *better_first(found)[:2])), *better_first(found)[2:]]
        for found in facts.between
        if found.differs
    ]
    return table(DIFFERENCE_HEAD, rows, text_columns=3) if rows else Markdown("")


def interval_table(document: ResultsDocument) -> Markdown:
    """The interval of each score by itself."""
    facts = document.tasks
    rows = [row for row in document.rows() if row.tasks]
    if facts is None or not rows:
        return Markdown("")
    lines = []
    for row in rows:
        known = {score.set: interval_text(score.low, score.high) for score in row.tasks}
        cells = [known.get(each.name, ABSENT) for each in facts.sets]
        lines.append([str(escaped(row.label)), *cells])
    return table(["Model", *map(escaped, (each.title for each in facts.sets))], lines)


def average_table(document: ResultsDocument) -> Markdown:
    """Each file's average against the reference's."""
    facts = document.tasks
    if facts is None or not facts.averages:
        return Markdown("")
    head = ["Model", f"Average less that of {escaped(document.reference.label)}", "95% interval"]
    return table(head, [_average_cells(found) for found in facts.averages])


def better_first(found: TaskDifference) -> tuple[str, str, str, str, str]:
    """Better, worse, how much by (percentage points), the interval of that, the corrected p."""
    one, other, low, high = found.one, found.other, found.low, found.high
    if found.difference.value < 0:
        one, other, low, high = other, one, -high, -low
    size = Estimate(value=abs(found.difference.value), stderr=found.difference.stderr)
    return (
        one,
        other,
        close_estimate(size, digits=2),
        interval_text(low, high),
        p_text(found.p_holm),
    )


def interval_text(low: float, high: float) -> str:
    """`-1.25 to 3.50`."""
    return f"{number(low, digits=2)} to {number(high, digits=2)}"


def p_text(p: float) -> str:
    """A probability with four digits after the point, or what it is below."""
    return f"below {SMALL:.4f}" if p < SMALL else number(p, digits=4)


def verdict(document: ResultsDocument) -> str:
    """What the marks in the table mean, or why there are none; empty without comparisons."""
    facts = document.tasks
    if facts is None or not facts.against_reference:
        return ""
    label = document.reference.label
    if any(found.differs for found in facts.against_reference):
        return f"{MARK} differs from {label} by more than chance"
    return f"no score differs from that of {label} by more than chance"


def set_lines(document: ResultsDocument) -> Iterator[str]:
    """One line for each set: which of its tasks, and what a guess would score."""
    for each in () if document.tasks is None else document.tasks.sets:
        yield ", ".join(_about(each))


def cut_text(document: ResultsDocument) -> str:
    """How the tasks were computed; empty where nothing was scored."""
    facts = document.tasks
    if facts is None:
        return ""
    contexts = sorted({each.n_ctx for each in facts.sets})
    seeds = sorted({each.seed for each in facts.sets})
    tasks = sorted({each.n_tasks for each in facts.sets})
    many = " or ".join(map(str, tasks))
    return (
        f"{many} tasks per test, chosen by seed {' or '.join(map(str, seeds))},"
        f" and a context of {' or '.join(map(str, contexts))} tokens"
    )


def terminal_rows(document: ResultsDocument) -> list[list[str]]:
    """The table as plain cells, its head first; empty where nothing was scored."""
    titles, rows = score_cells(document)
    if not rows:
        return []
    return [["tasks, % right", *titles], *([row.label, *cells] for row, cells in rows)]


def terminal_lines(document: ResultsDocument) -> list[str]:
    """The conditions of the scores, and what they say; for the terminal."""
    if document.tasks is None:
        return []
    said = [f"{verdict(document)}: {TEST}"] if document.tasks.against_reference else []
    return [f"scores with {cut_text(document)}", *said, *set_lines(document)]


def _cells(row: VariantRow, facts: TaskFacts) -> list[str]:
    scores = {score.set: score.score for score in row.tasks}
    cells = [
        f"{percent(scores.get(each.name))}{MARK if facts.marked(row.label, each.name) else ''}"
        for each in facts.sets
    ]
    average = row.task_average
    return [*cells, close_estimate(average, digits=2)]


def percent(score: Estimate | None) -> str:
    """As on the published cards: four digits with an error, two without one."""
    if score is None:
        return ABSENT
    return close_estimate(score, digits=2 if score.stderr is None else 4)


def _average_cells(found: AverageDifference) -> list[str]:
    return [
        escaped(found.one),
        close_estimate(found.difference, digits=2),
        interval_text(found.low, found.high),
    ]


def _about(each: TaskConditions) -> Iterator[str]:
    yield f"{each.title}: {each.n_tasks} of {count(each.n_read)} tasks"
    if each.malformed:
        yield f"{len(each.malformed)} rows malformed"
    if each.left_out:
        yield f"{len(each.left_out)} rows that their publisher calls wrong left out"
    yield f"{number(each.chance, digits=2)} % by chance"
    yield f"prompt template {each.template} version {each.template_version}"
    yield f"file sha256 {digest(each.sha256)}"
