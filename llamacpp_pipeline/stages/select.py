"""One file out of several candidates: the decision, and the kept file under its own name."""

from __future__ import annotations

import errno
import math
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from pydantic import (
    BaseModel,
    ConfigDict,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)

from llamacpp_pipeline.errors import InputError, UnreadableOutputError
from llamacpp_pipeline.stages import own_tool
from llamacpp_pipeline.stages.answer_bits import unpacked
from llamacpp_pipeline.stages.base import Argv, Frozen, Paths, ToolStage
from llamacpp_pipeline.stages.gguf_facts import read_gguf
from llamacpp_pipeline.stages.kld import KldResult
from llamacpp_pipeline.stages.llama_log import complaints
from llamacpp_pipeline.stages.selection import Candidate, Decision, decide
from llamacpp_pipeline.units import Estimate

TOOL = "llamacpp_pipeline.stages.select"
MOST_CANDIDATES = 16
MOST_SETS = 16
LARGER_BY = 0.005
NO_LINKS = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP})


class SelectParams(Frozen):
    """The candidates' names, in the order of the inputs; the first sets the size."""

    names: tuple[str, ...]
    larger_by: NonNegativeFloat = LARGER_BY  # share by which a candidate's file may be larger
    n_sets: NonNegativeInt = 0  # evaluation sets on which each candidate was scored


class SizeRead(BaseModel):
    """What the record of any step that quantizes says of the size."""

    model_config = ConfigDict(extra="ignore")

    file_bytes: PositiveInt
    bpw: PositiveFloat


class QuantizeRecord(BaseModel):
    model_config = ConfigDict(extra="ignore")

    result: SizeRead


class KldRecord(BaseModel):
    model_config = ConfigDict(extra="ignore")

    result: KldResult


class ScoreRead(BaseModel):
    """What the record of a set's tasks says of the score."""

    model_config = ConfigDict(extra="ignore")

    n_tasks: PositiveInt
    score: Estimate  # percent
    correct: str  # as answer_bits has it


class ScoreRecord(BaseModel):
    model_config = ConfigDict(extra="ignore")

    result: ScoreRead


def file_name(at: int) -> str:
    """The input that is the file of the candidate at a position from 0."""
    return f"gguf{at + 1}"


def size_name(at: int) -> str:
    """The input that is the record of the step that made it."""
    return f"size{at + 1}"


def quality_name(at: int) -> str:
    """The input that is the record of its KLD."""
    return f"quality{at + 1}"


def score_name(at: int, number: int) -> str:
    """The input that is the record of its score on a set."""
    return f"score{at + 1}-{number + 1}"


def argv(params: SelectParams, paths: Paths) -> Argv:
    candidates = [
        ("--candidate", name, *(str(paths[of(at)]) for of in (file_name, size_name, quality_name)))
        for at, name in enumerate(params.names)
    ]
    return (
        TOOL,
        *(word for candidate in candidates for word in candidate),
        *(
            word
            for at, name in enumerate(params.names)
            for number in range(params.n_sets)
            for word in ("--score", name, str(paths[score_name(at, number)]))
        ),
        *("--larger-by", str(params.larger_by)),
        *("--output", str(paths["gguf"])),
        *("--decision", str(paths["decision"])),
    )


def parse(log: str, paths: Paths) -> Decision:
    try:
        decision = Decision.model_validate_json(paths["decision"].read_bytes())
    except (OSError, ValidationError) as error:
        raise UnreadableOutputError(TOOL, "its decision", complaints(log)) from error
    kept = next(one for one in decision.candidates if one.name == decision.kept)
    size = read_gguf(paths["gguf"]).file_bytes
    if size != kept.file_bytes:
        evidence = (f"{size} bytes", f"{kept.name} has {kept.file_bytes}")
        raise UnreadableOutputError(TOOL, "the file it decided for", evidence)
    return decision


def complete(params: SelectParams, result: Decision, paths: Paths) -> Decision:
    """The decision, once it is known to be about the candidates asked for."""
    del paths
    names = tuple(one.name for one in result.candidates)
    if names != params.names:
        evidence = (f"asked: {', '.join(params.names)}", f"judged: {', '.join(names)}")
        raise UnreadableOutputError(TOOL, "a decision between the candidates", evidence)
    return result


def read_candidate(
    name: str, size: Path, quality: Path, *, scores: Sequence[Path] = ()
) -> Candidate:
    """A candidate from the records of the steps that made, measured and scored it.

    Raises:
        InputError: where one of them is not such a record.

    """
    try:
        made = QuantizeRecord.model_validate_json(size.read_bytes()).result
        measured = KldRecord.model_validate_json(quality.read_bytes()).result
        scored = [ScoreRecord.model_validate_json(path.read_bytes()).result for path in scores]
    except (OSError, ValidationError) as error:
        raise InputError(
            f"candidate {name}: its record cannot be read",
            evidence=str(error).splitlines()[:4],
            hint="check the store: llamacpp-pipeline cache verify",
        ) from error
    return Candidate(
        name=name,
        file_bytes=made.file_bytes,
        bpw=made.bpw,
        quality=measured,
        task_average=average(scored) if scored else None,
        answers=tuple(unpacked(one.correct, one.n_tasks) for one in scored),
    )


def average(scores: Sequence[ScoreRead]) -> Estimate:
    """The mean of scores on different sets, percent, each set counting the same."""
    n = len(scores)
    errors = (binomial_error(one) for one in scores)
    return Estimate(
        value=sum(one.score.value for one in scores) / n, stderr=math.hypot(*errors) / n
    )


def binomial_error(one: ScoreRead) -> float:
    """The standard error of a score; of one for which the tool prints none, that of its share."""
    if one.score.stderr is not None:
        return one.score.stderr
    share = one.score.value / 100
    return 100 * math.sqrt(share * (1 - share) / max(1, one.n_tasks - 1))


def hand_over(source: Path, target: Path) -> None:
    """The file under another name: a hard link, or a copy where the disk knows no links."""
    try:
        target.hardlink_to(source.resolve())
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        shutil.copyfile(source, target)


@click.command()
@click.option(
    "--candidate", "candidates", type=(str, *(click.Path(path_type=Path),) * 3), multiple=True
)
@click.option("--score", "scores", type=(str, click.Path(path_type=Path)), multiple=True)
@click.option("--larger-by", type=float, required=True)
@click.option("--output", type=click.Path(path_type=Path), required=True)
@click.option("--decision", "report", type=click.Path(path_type=Path), required=True)
def main(
    candidates: tuple[tuple[str, Path, Path, Path], ...],
    scores: tuple[tuple[str, Path], ...],
    larger_by: float,
    output: Path,
    report: Path,
) -> None:
    """Keep the best; a candidate is a name, its file, and two records; a score a name and one."""

    def work() -> str:
        of = {name: [path for other, path in scores if other == name] for name, *_ in candidates}
        read = [
            read_candidate(name, size, quality, scores=of[name])
            for name, _, size, quality in candidates
        ]
        decision = decide(read, larger_by=larger_by)
        report.write_text(decision.model_dump_json(indent=1) + "\n", encoding="utf-8")
        hand_over(next(file for name, file, *_ in candidates if name == decision.kept), output)
        return f"kept {decision.kept} ({decision.reason})"

    sys.exit(own_tool.run(work))


STAGE = ToolStage(
    name="select",
    version=1,  # bump when argv, parse or the rule changes meaning
    tool=TOOL,
    made_by="pipeline",
    inputs=frozenset(of(at) for of in (file_name, size_name, quality_name) for at in range(2)),
    optional_inputs=frozenset(
        of(at) for of in (file_name, size_name, quality_name) for at in range(2, MOST_CANDIDATES)
    )
    | frozenset(
        score_name(at, number) for at in range(MOST_CANDIDATES) for number in range(MOST_SETS)
    ),
    outputs={"gguf": "model.gguf", "decision": "decision.json"},
    params=SelectParams,
    result=Decision,
    lane="host",
    argv=argv,
    parse=parse,
    complete=complete,
    explain=own_tool.explain,
)

if __name__ == "__main__":
    main()
