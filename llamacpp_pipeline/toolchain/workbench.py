"""Where a developer edits the patches: a git repository with one commit for each."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from llamacpp_pipeline.errors import ToolchainError, UsageError
from llamacpp_pipeline.process.command import Runner
from llamacpp_pipeline.toolchain.export import copy_tree, source_folder
from llamacpp_pipeline.toolchain.programs import Answer, ask, needed
from llamacpp_pipeline.toolchain.series import (
    GIT_HINT,
    SERIES,
    Series,
    apply_series,
    git_environment,
)
from llamacpp_pipeline.toolchain.source import Source

BASE = "upstream"  # the tag of the unpatched commit
NOBODY = {
    f"GIT_{role}_{field}": value
    for role in ("AUTHOR", "COMMITTER")
    for field, value in (
        ("NAME", "llamacpp-pipeline"),
        ("EMAIL", "llamacpp-pipeline@localhost"),
        ("DATE", "2000-01-01T00:00:00Z"),
    )
}
STABLE = (
    *("--no-signature", "--zero-commit", "--no-numbered", "--no-stat", "--full-index"),
    *("--no-renames", "--no-attach", "--no-cover-letter", "--unified=3"),
)
EVIDENCE_LINES = 12


def check(series: Series, source: Source, *, runner: Runner) -> tuple[str, ...]:
    """The patches, all of which apply in order to a scratch copy of the source.

    Raises:
        ToolchainError: one does not.

    """
    with tempfile.TemporaryDirectory(prefix="llamacpp-pipeline-") as scratch:
        tree = Path(scratch) / "tree"
        copy_tree(source_folder(source), source.manifest.files, tree)
        return apply_series(series, tree, runner=runner)


def open_bench(series: Series, source: Source, to: Path, *, runner: Runner) -> None:
    """Make `to`: the source as commit and tag `upstream`, then one commit a patch.

    Raises:
        UsageError: `to` holds something already.
        ToolchainError: a patch does not apply.

    """
    if to.exists() and any(to.iterdir()):
        raise UsageError(f"{to} is not empty", hint="name a folder that does not exist yet")
    check(series, source, runner=runner)
    copy_tree(source_folder(source), source.manifest.files, to)
    for arguments in (
        ("init", "--quiet", "--initial-branch=patched"),
        ("add", "--all", "--force"),
        ("commit", "--quiet", "--message", f"llama.cpp {source.commit}"),
        ("tag", BASE),
        *(("am", "--quiet", "--keep-cr", str(path.resolve())) for path in series.paths),
    ):
        _git(to, *arguments, runner=runner, environment=NOBODY)


def refresh(folder: Path, bench: Path, *, runner: Runner) -> tuple[str, ...]:
    """Write the series anew from the commits of a bench; the names of its patches.

    Raises:
        UsageError: `bench` is not a bench, or has changes that no commit holds.

    """
    _require_bench(bench, runner=runner)
    with tempfile.TemporaryDirectory(prefix="llamacpp-pipeline-") as scratch:
        arguments = ("format-patch", *STABLE, "--output-directory", scratch, f"{BASE}..HEAD")
        _git(bench, *arguments, runner=runner)
        made = sorted(Path(scratch).glob("*.patch"))
        for old in folder.glob("*.patch"):
            old.unlink()
        for patch in made:
            shutil.copyfile(patch, folder / patch.name)
    names = tuple(patch.name for patch in made)
    (folder / SERIES).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return names


def _require_bench(bench: Path, *, runner: Runner) -> None:
    if not (bench / ".git").is_dir() or _ask(bench, "rev-parse", "--verify", "--quiet", BASE,
                                             runner=runner).exit_code != 0:  # fmt: skip
        raise UsageError(
            f"{bench} is not a folder made by `patches apply`",
            hint="llamacpp-pipeline patches apply --to DIR makes one",
        )
    changed = _git(bench, "status", "--porcelain", runner=runner).lines
    if changed:
        raise UsageError(
            f"{bench} has changes that no commit holds",
            evidence=changed[:EVIDENCE_LINES],
            hint=f"git -C {bench} commit --all (or --amend, or rebase --interactive {BASE})",
        )


def _git(
    bench: Path, *arguments: str, runner: Runner, environment: Mapping[str, str] | None = None
) -> Answer:
    answer = _ask(bench, *arguments, runner=runner, environment=environment)
    if answer.exit_code != 0:
        raise ToolchainError(f"git {arguments[0]} failed", evidence=answer.lines[-EVIDENCE_LINES:])
    return answer


def _ask(
    bench: Path, *arguments: str, runner: Runner, environment: Mapping[str, str] | None = None
) -> Answer:
    git = needed("git", hint=GIT_HINT)
    chosen = ("core.autocrlf=false", "core.fileMode=true", "core.compression=0", "gc.auto=0")
    settings = tuple(part for setting in chosen for part in ("-c", setting))
    return ask(
        runner,
        (str(git), *settings, *arguments),
        cwd=bench,
        environment={**git_environment(bench), **(environment or {})},
    )
