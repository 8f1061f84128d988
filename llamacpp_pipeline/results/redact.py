"""What must not be published: absolute paths, the home folder, the host's name, Hub tokens."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{16,}\b")
TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_HUB_TOKEN")
SHORTEST_SECRET = 8
SHORTEST_HOST = 5  # a shorter host name is more often a word than a leak
REST = r"""[^\s"'`,;|<>()=:]*"""
ABSOLUTE = re.compile(
    r"(?:file:/+|(?<![\w.~:/*+\\)\]-])/+|(?<=:)/(?!/)|(?:(?<=^-[ILo])|(?<=[\s=]-[ILo]))/+)"
    rf"(?P<path>[\w.~-]{REST})"
)


@dataclass(frozen=True, kw_only=True)
class Redactor:
    """Replaces what identifies the person or the machine; the names of files stay."""

    home: str
    host: str
    secrets: tuple[str, ...] = ()

    def secretless(self, text: str) -> str:
        """Without tokens and the home folder: for text whose paths are its own business."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        text = TOKEN.sub("***", text)
        home = self.home.rstrip("/")
        if home:
            before = r"(?<![\w.-])" if home.count("/") == 1 else ""  # /ada, but not org/ada
            text = re.sub(rf"{before}{re.escape(home)}(?![\w.-])", "~", text)
        return text

    def text(self, text: str) -> str:
        """Without tokens, the host's name and absolute paths, of which the last part stays."""
        if text.startswith("/") and "\n" not in text:
            text = PurePosixPath(text).name or text
        text = ABSOLUTE.sub(lambda match: PurePosixPath(match["path"]).name, text)
        if len(self.host) >= SHORTEST_HOST:
            text = re.sub(rf"(?<![\w.-]){re.escape(self.host)}(?![\w-])", "(host)", text)
        return self.secretless(text)

    def argument(self, argument: str) -> str:
        """One argument of a command: also where the path in it has blanks."""
        flag, equals, value = argument.partition("=")
        if equals and value.startswith("/"):
            return self.secretless(f"{flag}={PurePosixPath(value).name}")
        return self.text(argument)

    def tree(self, value: Any, *, keep: Collection[str] = ()) -> Any:  # noqa: ANN401 - JSON
        """A JSON value with every string redacted; of the keys in `keep` only the secrets."""
        if isinstance(value, str):
            return self.argument(value)
        if isinstance(value, dict):
            return {key: self._member(key, item, keep=keep) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.tree(item, keep=keep) for item in value]
        return value

    def _member(self, key: str, item: Any, *, keep: Collection[str]) -> Any:  # noqa: ANN401 - JSON
        if key in keep and isinstance(item, str):
            return self.secretless(item)
        return self.tree(item, keep=keep)


def redactor_of_this_machine() -> Redactor:
    """What this process's surroundings say must stay private."""
    tokens = (os.environ.get(name, "") for name in TOKEN_VARIABLES)
    return Redactor(
        home=str(Path.home()),
        host=platform.node(),
        secrets=tuple(token for token in tokens if len(token) >= SHORTEST_SECRET),
    )
