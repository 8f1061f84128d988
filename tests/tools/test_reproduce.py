"""A run made again from its manifest alone, with the real binaries; and a file split and merged."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llamacpp_pipeline.datasets import imatrix_file
from llamacpp_pipeline.datasets.imatrix_file import Entry, Imatrix
from llamacpp_pipeline.errors import PublishError
from llamacpp_pipeline.process.runner import LocalRunner
from llamacpp_pipeline.report.release import LocalFile, Release
from llamacpp_pipeline.report.shards import FOLDER, TOOL, Splitter
from llamacpp_pipeline.results.manifest import read_manifest
from llamacpp_pipeline.stages.gguf_facts import read_gguf
from llamacpp_pipeline.toolchain.binaries import Toolchain

pytestmark = [pytest.mark.tools, pytest.mark.timeout(600)]

PROGRAM = "import sys; from llamacpp_pipeline.cli.main import main; sys.exit(main())"
CONFIG = """
model: {demo: true, name: small}
convert: {pre_tokenizer: qwen35}
evaluation: {corpus: {demo: evaluation}, n_ctx: 128, n_chunks: 4}
calibration: {corpus: {demo: calibration}, n_ctx: 128, n_chunks: 4}
variants: [Q4_K_M]
bench: null
"""
PUBLISHED = (
    CONFIG
    + """
publish: {repo: me/small-GGUF}
card: {quantized_by: "Me = myself", license: apache-2.0, base_model: them/Demo}
"""
)
GGUF = "small-Q4_K_M.gguf"
IMATRIX = "small-imatrix.gguf"


def program(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LLAMACPP_PIPELINE_STORE": "/nowhere"},
    )


def run(folder: Path, text: str, *more: str) -> Path:
    """The result folder of a run; the steps that differ from earlier ones are made."""
    out = folder / "out"
    folder.mkdir(exist_ok=True)
    (folder / "small.yaml").write_text(text)
    store = folder.parent / "store"
    where = ("--config", folder / "small.yaml", "--store", store, "--out", out)
    ran = program("run", *where, "--set", "placement.n_threads=1", *more)
    assert ran.returncode == 0, ran.stderr
    return out


@pytest.fixture(scope="module")
def place(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    del toolchain
    return tmp_path_factory.mktemp("reproduce")


@pytest.fixture(scope="module")
def published(place: Path) -> Path:
    return run(place / "published", PUBLISHED)


def reproduced(manifest: Path, store: Path, *more: object) -> tuple[int, dict[str, Any], str]:
    ran = program("reproduce", manifest, "--store", store, "--format", "json", *more)
    assert ran.stdout, ran.stderr
    return ran.returncode, json.loads(ran.stdout), ran.stderr


def verdicts(document: dict[str, Any]) -> dict[str, str]:
    return {file["name"]: file["verdict"] for file in document["files"]}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_published_file_says_who_made_it(published: Path) -> None:
    metadata = read_gguf(published / GGUF).metadata

    assert metadata["general.quantized_by"] == "Me = myself"
    assert metadata["general.license"] == "apache-2.0"
    assert metadata["general.repo_url"] == "https://huggingface.co/me/small-GGUF"
    assert metadata["general.base_model.count"] == 1
    assert metadata["general.base_model.0.organization"] == "them"
    (step,) = (s for s in read_manifest(published).steps if s.stage == "quantize")
    assert (
        metadata["llamacpp_pipeline.recipe.sha256"]
        == step.labels["llamacpp_pipeline.recipe.sha256"]
    )


def test_the_manifest_alone_makes_the_same_files(published: Path, place: Path) -> None:
    """From an empty store, on another number of threads, the manifest in a folder of its own."""
    alone = place / "stranger"
    alone.mkdir()
    shutil.copyfile(published / "manifest.json", alone / "manifest.json")

    status, document, _ = reproduced(
        alone / "manifest.json",
        place / "theirs",
        *("--set", "placement.n_threads=2", "--out", alone),
    )

    assert verdicts(document) == {GGUF: "identical", IMATRIX: "identical"}
    assert status == 0
    assert digest(alone / GGUF) == digest(published / GGUF)
    assert digest(alone / IMATRIX) == digest(published / IMATRIX)


def test_what_differs_is_named_with_the_reason(published: Path, place: Path) -> None:
    """Another imatrix than ours is recomputed: the chunks are not what the manifest says."""
    status, document, _ = reproduced(
        published / "manifest.json", place / "theirs", "--set", "calibration.n_chunks=3"
    )

    assert status == 1
    assert verdicts(document) == {GGUF: "differs", IMATRIX: "differs"}
    reasons = {file["name"]: file["reasons"] for file in document["files"]}
    assert reasons[IMATRIX] == ["imatrix: n_chunks was 4 and is 3"]
    assert "imatrix: n_chunks was 4 and is 3" in reasons[GGUF]


def test_an_imatrix_of_another_machine_is_within_its_error_and_the_rest_is_made_from_it(
    place: Path,
) -> None:
    """As a GPU leaves it: every sum a little off, and the published files made from that."""
    ours = run(place / "ours", CONFIG)
    theirs = place / "their-imatrix"
    theirs.mkdir()
    imatrix_file.write(nudged(imatrix_file.read(ours / IMATRIX)), theirs / "imatrix.gguf")
    given = CONFIG.replace("calibration: {corpus: {demo: calibration}, n_ctx: 128, n_chunks: 4}",
                           f"imatrix: {{path: {theirs / 'imatrix.gguf'}}}")  # fmt: skip
    made = run(place / "given", given)
    forged = place / "forged"
    shutil.copytree(ours, forged)
    shutil.copyfile(theirs / "imatrix.gguf", forged / IMATRIX)
    told = (forged / "manifest.json").read_text()
    for name, other in ((IMATRIX, theirs / "imatrix.gguf"), (GGUF, made / GGUF)):
        assert digest(ours / name) != digest(other)
        told = told.replace(digest(ours / name), digest(other))
    (forged / "manifest.json").write_text(told)

    status, document, said = reproduced(forged / "manifest.json", place / "theirs")

    assert verdicts(document) == {GGUF: "identical", IMATRIX: "within error"}
    assert f"{IMATRIX}: differs by 9.99e-04; the rest is made from it" in said
    assert status == 0

    (forged / IMATRIX).unlink()
    status, document, said = reproduced(forged / "manifest.json", place / "theirs")

    assert verdicts(document) == {GGUF: "differs", IMATRIX: "differs"}
    assert f"{IMATRIX} is not beside the manifest" in said
    assert status == 1


def nudged(imatrix: Imatrix) -> Imatrix:
    entries = {
        name: Entry(name=name, squares=entry.squares * 1.001, counts=entry.counts)
        for name, entry in imatrix.entries.items()
    }
    return Imatrix(
        entries=entries,
        datasets=imatrix.datasets,
        chunk_count=imatrix.chunk_count,
        chunk_size=imatrix.chunk_size,
    )


def test_another_publishers_file_has_the_figures_that_it_would_have_as_ours(
    published: Path, place: Path
) -> None:
    theirs = place / "their-Q4_K_M.gguf"
    shutil.copyfile(published / GGUF, theirs)
    reference = f"references: [{{name: theirs, path: {theirs}}}]\n"

    out = run(place / "compared", CONFIG.replace("[Q4_K_M]", "[Q8_0]") + reference)

    (row,) = json.loads((out / "results.json").read_text())["references"]
    (ours,) = json.loads((published / "results.json").read_text())["variants"]
    assert row["quality"] == ours["quality"]
    assert row["size"] == ours["size"]
    assert row["origin"]["quantized_by"] == "Me = myself"
    assert row["sha256"] == digest(theirs)
    assert sorted(p.name for p in out.glob("*.gguf")) == [
        *("small-Q8_0.gguf", "small-imatrix.gguf"),
    ]
    assert "their" not in "".join(file.name for file in read_manifest(out).files)


def test_a_file_of_another_model_is_refused_and_ours_are_measured(
    published: Path, place: Path
) -> None:
    folder = place / "refused"
    folder.mkdir()
    theirs = folder / "their.gguf"
    renamed = (published / GGUF).read_bytes().replace(b"blk.0.ssm_out", b"blk.9.ssm_out")
    assert b"blk.9.ssm_out" in renamed
    theirs.write_bytes(renamed)
    text = CONFIG.replace("[Q4_K_M]", "[Q8_0]") + "references: [{name: theirs, path: their.gguf}]\n"
    (folder / "small.yaml").write_text(text)

    ran = program(
        *("run", "--config", folder / "small.yaml", "--store", place / "store"),
        *("--out", folder / "out", "--set", "placement.n_threads=1"),
    )

    assert ran.returncode == 1
    assert "their.gguf is of another model: " in ran.stderr
    results = json.loads((folder / "out" / "results.json").read_text())
    assert results["references"] == []
    assert results["variants"][0]["quality"]
    assert "kld/theirs" in results["incomplete"]


def release_of(published: Path, folder: Path) -> Release:
    """A copy of the published folder as a release, its GGUF only."""
    folder.mkdir()
    copy = Path(shutil.copyfile(published / GGUF, folder / GGUF))
    file = LocalFile(name=GGUF, path=copy, size_bytes=copy.stat().st_size, sha256=digest(copy))
    manifest = read_manifest(published)
    return Release(folder=folder, manifest=manifest, files=(file,), left_out=())


def splitter(toolchain: Toolchain, limit_bytes: int) -> Splitter:
    return Splitter(
        binary=lambda: toolchain.bin_dir / TOOL,
        runner=LocalRunner(),
        limit_bytes=limit_bytes,
        digest=digest,
    )


def test_a_file_above_the_limit_comes_in_parts_that_are_the_whole(
    toolchain: Toolchain, published: Path, tmp_path: Path
) -> None:
    whole = release_of(published, tmp_path / "out")
    split = splitter(toolchain, 2_000_000)

    parts = split.split(whole).files

    assert [part.name for part in parts] == [
        f"small-Q4_K_M-0000{n}-of-0000{len(parts)}.gguf" for n in range(1, len(parts) + 1)
    ]
    assert len(parts) > 1
    assert all(part.size_bytes <= 2_000_000 for part in parts)
    merged = tmp_path / "merged.gguf"
    command = [str(toolchain.bin_dir / TOOL), "--merge", str(parts[0].path), str(merged)]
    subprocess.run(command, check=True, capture_output=True)
    assert contents(merged) == contents(published / GGUF)
    before = [part.path.stat().st_mtime_ns for part in parts]
    assert [part.path.stat().st_mtime_ns for part in split.split(whole).files] == before
    assert [path.name for path in (whole.folder / FOLDER).iterdir()] == [
        f"{whole.files[0].sha256}-2000000"
    ]


def contents(path: Path) -> dict[str, str]:
    data, tensors = path.read_bytes(), read_gguf(path).tensors
    bytes_of = {tensor.name: data[tensor.offset :][: tensor.n_bytes] for tensor in tensors}
    return {name: hashlib.sha256(found).hexdigest() for name, found in bytes_of.items()}


def test_a_limit_below_a_tensor_is_refused(
    toolchain: Toolchain, published: Path, tmp_path: Path
) -> None:
    whole = release_of(published, tmp_path / "out")

    with pytest.raises(PublishError, match="cannot be split into parts below") as caught:
        splitter(toolchain, 50_000).split(whole)

    assert caught.value.exit_code == 5
    assert caught.value.hint == "push with a higher `--limit`"
