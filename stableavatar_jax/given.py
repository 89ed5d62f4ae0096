"""Options that were given, where others would take their place in silence."""

import dataclasses
import typing
from collections.abc import Iterator, Sequence
from typing import Any


def check_given(value: Any, argv: Sequence[str]) -> None:
    """Let each group of options that has a `refuse` look at those of its own in the arguments, texts by name.

    Raises Mistake where it does.
    """
    given = {}
    for argument, after in zip(argv, [*argv, ""][1:], strict=True):
        name, equal, text = argument.partition("=")
        given[name.replace("_", "-")] = text if equal else after
    for prefix, group in _groups(value, "--"):
        if hasattr(group, "refuse"):
            own = {name.removeprefix(prefix): text for name, text in given.items() if name.startswith(prefix)}
            group.refuse({name.replace("-", "_"): text for name, text in own.items()})


def _groups(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """The groups of options in a value, with what stands before their names."""
    yield prefix, value
    hints = typing.get_type_hints(type(value), include_extras=True)
    for field in dataclasses.fields(value):
        if dataclasses.is_dataclass(each := getattr(value, field.name)):
            flat = any(getattr(mark, "name", None) == "" for mark in getattr(hints[field.name], "__metadata__", ()))
            yield from _groups(each, prefix if flat else f"{prefix}{field.name.replace('_', '-')}.")
