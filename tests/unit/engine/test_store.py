"""The store: nothing half-made is visible, nothing corrupt is used, nothing in use is pruned."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from llamacpp_pipeline.engine.execute import RunReport, execute
from llamacpp_pipeline.engine.locks import locked, locked_if_free
from llamacpp_pipeline.engine.store import Store, default_root
from llamacpp_pipeline.engine.upkeep import clear, leftovers, listing, prune, verify
from llamacpp_pipeline.errors import PipelineError
from tests.unit.engine.mill import (
    FakeRunner,
    Play,
    Recorder,
    flour_of,
    identified,
    plan,
    step,
    store_in,
    workshop,
)

TWO = plan(step("a"), step("b", grain=flour_of("a")))
IDS = identified(TWO)


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, warnings: list[str]) -> Store:
    return store_in(tmp_path, warnings)


def filled(store: Store, *plays: Play) -> RunReport:
    return execute(
        TWO,
        fingerprints=IDS,
        workshop=workshop(store, FakeRunner(*plays)),
        reporter=Recorder(),
    )


def overwrite(path: Path, text: str) -> None:
    path.chmod(0o644)
    path.write_text(text)


def test_the_layout_is_the_documented_one(store: Store) -> None:
    filled(store)
    folder = store.root / "objects" / IDS["a"][:2] / IDS["a"]

    assert sorted(path.name for path in folder.iterdir()) == ["flour.bin", "log", "record.json"]
    assert json.loads((folder / "record.json").read_text())["fingerprint"] == IDS["a"]


def test_an_absent_step_is_a_miss_without_a_word(store: Store, warnings: list[str]) -> None:
    assert store.lookup("0" * 64) is None
    assert warnings == []


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        pytest.param(lambda f: overwrite(f / "flour.bin", "longer than it was"), "18 bytes"),
        pytest.param(lambda f: (f / "flour.bin").unlink(), "flour.bin is missing"),
        pytest.param(lambda f: overwrite(f / "record.json", '{"half": '), "not valid"),
        pytest.param(lambda f: overwrite(f / "record.json", "{}"), "not valid"),
        pytest.param(lambda f: (f / "record.json").write_bytes(b"\xff\xfe"), "cannot be read"),
        pytest.param(lambda f: (f / "record.json").unlink(), "it has no record"),
        pytest.param(
            lambda f: overwrite(
                f / "record.json", (f / "record.json").read_text().replace(IDS["a"], "e" * 64)
            ),
            "its record is of eee",
        ),
        pytest.param(
            lambda f: overwrite(
                f / "record.json",
                (f / "record.json")
                .read_text()
                .replace('"schema_version": 1', '"schema_version": 99'),
            ),
            "schema 99",
        ),
    ],
)
def test_a_corrupt_entry_is_a_miss_with_a_warning(
    store: Store, warnings: list[str], damage: object, said: str
) -> None:
    filled(store)
    assert callable(damage)
    damage(store.folder(IDS["a"]))

    assert store.lookup(IDS["a"]) is None
    assert len(warnings) == 1
    assert said in warnings[0]
    assert IDS["a"][:12] in warnings[0]
    assert not store.folder(IDS["a"]).exists()
    assert len(list((store.root / "corrupt").iterdir())) == 1
    assert [o.status for o in filled(store).outcomes] == ["done", "hit"]


def test_a_corrupt_entry_that_is_being_made_is_left_alone(store: Store) -> None:
    filled(store)
    (store.folder(IDS["a"]) / "record.json").unlink()

    with store.claimed(IDS["a"]):
        assert store.lookup(IDS["a"]) is None
    assert store.folder(IDS["a"]).exists()


def test_verify_finds_what_sizes_do_not_show(store: Store) -> None:
    filled(store)
    flour = store.folder(IDS["b"]) / "flour.bin"
    overwrite(flour, "FLOUR")
    assert store.lookup(IDS["b"]) is not None

    problems = {listed.fingerprint: listed.problem for listed in verify(store)}
    assert problems[IDS["a"]] is None
    assert problems[IDS["b"]] == "flour.bin does not have the digest it had"
    assert store.lookup(IDS["b"]) is None


def test_staging_of_a_dead_process_is_swept_and_of_a_living_one_kept(store: Store) -> None:
    dead, alive = store.staging("d" * 64), store.staging("a" * 64)
    for folder in (dead, alive):
        folder.mkdir()
        (folder / "half.gguf").write_text("half")
    with store.claimed("a" * 64):
        store.sweep()
        assert not dead.exists()
        assert alive.exists()


def test_a_new_attempt_begins_in_an_empty_folder(store: Store) -> None:
    store.staging(IDS["a"]).mkdir()
    (store.staging(IDS["a"]) / "flour.bin").write_text("of a killed run")
    with store.workplace(IDS["a"]) as folder:
        assert list(folder.iterdir()) == []
    assert not folder.exists()


def test_prune_by_age_takes_the_least_recently_used(store: Store) -> None:
    filled(store)
    long_ago = time.time() - 1000
    os.utime(store.folder(IDS["a"]) / "record.json", (long_ago, long_ago))
    pruned = prune(store, older_than=time.time() - 500)

    assert [entry.fingerprint for entry in pruned.removed] == [IDS["a"]]
    assert store.lookup(IDS["a"]) is None
    assert store.lookup(IDS["b"]) is not None
    assert not store.lock(IDS["a"]).exists()


def test_a_hit_is_a_use(store: Store) -> None:
    filled(store)
    long_ago = time.time() - 1000
    for key in IDS.values():
        os.utime(store.folder(key) / "record.json", (long_ago, long_ago))
    filled(store)

    assert prune(store, older_than=time.time() - 500).removed == ()


def test_prune_by_size_keeps_what_fits(store: Store) -> None:
    filled(store)
    sizes = {entry.fingerprint: entry.size_bytes for entry in listing(store)}
    long_ago = time.time() - 1000
    os.utime(store.folder(IDS["b"]) / "record.json", (long_ago, long_ago))
    pruned = prune(store, max_bytes=sizes[IDS["a"]])

    assert [entry.fingerprint for entry in pruned.removed] == [IDS["b"]]
    assert pruned.size_bytes == sizes[IDS["b"]]
    assert prune(store, max_bytes=0).removed != ()


def test_prune_leaves_what_a_living_run_uses(store: Store) -> None:
    filled(store)
    with store.in_use([IDS["a"]]):
        pruned = prune(store, max_bytes=0)
    assert [entry.fingerprint for entry in pruned.in_use] == [IDS["a"]]
    assert [entry.fingerprint for entry in pruned.removed] == [IDS["b"]]


def test_prune_leaves_what_is_being_made(store: Store) -> None:
    filled(store)
    with store.claimed(IDS["a"]):
        pruned = prune(store, max_bytes=0)
    assert [entry.fingerprint for entry in pruned.in_use] == [IDS["a"]]
    assert store.lookup(IDS["a"]) is not None


def test_a_dead_run_uses_nothing(store: Store) -> None:
    filled(store)
    (store.root / "runs" / "dead").write_text(IDS["a"])

    assert len(prune(store, max_bytes=0).removed) == 2
    assert list((store.root / "runs").iterdir()) == []


def test_a_dry_run_removes_nothing(store: Store) -> None:
    filled(store)
    assert len(prune(store, max_bytes=0, dry_run=True).removed) == 2
    assert store.lookup(IDS["a"]) is not None


def test_leftovers_are_failed_logs_and_corrupt_entries(store: Store) -> None:
    filled(store, Play(exit_code=1))
    assert [path.name for path in leftovers(store)] == [IDS["a"]]
    clear(leftovers(store))
    assert leftovers(store) == []


def test_a_store_that_cannot_be_made_names_the_option(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PipelineError, match="the store cannot be made") as caught:
        Store(tmp_path / "file" / "store")
    assert "--store DIR" in caught.value.report()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"LLAMACPP_PIPELINE_STORE": "/big/store"}, "/big/store"),
        ({"XDG_CACHE_HOME": "/cache"}, "/cache/llamacpp-pipeline/store"),
    ],
)
def test_where_the_store_is(environ: dict[str, str], expected: str) -> None:
    assert default_root(environ) == Path(expected)


def test_by_default_it_is_in_the_users_cache() -> None:
    assert default_root({}) == Path.home() / ".cache" / "llamacpp-pipeline" / "store"


def test_a_lock_is_exclusive_and_says_that_it_waits(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path), locked_if_free(path) as held:
        assert not held
    with locked_if_free(path) as held:
        assert held


def test_a_lock_file_that_was_removed_is_not_a_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path):
        path.unlink()
        with locked_if_free(path) as held:
            assert held
