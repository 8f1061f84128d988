"""run.jsonl: what happened, when, and what the pipeline itself cost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llamacpp_pipeline.engine.events import Reporters, Silent
from llamacpp_pipeline.engine.execute import execute
from llamacpp_pipeline.engine.journal import NAME, Overhead, journal_in, overhead, read_journal
from llamacpp_pipeline.engine.store import Store
from llamacpp_pipeline.errors import PipelineError
from tests.unit.engine.mill import (
    FakeRunner,
    Play,
    flour_of,
    identified,
    plan,
    step,
    store_in,
    workshop,
)

THREE = plan(step("a"), step("bad"), step("lost", grain=flour_of("bad")))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return store_in(tmp_path)


def journaled(folder: Path, store: Store, *plays: Play) -> Path:
    with journal_in(folder, store=store.root) as journal:
        execute(
            THREE,
            fingerprints=identified(THREE),
            workshop=workshop(store, FakeRunner(*plays)),
            reporter=Reporters(Silent(), [journal]),
        )
    return folder / NAME


def test_each_event_has_a_line(tmp_path: Path, store: Store) -> None:
    lost = Play(log="lost")
    path = journaled(tmp_path / "out", store, Play(), lost, lost)
    lines = read_journal(path)

    assert [(line["event"], line.get("step")) for line in lines] == [
        ("begun", None),
        ("started", "a"),
        ("done", "a"),
        ("started", "bad"),
        ("retried", "bad"),
        ("started", "bad"),
        ("failed", "bad"),
        ("skipped", "lost"),
        ("ended", None),
        ("left", None),
    ]
    assert lines[2]["seconds"] == 1.5
    assert lines[6]["exit_code"] == 4
    assert all(line["at"].endswith("+00:00") for line in lines)


def test_no_private_path_is_in_it(tmp_path: Path, store: Store) -> None:
    log = f"error: cannot open {store.root}/objects/x and {Path.home()}/models\n"
    path = journaled(tmp_path / "out", store, Play(), Play(exit_code=1, log=log))

    assert "cannot open (store)/objects/x and ~/models" in path.read_text()
    assert str(tmp_path) not in path.read_text()


def test_the_next_run_begins_a_new_one(tmp_path: Path, store: Store) -> None:
    journaled(tmp_path / "out", store)
    lines = read_journal(journaled(tmp_path / "out", store))

    assert [line["event"] for line in lines] == ["begun", "hit", "hit", "hit", "ended", "left"]


def test_overhead_is_what_children_did_not_take(tmp_path: Path) -> None:
    lines = [
        {"event": "ended", "seconds": 99.0, "child_seconds": 97.0},
        {"event": "left", "process_seconds": 100.0},
    ]
    path = tmp_path / NAME
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))

    assert overhead(path) == Overhead(wall_seconds=100.0, child_seconds=97.0)
    assert overhead(path).share == pytest.approx(0.03)
    assert overhead(path).own_seconds == pytest.approx(3.0)


def test_a_killed_runs_last_line_may_be_cut(tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.write_text('{"event": "begun"}\n{"event": "sta')

    assert read_journal(path) == ({"event": "begun"},)
    with pytest.raises(PipelineError, match="did not come to its end"):
        overhead(path)


def test_what_is_no_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("hello\n{}\n")
    with pytest.raises(PipelineError, match="is not a journal"):
        read_journal(tmp_path / NAME)
