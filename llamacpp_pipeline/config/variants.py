"""One output GGUF as the YAML asks for it: by a file type, or by a size of some kind."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt, model_validator

from llamacpp_pipeline.config.candidates import CandidateConfig, Candidates
from llamacpp_pipeline.config.hub_file import FileStem
from llamacpp_pipeline.config.sizes import Bytes, size_label
from llamacpp_pipeline.stages.base import Frozen
from llamacpp_pipeline.stages.memory import KvType
from llamacpp_pipeline.stages.quant_types import UNQUANTIZED
from llamacpp_pipeline.stages.quantize import Ftype
from llamacpp_pipeline.stages.quantize_target import Bpw, Kld, TargetRules

OF_TARGETS = (
    "type_set",
    "same_type",
    "min_types",
    "max_types",
    "sensitivity",
)  # mean nothing with an ftype
SensitivitySource = Literal["measured", "prior"]
Way = Literal["ftype", "bpw", "size", "fit", "match", "kld"]
WAYS: tuple[Way, ...] = ("ftype", "bpw", "size", "fit", "match", "kld")


class FitConfig(Frozen):
    """A memory in which the file, its context and its buffers must find room."""

    memory: Bytes
    context: PositiveInt  # tokens
    kv_type: KvType = "f16"


class VariantConfig(TargetRules):
    """One output GGUF. In YAML a bare file type (`- Q4_K_M`) stands for `{ftype: Q4_K_M}`.

    A ladder, `{bpw: [3.5, 4.5]}`, is written out before this sees it (config/load.py).
    """

    ftype: Ftype | None = None
    bpw: Bpw | None = None  # at most so many bits per weight
    size: Bytes | None = None  # a file of at most so many bytes
    fit: FitConfig | None = None  # the largest file that still fits
    match: str | None = None  # as many bits per weight as that variant
    kld: Kld | None = None  # the smallest file that is predicted to have no more, nats
    name: FileStem | None = None  # default: what it is asked for by
    imatrix: bool = True
    candidates: Candidates = ()  # other ways to make it, of which the best is kept
    pure: bool = False
    sensitivity: SensitivitySource | None = None  # default: measured, where `sensitivity` is given

    @model_validator(mode="after")
    def one_way(self) -> VariantConfig:
        given = [way for way in WAYS if getattr(self, way) is not None]
        if len(given) != 1:
            found = f"not {' and '.join(given)}" if given else "there is none"
            message = f"give exactly one of {', '.join(WAYS)}: {found}"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def nothing_that_would_be_ignored(self) -> VariantConfig:
        fields = type(self).model_fields
        stray = [name for name in OF_TARGETS if getattr(self, name) != fields[name].default]
        if self.ftype is not None and stray:
            message = f"{stray[0]} is for variants by bpw, size, fit, match or kld, not by ftype"
            raise ValueError(message)
        if self.ftype is None and self.pure:
            message = "pure asks for one type everywhere, a size for a choice of types"
            raise ValueError(message)
        if self.tensor_types and self.ftype in UNQUANTIZED:
            message = f"llama-quantize ignores tensor_types where the file type is {self.ftype}"
            raise ValueError(message)
        return self

    @property
    def way(self) -> Way:
        """What it is asked for by."""
        return next(way for way in WAYS if getattr(self, way) is not None)

    @property
    def measured(self) -> bool:
        """Whether measured sensitivities, where there are any, choose its types.

        They are of tensors quantized with the imatrix, so a variant without it has none.
        """
        return self.way != "ftype" and self.sensitivity != "prior" and self.imatrix

    @property
    def label(self) -> str:
        """The variant's name in tables and file names."""
        said = self.name or self.ftype
        if said is not None:
            return said
        if self.bpw is not None:
            return f"{self.bpw:g}bpw"
        if self.size is not None:
            return size_label(self.size)
        if self.fit is not None:
            return f"fit-{size_label(self.fit.memory)}-{self.fit.context}"
        if self.kld is not None:
            return f"kld{self.kld:g}"
        return f"{self.match}-matched"

    def or_from(self, default: Candidates) -> VariantConfig:
        """The variant with these candidates, where it is one by size that has none of its own."""
        if self.way == "ftype" or self.candidates:
            return self
        return self.model_copy(update={"candidates": default})

    def candidate(self, other: CandidateConfig) -> VariantConfig:
        """The variant as one of its candidates would make it.

        Raises:
            ValidationError: where the two do not go together.

        """
        kept = {"imatrix": self.imatrix} if other.starts_afresh else self.model_dump()
        matrix = self.imatrix if other.imatrix is None else other.imatrix is not False
        whole = {**kept, **other.changes, "imatrix": matrix, "name": self.label, "candidates": ()}
        return type(self).model_validate(whole)
