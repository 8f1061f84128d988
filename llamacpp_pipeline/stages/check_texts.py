"""That no calibration text is the evaluation text, or another calibration text: by content."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path

import click
from pydantic import ValidationError

from llamacpp_pipeline.errors import InputError, UnreadableOutputError
from llamacpp_pipeline.stages import own_tool
from llamacpp_pipeline.stages.base import Argv, Frozen, Paths, ToolStage
from llamacpp_pipeline.stages.imatrix_merge import MOST_PARTS
from llamacpp_pipeline.stages.llama_log import complaints

TOOL = "llamacpp_pipeline.stages.check_texts"
EVALUATION = "evaluation"
BLOCK = 2**20


class CheckTextsParams(Frozen):
    """What the texts are called, in the order of the inputs."""

    labels: tuple[str, ...]


class CheckTextsResult(Frozen):
    evaluation: str  # sha256
    calibration: dict[str, str]  # label -> sha256


def text_name(at: int) -> str:
    """The input that holds the calibration text at a position from 0."""
    return f"text{at + 1}"


def argv(params: CheckTextsParams, paths: Paths) -> Argv:
    texts = [("--text", label, str(paths[text_name(at)])) for at, label in enumerate(params.labels)]
    return (
        TOOL,
        *("--evaluation", str(paths[EVALUATION])),
        *(word for text in texts for word in text),
        *("--output", str(paths["digests"])),
    )


def parse(log: str, paths: Paths) -> CheckTextsResult:
    try:
        return CheckTextsResult.model_validate_json(paths["digests"].read_bytes())
    except (OSError, ValidationError) as error:
        raise UnreadableOutputError(TOOL, "the digests of the texts", complaints(log)) from error


def digests(evaluation: Path, texts: Mapping[str, Path]) -> CheckTextsResult:
    """What the texts are known by.

    Raises:
        InputError: where two of them are one.

    """
    found = CheckTextsResult(
        evaluation=sha256(evaluation),
        calibration={label: sha256(path) for label, path in texts.items()},
    )
    refuse_evaluated(found)
    refuse_twice(found)
    return found


def refuse_evaluated(found: CheckTextsResult) -> None:
    """Figures measured on what the imatrix was made from would flatter.

    Raises:
        InputError: naming the text.

    """
    for label, digest in found.calibration.items():
        if digest == found.evaluation:
            raise InputError(
                f"calibration text {label}: it is the evaluation text",
                evidence=(f"sha256 of both: {digest}",),
                hint="calibrate on another text: `calibration.corpus` or `calibration.texts`",
            )


def refuse_twice(found: CheckTextsResult) -> None:
    """A text named twice would count twice without anybody having said so.

    Raises:
        InputError: naming both.

    """
    first: dict[str, str] = {}
    for label, digest in found.calibration.items():
        if digest in first:
            raise InputError(
                f"calibration texts {first[digest]} and {label} are one text",
                evidence=(f"sha256 of both: {digest}",),
                hint="name it once; `weight: 2` counts its tokens twice",
            )
        first[digest] = label


def sha256(path: Path) -> str:
    """Of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


@click.command()
@click.option("--evaluation", type=click.Path(path_type=Path), required=True)
@click.option("--text", "texts", type=(str, click.Path(path_type=Path)), multiple=True)
@click.option("--output", type=click.Path(path_type=Path), required=True)
def main(evaluation: Path, texts: tuple[tuple[str, Path], ...], output: Path) -> None:
    """Compare the texts; a text is a label and a file."""

    def work() -> str:
        found = digests(evaluation, dict(texts))
        output.write_text(found.model_dump_json(indent=1) + "\n", encoding="utf-8")
        return f"{len(texts)} calibration texts are no evaluation text"

    sys.exit(own_tool.run(work))


STAGE = ToolStage(
    name="check-texts",
    version=1,  # bump when argv or parse changes meaning
    tool=TOOL,
    made_by="pipeline",
    inputs=frozenset({EVALUATION, text_name(0)}),
    optional_inputs=frozenset(text_name(at) for at in range(1, MOST_PARTS)),
    outputs={"digests": "texts.json"},
    params=CheckTextsParams,
    result=CheckTextsResult,
    lane="host",
    argv=argv,
    parse=parse,
    explain=own_tool.explain,
)

if __name__ == "__main__":
    main()
