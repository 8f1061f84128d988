"""patches/series and the patches it names: read, applied to a tree, a failing one explained."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from llamacpp_pipeline.errors import ToolchainError
from llamacpp_pipeline.process.command import Runner
from llamacpp_pipeline.toolchain.programs import Answer, ask, needed
from llamacpp_pipeline.toolchain.tree import file_sha256, sha256_of

SERIES = "series"
GIT_HINT = "apt-get install git (or your system's way to git)"
REJECTED_LINES = 30
SHOWN_LINES = 4
COMPLAINT = re.compile(r"error: (?!while searching for:)")


@dataclass(frozen=True, kw_only=True)
class Series:
    """Patches in the order in which they apply."""

    folder: Path
    names: tuple[str, ...]
    digest: str  # of names and contents

    @property
    def paths(self) -> tuple[Path, ...]:
        """Their files."""
        return tuple(self.folder / name for name in self.names)


def read_series(folder: Path) -> Series:
    """The series of a folder.

    Raises:
        ToolchainError: no series, a name without its file, or a patch that no line names.

    """
    try:
        text = (folder / SERIES).read_text(encoding="utf-8")
    except OSError as error:
        raise ToolchainError(
            "patches/series cannot be read",
            evidence=(str(error),),
            hint="run the program from a clone of its repository: patches/ is a part of it",
        ) from error
    lines = (line.strip() for line in text.splitlines())
    names = tuple(line for line in lines if line and not line.startswith("#"))
    _require_complete(folder, names)
    document = "".join(f"{file_sha256(folder / name)}  {name}\n" for name in names)
    return Series(folder=folder, names=names, digest=sha256_of(document.encode()))


def apply_series(
    series: Series, tree: Path, *, runner: Runner, skip_applied: bool = False
) -> tuple[str, ...]:
    """Apply every patch in order; the names of those applied.

    `skip_applied` passes over patches that the tree already contains, as a user's own may.

    Raises:
        ToolchainError: one does not apply; its rejected hunk is the evidence.

    """
    applied = []
    for path in series.paths:
        if skip_applied and _git_apply(runner, tree, path, "--check", "--reverse").exit_code == 0:
            continue
        if _git_apply(runner, tree, path).exit_code != 0:
            raise _refusal(path, tree, runner)
        applied.append(path.name)
    return tuple(applied)


def git_environment(tree: Path) -> Mapping[str, str]:
    """No git repository around `tree` and no setting of the user's changes what git does."""
    return {
        "GIT_CEILING_DIRECTORIES": str(tree.resolve().parent),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
    }


def _require_complete(folder: Path, names: tuple[str, ...]) -> None:
    absent = [f"{name}: in patches/series, but there is no such file" for name in names
              if not (folder / name).is_file()]  # fmt: skip
    unlisted = [f"{path.name}: not in patches/series" for path in sorted(folder.glob("*.patch"))
                if path.name not in names]  # fmt: skip
    if absent or unlisted:
        raise ToolchainError(
            "patches/series and the files beside it do not agree",
            evidence=(*absent, *unlisted),
            hint="add or remove the line, or the file",
        )


def _git_apply(runner: Runner, tree: Path, patch: Path, *arguments: str) -> Answer:
    git = needed("git", hint=GIT_HINT)
    argv = (str(git), "apply", "--whitespace=nowarn", *arguments, str(patch.resolve()))
    return ask(runner, argv, cwd=tree, environment=git_environment(tree))


def _refusal(patch: Path, tree: Path, runner: Runner) -> ToolchainError:
    """Which patch, which file, which hunk. The tree is spoiled afterwards."""
    said = _git_apply(runner, tree, patch, "--reject").lines
    complaints = [line for line in said if COMPLAINT.match(line)]
    rejected = [
        f"{path.relative_to(tree).with_suffix('').as_posix()}: {line}"
        for path in sorted(tree.rglob("*.rej"))
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines()[1:]
    ]
    return ToolchainError(
        f"patches/{patch.name} does not apply",
        evidence=(*complaints[:SHOWN_LINES], *rejected[:REJECTED_LINES]),
        hint="llamacpp-pipeline patches apply --to DIR, edit there, commit, then "
        "llamacpp-pipeline patches refresh --from DIR",
    )
