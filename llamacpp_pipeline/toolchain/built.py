"""A finished build: its record, written last, and whether the binaries are still those."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from llamacpp_pipeline.toolchain.flags import TARGETS
from llamacpp_pipeline.toolchain.places import write_whole
from llamacpp_pipeline.toolchain.tree import file_sha256

BUILD_RECORD = "build.json"
BUILD_SCHEMA = 1


class BuiltFile(BaseModel):
    """One binary."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size_bytes: int
    sha256: str


class BuildRecord(BaseModel):
    """What a build is made of: everything its BuildId is the digest of, and the result."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = BUILD_SCHEMA
    build_id: str
    tree: str
    definitions: dict[str, str]
    compilers: dict[str, str]
    note: str | None
    files: dict[str, BuiltFile]


def read_build(folder: Path, *, memos: Path) -> BuildRecord | None:
    """The record of a finished build whose binaries are as they were made; else None."""
    with contextlib.suppress(OSError, ValidationError):
        record = BuildRecord.model_validate_json((folder / BUILD_RECORD).read_bytes())
        whole = set(record.files) == set(TARGETS) and record.build_id == folder.name
        if whole and _unchanged(folder / "bin", record, memos):
            return record
    return None


def _unchanged(binaries: Path, record: BuildRecord, memos: Path) -> bool:
    """Sizes always; digests again where a size, time or inode is not the remembered one."""
    statuses = {name: (binaries / name).stat() for name in record.files}
    if any(statuses[name].st_size != file.size_bytes for name, file in record.files.items()):
        return False
    stamp = json.dumps({n: (s.st_mtime_ns, s.st_ino) for n, s in sorted(statuses.items())})
    memo = memos / f"build-{record.build_id}"
    with contextlib.suppress(OSError):
        if memo.read_text(encoding="utf-8") == stamp:
            return True
    if any(file_sha256(binaries / name) != file.sha256 for name, file in record.files.items()):
        return False
    write_whole(memo, stamp)
    return True
