"""What a file by size has otherwise than the standard mix of its size: which tensors got the bits.

Elements and bytes of both files are known tensor by tensor, so nothing is estimated here but the
divergences, which are those of single tensors (results/predicted.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llamacpp_pipeline.results.allocation import AllocatedTensor, Allocation
from llamacpp_pipeline.results.document import ResultsDocument
from llamacpp_pipeline.results.predicted import part_of, planned_errors
from llamacpp_pipeline.results.sensitivity import known as known_of
from llamacpp_pipeline.results.table import VariantRow
from llamacpp_pipeline.stages.gguf_facts import bytes_at
from llamacpp_pipeline.units import bits_per_weight

GIVEN = "given"  # of alpha_sources: measured sensitivities were used
SAME_SIZE = 0.05  # of its tensors: a mix that is larger or smaller by more is no rival
Cost = Callable[[str, str, "float | None"], "float | None"]


@dataclass(frozen=True, kw_only=True)
class TensorChange:
    """One tensor in both files."""

    name: str
    role: str
    elements: int
    before: str  # ggml type in the standard mix
    after: str
    bytes_before: int
    bytes_after: int
    divergence_before: float | None  # nats, with this tensor alone at the type; None: not known
    divergence_after: float | None

    @property
    def more(self) -> int:
        """Bytes it got."""
        return self.bytes_after - self.bytes_before


@dataclass(frozen=True, kw_only=True)
class RoleChange:
    """All tensors of one role."""

    role: str
    n_tensors: int
    bpw_before: float
    bpw_after: float
    more: int  # bytes
    divergence_before: float | None  # the sum of theirs; None where one is not known
    divergence_after: float | None


@dataclass(frozen=True, kw_only=True)
class Change:
    """A file by size against another, tensor by tensor."""

    row: VariantRow
    against: VariantRow
    asked: bool  # whether it was to be as large as that one; else that one is the nearest in size
    tensors: tuple[TensorChange, ...]

    @property
    def moved(self) -> int:
        """Bytes that other tensors have now: what was taken from some and given to others."""
        got = sum(max(tensor.more, 0) for tensor in self.tensors)
        lost = sum(max(-tensor.more, 0) for tensor in self.tensors)
        return min(got, lost)

    @property
    def more(self) -> int:
        """Bytes that it has in all beyond the other."""
        return sum(tensor.more for tensor in self.tensors)

    @property
    def kld_ratio(self) -> float | None:
        """Its measured mean KLD over the other's; None where one was not measured."""
        one, other = self.row.quality, self.against.quality
        if one is None or other is None or other.mean_kld.value <= 0:
            return None
        return one.mean_kld.value / other.mean_kld.value


def changes(document: ResultsDocument) -> tuple[Change, ...]:
    """Each file that measured sensitivities gave its types, against the mix of its size."""
    found = (
        _change(document, row)
        for row in document.variants
        if row.allocation is not None and by_measurement(row.allocation)
    )
    return tuple(change for change in found if change is not None)


def by_measurement(found: Allocation) -> bool:
    """Whether measurements decided the types: sensitivities, or a validation of several choices."""
    return GIVEN in found.alpha_sources or found.refinement is not None


def roles(change: Change) -> tuple[RoleChange, ...]:
    """By role, those that got most first."""
    names = dict.fromkeys(tensor.role for tensor in change.tensors)
    found = [_role(role, [t for t in change.tensors if t.role == role]) for role in names]
    return tuple(sorted(found, key=lambda role: (-role.more, role.role)))


def moved_most(change: Change, *, n: int) -> tuple[list[TensorChange], list[TensorChange]]:
    """The tensors that got the most bytes, and those that lost the most; at most `n` of each."""
    ordered = sorted(change.tensors, key=lambda tensor: (-tensor.more, tensor.name))
    got = [tensor for tensor in ordered if tensor.more > 0]
    lost = [tensor for tensor in reversed(ordered) if tensor.more < 0]
    return got[:n], lost[:n]


def _change(document: ResultsDocument, row: VariantRow) -> Change | None:
    if row.allocation is None:
        return None
    asked = document.row(row.allocation.matched or "")
    against = asked or _nearest(document, row)
    if against is None or not against.tensors:
        return None
    cost, errors = _costs(document), planned_errors(row)
    tensors = tuple(
        _tensor(tensor, against.tensors[tensor.name], cost=cost, rho=errors.get(tensor.name))
        for tensor in row.allocation.tensors
        if tensor.name in against.tensors
    )
    return Change(row=row, against=against, asked=against is asked, tensors=tensors)


def _nearest(document: ResultsDocument, row: VariantRow) -> VariantRow | None:
    """The standard mix among the variants whose size is nearest, where it is about the same."""
    mixes = [
        one
        for one in document.variants
        if one.allocation is None and one.tensors and size_distance(one, row) <= SAME_SIZE
    ]
    return min(mixes, key=lambda one: size_distance(one, row), default=None)


def size_distance(one: VariantRow, other: VariantRow) -> float:
    """Between two files' tensors, relative."""
    return abs(one.size.tensor_bytes / other.size.tensor_bytes - 1)


def _costs(document: ResultsDocument) -> Cost:
    """What a tensor costs alone at a type, of which its relative error may be known."""
    facts = document.sensitivity
    known = {} if facts is None else known_of(facts.tensors)
    noise = 0.0 if facts is None or facts.fit is None else facts.fit.noise
    return lambda name, kind, rho: part_of(known[name], kind, rho, noise) if name in known else None


def _tensor(tensor: AllocatedTensor, before: str, *, cost: Cost, rho: float | None) -> TensorChange:
    return TensorChange(
        name=tensor.name,
        role=tensor.role.removesuffix(".weight"),
        before=before,
        after=tensor.type,
        elements=tensor.elements,
        bytes_before=bytes_at(before, tensor.elements),
        bytes_after=bytes_at(tensor.type, tensor.elements),
        divergence_before=cost(tensor.name, before, None),
        divergence_after=cost(tensor.name, tensor.type, rho),
    )


def _role(role: str, tensors: list[TensorChange]) -> RoleChange:
    elements = sum(tensor.elements for tensor in tensors)
    before, after = (
        sum(tensor.bytes_before for tensor in tensors),
        sum(tensor.bytes_after for tensor in tensors),
    )
    return RoleChange(
        role=role,
        n_tensors=len(tensors),
        bpw_before=bits_per_weight(size_bytes=before, n_elements=elements),
        bpw_after=bits_per_weight(size_bytes=after, n_elements=elements),
        more=after - before,
        divergence_before=_sum([tensor.divergence_before for tensor in tensors]),
        divergence_after=_sum([tensor.divergence_after for tensor in tensors]),
    )


def _sum(parts: list[float | None]) -> float | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None
