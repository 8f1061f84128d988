"""How far two computations of one imatrix are apart: the demo model's, in batches of many sizes.

    python -m tests.bench.imatrix_error

Figures that docs/publishing.md quotes. Needs the build; about ten seconds on one core.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from llamacpp_pipeline.config.schema import ToolchainConfig
from llamacpp_pipeline.datasets import imatrix_file
from llamacpp_pipeline.datasets.imatrix_file import Imatrix
from llamacpp_pipeline.demo import MODEL_DIR, PRE_TOKENIZER, demo_text
from llamacpp_pipeline.results.reproduction import IMATRIX_TOLERANCE, imatrix_difference
from llamacpp_pipeline.stages import convert, imatrix
from llamacpp_pipeline.stages.base import Argv
from llamacpp_pipeline.toolchain.binaries import Toolchain, describe

WAYS = ((128, 1), (128, 2), (64, 1), (32, 1))  # --ubatch-size, threads


def main() -> None:
    """Print the largest relative distance of each from the first."""
    tools = describe(ToolchainConfig())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = [computed(tools, converted(tools, folder), *way) for way in WAYS]
    for (n_ubatch, n_threads), found in zip(WAYS, made, strict=True):
        off = imatrix_difference(found, made[0])
        print(f"--ubatch-size {n_ubatch}, {n_threads} threads: {off:.1e}")
    print(f"counted as the same up to {IMATRIX_TOLERANCE}")


def converted(tools: Toolchain, folder: Path) -> Path:
    """The demo model's reference GGUF."""
    gguf = folder / "model.gguf"
    if not gguf.exists():
        params = convert.ConvertParams(
            outtype="f16", pre_tokenizer=PRE_TOKENIZER, model_name="demo"
        )
        run(tools, convert.STAGE.argv(params, {"model": MODEL_DIR, "gguf": gguf}))
    return gguf


def computed(tools: Toolchain, gguf: Path, n_ubatch: int, n_threads: int) -> Imatrix:
    """The imatrix, in batches of that size."""
    text, out = gguf.with_name("text.txt"), gguf.with_name(f"{n_ubatch}-{n_threads}.gguf")
    text.write_text(demo_text("calibration"), encoding="utf-8")
    params = imatrix.ImatrixParams(n_ctx=128, n_batch=128, n_ubatch=n_ubatch, n_chunks=40)
    paths = {"model": gguf, "corpus": text, "imatrix": out, "statistics": out.with_suffix(".json")}
    run(tools, (*imatrix.STAGE.argv(params, paths), "--threads", str(n_threads)))
    return imatrix_file.read(out)


def run(tools: Toolchain, argv: Argv) -> None:
    """One child; what it says is shown where it fails."""
    command = [*tools.prefix(argv[0]), *argv[1:]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


if __name__ == "__main__":
    main()
