"""Short forms of a variant written out: `- Q4_K_M`, and ladders such as `- {bpw: [3.5, 4.5]}`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from llamacpp_pipeline.config.nodes import Node
from llamacpp_pipeline.errors import ConfigError

RUNGS = ("bpw", "size", "match", "kld")  # may have a list: one variant for each value of it


def with_full_recipes(tree: Node) -> Node:
    """The tree with every variant as a mapping of its own.

    Raises:
        ConfigError: where a ladder has another number of names than of values.

    """
    variants = tree.child("variants")
    if variants is None or not isinstance(variants.value, tuple):
        return tree
    items = tuple(item for variant in variants.value for item in written_out(variant))
    assert isinstance(tree.value, Mapping)  # noqa: S101  it has a child
    return replace(tree, value={**tree.value, "variants": replace(variants, value=items)})


def written_out(variant: Node) -> tuple[Node, ...]:
    """One variant, or those of a ladder."""
    if isinstance(variant.value, str):
        return (replace(variant, value={"ftype": variant}, text=None),)
    if not isinstance(variant.value, Mapping):
        return (variant,)
    said = variant.value
    rungs = [key for key in RUNGS if key in said and isinstance(said[key].value, tuple)]
    if len(rungs) != 1 or not said[rungs[0]].value:
        return (variant,)
    values = said[rungs[0]].value
    assert isinstance(values, tuple)  # noqa: S101  as chosen above
    shared = {key: node for key, node in said.items() if key not in (rungs[0], "name")}
    names = names_of(variant, said.get("name"), key=rungs[0], n_values=len(values))
    return tuple(
        replace(variant, value={**shared, rungs[0]: keyed(value, said[rungs[0]]), **name})
        for value, name in zip(values, names, strict=True)
    )


def keyed(value: Node, rung: Node) -> Node:
    """A value of a list, under the key that the list stood under."""
    return replace(value, key_origin=rung.key_origin)


def names_of(
    variant: Node, name: Node | None, *, key: str, n_values: int
) -> tuple[Mapping[str, Node], ...]:
    """The names of a ladder's variants: none, or as many as it has values."""
    if name is None:
        return ({},) * n_values
    if not isinstance(name.value, tuple):
        return ({"name": name},) * n_values
    if len(name.value) != n_values:
        raise ConfigError(
            f"a ladder has {n_values} values of {key} and {len(name.value)} names",
            evidence=(variant.origin.where,),
            hint="give as many names as values, in the same order, or none",
        )
    return tuple({"name": keyed(one, name)} for one in name.value)
