"""A child's output on its way: from the pipe into the log and to the watcher."""

from __future__ import annotations

import codecs
import os
import selectors
import threading
from typing import BinaryIO

from llamacpp_pipeline.process.command import Command, Watcher
from llamacpp_pipeline.process.redact import Redactor

CHUNK = 65536
LOOK_SECONDS = 0.2  # how often a pipe that others keep open is given up after the child's end


class Pump:
    """A thread that drains a pipe to its end, whatever happens to those it serves."""

    def __init__(
        self, source: int, log: BinaryIO, command: Command, watcher: Watcher | None
    ) -> None:
        self._source = source
        self._log = log
        self._watcher = watcher
        self._redactor = Redactor(command.secrets)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._child_ended = threading.Event()
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self.lock = threading.Lock()  # held while the watcher is told something
        self.failure: Exception | None = None
        self._thread.start()

    def finish(self) -> None:
        """Take what is still in the pipe. The child and its group have ended."""
        self._child_ended.set()
        self._thread.join()

    def _drain(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._source, selectors.EVENT_READ)
            while self._readable(selector):
                data = os.read(self._source, CHUNK)
                if not data:
                    break
                self._pass_on(self._redactor.feed(data))
        self._pass_on(self._redactor.flush(), last=True)

    def _readable(self, selector: selectors.BaseSelector) -> bool:
        """Wait for output; false where only a stranger still holds the pipe open."""
        while True:
            ended = self._child_ended.is_set()
            if selector.select(LOOK_SECONDS):
                return True
            if ended:
                return False

    def _pass_on(self, data: bytes, *, last: bool = False) -> None:
        if self.failure is not None:
            return  # the child must not block on a full pipe
        try:
            self._log.write(data)
            text = self._decoder.decode(data, final=last)
            if self._watcher is not None and text:
                with self.lock:
                    self._watcher.output(text)
        except Exception as error:  # noqa: BLE001 - raised again by the thread that waits
            self.failure = error
