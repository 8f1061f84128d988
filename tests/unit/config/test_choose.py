"""Which YAML file a run starts from."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamacpp_pipeline.config.choose import CONFIGS, Choice, choose
from llamacpp_pipeline.config.load import load
from llamacpp_pipeline.errors import UsageError

RECIPES = sorted(path.name for path in CONFIGS.glob("*.yaml"))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_anything_it_is_the_demo() -> None:
    assert choose(None, None) == Choice(path=CONFIGS / "demo.yaml")


def test_a_file_that_is_named_is_taken() -> None:
    assert choose(None, Path("my.yaml")) == Choice(path=Path("my.yaml"))


def test_a_file_and_a_model_are_that_file_with_that_model() -> None:
    expected = Choice(path=Path("my.yaml"), model={"repo": "a/b"})

    assert choose("a/b", Path("my.yaml")) == expected


@pytest.mark.parametrize(
    "model",
    [
        pytest.param("unsloth/Qwen3.5-0.8B", id="its-model"),
        pytest.param("Qwen/Qwen3.5-0.8B", id="the-base-of-its-model"),
    ],
)
def test_a_hub_id_finds_its_recipe(model: str) -> None:
    assert choose(model, None) == Choice(path=CONFIGS / "Qwen3.5-0.8B.yaml")
    assert load(model=model).config.model.repo == "unsloth/Qwen3.5-0.8B"


@pytest.mark.parametrize(
    "model",
    [
        pytest.param("somebody/Qwen3.5-9B", id="same-name-by-somebody-else"),
        pytest.param("org/Unheard-Of", id="no-recipe"),
    ],
)
def test_any_other_hub_id_gets_the_defaults(model: str) -> None:
    assert choose(model, None) == Choice(path=CONFIGS / "defaults.yaml", model={"repo": model})
    assert load(model=model).config.model.repo == model


def test_a_folder_gets_the_defaults_and_is_named_after_itself(folder: Path) -> None:
    (folder / "tunes" / "My Model v2").mkdir(parents=True)

    found = load(model="tunes/My Model v2")

    assert found.source == CONFIGS / "defaults.yaml"
    assert found.config.model.name == "My-Model-v2"
    assert found.file("model.path") == Path("tunes/My Model v2")


def test_a_folder_comes_before_a_hub_id_of_that_name(folder: Path) -> None:
    (folder / "Qwen" / "Qwen3.5-9B").mkdir(parents=True)

    assert choose("Qwen/Qwen3.5-9B", None).model == {"path": "Qwen/Qwen3.5-9B"}


def test_another_model_drops_what_the_card_says_of_the_first(folder: Path) -> None:
    text = (CONFIGS / "Qwen3.5-0.8B.yaml").read_text(encoding="utf-8")
    (folder / "a.yaml").write_text(
        text.replace("extends: defaults.yaml", f"extends: {CONFIGS / 'defaults.yaml'}"),
        encoding="utf-8",
    )

    config = load(folder / "a.yaml", model="a/b").config

    assert (config.model.repo, config.card.base_model) == ("a/b", None)
    assert len(config.card.compare) == 3


def test_a_word_that_is_neither_names_what_may_be_meant() -> None:
    with pytest.raises(UsageError, match=r"did you mean Qwen/Qwen3\.5-9B") as caught:
        choose("Qwen3.5-9B", None)

    assert (
        caught.value.hint == "name a folder with config.json and safetensors, or organisation/model"
    )


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name != "defaults.yaml"])
def test_every_recipe_loads(recipe: str) -> None:
    assert load(CONFIGS / recipe).config.variants


def test_the_recipe_of_the_selective_card_does_what_its_page_says() -> None:
    config = load(CONFIGS / "Qwen3.5-0.8B.yaml").config
    by_label = {variant.label: variant for variant in config.variants}

    assert (config.calibration, config.convert.outtype) == (None, "auto")
    assert config.imatrix is not None
    assert config.imatrix.hub is not None
    assert config.imatrix.hub.file == "imatrix_unsloth.gguf_file"
    for ftype in ("Q4_K_M", "Q5_K_M", "Q6_K"):
        assert by_label[ftype].tensor_types == {}
        assert by_label[f"{ftype}-selective"].ftype == ftype
        assert by_label[f"{ftype}-selective"].tensor_types == {
            r".*\.attn_gate\.weight$": "q8_0",
            r".*\.attn_qkv\.weight$": "q8_0",
            r".*\.ssm_out\.weight$": "q8_0",
        }
    assert [(c.against, c.against_label, c.variant_label) for c in config.card.compare] == [
        (ftype, "Unsloth", "this") for ftype in ("Q4_K_M", "Q5_K_M", "Q6_K")
    ]


def test_the_demo_has_the_same_shape_of_recipe() -> None:
    config = load().config
    selective = next(v for v in config.variants if v.label == "Q4_K_M-selective")

    assert set(selective.tensor_types.values()) == {"q8_0"}
    assert config.card.compare[0].against == "Q4_K_M"
