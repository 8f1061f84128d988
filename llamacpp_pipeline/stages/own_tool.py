"""How this package's own tools (run as `python -m`) report a result or a failure."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

from llamacpp_pipeline.errors import InputError, PipelineError

MESSAGE = re.compile(r"^error: (?P<text>.*)$", re.MULTILINE)
EVIDENCE = re.compile(r"^ {2}evidence: (?P<text>.*)$", re.MULTILINE)
FIX = re.compile(r"^fix: (?P<text>.*)$", re.MULTILINE)


def run(work: Callable[[], str]) -> int:
    """Do the work: what it returns is the last line on stdout; a failure goes to stderr.

    Returns the exit code.
    """
    try:
        result = work()
    except PipelineError as error:
        sys.stderr.write(failure_text(error))
        return error.exit_code
    sys.stderr.flush()
    sys.stdout.write(result + "\n")
    return 0


def failure_text(error: PipelineError) -> str:
    """The failure in lines that `explain` reads back."""
    lines = [f"error: {error.message}", *(f"  evidence: {line}" for line in error.evidence)]
    if error.hint is not None:
        lines.append(f"fix: {error.hint}")
    return "\n".join(lines) + "\n"


def explain(log: str) -> PipelineError | None:
    """The failure that the tool reported, as it was raised there."""
    message, fix = MESSAGE.search(log), FIX.search(log)
    if message is None:
        return None
    evidence = [match["text"] for match in EVIDENCE.finditer(log)]
    hint = None if fix is None else fix["text"]
    return InputError(message["text"], evidence=evidence, hint=hint)


def note(text: str) -> None:
    """Talk: one line on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def last_object(log: str) -> str | None:
    """The last line that is a JSON object."""
    lines = (line.strip() for line in reversed(log.splitlines()))
    return next((line for line in lines if line.startswith("{") and line.endswith("}")), None)
