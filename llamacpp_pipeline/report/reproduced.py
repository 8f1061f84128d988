"""A reproduction for people and for programs: each file, and why it is not the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from llamacpp_pipeline.report.terminal import aligned
from llamacpp_pipeline.results.reproduction import FileVerdict

SHORT = 12


def verdict_text(found: Sequence[FileVerdict]) -> str:
    """The table, the reasons, and what it comes to; ends with a newline."""
    rows = [("file", "result", "sha256 then", "sha256 now")]
    rows += [
        (file.name, file.verdict, file.expected[:SHORT], (file.found or "")[:SHORT])
        for file in found
    ]
    lines = [aligned(rows, text_columns=(0, 1, 2, 3)), ""]
    for file in found:
        if not file.is_good:
            lines += [f"{file.name} {file.verdict}:", *(f"    {why}" for why in file.reasons)]
    same = sum(file.verdict == "identical" for file in found)
    lines.append(f"{same} of {len(found)} files are the same, byte by byte")
    return "\n".join(lines) + "\n"


def verdict_document(found: Sequence[FileVerdict]) -> dict[str, Any]:
    """The same as JSON."""
    return {
        "identical": all(file.verdict == "identical" for file in found),
        "good": all(file.is_good for file in found),
        "files": [asdict(file) for file in found],
    }
