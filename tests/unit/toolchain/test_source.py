from __future__ import annotations

from pathlib import Path

import pytest

from llamacpp_pipeline.config.schema import ToolchainConfig
from llamacpp_pipeline.errors import ToolchainError
from llamacpp_pipeline.process.command import Runner
from llamacpp_pipeline.toolchain import source as module
from llamacpp_pipeline.toolchain import upstream
from llamacpp_pipeline.toolchain.places import Places
from llamacpp_pipeline.toolchain.source import fetch, identify
from tests.unit.toolchain.scripted import RecordingTalk, ScriptedRunner

AUTO = ToolchainConfig()


def checkout(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "CMakeLists.txt").write_text("project(other)\n", encoding="utf-8")
    return folder


def test_an_empty_submodule_means_the_pinned_tree_from_elsewhere(places: Places) -> None:
    places.submodule.mkdir(parents=True)

    found = identify(AUTO, places)

    assert found.folder is None
    assert found.digest == upstream.TREE_SHA256
    assert (found.commit, found.build_number, found.note) == ("4df29be4f", 10454, None)


def test_a_submodule_that_was_changed_is_refused_with_the_first_paths(places: Places) -> None:
    checkout(places.submodule)

    with pytest.raises(ToolchainError, match="vendor/llama") as caught:
        identify(AUTO, places)

    assert caught.value.evidence[0] == "missing: .clang-format"
    assert caught.value.evidence[-1] == "and 3417 more"
    assert "git submodule update" in str(caught.value.hint)


def test_asking_for_the_submodule_where_there_is_none_says_how_to_get_it(places: Places) -> None:
    with pytest.raises(ToolchainError, match=r"vendor/llama\.cpp is empty") as caught:
        identify(ToolchainConfig(source="submodule"), places)

    assert "git submodule update --init" in str(caught.value.hint)


def test_a_users_own_checkout_is_marked_without_its_path(places: Places, tmp_path: Path) -> None:
    own = checkout(tmp_path / "mine")

    found = identify(ToolchainConfig(source="path", path=str(own)), places)

    assert found.folder == own
    assert found.note is not None
    assert "user's own" in found.note
    assert found.digest[:12] in found.note
    assert str(tmp_path) not in found.note
    assert (found.commit, found.build_number) == ("local", 0)


def test_a_path_that_is_no_checkout_is_refused(places: Places, tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match=r"not a checkout of llama\.cpp") as caught:
        identify(ToolchainConfig(source="path", path=str(tmp_path / "typo")), places)

    assert "typo" in caught.value.evidence[0]


def test_what_is_in_the_cache_is_not_fetched_but_checked(places: Places) -> None:
    checkout(places.sources / upstream.COMMIT / "tree")
    runner = ScriptedRunner()

    with pytest.raises(ToolchainError, match="the source in the cache is not") as caught:
        fetch(identify(AUTO, places), AUTO, places, runner=runner, talk=RecordingTalk())

    assert runner.history == []
    assert "rm -r" in str(caught.value.hint)


def test_when_no_route_leads_there_each_one_says_why(places: Places) -> None:
    talk = RecordingTalk()

    with pytest.raises(ToolchainError, match="could not be fetched") as caught:
        module._fetch_by(
            (("GitHub", unreachable), ("PyPI", refusing)),
            places.sources / "x" / "tree",
            runner=ScriptedRunner(),
            talk=talk,
        )

    assert caught.value.evidence == (
        "github.com is out of reach",
        "PyPI did not give llama.cpp",
        "  ERROR: 403",
    )
    assert "toolchain: {source: path" in str(caught.value.hint)
    assert talk.said[0] == "fetching llama.cpp 4df29be4f from GitHub"


def test_the_first_route_that_works_is_enough(places: Places) -> None:
    def works(tree: Path, *, runner: Runner) -> None:
        del runner
        tree.mkdir(parents=True)

    tree = places.sources / "x" / "tree"

    module._fetch_by(
        (("GitHub", unreachable), ("PyPI", works), ("never", refusing)),
        tree,
        runner=ScriptedRunner(),
        talk=RecordingTalk(),
    )

    assert tree.is_dir()


@pytest.mark.parametrize(
    ("config", "routes"),
    [
        (ToolchainConfig(), ["GitHub", "PyPI"]),
        (ToolchainConfig(source="git"), ["GitHub"]),
        (ToolchainConfig(source="sdist"), ["PyPI"]),
    ],
)
def test_the_config_chooses_the_routes(config: ToolchainConfig, routes: list[str]) -> None:
    assert [name for name, _ in module._routes(config)] == routes


def unreachable(tree: Path, *, runner: Runner) -> None:
    del tree, runner
    raise ToolchainError("github.com is out of reach")


def refusing(tree: Path, *, runner: Runner) -> None:
    del tree, runner
    raise ToolchainError("PyPI did not give llama.cpp", evidence=("ERROR: 403",))
