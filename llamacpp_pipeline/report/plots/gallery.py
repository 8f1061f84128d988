"""The pictures in a result folder: written, kept or taken away, and shown on the card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from llamacpp_pipeline.report.markdown import Markdown, escaped
from llamacpp_pipeline.report.plots.pictures import (
    ALLOCATION,
    Picture,
    can_draw,
    files_of,
    pictures_of,
    stem,
)
from llamacpp_pipeline.report.plots.theme import DARK, LIGHT, THEMES
from llamacpp_pipeline.results.document import ResultsDocument
from llamacpp_pipeline.results.write import write_bytes

FOLDER = "plots"


def draw_all(document: ResultsDocument, out: Path, *, anew: bool) -> None:
    """Every picture that the results have figures for, in `out`/plots; others are removed.

    Without matplotlib only the CSV files. Where not `anew`, what is there stays.

    Raises:
        InputError: where the folder cannot be written to.

    """
    pictures = pictures_of(document)
    for old in (out / FOLDER).glob(f"{ALLOCATION}*"):  # of files that are made no more
        if not any(old.name in _names(picture) for picture in pictures):
            old.unlink()
    for picture in pictures:
        table = picture.table(document)
        if table is None:
            wanted: set[str] = set()
        elif not anew and (kept := _kept(picture, out)):
            wanted = kept
        else:
            files = dict(files_of(picture, table))
            wanted = set(files)
            for name, content in files.items():
                write_bytes(out / FOLDER / name, content)
        for name in _names(picture) - wanted:  # of an earlier run, with other figures
            (out / FOLDER / name).unlink(missing_ok=True)


def shown(document: ResultsDocument, out: Path | None) -> Mapping[str, Markdown]:
    """What stands for each picture on the card: nothing where the folder has none."""
    return {
        picture.name: _on_card(picture)
        if out is not None and _picture_files(picture) <= _present(picture, out)
        else Markdown("")
        for picture in pictures_of(document)
    }


def _on_card(picture: Picture) -> Markdown:
    light, dark = (f"{FOLDER}/{stem(picture, theme)}.png" for theme in (LIGHT, DARK))
    data = f"[the figures]({FOLDER}/{picture.name}.csv), [as SVG]({FOLDER}/{picture.name}.svg)"
    return Markdown(
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img alt="{picture.alt}" src="{light}" width="800"></picture>\n\n'
        f"{escaped(picture.alt)}: {data}."
    )


def _kept(picture: Picture, out: Path) -> set[str]:
    """The files that are there, where they are all that would be written; else none."""
    present = _present(picture, out)
    return present if present == (_names(picture) if can_draw() else _data(picture)) else set()


def _present(picture: Picture, out: Path) -> set[str]:
    return {name for name in _names(picture) if (out / FOLDER / name).is_file()}


def _names(picture: Picture) -> set[str]:
    return _data(picture) | _picture_files(picture)


def _data(picture: Picture) -> set[str]:
    return {f"{picture.name}.csv"}


def _picture_files(picture: Picture) -> set[str]:
    return {f"{stem(picture, theme)}.{kind}" for theme in THEMES for kind in ("svg", "png")}
