"""`compare`: joined where measured alike, refused and named where not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from llamacpp_pipeline.cli.compare import compare
from llamacpp_pipeline.errors import InputError, MixedConditionsError, UsageError
from llamacpp_pipeline.results.assemble import results_document
from llamacpp_pipeline.results.compare import compare_runs
from llamacpp_pipeline.results.document import ResultsDocument, document_json
from tests.unit.report.scored import scored_sample
from tests.unit.results.sample import CREATED, NOBODY, sample_run

Folders = Callable[..., list[str]]


def document(**changes: Any) -> ResultsDocument:  # noqa: ANN401 - any condition
    found = results_document(sample_run(), created=CREATED, redactor=NOBODY)
    assert found.speed is not None
    speed: dict[str, Any] = {"cpu": changes.pop("cpu")} if "cpu" in changes else {}
    return found.model_copy(
        update={
            "conditions": found.conditions.model_copy(update=changes),
            "speed": found.speed.model_copy(update=speed),
        }
    )


def better(label: str, value: float) -> ResultsDocument:
    """The sample with another file of that name, with another mean KLD."""
    found = document()
    rows = []
    for row in found.variants:
        assert row.quality is not None
        kld = row.quality.model_copy(
            update={"mean_kld": row.quality.mean_kld.__class__(value=value, stderr=0.0001)}
        )
        size = row.size.model_copy(update={"file_bytes": row.size.file_bytes - 100})
        other = {"quality": kld, "sha256": "f" * 64, "size": size}
        rows.append(row.model_copy(update=other) if row.label == label else row)
    return found.model_copy(update={"variants": tuple(rows)})


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folders:
    """Folders with results, by relative name."""
    monkeypatch.chdir(tmp_path)

    def write(*documents: ResultsDocument) -> list[str]:
        names = [f"run{at}" for at in range(len(documents))]
        for name, one in zip(names, documents, strict=True):
            Path(name).mkdir()
            (Path(name) / "results.json").write_text(document_json(one), encoding="utf-8")
        return names

    return write


def run(*arguments: str) -> Result:
    return CliRunner().invoke(compare, list(arguments), catch_exceptions=False)


def test_equal_conditions_make_one_table_of_each_kind(folders: Folders) -> None:
    text = run(*folders(document(), document())).stdout

    assert "PPL and KLD: A, B (measured alike)\n" in text
    assert "Tokens per second: A, B (measured alike)\n" in text
    assert "not joined" not in text
    assert "Q4_K_M            B against A  the same bytes\n" in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param({"n_ctx": 512}, "  n_ctx: 512, there 256", id="n_ctx"),
        pytest.param({"n_chunks": 7}, "  n_chunks: 7, there 40", id="n_chunks"),
        pytest.param({"build_id": "e" * 64}, f"  build_id: {'e' * 12}, there ", id="build"),
    ],
)
def test_another_condition_is_named_and_not_joined(
    folders: Folders, change: dict[str, Any], said: str
) -> None:
    text = run(*folders(document(), document(**change))).stdout

    assert "PPL and KLD: A\n" in text
    assert "PPL and KLD: B\nnot joined with A, measured under other conditions:\n" in text
    assert said in text
    assert "Tokens per second: A, B (measured alike)" in text
    assert "against" not in text


def test_another_machine_keeps_the_speeds_apart_but_not_the_quality(folders: Folders) -> None:
    text = run(*folders(document(), document(cpu="Other CPU"), document())).stdout

    assert "PPL and KLD: A, B, C (measured alike)" in text
    assert "Tokens per second: A, C (measured alike)" in text
    assert "Tokens per second: B\nnot joined with A" in text
    assert "  cpu: Other CPU, there Some CPU" in text


def test_another_reference_model_is_not_joined() -> None:
    other = document()
    changed = other.reference.model_copy(update={"sha256": "d" * 64})
    other = other.model_copy(update={"reference": changed})

    comparison = compare_runs([("a", document()), ("b", other)])

    (refused,) = comparison.refused
    assert [found.name for found in refused.differing] == ["reference"]


def test_the_user_may_join_despite_a_condition_and_it_is_said(folders: Folders) -> None:
    names = folders(document(), document(build_id="e" * 64))

    text = run(*names, "--despite", "build_id").stdout

    assert "joined although these may differ: build_id" in text
    assert "PPL and KLD: A, B (measured alike)" in text
    assert "against" not in text  # no difference is computed of what was not measured alike


def test_a_difference_has_its_error(folders: Folders) -> None:
    text = run(*folders(document(), better("Q4_K_M", 0.01))).stdout

    assert "Q4_K_M            B against A  -100 B          mean KLD lower by 0.026272 ± " in text
    assert "(errors of both added)" in text


def test_a_difference_within_the_error_is_none(folders: Folders) -> None:
    text = run(*folders(document(), better("Q4_K_M", 0.0363))).stdout

    assert "mean KLD equal within the error: differs by 0.000028 ± " in text


def test_scores_of_other_tasks_are_not_joined(folders: Folders) -> None:
    one, other = scored_sample(), scored_sample()
    assert other.tasks is not None
    first, second = other.tasks.sets
    sets = (first.model_copy(update={"sha256": "e" * 64}), second)
    other = other.model_copy(update={"tasks": other.tasks.model_copy(update={"sets": sets})})

    text = run(*folders(one, one, other)).stdout

    assert "Task scores, % right: A, B (measured alike)\n" in text
    assert re.search(r"^A +F16 +4\.9 KiB( +80\.00 ± 6\.41){2} +80\.00 ± 4\.53$", text, re.MULTILINE)
    assert "Task scores, % right: C\nnot joined with A" in text
    assert f"  demo-passages.sha256: {'e' * 12}, there " in text


def test_strict_fails_after_showing_what_there_is(folders: Folders) -> None:
    names = folders(document(), document(n_ctx=512))

    with pytest.raises(MixedConditionsError, match="not everything was measured alike") as caught:
        run(*names, "--strict")

    assert caught.value.evidence == ("quality of B and A: n_ctx: 512, there 256",)
    assert run(*names).exit_code == 0


def test_json_has_the_same(folders: Folders) -> None:
    names = folders(document(), document(n_ctx=512))
    found = json.loads(run(*names, "--format", "json").stdout)

    assert [group["runs"] for group in found["joined"]] == [["A"], ["B"], ["A", "B"]]
    assert found["joined"][1]["differing"] == [{"name": "n_ctx", "one": "256", "other": "512"}]


def test_a_results_file_may_be_named_itself(folders: Folders) -> None:
    first, second = folders(document(), document())

    assert run(f"{first}/results.json", second).exit_code == 0


def test_what_cannot_be_compared_is_said(folders: Folders) -> None:
    (name,) = folders(document())

    with pytest.raises(UsageError, match="1 results given"):
        run(name)
    with pytest.raises(InputError, match="cannot be read"):
        run(name, "nowhere")
    with pytest.raises(UsageError, match="--despite weather: no condition") as caught:
        run(name, name, "--despite", "weather")
    assert "build_id" in (caught.value.hint or "")
