"""What a configuration names, turned into content with a digest, before anything is planned."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from llamacpp_pipeline.config.corpus import CorpusConfig
from llamacpp_pipeline.config.hub_file import HubFile
from llamacpp_pipeline.config.load import LoadedConfig
from llamacpp_pipeline.demo import MODEL_DIR
from llamacpp_pipeline.demo import text as demo
from llamacpp_pipeline.engine.datasets import resolved_datasets
from llamacpp_pipeline.engine.digests import Digests, sha256_of, write_atomically
from llamacpp_pipeline.engine.leaves import leaf_from_file, leaf_from_folder
from llamacpp_pipeline.plan.sources import HubCommit, ModelHints, Source, Sources
from llamacpp_pipeline.plan.step import Leaf
from llamacpp_pipeline.stages.hub import Repo, resolve_commit
from llamacpp_pipeline.stages.hub_hints import hub_hints

TRUE = frozenset({"1", "on", "yes", "true"})


@dataclass(frozen=True, kw_only=True)
class Resolver:
    """Looks at the world for one configuration.

    `texts` is a folder for the demo texts, which are made from the Python that runs this.
    """

    loaded: LoadedConfig
    digests: Digests
    texts: Path
    offline: bool

    def sources(self) -> Sources:
        """Everything the configuration names.

        Raises:
            InputError: where a file or folder cannot be used, or the Hub cannot be asked.

        """
        config = self.loaded.config
        calibration = config.calibration
        return Sources(
            model=self.model(),
            evaluation=self.corpus("evaluation.corpus", config.evaluation.corpus),
            calibration=()
            if calibration is None
            else tuple(self.corpus(path, text) for path, text in calibration.each),
            imatrix=self.imatrix(),
            sensitivity=None
            if config.sensitivity is None
            else self.corpus("sensitivity.corpus", config.sensitivity.corpus),
            selection=None
            if config.selection_text is None
            else self.corpus("selection.corpus", config.selection_text),
            references=tuple(
                self.file(f"references.{at}.path") if given.hub is None else self.hub(given.hub)
                for at, given in enumerate(config.references)
            ),
            datasets=resolved_datasets(self),
        )

    def model(self) -> Source:
        """The model: a folder at hand, or a repository at a commit."""
        model = self.loaded.config.model
        if model.repo is not None:
            commit = resolve_commit(model.repo, "model", model.revision, self.offline)
            return HubCommit(commit=commit)
        folder = self.loaded.file("model.path") or MODEL_DIR
        return leaf_from_folder(folder, model.label, digests=self.digests)

    def told(self, model: HubCommit) -> ModelHints:
        """What the Hub says of the model before it is fetched."""
        name = self.loaded.config.model.repo or ""
        repo = Repo(name=name, kind="model", commit=model.commit)
        told = hub_hints(repo, self.texts.parent / "hints" / model.commit)
        return ModelHints(
            vocab_size=told.vocab_size,
            n_parameters=told.n_parameters,
            tensor_bytes=told.tensor_bytes,
        )

    def corpus(self, path: str, corpus: CorpusConfig) -> Source:
        """A text: a file at hand, a file on the Hub, or a part of the demo text."""
        if corpus.on_hub is not None:
            return self.hub(corpus.on_hub)
        if corpus.demo is not None:
            return self.demo_text(corpus.demo)
        return self.file(f"{path}.path")

    def imatrix(self) -> Source | None:
        """A given imatrix."""
        given = self.loaded.config.imatrix
        if given is None:
            return None
        return self.file("imatrix.path") if given.hub is None else self.hub(given.hub)

    def hub(self, wanted: HubFile) -> HubCommit:
        """The commit that the revision names now; in offline mode, the one it named last."""
        commit = resolve_commit(wanted.repo, wanted.repo_type, wanted.revision, self.offline)
        return HubCommit(commit=commit)

    def file(self, path: str) -> Leaf:
        """The file that the configuration names at a dotted path."""
        file = self.loaded.file(path)
        if file is None:
            message = f"{path} was accepted without a file"
            raise AssertionError(message)
        return leaf_from_file(file, file.name, digests=self.digests)

    def demo_text(self, part: demo.Text) -> Leaf:
        """A part of the demo text, made once for each Python version and each way to make it."""
        version = platform.python_version()
        maker = sha256_of(Path(demo.__file__))
        file = self.texts / f"python-{version}-{maker}" / f"demo-{part}.txt"
        if not file.is_file():
            write_atomically(file, demo.demo_text(part))
        label = f"demo text, {part} part (documentation of Python {version})"
        return leaf_from_file(file, label, digests=self.digests)


def is_offline() -> bool:
    """Whether the user has said, as one says it to huggingface_hub, to stay off the network."""
    return os.environ.get("HF_HUB_OFFLINE", "").casefold() in TRUE
