"""A server that speaks as much of the Hub's API as its client uses, for one repository."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PIECE = 1 << 16


@dataclass
class Hub:
    """What the server holds, how it misbehaves, and what it was asked."""

    files: Mapping[str, bytes]
    kind: str = "models"
    repo: str = "org/name"
    revisions: tuple[str, ...] = ("main", COMMIT)
    token: str | None = None  # asked for where set
    gated: bool = False
    wrong_digest: bool = False
    break_after: int | None = None  # close the connection after so many bytes, once
    stall_after: int | None = None  # send no more after so many bytes, until released
    released: threading.Event = field(default_factory=threading.Event)
    stalled: threading.Event = field(default_factory=threading.Event)
    requests: list[str] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)
    endpoint: str = ""


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve until the block ends."""

    class Handler(Conversation):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        hub.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


class Conversation(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base's name
        """Be quiet."""

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def answer(self, *, with_body: bool) -> None:
        path = urlsplit(self.path).path
        self.hub.requests.append(f"{self.command} {path}")
        given = self.headers.get("Authorization")
        if self.hub.token is not None and given != f"Bearer {self.hub.token}":
            self.refuse(401, "GatedRepo" if self.hub.gated else "RepoNotFound")
        elif path.startswith("/api/"):
            self.describe(path)
        else:
            self.send_file(path, with_body=with_body)

    def describe(self, path: str) -> None:
        prefix = f"/api/{self.hub.kind}/{self.hub.repo}/revision/"
        if not path.startswith(prefix):
            self.refuse(404, "RepoNotFound")
        elif path.removeprefix(prefix) not in self.hub.revisions:
            self.refuse(404, "RevisionNotFound")
        else:
            siblings = [self.sibling(name, data) for name, data in self.hub.files.items()]
            document = {"id": self.hub.repo, "sha": COMMIT, "siblings": siblings}
            self.reply(200, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def sibling(self, name: str, data: bytes) -> dict[str, object]:
        entry: dict[str, object] = {"rfilename": name, "size": len(data)}
        if name.endswith((".safetensors", ".zip")):
            digest = "0" * 64 if self.hub.wrong_digest else hashlib.sha256(data).hexdigest()
            entry["lfs"] = {"sha256": digest, "size": len(data), "pointerSize": 130}
        return entry

    def send_file(self, path: str, *, with_body: bool) -> None:
        prefix = "" if self.hub.kind == "models" else f"/{self.hub.kind}"
        name = path.removeprefix(f"{prefix}/{self.hub.repo}/resolve/{COMMIT}/")
        data = self.hub.files.get(name)
        if data is None:
            self.refuse(404, "EntryNotFound")
            return
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT}
        if not with_body:
            self.reply(200, b"", headers, length=len(data))
            return
        asked = self.headers.get("Range")
        self.hub.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        if asked:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self.start(206 if asked else 200, headers, length=len(data) - start)
        self.stream(data[start:])

    def stream(self, data: bytes) -> None:
        for at in range(0, len(data), PIECE):
            if self.hub.break_after is not None and at >= self.hub.break_after:
                self.hub.break_after = None
                self.close_connection = True
                return
            if self.hub.stall_after is not None and at >= self.hub.stall_after:
                self.hub.stalled.set()
                self.hub.released.wait(30)
                self.close_connection = True
                return
            try:
                self.wfile.write(data[at : at + PIECE])
            except OSError:
                return

    def refuse(self, status: int, code: str) -> None:
        self.reply(status, b"{}", {"X-Error-Code": code, "X-Error-Message": "no"})

    def reply(
        self, status: int, body: bytes, headers: Mapping[str, str], length: int | None = None
    ) -> None:
        self.start(status, headers, length=len(body) if length is None else length)
        if body and self.command != "HEAD":
            self.wfile.write(body)

    def start(self, status: int, headers: Mapping[str, str], *, length: int) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()
