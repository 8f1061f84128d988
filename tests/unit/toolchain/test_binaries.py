from __future__ import annotations

import sys
from pathlib import Path

import pytest

from llamacpp_pipeline.errors import ToolchainError
from llamacpp_pipeline.toolchain import converter
from llamacpp_pipeline.toolchain.binaries import Toolchain, with_jobs
from llamacpp_pipeline.toolchain.build import Blueprint
from llamacpp_pipeline.toolchain.compiler import Compilers
from llamacpp_pipeline.toolchain.export import PatchedTree
from llamacpp_pipeline.toolchain.flags import Backend, definitions
from llamacpp_pipeline.toolchain.places import Places
from llamacpp_pipeline.toolchain.tree import Manifest

FILES = {
    "convert_hf_to_gguf.py": "1" * 64,
    "conversion/base.py": "2" * 64,
    "gguf-py/gguf/gguf_writer.py": "3" * 64,
    "src/llama.cpp": "4" * 64,
}


def toolchain(places: Places, *, backend: Backend = "cpu") -> Toolchain:
    cc = Path("/usr/bin/cc")
    return Toolchain(
        blueprint=Blueprint(
            tree=PatchedTree(folder=Path("/trees/x/source"), manifest=Manifest(FILES)),
            definitions=definitions(backend=backend, flags=(), build_number=1, commit="c"),
            compilers=Compilers(c=cc, cxx=cc, backend=None, identity={"c": "1"}),
        ),
        places=places,
        commit="4df29be4f",
        build_number=10454,
    )


def test_a_binary_stands_for_its_name(places: Places) -> None:
    found = toolchain(places)

    assert found.prefix("llama-bench") == (str(places.builds / found.build_id / "bin/llama-bench"),)


def test_the_converter_is_the_wrapper_with_the_patched_tree(places: Places) -> None:
    assert toolchain(places).prefix("convert_hf_to_gguf") == (
        sys.executable,
        "-m",
        "llamacpp_pipeline.toolchain.convert_entry",
        "/trees/x/source",
    )


def test_a_module_of_this_package_is_run_as_one(places: Places) -> None:
    module = "llamacpp_pipeline.stages.weights"

    assert toolchain(places).prefix(module) == (sys.executable, "-m", module)


def test_a_tool_that_is_not_built_is_an_error(places: Places) -> None:
    with pytest.raises(ToolchainError, match="llama-server is not a tool of this build"):
        toolchain(places).prefix("llama-server")


def test_each_kind_of_step_is_made_by_something_else(places: Places) -> None:
    found = toolchain(places)

    assert found.identity("binary") == found.build_id
    assert found.identity("pipeline") == ""


def test_nothing_is_built_yet(places: Places) -> None:
    assert not toolchain(places).is_built


@pytest.mark.parametrize("backend", ["cpu", "cuda", "metal", "vulkan", "hip"])
def test_the_backend_is_known(places: Places, backend: Backend) -> None:
    assert toolchain(places, backend=backend).backend == backend


def test_jobs_do_not_change_the_build(places: Places) -> None:
    found = toolchain(places)

    assert with_jobs(found, 2).build_id == found.build_id
    assert with_jobs(found, 2).blueprint.jobs == 2
    assert with_jobs(found, None) is found


def test_the_converters_digest_is_of_its_own_files_only() -> None:
    first = converter.sources_digest(Manifest(FILES))
    other_source = converter.sources_digest(Manifest({**FILES, "src/llama.cpp": "5" * 64}))
    other_base = converter.sources_digest(Manifest({**FILES, "conversion/base.py": "5" * 64}))

    assert first == other_source != other_base


def test_a_tree_without_converter_is_an_error() -> None:
    with pytest.raises(ToolchainError, match=r"has no convert_hf_to_gguf\.py"):
        converter.sources_digest(Manifest({}))


def test_versions_enter_the_converters_id(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = set()
    for torch in ("2.12.0", "2.13.0"):
        found = {"torch": torch, "transformers": "5.2.0", "numpy": "2.4.6"}
        monkeypatch.setattr(converter, "versions", lambda found=found: found)
        ids.add(converter.converter_id("0" * 64))

    assert len(ids) == 2


def test_missing_packages_are_named_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        converter, "versions", lambda: {"torch": None, "transformers": None, "numpy": "2"}
    )

    with pytest.raises(ToolchainError, match="needs torch and transformers") as caught:
        converter.converter_id("0" * 64)

    assert "make venv" in str(caught.value.hint)


def test_versions_are_read_without_importing() -> None:
    before = set(sys.modules)

    found = converter.versions()

    assert found["numpy"] is not None
    assert not {"torch", "transformers"} & (set(sys.modules) - before)
