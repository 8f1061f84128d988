"""One file on the Hub, as a configuration names it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import StringConstraints, model_validator

from llamacpp_pipeline.datasets.registry import KnownText
from llamacpp_pipeline.stages.base import Frozen

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
FileStem = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]
RepoId = Annotated[str, StringConstraints(pattern=r"^[\w.-]+(/[\w.-]+)?$")]
OwnedRepoId = Annotated[str, StringConstraints(pattern=r"^[\w.-]+/[\w.-]+$")]


class HubFile(Frozen):
    """One file of a Hub repository."""

    repo: RepoId
    repo_type: Literal["model", "dataset"] = "model"
    revision: str = "main"
    file: str
    member: str | None = None  # a file inside it, where it is a zip archive
    sha256: Sha256 | None = None

    @model_validator(mode="after")
    def member_of_a_zip(self) -> HubFile:
        if self.member is not None and not self.file.lower().endswith(".zip"):
            message = f"`member` names a file inside a .zip, which {self.file} is not"
            raise ValueError(message)
        return self

    @property
    def unpacked(self) -> str:
        """The file wanted, as it lies in the folder that fetch leaves."""
        if self.member is None:
            return self.file
        folder, slash, _ = self.file.rpartition("/")
        return f"{folder}{slash}{self.member.rpartition('/')[2]}"


def text_on_hub(known: KnownText) -> HubFile:
    """The file of a text that the registry knows."""
    return HubFile(
        repo=known.hub.repo,
        repo_type="dataset",
        revision=known.hub.revision,
        file=known.hub.file,
        member=known.hub.member,
        sha256=known.sha256,
    )
