"""Every failure a user can meet, with its exit code, evidence and the next command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar


class PipelineError(Exception):
    """An expected failure: shown as a message, never as a traceback.

    Args:
        message: One sentence that starts with the thing that failed.
        evidence: The tool's own lines (or the offending values) that prove it.
        log: The full log, where there is one.
        hint: What to do next: a command or a change, in the imperative.

    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        message: str,
        *,
        evidence: Sequence[str] = (),
        log: Path | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.evidence = tuple(evidence)
        self.log = log
        self.hint = hint

    def report(self) -> str:
        """Everything a person needs, over several lines."""
        lines = [self.message, *(f"    {line}" for line in self.evidence)]
        if self.log is not None:
            lines.append(f"  log: {self.log}")
        if self.hint is not None:
            lines.append(f"  fix: {self.hint}")
        return "\n".join(lines)


class StepFailedError(PipelineError):
    """A step ran and failed."""

    exit_code = 1


class InputError(PipelineError):
    """Something given to a step cannot be used (a model folder, a text, an imatrix)."""

    exit_code = 1


class UsageError(PipelineError):
    """The command line asks for something that cannot be."""

    exit_code = 2


class ConfigError(PipelineError):
    """The YAML is wrong; the evidence lists every problem as file:line:column."""

    exit_code = 2


class ToolchainError(PipelineError):
    """llama.cpp's source, patches, build or converter are not usable."""

    exit_code = 3


class UnreadableOutputError(PipelineError):
    """A tool ended without the line or file that proves its result."""

    exit_code = 4

    def __init__(
        self,
        tool: str,
        expected: str,
        evidence: Sequence[str] = (),
        *,
        log: Path | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(f"{tool} ended without {expected}", evidence=evidence, log=log, hint=hint)
        self.tool = tool
        self.expected = expected


class MixedConditionsError(PipelineError):
    """Numbers measured under different conditions would have stood in one table."""

    exit_code = 1


class PublishError(PipelineError):
    """The Hub refused, or what would be published is incomplete."""

    exit_code = 5


class InterruptedRunError(PipelineError):
    """Ctrl-C or SIGTERM: finished steps are kept."""

    exit_code = 130
