"""What the search of --target-bpw costs beside the quantization that follows it.

    python -m tests.bench.target_speed --bin BIN [--shape dense] [--shape experts] [--threads 2]

Makes models of random weights with heavy-tailed rows and columns: "dense" has four blocks of
Qwen3.5-9B's shapes, "experts" two of Qwen3-30B-A3B's with 128 experts, each a billion parameters
or more. Prints processor time and peak memory of a plain Q4_K_M with imatrix and of --plan-only,
and ends with 1 if the search takes more than half of the former, or a GiB above the mapped file.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, GGUFWriter

SHARE = 0.5  # of the processor time of the quantization
MEMORY = 1 << 30  # bytes above the model's size
N_TOKENS = 32768
N_COUNTS = 65536


@dataclass(frozen=True, kw_only=True)
class Took:
    cpu: float
    peak: int


@dataclass(frozen=True, kw_only=True)
class Shape:
    n_embd: int
    n_ff: int
    n_layers: int
    n_experts: int = 0

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield "token_embd.weight", (N_TOKENS, self.n_embd)
        yield "output_norm.weight", (self.n_embd,)
        for layer in range(self.n_layers):
            for name, shape in (*self._attention(), *self._ffn()):
                yield f"blk.{layer}.{name}.weight", shape

    def _attention(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield "attn_norm", (self.n_embd,)
        yield "attn_q", (2 * self.n_embd, self.n_embd)
        yield "attn_k", (self.n_embd // 4, self.n_embd)
        yield "attn_v", (self.n_embd // 4, self.n_embd)
        yield "attn_output", (self.n_embd, 2 * self.n_embd)

    def _ffn(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield "ffn_norm", (self.n_embd,)
        experts, suffix = ((self.n_experts,), "_exps") if self.n_experts else ((), "")
        if self.n_experts:
            yield "ffn_gate_inp", (self.n_experts, self.n_embd)
        yield f"ffn_gate{suffix}", (*experts, self.n_ff, self.n_embd)
        yield f"ffn_up{suffix}", (*experts, self.n_ff, self.n_embd)
        yield f"ffn_down{suffix}", (*experts, self.n_embd, self.n_ff)


SHAPES = {
    "dense": Shape(n_embd=4096, n_ff=12288, n_layers=4),
    "experts": Shape(n_embd=2048, n_ff=768, n_layers=2, n_experts=128),
}


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    good = True
    for name in options.shape or list(SHAPES):
        with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
            good = _measure(name, Path(scratch), options) and good
    return 0 if good else 1


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="target_speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--bin", type=Path, required=True, help="folder of the patched tools")
    parser.add_argument("--shape", action="append", choices=SHAPES)
    parser.add_argument("--bpw", default="4.8")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--scratch", type=Path, help="where 5 GB are free")
    return parser.parse_args(arguments)


def _measure(name: str, scratch: Path, options: argparse.Namespace) -> bool:
    model, imatrix = scratch / "model.gguf", scratch / "imatrix.gguf"
    write_model(SHAPES[name], model)
    write_imatrix(SHAPES[name], imatrix)
    tool, threads = str(options.bin / "llama-quantize"), str(options.threads)
    given = (tool, "--imatrix", str(imatrix))
    search = _run(*given, "--target-bpw", options.bpw, "--plan-only", str(model), threads)
    plain = _run(*given, str(model), str(scratch / "out.gguf"), "Q4_K_M", threads)
    size = model.stat().st_size
    share, above = search.cpu / plain.cpu, search.peak - size
    print(f"{name}: {size / 1e9:.2f} GB, {threads} threads")
    print(f"  Q4_K_M  {plain.cpu:8.1f} s of processor time, peak {plain.peak / 2**20:.0f} MiB")
    print(f"  search  {search.cpu:8.1f} s of processor time, peak {search.peak / 2**20:.0f} MiB")
    print(
        f"  share   {share:8.2f} (at most {SHARE}); memory above the file {above / 2**20:.0f} MiB"
    )
    return share <= SHARE and above <= MEMORY


def _run(*command: str) -> Took:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as child:
        peak = 0
        assert child.stdout is not None
        output = []
        for line in child.stdout:
            output.append(line)
            peak = max(peak, _peak(child.pid))
        peak = max(peak, _peak(child.pid))
    if child.returncode:
        raise SystemExit(b"".join(output).decode(errors="replace")[-3000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Took(cpu=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, peak=peak)


def _peak(pid: int) -> int:
    """Peak resident bytes so far; 0 once the process has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    lines = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(lines[0].split()[1]) * 1024 if lines else 0


def write_model(shape: Shape, path: Path) -> None:
    draw = np.random.default_rng(1)
    writer = GGUFWriter(path, "qwen3moe" if shape.n_experts else "qwen3", use_temp_file=True)
    writer.add_context_length(4096)
    writer.add_embedding_length(shape.n_embd)
    writer.add_block_count(shape.n_layers)
    writer.add_feed_forward_length(shape.n_ff)
    writer.add_head_count(32)
    writer.add_head_count_kv(8)
    writer.add_layer_norm_rms_eps(1e-6)
    if shape.n_experts:
        writer.add_expert_count(shape.n_experts)
        writer.add_expert_used_count(8)
        writer.add_expert_feed_forward_length(shape.n_ff)
    for name, size in shape.tensors():
        if len(size) == 1 or "gate_inp" in name:
            writer.add_tensor(name, np.ones(size, np.float32))
        else:
            half = _random_bf16(size, draw)
            writer.add_tensor(name, half, raw_dtype=GGMLQuantizationType.BF16)
    _finish(writer)


def _random_bf16(size: tuple[int, ...], draw: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Student's t with six degrees of freedom, times the size of its row and of its column."""
    rows, columns = int(np.prod(size[:-1])), size[-1]
    scale = np.exp(0.3 * draw.standard_normal(columns, np.float32)) / np.float32(columns**0.5)
    out = np.empty((rows, columns), np.uint16)
    for start in range(0, rows, 4096):
        part = out[start : start + 4096]
        noise = draw.standard_normal(part.shape, np.float32)
        tail = draw.standard_gamma(3, (len(part), 1, 1), np.float32) / 3
        blocks = noise.reshape(len(part), -1, 32) / np.sqrt(tail)
        values = np.asarray(blocks.reshape(part.shape) * scale, np.float32, order="C")
        part[:] = values.view(np.uint32) >> 16
    return out.view(np.uint8).reshape(*size[:-1], 2 * columns)


def write_imatrix(shape: Shape, path: Path) -> None:
    """Log-normal energies; experts used as unevenly as a Zipf law has it."""
    draw = np.random.default_rng(2)
    writer = GGUFWriter(path, "imatrix")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["random"])
    writer.add_uint32("imatrix.chunk_count", 128)
    writer.add_uint32("imatrix.chunk_size", 512)
    for name, size in shape.tensors():
        if not name.startswith("blk.") or len(size) == 1:
            continue
        n_slices = size[0] if len(size) == 3 else 1
        use = 1 / (1 + draw.permutation(n_slices))
        counts = np.round(N_COUNTS * use / use.max()).astype(np.float32).reshape(-1, 1)
        energies = np.exp(draw.standard_normal((n_slices, size[-1]))).astype(np.float32)
        writer.add_tensor(f"{name}.in_sum2", energies * counts)
        writer.add_tensor(f"{name}.counts", counts)
    _finish(writer)


def _finish(writer: GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
