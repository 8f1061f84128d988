"""The choice between candidates: the rule, its ties, and the tool that applies it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from llamacpp_pipeline.errors import InputError, UnreadableOutputError
from llamacpp_pipeline.stages.answer_bits import packed
from llamacpp_pipeline.stages.kld import KldResult
from llamacpp_pipeline.stages.select import (
    STAGE,
    SelectParams,
    argv,
    complete,
    file_name,
    hand_over,
    main,
    parse,
    quality_name,
    read_candidate,
    score_name,
    size_name,
)
from llamacpp_pipeline.stages.selection import Candidate, Decision, decide, rho_bound, task_error
from llamacpp_pipeline.units import Estimate
from tests.unit.results.sample import kld_result
from tests.unit.stages.makers import write_gguf


def candidate(
    name: str,
    *,
    kld: float = 0.02,
    rho: float = 99.5,
    tasks: float | None = None,
    file_bytes: int = 1000,
) -> Candidate:
    quality = KldResult.model_validate(
        {
            **kld_result(),
            "mean_kld": {"value": kld, "stderr": 0.0001},
            "ppl_correlation": rho,
        }
    )
    average = None if tasks is None else Estimate(value=tasks, stderr=0.5)
    return Candidate(
        name=name, file_bytes=file_bytes, bpw=4.5, quality=quality, task_average=average
    )


def decided(*candidates: Candidate) -> Decision:
    return decide(candidates, larger_by=0.005)


def test_the_lowest_mean_kld_is_kept_where_it_is_beyond_the_error() -> None:
    decision = decided(candidate("base", kld=0.02), candidate("other", kld=0.019))

    assert (decision.kept, decision.reason) == ("other", "kld")
    base, other = decision.candidates
    assert other.difference is None
    assert base.difference is not None
    assert base.difference.value == pytest.approx(0.001)


def test_where_the_klds_tie_the_correlation_decides() -> None:
    decision = decided(
        candidate("base", kld=0.02000, rho=99.2),
        candidate("other", kld=0.02005, rho=99.8),
    )
    assert (decision.kept, decision.reason) == ("other", "rho_ppl")


def test_where_that_ties_too_the_tasks_decide() -> None:
    decision = decided(
        candidate("base", kld=0.02000, tasks=50.0),
        candidate("other", kld=0.02005, tasks=60.0),
    )
    assert (decision.kept, decision.reason) == ("other", "tasks")


def test_a_tie_in_everything_is_said_to_be_one_and_the_lowest_kld_is_kept() -> None:
    decision = decided(
        candidate("base", kld=0.02005, tasks=50.0), candidate("other", kld=0.02, tasks=50.1)
    )
    assert (decision.kept, decision.reason) == ("other", "tie")


def test_a_candidate_without_tasks_leaves_them_out() -> None:
    decision = decided(candidate("base", tasks=50.0), candidate("other"))
    assert decision.reason == "tie"


def test_equal_candidates_leave_the_first() -> None:
    assert decided(candidate("base"), candidate("same")).kept == "base"


def test_what_is_worse_in_kld_does_not_come_back_by_its_correlation() -> None:
    decision = decided(
        candidate("base", kld=0.02, rho=99.2), candidate("worse", kld=0.03, rho=99.9)
    )
    assert (decision.kept, decision.reason) == ("base", "kld")


def test_what_is_larger_is_not_of_the_same_size() -> None:
    decision = decided(candidate("base", kld=0.02), candidate("fat", kld=0.001, file_bytes=1006))
    assert (decision.kept, decision.reason) == ("base", "only")
    assert [one.too_large for one in decision.candidates] == [False, True]
    assert decided(candidate("base"), candidate("near", kld=0.001, file_bytes=1005)).kept == "near"


def test_the_error_of_a_correlation_is_that_of_its_tokens() -> None:
    one = candidate("one", rho=99.0)
    tokens = 40 * 127  # 40 chunks of 256, of which the last 127 are scored
    assert rho_bound(one, one) == pytest.approx(
        0.01 + 100 * 1.959964 * 2**0.5 * (1 - 0.99**2) / tokens**0.5
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files and records of two candidates, the second better."""
    for at, kld in enumerate((0.02, 0.01)):
        gguf = write_gguf(tmp_path / f"{at}.gguf", n_vocab=8 + at)
        size = {"result": {"file_bytes": gguf.stat().st_size, "bpw": 4.5, "ftype": "Q4_K_M"}}
        quality = {**kld_result(), "mean_kld": {"value": kld, "stderr": 0.0001}}
        (tmp_path / f"{at}.size.json").write_text(json.dumps(size))
        (tmp_path / f"{at}.quality.json").write_text(json.dumps({"result": quality}))
    return tmp_path


def paths_in(folder: Path) -> dict[str, Path]:
    paths = {"gguf": folder / "model.gguf", "decision": folder / "decision.json"}
    for at in range(2):
        paths[file_name(at)] = folder / f"{at}.gguf"
        paths[size_name(at)] = folder / f"{at}.size.json"
        paths[quality_name(at)] = folder / f"{at}.quality.json"
    return paths


PARAMS = SelectParams(names=("base", "other"), larger_by=0.5)


def test_the_tool_leaves_the_best_file_under_its_own_name(folder: Path) -> None:
    paths = paths_in(folder)
    done = CliRunner().invoke(main, argv(PARAMS, paths)[1:])

    assert done.exit_code == 0, done.output
    assert "kept other (kld)" in done.output
    assert paths["gguf"].samefile(folder / "1.gguf")
    decision = STAGE.read(PARAMS, done.output, paths)
    assert (decision.kept, decision.reason) == ("other", "kld")


def test_no_decision_or_another_file_is_refused(folder: Path) -> None:
    paths = paths_in(folder)
    with pytest.raises(UnreadableOutputError, match="its decision"):
        parse("", paths)

    CliRunner().invoke(main, argv(PARAMS, paths)[1:])
    paths["gguf"].unlink()
    paths["gguf"].write_bytes((folder / "1.gguf").read_bytes() + b"\0")
    with pytest.raises(UnreadableOutputError, match="the file it decided for"):
        parse("", paths)


def test_a_decision_between_others_is_refused(folder: Path) -> None:
    paths = paths_in(folder)
    CliRunner().invoke(main, argv(PARAMS, paths)[1:])
    result = parse("", paths)

    with pytest.raises(UnreadableOutputError, match="between the candidates"):
        complete(SelectParams(names=("base", "third")), result, paths)


def test_a_record_of_something_else_is_refused_by_name(folder: Path) -> None:
    (folder / "0.quality.json").write_text('{"result": {"ppl": 7}}')
    with pytest.raises(InputError, match="candidate base: its record cannot be read"):
        read_candidate("base", folder / "0.size.json", folder / "0.quality.json")


def test_a_disk_without_links_gets_a_copy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    hand_over(folder / "0.gguf", folder / "model.gguf")

    assert (folder / "model.gguf").read_bytes() == (folder / "0.gguf").read_bytes()
    assert not (folder / "model.gguf").samefile(folder / "0.gguf")


def scored(folder: Path, name: str, *, value: float, stderr: float | None = 2.0) -> Path:
    path = folder / name
    score = {"value": value, "stderr": stderr}
    bits = packed([at < value for at in range(101)])
    result = {"form": "hellaswag", "n_tasks": 101, "score": score, "correct": bits}
    path.write_text(json.dumps({"result": result}))
    return path


def test_scores_on_several_sets_become_one_average_with_its_error(folder: Path) -> None:
    scores = [
        scored(folder, "one.json", value=50.0, stderr=None),
        scored(folder, "two.json", value=70.0, stderr=2.0),
    ]
    found = read_candidate("base", folder / "0.size.json", folder / "0.quality.json", scores=scores)

    assert found.task_average is not None
    assert found.task_average.value == 60.0
    assert found.task_average.stderr == pytest.approx((5.0**2 + 2.0**2) ** 0.5 / 2)


def test_scores_are_compared_over_the_same_tasks() -> None:
    right = tuple(at % 2 == 0 for at in range(100))
    flipped = tuple(not answer if at < 5 else answer for at, answer in enumerate(right))
    one = candidate("one", tasks=52.0).model_copy(update={"answers": (right, right)})
    two = candidate("two", tasks=50.0).model_copy(update={"answers": (right, flipped)})

    assert task_error(one, one) == 0
    differences = [int(a) - int(b) for a, b in zip(right, flipped, strict=True)]
    spread = np.std(differences, ddof=1)
    assert task_error(one, two) == pytest.approx(100 * spread / math.sqrt(100) / 2)
    blind = two.model_copy(update={"answers": ()})
    assert task_error(one, blind) == pytest.approx(math.hypot(0.5, 0.5))


def test_the_tool_settles_a_tie_by_the_scores_it_is_given(folder: Path) -> None:
    same = (folder / "0.quality.json").read_text()
    (folder / "1.quality.json").write_text(same)
    paths = paths_in(folder)
    for at, value in enumerate((50.0, 80.0)):
        paths[score_name(at, 0)] = scored(folder, f"{at}.score.json", value=value)
    params = SelectParams(names=("base", "other"), larger_by=0.5, n_sets=1)
    done = CliRunner().invoke(main, argv(params, paths)[1:])

    assert "kept other (tasks)" in done.output
    assert STAGE.read(params, done.output, paths).candidates[1].task_average is not None
