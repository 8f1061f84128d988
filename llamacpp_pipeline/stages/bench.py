"""Tokens per second of one GGUF on this machine, by llama-bench."""

from __future__ import annotations

import re
from collections import Counter
from typing import Annotated

from pydantic import (
    BaseModel,
    ConfigDict,
    FiniteFloat,
    PositiveInt,
    StringConstraints,
    ValidationError,
    field_validator,
)

from llamacpp_pipeline.errors import PipelineError, UnreadableOutputError
from llamacpp_pipeline.stages.base import (
    Argv,
    Frozen,
    Paths,
    Placement,
    ProgressPattern,
    ToolStage,
)
from llamacpp_pipeline.stages.gguf_facts import read_gguf
from llamacpp_pipeline.stages.llama_failures import explain, without
from llamacpp_pipeline.stages.tool_flags import n_threads
from llamacpp_pipeline.units import Estimate

TOOL = "llama-bench"
RECORD = re.compile(r"\{\"build_commit\".*\}")
ASKED = re.compile(r"llama-bench: benchmark \d+/(?P<n>\d+)")

TestName = Annotated[str, StringConstraints(pattern=r"^(pp\d+|tg\d+|pp\d+\+tg\d+)$")]


class BenchParams(Frozen):
    """Tests in llama-bench's own names."""

    tests: tuple[TestName, ...] = ("pp512", "tg128", "pp1024+tg1024")
    repetitions: PositiveInt = 5
    n_batch: PositiveInt = 2048
    n_ubatch: PositiveInt = 512

    @field_validator("tests")
    @classmethod
    def some_and_each_once(cls, tests: tuple[str, ...]) -> tuple[str, ...]:
        twice = [test for test, count in Counter(tests).items() if count > 1]
        if not tests or twice:
            message = f"{twice[0]!r} is listed twice" if twice else "name at least one test"
            raise ValueError(message)
        return tests


class BenchRow(Frozen):
    test: str
    tokens_per_second: Estimate  # mean and standard deviation over the repetitions
    samples: tuple[float, ...]


class BenchResult(Frozen):
    rows: tuple[BenchRow, ...]
    cpu: str
    gpu: str
    backends: str
    n_threads: PositiveInt
    n_gpu_layers: int  # -1: all that there are, llama.cpp's own default


class BenchRecord(BaseModel):
    """The fields used of one line; others come and go between builds."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    cpu_info: str
    gpu_info: str
    backends: str
    n_threads: PositiveInt
    n_gpu_layers: int
    n_prompt: int
    n_gen: int
    avg_ts: FiniteFloat
    stddev_ts: FiniteFloat
    samples_ts: tuple[FiniteFloat, ...]

    @property
    def test(self) -> str:
        """The test's name, as one writes it."""
        parts = (("pp", self.n_prompt), ("tg", self.n_gen))
        return "+".join(f"{name}{count}" for name, count in parts if count)

    @property
    def row(self) -> BenchRow:
        speed = Estimate(value=self.avg_ts, stderr=self.stddev_ts)
        return BenchRow(test=self.test, tokens_per_second=speed, samples=self.samples_ts)


def argv(params: BenchParams, paths: Paths) -> Argv:
    read_gguf(paths["model"])
    return (
        TOOL,
        *("--model", str(paths["model"])),
        *test_flags(params.tests),
        *("--repetitions", str(params.repetitions)),
        *("--batch-size", str(params.n_batch)),
        *("--ubatch-size", str(params.n_ubatch)),
        *("--output", "jsonl"),
        "--progress",
    )


def test_flags(tests: tuple[str, ...]) -> Argv:
    """`-p` and `-n` with lists (0: none at all), and one `-pg` per combined test."""
    alone = [test for test in tests if "+" not in test]
    prompts = [test[2:] for test in alone if test.startswith("pp")]
    texts = [test[2:] for test in alone if test.startswith("tg")]
    pairs = [test[2:].replace("+tg", ",") for test in tests if "+" in test]
    return (
        *("-p", ",".join(prompts) or "0"),
        *("-n", ",".join(texts) or "0"),
        *(flag for pair in pairs for flag in ("-pg", pair)),
    )


def parse(log: str, paths: Paths) -> BenchResult:
    del paths
    records = read_records(log)
    asked = {int(match["n"]) for match in ASKED.finditer(log)}
    if not records or asked != {len(records)}:
        raise without(TOOL, "one JSON line for each test", log)
    twice = [test for test, count in Counter(row.test for row in records).items() if count > 1]
    if twice:
        raise UnreadableOutputError(TOOL, "each test once", (f"{twice[0]} is there twice",))
    first = records[0]
    return BenchResult(
        rows=tuple(record.row for record in records),
        cpu=first.cpu_info,
        gpu=first.gpu_info,
        backends=first.backends,
        n_threads=first.n_threads,
        n_gpu_layers=first.n_gpu_layers,
    )


def read_records(log: str) -> list[BenchRecord]:
    """The JSON lines.

    Raises:
        PipelineError: where one cannot be read.

    """
    try:
        return [BenchRecord.model_validate_json(match[0]) for match in RECORD.finditer(log)]
    except ValidationError as error:
        problem = error.errors()[0]
        raise missing_field(problem["loc"], problem["msg"]) from error


def missing_field(location: tuple[int | str, ...], message: str) -> PipelineError:
    field = ".".join(str(part) for part in location) or "line"
    return UnreadableOutputError(TOOL, "a readable JSON line", (f"{field}: {message}",))


def complete(params: BenchParams, result: BenchResult, paths: Paths) -> BenchResult:
    """The result with its rows in the order asked for, once each of them is there."""
    del paths
    rows = {row.test: row for row in result.rows}
    if set(rows) != set(params.tests):
        evidence = (f"asked for: {', '.join(params.tests)}", f"measured: {', '.join(rows)}")
        raise UnreadableOutputError(TOOL, "exactly the tests asked for", evidence)
    return result.model_copy(update={"rows": tuple(rows[test] for test in params.tests)})


def placement_flags(placement: Placement) -> Argv:
    layers = placement.n_gpu_layers
    return (
        *("--threads", str(n_threads(placement))),
        *(() if layers is None else ("--n-gpu-layers", str(layers))),
        *placement.extra,
    )


STAGE = ToolStage(
    name="bench",
    version=1,  # bump when argv or parse changes meaning
    tool=TOOL,
    made_by="binary",
    inputs=frozenset({"model"}),
    outputs={},
    params=BenchParams,
    result=BenchResult,
    argv=argv,
    parse=parse,
    placement=placement_flags,
    complete=complete,
    explain=explain,
    progress=ProgressPattern(
        done=re.compile(r"llama-bench: benchmark (?P<n>\d+)/\d+"), total=ASKED, unit="test"
    ),
    machine_bound=True,
)
