"""The patched llama-imatrix against a computation of the same activations in double precision."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from llamacpp_pipeline.datasets import imatrix_file
from llamacpp_pipeline.datasets.imatrix_file import Imatrix
from llamacpp_pipeline.datasets.imatrix_statistics import document, statistics
from tests.tools.tiny_llama import TinyLlama, chunks_of, forward, write_gguf

pytestmark = pytest.mark.tools

N_CTX = 128
N_CHUNKS = 8
UNIT = 2.0**-24  # the rounding of one operation in F32
DENSE = TinyLlama(n_layers=2)
EXPERTS = TinyLlama(n_layers=2, n_ff=256, n_experts=8)
# The whole model in F32, so that only the order of additions differs from the reference.
EXACT = ("-ctk", "f32", "-ctv", "f32", "-fa", "off", "-ngl", "0", "-fit", "off", "--threads", "1")
Run = Callable[..., subprocess.CompletedProcess[str]]


@dataclass(frozen=True, kw_only=True)
class Sums:
    counts: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]
    magnitudes: npt.NDArray[np.float64]  # of |x|
    squares: npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Made:
    """A model, its GGUF, and the imatrix that the tool made from the text."""

    model: TinyLlama
    gguf: Path
    imatrix: Path
    log: str


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Text that every Python has."""
    path = tmp_path_factory.mktemp("text") / "argparse.txt"
    path.write_bytes(Path(argparse.__file__).read_bytes()[:20_000])
    return path


@pytest.fixture(scope="module")
def run(toolchain_bin: Path) -> Run:
    def run_tool(
        *arguments: str | Path, tool: str = "llama-imatrix"
    ) -> subprocess.CompletedProcess[str]:
        command = [str(toolchain_bin / tool), *(str(one) for one in arguments)]
        return subprocess.run(
            command,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={"PATH": os.environ["PATH"]},
            timeout=50,
        )

    return run_tool


def collect(model: Path, text: Path, out: Path, *more: str, n_chunks: int = N_CHUNKS) -> list[str]:
    """Arguments of a run that collects."""
    paths = ["-m", str(model), "-f", str(text), "-o", str(out)]
    return [*paths, "-c", str(N_CTX), "--chunks", str(n_chunks), *EXACT, *more]


@pytest.fixture(scope="module", params=["dense", "experts"])
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, run: Run, text: Path
) -> Made:
    model = DENSE if request.param == "dense" else EXPERTS
    folder = tmp_path_factory.mktemp(request.param)
    write_gguf(model, folder / "model.gguf")
    done = run(*collect(folder / "model.gguf", text, folder / "im.gguf"))
    assert done.returncode == 0, done.stdout
    return Made(
        model=model, gguf=folder / "model.gguf", imatrix=folder / "im.gguf", log=done.stdout
    )


@pytest.fixture(scope="module")
def reference(made: Made, text: Path) -> dict[str, Sums]:
    """What the tool should have counted, by weight."""
    sums: dict[str, Sums] = {}

    def observe(
        name: str, rows: npt.NDArray[np.float64], expert: npt.NDArray[np.int64] | None
    ) -> None:
        n_matrices = 1 if expert is None else made.model.n_experts
        where = np.zeros(len(rows), dtype=np.int64) if expert is None else expert
        if name not in sums:
            shape = (n_matrices, rows.shape[1])
            sums[name] = Sums(
                counts=np.zeros(n_matrices),
                values=np.zeros(shape),
                magnitudes=np.zeros(shape),
                squares=np.zeros(shape),
            )
        np.add.at(sums[name].counts, where, 1)
        np.add.at(sums[name].values, where, rows)
        np.add.at(sums[name].magnitudes, where, np.abs(rows))
        np.add.at(sums[name].squares, where, rows * rows)

    for ids in chunks_of(text.read_bytes(), n_ctx=N_CTX)[:N_CHUNKS]:
        forward(made.model, ids, observe)
    return sums


def test_sums_agree_with_the_models_own_activations_in_double(
    made: Made, reference: dict[str, Sums]
) -> None:
    got = imatrix_file.read(made.imatrix)

    assert got.entries.keys() == reference.keys()
    for name, sums in reference.items():
        entry = got.entries[name]
        assert entry.values is not None
        assert entry.counts.tolist() == sums.counts.tolist(), name
        # The tool computes the activations themselves in F32: 2e-6 of the sum of |x|.
        np.testing.assert_array_less(
            np.abs(entry.values - sums.values), 2e-6 * sums.magnitudes + 1e-30, err_msg=name
        )
        np.testing.assert_allclose(entry.squares, sums.squares, rtol=1e-4, err_msg=name)


def test_sums_of_the_first_layer_keep_to_the_stated_error(
    made: Made, reference: dict[str, Sums]
) -> None:
    # Its inputs are the embeddings after one norm: nothing but the sums is rounded much.
    sums = reference["blk.0.attn_q.weight"]
    entry = imatrix_file.read(made.imatrix).entries["blk.0.attn_q.weight"]
    n_calls = N_CHUNKS * N_CTX / 512
    own_rounding = 3  # of the norm, which is computed in F32 too

    bound = (n_calls + 3 + own_rounding) * UNIT * sums.magnitudes
    assert (np.abs(np.asarray(entry.values) - sums.values) <= bound).all()
    square_bound = (entry.n_rows + 2 * own_rounding) * UNIT * sums.squares
    assert (np.abs(entry.squares - sums.squares) <= square_bound).all()


def test_the_statistics_of_the_models_own_activations_are_those_the_tool_shows(
    made: Made, reference: dict[str, Sums], run: Run, tmp_path: Path
) -> None:
    own = Imatrix(
        entries={
            name: imatrix_file.Entry(
                name=name,
                squares=sums.squares,
                counts=sums.counts.astype(np.int64),
                values=sums.values,
            )
            for name, sums in reference.items()
        }
    )

    shown = shown_by(run, made.imatrix, out=tmp_path / "stats.json")

    assert_agrees(document(statistics(own)), shown, rel=2e-4, absolute=1e-5)


def shown_by(run: Run, *files: Path, out: Path) -> dict[str, object]:
    given = [argument for file in files for argument in ("--in-file", str(file))]
    done = run(*given, "--show-statistics", "--statistics-file", out)
    assert done.returncode == 0, done.stdout
    loaded = json.loads(out.read_text())
    return {"tensors": loaded["tensors"], "layers": loaded["layers"]}


def assert_agrees(
    ours: object, theirs: object, *, rel: float, absolute: float, where: str = ""
) -> None:
    deeper = {"rel": rel, "absolute": absolute}
    if isinstance(ours, dict):
        assert isinstance(theirs, dict)
        assert ours.keys() == theirs.keys(), where
        for key, value in ours.items():
            assert_agrees(value, theirs[key], where=f"{where}/{key}", **deeper)
    elif isinstance(ours, list | tuple):
        assert isinstance(theirs, list)
        assert len(ours) == len(theirs), where
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            assert_agrees(one, other, where=f"{where}/{number}", **deeper)
    elif isinstance(ours, float):
        assert theirs == pytest.approx(ours, rel=rel, abs=absolute), where
    else:
        assert ours == theirs, where


@pytest.mark.parametrize("kind", ["ours", "without-values", "dat"])
def test_python_and_the_tool_compute_the_same_statistics(
    made: Made, run: Run, tmp_path: Path, kind: str
) -> None:
    path = made.imatrix
    if kind == "without-values":
        path = without_values(made.imatrix, tmp_path / "old.gguf")
    elif kind == "dat":
        path = tmp_path / "old.dat"
        assert run("--in-file", made.imatrix, "--output-format", "dat", "-o", path).returncode == 0

    shown = shown_by(run, path, out=tmp_path / "stats.json")

    ours = document(statistics(imatrix_file.read(path)))
    assert_agrees(ours, shown, rel=1e-9, absolute=1e-12)


def without_values(path: Path, out: Path) -> Path:
    """The file as upstream's tool would have written it."""
    loaded = imatrix_file.read(path)
    old = {name: replace(entry, values=None) for name, entry in loaded.entries.items()}
    imatrix_file.write(replace(loaded, entries=old), out)
    return out


def test_the_table_shows_every_tensor_and_says_once_what_is_missing(
    made: Made, run: Run, tmp_path: Path
) -> None:
    old = without_values(made.imatrix, tmp_path / "old.gguf")

    table = run("--in-file", old, "--show-statistics").stdout

    for name in imatrix_file.read(old).entries:
        assert name in table
    assert table.count("tensors have no mean activations") == 1


def test_quantized_files_do_not_depend_on_the_new_data(
    made: Made, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for folder, source in (("new", made.imatrix), ("old", None)):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)  # the file's name goes into the result
        if source is None:
            without_values(made.imatrix, Path("im.gguf"))
        else:
            shutil.copy(source, "im.gguf")
        done = run("--imatrix", "im.gguf", made.gguf, "q.gguf", "q3_k_m", tool="llama-quantize")
        assert done.returncode == 0, done.stdout
        results.append(Path("q.gguf").read_bytes())

    assert results[0] == results[1]


def test_the_unpatched_tool_makes_the_same_squares_and_reads_ours(
    made: Made, text: Path, tmp_path: Path
) -> None:
    stock = os.environ.get("LLAMACPP_PIPELINE_STOCK_BIN")
    if stock is None:
        pytest.skip("LLAMACPP_PIPELINE_STOCK_BIN names no folder of unpatched binaries")
    tool = str(Path(stock) / "llama-imatrix")
    out, merged = tmp_path / "stock.gguf", tmp_path / "merged.gguf"

    subprocess.run([tool, *collect(made.gguf, text, out)], check=True, capture_output=True)
    given = ["-m", "none", "-c", str(N_CTX), "--in-file", str(made.imatrix), "-o", str(merged)]
    subprocess.run([tool, *given], check=True, capture_output=True)

    old, new = imatrix_file.read(out), imatrix_file.read(made.imatrix)
    assert old.entries.keys() == new.entries.keys()
    for name, entry in old.entries.items():
        np.testing.assert_array_equal(entry.squares, new.entries[name].squares)
        np.testing.assert_array_equal(entry.counts, new.entries[name].counts)
    assert merged.read_bytes() == out.read_bytes()


@pytest.mark.parametrize("mix", ["new+new", "new+old", "old+new", "new+dat", "dat+new"])
def test_the_tool_merges_as_python_does(made: Made, run: Run, tmp_path: Path, mix: str) -> None:
    dat = tmp_path / "one.dat"
    assert run("--in-file", made.imatrix, "--output-format", "dat", "-o", dat).returncode == 0
    files = {
        "new": made.imatrix,
        "old": without_values(made.imatrix, tmp_path / "one.gguf"),
        "dat": dat,
    }
    chosen = [files[kind] for kind in mix.split("+")]
    out = tmp_path / "merged.gguf"

    given = [argument for file in chosen for argument in ("--in-file", str(file))]
    done = run(*given, "-o", out, "-c", str(N_CTX))

    assert done.returncode == 0, done.stdout
    got = imatrix_file.read(out)
    expected = imatrix_file.merge(
        [imatrix_file.read(file, dat_chunk_size=N_CTX) for file in chosen]
    )
    assert (got.chunk_count, got.chunk_size) == (expected.chunk_count, expected.chunk_size)
    for name, entry in expected.entries.items():
        assert got.entries[name].counts.tolist() == entry.counts.tolist()
        np.testing.assert_allclose(got.entries[name].squares, entry.squares, rtol=4 * UNIT)
        assert (got.entries[name].values is None) == (entry.values is None) == (mix != "new+new")


def test_a_merge_keeps_the_chunk_size_of_its_files(made: Made, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "merged.gguf"

    run("--in-file", made.imatrix, "--in-file", made.imatrix, "-o", out)

    got = imatrix_file.read(out)
    assert (got.chunk_count, got.chunk_size) == (2 * N_CHUNKS, N_CTX)


def test_one_count_for_all_experts_merges_in_either_order(
    made: Made, run: Run, tmp_path: Path
) -> None:
    if not made.model.n_experts:
        pytest.skip("a dense model has one count anyway")
    loaded = imatrix_file.read(made.imatrix)
    flat = {
        name: replace(
            entry, squares=entry.squares.reshape(1, -1), counts=entry.counts[:1], values=None
        )
        for name, entry in loaded.entries.items()
    }
    imatrix_file.write(replace(loaded, entries=flat), tmp_path / "flat.gguf")
    files = [made.imatrix, tmp_path / "flat.gguf"]

    for order in (files, files[::-1]):
        given = [argument for file in order for argument in ("--in-file", str(file))]
        done = run(*given, "-o", tmp_path / "merged.gguf")
        assert done.returncode == 0, done.stdout
        got = imatrix_file.read(tmp_path / "merged.gguf")
        for name, entry in loaded.entries.items():
            assert (got.entries[name].counts == entry.counts + entry.counts[0]).all()


@pytest.mark.parametrize("n_batch", [2048, N_CTX, 64], ids=["many-chunks", "one", "half"])
def test_a_run_that_is_killed_and_resumed_gives_the_file_of_one_that_was_not(
    made: Made, run: Run, toolchain_bin: Path, text: Path, tmp_path: Path, n_batch: int
) -> None:
    whole, part = tmp_path / "whole.gguf", tmp_path / "part.gguf"
    more = ("-b", str(n_batch), "-ub", "64", "-ofreq", "4", "--resume")
    assert run(*collect(made.gguf, text, whole, *more, n_chunks=32)).returncode == 0

    kill_after_first_save(toolchain_bin, collect(made.gguf, text, part, *more, n_chunks=32), part)
    saved = imatrix_file.read(part)
    resumed = run(*collect(made.gguf, text, part, *more, n_chunks=32))

    assert resumed.returncode == 0, resumed.stdout
    assert saved.chunk_count is not None
    assert f"going on after {saved.chunk_count} chunks" in resumed.stdout
    assert part.read_bytes() == whole.read_bytes()


def kill_after_first_save(folder: Path, arguments: Sequence[str], out: Path) -> None:
    command = [str(folder / "llama-imatrix"), *arguments]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        while not out.exists() and child.poll() is None:
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)


def test_a_finished_run_goes_on_with_more_chunks(
    made: Made, run: Run, text: Path, tmp_path: Path
) -> None:
    whole, part = tmp_path / "whole.gguf", tmp_path / "part.gguf"
    one_at_a_time = ("-b", str(N_CTX), "--resume")

    for out, n_chunks in ((part, 3), (part, 7), (whole, 7)):
        done = run(*collect(made.gguf, text, out, *one_at_a_time, n_chunks=n_chunks))
        assert done.returncode == 0, done.stdout

    assert part.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    ("case", "message"),
    [
        pytest.param("other-text", "are not the ones that are counted", id="other-text"),
        pytest.param("other-batch", "made with another n_batch", id="other-batch"),
        pytest.param("fewer-chunks", "more than the 4 of this run", id="fewer-chunks"),
        pytest.param("no-state", "not written by a run that can be resumed", id="no-state"),
        pytest.param("cut", "not a whole GGUF file", id="cut-short"),
        pytest.param("dat", "needs the GGUF format", id="dat"),
    ],
)
def test_what_cannot_be_resumed_is_refused_and_left_as_it_is(
    made: Made, run: Run, text: Path, tmp_path: Path, case: str, message: str
) -> None:
    out, other = tmp_path / "im.gguf", tmp_path / "other.txt"
    other.write_bytes(text.read_bytes()[::-1])
    shutil.copy(made.imatrix, out)
    if case == "no-state":
        without_values(made.imatrix, out)
    if case == "cut":
        out.write_bytes(out.read_bytes()[:-5000])
    before = out.read_bytes()
    more = {"other-batch": ("-b", "64"), "dat": ("--output-format", "dat")}.get(case, ())

    done = run(
        *collect(
            made.gguf,
            other if case == "other-text" else text,
            out,
            "--resume",
            *more,
            n_chunks=4 if case == "fewer-chunks" else N_CHUNKS,
        )
    )

    assert done.returncode == 1
    assert message in done.stdout
    assert out.read_bytes() == before


@pytest.mark.parametrize("out", ["/dev/full", "no/such/folder/im.gguf"])
def test_a_file_that_cannot_be_written_is_a_failure(made: Made, run: Run, out: str) -> None:
    if out == "/dev/full" and not Path(out).exists():
        pytest.skip("this system has no /dev/full")

    done = run("--in-file", made.imatrix, "-o", out)

    assert done.returncode == 1
    assert "cannot" in done.stdout


def test_experts_with_few_rows_are_warned_about_once_with_the_remedy(made: Made) -> None:
    warned = made.log.count("expert matrices saw fewer than 128 rows")

    few = [
        count
        for entry in imatrix_file.read(made.imatrix).entries.values()
        for count in entry.counts.tolist()
        if len(entry.counts) > 1 and count < 128
    ]
    assert warned == (1 if few else 0)
    assert ("use more text" in made.log) == bool(few)
    assert bool(few) == bool(made.model.n_experts)


def test_no_temporary_file_is_left(made: Made) -> None:
    assert sorted(one.name for one in made.imatrix.parent.iterdir()) == ["im.gguf", "model.gguf"]
