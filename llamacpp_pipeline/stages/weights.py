"""Does BF16 fit F16: every weight counted once, one piece of a tensor in memory at a time."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
from pydantic import NonNegativeInt, PositiveInt, ValidationError

from llamacpp_pipeline.errors import InputError, UnreadableOutputError
from llamacpp_pipeline.stages import own_tool
from llamacpp_pipeline.stages.base import Argv, Frozen, Paths, ProgressPattern, ToolStage
from llamacpp_pipeline.stages.llama_log import complaints
from llamacpp_pipeline.stages.model_folder import read_config
from llamacpp_pipeline.stages.safetensors_files import StoredTensor, checkpoint_tensors

TOOL = "llamacpp_pipeline.stages.weights"
PIECE_BYTES = 16 * 2**20

Bits = npt.NDArray[np.unsignedinteger]


class WeightsParams(Frozen):
    """Nothing changes the counts."""


class TensorTrouble(Frozen):
    name: str
    dtype: str
    n_values: PositiveInt
    max_abs: float
    n_overflow: NonNegativeInt  # |w| > 65504
    n_to_zero: NonNegativeInt  # non-zero, rounds to zero in F16
    n_subnormal: NonNegativeInt  # rounds to a subnormal F16
    n_nan: NonNegativeInt
    n_inf: NonNegativeInt


class WeightsResult(Frozen):
    n_values: PositiveInt
    n_overflow: NonNegativeInt
    n_to_zero: NonNegativeInt
    n_subnormal: NonNegativeInt
    n_nan: NonNegativeInt
    n_inf: NonNegativeInt
    max_abs: float
    unchecked: dict[str, int] = {}  # values in types that are scaled or not numbers: "F8_E4M3"
    fits_f16: bool  # no overflow, no NaN, no infinity, no scaled type
    tensors: tuple[TensorTrouble, ...]  # those with anything to report, worst first


@dataclass(frozen=True, kw_only=True)
class FloatFormat:
    """A float format by its bit patterns without the sign, which order as the magnitudes do.

    Each limit is the first pattern of its kind.
    """

    bits: type[np.unsignedinteger]
    value: type[np.floating] | None  # numpy's type of the same bits; None: the top half of F32
    survives: int  # larger than 2^-25, half of F16's least: does not round to zero
    normal: int  # at least 2^-14 - 2^-25: rounds to a normal F16
    overflow: int  # larger than 65504, F16's largest
    infinity: int

    @property
    def without_sign(self) -> np.unsignedinteger:
        """The mask that takes the sign away."""
        return self.bits(np.iinfo(self.bits).max >> 1)

    def magnitude(self, pattern: int) -> float:
        """The value of a pattern."""
        if self.value is None:
            return float(np.array([pattern << 16], dtype=np.uint32).view(np.float32)[0])
        return float(np.array([pattern], dtype=self.bits).view(self.value)[0])


# F16 itself loses nothing: its subnormals are counted, its zeros are zeros.
FORMATS = {
    "BF16": FloatFormat(
        bits=np.uint16,
        value=None,
        survives=0x3301,
        normal=0x3880,
        overflow=0x4780,
        infinity=0x7F80,
    ),
    "F16": FloatFormat(
        bits=np.uint16,
        value=np.float16,
        survives=0x0001,
        normal=0x0400,
        overflow=0x7C00,
        infinity=0x7C00,
    ),
    "F32": FloatFormat(
        bits=np.uint32,
        value=np.float32,
        survives=0x33000001,
        normal=0x387FE000,
        overflow=0x477FE001,
        infinity=0x7F800000,
    ),
    "F64": FloatFormat(
        bits=np.uint64,
        value=np.float64,
        survives=0x3E60000000000001,
        normal=0x3F0FFC0000000000,
        overflow=0x40EFFC0000000001,
        infinity=0x7FF0000000000000,
    ),
}
INTEGERS = frozenset({"I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"})


def tally(tensor: StoredTensor, piece_bytes: int = PIECE_BYTES) -> TensorTrouble:
    """What happens to one tensor's values in F16."""
    form = FORMATS[tensor.dtype]
    counts: Counter[str] = Counter()
    largest = 0
    for piece in pieces(tensor, form, piece_bytes):
        counts.update(kinds(piece, form))
        finite = piece if int(piece.max()) < form.infinity else piece[piece < form.infinity]
        largest = max(largest, int(finite.max(initial=0)))
    return TensorTrouble(
        name=tensor.name,
        dtype=tensor.dtype,
        n_values=tensor.n_values,
        max_abs=form.magnitude(largest),
        n_overflow=counts["overflow"],
        n_to_zero=counts["to_zero"],
        n_subnormal=counts["subnormal"],
        n_nan=counts["nan"],
        n_inf=counts["inf"],
    )


def pieces(tensor: StoredTensor, form: FloatFormat, piece_bytes: int) -> Iterator[Bits]:
    """The tensor's magnitudes as bit patterns, a bounded piece at a time."""
    width = np.dtype(form.bits).itemsize
    with tensor.file.open("rb") as stream:
        stream.seek(tensor.start)
        left = tensor.n_bytes
        while left > 0:
            asked = min(left, piece_bytes // width * width)
            data = stream.read(asked)
            if len(data) < asked:
                raise InputError(f"{tensor.file.name} ended while tensor {tensor.name} was read")
            left -= asked
            little_endian = np.dtype(form.bits).newbyteorder("<")
            yield np.frombuffer(data, dtype=little_endian) & form.without_sign


def kinds(piece: Bits, form: FloatFormat) -> dict[str, int]:
    """How many patterns are of each kind: differences of counts at the limits."""

    def at_least(limit: int) -> int:
        return int(np.count_nonzero(piece >= form.bits(limit)))

    survive, finite_end = at_least(form.survives), at_least(form.infinity)
    nan = at_least(form.infinity + 1)
    return {
        "to_zero": at_least(1) - survive,
        "subnormal": survive - at_least(form.normal),
        "overflow": at_least(form.overflow) - finite_end,
        "inf": finite_end - nan,
        "nan": nan,
    }


def check(folder: Path) -> WeightsResult:
    """Count over a whole checkpoint, telling each tensor on stderr.

    Raises:
        InputError: where the folder is not a whole model.

    """
    read_config(folder)
    tensors = checkpoint_tensors(folder)
    found: list[TensorTrouble] = []
    unchecked: Counter[str] = Counter()
    for at, tensor in enumerate(tensors, start=1):
        own_tool.note(f"tensor {at}/{len(tensors)} {tensor.name}")
        if tensor.dtype not in FORMATS:
            unchecked[tensor.dtype] += tensor.n_values
        elif tensor.n_values:
            found.append(tally(tensor))
    if not found and not unchecked:
        raise InputError(f"{folder.name}: the safetensors files hold no values")
    return summary(found, dict(sorted(unchecked.items())))


def summary(found: list[TensorTrouble], unchecked: dict[str, int]) -> WeightsResult:
    """The totals, and the tensors with anything to report."""
    n_overflow, n_nan = sum(t.n_overflow for t in found), sum(t.n_nan for t in found)
    n_inf = sum(t.n_inf for t in found)
    scaled = [dtype for dtype in unchecked if dtype not in INTEGERS]
    return WeightsResult(
        n_values=sum(t.n_values for t in found) + sum(unchecked.values()),
        n_overflow=n_overflow,
        n_to_zero=sum(t.n_to_zero for t in found),
        n_subnormal=sum(t.n_subnormal for t in found),
        n_nan=n_nan,
        n_inf=n_inf,
        max_abs=max((t.max_abs for t in found), default=0.0),
        unchecked=unchecked,
        fits_f16=n_overflow + n_nan + n_inf == 0 and not scaled,
        tensors=tuple(sorted((t for t in found if severity(t) > (0, 0, 0)), key=worst_first)),
    )


def severity(trouble: TensorTrouble) -> tuple[int, int, int]:
    """What cannot be stored, what is lost, what is blurred."""
    broken = trouble.n_overflow + trouble.n_nan + trouble.n_inf
    return broken, trouble.n_to_zero, trouble.n_subnormal


def worst_first(trouble: TensorTrouble) -> tuple[int, int, int, str]:
    broken, lost, blurred = severity(trouble)
    return -broken, -lost, -blurred, trouble.name


def argv(params: WeightsParams, paths: Paths) -> Argv:
    del params
    return (TOOL, "--model", str(paths["model"]), "--output", str(paths["report"]))


def parse(log: str, paths: Paths) -> WeightsResult:
    try:
        return read_report(paths["report"])
    except (OSError, ValidationError) as error:
        evidence = (*complaints(log), str(error).splitlines()[0])
        raise UnreadableOutputError(TOOL, "a readable weights.json", evidence) from error


def read_report(file: Path) -> WeightsResult:
    """The result as this stage left it.

    Raises:
        OSError: where the file cannot be read.
        ValidationError: where it is not such a report.

    """
    return WeightsResult.model_validate_json(file.read_bytes())


@click.command()
@click.option("--model", type=click.Path(path_type=Path), required=True)
@click.option("--output", type=click.Path(path_type=Path), required=True)
def main(model: Path, output: Path) -> None:
    """Count the weights of a model folder that F16 would not hold."""

    def work() -> str:
        result = check(model)
        output.write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
        return f"{output.name} written"

    sys.exit(own_tool.run(work))


STAGE = ToolStage(
    name="weights",
    version=1,  # bump when argv or parse changes meaning
    tool=TOOL,
    made_by="pipeline",
    inputs=frozenset({"model"}),
    outputs={"report": "weights.json"},
    params=WeightsParams,
    result=WeightsResult,
    lane="host",
    argv=argv,
    parse=parse,
    explain=own_tool.explain,
    progress=ProgressPattern(
        done=re.compile(r"tensor (?P<n>\d+)/\d+ "),
        total=re.compile(r"tensor \d+/(?P<n>\d+) "),
        unit="tensor",
    ),
)

if __name__ == "__main__":
    main()
