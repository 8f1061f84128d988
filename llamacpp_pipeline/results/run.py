"""RunRecords: a plan, what its steps left, and what was asked: all that results are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from pydantic import ValidationError

from llamacpp_pipeline.config.schema import PipelineConfig
from llamacpp_pipeline.errors import PipelineError
from llamacpp_pipeline.plan.step import Input, Plan
from llamacpp_pipeline.results.documented import Documented
from llamacpp_pipeline.results.record import OutputFile, StepRecord
from llamacpp_pipeline.stages.base import Frozen

R = TypeVar("R", bound=Frozen)


class ToolchainFacts(Documented):
    """The llama.cpp that made and measured the files."""

    build_id: str
    """Digest of the patched source, the flags and the compiler."""
    commit: str
    """The commit of llama.cpp that the source comes from; "local" for a user's own checkout."""
    backend: str
    """cpu, cuda, metal, vulkan or hip."""
    flags: tuple[str, ...] = ()
    """The CMake definitions that are part of the BuildId."""
    patches: tuple[str, ...] = ()
    """The patches applied, in order."""
    converter_id: str | None = None
    """Digest of the converter's source and of the versions of the packages it runs on."""
    note: str | None = None
    """Set where the source is a user's own checkout: its figures are not of the pinned commit."""


@dataclass(frozen=True, kw_only=True)
class RunRecords:
    """One run. `records` has the finished steps; a step that failed has none."""

    name: str  # the model's, and the stem of every file made
    plan: Plan
    records: Mapping[str, StepRecord]
    config: PipelineConfig
    toolchain: ToolchainFacts

    def result(self, key: str, kind: type[R]) -> R | None:
        """The typed result of a step; None where the step did not finish or is not in the plan.

        Raises:
            PipelineError: where the record holds something else.

        """
        record = self.records.get(key)
        if record is None:
            return None
        try:
            return kind.model_validate(record.result)
        except ValidationError as error:
            raise _unreadable(key, error) from error

    def needed(self, key: str) -> StepRecord:
        """The record of a step without which there is nothing to report.

        Raises:
            PipelineError: where the step has no record.

        """
        record = self.records.get(key)
        if record is None:
            raise PipelineError(
                f"results of {self.name}: the step {key!r} has no record",
                hint="run the pipeline again: finished steps are kept, this one is done anew",
            )
        return record

    def needed_result(self, key: str, kind: type[R]) -> R:
        """The typed result of a step without which there is nothing to report.

        Raises:
            PipelineError: where the step has no record.

        """
        self.needed(key)
        result = self.result(key, kind)
        if result is None:  # pragma: no cover - `needed` has raised
            raise AssertionError(key)
        return result

    def input_of(self, key: str, name: str) -> Input | None:
        """An input of a step of the plan; None where the plan has no such step or input."""
        step = next((step for step in self.plan.steps if step.key == key), None)
        return None if step is None else step.inputs.get(name)

    def missing(self) -> tuple[str, ...]:
        """The steps of the plan that have no record, in the plan's order."""
        return tuple(step.key for step in self.plan.steps if step.key not in self.records)


def output_file(record: StepRecord, output: str, member: str | None = None) -> OutputFile:
    """The one file of an output, or one member of an output that is a folder.

    Raises:
        PipelineError: where the record has no such file, or several.

    """
    files = [file for file in record.outputs if file.output == output]
    if member is not None:
        files = [file for file in files if ends_with(file.name, member)]
    if len(files) != 1:
        wanted = output if member is None else f"{output}/{member}"
        raise PipelineError(
            f"record of {record.stage}: {len(files)} files where {wanted!r} should be one",
            evidence=[file.name for file in record.outputs],
            hint="run `llamacpp-pipeline cache verify`",
        )
    return files[0]


def ends_with(name: str, member: str) -> bool:
    """Whether the path `name` is `member` or lies at it under a folder."""
    return name == member or name.endswith(f"/{member}")


def _unreadable(key: str, error: ValidationError) -> PipelineError:
    return PipelineError(
        f"record of {key}: its result does not have the form that this version reads",
        evidence=[f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5]],
        hint="run `llamacpp-pipeline cache verify`; a record of another version is made anew",
    )
