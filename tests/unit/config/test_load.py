"""What a person can get wrong in YAML, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamacpp_pipeline.config.load import LoadedConfig, load
from llamacpp_pipeline.errors import ConfigError, UsageError

GOOD = """\
model: {repo: Qwen/Qwen3.5-9B}
evaluation:
  corpus: {demo: evaluation}
variants:
  - Q8_0
  - Q4_K_M
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def loaded(text: str, *overrides: str) -> LoadedConfig:
    Path("a.yaml").write_text(text, encoding="utf-8")
    return load(Path("a.yaml"), overrides=overrides)


def complaints(text: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(text, *overrides)
    return list(caught.value.evidence)


@pytest.mark.usefixtures("folder")
class TestGoodFiles:
    def test_bare_file_types_are_variants(self) -> None:
        config = loaded(GOOD).config

        assert [variant.label for variant in config.variants] == ["Q8_0", "Q4_K_M"]

    def test_a_file_type_may_be_written_in_lower_case(self) -> None:
        assert loaded(GOOD.replace("Q4_K_M", "q4_k_m")).config.variants[1].label == "Q4_K_M"

    def test_the_model_is_named_after_its_repository(self) -> None:
        assert loaded(GOOD).config.model.name == "Qwen3.5-9B"

    def test_an_alias_repeats_a_mapping(self) -> None:
        config = loaded(
            GOOD.replace("  - Q8_0\n", "")
            + "  - {name: a, ftype: Q5_K_M, tensor_types: &t {ssm_out: q8_0}}\n"
            + "  - {name: b, ftype: Q6_K, tensor_types: *t}\n"
        ).config

        assert config.variants[2].tensor_types == {"ssm_out": "q8_0"}

    def test_the_order_of_tensor_types_is_kept(self) -> None:
        config = loaded(
            GOOD + "  - {name: a, ftype: Q6_K, tensor_types: {ssm: q8_0, attn: q6_K, .: q4_K}}\n"
        ).config

        assert list(config.variants[2].tensor_types) == ["ssm", "attn", "."]

    def test_every_value_knows_where_it_was_written(self) -> None:
        found = loaded(GOOD, "evaluation.n_ctx=1024")

        assert found.origin("model.repo") == "a.yaml:1:15"
        assert found.origin("evaluation.n_ctx") == "--set evaluation.n_ctx=1024"
        assert found.origin("evaluation.n_batch") == "default"

    def test_a_relative_path_starts_from_its_file(self, folder: Path) -> None:
        (folder / "texts").mkdir()
        (folder / "texts" / "a.txt").write_text("text", encoding="utf-8")
        text = GOOD.replace("{demo: evaluation}", "{path: a.txt}")
        (folder / "texts" / "a.yaml").write_text(text, encoding="utf-8")

        found = load(Path("texts/a.yaml"))

        assert found.file("evaluation.corpus.path") == Path("texts/a.txt")
        assert found.file("imatrix.path") is None

    def test_a_folder_that_is_only_a_dot_is_known_by_its_own_name(self, folder: Path) -> None:
        text = GOOD.replace("repo: Qwen/Qwen3.5-9B", "path: .")

        assert loaded(text).config.model.name == folder.name.strip("._-")


ONE_PROBLEM = [
    pytest.param(
        GOOD + "benhc: {repetitions: 3}\n",
        "a.yaml:7:1: benhc: unknown key: did you mean bench?",
        id="unknown-key",
    ),
    pytest.param(
        GOOD + "bench: {repetition: 3}\n",
        "a.yaml:7:9: bench.repetition: unknown key: did you mean repetitions?",
        id="unknown-key-in-a-section",
    ),
    pytest.param(
        GOOD + "output: {zzz: 3}\n",
        "a.yaml:7:10: output.zzz: unknown key: known here are reference, imatrix",
        id="unknown-key-like-no-other",
    ),
    pytest.param(
        GOOD.replace("  - Q4_K_M", "  - {ftype: Q4_K_M, imatrx: false}"),
        "a.yaml:6:21: variants.1.imatrx: unknown key: did you mean imatrix?",
        id="unknown-key-in-a-list",
    ),
    pytest.param(
        GOOD + "bench: null\nbench: {repetitions: 3}\n",
        "a.yaml:8:1: bench: given twice, first at a.yaml:7:1",
        id="duplicate-key",
    ),
    pytest.param(
        GOOD + "bench:\n  repetitions: 1\n  repetitions: 2\n",
        "a.yaml:9:3: bench.repetitions: given twice, first at a.yaml:8:3",
        id="duplicate-key-in-a-section",
    ),
    pytest.param(
        GOOD + "bench: {repetitions: three}\n",
        "a.yaml:7:22: bench.repetitions: must be a whole number, not the text 'three'",
        id="text-for-a-number",
    ),
    pytest.param(
        GOOD + "bench: {repetitions: 1e1}\n",
        "a.yaml:7:22: bench.repetitions: must be a whole number, not the text '1e1':"
        " YAML reads 1e1 as text; write 10",
        id="exponent-without-a-dot",
    ),
    pytest.param(
        GOOD + "bench: {repetitions: 08}\n",
        "a.yaml:7:22: bench.repetitions: must be a whole number, not the text '08':"
        " YAML reads 08 as text; write 8",
        id="leading-zero-that-is-not-octal",
    ),
    pytest.param(
        GOOD + "bench: {repetitions: '3'}\n",
        "a.yaml:7:22: bench.repetitions: must be a whole number, not the text '3':"
        " the quotes make it text; write 3",
        id="number-in-quotes",
    ),
    pytest.param(
        GOOD + "bench: {repetitions: yes}\n",
        "a.yaml:7:22: bench.repetitions: must be a whole number, not yes",
        id="yes-is-not-one",
    ),
    pytest.param(
        GOOD + "bench: {repetitions: 2.0}\n",
        "a.yaml:7:22: bench.repetitions: must be a whole number, not 2.0: write 2",
        id="float-for-a-whole-number",
    ),
    pytest.param(
        GOOD + "bench: {repetitions: 0}\n",
        "a.yaml:7:22: bench.repetitions: must be greater than 0, not 0",
        id="number-out-of-range",
    ),
    pytest.param(
        GOOD + "bench: {repetitions: 012}\n",
        "a.yaml:7:22: bench.repetitions: YAML reads 012 as the octal 10: write 12, or '012'",
        id="octal",
    ),
    pytest.param(
        GOOD + "bench: {repetitions: 1:30}\n",
        "a.yaml:7:22: bench.repetitions: YAML reads 1:30 as a number to base 60:"
        " write '1:30' in quotes",
        id="sexagesimal",
    ),
    pytest.param(
        GOOD + "bench: {repetitions: .inf}\n",
        "a.yaml:7:22: bench.repetitions: .inf is not a number that anything here can be",
        id="infinite",
    ),
    pytest.param(
        GOOD + "bench: {repetitions: !!int many}\n",
        "a.yaml:7:22: bench.repetitions: many is no int",
        id="explicit-tag-that-does-not-fit",
    ),
    pytest.param(
        GOOD + "bench: {repetitions: !roman III}\n",
        "a.yaml:7:22: bench.repetitions: the tag !roman is not used here",
        id="foreign-tag",
    ),
    pytest.param(
        GOOD + "card: {title: on}\n",
        "a.yaml:7:15: card.title: must be text, not on: YAML reads on as true;"
        " write 'on' in quotes",
        id="on-for-text",
    ),
    pytest.param(
        GOOD.replace("Qwen/Qwen3.5-9B", "Qwen/Qwen3.5-9B, revision: 1234567"),
        "a.yaml:1:42: model.revision: must be text, not 1234567: write '1234567' in quotes",
        id="digits-for-text",
    ),
    pytest.param(
        GOOD + "convert: {mmproj: 'yes'}\n",
        "a.yaml:7:19: convert.mmproj: must be true or false, not the text 'yes'",
        id="text-for-a-boolean",
    ),
    pytest.param(
        GOOD.replace("  corpus", "  flash_attn: off\n  corpus"),
        "a.yaml:3:15: evaluation.flash_attn: YAML reads off as false; write 'off' in quotes",
        id="off-among-choices",
    ),
    pytest.param(
        GOOD + "convert: {outtype: fp16}\n",
        "a.yaml:7:20: convert.outtype: the text 'fp16' is none of 'f16', 'bf16', 'f32' or 'auto'"
        ": did you mean f16?",
        id="no-such-choice",
    ),
    pytest.param(
        GOOD + "bench: {tests: pp512}\n",
        "a.yaml:7:16: bench.tests: must be a list, not the text 'pp512': write [pp512]",
        id="one-thing-for-a-list",
    ),
    pytest.param(
        GOOD + "bench: {tests: [pp512, tg]}\n",
        "a.yaml:7:24: bench.tests.1: 'tg' is not a test such as pp512, tg128 or pp1024+tg1024",
        id="no-such-test",
    ),
    pytest.param(
        GOOD + "convert: f16\n",
        "a.yaml:7:10: convert: must be a mapping of keys, not the text 'f16'",
        id="text-for-a-section",
    ),
    pytest.param(
        GOOD + "convert:\n",
        "a.yaml:7:9: convert: must be a mapping of keys, not nothing",
        id="empty-section",
    ),
    pytest.param(
        GOOD.replace("model: {repo: Qwen/Qwen3.5-9B}\n", ""),
        "a.yaml:1:1: model: is missing",
        id="missing-section",
    ),
    pytest.param(
        GOOD.replace("{repo: Qwen/Qwen3.5-9B}", "{repo: a/b, demo: true}"),
        "a.yaml:1:8: model: give exactly one of `repo`, `path` and `demo: true`",
        id="two-models",
    ),
    pytest.param(
        GOOD.replace("Qwen/Qwen3.5-9B", "https://example.org/Qwen/Qwen3.5-9B"),
        "a.yaml:1:15: model.repo: 'https://example.org/Qwen/Qwen3.5-9B'"
        " is not a Hub id such as Qwen/Qwen3.5-9B",
        id="url-for-a-repository",
    ),
    pytest.param(
        GOOD.replace("repo: Qwen/Qwen3.5-9B", "path: nowhere"),
        "a.yaml:1:15: model.path: there is no folder nowhere",
        id="absent-folder",
    ),
    pytest.param(
        GOOD.replace("demo: evaluation", "path: nowhere.txt"),
        "a.yaml:3:18: evaluation.corpus.path: there is no file nowhere.txt",
        id="absent-file",
    ),
    pytest.param(
        GOOD + "selection: {corpus: {path: nowhere.txt}}\n",
        "a.yaml:7:28: selection.corpus.path: there is no file nowhere.txt",
        id="absent-text-to-choose-on",
    ),
    pytest.param(
        GOOD + "selection: {corpus: {demo: evaluation}}\n",
        "a.yaml:7:21: selection.corpus: is the evaluation text, on which is chosen without it:"
        " leave it out, or name another",
        id="chosen-on-the-evaluation-text",
    ),
    pytest.param(
        GOOD + "selection: {n_ctx: 128}\n",
        "a.yaml:7:12: selection: `n_ctx` and `n_chunks` cut a text of its own: give `corpus` too",
        id="cut-of-no-text",
    ),
    pytest.param(
        GOOD.replace("demo: evaluation", "hub: {repo: a/b, file: c.txt, member: d}"),
        "a.yaml:3:17: evaluation.corpus.hub: `member` names a file inside a .zip, which c.txt is"
        " not",
        id="member-of-no-zip",
    ),
    pytest.param(
        GOOD.replace("  - Q8_0\n  - Q4_K_M\n", "  []\n"),
        "a.yaml:5:3: variants: needs at least 1 entry",
        id="no-variants",
    ),
    pytest.param(
        GOOD + "  - Q4_K_N\n",
        "a.yaml:7:5: variants.2.ftype: llama-quantize knows no file type 'Q4_K_N'"
        ": did you mean Q4_K_S or Q4_K_M or Q5_K_S?",
        id="unknown-file-type",
    ),
    pytest.param(
        GOOD + "  - {name: a, ftype: Q6_K, tensor_types: {ssm_out: q8_1}}\n",
        "a.yaml:7:52: variants.2.tensor_types.ssm_out: llama-quantize makes no tensor of type"
        " 'q8_1': did you mean q8_0 or q5_1 or q4_1?",
        id="unknown-tensor-type",
    ),
    pytest.param(
        GOOD + "  - {name: a, ftype: Q6_K, tensor_types: {'ssm_(out': q8_0}}\n",
        "a.yaml:7:43: variants.2.tensor_types.ssm_(out: 'ssm_(out' is not a regular expression:"
        " missing ), unterminated subpattern at position 4",
        id="broken-pattern",
    ),
    pytest.param(
        GOOD + "  - Q8_0\n",
        "a.yaml:7:5: variants.2.ftype: a second variant named Q8_0: give one of them a `name`",
        id="duplicate-variant",
    ),
    pytest.param(
        GOOD + "  - {ftype: Q6_K, name: q8_0}\n",
        "a.yaml:7:25: variants.2.name: a second variant named q8_0: give one of them a `name`",
        id="duplicate-variant-but-for-case",
    ),
    pytest.param(
        GOOD + "  - {ftype: Q6_K, name: Reference}\n",
        "a.yaml:7:25: variants.2.name: Reference is what the unquantized GGUF is called:"
        " take another `name`",
        id="variant-named-like-the-reference",
    ),
    pytest.param(
        GOOD + "  - {ftype: Q6_K, name: a/b}\n",
        "a.yaml:7:25: variants.2.name: 'a/b' is not a file name of letters, digits and . _ + -",
        id="variant-with-a-slash",
    ),
    pytest.param(
        GOOD + "  - IQ2_XS\n",
        "a.yaml:7:5: variants.2.ftype: IQ2_XS needs an importance matrix and there is none:"
        " give `calibration` or `imatrix`",
        id="file-type-without-the-imatrix-it-needs",
    ),
    pytest.param(
        GOOD
        + "  - {ftype: IQ2_XS, imatrix: false}\n"
        + "calibration: {corpus: {demo: calibration}}\n",
        "a.yaml:7:13: variants.2.ftype: IQ2_XS needs an importance matrix and has"
        " `imatrix: false`: leave that out",
        id="file-type-that-refuses-the-imatrix-it-needs",
    ),
    pytest.param(
        GOOD + "card: {compare: [{variant: Q4_K_S, against: Q8_0}]}\n",
        "a.yaml:7:28: card.compare.0.variant: no variant is named Q4_K_S: did you mean Q4_K_M?",
        id="comparison-of-what-is-not-there",
    ),
    pytest.param(
        GOOD + "card: {compare: [{variant: Q8_0, against: Q8_0}]}\n",
        "a.yaml:7:43: card.compare.0.against: Q8_0 is compared with itself",
        id="comparison-with-itself",
    ),
    pytest.param(
        GOOD + "calibration: {corpus: {demo: evaluation}}\n",
        "a.yaml:7:23: calibration.corpus: is the evaluation text too: figures would flatter;"
        " calibrate on another text",
        id="calibration-on-the-evaluation-text",
    ),
    pytest.param(
        GOOD
        + "calibration: {corpus: {demo: calibration}}\n"
        + "imatrix: {hub: {repo: a/b, file: imatrix.gguf}}\n",
        "a.yaml:8:10: imatrix: give either `calibration` (compute one) or `imatrix` (use one),"
        " not both",
        id="two-imatrices",
    ),
    pytest.param(
        GOOD + "references: [{name: them}]\n",
        "a.yaml:7:14: references.0: give exactly one of `path` and `repo`",
        id="reference-from-nowhere",
    ),
    pytest.param(
        GOOD + "references: [{name: them, repo: a/b}]\n",
        "a.yaml:7:14: references.0: `file` names the GGUF in `repo`: give both, or neither",
        id="reference-repo-without-file",
    ),
    pytest.param(
        GOOD + "references: [{name: q8_0, repo: a/b, file: c.gguf}]\n",
        "a.yaml:7:21: references.0.name: the variant is called q8_0 too: take another `name`",
        id="reference-called-as-a-variant",
    ),
    pytest.param(
        GOOD + "references: [{name: reference, repo: a/b, file: c.gguf}]\n",
        "a.yaml:7:21: references.0.name: the unquantized GGUF is called reference too:"
        " take another `name`",
        id="reference-called-reference",
    ),
    pytest.param(
        GOOD + "references: [{name: them, path: nowhere.gguf}]\n",
        "a.yaml:7:33: references.0.path: there is no file nowhere.gguf",
        id="reference-that-is-not-there",
    ),
    pytest.param(
        GOOD + f"publish: {{repo: a/b}}\ncard: {{quantized_by: {'x' * 128}}}\n",
        "a.yaml:8:22: card.quantized_by: is too long for the files' metadata: at most 127 bytes",
        id="label-that-does-not-fit",
    ),
    pytest.param(
        GOOD + "publish: {repo: name-alone}\n",
        "a.yaml:7:17: publish.repo: 'name-alone' is not a Hub id with its owner: owner/name",
        id="repository-of-nobody",
    ),
    pytest.param(
        GOOD + "toolchain: {path: .}\n",
        "a.yaml:7:12: toolchain: `path` goes with `source: path`, and only with it",
        id="checkout-that-would-not-be-used",
    ),
    pytest.param(
        GOOD + "bench: &b {tests: [*b]}\n",
        "a.yaml:7:8: bench.tests.0: an alias to what contains it never ends",
        id="endless-alias",
    ),
    pytest.param(
        GOOD + "bench:\n  <<: {repetitions: 3}\n",
        "a.yaml:8:3: bench: keys are plain words here; `extends:` takes over a file",
        id="merge-key",
    ),
]


@pytest.mark.usefixtures("folder")
class TestBadFiles:
    @pytest.mark.parametrize(("text", "expected"), ONE_PROBLEM)
    def test_one_problem_is_said_with_its_place_and_the_cure(
        self, text: str, expected: str
    ) -> None:
        assert complaints(text) == [expected]

    def test_all_problems_are_said_at_once(self) -> None:
        text = GOOD + "bench: {repetitions: 012, tests: pp512}\ncnvert: {}\n  "

        found = complaints(text, "evaluation.n_ctx=a", "output.reference=1")

        assert found == [
            "a.yaml:7:22: bench.repetitions: YAML reads 012 as the octal 10: write 12, or '012'",
            "--set evaluation.n_ctx=a: evaluation.n_ctx: must be a whole number, not the text 'a'",
            "a.yaml:7:34: bench.tests: must be a list, not the text 'pp512': write [pp512]",
            "--set output.reference=1: output.reference: must be true or false, not 1",
            "a.yaml:8:1: cnvert: unknown key: did you mean convert?",
        ]

    def test_the_same_hub_file_for_both_texts_is_refused_at_any_revision(self) -> None:
        hub = "{hub: {repo: a/b, file: c.txt, revision: %s}}"
        text = GOOD.replace("{demo: evaluation}", hub % "main")

        (found,) = complaints(text + f"calibration: {{corpus: {hub % 'v2'}}}\n")

        assert "calibration.corpus: is the evaluation text too" in found

    @pytest.mark.parametrize(
        ("text", "message", "evidence"),
        [
            pytest.param("", "a.yaml is empty", "", id="empty"),
            pytest.param("# nothing\n", "a.yaml is empty", "", id="only-comments"),
            pytest.param("- Q8_0\n", "a.yaml is not a mapping of keys", "", id="list"),
            pytest.param(
                "model: {repo: a/b\nbench: null\n",
                "a.yaml is not YAML",
                "a.yaml:2:6: while parsing a flow mapping, expected ',' or '}', but got ':'",
                id="syntax",
            ),
            pytest.param(
                "model:\n\tdemo: true\n",
                "a.yaml is not YAML",
                "a.yaml:2:1: while scanning for the next token, "
                "found character '\\t' that cannot start any token",
                id="tab",
            ),
            pytest.param(
                "model: {demo: true}\n---\nmodel: {demo: true}\n",
                "a.yaml is not YAML",
                "a.yaml:2:1: expected a single document in the stream, but found another document",
                id="two-documents",
            ),
            pytest.param(
                "model: \x07\n",
                "a.yaml is not YAML",
                "unacceptable character #x0007: special characters are not allowed\n"
                '  in "<unicode string>", position 7',
                id="control-character",
            ),
        ],
    )
    def test_what_is_no_yaml_at_all(self, text: str, message: str, evidence: str) -> None:
        with pytest.raises(ConfigError) as caught:
            loaded(text)

        assert caught.value.message == message
        assert "\n".join(caught.value.evidence) == evidence

    def test_a_list_whose_only_entry_is_wrong_is_not_called_empty(self) -> None:
        assert complaints(GOOD.replace("  - Q8_0\n  - Q4_K_M", "  - 3")) == [
            "a.yaml:5:5: variants.0: must be a mapping of keys, not 3"
        ]

    def test_what_is_nested_too_deeply(self) -> None:
        with pytest.raises(ConfigError, match=r"a\.yaml is nested too deeply"):
            loaded("variants: " + "[" * 5000 + "]" * 5000)

    def test_a_file_that_is_absent_names_its_neighbours(self, folder: Path) -> None:
        (folder / "b.yaml").touch()

        with pytest.raises(ConfigError, match=r"c\.yaml does not exist") as caught:
            load(Path("c.yaml"))

        assert caught.value.hint == ". has b.yaml"

    def test_bytes_that_are_no_text(self, folder: Path) -> None:
        (folder / "a.yaml").write_bytes(b"model: \xff\n")

        with pytest.raises(ConfigError, match="cannot be read as UTF-8 text"):
            load(Path("a.yaml"))

    def test_a_folder_is_no_file(self, folder: Path) -> None:
        with pytest.raises(ConfigError, match="cannot be read"):
            load(folder)

    def test_the_exit_code_is_that_of_usage(self) -> None:
        assert ConfigError.exit_code == UsageError.exit_code == 2
