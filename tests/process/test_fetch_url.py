"""One file of the web, from a server of our own."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from llamacpp_pipeline.errors import InputError, UnreadableOutputError
from llamacpp_pipeline.stages.fetch_url import FetchUrlParams, argv, fetch, main, parse

CONTENT = b'{"question": "?"}\n' * 100_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Web(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base's name
        """Be quiet."""

    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/whole.jsonl")
            self.end_headers()
            return
        found = {"/whole.jsonl": CONTENT, "/short.jsonl": CONTENT[:-10], "/empty": b""}
        if self.path not in found:
            self.send_error(404)
            return
        self.send_response(200)
        length = len(CONTENT) if self.path != "/empty" else 0
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(found[self.path])


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Web)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("path", ["/whole.jsonl", "/moved"])
def test_a_file_is_fetched_and_known_by_its_digest(web: str, path: str, tmp_path: Path) -> None:
    paths = {"file": tmp_path / "file"}
    params = FetchUrlParams(url=web + path, sha256=SHA256)
    log = CliRunner().invoke(main, argv(params, paths)[1:]).output
    result = parse(log, paths)
    assert (result.size_bytes, result.sha256) == (len(CONTENT), SHA256)
    assert paths["file"].read_bytes() == CONTENT
    paths["file"].write_bytes(b"")
    with pytest.raises(UnreadableOutputError, match="ended without the file it names"):
        parse(log, paths)
    with pytest.raises(UnreadableOutputError, match="ended without its word on the file"):
        parse("", paths)


@pytest.mark.parametrize(
    ("path", "sha256", "message", "evidence"),
    [
        pytest.param("/absent", None, "is not to be had", "HTTP 404 Not Found", id="absent"),
        pytest.param("/empty", None, "did not come whole", "0 bytes came, of 0", id="empty"),
        pytest.param("/whole.jsonl", "0a" * 32, "its sha256 differs", "expected 0a0a", id="digest"),
    ],
)
def test_what_is_not_the_file_is_refused(
    web: str, tmp_path: Path, path: str, sha256: str | None, message: str, evidence: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        fetch(FetchUrlParams(url=web + path, sha256=sha256), tmp_path / "file")
    assert caught.value.evidence[0].startswith(evidence)
    assert caught.value.hint is not None


def test_a_file_that_is_cut_short_is_refused(web: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"did not come whole|cannot be reached"):
        fetch(FetchUrlParams(url=f"{web}/short.jsonl"), tmp_path / "file")


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be reached") as caught:
        fetch(FetchUrlParams(url="http://127.0.0.1:9/a.jsonl"), tmp_path / "file")
    assert caught.value.hint is not None
    assert "`path`" in caught.value.hint
