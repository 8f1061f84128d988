"""Candidates of a variant: other ways to make it, of which the best is kept."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt, StringConstraints, model_validator

from llamacpp_pipeline.config.corpus import CorpusConfig
from llamacpp_pipeline.stages.base import Frozen
from llamacpp_pipeline.stages.quantize import Ftype, TensorPattern, TensorType
from llamacpp_pipeline.stages.quantize_target import TypeSet
from llamacpp_pipeline.stages.select import LARGER_BY, MOST_CANDIDATES

CandidateName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]
FIRST = "base"  # the variant itself among its candidates
SEPARATOR = "~"  # in step keys: quantize/<variant>~<candidate>
OWN = frozenset({"name", "imatrix"})  # not simply taken over into the variant's recipe
START = ("ftype",)  # with one of these a candidate begins with a recipe of its own


class CandidateConfig(Frozen):
    """What differs from the variant. A bare file type stands for `{ftype: Q4_K_M}`."""

    name: CandidateName | None = None  # default: the ftype
    ftype: Ftype | None = None
    tensor_types: dict[TensorPattern, TensorType] | None = None
    output_tensor_type: TensorType | None = None
    token_embedding_type: TensorType | None = None
    leave_output_tensor: bool | None = None
    pure: bool | None = None
    type_set: TypeSet | None = None
    same_type: tuple[TensorPattern, ...] | None = None
    min_types: dict[TensorPattern, TensorType] | None = None
    max_types: dict[TensorPattern, TensorType] | None = None
    sensitivity: Literal["measured", "prior"] | None = None
    imatrix: bool | CandidateName | None = None  # or the name of one calibration text

    @model_validator(mode="before")
    @classmethod
    def bare_file_type(cls, given: Any) -> Any:  # noqa: ANN401  pydantic's own
        return {"ftype": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def named_and_different(self) -> CandidateConfig:
        if self.name is None and self.ftype is None:
            message = "give the candidate a `name`"
            raise ValueError(message)
        if self.label == FIRST:
            message = f"`{FIRST}` is the variant itself: take another `name`"
            raise ValueError(message)
        if not self.changes and self.imatrix is None:
            message = "says nothing that differs from the variant"
            raise ValueError(message)
        return self

    @property
    def label(self) -> str:
        """Its name in step keys and tables."""
        return self.name or self.ftype or ""

    @property
    def changes(self) -> dict[str, Any]:
        """The keys of the recipe that it says."""
        return {
            key: value
            for key in type(self).model_fields
            if key not in OWN and (value := getattr(self, key)) is not None
        }

    @property
    def starts_afresh(self) -> bool:
        """Whether it takes nothing of the variant's recipe but the imatrix."""
        return any(key in self.changes for key in START)


Candidates = Annotated[tuple[CandidateConfig, ...], Field(max_length=MOST_CANDIDATES - 1)]


class SelectionConfig(Frozen):
    """How the best candidate of a variant is chosen."""

    candidates: Candidates = ()  # of each variant by size that has none of its own
    larger_by: NonNegativeFloat = LARGER_BY
    tasks: bool = False  # score every candidate, so that tasks can settle a tie
    corpus: CorpusConfig | None = None  # what is chosen on; default: the evaluation text
    n_ctx: PositiveInt | None = None  # with `corpus`; default: evaluation.n_ctx
    n_chunks: PositiveInt | None = None  # with `corpus`; default: all of it

    @model_validator(mode="after")
    def cut_with_corpus(self) -> SelectionConfig:
        if self.corpus is None and (self.n_ctx or self.n_chunks):
            message = "`n_ctx` and `n_chunks` cut a text of its own: give `corpus` too"
            raise ValueError(message)
        return self
