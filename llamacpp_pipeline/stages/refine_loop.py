"""The program of a refinement (`python -m`): its command line, its texts, its two tools."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from llamacpp_pipeline.errors import InputError
from llamacpp_pipeline.process.command import Runner
from llamacpp_pipeline.process.runner import Grace, LocalRunner
from llamacpp_pipeline.process.signals import stopping_as_interrupt
from llamacpp_pipeline.stages import own_tool
from llamacpp_pipeline.stages.refine_tools import Bench
from llamacpp_pipeline.stages.refining import Limits, Refinement, Texts, measured_alone
from llamacpp_pipeline.stages.sensitivity import SensitivityResult

GRACE = Grace(interrupt_seconds=2.0, terminate_seconds=2.0)  # less than the parent's own


def halves(corpus: Path, scratch: Path) -> Texts:
    """The text cut at the line nearest to its middle: to measure on, and to decide on.

    Raises:
        InputError: where it has no two lines.

    """
    text = corpus.read_bytes()
    cut = text.find(b"\n", len(text) // 2) + 1
    if cut <= 0 or cut >= len(text):
        raise InputError(
            "the probe text has no lines to part it between",
            hint="give `selection.corpus`, a text to choose on, or a longer `sensitivity.corpus`",
        )
    probe, validation = scratch / "probe.txt", scratch / "validation.txt"
    probe.write_bytes(text[:cut])
    validation.write_bytes(text[cut:])
    return Texts(probe=probe, validation=validation, held_out=True)


PATH = click.Path(path_type=Path)


@click.command()
@click.option("--model", type=PATH, required=True)
@click.option("--corpus", type=PATH, required=True)
@click.option("--validation", type=PATH)
@click.option("--imatrix", type=PATH)
@click.option("--sensitivities", type=PATH, required=True)
@click.option("--measured-weights", type=PATH, required=True)
@click.option("--planner-flags", required=True, help="JSON list.")
@click.option("--probe-flags", required=True, help="JSON list.")
@click.option("--placement", required=True, help="JSON list, for the probe.")
@click.option("--threads", type=int, required=True)
@click.option("--n-chunks", type=int, required=True)
@click.option("--rounds", type=int, required=True)
@click.option("--validation-chunks", type=int, required=True)
@click.option("--minutes", type=float)
@click.option("--work", type=PATH, required=True)
@click.option("--weights", type=PATH, required=True)
@click.option("--output", type=PATH, required=True)
@click.option("--binary", "binaries", type=(str, PATH), multiple=True)
def main(**given: Any) -> None:  # noqa: ANN401  click's own
    """Refine the types of one size."""
    with stopping_as_interrupt():
        sys.exit(own_tool.run(lambda: refined(given)))


def refined(given: Mapping[str, Any]) -> str:
    """Run the loop, write what it found; returns what to say of it."""
    found = SensitivityResult.model_validate_json(given["sensitivities"].read_bytes())
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, LocalRunner(grace=GRACE) as runner:
        refinement = Refinement(
            bench=bench_of(given, runner=runner, scratch=Path(folder)),
            texts=texts_of(given, Path(folder)),
            limits=Limits(**{name: given[name] for name in Limits.__dataclass_fields__}),
            known=measured_alone(found),
        )
        result = refinement.result(refinement.run(given["measured_weights"]))
        best = refinement.best()
        shutil.copyfile(best.allocation.weights, given["weights"])
    given["output"].write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return f"kept {result.kept} of {len(result.mixes)} mixes ({result.stopped})"


def bench_of(given: Mapping[str, Any], *, runner: Runner, scratch: Path) -> Bench:
    """The tools as the command line places them."""
    return Bench(
        runner=runner,
        binaries=dict(given["binaries"]),
        model=given["model"],
        imatrix=given["imatrix"],
        planner_flags=tuple(json.loads(given["planner_flags"])),
        probe_flags=tuple(json.loads(given["probe_flags"])),
        placement=tuple(json.loads(given["placement"])),
        n_threads=given["threads"],
        work=given["work"],
        scratch=scratch,
    )


def texts_of(given: Mapping[str, Any], scratch: Path) -> Texts:
    """A validation text of its own, or half of the probe text."""
    if given["validation"] is None:
        return halves(given["corpus"], scratch)
    return Texts(probe=given["corpus"], validation=given["validation"], held_out=False)


if __name__ == "__main__":
    main()
