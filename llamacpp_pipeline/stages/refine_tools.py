"""The two tools of a refinement, each run as a child of its own: the planner and the probe."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from llamacpp_pipeline.errors import StepFailedError, UnreadableOutputError
from llamacpp_pipeline.process.command import Command, Runner
from llamacpp_pipeline.stages.curves import Curves, read_curves
from llamacpp_pipeline.stages.probe_kept import reused_lines
from llamacpp_pipeline.stages.probe_lines import Measurement
from llamacpp_pipeline.stages.target_plan import WrittenPlan, read_plan

PLANNER, PROBE = "llama-quantize", "llama-kld-probe"
STATE = "target.state"  # what the planner measured, in the working folder
OWN_NAMES = ("XDG_CONFIG_HOME", "PYTHONUNBUFFERED", "PYTHONUTF8")  # each child gets its own

Types = Mapping[str, str]  # tensor name -> type


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """A choice of types by some sensitivities."""

    weights: Path
    plan: WrittenPlan
    curves: Curves
    types_file: Path  # as --tensor-type-file takes it

    @property
    def types(self) -> dict[str, str]:
        """Of the tensors that are quantized: what the probe is to put in place."""
        return {
            tensor.name: tensor.type
            for tensor in self.plan.tensors
            if tensor.status != "kept" and tensor.type != tensor.source_type
        }

    @property
    def key(self) -> str:
        """The same for the same types, upper and lower case alike."""
        return key_of(self.types)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The tools with what they are always told."""

    runner: Runner
    binaries: Mapping[str, Path]
    model: Path
    imatrix: Path | None
    planner_flags: tuple[str, ...]
    probe_flags: tuple[str, ...]
    placement: tuple[str, ...]  # the probe's
    n_threads: int
    work: Path  # what is kept for another attempt
    scratch: Path  # what is not

    def allocate(self, weights: Path, name: str) -> Allocation:
        """The types of the size asked for, by these sensitivities."""
        plan, types = self.scratch / f"{name}.plan.json", self.scratch / f"{name}.types"
        self._run(
            PLANNER,
            *self._imatrix(),
            *("--tensor-weights", str(weights)),
            *self.planner_flags,
            *("--state-file", str(self.work / STATE)),
            *("--plan-only", "--plan-file", str(plan), "--plan-types", str(types)),
            *(str(self.model), str(self.n_threads)),
        )
        found, curves = read_plan(plan), read_curves(plan)
        return Allocation(weights=weights, plan=found, curves=curves, types_file=types)

    def measure(
        self,
        wanted: Iterable[tuple[str, Types]],
        text: Path,
        *,
        n_chunks: int,
        background: Path | None = None,
        minutes: float | None = None,
    ) -> tuple[Measurement, dict[str, Measurement]]:
        """The floor and, by their names, those wanted for which there was time.

        `n_chunks`: at most; 0 for the whole text.

        Raises:
            UnreadableOutputError: where one is missing although the time was not limited.

        """
        named, plan = dict(wanted), self.scratch / "measure.jsonl"
        rows = (json.dumps({"id": id_, "tensors": dict(types)}) for id_, types in named.items())
        plan.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
        lines = self.work / f"{self._conditions(text, n_chunks, background)}.jsonl"
        self._run(
            PROBE,
            *("--model", str(self.model), "--file", str(text)),
            *self._imatrix(),
            *("--plan", str(plan), "--results", str(lines)),
            *(() if background is None else ("--background", str(background))),
            *(() if minutes is None else ("--minutes", repr(minutes))),
            *self.probe_flags,
            *("--chunks", str(n_chunks or -1)),
            *self.placement,
        )
        floor, found = found_in(lines, named)
        missing = [name for name in named if name not in found]
        if missing and minutes is None:
            what = f"all {len(named)} measurements"
            raise UnreadableOutputError(PROBE, what, (f"missing: {missing[0]}",))
        return floor, found

    def _conditions(self, text: Path, n_chunks: int, background: Path | None) -> str:
        """What all lines of one file have in common; the folder is of one model and imatrix."""
        texts = [text.read_bytes(), b"" if background is None else background.read_bytes()]
        digests = [sha256(content).hexdigest() for content in texts]
        document = json.dumps([*digests, n_chunks, *self.probe_flags])
        return sha256(document.encode()).hexdigest()[:16]

    def _imatrix(self) -> tuple[str, ...]:
        return () if self.imatrix is None else ("--imatrix", str(self.imatrix))

    def _run(self, tool: str, *arguments: str) -> None:
        log = self.scratch / f"{tool}.log"
        environment = {k: v for k, v in os.environ.items() if k not in OWN_NAMES}
        command = Command(
            argv=(str(self.binaries[tool]), *arguments),
            cwd=Path.cwd(),
            log=log,
            environment=environment,
        )
        outcome = self.runner.run(command, Relay())
        if outcome.exit_code != 0:
            raise StepFailedError(f"{tool} ended with code {outcome.exit_code}")


class Relay:
    """Hands a child's output on, so that the step's log has it."""

    def output(self, text: str) -> None:
        """Text as it arrives."""
        sys.stderr.write(text)
        sys.stderr.flush()

    def heartbeat(self, *, cpu_seconds: float, rss_bytes: int) -> None:
        """The parent looks at the whole process tree itself."""


def found_in(lines: Path, named: Mapping[str, Types]) -> tuple[Measurement, dict[str, Measurement]]:
    """The floor, and what is wanted by its name, as far as it is there.

    Raises:
        UnreadableOutputError: where the floor is missing, or a line is no measurement.

    """
    try:
        found = [Measurement.model_validate_json(line) for line in reused_lines(lines)]
    except ValueError as error:
        evidence = (str(error).splitlines()[0],)
        raise UnreadableOutputError(PROBE, "lines of measurements", evidence) from error
    if not found or found[0].tensors:
        raise UnreadableOutputError(PROBE, "the measurement of the floor")
    by_types = {key_of(measurement.tensors): measurement for measurement in found}
    wanted = {name: by_types.get(key_of(types)) for name, types in named.items()}
    return found[0], {name: one for name, one in wanted.items() if one is not None}


def key_of(types: Types) -> str:
    """The same for the same types, upper and lower case alike."""
    return json.dumps({name: kind.casefold() for name, kind in sorted(types.items())})
