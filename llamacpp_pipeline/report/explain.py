"""Why a tensor has its type, and what more or fewer bits would bring: tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from llamacpp_pipeline.allocate.frontier import (
    Corner,
    Option,
    best_within,
    frontier,
)
from llamacpp_pipeline.allocate.smallest import reachable, smallest_mix
from llamacpp_pipeline.config.spelling import did_you_mean
from llamacpp_pipeline.errors import UsageError
from llamacpp_pipeline.results.allocation import Allocation
from llamacpp_pipeline.results.document import ResultsDocument
from llamacpp_pipeline.results.sensitivity import MeasuredTensor, SensitivityFacts
from llamacpp_pipeline.units import bits_per_weight

SHOWN = 24  # corners of a frontier in a table
MEASURE = "add `sensitivity: {corpus: ...}` to the config and run it again"


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
            hint=f"its tensors: `llamacpp-pipeline results` or {variant}'s plan",
        )
    found = chosen[tensor]
    lines = [f"{tensor} of {variant}: {found.type}, {found.bpw:.4f} bits per weight"]
    if found.status == "pinned":
        lines.append("pinned by the recipe: it was not chosen, the other tensors were around it")
    lines += [*sensitivity_lines(document.sensitivity, tensor, found.alpha)]
    measured = tensors_of(document).get(tensor)
    if measured is None:
        lines.append(f"its curve is not in the results: {MEASURE}")
    else:
        lines += curve_lines(measured, found.type, price_of(document, allocation))
    return "\n".join(lines) + "\n"


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
    """How much the tensor matters, among the others."""
    if used is not None:
        yield f"sensitivity used: {used:.4g} nats per unit of relative error"
    if facts is None:
        return
    order = sorted(facts.tensors, key=lambda one: -one.alpha.value)
    rank = next((at for at, one in enumerate(order, start=1) if one.name == tensor), None)
    if rank is not None:
        one = order[rank - 1]
        prior = "" if one.prior is None else f"; the prior would be {one.prior:.4g}"
        stderr = "" if one.alpha.stderr is None else f" ± {one.alpha.stderr:.2g}"
        yield f"measured: {one.alpha.value:.4g}{stderr}, rank {rank} of {len(order)}{prior}"


def curve_lines(tensor: MeasuredTensor, present: str, price: float | None) -> Iterator[str]:
    """Every type: what it takes, what it costs, and the price of the step from the present one."""
    now = next((at for at in tensor.types if at.type.casefold() == present.casefold()), None)
    yield ""
    yield f"{'type':<10}{'bpw':>9}{'divergence':>13}{'':>10}{'against ' + present:>34}"
    for at in tensor.types:
        bpw = bits_per_weight(size_bytes=at.bytes, n_elements=tensor.elements)
        how = "predicted" if at.measured is None else "measured"
        step = (
            ""
            if now is None or at is now
            else step_text(at.bytes - now.bytes, at.divergence - now.divergence)
        )
        mark = " <" if at is now else ""
        yield f"{at.type:<10}{bpw:>9.4f}{at.divergence:>13.3e} {how:>9}{step:>34}{mark}"
    if price is not None:
        yield ""
        yield f"at this size a byte is worth {price:.2e} nats: a step up that gains less per byte,"
        yield "or a step down that saves more, would be the better use of it elsewhere"


def step_text(n_bytes: int, divergence: float) -> str:
    """A step to another type."""
    per_byte = "" if n_bytes == 0 else f", {abs(divergence / n_bytes):.1e}/B"
    return f"{n_bytes:+d} B {divergence:+.2e}{per_byte}"


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
        lines.append(f"{corner.n_bytes + rest:>16d}{bpw:>9.4f}{corner.divergence:>12.6f}")
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
    """The files of these results, and what the best mix of their size is predicted to reach."""
    yield ""
    yield f"{'file':<28}{'bpw':>9}{'measured KLD':>14}{'best mix, predicted':>22}"
    for row in (*document.variants, *document.references):
        best = best_within(corners, row.size.tensor_bytes - rest)
        if row.quality is None:
            continue
        predicted = "-" if best is None else f"{best.divergence:.6f}"
        bpw = bits_per_weight(size_bytes=row.size.tensor_bytes, n_elements=row.size.n_elements)
        yield f"{row.label:<28}{bpw:>9.4f}{row.quality.mean_kld.value:>14.6f}{predicted:>22}"


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
