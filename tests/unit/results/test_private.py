"""Nothing that is published names the person, the machine or a token."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamacpp_pipeline.errors import InputError
from llamacpp_pipeline.report.card import render_card
from llamacpp_pipeline.report.terminal import render_text
from llamacpp_pipeline.results.assemble import results_document
from llamacpp_pipeline.results.manifest import run_manifest
from llamacpp_pipeline.results.redact import Redactor, redactor_of_this_machine
from llamacpp_pipeline.results.run import RunRecords
from llamacpp_pipeline.results.write import write_results, write_text
from llamacpp_pipeline.stages.base import Placement
from tests.unit.results.sample import CREATED, changed, sample_run

HOME = "/home/ada.l"
HOST = "adas-desk"
TOKEN = "hf_" + "aBcD" * 8
OTHER_SECRET = "s3cr3t-of-another-hub"  # noqa: S105 - planted, to be found
REDACTOR = Redactor(home=HOME, host=HOST, secrets=(OTHER_SECRET,))
PLANTED = (HOME, "ada.l", HOST, TOKEN, OTHER_SECRET, "/opt/", "/mnt/")


def planted_run() -> RunRecords:
    config = {
        "model": {"path": f"{HOME}/models/Tiny"},
        "evaluation": {"corpus": {"path": "/mnt/texts/evaluation.txt"}, "n_ctx": 256},
        "toolchain": {"source": "path", "path": f"{HOME}/llama.cpp", "flags": ["-DX=-I/opt/inc"]},
        "card": {"notes": f"Made on {HOME}/drafts with {TOKEN}; see /v1/models."},
    }
    run = sample_run(config=config)
    command = (
        "llama-quantize", f"--imatrix={HOME}/a b/i.gguf", "/mnt/x y/model.gguf", f"-L{HOME}/lib",
        f"--url=https://{HOST}.example/x?t={TOKEN}", "--a", "/opt/a:/opt/b", f"file://{HOME}/f",
        f"{OTHER_SECRET}", f"-I{HOME}/inc",
    )  # fmt: skip
    placement = Placement(extra=("--override-kv", f"x={HOME}/y", "--log-file", "/opt/log.txt"))
    run = changed(run, "quantize/Q4_K_M", command=command, placement=placement)
    label = f"{HOME}/texts/evaluation.txt"
    inputs = dict(run.records["reference"].inputs)
    inputs["corpus"] = inputs["corpus"].model_copy(update={"label": label})
    note = f"own checkout at {HOME}/llama.cpp on {HOST}"
    run = changed(run, "reference", inputs=inputs, toolchain_note=note)
    toolchain = run.toolchain.model_copy(update={"note": note, "flags": ("-DX=-I/opt/inc",)})
    return RunRecords(
        name=run.name, plan=run.plan, records=run.records, config=run.config, toolchain=toolchain
    )


def test_no_planted_value_reaches_a_published_file(tmp_path: Path) -> None:
    run = planted_run()
    document = results_document(run, created=CREATED, redactor=REDACTOR)
    manifest = run_manifest(run, created=CREATED, redactor=REDACTOR)

    written = write_results(
        tmp_path / "out",
        document=document,
        manifest=manifest,
        card=render_card(document),
        redactor=REDACTOR,
    )

    texts = [path.read_text() for path in (written.results, written.manifest, written.card)]
    for text in [*texts, render_text(document)]:
        assert [value for value in PLANTED if value in text] == []


def test_what_is_needed_to_repeat_the_run_stays() -> None:
    run = planted_run()
    manifest = run_manifest(run, created=CREATED, redactor=REDACTOR)
    quantize = next(step for step in manifest.steps if step.key == "quantize/Q4_K_M")

    assert quantize.command == (
        "llama-quantize", "--imatrix=i.gguf", "model.gguf", "-Llib",
        "--url=https://(host).example/x?t=***", "--a", "b", "f",
        "***", "-Iinc",
    )  # fmt: skip
    assert manifest.config["model"]["path"] == "Tiny"
    assert manifest.config["evaluation"]["corpus"]["path"] == "evaluation.txt"
    assert "see /v1/models" in manifest.config["card"]["notes"]


@pytest.mark.parametrize(
    "text",
    [
        "https://huggingface.co/org/name",
        "org/name",
        "../data/wiki.test.raw",
        "in/model/model.gguf",
        "N/A",
        "MIT and/or Apache",
        r".*\.ssm_(out|in)\.weight$",
        "NVIDIA H200",
        "CUDA,CPU",
        "2026-01-02T03:00:00Z",
    ],
)
def test_what_is_not_private_is_left_as_it_is(text: str) -> None:
    assert REDACTOR.argument(text) == text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/ada/.cache/x", "x"),
        ("loaded /ada/.cache/x from /srv/y.", "loaded x from y."),
        ("org/ada/x", "org/ada/x"),
        ("CMAKE=/usr/bin:/ada/bin", "CMAKE=bin"),
    ],
)
def test_a_home_of_one_part_is_taken_out_as_a_path_only(text: str, left: str) -> None:
    assert Redactor(home="/ada", host="").argument(text) == left


def test_this_machine_has_its_own_redactor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", OTHER_SECRET)
    monkeypatch.setenv("HOME", HOME)

    found = redactor_of_this_machine()

    assert found.home == HOME
    assert found.secrets == (OTHER_SECRET,)


def test_a_text_replaces_its_predecessor_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    write_text(path, "old")
    write_text(path, "new ±\n")

    assert path.read_bytes() == "new ±\n".encode()
    assert [entry.name for entry in tmp_path.iterdir()] == ["README.md"]


def test_a_failed_write_keeps_the_old_text(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    write_text(path, "old")

    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \ud800")

    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["README.md"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")

    with pytest.raises(InputError, match=r"README\.md: cannot be written"):
        write_text(tmp_path / "out" / "README.md", "text")


def test_the_manifest_has_every_step_with_its_digests() -> None:
    run = sample_run(without=("bench/Q4_K_M",))
    manifest = run_manifest(run, created=CREATED, redactor=REDACTOR)

    assert [step.key for step in manifest.steps] == [
        step.key for step in run.plan.steps if step.key != "bench/Q4_K_M"
    ]
    assert manifest.incomplete == ("bench/Q4_K_M",)
    convert = next(step for step in manifest.steps if step.key == "convert")
    record = run.records["convert"]
    assert (convert.fingerprint, convert.outputs) == (record.fingerprint, record.outputs)
    assert convert.inputs == record.inputs
    assert manifest.config["convert"]["outtype"] == "auto"
    assert "pydantic" in manifest.versions
