"""Mixes of tensor types, made and measured: the ground of the experiments on sensitivities.

Mixes are put whole into a model that llama-kld-probe has loaded, so that no file is written.
What was measured is kept in the bench's folder and used again.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import gguf

from llamacpp_pipeline.demo.text import Text, demo_text
from llamacpp_pipeline.stages.curves import MEASURED, Curves, read_curves
from llamacpp_pipeline.stages.probe_lines import Measurement, read_measurements

FTYPES = ("Q2_K", "IQ3_M", "Q3_K_M", "IQ4_XS", "Q4_K_M", "Q5_K_M")
UNQUANTIZED = frozenset({"f32", "f16", "bf16"})
OTHERS = ("iq2_xxs", "iq2_xs", "iq4_nl", "q4_0", "q4_1", "q5_0", "q5_1")  # that mixes have
SLACK = 1e-7  # bits per weight, for the rounding of a size that is given as them
WIKITEXT_BYTES = 200_000
Types = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The tools, one model with its imatrix, and a folder whose files are kept."""

    name: str
    binaries: Path
    planner: Path  # llama-quantize, which may be of another build
    model: Path
    imatrix: Path
    folder: Path
    n_ctx: int
    threads: int

    def run(self, tool: Path, *arguments: str | Path) -> str:
        """What it said. It runs in the bench's folder, for what it makes beside its output."""
        done = subprocess.run([tool, *arguments], capture_output=True, check=False, cwd=self.folder)
        output = (done.stdout + done.stderr).decode("utf-8", errors="replace")
        if done.returncode:
            raise SystemExit(f"{tool.name} failed:\n{output[-3000:]}")
        return output

    def probe(self, text: Path, results: Path, *more: str | Path, chunks: int) -> None:
        self.run(
            self.binaries / "llama-kld-probe",
            *("-m", self.model, "-f", text, "--no-escape", "--imatrix", self.imatrix),
            *("-c", str(self.n_ctx), "--chunks", str(chunks), "-t", str(self.threads)),
            *("--fit", "off", "--hold", "native", "--results", results, *more),
        )

    def preset_file(self, ftype: str) -> Path:
        made = self.folder / f"{ftype}.gguf"
        if not made.is_file():
            half = made.with_suffix(".half")
            flags = ("--imatrix", self.imatrix, self.model, half, ftype, str(self.threads))
            self.run(self.binaries / "llama-quantize", *flags)
            half.replace(made)
        return made

    def planned(self, bpw: float, *more: str | Path) -> Types:
        """The types that llama-quantize chooses for a size."""
        plan = self.folder / "plan.json"
        self._plan(bpw, plan, *more)
        found = json.loads(plan.read_text(encoding="utf-8"))
        kept = {t["name"]: t["type"] for t in found["tensors"] if t["status"] != "kept"}
        return {name: kind for name, kind in kept.items() if kind not in UNQUANTIZED}

    @cached_property
    def curves(self) -> Curves:
        """The relative errors that the pipeline measures, and the prior."""
        return self._curves("curves.json", MEASURED)

    @cached_property
    def wide_curves(self) -> Curves:
        """Those of the other types too that mixes have."""
        return self._curves("wide-curves.json", (*MEASURED, *OTHERS))

    def _curves(self, name: str, types: Sequence[str]) -> Curves:
        plan = self.folder / name
        self._plan(16.0, plan, "--measure-all", "--type-set", ",".join(types))
        return read_curves(plan)

    def _plan(self, bpw: float, plan: Path, *more: str | Path) -> None:
        self.run(
            self.planner,
            *("--imatrix", self.imatrix, "--target-bpw", repr(bpw), "--plan-only"),
            *("--plan-file", plan, "--state-file", self.folder / "state", *more),
            *(self.model, str(self.threads)),
        )

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, int]]:
        """Elements and bytes of the model's tensors."""
        tensors = gguf.GGUFReader(self.model).tensors
        return {t.name: (int(t.n_elements), int(t.n_bytes)) for t in tensors}

    def bpw(self, mix: Types) -> float:
        """Of the model with these types."""
        size = sum(
            bytes_at(elements, mix[name]) if name in mix else stored
            for name, (elements, stored) in self.shapes.items()
        )
        return 8 * size / sum(elements for elements, _ in self.shapes.values())

    def mixes_in(self, folder: Path, ftypes: Sequence[str]) -> dict[str, Types]:
        """The mixes of files FTYPE.types, which are of the form of --tensor-type-file."""
        found: dict[str, Types] = {}
        for ftype in ftypes:
            file = folder / f"{ftype}.types"
            rules = [word.rpartition("=") for word in file.read_text(encoding="utf-8").split()]
            named = {
                name: next(kind for pattern, _, kind in rules if re.search(pattern, name))
                for name in self.curves.by_name
                if any(re.search(pattern, name) for pattern, _, _ in rules)
            }
            if not named:
                raise SystemExit(f"{file} names no tensor of {self.name}")
            found[ftype] = {n: kind for n, kind in named.items() if kind not in UNQUANTIZED}
        return found

    def measure(self, text: Path, mixes: Sequence[Types], chunks: int) -> list[Measurement]:
        """Each mix on a text; those that were measured already are read."""
        results = self.folder / f"mixes-{text.stem}-{chunks}.jsonl"
        wanted = [identity(mix) for mix in mixes]
        missing = sorted(set(wanted) - known(results).keys())
        if missing:
            plan = self.folder / "mixes.jsonl"
            lines = [f'{{"id": "{at}", "tensors": {mix}}}\n' for at, mix in enumerate(missing)]
            plan.write_text("".join(lines), encoding="utf-8")
            self.probe(text, results, "--plan", plan, chunks=chunks)
        found = known(results)
        return [found[mix] for mix in wanted]


def known(results: Path) -> dict[str, Measurement]:
    """What a file of results holds, by the mix."""
    if not results.is_file():
        return {}
    return {identity(measured.tensors): measured for measured in read_measurements(results)}


def identity(mix: Types) -> str:
    """A mix as text, the same for the same mix."""
    return json.dumps({name: canonical(kind) for name, kind in sorted(mix.items())})


def canonical(kind: str) -> str:
    """A type as ggml writes it: q4_k is q4_K there."""
    return kind[:-1] + "K" if kind.endswith("_k") else kind


def types_in(file: Path) -> Types:
    """Of the tensors of a GGUF that are quantized."""
    kinds = {t.name: t.tensor_type.name.lower() for t in gguf.GGUFReader(file).tensors}
    return {name: kind for name, kind in kinds.items() if kind not in UNQUANTIZED}


def bytes_at(elements: int, kind: str) -> int:
    """What so many elements take at a type."""
    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind.upper()]]
    return elements // int(block) * int(size)


def absolute(path: str) -> Path:
    """Tools run in another folder. Links are kept: split models are found by their names."""
    return Path(path).absolute()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What all experiments on sensitivities are told."""
    parser.add_argument("--bin", type=absolute, required=True, help="folder of the patched tools")
    parser.add_argument("--planner", type=absolute, help="another llama-quantize, for the plans")
    parser.add_argument(
        "--models", type=absolute, required=True, help="folder of NAME.gguf and NAME.imatrix"
    )
    parser.add_argument("--names", nargs="+", default=["demo", "dense", "moe"])
    parser.add_argument("--scratch", type=absolute, required=True, help="kept, and used again")
    parser.add_argument(
        "--wikitext", type=absolute, help="WikiText-2, raw; its first 200 kB are used"
    )
    parser.add_argument("--mixes", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--ftypes", nargs="+", default=FTYPES)
    parser.add_argument("--chunks", type=int, default=100, help="of the evaluation texts")
    parser.add_argument("--n-ctx", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)


def benches(options: argparse.Namespace) -> list[Bench]:
    """One for each name."""
    for name in options.names:
        (options.scratch / name).mkdir(parents=True, exist_ok=True)
    return [
        Bench(
            name=name,
            binaries=options.bin,
            planner=options.planner or options.bin / "llama-quantize",
            model=options.models / f"{name}.gguf",
            imatrix=options.models / f"{name}.imatrix",
            folder=options.scratch / name,
            n_ctx=options.n_ctx,
            threads=options.threads,
        )
        for name in options.names
    ]


def demo_file(options: argparse.Namespace, part: Text) -> Path:
    """A part of the demo text as a file."""
    made: Path = options.scratch / f"{part}.txt"
    made.write_text(demo_text(part), encoding="utf-8")
    return made


def evaluation_files(options: argparse.Namespace) -> list[Path]:
    """The texts to judge on, on which nothing is chosen."""
    files = [demo_file(options, "evaluation")]
    if options.wikitext:
        head: Path = options.scratch / "wikitext2.txt"
        head.write_bytes(options.wikitext.read_bytes()[:WIKITEXT_BYTES])
        files.append(head)
    return files
