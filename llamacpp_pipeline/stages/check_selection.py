"""That the text candidates are chosen on shares no passages with what made or judges the files."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import click
from pydantic import NonNegativeFloat, ValidationError

from llamacpp_pipeline.datasets.overlap import PASSAGE, shared_share
from llamacpp_pipeline.errors import InputError, UnreadableOutputError
from llamacpp_pipeline.stages import own_tool
from llamacpp_pipeline.stages.base import Argv, Frozen, Paths, ToolStage
from llamacpp_pipeline.stages.check_probe import MOST_SHARED, read, text_name
from llamacpp_pipeline.stages.check_texts import EVALUATION, sha256
from llamacpp_pipeline.stages.imatrix_merge import MOST_PARTS
from llamacpp_pipeline.stages.llama_log import complaints

TOOL = "llamacpp_pipeline.stages.check_selection"
SELECTION, PROBE = "selection", "probe"
HINT = "choose on another text: `selection.corpus`"


class CheckSelectionParams(Frozen):
    """What the calibration texts are called, in the order of the inputs."""

    labels: tuple[str, ...] = ()


class CheckSelectionResult(Frozen):
    digest: str  # sha256 of the text
    shared: dict[str, NonNegativeFloat]  # other text -> share of the words in passages of both


def argv(params: CheckSelectionParams, paths: Paths) -> Argv:
    others = {"the evaluation text": paths[EVALUATION]}
    if PROBE in paths:
        others["the probe text"] = paths[PROBE]
    others |= {called(label): paths[text_name(at)] for at, label in enumerate(params.labels)}
    return (
        TOOL,
        *("--selection", str(paths[SELECTION])),
        *(word for name, path in others.items() for word in ("--other", name, str(path))),
        *("--output", str(paths["report"])),
    )


def called(label: str) -> str:
    """A calibration text in a sentence."""
    return "the calibration text" if label == "calibration" else f"calibration text {label}"


def parse(log: str, paths: Paths) -> CheckSelectionResult:
    try:
        return CheckSelectionResult.model_validate_json(paths["report"].read_bytes())
    except (OSError, ValidationError) as error:
        raise UnreadableOutputError(TOOL, "what the texts share", complaints(log)) from error


def checked(selection: Path, others: Mapping[str, Path]) -> CheckSelectionResult:
    """What the text has in common with each of the others.

    Raises:
        InputError: where it is one of them, or has more than 1 % of its words from one.

    """
    digest, text = sha256(selection), read(selection)
    shared = {}
    for name, path in others.items():
        if sha256(path) == digest:
            raise InputError(
                f"the text to choose on is {name}",
                evidence=(f"sha256 of both: {digest}",),
                hint=HINT,
            )
        shared[name] = shared_share(text, [read(path)])
        refuse_shared(name, shared[name])
    return CheckSelectionResult(digest=digest, shared=shared)


def refuse_shared(name: str, share: float) -> None:
    """Passages of both would carry what one text knows into the choice.

    Raises:
        InputError: with the share.

    """
    if share > MOST_SHARED:
        raise InputError(
            f"{100 * share:.1f} % of the text to choose on stands in {name} too",
            evidence=(f"counted by passages of {PASSAGE} words; {100 * MOST_SHARED:g} % may",),
            hint=HINT,
        )


@click.command()
@click.option("--selection", type=click.Path(path_type=Path), required=True)
@click.option("--other", "others", type=(str, click.Path(path_type=Path)), multiple=True)
@click.option("--output", type=click.Path(path_type=Path), required=True)
def main(selection: Path, others: tuple[tuple[str, Path], ...], output: Path) -> None:
    """Compare the text with the others; each is a name and a file."""

    def work() -> str:
        found = checked(selection, dict(others))
        output.write_text(found.model_dump_json(indent=1) + "\n", encoding="utf-8")
        return f"{100 * max(found.shared.values(), default=0):.2f} % is shared at most"

    sys.exit(own_tool.run(work))


STAGE = ToolStage(
    name="check-selection",
    version=1,  # bump when argv, parse or the rule changes meaning
    tool=TOOL,
    made_by="pipeline",
    inputs=frozenset({SELECTION, EVALUATION}),
    optional_inputs=frozenset({PROBE, *(text_name(at) for at in range(MOST_PARTS))}),
    outputs={"report": "texts.json"},
    params=CheckSelectionParams,
    result=CheckSelectionResult,
    lane="host",
    argv=argv,
    parse=parse,
    explain=own_tool.explain,
)

if __name__ == "__main__":
    main()
