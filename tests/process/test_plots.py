"""The picture of the activations: matplotlib starts a process of its own to look for fonts."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from importlib import util
from pathlib import Path

import pytest

from llamacpp_pipeline.cli.deliver import drawn
from llamacpp_pipeline.report import plots
from llamacpp_pipeline.report.plots import profile_svg
from llamacpp_pipeline.results.assemble import results_document
from llamacpp_pipeline.results.document import ResultsDocument
from llamacpp_pipeline.results.imatrix import ImatrixFacts
from tests.unit.results.sample import (
    NOBODY,
    imatrix_of,
    sample_run,
    statistics_of,
    with_result,
)

needs_matplotlib = pytest.mark.skipif(
    not plots.can_draw(), reason="matplotlib is not installed (the extra `plots`)"
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where matplotlib may keep its list of fonts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLCONFIGDIR", str(tmp_path_factory.getbasetemp() / "matplotlib"))
        yield


def document(*, means: bool = True) -> ResultsDocument:
    run = with_result(sample_run(), "imatrix", statistics=statistics_of(imatrix_of(means=means)))
    return results_document(run, redactor=NOBODY)


def facts(*, means: bool = True) -> ImatrixFacts:
    found = document(means=means).imatrix
    assert found is not None
    return found


def texts(svg: str) -> list[str]:
    root = ET.fromstring(svg)  # noqa: S314  our own
    return [e.text for e in root.iter("{http://www.w3.org/2000/svg}text") if e.text]


@needs_matplotlib
def test_the_same_results_give_the_same_bytes() -> None:
    first, second = profile_svg(facts()), profile_svg(facts())

    assert first == second
    assert first is not None
    assert str(Path.home()) not in first


@needs_matplotlib
@pytest.mark.parametrize("means", [True, False])
def test_it_shows_what_is_known(*, means: bool) -> None:
    svg = profile_svg(facts(means=means))

    assert svg is not None
    words = texts(svg)
    assert {"layer", "tensor", "E[x²]"} <= set(words)
    assert ("E[x]" in words) is means


@needs_matplotlib
def test_the_users_own_style_does_not_change_it() -> None:
    import matplotlib as mpl  # noqa: PLC0415  optional

    before = profile_svg(facts())
    with mpl.rc_context({"lines.linewidth": 9, "axes.facecolor": "black"}):
        assert profile_svg(facts()) == before
        assert mpl.rcParams["lines.linewidth"] == 9


@needs_matplotlib
def test_it_is_drawn_anew_only_for_new_results(tmp_path: Path) -> None:
    path = tmp_path / "Tiny-imatrix.svg"

    assert drawn(document(), tmp_path, anew=True) == path.name
    path.write_text("kept")
    assert drawn(document(), tmp_path, anew=False) == path.name
    assert path.read_text() == "kept"
    assert drawn(document(), tmp_path, anew=True) == path.name
    assert path.read_text() != "kept"


def test_without_matplotlib_there_is_no_picture_and_no_old_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Tiny-imatrix.svg").write_text("of other figures")
    monkeypatch.setattr(plots, "find_spec", lambda name: None if name else util.find_spec(name))

    assert profile_svg(facts()) is None
    assert drawn(document(), tmp_path, anew=True) is None
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_draw_is_no_picture() -> None:
    assert profile_svg(facts().model_copy(update={"layer_h_diag": ()})) is None
