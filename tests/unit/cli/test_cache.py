"""`llamacpp-pipeline cache`: data on stdout, talk on stderr."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from llamacpp_pipeline.cli.cache import cache
from llamacpp_pipeline.engine.events import Silent
from llamacpp_pipeline.engine.execute import execute
from llamacpp_pipeline.engine.shared import in_common
from llamacpp_pipeline.engine.store import Store
from llamacpp_pipeline.errors import UsageError
from tests.unit.engine.mill import FakeRunner, Play, identified, plan, step, store_in, workshop

TWO = plan(step("a"), step("b"))
IDS = identified(TWO)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = store_in(tmp_path)
    execute(
        TWO,
        fingerprints=IDS,
        workshop=workshop(store, FakeRunner()),
        reporter=Silent(),
    )
    return store


def called(store: Store, verb: str, *arguments: str) -> Result:
    return CliRunner().invoke(
        cache, [verb, "--store", str(store.root), *arguments], catch_exceptions=True
    )


def test_path_is_the_default_without_an_option(tmp_path: Path) -> None:
    result = CliRunner().invoke(cache, ["path"], env={"XDG_CACHE_HOME": str(tmp_path)})

    assert result.stdout == f"{tmp_path}/llamacpp-pipeline/store\n"


def test_path_follows_the_variable(tmp_path: Path) -> None:
    folder = str(tmp_path / "mine")
    result = CliRunner().invoke(cache, ["path"], env={"LLAMACPP_PIPELINE_STORE": folder})

    assert result.stdout == f"{folder}\n"


def test_ls_lists_every_entry(store: Store) -> None:
    result = called(store, "ls")

    assert sorted(line.split()[0] for line in result.stdout.splitlines()) == sorted(
        fingerprint[:12] for fingerprint in IDS.values()
    )
    assert "grind" in result.stdout
    assert result.stderr.startswith("2 entries, ")


def test_ls_as_json(store: Store) -> None:
    entries = json.loads(called(store, "ls", "--format", "json").stdout)

    assert {entry["fingerprint"] for entry in entries} == set(IDS.values())
    assert all(entry["size_bytes"] > 5 for entry in entries)


def test_verify_ends_with_0_where_all_is_whole(store: Store) -> None:
    result = called(store, "verify")

    assert (result.exit_code, result.stdout) == (0, "")
    assert "2 entries read, 0 corrupt" in result.stderr


def test_verify_ends_with_1_and_names_what_is_corrupt(store: Store) -> None:
    flour = store.folder(IDS["a"]) / "flour.bin"
    flour.chmod(0o644)
    flour.write_text("FLOUR")
    result = called(store, "verify")

    assert result.exit_code == 1
    assert IDS["a"][:12] in result.stdout
    assert "corrupt: flour.bin does not have the digest it had" in result.stdout
    assert store.lookup(IDS["a"]) is None


def test_prune_says_what_it_removed(store: Store) -> None:
    dry = called(store, "prune", "--max-size", "0", "--dry-run")
    assert dry.stderr.startswith("would remove 2 entries")
    assert store.lookup(IDS["a"]) is not None

    result = called(store, "prune", "--max-size", "0 B")
    assert result.stderr.startswith("removed 2 entries")
    assert len(result.stdout.splitlines()) == 2
    assert store.lookup(IDS["a"]) is None


def test_prune_says_what_it_left(store: Store) -> None:
    with store.in_use([IDS["a"]]):
        result = called(store, "prune", "--max-size", "0")
    assert "left 1 entries that a running pipeline uses" in result.stderr


def test_prune_by_age_keeps_what_is_new(store: Store) -> None:
    assert called(store, "prune", "--older-than", "30d").stderr.startswith("removed 0 entries")


def test_prune_of_failed_logs(store: Store) -> None:
    given = plan(step("c"))
    execute(
        given,
        fingerprints=identified(given),
        workshop=workshop(store, FakeRunner(Play(exit_code=1))),
        reporter=Silent(),
    )
    result = called(store, "prune", "--failed")

    assert "removed 1 failed or corrupt folders" in result.stderr
    assert store.lookup(IDS["a"]) is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing says what may go"),
        (("--older-than", "old"), "'old' is not an age"),
        (("--max-size", "big"), "'big' is not a size"),
    ],
)
def test_prune_refuses_what_it_does_not_understand(
    store: Store, arguments: tuple[str, ...], message: str
) -> None:
    result = called(store, "prune", *arguments)

    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)


def test_measurements_that_steps_share_are_told_and_removed_on_request(store: Store) -> None:
    with in_common(store, "key") as folder:
        (folder / "target.state").write_text("12345")

    assert "1 folders of measurements that steps share, 5 B" in called(store, "ls").stderr
    assert "would remove 1 folders" in called(store, "prune", "--shared", "--dry-run").stderr
    assert folder.exists()
    result = called(store, "prune", "--shared")
    assert "removed 0 entries" in result.stderr
    assert "removed 1 folders" in result.stderr
    assert not folder.exists()
