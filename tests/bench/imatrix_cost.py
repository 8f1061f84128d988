"""What the activation statistics cost: the stock and the patched llama-imatrix, run in turns.

    python -m tests.bench.imatrix_cost --stock BIN --patched BIN --text FILE MODEL...
    python -m tests.bench.imatrix_cost --stock BIN --patched BIN --text FILE --random-300m

Prints, per model, the ratio patched / stock of wall time and of processor time: the median over
the rounds and its spread. A round runs both, in changing order, so that drift hits both alike.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.tools.tiny_llama import TinyLlama, write_gguf

LIMIT = 1.03
SIZE_300M = TinyLlama(n_embd=1024, n_head=16, n_head_kv=4, n_ff=4096, n_layers=20)


@dataclass(frozen=True, kw_only=True)
class Took:
    wall: float
    cpu: float


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        models = list(options.models)
        if options.random_300m:
            models.append(Path(scratch) / "random-300m.gguf")
            write_gguf(SIZE_300M, models[-1], half=True)
        ratios = [_measure(options, model, Path(scratch)) for model in models]
    return 0 if all(ratio <= LIMIT for ratio in ratios) else 1


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="imatrix_cost", description=__doc__)
    parser.add_argument("models", type=Path, nargs="*")
    parser.add_argument("--random-300m", action="store_true", help="make and measure such a model")
    parser.add_argument("--stock", type=Path, required=True, help="folder of the unpatched tools")
    parser.add_argument("--patched", type=Path, required=True, help="folder of the patched tools")
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--chunks", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    return parser.parse_args(arguments)


def _measure(options: argparse.Namespace, model: Path, scratch: Path) -> float:
    """The median ratio of processor time, after printing all of it."""
    took: dict[Path, list[Took]] = {options.stock: [], options.patched: []}
    for number in range(options.rounds + 1):
        order = [options.stock, options.patched] if number % 2 else [options.patched, options.stock]
        for folder in order:
            one = _run(options, folder=folder, model=model, out=scratch / "imatrix.gguf")
            if number:  # the first round fills the page cache
                took[folder].append(one)
    pairs = list(zip(took[options.stock], took[options.patched], strict=True))
    wall = [patched.wall / stock.wall for stock, patched in pairs]
    cpu = [patched.cpu / stock.cpu for stock, patched in pairs]
    stock_cpu = statistics.median(stock.cpu for stock, _ in pairs)
    print(f"{model.name}: {options.chunks} chunks of 512, {options.threads} threads")
    for name, values in (("wall time", wall), ("processor time", cpu)):
        print(f"  {name:15} {_spread(values)}")
    print(f"  stock takes     {stock_cpu:.2f} s of processor time")
    return statistics.median(cpu)


def _spread(ratios: Sequence[float]) -> str:
    middle = statistics.median(ratios)
    return f"x {middle:.4f}   ({min(ratios):.4f} to {max(ratios):.4f}, {len(ratios)} rounds)"


def _run(options: argparse.Namespace, *, folder: Path, model: Path, out: Path) -> Took:
    command = (
        str(folder / "llama-imatrix"),
        *("--model", str(model), "--file", str(options.text), "--output-file", str(out)),
        *("--ctx-size", "512", "--chunks", str(options.chunks)),
        *("--threads", str(options.threads), "-ngl", "0", "-fit", "off"),
    )
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    before, start = os.times(), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=kept)
    after, wall = os.times(), time.perf_counter() - start
    used = (after.children_user - before.children_user) + (
        after.children_system - before.children_system
    )
    return Took(wall=wall, cpu=used)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
