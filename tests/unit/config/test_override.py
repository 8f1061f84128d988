"""`extends:` and `--set`: the later wins, and what it makes obsolete goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamacpp_pipeline.config.load import load
from llamacpp_pipeline.errors import ConfigError, UsageError

BASE = """\
model: {repo: a/Model, revision: v1}
evaluation:
  corpus: {hub: {repo: c/texts, file: t.zip, member: t.txt, sha256: %s}}
  n_ctx: 512
calibration:
  corpus: {demo: calibration}
  n_chunks: 10
variants: [Q8_0, Q4_K_M]
bench: {repetitions: 3}
""" % ("ab" * 32)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text(BASE, encoding="utf-8")
    return tmp_path


def upon_base(text: str) -> Path:
    Path("a.yaml").write_text(f"extends: base.yaml\n{text}", encoding="utf-8")
    return Path("a.yaml")


class TestExtends:
    def test_mappings_merge_and_lists_are_replaced(self) -> None:
        found = load(upon_base("evaluation: {n_ctx: 256}\nvariants: [Q6_K]\n"))

        assert found.config.evaluation.n_ctx == 256
        assert found.config.evaluation.corpus.hub is not None
        assert [variant.label for variant in found.config.variants] == ["Q6_K"]
        assert found.origin("evaluation.n_ctx") == "a.yaml:2:21"
        assert found.origin("bench.repetitions") == "base.yaml:9:22"

    def test_an_empty_file_that_extends_is_the_other(self) -> None:
        assert load(upon_base("")).config == load(Path("base.yaml")).config

    def test_another_model_drops_the_revision_of_the_first(self) -> None:
        model = load(upon_base("model: {repo: b/Other}\n")).config.model

        assert (model.repo, model.revision, model.name) == ("b/Other", "main", "Other")

    def test_the_same_model_keeps_its_revision(self) -> None:
        assert load(upon_base("model: {repo: a/Model}\n")).config.model.revision == "v1"

    def test_another_kind_of_source_replaces_the_first(self) -> None:
        corpus = load(upon_base("evaluation: {corpus: {demo: evaluation}}\n")).config.evaluation

        assert (corpus.corpus.demo, corpus.corpus.hub) == ("evaluation", None)

    def test_another_file_drops_the_digest_of_the_first(self) -> None:
        text = "evaluation: {corpus: {hub: {file: u.txt}}}\n"

        hub = load(upon_base(text)).config.evaluation.corpus.hub

        assert hub is not None
        assert (hub.repo, hub.file, hub.member, hub.sha256) == ("c/texts", "u.txt", None, None)

    def test_a_given_imatrix_replaces_the_calibration(self) -> None:
        config = load(upon_base("imatrix: {hub: {repo: a/b, file: c.gguf}}\n")).config

        assert config.calibration is None
        assert config.imatrix is not None

    def test_null_takes_a_section_away(self) -> None:
        config = load(upon_base("bench: null\ncalibration: null\n")).config

        assert (config.bench, config.calibration) == (None, None)

    def test_a_path_starts_from_the_file_that_says_it(self, folder: Path) -> None:
        (folder / "sub").mkdir()
        (folder / "sub" / "t.txt").write_text("text", encoding="utf-8")
        inner = BASE.replace("corpus: {demo: calibration}", "corpus: {path: t.txt}")
        (folder / "sub" / "inner.yaml").write_text(inner, encoding="utf-8")
        Path("a.yaml").write_text("extends: sub/inner.yaml\n", encoding="utf-8")

        assert load(Path("a.yaml")).file("calibration.corpus.path") == Path("sub/t.txt")

    def test_a_problem_names_the_file_it_is_in(self, folder: Path) -> None:
        (folder / "base.yaml").write_text(BASE.replace("n_ctx: 512", "n_ctx: 0"), encoding="utf-8")

        with pytest.raises(ConfigError) as caught:
            load(upon_base("bench: {repetitions: 0}\n"))

        assert caught.value.evidence == (
            "base.yaml:4:10: evaluation.n_ctx: must be greater than 0, not 0",
            "a.yaml:2:22: bench.repetitions: must be greater than 0, not 0",
        )

    def test_a_circle_is_named(self, folder: Path) -> None:
        (folder / "base.yaml").write_text("extends: a.yaml\n", encoding="utf-8")

        with pytest.raises(ConfigError, match=r"a\.yaml extends itself") as caught:
            load(upon_base(""))

        assert caught.value.evidence == ("a.yaml -> base.yaml -> a.yaml",)

    def test_it_must_be_a_path(self) -> None:
        Path("a.yaml").write_text("extends: [base.yaml]\n" + BASE, encoding="utf-8")

        with pytest.raises(ConfigError) as caught:
            load(Path("a.yaml"))

        assert caught.value.evidence == ("a.yaml:1:10: extends: must be the path of a YAML file",)


class TestSet:
    @pytest.mark.parametrize(
        ("override", "path", "expected"),
        [
            pytest.param("evaluation.n_ctx=64", "evaluation.n_ctx", 64, id="number"),
            pytest.param("bench=null", "bench", None, id="null"),
            pytest.param("card.title=A = B", "card.title", "A = B", id="equals-in-the-value"),
            pytest.param("bench.tests=[pp8]", "bench.tests", ("pp8",), id="list"),
            pytest.param("variants.0.pure=true", "variants.0.pure", True, id="bare-file-type"),
            pytest.param("variants.1=Q6_K", "variants.1.ftype", "Q6_K", id="item"),
            pytest.param("placement.n_threads=2", "placement.n_threads", 2, id="new-section"),
        ],
    )
    def test_a_value_is_read_as_yaml_and_put_in_its_place(
        self, override: str, path: str, expected: object
    ) -> None:
        value: object = load(Path("base.yaml"), overrides=[override]).config
        for name in path.split("."):
            value = value[int(name)] if isinstance(value, tuple) else getattr(value, name)

        assert value == expected

    def test_the_last_one_wins(self) -> None:
        sets = ["evaluation.n_ctx=64", "evaluation.n_ctx=128"]

        assert load(Path("base.yaml"), overrides=sets).config.evaluation.n_ctx == 128

    def test_one_key_of_a_hub_file_leaves_the_others(self) -> None:
        sets = ["evaluation.corpus.hub.revision=v2"]

        hub = load(Path("base.yaml"), overrides=sets).config.evaluation.corpus.hub

        assert hub is not None
        assert (hub.revision, hub.file, hub.sha256) == ("v2", "t.zip", "ab" * 32)

    def test_another_model_drops_what_belongs_to_the_first(self, folder: Path) -> None:
        (folder / "local").mkdir()

        model = load(Path("base.yaml"), overrides=["model.path=local"]).config.model

        assert (model.path, model.repo, model.revision) == ("local", None, "main")

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            pytest.param("evaluation.n_ctx", "is not of the form key.key=value", id="no-equals"),
            pytest.param("=3", "is not of the form key.key=value", id="no-key"),
            pytest.param("a..b=3", "is not of the form key.key=value", id="empty-key"),
            pytest.param("bench.repetitions.x=3", "is 3, which has no x", id="beneath-a-scalar"),
            pytest.param("variants.7=Q6_K", "a position from 0 to 1", id="past-the-end"),
            pytest.param("variants.Q8_0.pure=1", "a position from 0 to 1", id="name"),
        ],
    )
    def test_what_names_no_place_is_a_usage_error(self, override: str, message: str) -> None:
        with pytest.raises(UsageError, match=message):
            load(Path("base.yaml"), overrides=[override])

    @pytest.mark.parametrize(
        ("override", "evidence"),
        [
            pytest.param(
                "evaluation.n_ctx=abc",
                "--set evaluation.n_ctx=abc: evaluation.n_ctx: must be a whole number,"
                " not the text 'abc'",
                id="wrong-type",
            ),
            pytest.param(
                "evaluation.nctx=3",
                "--set evaluation.nctx=3: evaluation.nctx: unknown key: did you mean n_ctx?",
                id="unknown-key",
            ),
            pytest.param(
                "bench={tests: [pp8], tests: [pp9]}",
                "--set bench={tests: [pp8], tests: [pp9]}: bench.tests: given twice, first at"
                " --set bench={tests: [pp8], tests: [pp9]}:1:2",
                id="duplicate-key",
            ),
        ],
    )
    def test_a_wrong_value_is_shown_with_the_override(self, override: str, evidence: str) -> None:
        with pytest.raises(ConfigError) as caught:
            load(Path("base.yaml"), overrides=[override])

        assert caught.value.evidence == (evidence,)

    def test_a_value_that_is_no_yaml(self) -> None:
        with pytest.raises(ConfigError, match=r"--set bench=\[ is not YAML"):
            load(Path("base.yaml"), overrides=["bench=["])
