"""llama-quantize in a folder with a small model of random weights and an imatrix of it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, GGUFWriter
from gguf.quants import dequantize

from tests.tools.tiny_llama import Floats, TinyLlama, write_gguf

DENSE = TinyLlama(n_layers=2)
EXPERTS = TinyLlama(n_layers=1, n_experts=4)
CHEAP = ("--type-set", "q3_K,q4_K,q5_K,q6_K,q8_0")  # the others take most of the time

Plan = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Ran:
    code: int
    output: str


@dataclass(frozen=True, kw_only=True)
class Quantizer:
    """llama-quantize in a folder that holds a model and an imatrix of it."""

    binary: Path
    folder: Path
    shape: TinyLlama = field(default=DENSE)

    @property
    def model(self) -> Path:
        return self.folder / "model.gguf"

    @property
    def imatrix(self) -> Path:
        return self.folder / "imatrix.gguf"

    def run(self, *arguments: str | Path) -> Ran:
        done = subprocess.run(
            [self.binary, *arguments],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
        )
        return Ran(code=done.returncode, output=done.stdout.decode("utf-8", errors="replace"))

    def plan(
        self,
        *arguments: str | Path,
        imatrix: bool = True,
        threads: int = 2,
        model: Path | None = None,
    ) -> Plan:
        """The plan file of a run that has to succeed and writes no model."""
        given = ("--imatrix", self.imatrix) if imatrix else ()
        asked = ("--plan-only", "--plan-file", "plan.json")
        ran = self.run(*given, *CHEAP, *arguments, *asked, model or self.model, str(threads))
        assert ran.code == 0, ran.output
        plan: Plan = json.loads((self.folder / "plan.json").read_text(encoding="utf-8"))
        return plan

    def refusal(self, *arguments: str | Path) -> str:
        """What a run that has to fail says, which writes no model."""
        ran = self.run("--imatrix", self.imatrix, *CHEAP, *arguments)
        assert ran.code == 1, ran.output
        return next(line for line in ran.output.splitlines() if "error: " in line)


Make = Callable[..., Quantizer]


def quantize_binary(toolchain_bin: Path) -> Path:
    """LLAMACPP_PIPELINE_BIN names another build's folder, for work on the patch itself."""
    return Path(os.environ.get("LLAMACPP_PIPELINE_BIN", toolchain_bin)) / "llama-quantize"


def maker(binary: Path, folder: Path) -> Make:
    def makes(
        shape: TinyLlama = DENSE,
        change: Callable[[dict[str, Floats]], None] | None = None,
        entries: Callable[[dict[str, Entry]], None] | None = None,
    ) -> Quantizer:
        quantizer = Quantizer(binary=binary, folder=folder, shape=shape)
        write_model(shape, quantizer.model, change=change)
        write_imatrix(shape, quantizer.imatrix, entries=entries)
        return quantizer

    return makes


@dataclass(frozen=True, kw_only=True)
class Entry:
    squares: Floats  # sums, one row per expert
    counts: Floats


def write_model(
    shape: TinyLlama, path: Path, *, change: Callable[[dict[str, Floats]], None] | None
) -> None:
    weights = dict(shape.weights())
    if change:
        change(weights)
    write_gguf(_Fixed(**vars(shape), fixed=weights), path, half=True)


@dataclass(frozen=True, kw_only=True)
class _Fixed(TinyLlama):
    fixed: Mapping[str, Floats] = field(default_factory=dict)

    def weights(self) -> Mapping[str, Floats]:
        return self.fixed


def write_imatrix(
    shape: TinyLlama, path: Path, *, entries: Callable[[dict[str, Entry]], None] | None
) -> None:
    """What llama-imatrix writes, of inputs that nobody measured."""
    draw = np.random.default_rng(7)
    made: dict[str, Entry] = {}
    for name, weight in shape.weights().items():
        if not name.startswith("blk.") or weight.ndim < 2:
            continue
        n_experts = weight.shape[0] if weight.ndim == 3 else 1
        counts = np.full((n_experts, 1), 100, np.float32)
        energies = np.exp(draw.standard_normal((n_experts, weight.shape[-1])))
        made[name] = Entry(squares=(energies * counts).astype(np.float32), counts=counts)
    if entries:
        entries(made)
    writer = GGUFWriter(path, "imatrix")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["random"])
    writer.add_uint32("imatrix.chunk_count", 1)
    writer.add_uint32("imatrix.chunk_size", 100)
    for name, entry in made.items():
        writer.add_tensor(f"{name}.in_sum2", entry.squares)
        writer.add_tensor(f"{name}.counts", entry.counts)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def types(plan: Plan) -> dict[str, str]:
    return {tensor["name"]: tensor["type"] for tensor in plan["tensors"]}


def chosen(plan: Plan) -> list[dict[str, Any]]:
    return [tensor for tensor in plan["tensors"] if tensor["status"] == "chosen"]


def bits(plan: Plan, name: str) -> float:
    return next(float(tensor["bpw"]) for tensor in plan["tensors"] if tensor["name"] == name)


def without_counts(plan: Plan) -> Plan:
    """Of two runs that should agree, all but how much each measured itself."""
    return {key: value for key, value in plan.items() if key not in {"measured", "reused"}}


def values(path: Path, name: str) -> Floats:
    tensor = next(each for each in GGUFReader(path).tensors if each.name == name)
    values = dequantize(tensor.data, tensor.tensor_type)
    return np.asarray(values.reshape([int(size) for size in reversed(tensor.shape)]), np.float32)


def rho(plan: Plan, name: str) -> dict[str, float]:
    tensor = next(each for each in plan["tensors"] if each["name"] == name)
    return {point["type"]: point["rho"] for point in tensor["curve"]}
