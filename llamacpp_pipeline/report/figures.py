"""How figures are written: the same digits in every table, and a dash for what was not measured."""

from __future__ import annotations

from collections.abc import Sequence

from llamacpp_pipeline.results.document import ComparisonRef, ResultsDocument
from llamacpp_pipeline.results.table import VariantRow
from llamacpp_pipeline.stages.bench import BenchRow
from llamacpp_pipeline.stages.kld import KldResult
from llamacpp_pipeline.units import Estimate

ABSENT = "-"
RHO_PPL = "\N{GREEK SMALL LETTER RHO}PPL"
HIGH_PERCENTILES = ("99.9", "99.0", "95.0", "90.0")
MEDIAN = "50.0"
LOW_PERCENTILES = ("10.0", "5.0", "1.0", "0.1")
SHORT_DIGEST = 12
UNITS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def number(value: float | None, *, digits: int, unit: str = "") -> str:
    """A number with `digits` decimals; never the minus sign of a zero."""
    if value is None:
        return ABSENT
    text = f"{value:.{digits}f}"
    return f"{text.removeprefix('-') if float(text) == 0 else text}{unit}"


def estimate(value: Estimate | None, *, digits: int, unit: str = "") -> str:
    """A number with its standard error."""
    if value is None:
        return ABSENT
    if value.stderr is None:
        return number(value.value, digits=digits, unit=unit)
    error = number(value.stderr, digits=digits)
    return f"{number(value.value, digits=digits)} ± {error}{unit}"


def close_estimate(value: Estimate | None, *, digits: int) -> str:
    """The same as such tables are published: `7.740724 ±0.051440`."""
    return estimate(value, digits=digits).replace("± ", "±")


def size_column(sizes: Sequence[int]) -> tuple[str, list[str]]:
    """A unit for a column of bytes, and each size in it with two digits that count: `5.2`."""
    factor, unit = next((one for one in UNITS if max(sizes, default=0) >= one[0]), (1, "B"))
    return unit, [f"{float(f'{size / factor:.2g}'):.1f}" for size in sizes]


def bench_size(size_bytes: int) -> str:
    """A size as llama-bench's own tables have it: `5.23 GiB`, `8.33 MiB`."""
    factor, unit = UNITS[0] if size_bytes >= UNITS[0][0] else UNITS[1]
    return f"{size_bytes / factor:.2f} {unit}"


def bench_count(n_elements: int) -> str:
    """A number of weights as llama-bench's own tables have it: `8.95 B`, `2.53 M`."""
    billion = 10**9
    if n_elements >= billion:
        return f"{n_elements / billion:.2f} B"
    return f"{n_elements / 10**6:.2f} M"


def count(value: int) -> str:
    """A count for people: `248 320`, `5.6 M`, `752 M`, `35.1 B`."""
    for factor, letter in ((10**9, "B"), (10**6, "M")):
        if value >= factor - factor // 2000:  # what would round to 1000 of the next
            scaled = value / factor
            return f"{scaled:.0f} {letter}" if scaled >= 100 else f"{scaled:.1f} {letter}"
    return f"{value:,}".replace(",", " ")


def digest(value: str) -> str:
    """The beginning of a digest, for people; the whole is in results.json."""
    return value[:SHORT_DIGEST]


def percentile(result: KldResult, name: str) -> str:
    """One percentile of the KLD with the tool's six decimals."""
    return number(result.kld_percentiles.get(name), digits=6)


def percentile_rows(this: KldResult, against: KldResult) -> list[tuple[str, str, str]]:
    """Name, the other's figure, this one's figure: from the mean down to the 0.1 % percentile."""
    rows = [
        ("Mean KLD", estimate(against.mean_kld, digits=6), estimate(this.mean_kld, digits=6)),
        ("Maximum KLD", number(against.max_kld, digits=6), number(this.max_kld, digits=6)),
    ]
    names = [(f"{name}% KLD", name) for name in HIGH_PERCENTILES]
    names += [("Median KLD", MEDIAN), *((f"{name}% KLD", name) for name in LOW_PERCENTILES)]
    rows += [
        (label, percentile(against, name), percentile(this, name))
        for label, name in names
        if name in against.kld_percentiles or name in this.kld_percentiles
    ]
    return rows


def compared(
    document: ResultsDocument,
) -> list[tuple[ComparisonRef, VariantRow, list[tuple[str, str, str]]]]:
    """The comparisons whose two variants were measured, with their rows."""
    found = []
    for comparison in document.comparisons:
        this, against = document.row(comparison.variant), document.row(comparison.against)
        if this is None or against is None or this.quality is None or against.quality is None:
            continue
        found.append((comparison, this, percentile_rows(this.quality, against.quality)))
    return found


def speed_tests(document: ResultsDocument) -> list[str]:
    """The names of all speed tests, in the order in which they were asked for."""
    return list(dict.fromkeys(row.test for variant in document.rows() for row in variant.speed))


def speed_of(row: VariantRow, test: str) -> BenchRow | None:
    """The speed of one file in one test."""
    return next((speed for speed in row.speed if speed.test == test), None)
