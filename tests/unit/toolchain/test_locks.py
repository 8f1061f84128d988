from __future__ import annotations

import threading
from pathlib import Path

from llamacpp_pipeline.toolchain.locks import locked
from tests.unit.toolchain.scripted import RecordingTalk


def test_the_second_waits_for_the_first_and_says_so(tmp_path: Path) -> None:
    lock, order = tmp_path / "locks" / "a.lock", list[str]()
    talk = RecordingTalk()
    waiting = threading.Event()

    def second() -> None:
        waiting.set()
        with locked(lock, talk=talk, waiting="another process is at it"):
            order.append("second")

    thread = threading.Thread(target=second)
    with locked(lock, talk=RecordingTalk(), waiting="never"):
        thread.start()
        assert waiting.wait(10)
        while not talk.said:
            thread.join(0.01)
        order.append("first")
    thread.join(10)

    assert order == ["first", "second"]
    assert talk.said == ["another process is at it"]


def test_alone_nothing_is_said(tmp_path: Path) -> None:
    talk = RecordingTalk()

    with locked(tmp_path / "a.lock", talk=talk, waiting="never"):
        pass

    assert talk.said == []
