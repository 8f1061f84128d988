"""`push` as a program against a server that speaks the Hub's API."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from llamacpp_pipeline.report.card import render_card
from llamacpp_pipeline.results.assemble import results_document
from llamacpp_pipeline.results.manifest import run_manifest
from llamacpp_pipeline.results.write import write_results
from llamacpp_pipeline.stages.fetch import FetchParams, FetchResult, argv, parse
from tests.process.hub_writer import TOKEN, Repository, serving
from tests.unit.results.sample import BUILD, NOBODY, sample_run

PROGRAM = "import sys; from llamacpp_pipeline.cli.main import main; sys.exit(main())"
TAG = f"build-{BUILD[:12]}"
PICTURE = b"\x89PNG" + bytes(2000)


def content(name: str) -> bytes:
    """A file's bytes: 3 MiB, all its own."""
    return hashlib.sha256(name.encode()).digest() * (3 << 15)


def finished(folder: Path, **config: object) -> Path:
    """A result folder as a run leaves it, its model files made up."""
    run = sample_run(config=config)
    document = results_document(run, redactor=NOBODY)
    manifest = run_manifest(run, redactor=NOBODY)
    folder.mkdir()
    files = []
    for file in manifest.files:
        data = content(file.name)
        (folder / file.name).write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        files.append(file.model_copy(update={"size_bytes": len(data), "sha256": digest}))
    (folder / "Tiny-kld.png").write_bytes(PICTURE)
    (folder / "run.jsonl").write_text("{}\n")
    write_results(
        folder,
        document=document.model_copy(update={"files": tuple(files)}),
        manifest=manifest.model_copy(update={"files": tuple(files)}),
        card=render_card(document),
        redactor=NOBODY,
    )
    return folder


@dataclass
class Publisher:
    """A person at a shell."""

    home: Path
    folder: Path
    hub: Repository
    token: str | None = TOKEN
    output: str = ""
    said: list[str] = field(default_factory=list)

    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(sys.path),
            "HOME": str(self.home),
            "HF_ENDPOINT": self.hub.endpoint,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            **({} if self.token is None else {"HF_TOKEN": self.token}),
        }

    def start(self, *more: str) -> subprocess.Popen[str]:
        arguments = ("push", str(self.folder), "--repo", self.hub.name, *more)
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments],
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def push(self, *more: str) -> int:
        with self.start(*more) as child:
            self.output, errors = child.communicate(timeout=50)
        self.said = errors.splitlines()
        assert TOKEN not in self.output + errors
        assert "planted" not in self.output + errors
        return child.returncode

    def refused(self, *more: str) -> str:
        assert self.push(*more) == 5, self.said
        return "\n".join(self.said)

    def local(self) -> dict[str, bytes]:
        names = (path.name for path in self.folder.iterdir() if path.name != "run.jsonl")
        return {name: (self.folder / name).read_bytes() for name in names}


@pytest.fixture
def hub() -> Iterator[Repository]:
    with serving(Repository()) as served:
        yield served


@pytest.fixture
def person(tmp_path: Path, hub: Repository) -> Publisher:
    return Publisher(home=tmp_path / "home", folder=finished(tmp_path / "out"), hub=hub)


def table(person: Publisher) -> dict[str, str]:
    """File -> what becomes of it."""
    assert person.push("--format", "json") == 0, person.said
    return {file["name"]: file["what"] for file in json.loads(person.output)["files"]}


def test_without_yes_it_is_only_shown(person: Publisher, hub: Repository) -> None:
    assert person.push() == 0, person.said

    assert "Tiny-Q4_K_M.gguf" in person.output
    assert "3.0 MiB" in person.output
    assert "org/Tiny-GGUF, branch main: not there yet" in person.output
    assert "not published: run.jsonl" in person.output
    assert re.search(r"to upload: 9\.\d MiB at most", person.output)
    assert person.said == ["nothing was changed: `--yes` does it"]
    assert [r for r in hub.requests if not r.startswith("GET")] == []
    assert not hub.exists


def test_a_push_is_one_commit_with_a_tag_and_what_is_fetched_back_is_the_same(
    person: Publisher, hub: Repository, tmp_path: Path
) -> None:
    assert person.push("--yes", "--private") == 0, person.said

    assert hub.private
    assert len(hub.commits) == 2  # the Hub's own first one, and ours
    assert {n: d for n, d in hub.files.items() if n != ".gitattributes"} == person.local()
    assert hub.tags == {TAG: hub.head}
    assert BUILD in "".join(hub.messages)
    assert person.said[-1] == f"{hub.endpoint}/org/Tiny-GGUF is at {hub.head[:12]}, tagged {TAG}"
    assert fetched(person, hub, tmp_path / "back") == person.local()


def fetched(person: Publisher, hub: Repository, folder: Path) -> dict[str, bytes]:
    params = FetchParams(repo=hub.name, commit=hub.head, files=("*",))
    paths = {"files": folder}
    tool, *arguments = argv(params, paths)
    ran = subprocess.run(
        [sys.executable, "-m", tool, *arguments],
        env={**person.environment(), "XDG_CACHE_HOME": str(person.home / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    result: FetchResult = parse(ran.stdout + ran.stderr, paths)
    return {
        file.name: (folder / file.name).read_bytes()
        for file in result.files
        if file.name != ".gitattributes"
    }


def test_what_is_there_already_does_not_travel_again(person: Publisher, hub: Repository) -> None:
    assert person.push("--yes") == 0, person.said
    first = len(hub.uploads)
    before = dict.fromkeys(person.local(), "same") | {".gitattributes": "stays"}

    assert table(person) == before
    assert person.push("--yes") == 0, person.said
    assert "nothing to upload" in person.output
    assert (len(hub.uploads), len(hub.commits)) == (first, 2)

    (person.folder / "README.md").write_text("---\n---\n# other words\n")
    assert table(person) == {**before, "README.md": "changed"}
    assert person.push("--yes") == 0, person.said

    assert len(hub.uploads) == first
    assert hub.files["README.md"] == (person.folder / "README.md").read_bytes()
    assert hub.tags == {TAG: hub.commits[1][0], f"{TAG}.2": hub.head}  # a tag never moves


def test_what_is_only_there_stays_unless_told(person: Publisher, hub: Repository) -> None:
    hub.create()
    hub.commit({**hub.files, "old.gguf": b"old"})

    assert table(person)["old.gguf"] == "stays"
    assert person.push("--yes", "--delete") == 0, person.said

    assert "old.gguf" not in hub.files
    assert ".gitattributes" in hub.files


def test_a_broken_connection_is_taken_up_again(person: Publisher, hub: Repository) -> None:
    hub.break_upload_after = 1 << 20

    assert person.push("--yes") == 0, person.said

    assert {n: d for n, d in hub.files.items() if n != ".gitattributes"} == person.local()
    assert len(hub.uploads) == len(set(hub.uploads))


def test_a_killed_push_goes_on_with_what_is_not_there_yet(
    person: Publisher, hub: Repository
) -> None:
    hub.stall_upload = True
    with person.start("--yes") as child:
        assert hub.stalled.wait(40)
        child.send_signal(signal.SIGKILL)
        child.communicate()
    arrived = list(hub.uploads)
    assert arrived
    assert len(hub.commits) == 1  # nothing half-made is seen
    hub.stall_upload = False
    hub.released.set()

    assert person.push("--yes") == 0, person.said

    assert {n: d for n, d in hub.files.items() if n != ".gitattributes"} == person.local()
    assert len(hub.uploads) == len(set(hub.uploads)) > len(arrived)


def test_an_interrupt_ends_it_at_once(person: Publisher, hub: Repository) -> None:
    hub.stall_upload = True
    with person.start("--yes") as child:
        assert hub.stalled.wait(40)
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=20)  # no upload that is on its way is waited for

    assert child.returncode == 130
    assert "interrupted: org/Tiny-GGUF shows nothing half-done" in said
    assert len(hub.commits) == 1


def test_a_gated_repository(person: Publisher, hub: Repository) -> None:
    assert person.push("--yes", "--gated", "manual") == 0, person.said

    assert hub.gated == "manual"
    assert "its files will be gated: manual" in person.output


def test_the_config_says_where_it_goes(tmp_path: Path, hub: Repository) -> None:
    publish = {"repo": hub.name, "private": True}
    person = Publisher(
        home=tmp_path / "home", folder=finished(tmp_path / "out", publish=publish), hub=hub
    )
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "push", str(person.folder), "--yes"],
        env=person.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as child:
        child.communicate(timeout=50)

    assert child.returncode == 0
    assert hub.private
    assert hub.tags == {TAG: hub.head}


def test_a_wrong_token(person: Publisher) -> None:
    person.token = "hf_" + "wrongplanted" * 3

    said = person.refused("--yes")

    assert "error: the Hub does not accept the token" in said
    assert "fix: set HF_TOKEN to a valid token" in said
    assert person.token not in said


def test_no_token(person: Publisher) -> None:
    person.token = None

    said = person.refused("--yes")

    assert "error: there is no token to write to the Hub with" in said
    assert "fix: set HF_TOKEN to a token with write access, or run `hf auth login`" in said


def test_a_token_that_may_not_write_is_not_shown_though_the_hub_says_it(
    person: Publisher, hub: Repository
) -> None:
    hub.create()
    hub.writable = False

    said = person.refused("--yes")

    assert "error: the token may not write to org/Tiny-GGUF" in said
    assert "403: Forbidden: you must have write access, ***" in said
    assert "fix: use a token with write access to org" in said


def test_a_full_account(person: Publisher, hub: Repository) -> None:
    hub.quota_bytes = 1 << 20

    said = person.refused("--yes")

    assert "error: the Hub has no room left for org/Tiny-GGUF" in said
    assert "Private repository storage limit reached" in said
    assert "what has arrived need not travel again" in said


def test_a_card_that_the_hub_refuses(person: Publisher, hub: Repository) -> None:
    hub.bad_card = '"license" must be one of [...]'

    said = person.refused("--yes")

    assert "error: the Hub does not accept the card's metadata" in said
    assert '"license" must be one of' in said
    assert hub.uploads == []


def test_somebody_else_was_faster(person: Publisher, hub: Repository) -> None:
    hub.create()
    hub.overtaken = True

    said = person.refused("--yes")

    assert "error: org/Tiny-GGUF changed meanwhile" in said
    assert "other.txt" in hub.files


def test_nobody_answers(person: Publisher, hub: Repository) -> None:
    hub.endpoint = "http://127.0.0.1:9"

    said = person.refused()

    assert "error: publishing org/Tiny-GGUF did not get through" in said
    assert "fix: check the network and HF_ENDPOINT" in said


def test_large_files_may_come_in_many_parts(person: Publisher, hub: Repository) -> None:
    hub.part_bytes = 1 << 20

    assert person.push("--yes") == 0, person.said

    assert {n: d for n, d in hub.files.items() if n != ".gitattributes"} == person.local()
    assert len([r for r in hub.requests if "/part/" in r]) == 9
