"""That the probe text is neither the evaluation text nor shares passages with it."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from pydantic import NonNegativeFloat
from pydantic import ValidationError as WrongFormError

from llamacpp_pipeline.datasets.overlap import PASSAGE, shared_share
from llamacpp_pipeline.errors import InputError, UnreadableOutputError
from llamacpp_pipeline.stages import own_tool
from llamacpp_pipeline.stages.base import Argv, Frozen, Paths, ToolStage
from llamacpp_pipeline.stages.check_texts import sha256
from llamacpp_pipeline.stages.imatrix_merge import MOST_PARTS
from llamacpp_pipeline.stages.llama_log import complaints

TOOL = "llamacpp_pipeline.stages.check_probe"
MOST_SHARED = 0.01  # of the words; licences and headings recur in any two texts of a kind


class CheckProbeParams(Frozen):
    """What the calibration texts are called, in the order of the inputs."""

    labels: tuple[str, ...] = ()


class CheckProbeResult(Frozen):
    digest: str  # sha256 of the probe text
    shared_with_evaluation: NonNegativeFloat  # share of its words in passages of both
    shared_with_calibration: NonNegativeFloat


def text_name(at: int) -> str:
    """The input that holds the calibration text at a position from 0."""
    return f"text{at + 1}"


def argv(params: CheckProbeParams, paths: Paths) -> Argv:
    texts = [("--text", label, str(paths[text_name(at)])) for at, label in enumerate(params.labels)]
    return (
        TOOL,
        *("--probe", str(paths["probe"])),
        *("--evaluation", str(paths["evaluation"])),
        *(word for text in texts for word in text),
        *("--output", str(paths["report"])),
    )


def parse(log: str, paths: Paths) -> CheckProbeResult:
    try:
        return CheckProbeResult.model_validate_json(paths["report"].read_bytes())
    except (OSError, WrongFormError) as error:
        raise UnreadableOutputError(TOOL, "what the texts share", complaints(log)) from error


def checked(probe: Path, evaluation: Path, texts: dict[str, Path]) -> CheckProbeResult:
    """What the texts have in common.

    Raises:
        InputError: where the probe text is one of the others, or has passages of the evaluation.

    """
    digest = sha256(probe)
    named = {
        "the evaluation text": evaluation,
        **{f"calibration text {k}": v for k, v in texts.items()},
    }
    for name, path in named.items():
        if sha256(path) == digest:
            raise InputError(
                f"the probe text is {name}",
                evidence=(f"sha256 of both: {digest}",),
                hint="probe on another text: `sensitivity.corpus`",
            )
    found = CheckProbeResult(
        digest=digest,
        shared_with_evaluation=shared_share(read(probe), [read(evaluation)]),
        shared_with_calibration=shared_share(read(probe), [read(path) for path in texts.values()]),
    )
    refuse_evaluated(found)
    return found


def refuse_evaluated(found: CheckProbeResult) -> None:
    """Types chosen by what the evaluation text asks for would flatter the figures.

    Raises:
        InputError: with the share.

    """
    share = found.shared_with_evaluation
    if share > MOST_SHARED:
        raise InputError(
            f"{100 * share:.1f} % of the probe text stands in the evaluation text too",
            evidence=(f"counted by passages of {PASSAGE} words; {100 * MOST_SHARED:g} % may",),
            hint="probe on another text: `sensitivity.corpus`",
        )


def read(path: Path) -> str:
    """A text; what is not UTF-8 in it does not matter here."""
    return path.read_text(encoding="utf-8", errors="replace")


@click.command()
@click.option("--probe", type=click.Path(path_type=Path), required=True)
@click.option("--evaluation", type=click.Path(path_type=Path), required=True)
@click.option("--text", "texts", type=(str, click.Path(path_type=Path)), multiple=True)
@click.option("--output", type=click.Path(path_type=Path), required=True)
def main(probe: Path, evaluation: Path, texts: tuple[tuple[str, Path], ...], output: Path) -> None:
    """Compare the probe text with the others; a calibration text is a label and a file."""

    def work() -> str:
        found = checked(probe, evaluation, dict(texts))
        output.write_text(found.model_dump_json(indent=1) + "\n", encoding="utf-8")
        return f"{100 * found.shared_with_evaluation:.2f} % is shared with the evaluation text"

    sys.exit(own_tool.run(work))


STAGE = ToolStage(
    name="check-probe",
    version=1,  # bump when argv, parse or the rule changes meaning
    tool=TOOL,
    made_by="pipeline",
    inputs=frozenset({"probe", "evaluation"}),
    optional_inputs=frozenset(text_name(at) for at in range(MOST_PARTS)),
    outputs={"report": "texts.json"},
    params=CheckProbeParams,
    result=CheckProbeResult,
    lane="host",
    argv=argv,
    parse=parse,
    explain=own_tool.explain,
)

if __name__ == "__main__":
    main()
