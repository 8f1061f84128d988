"""A GGUF too large for one file on the Hub, split into parts that llama.cpp loads as one."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from llamacpp_pipeline.errors import PublishError, UnreadableOutputError
from llamacpp_pipeline.process.command import Command, Runner
from llamacpp_pipeline.process.runner import logged_output
from llamacpp_pipeline.report.release import Digest, LocalFile, Release
from llamacpp_pipeline.stages.gguf_facts import GgufFacts, read_gguf
from llamacpp_pipeline.stages.llama_log import complaints
from llamacpp_pipeline.units import size_text

TOOL = "llama-gguf-split"
FOLDER = ".parts"  # in the result folder: hidden, so never published as it is
MEGABYTE = 10**6  # the tool's M
DONE = re.compile(r"gguf_split: (?P<n>\d+) gguf split written with a total of (?P<tensors>\d+)")

Locate = Callable[[], Path]


@dataclass(frozen=True, kw_only=True)
class Splitter:
    """How files are split: by what, where the limit is, and how their digests are known."""

    binary: Locate  # asked only where a file must be split: it may have to be built
    runner: Runner
    limit_bytes: int
    digest: Digest

    def too_large(self, release: Release) -> tuple[LocalFile, ...]:
        """The files that the Hub does not take in one."""
        return tuple(file for file in release.files if file.size_bytes > self.limit_bytes)

    def split(self, release: Release) -> Release:
        """The release with its too large files in parts.

        Raises:
            PublishError: where a file cannot be split so far, or there is no room for its parts.
            UnreadableOutputError: where the tool gives no proof of it.

        """
        parts = {file.name: self.parts(file, release) for file in self.too_large(release)}
        files = (part for file in release.files for part in parts.get(file.name, (file,)))
        return replace(release, files=tuple(files))

    def parts(self, file: LocalFile, release: Release) -> tuple[LocalFile, ...]:
        """The parts of one file: those of an earlier push, or made now."""
        stem = Path(file.name).stem
        folder = release.folder / FOLDER / f"{file.sha256}-{self.limit_bytes}"
        if not folder.is_dir():
            self.make(file, folder, stem)
        return tuple(
            LocalFile(
                name=path.name,
                path=path,
                size_bytes=path.stat().st_size,
                sha256=self.digest(path),
            )
            for path in sorted(folder.glob(f"{stem}-*-of-*.gguf"))
        )

    def make(self, file: LocalFile, folder: Path, stem: str) -> None:
        """Split into a folder that gets its name when everything in it is proven."""
        facts = self.splittable(file)
        refuse_no_room(file, folder.parent.parent)
        staged = folder.with_name(f"{folder.name}.unfinished")
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
        log = staged / "split.log"
        header = min(tensor.offset for tensor in facts.tensors)
        most = max(1, (self.limit_bytes - header) // MEGABYTE)
        argv = (str(self.binary()), "--split", "--split-max-size", f"{most}M")
        command = Command(argv=(*argv, str(file.path), stem), cwd=staged, log=log)
        outcome = self.runner.run(command)
        refuse_unproven(logged_output(log), outcome.exit_code, staged, facts)
        for part in staged.glob("*.gguf"):
            if part.stat().st_size > self.limit_bytes:
                raise too_coarse(file, self.limit_bytes)
        log.unlink()
        staged.rename(folder)

    def splittable(self, file: LocalFile) -> GgufFacts:
        """What the file holds.

        Raises:
            PublishError: where it is no GGUF, or one of its tensors is above the limit.

        """
        if not file.name.endswith(".gguf"):
            raise PublishError(
                f"{file.name} is above the limit of {size_text(self.limit_bytes)} for one file,"
                " and only GGUF files can be split",
                hint="leave it out of the result folder",
            )
        facts = read_gguf(file.path)
        if max(tensor.n_bytes for tensor in facts.tensors) > self.limit_bytes:
            raise too_coarse(file, self.limit_bytes)
        return facts


def too_coarse(file: LocalFile, limit_bytes: int) -> PublishError:
    """The refusal of a file whose tensors do not fit the limit."""
    return PublishError(
        f"{file.name} cannot be split into parts below {size_text(limit_bytes)}",
        evidence=("a tensor cannot be divided, and the first part holds the metadata too",),
        hint="push with a higher `--limit`",
    )


def refuse_no_room(file: LocalFile, folder: Path) -> None:
    """The parts take as much room as the file.

    Raises:
        PublishError: where there is not so much.

    """
    free = shutil.disk_usage(folder if folder.is_dir() else folder.parent).free
    if free < file.size_bytes:
        raise PublishError(
            f"splitting {file.name} needs {size_text(file.size_bytes)} of disk and"
            f" {size_text(free)} are free",
            hint="make room where the result folder is",
        )


def refuse_unproven(log: str, exit_code: int, folder: Path, facts: GgufFacts) -> None:
    """Every tensor must be in the parts.

    Raises:
        UnreadableOutputError: where the tool did not say so, or they are not.

    """
    found, parts = DONE.search(log), sorted(folder.glob("*.gguf"))
    tensors = [tensor for part in parts for tensor in read_gguf(part).tensors]
    whole = sum(tensor.n_bytes for tensor in tensors) == facts.tensor_bytes
    said = found is not None and int(found["n"]) == len(parts)
    if exit_code != 0 or not said or not whole or len(tensors) != len(facts.tensors):
        raise UnreadableOutputError(
            TOOL, f"all {len(facts.tensors)} tensors in its parts", complaints(log)
        )
