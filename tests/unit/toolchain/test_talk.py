from __future__ import annotations

from llamacpp_pipeline.toolchain.talk import CounterWatcher
from tests.unit.toolchain.scripted import RecordingTalk


def test_ninjas_counter_is_passed_on_also_where_a_read_splits_it() -> None:
    talk = RecordingTalk()
    watcher = CounterWatcher(talk)

    for text in ("[1/26", "1] Building a.o\n", "warning: x\n", "[2/261] b\n[3/261] c\n"):
        watcher.output(text)

    assert talk.counted == [(1, 261), (3, 261)]


def test_output_without_a_counter_is_no_progress() -> None:
    talk = RecordingTalk()

    CounterWatcher(talk).output("-- Configuring done\n" * 1000)

    assert talk.counted == []
