"""The publisher's own template of the card, read before anything runs."""

from __future__ import annotations

from llamacpp_pipeline.config.load import LoadedConfig
from llamacpp_pipeline.errors import ConfigError
from llamacpp_pipeline.report.template import OWN, refuse_broken_template


def own_template(loaded: LoadedConfig) -> str | None:
    """The text of the file that `card.template` names; None where none is named.

    Raises:
        ConfigError: where it cannot be read as UTF-8 text.
        InputError: where Jinja cannot read it.

    """
    path = loaded.file(OWN)
    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigError(
            f"{loaded.origin(OWN)}: {OWN}: {path.name} cannot be read ({reason})",
            hint="name a Jinja template, a UTF-8 text file",
        ) from error
    refuse_broken_template(text)
    return text
