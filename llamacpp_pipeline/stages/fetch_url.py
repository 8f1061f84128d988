"""One file of the web, known by its address and its digest."""

from __future__ import annotations

import sys
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import click
from pydantic import PositiveInt, ValidationError

from llamacpp_pipeline.errors import InputError, UnreadableOutputError
from llamacpp_pipeline.stages import own_tool
from llamacpp_pipeline.stages.base import Argv, Frozen, Paths, ToolStage
from llamacpp_pipeline.stages.fetched_files import refuse_other_content, sha256_of
from llamacpp_pipeline.stages.llama_log import complaints

TOOL = "llamacpp_pipeline.stages.fetch_url"
SECONDS_TO_ANSWER = 60.0
BLOCK = 2**20
AGENT = "llamacpp-pipeline"
ENVIRONMENT = frozenset(
    {
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
        *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR"),
    }
)


class FetchUrlParams(Frozen):
    """Where the file is. Without a digest the first that is fetched into a store stays in it."""

    url: str
    sha256: str | None = None


class FetchUrlResult(Frozen):
    url: str
    size_bytes: PositiveInt
    sha256: str


def fetch(params: FetchUrlParams, target: Path) -> FetchUrlResult:
    """Bring the file, whole and checked.

    Raises:
        InputError: where it cannot be had, is cut short, or is not what it must be.

    """
    request = Request(params.url, headers={"User-Agent": AGENT})  # noqa: S310  the schema says http(s)
    try:
        with (
            urlopen(request, timeout=SECONDS_TO_ANSWER) as answer,  # noqa: S310
            target.open("wb") as stream,
        ):
            while block := answer.read(BLOCK):
                stream.write(block)
            wanted = answer.headers["Content-Length"]
    except (URLError, HTTPException, TimeoutError, ConnectionError) as error:
        raise not_to_be_had(params.url, error) from error
    size = target.stat().st_size
    if not size or (wanted is not None and size != int(wanted)):
        raise InputError(
            f"{params.url} did not come whole",
            evidence=(f"{size} bytes came, of {wanted or 'an unknown number'}",),
            hint="run the same command again",
        )
    found = sha256_of(target)
    refuse_other_content(target, found, params.sha256)
    return FetchUrlResult(url=params.url, size_bytes=size, sha256=found)


def not_to_be_had(url: str, error: Exception) -> InputError:
    """The error for an address that gives no file."""
    if isinstance(error, HTTPError):
        error.close()
        return InputError(
            f"{url} is not to be had",
            evidence=(f"HTTP {error.code} {error.reason}",),
            hint="correct the `url`, or download the file yourself and name it with `path`",
        )
    return InputError(
        f"{url} cannot be reached",
        evidence=(f"{type(error).__name__}: {error}",),
        hint="check the network and the proxy variables, or name a local copy with `path`",
    )


def argv(params: FetchUrlParams, paths: Paths) -> Argv:
    return (TOOL, "--output", str(paths["file"]), "--params", params.model_dump_json())


def parse(log: str, paths: Paths) -> FetchUrlResult:
    try:
        result = FetchUrlResult.model_validate_json(own_tool.last_object(log) or "")
    except ValidationError as error:
        raise UnreadableOutputError(TOOL, "its word on the file", complaints(log)) from error
    if paths["file"].stat().st_size != result.size_bytes:
        raise UnreadableOutputError(TOOL, "the file it names", complaints(log))
    return result


@click.command()
@click.option("--output", type=click.Path(path_type=Path), required=True)
@click.option("--params", required=True)
def main(output: Path, params: str) -> None:
    """Fetch one file of the web."""
    asked = FetchUrlParams.model_validate_json(params)
    sys.exit(own_tool.run(lambda: fetch(asked, output).model_dump_json()))


STAGE = ToolStage(
    name="fetch-url",
    version=1,  # bump when argv or parse changes meaning
    tool=TOOL,
    made_by="pipeline",
    inputs=frozenset(),
    outputs={"file": "file"},
    params=FetchUrlParams,
    result=FetchUrlResult,
    lane="host",
    argv=argv,
    parse=parse,
    explain=own_tool.explain,
    environment=ENVIRONMENT,
)

if __name__ == "__main__":
    main()
