"""What would be published, and what would change: decided from values."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from llamacpp_pipeline.errors import InputError, PublishError
from llamacpp_pipeline.report.hub_refusal import refusal
from llamacpp_pipeline.report.publish import free_tag
from llamacpp_pipeline.report.push_plan import Target, There, plan_against
from llamacpp_pipeline.report.release import Release, release
from llamacpp_pipeline.results.assemble import results_document
from llamacpp_pipeline.results.manifest import run_manifest
from llamacpp_pipeline.results.redact import Redactor
from llamacpp_pipeline.results.write import write_results
from tests.unit.results.sample import NOBODY, sample_run

TARGET = Target(repo="org/name")
TOKEN = "hf_" + "planted" * 4


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def finished(folder: Path, *, without: tuple[str, ...] = (), card: str = "# card\n") -> Path:
    run = sample_run(without=without)
    manifest = run_manifest(run, redactor=NOBODY)
    folder.mkdir()
    files = []
    for file in manifest.files:
        (folder / file.name).write_text(file.name)
        digest = sha256(folder / file.name)
        files.append(file.model_copy(update={"sha256": digest}))
    write_results(
        folder,
        document=results_document(run, redactor=NOBODY),
        manifest=manifest.model_copy(update={"files": tuple(files)}),
        card=card,
        redactor=NOBODY,
    )
    return folder


def found(folder: Path, redactor: Redactor = NOBODY) -> Release:
    return release(folder, digest=sha256, redactor=redactor)


def test_what_a_run_made_and_what_describes_it_is_published_and_nothing_else(
    tmp_path: Path,
) -> None:
    folder = finished(tmp_path / "out")
    for name in ("kld.svg", "kld.csv", ".eval_results/kld.yaml", "pictures/a.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")
    for name in ("run.jsonl", "private.gguf", ".hidden.json", "notes.txt"):
        (folder / name).write_text("x")

    made = found(folder)

    assert [file.name for file in made.files] == [
        *("Tiny-Q4_K_M.gguf", "Tiny-Q4_K_M-selective.gguf", "Tiny-imatrix.gguf"),
        *("README.md", "results.json", "manifest.json"),
        *(".eval_results/kld.yaml", "kld.csv", "kld.svg", "pictures/a.png"),
    ]
    assert made.left_out == (".hidden.json", "notes.txt", "private.gguf", "run.jsonl")


def test_an_unfinished_run_is_not_published(tmp_path: Path) -> None:
    folder = finished(tmp_path / "out", without=("kld/Q4_K_M",))

    with pytest.raises(PublishError, match="the run is not finished: 1 steps") as caught:
        found(folder)

    assert caught.value.evidence == ("kld/Q4_K_M",)
    assert caught.value.exit_code == 5


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    folder = finished(tmp_path / "out")
    (folder / "Tiny-Q4_K_M.gguf").unlink()

    with pytest.raises(PublishError, match="out/ is not whole") as caught:
        found(folder)

    assert caught.value.evidence == ("Tiny-Q4_K_M.gguf",)


def test_a_file_that_the_run_did_not_make_so_is_named(tmp_path: Path) -> None:
    folder = finished(tmp_path / "out")
    (folder / "Tiny-Q4_K_M.gguf").write_text("something else")

    with pytest.raises(PublishError, match=r"Tiny-Q4_K_M.gguf is not the file"):
        found(folder)


@pytest.mark.parametrize("secret", [TOKEN, "secret-word-of-mine", "/home/nobody/models"])
def test_a_secret_in_a_text_stops_it(tmp_path: Path, secret: str) -> None:
    folder = finished(tmp_path / "out", card="# card\n")
    (folder / "README.md").write_text(f"see {secret}\n")
    redactor = Redactor(home="/home/nobody", host="", secrets=("secret-word-of-mine",))

    with pytest.raises(PublishError, match=r"README.md holds a token") as caught:
        found(folder, redactor)

    assert secret not in caught.value.report()


def test_a_folder_without_results_is_no_release(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"results.json: cannot be read"):
        found(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a manifest"),
        ("{}", "schema_version is None, this version reads 1"),
        ('{"schema_version": 1}', "not a manifest"),
    ],
)
def test_a_manifest_that_is_none(tmp_path: Path, text: str, said: str) -> None:
    folder = finished(tmp_path / "out")
    (folder / "manifest.json").write_text(text)

    with pytest.raises(InputError, match=said):
        found(folder)


def test_files_are_compared_by_digest(tmp_path: Path) -> None:
    made = found(finished(tmp_path / "out"))
    first, second, third, card, *_ = made.files
    there = {
        first.name: There(size_bytes=first.size_bytes, sha256=first.sha256, git_oid="pointer"),
        second.name: There(size_bytes=second.size_bytes, sha256="0" * 64, git_oid="pointer"),
        card.name: There(size_bytes=card.size_bytes, sha256=None, git_oid=card.git_oid),
        "theirs.txt": There(size_bytes=7, sha256=None, git_oid="x"),
    }

    plan = plan_against(there, made, TARGET, exists=True, commit="c" * 40)

    what = {change.name: change.what for change in plan.changes}
    assert what[first.name] == "same"
    assert what[second.name] == "changed"
    assert what[third.name] == "new"
    assert what[card.name] == "same"
    assert what["theirs.txt"] == "stays"
    travel = [f for f in made.files if what[f.name] in ("new", "changed")]
    assert plan.upload_bytes == sum(f.size_bytes for f in travel)


def test_the_digest_that_git_gives(tmp_path: Path) -> None:
    made = found(finished(tmp_path / "out"))
    card = next(file for file in made.files if file.name == "README.md")

    assert card.path.read_bytes() == b"# card\n"
    assert card.git_oid == "245d3238005659d13c827cc53e6f921a01fb6da1"  # git hash-object


def test_a_tag_is_never_moved() -> None:
    assert free_tag("build-1", "c", {}) == "build-1"
    assert free_tag("build-1", "c", {"build-1": "c"}) == "build-1"
    assert free_tag("build-1", "c", {"build-1": "b"}) == "build-1.2"
    assert free_tag("build-1", "c", {"build-1": "a", "build-1.2": "b"}) == "build-1.3"


class AnsweredError(Exception):
    """As the Hub's client raises it."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.server_message = words
        self.response = type("Response", (), {"status_code": status})()


@pytest.mark.parametrize(
    ("status", "words", "message"),
    [
        (401, "no", "the Hub does not accept the token"),
        (402, "pay", "the Hub has no room left for org/name"),
        (403, "storage limit reached", "the Hub has no room left for org/name"),
        (403, "no", "the token may not write to org/name"),
        (404, "no", "the Hub does not know org/name"),
        (412, "no", "org/name changed meanwhile"),
        (429, "slowly", "the Hub wants fewer requests"),
        (500, "oh", "the Hub refused to publish org/name"),
    ],
)
def test_a_refusal_of_the_hub_has_a_remedy_and_no_token(
    status: int, words: str, message: str
) -> None:
    redactor = Redactor(home="", host="", secrets=("secret-word",))

    error = refusal(AnsweredError(status, f"{words} secret-word {TOKEN}"), TARGET, redactor)

    assert error.message == message
    assert error.evidence == (f"{status}: {words} *** ***",)
    assert error.hint
    assert error.exit_code == 5


def test_what_an_upload_thread_wraps_is_unwrapped() -> None:
    outer = RuntimeError("Error while uploading")
    outer.__cause__ = AnsweredError(403, "storage limit")

    assert refusal(outer, TARGET, NOBODY).message == "the Hub has no room left for org/name"
