"""The file of reference logits that llama-perplexity writes and compares with."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from llamacpp_pipeline.errors import InputError
from llamacpp_pipeline.units import size_text

MAGIC = b"_logits_"
HEADER = struct.Struct("<8siii")


@dataclass(frozen=True, kw_only=True)
class LogitsFile:
    """The header of a file of reference logits, and its size."""

    n_ctx: int
    n_vocab: int
    n_chunks: int
    size_bytes: int

    @property
    def expected_bytes(self) -> int:
        """The size that the header promises."""
        return predicted_logits_bytes(
            n_vocab=self.n_vocab, n_ctx=self.n_ctx, n_chunks=self.n_chunks
        )


def predicted_logits_bytes(*, n_vocab: int, n_ctx: int, n_chunks: int) -> int:
    """The exact size of the file: a header, the tokens, and a row of 16-bit values per position.

    Half the positions of each chunk are scored; each row holds a scale, a floor and one value per
    token of the vocabulary, padded to an even number.
    """
    row = 2 * ((n_vocab + 1) // 2) + 4
    rows = n_chunks * (n_ctx - 1 - n_ctx // 2)
    return HEADER.size + 4 * n_ctx * n_chunks + 2 * row * rows


def read_logits_file(path: Path) -> LogitsFile:
    """The header, checked against the file's size.

    Raises:
        InputError: where the file is absent, of another kind, or incomplete.

    """
    try:
        with path.open("rb") as stream:
            head = stream.read(HEADER.size)
        size_bytes = path.stat().st_size
    except OSError as error:
        raise InputError(f"{path.name} cannot be read: {error.strerror}") from error
    if head[: len(MAGIC)] != MAGIC:
        raise InputError(f"{path.name} is not a file of reference logits")
    if len(head) < HEADER.size:
        raise InputError(f"{path.name} ends within its header, after {size_bytes} bytes")
    _, n_ctx, n_vocab, n_chunks = HEADER.unpack(head)
    found = LogitsFile(n_ctx=n_ctx, n_vocab=n_vocab, n_chunks=n_chunks, size_bytes=size_bytes)
    if size_bytes != found.expected_bytes:
        raise InputError(
            f"{path.name} is incomplete: it has {size_text(size_bytes)} of"
            f" {size_text(found.expected_bytes)}",
            evidence=(f"{size_bytes} bytes; {found.expected_bytes} follow from its header",),
            hint="the disk may have been full when it was written; make it again",
        )
    return found
