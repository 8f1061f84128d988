"""PipelineConfig: everything a YAML file can say, composed from the stages' own Params."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from llamacpp_pipeline.config.candidates import SelectionConfig
from llamacpp_pipeline.config.clashes import ClashError, clashes_in
from llamacpp_pipeline.config.corpus import CorpusConfig
from llamacpp_pipeline.config.datasets import DatasetConfig, TasksConfig
from llamacpp_pipeline.config.hub_file import (
    FileStem,
    HubFile,
    OwnedRepoId,
    RepoId,
    Sha256,
)
from llamacpp_pipeline.config.placement import PlacementConfig
from llamacpp_pipeline.config.variants import VariantConfig
from llamacpp_pipeline.stages.base import Frozen
from llamacpp_pipeline.stages.bench import BenchParams
from llamacpp_pipeline.stages.imatrix import ImatrixParams
from llamacpp_pipeline.stages.imatrix_merge import MOST_PARTS
from llamacpp_pipeline.stages.memory import KvType
from llamacpp_pipeline.stages.perplexity import PerplexityParams
from llamacpp_pipeline.stages.probe import ProbeParams
from llamacpp_pipeline.stages.refine import Rounds


class ModelConfig(Frozen):
    """The unquantized model: a Hub repository, a local folder, or the embedded demo model."""

    repo: RepoId | None = None
    revision: str = "main"
    path: str | None = None  # relative to the YAML file
    demo: bool = False
    name: FileStem | None = None  # of the files made; default: the last part of repo or path

    @model_validator(mode="after")
    def exactly_one_source(self) -> ModelConfig:
        if sum((self.repo is not None, self.path is not None, self.demo)) != 1:
            message = "give exactly one of `repo`, `path` and `demo: true`"
            raise ValueError(message)
        return self

    @property
    def label(self) -> str:
        """The model's name in file names; `load` has made it one."""
        return self.name or stem_of(self.repo or self.path or "demo")


def stem_of(source: str) -> str:
    """The last part of a repository or a path, as a file name can begin."""
    last = source.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", last).lstrip("._+-") or "model"


class ConvertConfig(Frozen):
    """How the checkpoint becomes the reference GGUF."""

    outtype: Literal["f16", "bf16", "f32", "auto"] = "auto"
    mtp: Literal["auto", "keep", "drop"] = "auto"
    mmproj: bool = False  # also make the multimodal projector, as a file of its own
    pre_tokenizer: str | None = None


class EvaluationConfig(PerplexityParams):
    """The text PPL and KLD are measured on, and how it is cut."""

    corpus: CorpusConfig


class SensitivityConfig(ProbeParams):
    """The text that sensitivities are measured on, and at which types."""

    corpus: CorpusConfig
    refine: Rounds | None = Rounds()  # null: what was measured is taken as it is


class CalibrationText(CorpusConfig):
    """One of several calibration texts."""

    name: FileStem | None = None  # in step names; default: the file's own
    n_chunks: PositiveInt | None = None  # default: calibration.n_chunks
    weight: PositiveInt = 1  # each token of it counts so many times

    @property
    def label(self) -> str:
        """What it is called in steps and files."""
        if self.name is not None:
            return self.name
        if self.demo is not None:
            return f"demo-{self.demo}"
        if self.dataset is not None:
            return self.dataset
        return stem_of(self.path or (self.hub.unpacked if self.hub is not None else ""))


class CalibrationConfig(ImatrixParams):
    """The text or texts the imatrix is computed from, and how they are cut."""

    corpus: CorpusConfig | None = None
    texts: Annotated[tuple[CalibrationText, ...], Field(max_length=MOST_PARTS)] = ()

    @model_validator(mode="after")
    def one_or_several(self) -> CalibrationConfig:
        if (self.corpus is None) == (not self.texts):
            message = "give exactly one of `corpus` (a text) and `texts` (a list of them)"
            raise ValueError(message)
        return self

    @property
    def each(self) -> tuple[tuple[str, CorpusConfig], ...]:
        """Every text, with the dotted path at which the configuration names it."""
        if self.corpus is not None:
            return (("calibration.corpus", self.corpus),)
        return tuple((f"calibration.texts.{at}", text) for at, text in enumerate(self.texts))


class GivenImatrix(Frozen):
    """An imatrix file that somebody made."""

    path: str | None = None  # relative to the YAML file
    hub: HubFile | None = None

    @model_validator(mode="after")
    def exactly_one_source(self) -> GivenImatrix:
        if (self.path is None) == (self.hub is None):
            message = "give exactly one of `path` and `hub`"
            raise ValueError(message)
        return self


class ReferenceConfig(Frozen):
    """Another publisher's GGUF of the same model: measured like a variant, never published."""

    name: FileStem
    path: str | None = None  # relative to the YAML file
    repo: RepoId | None = None
    revision: str = "main"
    file: str | None = None  # with `repo`
    sha256: Sha256 | None = None

    @model_validator(mode="after")
    def exactly_one_source(self) -> ReferenceConfig:
        if (self.path is None) == (self.repo is None):
            message = "give exactly one of `path` and `repo`"
            raise ValueError(message)
        if (self.repo is None) != (self.file is None):
            message = "`file` names the GGUF in `repo`: give both, or neither"
            raise ValueError(message)
        if self.path is not None and self.sha256 is not None:
            message = "`sha256` goes with `repo`: a local file is known by its content anyway"
            raise ValueError(message)
        return self

    @property
    def hub(self) -> HubFile | None:
        """The file on the Hub."""
        if self.repo is None or self.file is None:
            return None
        return HubFile(repo=self.repo, revision=self.revision, file=self.file, sha256=self.sha256)


class Comparison(Frozen):
    """A percentile table on the card: two variants side by side."""

    variant: str
    against: str
    variant_label: str = "this"
    against_label: str | None = None  # default: the other variant's name


class CardConfig(Frozen):
    """What the card cannot know by itself."""

    title: str | None = None
    notes: str | None = None  # Markdown of the publisher's own
    template: str | None = None  # a Jinja file, relative to the YAML file
    base_model: str | None = None  # the Hub id on the card; default: model.repo
    license: str | None = None  # default: inherited
    quantized_by: str | None = None
    compare: tuple[Comparison, ...] = ()


class ToolchainConfig(Frozen):
    """Where llama.cpp comes from and how it is built."""

    source: Literal["auto", "submodule", "git", "sdist", "path"] = "auto"
    path: str | None = None  # with `source: path`
    backend: Literal["cpu", "cuda", "metal", "vulkan", "hip"] = "cpu"
    flags: tuple[str, ...] = ()  # more CMake definitions: -DGGML_NATIVE=OFF
    jobs: PositiveInt | None = None  # not part of the BuildId

    @model_validator(mode="after")
    def path_with_source_path(self) -> ToolchainConfig:
        if (self.source == "path") != (self.path is not None):
            message = "`path` goes with `source: path`, and only with it"
            raise ValueError(message)
        return self


class MemoryConfig(Frozen):
    """The contexts for which the card says what each file needs."""

    contexts: tuple[PositiveInt, ...] = ()
    kv_type: KvType = "f16"


class OutputConfig(Frozen):
    """What lands in the result folder besides the variants."""

    reference: bool = False  # the unquantized GGUF too
    imatrix: bool = True


class PublishConfig(Frozen):
    """Where `push` puts the result folder."""

    repo: OwnedRepoId | None = None
    private: bool = False
    gated: Literal["auto", "manual"] | None = None
    label_files: bool | None = None  # say in each GGUF what made it; default: where there is a repo

    @property
    def labels_files(self) -> bool:
        """Whether each GGUF says who made it from what."""
        return self.repo is not None if self.label_files is None else self.label_files


class PipelineConfig(Frozen):
    """One YAML file. See `llamacpp-pipeline init` for a commented example."""

    model: ModelConfig
    convert: ConvertConfig = ConvertConfig()
    evaluation: EvaluationConfig
    calibration: CalibrationConfig | None = None  # compute an imatrix from this text
    imatrix: GivenImatrix | None = None  # or use this one
    sensitivity: SensitivityConfig | None = None  # measure what each tensor's error costs
    variants: Annotated[tuple[VariantConfig, ...], Field(min_length=1)]
    references: tuple[ReferenceConfig, ...] = ()
    tasks: TasksConfig | None = None  # evaluation sets to score every file on
    datasets: tuple[DatasetConfig, ...] = ()  # sets of one's own, local copies of known ones
    selection: SelectionConfig = SelectionConfig()
    bench: BenchParams | None = BenchParams()
    memory: MemoryConfig = MemoryConfig()
    placement: PlacementConfig = PlacementConfig()
    toolchain: ToolchainConfig = ToolchainConfig()
    output: OutputConfig = OutputConfig()
    card: CardConfig = CardConfig()
    publish: PublishConfig = PublishConfig()

    @property
    def selection_text(self) -> CorpusConfig | None:
        """The text of its own that candidates and refined mixes are chosen on, if there are any."""
        chosen = any(v.candidates for v in self.variants) or any(map(self.refines, self.variants))
        return self.selection.corpus if chosen else None

    def refines(self, variant: VariantConfig) -> bool:
        """Whether the measured types of a variant are validated and corrected."""
        asked = self.sensitivity is not None and self.sensitivity.refine is not None
        return asked and variant.measured

    @model_validator(mode="after")
    def with_default_candidates(self) -> PipelineConfig:
        default = self.selection.candidates
        if default and any(v.way != "ftype" and not v.candidates for v in self.variants):
            object.__setattr__(self, "variants", tuple(v.or_from(default) for v in self.variants))
        return self

    @model_validator(mode="after")
    def nothing_clashes(self) -> PipelineConfig:
        clashes = tuple(clashes_in(self))
        if clashes:
            raise ClashError(clashes)
        return self
