"""The Hub's API as far as a push uses it: one repository, kept in memory, with its refusals."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = (".gguf", ".png")
PIECE = 1 << 16
TOKEN = "hf_" + "planted" * 4


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


@dataclass
class Repository:
    """What the server holds, how it misbehaves, and what it was asked."""

    name: str = "org/Tiny-GGUF"
    exists: bool = False
    writable: bool = True  # by the one token
    private: bool = False
    gated: str | bool = False
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    store: dict[str, bytes] = field(default_factory=dict)  # large files, by their sha256
    break_upload_after: int | None = None  # close the connection after so many bytes, once
    stall_upload: bool = False  # take no large file but the first, until released
    begun: int = 0  # large files
    lock: threading.Lock = field(default_factory=threading.Lock)
    part_bytes: int | None = None  # large files come in parts of this size
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    quota_bytes: int | None = None
    bad_card: str | None = None
    overtaken: bool = False  # another commit comes in between
    requests: list[str] = field(default_factory=list)
    uploads: list[str] = field(default_factory=list)  # digests that arrived whole
    messages: list[str] = field(default_factory=list)
    stalled: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    endpoint: str = ""

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[-1][1] if self.commits else {}

    @property
    def head(self) -> str:
        return self.commits[-1][0]

    def commit(self, files: dict[str, bytes]) -> str:
        oid = hashlib.sha1(
            repr((len(self.commits), sorted(files))).encode(), usedforsecurity=False
        ).hexdigest()
        self.commits.append((oid, files))
        return oid

    def create(self) -> None:
        self.exists = True
        self.commit({".gitattributes": b"*.gguf filter=lfs\n"})


@contextmanager
def serving(repository: Repository) -> Iterator[Repository]:
    """Serve until the block ends."""

    class Handler(Conversation):
        pass

    Handler.hub = repository
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    repository.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield repository
    finally:
        repository.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


class Conversation(BaseHTTPRequestHandler):
    hub: Repository
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base's name
        """Be quiet."""

    def do_GET(self) -> None:
        path = self.begin()
        prefix = f"/api/models/{self.hub.name}"
        if path == "/api/whoami-v2":
            self.whoami()
        elif not self.visible():
            self.refuse(401, "Repository not found", code="RepoNotFound")
        elif path == f"{prefix}/refs":
            self.refs()
        elif path.startswith(f"{prefix}/revision/"):
            self.describe(path.removeprefix(f"{prefix}/revision/"))
        else:
            self.send_file(path, with_body=True)

    def do_HEAD(self) -> None:
        self.send_file(self.begin(), with_body=False)

    def do_POST(self) -> None:
        path, body = self.begin(), self.body()
        if path == "/api/validate-yaml":
            self.validate()
        elif path.startswith("/complete/"):
            self.complete(path.removeprefix("/complete/"), json.loads(body))
        elif not self.authorized():
            self.refuse(401, "Invalid credentials in Authorization header")
        elif not self.hub.writable:
            self.refuse(403, f"Forbidden: you must have write access, {self.token()}")
        else:
            self.change(path, body)

    def change(self, path: str, body: bytes) -> None:
        prefix = f"/api/models/{self.hub.name}"
        if path == "/api/repos/create":
            self.create(json.loads(body))
        elif path.startswith(f"{prefix}/preupload/"):
            self.preupload(json.loads(body))
        elif path == f"/{self.hub.name}.git/info/lfs/objects/batch":
            self.batch(json.loads(body))
        elif path.startswith(f"{prefix}/commit/"):
            self.commit([json.loads(line) for line in body.splitlines()])
        elif path.startswith(f"{prefix}/tag/"):
            self.tag(path.removeprefix(f"{prefix}/tag/"), json.loads(body))
        else:
            self.refuse(404, f"no such thing: {path}")

    def do_PUT(self) -> None:
        path = self.begin()
        if path.startswith("/lfs/"):
            self.take(path.removeprefix("/lfs/"))
        elif path.startswith("/part/"):
            oid, _, number = path.removeprefix("/part/").partition("/")
            self.take_part(oid, int(number))
        elif path == f"/api/models/{self.hub.name}/settings":
            self.hub.gated = json.loads(self.body())["gated"]
            self.reply({})
        else:
            self.refuse(404, f"no such thing: {path}")

    def whoami(self) -> None:
        if self.authorized():
            self.reply({"name": "someone", "type": "user"})
        else:
            self.refuse(401, "Invalid credentials in Authorization header")

    def refs(self) -> None:
        branches = [{"name": "main", "ref": "refs/heads/main", "targetCommit": self.hub.head}]
        tags = [
            {"name": name, "ref": f"refs/tags/{name}", "targetCommit": oid}
            for name, oid in self.hub.tags.items()
        ]
        self.reply({"branches": branches, "tags": tags, "converts": []})

    def describe(self, revision: str) -> None:
        named = {"main": self.hub.head, **self.hub.tags, **{o: o for o, _ in self.hub.commits}}
        if revision not in named:
            self.refuse(404, "Invalid rev id", code="RevisionNotFound")
            return
        oid = named[revision]
        siblings = [sibling(name, data) for name, data in dict(self.hub.commits)[oid].items()]
        self.reply({"id": self.hub.name, "sha": oid, "siblings": siblings})

    def send_file(self, path: str, *, with_body: bool) -> None:
        revision, _, name = path.removeprefix(f"/{self.hub.name}/resolve/").partition("/")
        data = dict(self.hub.commits).get(revision, {}).get(unquote(name))
        if data is None:
            self.refuse(404, "Entry not found", code="EntryNotFound")
            return
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": revision}
        self.start(200, headers, length=len(data))
        if with_body:
            self.wfile.write(data)

    def validate(self) -> None:
        if self.hub.bad_card is None:
            self.reply({"warnings": [], "errors": []})
        else:
            self.reply({"errors": [{"message": self.hub.bad_card}]}, status=400)

    def create(self, asked: dict[str, Any]) -> None:
        self.hub.private = asked.get("visibility") == "private" or bool(asked.get("private"))
        if f"{asked['organization']}/{asked['name']}" != self.hub.name:
            self.refuse(403, "You don't have the rights to create a model under this namespace")
        elif self.hub.exists:
            self.refuse(409, "You already created this model repo")
        else:
            self.hub.create()
            self.reply({"url": f"{self.hub.endpoint}/{self.hub.name}"})

    def preupload(self, asked: dict[str, Any]) -> None:
        there = self.hub.files
        self.reply(
            {
                "files": [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                        "shouldIgnore": False,
                        "oid": git_oid(there[file["path"]]) if file["path"] in there else None,
                    }
                    for file in asked["files"]
                ]
            }
        )

    def batch(self, asked: dict[str, Any]) -> None:
        total = sum(item["size"] for item in asked["objects"])
        if self.hub.quota_bytes is not None and total > self.hub.quota_bytes:
            self.refuse(403, "Private repository storage limit reached, please upgrade your plan")
            return
        objects = []
        for item in asked["objects"]:
            found = {"oid": item["oid"], "size": item["size"]}
            if item["oid"] not in self.hub.store:
                found["actions"] = {"upload": self.upload(item["oid"], item["size"])}
            objects.append(found)
        self.reply({"transfer": "basic", "objects": objects})

    def upload(self, oid: str, size: int) -> dict[str, Any]:
        if self.hub.part_bytes is None or size <= self.hub.part_bytes:
            return {"href": f"{self.hub.endpoint}/lfs/{oid}"}
        n_parts = -(-size // self.hub.part_bytes)
        parts = {f"{n:05d}": f"{self.hub.endpoint}/part/{oid}/{n}" for n in range(1, n_parts + 1)}
        header = {"chunk_size": str(self.hub.part_bytes), **parts}
        return {"href": f"{self.hub.endpoint}/complete/{oid}", "header": header}

    def take_part(self, oid: str, number: int) -> None:
        data = self.body()
        self.hub.parts.setdefault(oid, {})[number] = data
        self.start(200, {"ETag": hashlib.sha256(data).hexdigest()}, 0)

    def complete(self, oid: str, asked: dict[str, Any]) -> None:
        parts = self.hub.parts[oid]
        data = b"".join(parts[part["partNumber"]] for part in asked["parts"])
        if hashlib.sha256(data).hexdigest() != oid:
            self.refuse(400, "the parts are not what was announced")
            return
        self.hub.store[oid] = data
        self.reply({})

    def take(self, oid: str) -> None:
        with self.hub.lock:
            self.hub.begun += 1
            first = self.hub.begun == 1
        if self.hub.stall_upload and not first:
            while not self.hub.store and not self.hub.released.is_set():
                time.sleep(0.02)
            self.hub.stalled.set()
            self.hub.released.wait(30)
            self.close_connection = True
            return
        data = self.body()
        if self.close_connection:  # it was broken
            return
        if hashlib.sha256(data).hexdigest() != oid:
            self.refuse(400, "the content is not what was announced")
            return
        self.hub.store[oid] = data
        self.hub.uploads.append(oid)
        self.reply({})

    def commit(self, lines: list[dict[str, Any]]) -> None:
        header, *changes = lines
        parent = header["value"].get("parentCommit")
        if self.hub.overtaken:
            self.hub.overtaken = False
            self.hub.commit({**self.hub.files, "other.txt": b"by another"})
        if parent is not None and parent != self.hub.head:
            self.refuse(412, "A commit has happened since. Please refresh and try again.")
            return
        self.hub.messages.append(json.dumps(header))
        files = dict(self.hub.files)
        for change in changes:
            value = change["value"]
            if change["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif change["key"] == "lfsFile":
                files[value["path"]] = self.hub.store[value["oid"]]
            else:
                del files[value["path"]]
        oid = self.hub.commit(files)
        url = f"{self.hub.endpoint}/{self.hub.name}/commit/{oid}"
        self.reply({"commitOid": oid, "commitUrl": url, "success": True})

    def tag(self, revision: str, asked: dict[str, Any]) -> None:
        if asked["tag"] in self.hub.tags:
            self.refuse(409, "Tag already exists")
            return
        self.hub.tags[asked["tag"]] = revision
        self.hub.messages.append(json.dumps(asked))
        self.reply({})

    def begin(self) -> str:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        return path

    def token(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def authorized(self) -> bool:
        return self.token() == TOKEN

    def visible(self) -> bool:
        return self.hub.exists and (self.authorized() or not self.hub.private)

    def body(self) -> bytes:
        """What is sent, whole; or broken off where that is wanted."""
        received = bytearray()
        for piece in self.pieces():
            received += piece
            limit = self.hub.break_upload_after
            if limit is not None and self.command == "PUT" and len(received) > limit:
                self.hub.break_upload_after = None
                self.close_connection = True
                self.connection.close()
                break
        return bytes(received)

    def pieces(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline().strip() or b"0", 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left:
            piece = self.rfile.read(min(PIECE, left))
            left -= len(piece)
            yield piece

    def refuse(self, status: int, message: str, *, code: str | None = None) -> None:
        headers = {"X-Error-Message": message, **({} if code is None else {"X-Error-Code": code})}
        self.reply({"error": message}, status=status, headers=headers)

    def reply(
        self, document: object, *, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        body = json.dumps(document).encode()
        self.start(status, {"Content-Type": "application/json", **(headers or {})}, len(body))
        if self.command != "HEAD":
            self.wfile.write(body)

    def start(self, status: int, headers: dict[str, str], length: int) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()


def sibling(name: str, data: bytes) -> dict[str, object]:
    entry: dict[str, object] = {"rfilename": name, "size": len(data), "blobId": git_oid(data)}
    if name.endswith(LARGE):
        digest = hashlib.sha256(data).hexdigest()
        entry["lfs"] = {"sha256": digest, "size": len(data), "pointerSize": 130}
    return entry
