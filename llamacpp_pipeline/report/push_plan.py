"""What a push would do, file by file: what is here against what is there, by digests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from llamacpp_pipeline.report.release import LocalFile, Release

GIT_ATTRIBUTES = ".gitattributes"  # the Hub's own: which files it keeps as large ones

What = Literal["new", "changed", "same", "stays", "goes"]
Gate = Literal["auto", "manual"]


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where it goes."""

    repo: str  # "owner/name"
    branch: str = "main"
    private: bool = False  # of a repository that is made now
    gated: Gate | None = None
    delete: bool = False  # what is there and not in the folder


@dataclass(frozen=True, kw_only=True)
class Change:
    """What becomes of one file."""

    name: str
    what: What
    size_bytes: int
    sha256: str | None  # of what will be there; None where nothing will, or git keeps it
    local: LocalFile | None = None


@dataclass(frozen=True, kw_only=True)
class PushPlan:
    """What a push would do."""

    target: Target
    exists: bool  # whether the repository does
    commit: str | None  # what the branch is at now
    changes: tuple[Change, ...]

    @property
    def upload_bytes(self) -> int:
        """The bytes of the new and the changed files: the most that will travel."""
        return sum(c.size_bytes for c in self.changes if c.what in ("new", "changed"))

    @property
    def is_idle(self) -> bool:
        """Whether nothing would change."""
        return all(change.what in ("same", "stays") for change in self.changes)


@dataclass(frozen=True, kw_only=True)
class There:
    """A file as the Hub lists it."""

    size_bytes: int
    sha256: str | None  # of large files
    git_oid: str | None  # of the others

    def holds(self, file: LocalFile) -> bool:
        """Whether that is its content."""
        if self.size_bytes != file.size_bytes:
            return False
        return self.sha256 == file.sha256 if self.sha256 else self.git_oid == file.git_oid


def plan_against(
    there: Mapping[str, There],
    release: Release,
    target: Target,
    *,
    exists: bool,
    commit: str | None,
) -> PushPlan:
    """What each file becomes, ours first."""
    changes = [_change(file, there.get(file.name)) for file in release.files]
    ours = {file.name for file in release.files}
    changes += [
        Change(
            name=name,
            what="goes" if target.delete and name != GIT_ATTRIBUTES else "stays",
            size_bytes=file.size_bytes,
            sha256=file.sha256,
        )
        for name, file in sorted(there.items())
        if name not in ours
    ]
    return PushPlan(target=target, exists=exists, commit=commit, changes=tuple(changes))


def _change(file: LocalFile, there: There | None) -> Change:
    what: What = "new" if there is None else "same" if there.holds(file) else "changed"
    return Change(
        name=file.name, what=what, size_bytes=file.size_bytes, sha256=file.sha256, local=file
    )
