"""What people read of measured sensitivities: the same words on the card and in a terminal."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Sequence

from llamacpp_pipeline.report.changes import Change, TensorChange, moved_most
from llamacpp_pipeline.report.figures import count
from llamacpp_pipeline.results.curve_fit import LogError
from llamacpp_pipeline.results.document import ResultsDocument
from llamacpp_pipeline.results.measuring_price import MeasuringPrice
from llamacpp_pipeline.results.predicted import Prediction
from llamacpp_pipeline.results.sensitivity import MeasuredTensor, SensitivityFacts
from llamacpp_pipeline.units import Estimate, size_text

NAMED = 4  # tensors that moved most, in a sentence


def ordered(facts: SensitivityFacts) -> list[MeasuredTensor]:
    """The most sensitive first."""
    return sorted(facts.tensors, key=lambda tensor: (-tensor.alpha.value, tensor.name))


def alpha_text(alpha: Estimate) -> str:
    """An alpha with its standard error, to the digits that count."""
    error = "" if alpha.stderr is None else f" ± {alpha.stderr:.1g}"
    return f"{alpha.value:.3g}{error}"


def over_prior(tensor: MeasuredTensor) -> str:
    """How many times the prior it is; nothing where there is none."""
    return f"{tensor.alpha.value / tensor.prior:.2g}" if tensor.prior else "-"


def how_measured(facts: SensitivityFacts) -> str:
    """Of what the sensitivities are measurements."""
    groups = "" if facts.bands is None else f", the tensors of a role in {facts.bands} groups"
    return (
        f"{len(facts.tensors)} tensors at {', '.join(facts.types)}{groups},"
        f" {facts.n_chunks} chunks of {facts.n_ctx} tokens of a text used for nothing else"
    )


def missing_text(facts: SensitivityFacts) -> str:
    """What there was no time for; empty where all was measured."""
    if not facts.n_missing:
        return ""
    kept = len(facts.not_measured)
    prior = f"; {kept} tensors keep the prior" if kept else ""
    return f"There was no time for {facts.n_missing} measurements{prior}."


def price_text(price: MeasuringPrice) -> str:
    """What measuring took, on which machine, and what else took how long there."""
    threads = "" if price.n_threads is None else f", {price.n_threads} threads"
    bound = "at most " if price.at_most else ""
    tokens = f"{bound}{count(price.n_tokens)} tokens through the model"
    parts = [
        f"{minutes(price.probe_seconds)} of measuring divergences ({tokens})",
        f"{minutes(price.curves_seconds)} of measuring the errors of all types",
    ]
    if price.refine_seconds:
        parts.append(f"{minutes(price.refine_seconds)} of validating the types of the files")
    text = f"{minutes(price.seconds)} on {price.cpu}{threads}: {', '.join(parts)}."
    if price.evaluation is None:
        return text
    files = f"{price.evaluation.n_files} files"
    return f"{text} The KLD of the {files} took {minutes(price.evaluation.seconds)} there."


def minutes(seconds: float) -> str:
    """A duration as a number of minutes: `0.8 minutes`, `12 minutes`."""
    found = seconds / 60
    return f"{found:.1f} minutes" if found < 10 else f"{found:.0f} minutes"


def error_text(error: LogError) -> str:
    """How far predictions were off."""
    return f"median |ln| {error.median:.3f}, root mean square {error.rms:.3f}, n = {error.n}"


def fit_text(facts: SensitivityFacts) -> str:
    """How well few types predict the rest; empty where a tensor was measured at one type only."""
    fit = facts.fit
    if fit is None or fit.others is None:
        return ""
    each = "; ".join(f"{kind}: {error_text(error)}" for kind, error in fit.by_type.items())
    by_type = f" By the type left out: {each}." if len(fit.by_type) > 2 else ""
    unclear = (
        f" {fit.n_unclear} measurements that are not told from zero are left out."
        if fit.n_unclear
        else ""
    )
    return (
        "Each measured divergence against what the tensor's other measured types predict for it:"
        f" {error_text(fit.others)}, of the logarithm of predicted over measured.{by_type}{unclear}"
    )


def compared(facts: SensitivityFacts) -> list[Prediction]:
    """The files with a prediction and a measurement."""
    return [one for one in facts.predictions if one.ratio is not None]


def prediction_text(document: ResultsDocument) -> str:
    """By which factor predictions are off, and where they fail; empty without two files."""
    facts = document.sensitivity
    found = [] if facts is None else compared(facts)
    if len(found) < 2:
        return ""
    ratios = {one.label: one.ratio for one in found if one.ratio is not None}
    middle = statistics.median(ratios.values())
    farthest = max(ratios, key=lambda label: abs(ratios[label] / middle - 1))
    row = document.row(farthest)
    bpw = "" if row is None else f" ({row.size.bpw:.2f} bpw)"
    agreeing, pairs = pairs_in_order(found)
    return (
        f"The sum of single divergences is {min(ratios.values()):.2f} to"
        f" {max(ratios.values()):.2f} times the mean KLD measured, in the median {middle:.2f}: the"
        " sum is of the probe text, the files were measured on the evaluation text."
        f" It puts {agreeing} of {pairs} pairs of files in the order of what was measured."
        f" Farthest from the median is {farthest}{bpw} with {ratios[farthest]:.2f}. At very few"
        " bits errors are no longer small, and divergences need not add up."
    )


def pairs_in_order(found: Sequence[Prediction]) -> tuple[int, int]:
    """How many pairs of files are predicted in the order of what was measured, and all pairs."""
    known = [(p.predicted, p.measured.value) for p in found if p.predicted and p.measured]
    pairs = list(itertools.combinations(known, 2))
    return sum((a[0] < b[0]) == (a[1] < b[1]) for a, b in pairs), len(pairs)


def unpredicted(facts: SensitivityFacts) -> Iterator[str]:
    """Each file without a prediction, and why."""
    for one in facts.predictions:
        if one.predicted is None:
            yield f"{one.label} has no prediction: {why_not(one)}."


def why_not(one: Prediction) -> str:
    """Why a file has no prediction."""
    if not one.without_curve:
        return "its record is of a version that did not keep the types of the tensors"
    types = ", ".join(f"{kind} ({n} tensors)" for kind, n in one.without_curve.items())
    return f"what its tensors cost at these types is not known: {types}"


def change_text(change: Change) -> str:
    """A file against the mix of its size, in two sentences."""
    row, against = change.row, change.against
    why = "which it matches" if change.asked else "the mix nearest in size"
    ratio = change.kld_ratio
    effect = "" if ratio is None else f"; its mean KLD is {ratio:.2f} times as high"
    return (
        f"{row.label} against {against.label}, {why}: {size_difference(change.more)},"
        f" {size_text(change.moved)} lie in other tensors than there{effect}."
        f" {moved_text(change)}"
    ).strip()


def size_difference(n_bytes: int) -> str:
    """`12.5 KiB less`."""
    if not n_bytes:
        return "as many bytes"
    return f"{size_text(abs(n_bytes))} {'more' if n_bytes > 0 else 'less'}"


def moved_text(change: Change) -> str:
    """The tensors that got and lost most."""
    got, lost = moved_most(change, n=NAMED)
    parts = [
        f"{what} bits: {', '.join(map(step_text, tensors))}."
        for what, tensors in (("More", got), ("Fewer", lost))
        if tensors
    ]
    return " ".join(parts)


def step_text(tensor: TensorChange) -> str:
    """A tensor and its two types."""
    return f"{tensor.name.removesuffix('.weight')} {tensor.before} to {tensor.after}"


def signed(values: Sequence[float]) -> list[str]:
    """Bytes with their sign, for people: `+12.5 KiB`."""
    return [f"{'-' if value < 0 else '+'}{size_text(abs(value))}" for value in values]
