"""Why a tensor has its type, and what more or fewer bits would bring: tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from llamacpp_pipeline.allocate.frontier import (
    Corner,
    Option,
    best_within,
    frontier,
    least_at,
)
from llamacpp_pipeline.allocate.smallest import reachable, smallest_mix
from llamacpp_pipeline.config.spelling import did_you_mean
from llamacpp_pipeline.errors import UsageError
from llamacpp_pipeline.report.figures import number
from llamacpp_pipeline.report.measured import alpha_text, ordered, prediction_text, unpredicted
from llamacpp_pipeline.report.sensitivity_text import MEASURE
from llamacpp_pipeline.report.steps import OTHERS, RULES, curve_rows, step_lines
from llamacpp_pipeline.results.allocation import AllocatedTensor, Allocation
from llamacpp_pipeline.results.document import ResultsDocument
from llamacpp_pipeline.results.predicted import Prediction
from llamacpp_pipeline.results.refinement import Refinement
from llamacpp_pipeline.results.sensitivity import MeasuredTensor, SensitivityFacts
from llamacpp_pipeline.stages.refine_record import MEASURED, PRIOR
from llamacpp_pipeline.units import bits_per_weight

SHOWN = 24  # corners of a frontier in a table
KEPT = {PRIOR: "the assumed sensitivities", MEASURED: "the measured sensitivities"}
SAME_ALPHA = 0.001  # relative: the plan writes fewer digits
UNIT = "nats of mean KLD per unit of relative error"


def explanation(document: ResultsDocument, variant: str, tensor: str) -> str:
    """Why a tensor of a variant has its type.

    Raises:
        UsageError: where the variant, its allocation or the tensor is not in the results.

    """
    allocation = allocation_of(document, variant)
    chosen = {one.name: one for one in allocation.tensors}
    if tensor not in chosen:
        near = did_you_mean(tensor, tuple(chosen))
        raise UsageError(
            f"{variant} has no tensor {tensor} whose type was chosen{near}",
            hint=f"its {len(chosen)} tensors, such as {next(iter(chosen))}, are in"
            f" plots/allocation-{variant}.csv of the results",
        )
    found = chosen[tensor]
    parts = [
        f"{tensor} of {variant} is {found.type}: {found.bpw:.4f} bits per weight",
        "\n".join(sensitivity_lines(document.sensitivity, tensor, found.alpha)),
        validated_text(allocation.refinement),
    ]
    if found.status == "pinned":
        parts.append("pinned by the recipe: not chosen; the other tensors were chosen around it")
    measured = tensors_of(document).get(tensor)
    if measured is None:
        parts.append(f"its curve is not in the results: {MEASURE}")
    else:
        why_not = reason(measured, found.alpha, allocation.refinement)
        parts += curve_parts(measured, found, price_of(document, allocation), why_not)
    return "\n\n".join(part for part in parts if part) + "\n"


def curve_parts(
    tensor: MeasuredTensor, chosen: AllocatedTensor, price: float | None, why_not: str
) -> Iterator[str]:
    """Its curve, and what a step from its type would cost."""
    head = "mean KLD of the model with this tensor alone at a type, on the probe text (nats):"
    yield "\n".join((head, *curve_rows(tensor, chosen.type)))
    if all(at.type.casefold() != chosen.type.casefold() for at in tensor.types):
        said = "" if chosen.error is None else f"; the file's plan predicts {chosen.error:.2e} nats"
        yield f"{chosen.type} is not on the curve{said}"
    yield "\n".join(step_lines(tensor, chosen.type, price=price, why_not=why_not))


def validated_text(found: Refinement | None) -> str:
    """Which of the choices tried for a file was kept; empty where its types were taken as given."""
    if found is None:
        return ""
    of = KEPT.get(found.kept, f"values measured again at the solution ({found.kept})")
    return f"{len(found.mixes)} choices of types were tried; kept was that of {of}"


def reason(tensor: MeasuredTensor, used: float | None, tried: Refinement | None) -> str:
    """Why a step that looks worth it here may not have been taken."""
    if tried is not None:
        return RULES if tried.kept == MEASURED else OTHERS
    return OTHERS if made_with_another(tensor, used) else RULES


def made_with_another(tensor: MeasuredTensor, used: float | None) -> bool:
    """Whether the file's types were chosen with another alpha than the one measured."""
    return used is not None and abs(used - tensor.alpha.value) > SAME_ALPHA * tensor.alpha.value


def allocation_of(document: ResultsDocument, variant: str) -> Allocation:
    """How a variant's bits were given out.

    Raises:
        UsageError: where it is unknown, or a standard mix.

    """
    rows = {row.label: row for row in document.rows()}
    if variant not in rows:
        raise UsageError(f"no variant is named {variant}{did_you_mean(variant, tuple(rows))}")
    allocation = rows[variant].allocation
    if allocation is None:
        by_size = [label for label, row in rows.items() if row.allocation is not None]
        raise UsageError(
            f"{variant} is a standard mix: llama.cpp's own rules decide its types",
            hint=f"variants by size: {', '.join(by_size) or 'none in these results'}",
        )
    return allocation


def tensors_of(document: ResultsDocument) -> Mapping[str, MeasuredTensor]:
    """The tensors whose sensitivity was measured."""
    facts = document.sensitivity
    return {} if facts is None else {tensor.name: tensor for tensor in facts.tensors}


def sensitivity_lines(
    facts: SensitivityFacts | None, tensor: str, used: float | None
) -> Iterator[str]:
    """How much the tensor matters, among the others; what the file was made with, if another."""
    every = [] if facts is None else ordered(facts)
    rank = next((at for at, one in enumerate(every, start=1) if one.name == tensor), None)
    if rank is None:
        if used is not None:
            yield f"sensitivity (alpha): {used:.4g} {UNIT}, assumed"
        return
    one = every[rank - 1]
    yield (
        f"sensitivity (alpha): {alpha_text(one.alpha)} {UNIT}, measured;"
        f" rank {rank} of {len(every)}, 1 being the most sensitive"
    )
    if one.prior is not None:
        yield f"without measuring, {one.prior:.3g} would have been assumed (docs/target-bpw.md)"
    if made_with_another(one, used):
        yield f"this file was made with {used:.3g}"


def price_of(document: ResultsDocument, allocation: Allocation) -> float | None:
    """What the last byte gained at the allocation's size, nats; None where nothing tells."""
    names = {tensor.name for tensor in allocation.tensors}
    options = options_of(document)
    if not options or not names <= set(options):
        return None
    present = sum(round(t.bpw * t.elements / 8) for t in allocation.tensors)
    corner = best_within(frontier({name: options[name] for name in names}), present)
    return None if corner is None else corner.gain_per_byte


def options_of(document: ResultsDocument) -> dict[str, tuple[Option, ...]]:
    """What each measured tensor can be."""
    return {
        name: tuple(
            Option(type=at.type, n_bytes=at.bytes, divergence=at.divergence) for at in tensor.types
        )
        for name, tensor in tensors_of(document).items()
    }


def curve_text(document: ResultsDocument, *, kld: float | None = None) -> str:
    """Predicted divergence against size, with the files that were measured.

    Raises:
        UsageError: where no sensitivities were measured, or `kld` cannot be reached.

    """
    corners = frontier(options_of(document)) if document.sensitivity is not None else ()
    if not corners:
        raise UsageError("these results hold no measured sensitivities", hint=MEASURE)
    rest = rest_bytes(document)
    n_elements = document.reference.size.n_elements
    lines = [
        "predicted mean KLD (sum of single divergences) of the best mix of each size",
        "",
        f"{'tensors, bytes':>16}{'bpw':>9}{'KLD':>12}",
    ]
    for corner in thinned(corners):
        bpw = bits_per_weight(size_bytes=corner.n_bytes + rest, n_elements=n_elements)
        lines.append(
            f"{corner.n_bytes + rest:>16d}{bpw:>9.4f}{number(corner.divergence, digits=6):>12}"
        )
    lines += measured_lines(document, corners, rest)
    if kld is not None:
        lines += ["", wanted_line(document, kld)]
    return "\n".join(lines) + "\n"


def rest_bytes(document: ResultsDocument) -> int:
    """Bytes of the tensors that are never quantized, or were not measured."""
    kept = tensors_of(document).values()
    source = sum(max(at.bytes for at in tensor.types) for tensor in kept)
    return max(0, document.reference.size.tensor_bytes - source)


def thinned(corners: Sequence[Corner]) -> list[Corner]:
    """As many as a person reads, evenly in size, the ends among them."""
    if len(corners) <= SHOWN:
        return list(corners)
    low, high = corners[0].n_bytes, corners[-1].n_bytes
    wanted = [low + (high - low) * at / (SHOWN - 1) for at in range(SHOWN)]
    found = {best_within(corners, round(size)) for size in wanted}
    return [corner for corner in corners if corner in found]


def measured_lines(
    document: ResultsDocument, corners: Sequence[Corner], rest: int
) -> Iterator[str]:
    """The files of these results, what their own types predict, and what no mix can go below."""
    facts = document.sensitivity
    own = {} if facts is None else {one.label: one for one in facts.predictions}
    yield ""
    yield (
        f"{'file':<28}{'bpw':>9}{'measured KLD':>14}{'predicted':>12}{'ratio':>7}"
        f"{'least possible':>16}"
    )
    for row in (*document.variants, *document.references):
        if row.quality is None:
            continue
        least = least_at(corners, row.size.tensor_bytes - rest)
        bpw = bits_per_weight(size_bytes=row.size.tensor_bytes, n_elements=row.size.n_elements)
        yield (
            f"{row.label:<28}{bpw:>9.4f}{row.quality.mean_kld.value:>14.6f}"
            f"{predicted_cells(own.get(row.label))}"
            f"{number(least, digits=6):>16}"
        )
    if facts is not None and facts.predictions:
        said = prediction_text(document)
        yield from ("", *([said] if said else []), *unpredicted(facts))


def predicted_cells(found: Prediction | None) -> str:
    """What a file's own types predict, and that over what was measured."""
    if found is None or found.predicted is None:
        return f"{'-':>12}{'-':>7}"
    ratio = "-" if found.ratio is None else f"{found.ratio:.2f}"
    return f"{found.predicted:>12.6f}{ratio:>7}"


def wanted_line(document: ResultsDocument, kld: float) -> str:
    """The smallest mix of at most a divergence.

    Raises:
        UsageError: where none reaches it, or the smallest of all has less.

    """
    options = options_of(document)
    mix, ends = smallest_mix(options, kld), reachable(options)
    if mix is None or kld > ends.most:
        raise UsageError(
            f"no mix is predicted to have a mean KLD of {kld:g}",
            hint=f"they have {ends.least:.3g} to {ends.most:.3g}",
        )
    size = mix.n_bytes + rest_bytes(document)
    bpw = bits_per_weight(size_bytes=size, n_elements=document.reference.size.n_elements)
    return f"mean KLD {kld:g}: from {bpw:.4f} bpw ({size} bytes of tensors); ask for `kld: {kld:g}`"
