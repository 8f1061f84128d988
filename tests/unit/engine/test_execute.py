"""A plan run with a scripted runner: what is made, taken, skipped, and what is left behind."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from llamacpp_pipeline.engine.choice import EVERYTHING, Choice
from llamacpp_pipeline.engine.events import Done, Ended, Failed, Retried, Skipped
from llamacpp_pipeline.engine.execute import RunReport, execute
from llamacpp_pipeline.engine.leaves import leaf_from_file, leaf_from_folder
from llamacpp_pipeline.engine.store import Store
from llamacpp_pipeline.errors import (
    InputError,
    InterruptedRunError,
    StepFailedError,
    UnreadableOutputError,
    UsageError,
)
from llamacpp_pipeline.plan.step import RECORD, OutputRef, Plan
from llamacpp_pipeline.stages.base import Paths, Placement
from tests.unit.engine.mill import (
    GRIND,
    FakeRunner,
    GrindResult,
    Play,
    Recorder,
    flour_of,
    identified,
    plan,
    step,
    store_in,
    workshop,
)

CHAIN = plan(step("a"), step("b", grain=flour_of("a")), step("c", grain=flour_of("b")))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return store_in(tmp_path)


def run(
    store: Store,
    given: Plan = CHAIN,
    runner: FakeRunner | None = None,
    recorder: Recorder | None = None,
    choice: Choice = EVERYTHING,
) -> RunReport:
    return execute(
        given,
        fingerprints=identified(given),
        workshop=workshop(store, runner or FakeRunner()),
        reporter=recorder or Recorder(),
        choice=choice,
    )


def test_steps_run_in_order_and_leave_records(store: Store) -> None:
    runner = FakeRunner()
    report = run(store, runner=runner)

    assert [command.argv[2] for command in runner.history] == ["97", "98", "99"]
    assert report.exit_code == 0
    record = report.records["b"]
    assert record == store.lookup(identified(CHAIN)["b"])
    assert record.result == {"value": 7.5}
    assert record.inputs["grain"].label == "grind:flour"
    assert record.inputs["grain"].digest == identified(CHAIN)["a"]
    assert record.inputs["grain"].size_bytes == 5
    assert (record.seconds, record.cpu_seconds, record.peak_rss_bytes) == (1.5, 2.5, 3 << 20)
    assert record.outputs[0].name == "flour.bin"
    assert record.made_by_id == "build-1"


def test_a_second_run_does_nothing_and_says_so(store: Store) -> None:
    run(store)
    runner = FakeRunner()
    report = run(store, runner=runner)

    assert runner.history == []
    assert report.summary() == "nothing to do: all 3 steps are in the store"
    assert [outcome.status for outcome in report.outcomes] == ["hit"] * 3


def test_a_changed_parameter_makes_only_its_dependants_anew(store: Store) -> None:
    run(store)
    changed = plan(
        step("a"), step("b", grain=flour_of("a"), fineness=5), step("c", grain=flour_of("b"))
    )
    report = run(store, changed)

    assert [outcome.status for outcome in report.outcomes] == ["hit", "done", "done"]
    assert report.summary() == "2 steps made, 1 taken from the store"


def test_the_child_sees_no_absolute_path_and_none_is_recorded(store: Store) -> None:
    runner = FakeRunner()
    report = run(store, runner=runner)

    expected = ("--fineness", "98", "--flour=flour.bin", "--grain=in/grain/flour.bin")
    assert runner.history[1].argv == ("/somewhere/bin/mill", *expected)
    assert report.records["b"].command == ("mill", *expected)


def test_tools_that_a_child_runs_in_turn_are_handed_to_it_and_not_recorded(store: Store) -> None:
    stage = replace(GRIND, calls=frozenset({"sieve", "hopper"}))
    runner = FakeRunner()
    report = run(store, plan(step("a", stage=stage)), runner=runner)

    expected = ("--fineness", "97", "--flour=flour.bin")
    called = ("--binary", "hopper", "/somewhere/bin/hopper", "--binary", "sieve")
    assert runner.history[0].argv[1:] == (*expected, *called, "/somewhere/bin/sieve")
    assert report.records["a"].command == ("mill", *expected)


def test_a_stage_can_open_its_inputs_and_outputs_wherever_the_pipeline_runs(
    store: Store,
) -> None:
    def reading(log: str, paths: Paths) -> GrindResult:
        assert log == "grinding\nresult: 7.5\n"  # without the command line above it
        return GrindResult(value=len(paths["flour"].read_text() + paths["grain"].read_text()))

    stage = replace(GRIND, parse=reading)
    given = plan(step("a"), step("b", grain=flour_of("a"), stage=stage))

    assert run(store, given).records["b"].result == {"value": 10.0}


def test_nothing_but_outputs_log_and_record_is_published(store: Store) -> None:
    runner = FakeRunner(Play(files={"flour.bin": "x", "scrap.tmp": "y", "scraps/z": "z"}))
    entry = run(store, plan(step("a")), runner).entries["a"]

    assert sorted(p.name for p in entry.folder.iterdir()) == ["flour.bin", "log", "record.json"]
    assert not os.access(entry.folder / "flour.bin", os.W_OK) or os.geteuid() == 0
    assert (entry.folder / "flour.bin").stat().st_mode & 0o222 == 0
    assert list((store.root / "staging").iterdir()) == []


def test_a_folder_output_and_one_file_in_it(store: Store) -> None:
    folder_stage = replace(GRIND, outputs={"flour": "files"})
    given = plan(
        step("a", stage=folder_stage), step("b", grain=flour_of("a", member="sub/fine.txt"))
    )
    runner = FakeRunner(Play(files={"files/sub/fine.txt": "f", "files/coarse.txt": "cc"}))
    report = run(store, given, runner)

    names = [file.name for file in report.records["a"].outputs]
    assert names == ["files/coarse.txt", "files/sub/fine.txt"]
    assert "--grain=in/grain/files/sub/fine.txt" in runner.history[1].argv
    assert report.records["b"].inputs["grain"].label == "grind:flour/sub/fine.txt"


def test_a_member_that_is_not_there_is_named(store: Store) -> None:
    folder_stage = replace(GRIND, outputs={"flour": "files"})
    given = plan(step("a", stage=folder_stage), step("b", grain=flour_of("a", member="none.txt")))
    report = run(store, given, FakeRunner(Play(files={"files/coarse.txt": "cc"})))

    assert "holds no 'none.txt'" in report.failures[0].report()
    assert "files/coarse.txt" in report.failures[0].report()


def test_given_files_and_folders_are_linked_under_their_names(store: Store, tmp_path: Path) -> None:
    (tmp_path / "wiki.raw").write_text("words")
    model = tmp_path / "Some-Model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "private.pem").write_text("no")
    file = leaf_from_file(tmp_path / "wiki.raw", "wiki", digests=store.digests)
    folder = leaf_from_folder(model, "model", digests=store.digests)
    seen: list[str] = []
    look = Play(before=lambda c: seen.extend(p.name for p in (c.cwd / "in/grain/files").iterdir()))
    runner = FakeRunner(Play(), look)
    report = run(store, plan(step("a", grain=file), step("b", grain=folder)), runner)

    assert report.exit_code == 0
    assert "--grain=in/grain/wiki.raw" in runner.history[0].argv
    assert "--grain=in/grain/files" in runner.history[1].argv
    assert seen == ["config.json"]
    assert report.records["a"].inputs["grain"].kind == "leaf"
    assert report.records["a"].inputs["grain"].label == "wiki"


def test_a_given_file_that_changed_after_planning_is_refused(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "wiki.raw"
    path.write_text("words")
    leaf = leaf_from_file(path, "wiki", digests=store.digests)
    path.write_text("other words")
    runner = FakeRunner()
    report = run(store, plan(step("a", grain=leaf)), runner)

    assert "changed since the plan was made" in report.failures[0].message
    assert runner.history == []


def test_a_failure_skips_what_needs_it_and_lets_the_rest_go_on(store: Store) -> None:
    given = plan(
        step("a"),
        step("bad", grain=flour_of("a")),
        step("lost", grain=flour_of("bad")),
        step("later", after=("lost",)),
        step("free"),
    )
    recorder = Recorder()
    runner = FakeRunner(Play(), Play(exit_code=1, log="error: no grain\n"))
    report = run(store, given, runner, recorder)

    assert [(o.key, o.status) for o in report.outcomes] == [
        ("a", "done"),
        ("bad", "failed"),
        ("lost", "skipped"),
        ("later", "skipped"),
        ("free", "done"),
    ]
    assert [o.because for o in report.outcomes if o.status == "skipped"] == ["bad", "bad"]
    assert report.exit_code == 1
    assert report.summary() == (
        "2 steps made, 0 taken from the store, 1 failed, 2 skipped; see above why: bad"
    )
    assert sum(isinstance(event, Skipped) for event in recorder.events) == 2


def test_the_exit_code_is_that_of_the_first_failure(store: Store) -> None:
    silent = Play(log="")
    runner = FakeRunner(silent, silent, Play(exit_code=1))
    report = run(store, plan(step("a"), step("b")), runner)

    assert [error.exit_code for error in report.failures] == [4, 1]
    assert report.exit_code == 4


def test_a_failed_child_speaks_for_itself_and_its_log_is_kept(store: Store) -> None:
    runner = FakeRunner(Play(exit_code=3, log="blah\nerror: the wheel is stuck\n"))
    report = run(store, plan(step("a")), runner)
    error = report.failures[0]

    assert isinstance(error, StepFailedError)
    assert error.message == "a: mill failed with exit code 3"
    assert error.evidence == ("error: the wheel is stuck",)
    assert error.log == store.failed_log(identified(plan(step("a")))["a"])
    assert "the wheel is stuck" in error.log.read_text()
    assert list((store.root / "staging").iterdir()) == []


def test_a_step_that_succeeds_later_forgets_its_failed_log(store: Store) -> None:
    given = plan(step("a"))
    error = run(store, given, FakeRunner(Play(exit_code=1))).failures[0]
    run(store, given)

    assert error.log is not None
    assert not error.log.exists()


def test_a_tool_of_this_package_names_its_fix(store: Store) -> None:
    log = "error: the folder has no config.json\nfix: give the folder of a checkpoint\n"
    error = run(store, plan(step("a")), FakeRunner(Play(exit_code=1, log=log))).failures[0]

    assert error.hint == "give the folder of a checkpoint"
    assert error.evidence == ("error: the folder has no config.json",)


def test_a_stage_that_knows_the_cause_is_asked(store: Store) -> None:
    cause = InputError("the grain is wet", hint="dry it")
    stage = replace(GRIND, explain=lambda log: cause if "wet" in log else None)
    given = plan(step("a", stage=stage))
    error = run(store, given, FakeRunner(Play(exit_code=1, log="wet\n"))).failures[0]

    assert error is cause
    assert error.message == "a: the grain is wet"
    assert error.log is not None


def test_a_missing_or_empty_output_is_no_success(store: Store) -> None:
    for files in ({}, {"flour.bin": ""}):
        plays = [Play(files=files), Play(files=files)]
        error = run(store, plan(step("a")), FakeRunner(*plays)).failures[0]
        assert isinstance(error, UnreadableOutputError)
        assert error.message == "a: mill ended without its output flour.bin"


def test_an_output_that_is_a_link_is_no_output(store: Store) -> None:
    link = Play(files={}, before=lambda c: (c.cwd / "flour.bin").symlink_to(__file__))
    report = run(store, plan(step("a")), FakeRunner(link))

    assert "must be a file, not a link" in report.failures[0].message


def test_a_result_that_is_not_finite_is_no_result(store: Store) -> None:
    plays = [Play(log="result: nan"), Play(log="result: inf")]
    error = run(store, plan(step("a")), FakeRunner(*plays)).failures[0]

    assert error.message == "a: mill ended without finite figures"


def test_an_exit_without_the_result_line_is_tried_once_more(store: Store) -> None:
    recorder = Recorder()
    report = run(store, plan(step("a")), FakeRunner(Play(log="lost"), Play()), recorder)

    assert report.records["a"].attempts == 2
    assert sum(isinstance(event, Retried) for event in recorder.events) == 1


def test_twice_without_the_result_line_is_a_failure(store: Store) -> None:
    runner = FakeRunner(Play(log="lost"), Play(log="lost"), Play())
    error = run(store, plan(step("a")), runner).failures[0]

    assert len(runner.history) == 2
    assert error.exit_code == 4
    assert error.message == "a: mill ended without 'result: ...'"
    assert error.log is not None
    assert error.log.exists()


def test_a_failure_without_evidence_shows_the_last_lines(store: Store) -> None:
    def parse(log: str, paths: Paths) -> GrindResult:
        raise UnreadableOutputError("mill", f"{len(log)} and {len(paths)}")

    stage = replace(GRIND, parse=parse)
    error = run(store, plan(step("a", stage=stage))).failures[0]

    assert error.evidence == ("grinding", "result: 7.5")


def test_a_failure_with_an_exit_code_is_not_repeated(store: Store) -> None:
    runner = FakeRunner(Play(exit_code=1), Play())
    run(store, plan(step("a")), runner)

    assert len(runner.history) == 1


def test_only_runs_what_is_named_and_what_it_needs(store: Store) -> None:
    given = plan(step("a"), step("q/x", grain=flour_of("a")), step("q/y"), step("z"))
    report = run(store, given, choice=Choice(only=("q/x",)))
    assert [outcome.key for outcome in report.outcomes] == ["a", "q/x"]

    report = run(store, given, choice=Choice(only=("q/*",)))
    assert [outcome.key for outcome in report.outcomes] == ["a", "q/x", "q/y"]


def test_rerun_makes_a_step_again(store: Store) -> None:
    run(store)
    runner = FakeRunner(Play(log="result: 8.0"))
    report = run(store, runner=runner, choice=Choice(rerun=("b",)))

    assert [outcome.status for outcome in report.outcomes] == ["hit", "done", "hit"]
    found = store.lookup(identified(CHAIN)["b"])
    assert found is not None
    assert found.result == {"value": 8.0}


@pytest.mark.parametrize("choice", [Choice(only=("quantise",)), Choice(rerun=("bb",))])
def test_a_name_that_means_no_step_is_refused(store: Store, choice: Choice) -> None:
    with pytest.raises(UsageError, match="no step is called") as caught:
        run(store, choice=choice)
    assert "steps: a, b, c" in caught.value.report()


def test_a_slip_in_a_name_is_understood(store: Store) -> None:
    with pytest.raises(UsageError) as caught:
        run(store, choice=Choice(only=("grnd",)))
    assert caught.value.hint == "did you mean grind?"


def test_placement_flags_follow_the_command(store: Store) -> None:
    stage = replace(GRIND, placement=lambda p: ("--threads", str(p.n_threads)))
    placed = replace(step("a", stage=stage), placement=Placement(n_threads=3))
    runner = FakeRunner()
    report = run(store, plan(placed), runner)

    assert runner.history[0].argv[-2:] == ("--threads", "3")
    assert report.records["a"].placement.n_threads == 3


def test_a_token_reaches_only_the_step_that_declares_it_and_no_record(store: Store) -> None:
    declaring = replace(GRIND, environment=frozenset({"HF_TOKEN"}))
    given = plan(step("a", stage=declaring), step("b"))
    runner = FakeRunner(Play(log="hf_secret in the log? result: 1"))
    environ = {"HF_TOKEN": "hf_secret", "LLAMA_ARG_CTX_SIZE": "64"}
    execute(
        given,
        fingerprints=identified(given),
        workshop=workshop(store, runner, environ),
        reporter=Recorder(),
    )
    assert runner.history[0].environment == {"HF_TOKEN": "hf_secret"}
    assert runner.history[0].secrets == ("hf_secret",)
    assert runner.history[1].environment == {}


def test_an_interrupt_keeps_what_is_finished(store: Store) -> None:
    recorder = Recorder()
    runner = FakeRunner(Play(), Play(error=InterruptedRunError("mill was interrupted")))
    with pytest.raises(InterruptedRunError, match="the run was interrupted") as caught:
        run(store, runner=runner, recorder=recorder)

    assert caught.value.exit_code == 130
    assert "finished steps are kept" in caught.value.report()
    assert caught.value.log is not None
    assert caught.value.log.exists()
    assert isinstance(recorder.events[-1], Ended)
    assert recorder.events[-1].interrupted
    assert list((store.root / "staging").iterdir()) == []
    assert list((store.root / "runs").iterdir()) == []
    report = run(store)
    assert [outcome.status for outcome in report.outcomes] == ["hit", "done", "done"]


def test_sigterm_is_an_interrupt_wherever_it_arrives(store: Store) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def terminate(command: object) -> None:
        del command
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)

    with pytest.raises(InterruptedRunError):
        run(store, runner=FakeRunner(Play(before=terminate)))
    assert signal.getsignal(signal.SIGTERM) is before
    assert list((store.root / "staging").iterdir()) == []


def test_the_time_of_children_is_told_apart(store: Store) -> None:
    recorder = Recorder()
    slow = Play(before=lambda _: time.sleep(0.05))
    report = run(store, plan(step("a")), FakeRunner(slow), recorder)

    assert 0.05 <= report.child_seconds <= report.seconds
    assert recorder.kinds() == ["Begun", "Started", "Done", "Ended"]
    assert isinstance(recorder.events[2], Done)


def test_a_corrupt_predecessor_is_made_again(store: Store) -> None:
    first = run(store)
    flour = first.entries["a"].folder / "flour.bin"
    flour.chmod(0o644)
    flour.write_text("cut")
    report = run(store)

    assert [outcome.status for outcome in report.outcomes] == ["done", "hit", "hit"]


def test_our_own_mistake_is_not_a_failed_step(store: Store) -> None:
    def broken(log: str, paths: Paths) -> GrindResult:
        raise FileNotFoundError(log + str(len(paths)))

    stage = replace(GRIND, parse=broken)
    with pytest.raises(FileNotFoundError):
        run(store, plan(step("a", stage=stage)))
    assert list((store.root / "staging").iterdir()) == []


def test_failed_events_carry_the_error(store: Store) -> None:
    recorder = Recorder()
    run(store, plan(step("a")), FakeRunner(Play(exit_code=1)), recorder)

    failed = [event for event in recorder.events if isinstance(event, Failed)]
    assert failed[0].error.message == "a: mill failed with exit code 1"


def test_a_step_can_take_what_another_found_out(store: Store) -> None:
    def reading(log: str, paths: Paths) -> GrindResult:
        del log
        found = json.loads(paths["grain"].read_text())["result"]["value"]
        return GrindResult(value=2 * found)

    told = OutputRef(step="a", output=RECORD)
    given = plan(step("a"), step("b", grain=told, stage=replace(GRIND, parse=reading)))
    report = run(store, given)

    assert report.records["b"].result == {"value": 15.0}
    assert report.records["b"].inputs["grain"].digest == identified(given)["a"]
    assert run(store, given).count("hit") == 2
