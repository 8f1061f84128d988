from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from llamacpp_pipeline.errors import InputError, UnreadableOutputError
from llamacpp_pipeline.stages.fetch import (
    STAGE,
    FetchParams,
    FetchResult,
    argv,
    parse,
    resolve_commit,
    wanted_model_files,
)
from tests.process.hub_server import COMMIT, Hub, serving

TOKEN = "hf_" + "planted" * 4
LARGE = bytes(range(256)) * (25 << 12)  # 25 MiB: the client writes 10 MiB at a time
MODEL = {
    "config.json": b"{}",
    "model.safetensors": b"weights" * 1000,
    "README.md": b"# card",
    "onnx/config.json": b"{}",
    "picture.png": b"png",
}


def zipped(name: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, content)
    return stream.getvalue()


@pytest.fixture(autouse=True)
def own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache" / "huggingface" / "hub"))
    for name in ("HF_TOKEN", "LLAMACPP_PIPELINE_STORE", "LLAMACPP_PIPELINE_DOWNLOADS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving(Hub(files=MODEL)) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.endpoint)
        yield served


class Fetching:
    """The stage's program, as the engine runs it."""

    def __init__(self, tmp_path: Path, endpoint: str, params: FetchParams) -> None:
        self.params = params
        self.paths = {"files": tmp_path / "files"}
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path / "home"),
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "HF_ENDPOINT": endpoint,
            "HF_HUB_ETAG_TIMEOUT": "3",
            "HF_HUB_DOWNLOAD_TIMEOUT": "30",
        }
        self.log = ""

    def start(self) -> subprocess.Popen[str]:
        tool, *arguments = argv(self.params, self.paths)
        return subprocess.Popen(
            [sys.executable, "-m", tool, *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self) -> int:
        with self.start() as child:
            self.log, _ = child.communicate(timeout=50)
        return child.returncode

    def result(self) -> FetchResult:
        assert self.run() == 0, self.log
        return parse(self.log, self.paths)

    def refusal(self) -> InputError:
        assert self.run() == 1, self.log
        explained = STAGE.explain(self.log)
        assert isinstance(explained, InputError)
        return explained

    def file(self, name: str) -> bytes:
        return (self.paths["files"] / name).read_bytes()


def model(**changes: object) -> FetchParams:
    given = {"repo": "org/name", "commit": COMMIT, "files": ("*.json", "*.safetensors", "*.md")}
    return FetchParams.model_validate({**given, **changes})


def test_only_the_files_wanted_come_as_real_files(hub: Hub, tmp_path: Path) -> None:
    fetching = Fetching(tmp_path, hub.endpoint, model())

    result = fetching.result()

    names = [file.name for file in result.files]
    assert names == ["README.md", "config.json", "model.safetensors"]
    assert result.commit == COMMIT
    weights = fetching.file("model.safetensors")
    assert weights == MODEL["model.safetensors"]
    assert result.files[2].sha256 == hashlib.sha256(weights).hexdigest()
    found = list(fetching.paths["files"].rglob("*"))
    assert sorted(path.name for path in found) == sorted(names)
    assert not any(path.is_symlink() for path in found)


def test_nothing_is_left_in_the_downloads_folder(hub: Hub, tmp_path: Path) -> None:
    Fetching(tmp_path, hub.endpoint, model()).result()

    left = [p for p in (tmp_path / "cache").rglob("*") if p.is_file() and p.stat().st_size]
    assert left == []


def test_a_dropped_connection_is_gone_on_with(tmp_path: Path) -> None:
    with serving(Hub(files={"model.safetensors": LARGE}, break_after=15 << 20)) as hub:
        fetching = Fetching(tmp_path, hub.endpoint, model())
        fetching.result()

    assert fetching.file("model.safetensors") == LARGE
    assert hub.ranges[0] is None
    assert hub.ranges[1] is not None
    assert hub.ranges[1].startswith("bytes=10485760-")


def test_a_killed_download_is_gone_on_with_by_the_next(tmp_path: Path) -> None:
    with serving(Hub(files={"model.safetensors": LARGE}, stall_after=15 << 20)) as hub:
        first = Fetching(tmp_path, hub.endpoint, model())
        with first.start() as child:
            assert hub.stalled.wait(40)
            partial = tmp_path / "cache" / "llamacpp-pipeline" / "downloads"
            while not sum(p.stat().st_size for p in partial.rglob("*.partial")):
                assert child.poll() is None
            child.kill()
            child.communicate()
        (left,) = partial.rglob("*.partial")
        n_bytes = left.stat().st_size
        hub.stall_after = None
        second = Fetching(tmp_path / "again", hub.endpoint, model())
        second.environment = first.environment
        second.result()

    assert second.file("model.safetensors") == LARGE
    assert n_bytes
    assert hub.ranges[-1] == f"bytes={n_bytes}-"


def test_a_member_is_unpacked_beside_its_archive_and_checked(tmp_path: Path) -> None:
    content = b"some text"
    files = {"data/text.zip": zipped("folder/wiki.test.raw", content)}
    params = model(
        repo_type="dataset",
        files=("data/text.zip",),
        member="folder/wiki.test.raw",
        sha256=hashlib.sha256(content).hexdigest(),
    )
    with serving(Hub(files=files, kind="datasets")) as hub:
        fetching = Fetching(tmp_path, hub.endpoint, params)
        result = fetching.result()

    assert [file.name for file in result.files] == ["data/text.zip", "data/wiki.test.raw"]
    assert fetching.file("data/wiki.test.raw") == content


@pytest.mark.parametrize(
    ("changes", "message", "words"),
    [
        ({"member": "folder/wiki.tets.raw"}, "has no member", "it has: folder/wiki.test.raw"),
        ({"member": "folder/wiki.test.raw", "sha256": "a" * 64}, "its sha256 differs", "aaaa"),
        ({"files": ("note.zip",), "member": "x"}, "is not a zip archive", "not a zip"),
        ({"files": ("txt.zip",)}, "has no file txt.zip", "it has: text.zip"),
        ({"files": ("*.zip",), "member": "x"}, "2 files match", "note.zip"),
    ],
)
def test_what_is_not_as_named_is_refused(
    tmp_path: Path, changes: dict[str, object], message: str, words: str
) -> None:
    files = {"text.zip": zipped("folder/wiki.test.raw", b"x"), "note.zip": b"no zip"}
    with serving(Hub(files=files)) as hub:
        params = model(**{"files": ("text.zip",), **changes})
        refusal = Fetching(tmp_path, hub.endpoint, params).refusal()

    assert message in refusal.message
    assert any(words in line for line in refusal.evidence)
    assert refusal.hint


def test_content_other_than_the_hub_promises_is_refused_and_fetched_anew(tmp_path: Path) -> None:
    with serving(Hub(files=MODEL, wrong_digest=True)) as hub:
        fetching = Fetching(tmp_path, hub.endpoint, model())
        assert "its sha256 differs" in fetching.refusal().message
        hub.wrong_digest = False
        fetching.result()

    assert hub.requests.count(f"GET /org/name/resolve/{COMMIT}/model.safetensors") == 2


def test_a_token_opens_a_private_repository_and_is_never_printed(tmp_path: Path) -> None:
    with serving(Hub(files=MODEL, token=TOKEN)) as hub:
        fetching = Fetching(tmp_path, hub.endpoint, model())
        refusal = fetching.refusal()
        assert "or does not show it to you" in refusal.message
        assert "HF_TOKEN" in (refusal.hint or "")
        fetching.environment["HF_TOKEN"] = "hf_" + "wrong" * 4
        assert "HF_TOKEN" in (fetching.refusal().hint or "")
        assert "wrongwrong" not in fetching.log
        fetching.environment["HF_TOKEN"] = TOKEN
        fetching.result()

    assert TOKEN not in fetching.log
    assert "HF_TOKEN" in STAGE.environment


def test_a_gated_repository_says_what_to_do(tmp_path: Path) -> None:
    with serving(Hub(files=MODEL, token=TOKEN, gated=True)) as hub:
        refusal = Fetching(tmp_path, hub.endpoint, model()).refusal()

    assert "is gated" in refusal.message
    assert "accept the terms" in (refusal.hint or "")


def test_offline_the_clients_own_cache_serves(tmp_path: Path) -> None:
    snapshot = tmp_path / "cache/huggingface/hub/models--org--name/snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (snapshot / name).write_bytes(MODEL[name])
    fetching = Fetching(tmp_path, "http://127.0.0.1:9", model())
    fetching.environment["HF_HUB_OFFLINE"] = "1"

    result = fetching.result()

    assert [file.name for file in result.files] == ["config.json", "model.safetensors"]
    assert (snapshot / "config.json").is_file()


def test_offline_without_the_files_is_refused(tmp_path: Path) -> None:
    fetching = Fetching(tmp_path, "http://127.0.0.1:9", model())
    fetching.environment["HF_HUB_OFFLINE"] = "1"

    assert "offline" in fetching.refusal().message


def test_no_network_is_refused_with_a_remedy(tmp_path: Path) -> None:
    refusal = Fetching(tmp_path, "http://127.0.0.1:9", model()).refusal()

    assert "cannot be reached" in refusal.message
    assert "HF_ENDPOINT" in (refusal.hint or "")


def test_a_result_whose_files_are_not_there_is_refused(hub: Hub, tmp_path: Path) -> None:
    fetching = Fetching(tmp_path, hub.endpoint, model())
    fetching.result()
    (fetching.paths["files"] / "config.json").write_bytes(b"other")

    with pytest.raises(UnreadableOutputError, match="the files it lists") as caught:
        parse(fetching.log, fetching.paths)
    assert caught.value.evidence == ("config.json",)
    with pytest.raises(UnreadableOutputError, match="its list of files"):
        parse("fetched 3/9 MiB\n", fetching.paths)


def test_a_revision_is_resolved_once_and_remembered_for_offline(hub: Hub) -> None:
    assert resolve_commit("org/name", "model", "main", offline=False) == COMMIT
    asked = len(hub.requests)

    assert resolve_commit("org/name", "model", "main", offline=True) == COMMIT
    assert len(hub.requests) == asked


def test_a_full_sha_asks_nobody(hub: Hub) -> None:
    assert resolve_commit("no/such", "model", COMMIT, offline=False) == COMMIT
    assert hub.requests == []


def test_offline_the_clients_own_reference_serves(tmp_path: Path) -> None:
    reference = tmp_path / "cache/huggingface/hub/datasets--org--name/refs/main"
    reference.parent.mkdir(parents=True)
    reference.write_text(COMMIT)

    assert resolve_commit("org/name", "dataset", "main", offline=True) == COMMIT


@pytest.mark.parametrize(
    ("repo", "revision", "message"),
    [
        ("org/other", "main", "the Hub has no model org/other"),
        ("org/name", "mainn", "org/name has no revision mainn"),
    ],
)
def test_what_the_hub_does_not_have_is_named(
    hub: Hub, repo: str, revision: str, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        resolve_commit(repo, "model", revision, offline=False)
    assert caught.value.hint
    assert hub.requests


def test_a_revision_never_seen_cannot_be_resolved_offline() -> None:
    with pytest.raises(InputError, match="offline, and it is not known which commit main"):
        resolve_commit("org/name", "model", "main", offline=True)


def test_no_network_offers_the_commit_last_seen(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_commit("org/name", "model", "main", offline=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")

    with pytest.raises(InputError, match="cannot be reached") as caught:
        resolve_commit("org/name", "model", "main", offline=False)
    assert "HF_HUB_OFFLINE=1" in (caught.value.hint or "")
    assert COMMIT[:12] in (caught.value.hint or "")
    assert hub.requests


def test_a_damaged_memory_is_as_good_as_none(tmp_path: Path) -> None:
    memory = tmp_path / "cache" / "llamacpp-pipeline" / "hub" / "commits.json"
    memory.parent.mkdir(parents=True)
    memory.write_text("{")

    with pytest.raises(InputError, match="it is not known"):
        resolve_commit("org/name", "model", "main", offline=True)


def test_downloads_wait_beside_the_store_where_one_is_named(hub: Hub, tmp_path: Path) -> None:
    fetching = Fetching(tmp_path, hub.endpoint, model())
    fetching.environment["LLAMACPP_PIPELINE_STORE"] = str(tmp_path / "store")

    fetching.result()

    assert (tmp_path / "store" / "downloads" / "models--org--name").is_dir()
    assert not (tmp_path / "cache" / "llamacpp-pipeline" / "downloads").exists()


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (
            ("model-00001-of-00002.safetensors", "consolidated.safetensors", "a/b.json", "x.bin"),
            ("model-00001-of-00002.safetensors",),
        ),
        (("consolidated.safetensors", "params.json"), ("consolidated.safetensors", "params.json")),
        (
            ("chat_template.jinja", "LICENSE", "tokenizer.model", "merges.txt", "image.png"),
            ("LICENSE", "chat_template.jinja", "merges.txt", "tokenizer.model"),
        ),
    ],
)
def test_what_a_model_needs(names: tuple[str, ...], wanted: tuple[str, ...]) -> None:
    assert wanted_model_files(names) == wanted


@pytest.mark.parametrize("tool", ["fetch", "inspect", "weights"])
def test_own_tools_run_as_programs_without_a_warning(tool: str) -> None:
    module = f"llamacpp_pipeline.stages.{tool}"
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-m", module, "--help"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0
    assert ran.stderr == ""
    assert "--output" in ran.stdout
