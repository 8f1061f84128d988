"""Variants by size: what can be said of them, and what is said of mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamacpp_pipeline.config.load import load
from llamacpp_pipeline.config.sizes import size_label
from llamacpp_pipeline.config.variants import VariantConfig
from llamacpp_pipeline.errors import ConfigError

HEAD = """\
model: {demo: true}
evaluation: {corpus: {demo: evaluation}}
"""
CALIBRATED = HEAD + "calibration: {corpus: {demo: calibration}}\n"
PROBE = "sensitivity: {corpus: {demo: probe}}\n"
PROBED = CALIBRATED + PROBE


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.gguf").write_bytes(b"GGUF")
    return tmp_path


def variants(text: str, *, head: str = CALIBRATED) -> dict[str, VariantConfig]:
    lines = "".join(f"  - {line}\n" for line in text.splitlines())
    Path("a.yaml").write_text(f"{head}variants:\n{lines}", encoding="utf-8")
    return {variant.label: variant for variant in load(Path("a.yaml")).config.variants}


def complaint(text: str, *, head: str = CALIBRATED) -> str:
    with pytest.raises(ConfigError) as caught:
        variants(text, head=head)
    return " ".join((*caught.value.evidence, caught.value.message))


def test_each_way_has_a_name_of_its_own() -> None:
    found = variants(
        "Q4_K_M\n{bpw: 4.5}\n{size: 23.85GB}\n{size: 22 GiB}\n{match: Q4_K_M}\n"
        "{fit: {memory: 24GB, context: 32768, kv_type: q8_0}}\n{bpw: 4.5, name: mine}"
    )

    assert {label: variant.way for label, variant in found.items()} == {
        "Q4_K_M": "ftype", "4.5bpw": "bpw", "23.85GB": "size", "22GiB": "size",
        "Q4_K_M-matched": "match", "fit-24GB-32768": "fit", "mine": "bpw",
    }  # fmt: skip
    assert found["23.85GB"].size == 23_850_000_000
    assert found["22GiB"].size == 22 * 2**30


def test_a_ladder_is_a_variant_for_each_value() -> None:
    found = variants("{bpw: [1.75, 2.5, 8.5], type_set: kquants}")

    assert {label: v.bpw for label, v in found.items()} == {
        "1.75bpw": 1.75, "2.5bpw": 2.5, "8.5bpw": 8.5,
    }  # fmt: skip
    assert {variant.type_set for variant in found.values()} == {"kquants"}


def test_a_ladder_may_have_names() -> None:
    found = variants("Q4_K_M\nQ2_K\n{match: [Q2_K, Q4_K_M], name: [two, four]}")

    assert {label: found[label].match for label in ("two", "four")} == {
        "two": "Q2_K", "four": "Q4_K_M",
    }  # fmt: skip


def test_a_match_may_be_another_publishers_file() -> None:
    head = CALIBRATED + "references: [{name: theirs, path: other.gguf}]\n"

    assert variants("{match: theirs}", head=head)["theirs-matched"].match == "theirs"


def test_without_an_imatrix_it_must_be_said() -> None:
    assert variants("{bpw: 4.5, imatrix: false}", head=HEAD)["4.5bpw"].bpw == 4.5
    assert "judge types by the weights alone" in complaint("{bpw: 4.5}", head=HEAD)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "{bpw: 4.5, size: 3GB}",
            "exactly one of ftype, bpw, size, fit, match, kld: not bpw and size",
        ),
        ("{name: a}", "exactly one of ftype, bpw, size, fit, match, kld: there is none"),
        ("{bpw: 0}", "0 is no number of bits per weight"),
        ("{bpw: -2}", "-2 is no number of bits per weight"),
        ("{bpw: .nan}", ".nan is not a number"),
        ("{bpw: .inf}", ".inf is not a number"),
        ("{bpw: 100}", "at most 32"),
        ("{bpw: many}", "must be a number, not the text 'many'"),
        ("{bpw: []}", "must be a number, not a list"),
        ("{size: 0}", "leaves nothing"),
        ("{size: -1GB}", "is not a size such as"),
        ("{size: 23.85 potatoes}", "is not a size such as"),
        ("{size: 1.5}", "is not a size such as"),
        ("{fit: {memory: 24GB}}", "variants.0.fit.context: is missing"),
        ("{fit: {memory: 24GB, context: 0}}", "must be greater than 0"),
        ("{fit: {memory: 24GB, context: 8, kv_type: q9_0}}", "'q9_0' is none of"),
        ("{match: Q4_K}\nQ4_K_M", "named Q4_K: did you mean Q4_K_M"),
        ("{match: a, name: a}", "a is matched to itself"),
        ("Q8_0\n{match: Q8_0, name: a}\n{match: a, name: b}", "a is itself matched to Q8_0"),
        ("{ftype: Q4_K_M, type_set: fast}", "type_set is for variants by bpw"),
        ("{ftype: Q4_K_M, min_types: {ssm_out: q6_K}}", "min_types is for variants by bpw"),
        ("{bpw: 4.5, pure: true}", "pure asks for one type everywhere"),
        ("{bpw: 4.5, type_set: quick}", "makes no tensor of type 'quick'"),
        ("{bpw: 4.5, same_type: ['ffn_(gate']}", "is not a regular expression"),
        ("{bpw: [3, 4], name: [a]}", "2 values of bpw and 1 names"),
        ("{bpw: [3, 4], name: a}", "a second variant named a"),
        ("{bpw: 3}\n{bpw: 3.0}", "a second variant named 3bpw"),
    ],
)
def test_every_mistake_is_told(text: str, words: str) -> None:
    assert words in complaint(text)


def test_a_quality_is_a_way_to_ask_and_may_be_a_ladder() -> None:
    found = variants("{kld: [0.003, 0.01]}\n{kld: 0.1, name: small}", head=PROBED)

    assert {label: (v.way, v.kld) for label, v in found.items()} == {
        "kld0.003": ("kld", 0.003), "kld0.01": ("kld", 0.01), "small": ("kld", 0.1),
    }  # fmt: skip


def test_the_candidates_of_a_quality_are_asked_for_the_same() -> None:
    text = "{kld: 0.01, candidates: [Q4_K_M, {name: k, type_set: kquants}]}"
    (found,) = variants(text, head=PROBED).values()
    mix, kquants = (found.candidate(other) for other in found.candidates)

    assert (mix.way, mix.ftype) == ("ftype", "Q4_K_M")
    assert (kquants.way, kquants.kld, kquants.type_set) == ("kld", 0.01, "kquants")


@pytest.mark.parametrize(
    ("text", "head", "words"),
    [
        ("{kld: 0.01}", CALIBRATED, "variants.0.kld: nothing predicts a KLD: add a section"),
        ("{kld: [0.01, 0.1]}", CALIBRATED, "nothing predicts a KLD"),
        ("{kld: 0.01}", HEAD + PROBE, "there is none: give `calibration` or `imatrix`"),
        ("{kld: 0.01, sensitivity: prior}", PROBED, "variants.0.sensitivity: the prior ranks"),
        ("{kld: 0.01, imatrix: false}", PROBED, "variants.0.imatrix: what predicts a KLD"),
        ("{kld: 0}", PROBED, "0 is no mean KLD to ask for: write nats above 0"),
        ("{kld: -0.1}", PROBED, "-0.1 is no mean KLD to ask for"),
        ("{kld: .nan}", PROBED, ".nan is not a number"),
        ("{kld: .inf}", PROBED, ".inf is not a number"),
        ("{kld: good}", PROBED, "must be a number, not the text 'good'"),
        ("{kld: 0.01, bpw: 4}", PROBED, "not bpw and kld"),
        ("{kld: 0.01, pure: true}", PROBED, "pure asks for one type everywhere"),
        (
            "{kld: 0.01, candidates: [{name: a, sensitivity: prior}]}",
            PROBED,
            "variants.0.candidates.0.sensitivity: the prior ranks types",
        ),
        (
            "{kld: 0.01, candidates: [{name: a, imatrix: false}]}",
            PROBED,
            "variants.0.candidates.0.imatrix: what predicts a KLD",
        ),
    ],
)
def test_every_mistake_about_a_quality_is_told(text: str, head: str, words: str) -> None:
    assert words in complaint(text, head=head)


@pytest.mark.parametrize(
    ("size", "label"),
    [(24 * 2**30, "24GiB"), (23_850_000_000, "23.85GB"), (2_500_000, "2.5MB"), (900, "900B")],
)
def test_a_size_in_a_file_name(size: int, label: str) -> None:
    assert size_label(size) == label
