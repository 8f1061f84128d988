"""The pictures: matplotlib starts a process of its own to look for fonts."""

from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from importlib import util
from pathlib import Path

import pytest

from llamacpp_pipeline.report.plots import gallery, pictures
from llamacpp_pipeline.report.plots.gallery import draw_all, shown
from llamacpp_pipeline.report.plots.pictures import (
    PICTURES,
    Picture,
    can_draw,
    files_of,
    pictures_of,
)
from llamacpp_pipeline.report.plots.table import PlotTable
from llamacpp_pipeline.results.document import ResultsDocument
from tests.unit.report.allocated import allocated
from tests.unit.report.published import quality_document
from tests.unit.report.scored import scored
from tests.unit.report.sensed import sensed

pytestmark = pytest.mark.timeout(300)  # a picture takes seconds, and 30 on a busy machine
needs_matplotlib = pytest.mark.skipif(
    not can_draw(), reason="matplotlib is not installed (the extra `plots`)"
)
EVERY = (*(picture.name for picture in PICTURES), "allocation-IQ1_M")
EACH = pytest.mark.parametrize("name", EVERY)
CARD = "target-bpw-qwen3.5-9b"
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where matplotlib may keep its list of fonts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLCONFIGDIR", str(tmp_path_factory.getbasetemp() / "matplotlib"))
        yield


@pytest.fixture(scope="module")
def document() -> ResultsDocument:
    """The figures of a published card: thirteen files, three of them of others."""
    return sensed(scored(allocated(quality_document(CARD)), CARD))


def named(name: str, document: ResultsDocument) -> Picture:
    return next(picture for picture in pictures_of(document) if picture.name == name)


def table_of(picture: Picture, document: ResultsDocument) -> PlotTable:
    table = picture.table(document)
    assert table is not None
    return table


class Drawn:
    """The files of each picture, drawn when first asked for: it takes seconds each."""

    def __init__(self, document: ResultsDocument) -> None:
        self._document = document
        self._files: dict[str, dict[str, bytes]] = {}

    def __getitem__(self, name: str) -> dict[str, bytes]:
        if name not in self._files:
            picture = named(name, self._document)
            self._files[name] = dict(files_of(picture, table_of(picture, self._document)))
        return self._files[name]


@pytest.fixture(scope="module")
def drawn(document: ResultsDocument) -> Drawn:
    return Drawn(document)


def texts(svg: bytes) -> list[str]:
    root = ET.fromstring(svg)  # noqa: S314  our own
    return [e.text for e in root.iter("{http://www.w3.org/2000/svg}text") if e.text]


@needs_matplotlib
@EACH
def test_the_same_results_give_the_same_bytes(
    name: str, document: ResultsDocument, drawn: Drawn
) -> None:
    picture = named(name, document)
    table = table_of(picture, document)
    first, second = drawn[picture.name], dict(files_of(picture, table))

    assert first == second
    assert len(first) == 5
    assert all(str(Path.home()).encode() not in content for content in first.values())
    assert all(content.startswith(PNG) for name, content in first.items() if name.endswith("png"))
    assert first[f"{picture.name}.png"] != first[f"{picture.name}-dark.png"]


@needs_matplotlib
@EACH
def test_every_name_in_the_data_is_on_the_picture(
    name: str, document: ResultsDocument, drawn: Drawn
) -> None:
    picture = named(name, document)
    table = table_of(picture, document)
    words = texts(drawn[picture.name][f"{picture.name}.svg"])

    if "label" in table.columns:
        assert set(table.texts("label")) <= set(words)
    assert not any("$" in word or "nan" in word.lower() for word in words)


@needs_matplotlib
def test_what_predictions_are_off_by_is_on_their_pictures(drawn: Drawn) -> None:
    fit = texts(drawn["sensitivity-fit"]["sensitivity-fit.svg"])
    predicted = texts(drawn["kld-predicted"]["kld-predicted.svg"])

    assert "median |ln| 0.223, rms 0.223" in fit  # ln 1.25, as the sample was made
    assert {"iq3_s", "q5_K"} <= set(fit)
    assert "measured = 1.25 predicted (median)" in predicted


@needs_matplotlib
def test_the_map_of_sensitivities_has_a_square_for_each_tensor(
    document: ResultsDocument, drawn: Drawn
) -> None:
    words = texts(drawn["sensitivity"]["sensitivity.svg"])

    table = table_of(named("sensitivity", document), document)
    assert {f"{alpha:.2g}" for alpha in table.numbers("alpha")} <= set(words)
    assert {"token_embd", "attn_q", "ffn_down"} <= set(words)


@needs_matplotlib
def test_a_name_cannot_be_markup_of_the_picture(document: ResultsDocument) -> None:
    evil = "</text><script>$x^2$</script>"
    rows = (document.variants[0].model_copy(update={"label": evil}), *document.variants[1:])
    other = document.model_copy(update={"variants": rows})
    picture = PICTURES[0]

    svg = dict(files_of(picture, table_of(picture, other)))["kld-size.svg"]

    assert b"<script" not in svg
    assert any(word.startswith("</text><script>$x^2$") for word in texts(svg))


@needs_matplotlib
def test_the_users_own_style_does_not_change_it(document: ResultsDocument, drawn: Drawn) -> None:
    import matplotlib as mpl  # noqa: PLC0415  optional

    picture = PICTURES[0]
    before = drawn[picture.name]
    with mpl.rc_context({"lines.linewidth": 9, "axes.facecolor": "black"}):
        assert dict(files_of(picture, table_of(picture, document))) == before
        assert mpl.rcParams["lines.linewidth"] == 9


@needs_matplotlib
def test_they_are_drawn_anew_only_for_new_results(
    document: ResultsDocument, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "pictures_of", lambda _: PICTURES[:1])
    svg = tmp_path / "plots" / "kld-size.svg"

    draw_all(document, tmp_path, anew=True)
    svg.write_text("kept")
    draw_all(document, tmp_path, anew=False)
    assert svg.read_text() == "kept"
    (tmp_path / "plots" / "kld-size-dark.png").unlink()
    draw_all(document, tmp_path, anew=False)
    assert svg.read_text() != "kept"
    assert shown(document, tmp_path)["kld-size"].startswith("<picture>")


@EACH
def test_the_csv_has_every_figure(name: str, document: ResultsDocument) -> None:
    table = table_of(named(name, document), document)
    head, *rows = csv.reader(io.StringIO(table.csv()))

    assert tuple(head) == table.columns
    assert len(rows) == len(table.rows) > 0
    for written, row in zip(rows, table.rows, strict=True):
        for text, cell in zip(written, row, strict=True):
            if isinstance(cell, float):
                assert float(text) == cell


def test_without_matplotlib_there_are_figures_only_and_no_old_picture_stays(
    document: ResultsDocument, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "plots"
    folder.mkdir()
    (folder / "kld-size.png").write_text("of other figures")
    (folder / "allocation-gone.svg").write_text("of a file that is made no more")
    (folder / "mine.png").write_text("of the publisher")
    monkeypatch.setattr(pictures, "find_spec", lambda name: None if name else util.find_spec(name))

    draw_all(document, tmp_path, anew=True)

    names = {f"{picture.name}.csv" for picture in pictures_of(document) if picture.table(document)}
    assert {path.name for path in folder.iterdir()} == names | {"mine.png"}
    assert set(shown(document, tmp_path).values()) == {""}


def test_what_was_not_measured_has_no_picture(document: ResultsDocument, tmp_path: Path) -> None:
    bare = document.model_copy(
        update={
            "variants": tuple(
                row.model_copy(update={"quality": None, "speed": (), "allocation": None})
                for row in document.variants
            ),
            "references": (),
            "reference": document.reference.model_copy(update={"speed": ()}),
            "imatrix": None,
            "sensitivity": None,
            "tasks": None,
        }
    )

    draw_all(bare, tmp_path, anew=True)

    assert not (tmp_path / "plots").exists()
