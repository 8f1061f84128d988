"""What the Hub's client raised while publishing, as a message with a remedy and no token."""

from __future__ import annotations

from llamacpp_pipeline.errors import PublishError
from llamacpp_pipeline.report.push_plan import Target
from llamacpp_pipeline.results.redact import Redactor

AGAIN = "run the same command again: what has arrived need not travel again"
BAD_CARD = "Invalid metadata in README.md"  # the client's words where the Hub refuses the card
FULL = ("quota", "storage limit", "storage patterns")


def refusal(error: BaseException, target: Target, redactor: Redactor) -> PublishError:
    """The failure for the person."""
    cause = _deepest(error)
    said = redactor.secretless(_said(cause))
    if BAD_CARD in said:
        return PublishError(
            "the Hub does not accept the card's metadata",
            evidence=(said,),
            hint="correct `card` in the config (license? base_model?) and run it again",
        )
    message, hint = _explained(http_status(cause), target, said)
    return PublishError(message, evidence=(said,), hint=hint)


def _explained(status: int | None, target: Target, said: str) -> tuple[str, str]:
    if status in (402, 413, 507) or any(word in said.lower() for word in FULL):
        message = f"the Hub has no room left for {target.repo}"
        return message, f"make room there or raise its storage limit, then {AGAIN}"
    owner = target.repo.partition("/")[0]
    writer = f"use a token with write access to {owner}; an organisation's administrator grants it"
    known = {
        401: ("the Hub does not accept the token", "set HF_TOKEN to a valid token"),
        403: (f"the token may not write to {target.repo}", writer),
        404: (f"the Hub does not know {target.repo}", "check its spelling and the token's rights"),
        412: (f"{target.repo} changed meanwhile", "look at it with a dry run, then push again"),
        429: ("the Hub wants fewer requests", f"wait a while, then {AGAIN}"),
    }
    if status in known:
        return known[status]
    if status is not None:
        return f"the Hub refused to publish {target.repo}", f"mend what it says, then {AGAIN}"
    message = f"publishing {target.repo} did not get through"
    return message, f"check the network and HF_ENDPOINT, then {AGAIN}"


def _deepest(error: BaseException) -> BaseException:
    """The first cause: an upload in a thread wraps what the Hub said."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def http_status(error: BaseException) -> int | None:
    """The status with which the Hub answered, where it did."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _said(error: BaseException) -> str:
    """The server's own words, or the client's, on one line."""
    server = getattr(error, "server_message", None)
    lines = [line.strip() for line in (server or str(error)).splitlines() if line.strip()]
    text = "; ".join(lines[:3]) or type(error).__name__
    status = http_status(error)
    return text if status is None or server is None else f"{status}: {text}"
