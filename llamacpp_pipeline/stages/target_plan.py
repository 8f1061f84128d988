"""The plan that llama-quantize writes for a size target (`--plan-file`), read and checked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from gguf import LlamaFileType
from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic import ValidationError as WrongFormError

from llamacpp_pipeline.errors import UnreadableOutputError
from llamacpp_pipeline.stages.base import Frozen
from llamacpp_pipeline.stages.gguf_facts import GgufFacts

TOOL = "llama-quantize"
FORMAT = "llama-quant-bpw-plan"
BLOCK = re.compile(r"^(?:\w+\.)?blk\.(?P<layer>\d+)\.(?P<role>.+?)(?:\.weight)?$")
SHOWN = 6

Status = Literal["chosen", "pinned", "kept"]
Origin = Literal["prior", "given"]


class PlannedTensor(Frozen):
    """One tensor of the plan: what it became and what that is said to cost."""

    name: str
    status: Status
    type: str
    bytes: PositiveInt
    elements: PositiveInt
    alpha: float | None = None  # sensitivity: divergence per unit of rho
    error: float | None = None  # its part of the objective: alpha x rho at this type

    @property
    def layer(self) -> int | None:
        """The number of its block; None outside the blocks."""
        found = BLOCK.match(self.name)
        return None if found is None else int(found["layer"])

    @property
    def role(self) -> str:
        """Its name without block and suffix: `ffn_down`, `token_embd`."""
        found = BLOCK.match(self.name)
        return self.name.removesuffix(".weight") if found is None else found["role"]


class WrittenTensor(BaseModel):
    """A tensor as the tool writes it; its curve of other types is not kept."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    status: Status
    type: str
    source_type: str | None = None
    bytes: PositiveInt
    elements: PositiveInt
    alpha: float | None = None
    alpha_source: Origin | None = None
    error: float | None = None


class WrittenPlan(BaseModel):
    """The file as the tool writes it, as far as it is kept."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal["llama-quant-bpw-plan"]
    version: Literal[1]
    bpw: PositiveFloat
    elements: PositiveInt
    tensor_bytes: PositiveInt
    file_bytes: PositiveInt
    budget_bytes: PositiveInt
    min_bytes: PositiveInt
    max_bytes: PositiveInt
    file_type: NonNegativeInt
    objective: float
    dual_bound: float
    gap: float
    optimal: bool
    rounds: NonNegativeInt
    measured: NonNegativeInt
    reused: NonNegativeInt
    tensors: tuple[WrittenTensor, ...]

    @property
    def ftype(self) -> str:
        """The standard mix that the file is labelled with, which is the nearest one."""
        return str(LlamaFileType(self.file_type).name).removeprefix("MOSTLY_")

    @property
    def alpha_sources(self) -> tuple[str, ...]:
        """Where the sensitivities come from: prior, given, or both."""
        found = {t.alpha_source for t in self.tensors if t.alpha_source is not None}
        return tuple(sorted(found))

    @property
    def quantized(self) -> tuple[PlannedTensor, ...]:
        """The tensors that the plan decides or the user has pinned."""
        kept = PlannedTensor.model_fields.keys()
        return tuple(
            PlannedTensor(**{name: getattr(tensor, name) for name in kept})
            for tensor in self.tensors
            if tensor.status != "kept"
        )


def read_plan(path: Path) -> WrittenPlan:
    """The plan file.

    Raises:
        UnreadableOutputError: where it is not there, or not of this form.

    """
    try:
        return WrittenPlan.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UnreadableOutputError(TOOL, "its plan", (str(error.strerror),)) from error
    except WrongFormError as error:
        wrong = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:SHOWN]]
        form = f"a plan of the form {FORMAT}, version 1"
        raise UnreadableOutputError(TOOL, form, wrong) from error


def refuse_another_plan(plan: WrittenPlan, facts: GgufFacts) -> None:
    """Refuse a file that is not what the plan says, tensor by tensor and byte by byte.

    Raises:
        UnreadableOutputError: naming what differs.

    """
    planned = {tensor.name: tensor.type for tensor in plan.tensors}
    made = {tensor.name: tensor.type for tensor in facts.tensors}
    wrong = [
        f"{name}: {made.get(name, 'not there')} instead of {planned.get(name, 'nothing')}"
        for name in sorted(planned.keys() | made.keys())
        if planned.get(name) != made.get(name)
    ]
    if plan.file_bytes != facts.file_bytes:
        wrong.append(f"the file: {facts.file_bytes} bytes instead of {plan.file_bytes}")
    if plan.tensor_bytes != facts.tensor_bytes:
        wrong.append(f"its tensors: {facts.tensor_bytes} bytes instead of {plan.tensor_bytes}")
    if wrong:
        raise UnreadableOutputError(TOOL, "the file that it planned", shown(wrong))


def shown(lines: Sequence[str]) -> tuple[str, ...]:
    """As many as a person reads."""
    more = len(lines) - SHOWN
    return (*lines[:SHOWN], *((f"and {more} more",) if more > 0 else ()))
