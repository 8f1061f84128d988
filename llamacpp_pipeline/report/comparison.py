"""Several runs side by side, as aligned plain text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from llamacpp_pipeline.report.choices import difference_text
from llamacpp_pipeline.report.figures import (
    ABSENT,
    RHO_PPL,
    digest,
    estimate,
    number,
    percentile,
    speed_of,
)
from llamacpp_pipeline.report.terminal import aligned, speed_machine
from llamacpp_pipeline.results.compare import (
    ComparedRun,
    Condition,
    JoinedRuns,
    Kind,
    RunsComparison,
    SameFile,
)
from llamacpp_pipeline.results.table import VariantRow
from llamacpp_pipeline.units import size_text

TITLES = {"quality": "PPL and KLD", "tasks": "Task scores, % right", "speed": "Tokens per second"}
QUALITY_HEAD = ["file", "BPW", "size", "PPL", RHO_PPL, "mean KLD", "99.9 % KLD",
                "same top p %"]  # fmt: skip
AVERAGE = "average"
FULL_DIGEST = 64


def render_comparison(comparison: RunsComparison) -> str:
    """Everything that may be said of the runs together; ends with a newline."""
    parts = [aligned([_run(run) for run in comparison.runs], text_columns=range(6))]
    if comparison.despite:
        parts.append(f"joined although these may differ: {', '.join(comparison.despite)}")
    parts += [
        "\n".join([_title(group), *_reasons(group), _table(comparison, group)])
        for group in comparison.joined
    ]
    if comparison.files:
        parts.append(_files(comparison.files))
    return "\n\n".join(parts) + "\n"


def differing_text(found: Condition) -> str:
    """`n_ctx: 512, there 256`, digests shortened."""
    one, other = (digest(v) if len(v) == FULL_DIGEST else v for v in (found.one, found.other))
    return f"{found.name}: {other or 'none'}, there {one or 'none'}"


def _run(run: ComparedRun) -> list[str]:
    document = run.document
    return [
        run.key,
        run.source,
        document.name,
        document.created,
        f"BuildId {digest(document.conditions.build_id)}",
        speed_machine(document) or "no speeds",
    ]


def _title(group: JoinedRuns) -> str:
    alike = f"{', '.join(group.runs)} (measured alike)" if len(group.runs) > 1 else group.runs[0]
    return f"{TITLES[group.kind]}: {alike}"


def _reasons(group: JoinedRuns) -> list[str]:
    if group.apart_from is None:
        return []
    lines = [f"  {differing_text(found)}" for found in group.differing]
    return [f"not joined with {group.apart_from}, measured under other conditions:", *lines]


def _table(comparison: RunsComparison, group: JoinedRuns) -> str:
    head, has, cells = TABLES[group.kind]
    rows = [
        (key, row) for key in group.runs for row in comparison.run(key).document.rows() if has(row)
    ]
    rows.sort(key=lambda pair: (-pair[1].size.file_bytes, pair[0]))
    titles = head([row for _, row in rows])
    lines = [["run", *titles], *([key, *cells(row, titles)] for key, row in rows)]
    return aligned(lines, text_columns=(0, 1))


def _quality(row: VariantRow) -> list[str]:
    quality = row.quality
    known = [row.label, number(row.size.bpw, digits=4), size_text(row.size.file_bytes)]
    known.append(estimate(row.ppl, digits=4))
    if quality is None:
        return [*known, *[ABSENT] * 4]
    return [
        *known,
        number(quality.ppl_correlation, digits=2, unit=" %"),
        estimate(quality.mean_kld, digits=6),
        percentile(quality, "99.9"),
        estimate(quality.same_top_p, digits=3),
    ]


def _speeds(row: VariantRow, titles: Sequence[str]) -> list[str]:
    speeds = [speed_of(row, test) for test in titles[2:]]
    written = [
        ABSENT if one is None else estimate(one.tokens_per_second, digits=2) for one in speeds
    ]
    return [row.label, size_text(row.size.file_bytes), *written]


def _tests(rows: Sequence[VariantRow]) -> list[str]:
    return ["file", "size", *dict.fromkeys(one.test for row in rows for one in row.speed)]


def _scores(row: VariantRow, titles: Sequence[str]) -> list[str]:
    scores = {one.set: one.score for one in row.tasks}
    written = [estimate(scores.get(name), digits=2) for name in titles[2:-1]]
    average = estimate(row.task_average, digits=2)
    return [row.label, size_text(row.size.file_bytes), *written, average]


def _sets(rows: Sequence[VariantRow]) -> list[str]:
    names = dict.fromkeys(one.set for row in rows for one in row.tasks)
    return ["file", "size", *names, AVERAGE]


Table = tuple[
    Callable[[Sequence[VariantRow]], list[str]],  # the titles, from all rows
    Callable[[VariantRow], bool],  # whether a row has such figures
    Callable[[VariantRow, Sequence[str]], list[str]],  # its cells under these titles
]
TABLES: Mapping[Kind, Table] = {
    "quality": (
        lambda _: QUALITY_HEAD,
        lambda row: row.ppl is not None,
        lambda row, _: _quality(row),
    ),
    "tasks": (_sets, lambda row: bool(row.tasks), _scores),
    "speed": (_tests, lambda row: bool(row.speed), _speeds),
}


def _files(files: Sequence[SameFile]) -> str:
    rows = [[one.label, f"{one.other} against {one.one}", *_file(one)] for one in files]
    return "Files of the same name:\n" + aligned(rows, text_columns=range(4))


def _file(one: SameFile) -> list[str]:
    if one.same_bytes:
        return ["the same bytes", ""]
    sign = "-" if one.larger_by_bytes < 0 else "+"
    size = f"{sign}{size_text(abs(one.larger_by_bytes))}"
    if one.mean_kld is None:
        return [size, "mean KLD not measured in both"]
    text = difference_text(one.mean_kld)
    if abs(one.mean_kld.value) <= one.mean_kld.bound:
        return [size, f"mean KLD equal within the error: differs by {text}"]
    return [size, f"mean KLD {'higher' if one.mean_kld.value > 0 else 'lower'} by {text}"]
