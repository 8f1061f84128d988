"""Folders that steps share: kept whatever happens, removed on request, never part of a result."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from llamacpp_pipeline.engine.execute import RunReport, execute
from llamacpp_pipeline.engine.leaves import leaf_from_file
from llamacpp_pipeline.engine.shared import (
    discard_shared,
    in_common,
    prune_shared,
    shared_folders,
)
from llamacpp_pipeline.engine.store import Store
from llamacpp_pipeline.errors import InterruptedRunError
from llamacpp_pipeline.plan.step import Plan, Step
from llamacpp_pipeline.process.command import Command
from llamacpp_pipeline.stages.base import SHARED, Argv, Paths
from tests.unit.engine.mill import (
    GRIND,
    FakeRunner,
    FakeTools,
    GrindParams,
    Play,
    Recorder,
    flour_of,
    identified,
    plan,
    step,
    store_in,
    workshop,
)


def argv(params: GrindParams, paths: Paths) -> Argv:
    return ("mill", str(params.fineness), "--state", str(paths[SHARED] / "state"))


SHARING = replace(GRIND, argv=argv, shared_by=frozenset({"grain"}))


def sharing(key: str, grain: str) -> Step:
    return step(key, stage=SHARING, grain=flour_of(grain))


def measured(command: Command) -> None:
    """A child that appends to what earlier ones left."""
    with (command.cwd / SHARED / "state").open("a") as file:
        file.write("measured\n")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return store_in(tmp_path)


def made(
    store: Store, whole: Plan, *plays: Play, build_id: str = "build-1"
) -> tuple[RunReport, FakeRunner]:
    runner = FakeRunner(*plays)
    report = execute(
        whole,
        fingerprints=identified(whole, build_id),
        workshop=replace(workshop(store, runner), tools=FakeTools(build_id=build_id)),
        reporter=Recorder(),
    )
    return report, runner


def states(store: Store) -> list[str]:
    return sorted((f / "state").read_text() for f in (store.root / "shared").iterdir())


def test_steps_with_the_same_inputs_share_a_folder_and_others_do_not(store: Store) -> None:
    steps = (step("wheat"), step("rye"), sharing("a", "wheat"), sharing("b", "wheat"))
    whole = plan(*steps, sharing("c", "rye"))

    report, runner = made(store, whole, Play(), Play(), *[Play(before=measured)] * 3)

    assert report.exit_code == 0
    assert states(store) == ["measured\n", "measured\nmeasured\n"]
    assert {command.argv[-1] for command in runner.history[2:]} == {"shared/state"}


def test_it_is_no_output_and_nothing_of_it_lies_with_the_result(store: Store) -> None:
    whole = plan(step("wheat"), sharing("a", "wheat"))

    report, _ = made(store, whole, Play(), Play(before=measured))

    entry = report.entries["a"]
    assert {path.name for path in entry.folder.iterdir()} == {"flour.bin", "log", "record.json"}
    assert [file.name for file in entry.record.outputs] == ["flour.bin"]


def test_what_was_measured_before_an_interrupt_is_kept(store: Store) -> None:
    whole = plan(step("wheat"), sharing("a", "wheat"))
    killed = Play(before=measured, error=InterruptedRunError("killed"))

    with pytest.raises(InterruptedRunError):
        made(store, whole, Play(), killed)
    made(store, whole, Play(before=measured))

    assert states(store) == ["measured\nmeasured\n"]


@pytest.mark.parametrize(("by_build", "n_folders"), [(False, 1), (True, 2)])
def test_another_build_has_another_folder_where_its_numbers_are_shared(
    store: Store, tmp_path: Path, *, by_build: bool, n_folders: int
) -> None:
    (tmp_path / "wheat").write_text("grain")
    stage = replace(SHARING, shared_by_build=by_build)
    whole = plan(
        step(
            "a",
            stage=stage,
            grain=leaf_from_file(tmp_path / "wheat", "wheat", digests=store.digests),
        )
    )

    made(store, whole, Play(before=measured), build_id="build-1")
    made(store, whole, Play(before=measured), build_id="build-2")

    assert len(states(store)) == n_folders


def test_an_output_is_taken_of_it_before_outputs_are_looked_at(store: Store) -> None:
    def take(params: GrindParams, paths: Paths) -> None:
        assert params.fineness > 0
        paths["flour"].write_text((paths[SHARED] / "state").read_text())

    stage = replace(SHARING, take=take)
    whole = plan(step("wheat"), step("a", stage=stage, grain=flour_of("wheat")))
    killed = Play(before=measured, files={}, error=InterruptedRunError("killed"))

    with pytest.raises(InterruptedRunError):
        made(store, whole, Play(), killed)
    report, _ = made(store, whole, Play(before=measured, files={}))

    assert report.entries["a"].path("flour").read_text() == "measured\nmeasured\n"


def test_nothing_is_taken_of_a_child_that_failed(store: Store) -> None:
    def take(params: GrindParams, paths: Paths) -> None:
        raise AssertionError((params, paths))

    stage = replace(SHARING, take=take)
    whole = plan(step("wheat"), step("a", stage=stage, grain=flour_of("wheat")))

    report, _ = made(store, whole, Play(), Play(before=measured, exit_code=1))

    assert report.exit_code == 1
    assert states(store) == ["measured\n"]


def test_a_folder_in_use_is_not_removed(store: Store) -> None:
    with in_common(store, "key") as folder, in_common(store, "key") as again:
        (folder / "state").write_text("x")
        assert again == folder
        assert not discard_shared(store, "key")
        assert prune_shared(store, older_than=None, everything=True, dry_run=False) == []
    assert discard_shared(store, "key")
    assert shared_folders(store) == []


def test_the_old_ones_go_first(store: Store) -> None:
    for key, used in (("old", 1000), ("new", 2000)):
        with in_common(store, key) as folder:
            (folder / "state").write_text("12345")
        os.utime(folder, (used, used))

    would = prune_shared(store, older_than=1500, everything=False, dry_run=True)
    assert [(folder.key, folder.size_bytes) for folder in would] == [("old", 5)]
    assert len(shared_folders(store)) == 2

    prune_shared(store, older_than=1500, everything=False, dry_run=False)
    assert [folder.key for folder in shared_folders(store)] == ["new"]
