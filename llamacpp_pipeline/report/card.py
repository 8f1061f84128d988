"""README.md of the result folder: the card, from the results document and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from llamacpp_pipeline.report.card_view import view_of
from llamacpp_pipeline.report.hub_metadata import front_matter
from llamacpp_pipeline.report.markdown import Markdown
from llamacpp_pipeline.report.plots.gallery import shown
from llamacpp_pipeline.report.template import filled
from llamacpp_pipeline.results.document import ResultsDocument


def render_card(
    document: ResultsDocument, *, pictures: Mapping[str, Markdown] | None = None
) -> str:
    """The card: front matter for the Hub, then Markdown; ends with one newline.

    `pictures` is what stands for each picture (plots/gallery.py: shown); default: none is there.

    Raises:
        InputError: where the publisher's own template cannot be filled.

    """
    view = view_of(document, pictures=pictures or shown(document, None))
    body = filled(view, own=document.publication.template)
    return f"{front_matter(document)}\n{body.strip()}\n"
