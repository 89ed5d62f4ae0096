"""Configs: frozen dataclasses, written as JSON and read back strictly."""

import dataclasses
import difflib
import json
import types
import typing
from pathlib import Path
from typing import Any, Literal, TypeVar

from stableavatar_jax.errors import Mistake, explained
from stableavatar_jax.whole import check_folder, whole

T = TypeVar("T")

FILE = "config.json"
UNKNOWN = "unknown value"
"""The reason of a Mistake about a value that is none of those there are."""


def to_json(value: Any) -> Any:
    """A config as plain JSON values; tuples become lists, paths strings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    return str(value) if isinstance(value, Path) else value


def from_json(cls: type[T], plain: Any, *, file: Path | str = "config", key: str = "") -> T:
    """The inverse of `to_json`. A field may be absent where the class has a default. Nothing else may differ:
    an unknown key or a value of another type raises Mistake with the file, the key's path and the nearest key.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    required = [name for name, field in fields.items()
                if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING]  # fmt: skip
    if not isinstance(plain, dict):
        advice = "" if required else "; {} stands for its defaults"
        needed = f"an object with the fields of {cls.__name__} is needed{advice}"
        raise Mistake(f"{_at(file, key)} is {_show(plain)}, {needed}")
    kinds = typing.get_type_hints(cls)
    for name in plain.keys() - fields.keys():
        near = difflib.get_close_matches(name, fields, 1, 0.5)
        advice = f"did you mean {_join(key, near[0])}?" if near else f"the keys are {', '.join(fields)}"
        raise Mistake(f"{_at(file, _join(key, name))} is not a key of {cls.__name__}; {advice}")
    for name in required:
        if name not in plain:
            raise Mistake(f"{_at(file, _join(key, name))} is missing and has no default")
    values = {name: read_value(kinds[name], value, file, _join(key, name)) for name, value in plain.items()}
    try:
        return cls(**values)
    except ValueError as error:
        raise Mistake(f"{_at(file, key)}: {error}") from error


def read_value(kind: Any, value: Any, file: Path | str, key: str) -> Any:
    """One value of a type hint. Raises Mistake for one of another type, or that is none of a Literal's (`UNKNOWN`)."""
    origin, options = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return from_json(kind, value, file=file, key=key)  # type: ignore[arg-type]
    if origin in (typing.Union, types.UnionType):
        return _read_union(options, value, file, key)
    if origin is Literal:
        if any(value == option and type(value) is type(option) for option in options):
            return value
        near = difflib.get_close_matches(str(value), map(str, options), 1)
        advice = f"; did you mean {near[0]}?" if near else ""
        known = ", ".join(map(str, options))
        raise Mistake(f"{_at(file, key)} is {_show(value)}, one of {known} is needed{advice}", UNKNOWN)
    if origin in (tuple, list) and isinstance(value, list):
        if origin is tuple and options[-1:] != (Ellipsis,) and len(options) != len(value):
            raise Mistake(f"{_at(file, key)} has {len(value)} values, {len(options)} are needed")
        each = options if origin is tuple and Ellipsis not in options else options[:1] * len(value)
        return origin(read_value(k, v, file, f"{key}[{i}]") for i, (k, v) in enumerate(zip(each, value, strict=True)))
    if origin is dict and isinstance(value, dict):
        return {name: read_value(options[1], item, file, _join(key, name)) for name, item in value.items()}
    if kind is float and type(value) is int:
        return float(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is Any or kind in (bool, int, float, str, types.NoneType) and type(value) is kind:
        return value
    raise Mistake(f"{_at(file, key)} is {_show(value)}, {_name(kind)} is needed")


def _read_union(options: tuple[Any, ...], value: Any, file: Path | str, key: str) -> Any:
    if value is None and types.NoneType in options:
        return None
    errors = []
    for option in options:
        if option is not types.NoneType:
            try:
                return read_value(option, value, file, key)
            except Mistake as error:
                errors.append(error)
    if len(errors) == 1 and value is not None:
        raise errors[0]
    raise Mistake(f"{_at(file, key)} is {_show(value)}, {' or '.join(map(_name, options))} is needed")


def write_config(folder: Path, config: Any, name: str = FILE) -> None:
    """Write `config.json`, or another file of that form, of a run or a model directory, whole or not at all."""
    text = json.dumps(to_json(config), indent=2, allow_nan=False) + "\n"
    check_folder(folder)
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with whole(folder / name) as partial:
        partial.write_text(text)


def read_config(folder: Path, cls: type[T], name: str = FILE) -> T:
    """The config that a run or a model directory was written with; raises Mistake."""
    file = folder / name
    try:
        plain = json.loads(file.read_text(), object_pairs_hook=_unique)
    except FileNotFoundError:
        advice = "give a model directory: `python -m convert import` makes one"
        raise Mistake(f"{file}: no such file; {advice}") from None
    except OSError as error:
        raise Mistake(f"{file}: cannot be read ({error.strerror}); give a model directory") from None
    except (ValueError, RecursionError) as error:
        raise Mistake(f"{file}: not valid JSON ({error}); write it again") from None
    return from_json(cls, plain, file=file)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Mistake(f"a key appears twice in one object of {', '.join(found)}")
    return found


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _at(file: Path | str, key: str) -> str:
    return f"{file}: {key}" if key else str(file)


def _show(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _name(kind: Any) -> str:
    if kind is types.NoneType:
        return "null"
    return str(getattr(kind, "__name__", kind)) if not typing.get_args(kind) else str(kind).replace("typing.", "")
