"""Results out of the store into the result folder: shared where possible, else copied."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from llamacpp_pipeline.engine.digests import Digests

if sys.platform == "linux":
    import fcntl

How = Literal["kept", "reflink", "hard link", "copy"]
FICLONE = 0x40049409  # ioctl: share the blocks of another file until one of the two changes
WRITABLE = stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IROTH
NOT_HERE = frozenset(
    {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP,
     errno.EINVAL, errno.ENOTTY, errno.ENOSYS}
)  # fmt: skip


def place(source: Path, target: Path, *, sha256: str, digests: Digests) -> How:
    """Make `target` hold what `source` (of that digest) holds; says how.

    A reflink and a copy may be edited; a hard link is the store's own file and read-only.
    `target` is replaced at once, or not at all.
    """
    if _holds(target, source, sha256=sha256, digests=digests):
        return "kept"
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    try:
        how = _shared(source, staged)
        staged.replace(target)
    finally:
        staged.unlink(missing_ok=True)
    return how


def _holds(target: Path, source: Path, *, sha256: str, digests: Digests) -> bool:
    try:
        found, wanted = target.lstat(), source.stat()
    except FileNotFoundError:
        return False
    if os.path.samestat(found, wanted):
        return True
    same_size = stat.S_ISREG(found.st_mode) and found.st_size == wanted.st_size
    return same_size and digests.of(target) == sha256


def _shared(source: Path, staged: Path) -> How:
    if _works(_reflink, source, staged):
        return "reflink"
    if _works(_hard_link, source, staged):
        return "hard link"
    shutil.copyfile(source, staged)
    staged.chmod(WRITABLE)
    return "copy"


def _works(share: Callable[[Path, Path], None], source: Path, staged: Path) -> bool:
    try:
        share(source, staged)
    except OSError as error:
        staged.unlink(missing_ok=True)
        if error.errno not in NOT_HERE:
            raise
        return False
    return True


def _hard_link(source: Path, staged: Path) -> None:
    staged.hardlink_to(source)


def _reflink(source: Path, staged: Path) -> None:
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, "no reflinks here")
    with source.open("rb") as original, staged.open("xb") as clone:
        fcntl.ioctl(clone.fileno(), FICLONE, original.fileno())
    staged.chmod(WRITABLE)
