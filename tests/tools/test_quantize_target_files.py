"""llama-quantize with patch 0004: shards, plain files, and plans from a real imatrix."""

from __future__ import annotations

import argparse
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter

from tests.tools.quantizer import (
    CHEAP,
    DENSE,
    EXPERTS,
    Make,
    Quantizer,
    maker,
    quantize_binary,
    types,
    values,
)
from tests.tools.tiny_llama import Floats, TinyLlama

pytestmark = [pytest.mark.tools, pytest.mark.timeout(300)]

STOCK = "LLAMACPP_PIPELINE_STOCK_BIN"
PLAIN = ("Q2_K", "IQ2_M", "IQ3_M", "IQ4_XS", "Q4_K_M", "Q6_K", "Q8_0", "COPY")


@pytest.fixture
def make(toolchain_bin: Path, tmp_path: Path) -> Make:
    return maker(quantize_binary(toolchain_bin), tmp_path)


def sharded(quantizer: Quantizer, toolchain_bin: Path) -> Path:
    """The first shard of the model as llama-gguf-split cuts it."""
    tool = toolchain_bin / "llama-gguf-split"
    asked = ("--split", "--split-max-tensors", "8", "model.gguf", "shard")
    subprocess.run([tool, *asked], cwd=quantizer.folder, check=True, capture_output=True)
    return min(quantizer.folder.glob("shard-*.gguf"))


def shards(folder: Path, stem: str) -> list[Path]:
    return sorted(folder.glob(f"{stem}-*-of-*.gguf"))


@pytest.mark.parametrize("wanted", [1_000_000, 1_234_567])
def test_kept_shards_are_within_the_size_together(
    make: Make, toolchain_bin: Path, wanted: int
) -> None:
    quantizer = make()
    first = sharded(quantizer, toolchain_bin)
    n_shards = len(shards(quantizer.folder, "shard"))

    plan = quantizer.plan("--target-size", str(wanted), "--keep-split", model=first)
    ran = quantizer.run(
        *("--imatrix", quantizer.imatrix, *CHEAP, "--target-size", str(wanted)),
        *("--keep-split", first, "out.gguf", "2"),
    )

    assert ran.code == 0, ran.output
    made = shards(quantizer.folder, "out")
    assert len(made) == n_shards > 1
    assert sum(each.stat().st_size for each in made) == plan["file_bytes"] <= wanted
    assert 0.99 * wanted < plan["file_bytes"]


def test_shards_that_are_joined_are_charged_one_header(make: Make, toolchain_bin: Path) -> None:
    quantizer = make()
    first = sharded(quantizer, toolchain_bin)

    plan = quantizer.plan("--target-size", "1MB", model=first)
    ran = quantizer.run(
        *("--imatrix", quantizer.imatrix, *CHEAP, "--target-size", "1MB"),
        *(first, "out.gguf", "2"),
    )

    assert ran.code == 0, ran.output
    assert (quantizer.folder / "out.gguf").stat().st_size == plan["file_bytes"] <= 1_000_000
    assert types(plan) == types(quantizer.plan("--target-size", "1MB"))


@pytest.mark.parametrize("shape", [DENSE, EXPERTS], ids=["dense", "experts"])
@pytest.mark.parametrize("ftype", PLAIN)
def test_plain_files_are_those_of_the_unpatched_tool(
    make: Make, shape: TinyLlama, ftype: str
) -> None:
    stock = os.environ.get(STOCK)
    if stock is None:
        pytest.skip(f"{STOCK} names no folder of unpatched binaries")
    quantizer = make(shape)
    unpatched = Quantizer(binary=Path(stock) / "llama-quantize", folder=quantizer.folder)
    given = ("--imatrix", "imatrix.gguf", "--tensor-type", "attn_v=q5_k", "model.gguf")

    ours = quantizer.run(*given, "ours.gguf", ftype, "2")
    theirs = unpatched.run(*given, "theirs.gguf", ftype, "2")

    assert (ours.code, theirs.code) == (0, 0), ours.output
    first, second = (
        (quantizer.folder / f"{each}.gguf").read_bytes() for each in ("ours", "theirs")
    )
    assert first == second


def collect(quantizer: Quantizer, toolchain_bin: Path) -> None:
    """A real imatrix in place of the made-up one."""
    text = quantizer.folder / "text.txt"
    text.write_bytes(Path(argparse.__file__).read_bytes()[:8_000])
    asked = ("-m", "model.gguf", "-f", text, "-o", "imatrix.gguf", "-c", "128", "--chunks", "8")
    subprocess.run(
        [toolchain_bin / "llama-imatrix", *asked, "--threads", "1", "-fit", "off"],
        cwd=quantizer.folder,
        check=True,
        capture_output=True,
    )


def with_other_means(imatrix: Path, out: Path, means: str) -> None:
    """No means, or those of inputs that never vary."""
    reader = GGUFReader(imatrix)
    found = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
    writer = GGUFWriter(out, "imatrix")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["text.txt"])
    writer.add_uint32("imatrix.chunk_count", 8)
    writer.add_uint32("imatrix.chunk_size", 128)
    for name, data in found.items():
        tensor = name.removesuffix(".in_sum")
        if tensor == name:
            writer.add_tensor(name, data)
        elif means == "constant":
            squares, count = found[f"{tensor}.in_sum2"], found[f"{tensor}.counts"]
            writer.add_tensor(name, np.sqrt(squares * count.reshape(-1, 1)).reshape(data.shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("means", ["real", "none", "constant"])
def test_the_means_of_a_real_imatrix_are_part_of_rho(
    make: Make, toolchain_bin: Path, means: str
) -> None:
    """Against numpy, from the file that llama-quantize writes.

    The error's mean counts, that of the output does not, down to a twentieth of the whole.
    """
    quantizer = make()
    collect(quantizer, toolchain_bin)
    if means != "real":
        real = quantizer.imatrix.rename(quantizer.folder / "real.gguf")
        with_other_means(real, quantizer.imatrix, means)
    name = "blk.0.attn_q.weight"
    plan = quantizer.plan("--target-bpw", "5", "--measure-all")
    pin = ("--tensor-type", f"{name}=q3_K")
    ran = quantizer.run("--imatrix", "imatrix.gguf", *pin, "model.gguf", "q.gguf", "Q4_K_S")
    assert ran.code == 0, ran.output

    before, after = (values(quantizer.folder / each, name) for each in ("model.gguf", "q.gguf"))
    variance, mean = capped_moments(quantizer.imatrix, name)
    assert (np.abs(mean).max() > 0.1) == (means != "none")  # a test of zeros would say nothing
    (error_spread, error_shift), (spread, shift) = (
        ((rows**2) @ variance, (rows @ mean) ** 2) for rows in (after - before, before)
    )
    output = np.maximum(spread, 0.05 * (spread + shift))
    assert (output > spread).any() == (means == "constant")
    expected = (error_spread + error_shift).sum() / output.sum()

    tensor = next(each for each in plan["tensors"] if each["name"] == name)
    point = next(each for each in tensor["curve"] if each["type"] == "q3_K")
    assert point["rho"] == pytest.approx(float(expected), rel=1e-4)


def capped_moments(imatrix: Path, name: str) -> tuple[Floats, Floats]:
    """Variance and mean of every input channel of a matrix, without what a few tokens excite."""
    found = {tensor.name: tensor.data for tensor in GGUFReader(imatrix).tensors}
    count = float(values(imatrix, f"{name}.counts").ravel()[0])
    energies = values(imatrix, f"{name}.in_sum2").ravel() / count
    cap = 3 * np.sort(energies)[(len(energies) - 1) * 99 // 100]
    means = np.zeros_like(energies)
    if f"{name}.in_sum" in found:
        means = values(imatrix, f"{name}.in_sum").ravel() / count
    means = np.clip(means, -np.sqrt(cap), np.sqrt(cap))
    return np.maximum(np.minimum(energies, cap) - means**2, 0), means
