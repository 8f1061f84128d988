"""llama.cpp's source, unpatched: the submodule, the cache, GitHub, PyPI or a user's own checkout.

Whatever the route, the tree is compared file by file with the one recorded in this package.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from llamacpp_pipeline.errors import ConfigError, ToolchainError
from llamacpp_pipeline.process.command import Runner
from llamacpp_pipeline.toolchain import upstream
from llamacpp_pipeline.toolchain.download import Route, from_git, from_sdist
from llamacpp_pipeline.toolchain.locks import locked
from llamacpp_pipeline.toolchain.places import Places
from llamacpp_pipeline.toolchain.talk import Talk
from llamacpp_pipeline.toolchain.tree import Manifest, known_manifest, require_same

Origin = Literal["submodule", "cache", "path"]
SUBMODULE_HINT = (
    "git submodule update --init --force vendor/llama.cpp && git -C vendor/llama.cpp clean -xdff"
)


class Choice(Protocol):
    """What a config's `toolchain:` says (config/schema.py ToolchainConfig has this shape)."""

    @property
    def source(self) -> Literal["auto", "submodule", "git", "sdist", "path"]: ...
    @property
    def path(self) -> str | None: ...
    @property
    def backend(self) -> Literal["cpu", "cuda", "metal", "vulkan", "hip"]: ...
    @property
    def flags(self) -> tuple[str, ...]: ...
    @property
    def jobs(self) -> int | None: ...


@dataclass(frozen=True, kw_only=True)
class Source:
    """An unpatched tree. `folder` is None where the tree is known but not fetched yet."""

    folder: Path | None
    manifest: Manifest
    origin: Origin
    commit: str  # upstream's, or "local" for a user's own checkout
    build_number: int
    note: str | None = None  # stands in every result made with it

    @property
    def digest(self) -> str:
        """What the tree is known by."""
        return self.manifest.digest


def identify(choice: Choice, places: Places) -> Source:
    """Which tree is meant, without fetching anything.

    Raises:
        ToolchainError: a tree is there and differs, or is not there and cannot be fetched.

    """
    if choice.source == "path":
        return _own_checkout(choice, places)
    populated = _populated(places.submodule)
    if choice.source == "submodule" and not populated:
        raise ToolchainError(
            "vendor/llama.cpp is empty",
            hint="git submodule update --init vendor/llama.cpp, or `toolchain.source: auto`",
        )
    if populated and choice.source in {"auto", "submodule"}:
        return _submodule(places)
    return _pinned(None, "cache")


def fetch(source: Source, choice: Choice, places: Places, *, runner: Runner, talk: Talk) -> Source:
    """The same source with its folder: from the cache, or fetched into it.

    Raises:
        ToolchainError: no route led to it, or what is there differs.

    """
    if source.folder is not None:
        return source
    tree = places.sources / upstream.COMMIT / "tree"
    lock = places.sources / f"{upstream.COMMIT}.lock"
    if not tree.is_dir():
        with locked(lock, talk=talk, waiting="another process is fetching llama.cpp: waiting"):
            if not tree.is_dir():
                _fetch_by(_routes(choice), tree, runner=runner, talk=talk)
    require_same(
        upstream.pinned(),
        known_manifest(tree, memos=places.memos),
        what="the source in the cache",
        hint=f"rm -r {tree.parent}: it is fetched again when needed",
    )
    return _pinned(tree, "cache")


def is_cached(places: Places) -> bool:
    """Whether a build could start without the network."""
    return _populated(places.submodule) or (places.sources / upstream.COMMIT / "tree").is_dir()


def _routes(choice: Choice) -> tuple[tuple[str, Route], ...]:
    git = ("GitHub", from_git)
    sdist = ("PyPI", from_sdist)
    if choice.source == "git":
        return (git,)
    return (sdist,) if choice.source == "sdist" else (git, sdist)


def _fetch_by(
    routes: tuple[tuple[str, Callable[..., None]], ...], tree: Path, *, runner: Runner, talk: Talk
) -> None:
    evidence: list[str] = []
    for name, route in routes:
        talk.say(f"fetching llama.cpp {upstream.SHORT_COMMIT} from {name}")
        try:
            route(tree, runner=runner)
        except ToolchainError as error:
            talk.say(error.message)
            evidence += (error.message, *(f"  {line}" for line in error.evidence))
        else:
            return
    raise ToolchainError(
        "llama.cpp's source could not be fetched",
        evidence=evidence,
        hint="connect to the network once (a proxy goes in https_proxy), or name a checkout of "
        "your own with `toolchain: {source: path, path: ...}`",
    )


def _submodule(places: Places) -> Source:
    require_same(
        upstream.pinned(),
        known_manifest(places.submodule, memos=places.memos),
        what="vendor/llama.cpp",
        hint=SUBMODULE_HINT + " (changes of your own belong in patches/)",
    )
    return _pinned(places.submodule, "submodule")


def _pinned(folder: Path | None, origin: Origin) -> Source:
    return Source(
        folder=folder,
        manifest=upstream.pinned(),
        origin=origin,
        commit=upstream.SHORT_COMMIT,
        build_number=upstream.BUILD_NUMBER,
    )


def _own_checkout(choice: Choice, places: Places) -> Source:
    if choice.path is None:
        raise ConfigError("`toolchain.source: path` needs `toolchain.path`")
    folder = Path(choice.path).expanduser()
    if not (folder / "CMakeLists.txt").is_file():
        raise ToolchainError(
            "`toolchain.path` is not a checkout of llama.cpp",
            evidence=(f"{folder} has no CMakeLists.txt",),
            hint="name the folder that holds llama.cpp's CMakeLists.txt",
        )
    manifest = known_manifest(folder, memos=places.memos, skip_builds=True)
    same = manifest.digest == upstream.pinned().digest
    like = f"equal to {upstream.SHORT_COMMIT}" if same else f"tree {manifest.digest[:12]}"
    return Source(
        folder=folder,
        manifest=manifest,
        origin="path",
        commit=upstream.SHORT_COMMIT if same else "local",
        build_number=upstream.BUILD_NUMBER if same else 0,
        note=f"llama.cpp was built from a checkout of the user's own ({like})",
    )


def _populated(folder: Path) -> bool:
    return (folder / "CMakeLists.txt").is_file()
