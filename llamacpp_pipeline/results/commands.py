"""Commands as run, with the names their files have in the result folder."""

from __future__ import annotations

from llamacpp_pipeline.plan.datasets import DATASET
from llamacpp_pipeline.plan.step import Input, Leaf, Step
from llamacpp_pipeline.results.document import CommandRun
from llamacpp_pipeline.results.files import file_names
from llamacpp_pipeline.results.record import StepRecord
from llamacpp_pipeline.results.run import RunRecords
from llamacpp_pipeline.stages import imatrix_merge
from llamacpp_pipeline.stages.fetch import FetchResult

MAKING = frozenset({imatrix_merge.STAGE.name})
INPUTS = "in"  # the staging folder's folder of inputs: in/<input>/<file>


def commands_run(run: RunRecords) -> tuple[CommandRun, ...]:
    """What llama.cpp was asked, in the plan's order; of our own tools, what makes a file."""
    return tuple(
        CommandRun(step=step.key, argv=(*_python(record), *_readable(run, step, record=record)))
        for step in run.plan.steps
        if (record := run.records.get(step.key)) is not None
        and (record.made_by != "pipeline" or record.stage in MAKING)
    )


def _python(record: StepRecord) -> tuple[str, ...]:
    return ("python", "-m") if record.made_by == "pipeline" else ()


def _readable(run: RunRecords, step: Step, *, record: StepRecord) -> tuple[str, ...]:
    published = file_names(run)
    names = {
        name: published.get((step.key, output), name) for output, name in step.stage.outputs.items()
    }
    inputs = {name: _name(run, source) for name, source in step.inputs.items()}
    return tuple(_argument(argument, inputs=inputs, outputs=names) for argument in record.command)


def _argument(argument: str, *, inputs: dict[str, str], outputs: dict[str, str]) -> str:
    flag, equals, value = argument.partition("=")
    if equals and value.startswith(f"{INPUTS}/"):
        return f"{flag}={_argument(value, inputs=inputs, outputs=outputs)}"
    parts = argument.split("/")
    if parts[0] == INPUTS and len(parts) > 1 and parts[1] in inputs:
        return inputs[parts[1]] or parts[-1]
    return outputs.get(argument, argument)


def _name(run: RunRecords, source: Input) -> str:
    """What an input is called; nothing for a given file, whose own name stands in the command."""
    if isinstance(source, Leaf):
        return run.name if source == run.input_of("convert", "model") else ""
    if source.member is not None:
        return source.member.rsplit("/", 1)[-1]
    if source.step.startswith(f"{DATASET}/"):
        return f"{source.step.partition('/')[2]}.{source.output}"
    if (source.step, source.output) in (names := file_names(run)):
        return names[source.step, source.output]
    fetched = run.result(source.step, FetchResult) if source.output == "files" else None
    return source.output if fetched is None else fetched.repo.rsplit("/", 1)[-1]
