"""A push for people and for programs: every file, its size, and what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llamacpp_pipeline.report.push_plan import PushPlan
from llamacpp_pipeline.report.release import Release
from llamacpp_pipeline.report.terminal import aligned
from llamacpp_pipeline.units import size_text

SHORT = 12
MEANING = {
    "new": "new",
    "changed": "changed",
    "same": "there already",
    "stays": "there, not in the folder: stays",
    "goes": "there, not in the folder: is deleted",
}


def plan_text(plan: PushPlan, release: Release, to_split: Sequence[str]) -> str:
    """The table and what it comes to; ends with a newline."""
    rows = [("file", "size", "sha256", "on the Hub")]
    rows += [
        (c.name, size_text(c.size_bytes), (c.sha256 or "")[:SHORT], MEANING[c.what])
        for c in plan.changes
    ]
    table = aligned(rows, text_columns=(0, 2, 3))
    return "\n".join((table, "", *_totals(plan, release, to_split), ""))


def _totals(plan: PushPlan, release: Release, to_split: Sequence[str]) -> list[str]:
    target = plan.target
    where = f"{target.repo}, branch {target.branch}"
    if plan.exists:
        at = "which is to be made" if plan.commit is None else f"now at {plan.commit[:SHORT]}"
        lines = [f"{where}, {at}"]
    else:
        kind = "private" if target.private else "public"
        lines = [f"{where}: not there yet (or not shown to you); it will be made, {kind}"]
    if target.gated is not None:
        lines.append(f"its files will be gated: {target.gated}")
    lines += [f"{name} is above the limit for one file: it is split first" for name in to_split]
    if release.left_out:
        lines.append(f"not published: {', '.join(release.left_out)}")
    most = size_text(plan.upload_bytes)
    what = "nothing to upload" if plan.is_idle else f"to upload: {most} at most"
    return [*lines, f"{what}; the tag is of BuildId {release.build_id[:SHORT]}"]


def plan_document(plan: PushPlan, release: Release, to_split: Sequence[str]) -> dict[str, Any]:
    """The same as JSON: sizes in bytes."""
    return {
        "repo": plan.target.repo,
        "branch": plan.target.branch,
        "private": plan.target.private,
        "gated": plan.target.gated,
        "exists": plan.exists,
        "commit": plan.commit,
        "build_id": release.build_id,
        "upload_bytes": plan.upload_bytes,
        "to_split": list(to_split),
        "not_published": list(release.left_out),
        "files": [
            {
                "name": change.name,
                "what": change.what,
                "size_bytes": change.size_bytes,
                "sha256": change.sha256,
            }
            for change in plan.changes
        ],
    }
