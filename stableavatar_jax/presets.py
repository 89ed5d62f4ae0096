"""Presets: Python files that define a `config`, ours by name and others by path."""

import dataclasses
import difflib
import importlib
import importlib.util
import pkgutil
import runpy
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from stableavatar_jax.errors import Mistake

T = TypeVar("T")

OURS = "stableavatar_jax.configs"
"""The package of the presets that come with this one, in the folder `configs/` of a checkout."""

FromPreset = Annotated[T, tyro.conf.Fixed, tyro.conf.Suppress]
"""`model: FromPreset[AvatarConfig]` comes from a preset or a checkpoint as a whole, and has no options of its own."""
Flat = Annotated[T, tyro.conf.arg(name="")]
"""`frame: Flat[Frame]` is a group of options without a name of its own: `--height`, and not `--frame.height`."""


def load_preset(preset: Path | str, cls: type[T] | None = None) -> T:
    """The `config` of a preset: `avatar_1b` is one of ours, anything with a folder or `.py` in it a file that is run.

    With `cls`: a value of that class (or of one that it extends, whose fields it takes), or of the one field of that
    class in it. Raises Mistake.
    """
    value = _config(preset)
    if cls is None or isinstance(value, cls):
        return value
    if issubclass(cls, type(value)) and dataclasses.is_dataclass(value):
        return cls(**{field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    fields = dataclasses.fields(value) if dataclasses.is_dataclass(value) else ()
    inner = [getattr(value, field.name) for field in fields if isinstance(getattr(value, field.name), cls)]
    if len(inner) != 1:
        raise Mistake(f"{preset}: its config is of type {type(value).__name__}, {cls.__name__} is needed")
    return inner[0]


def _config(preset: Path | str) -> Any:
    path = Path(preset)
    try:
        if path.is_file():
            names = vars(_import(path.stem)) if path.resolve().parent in _folders() else runpy.run_path(str(path))
        elif str(preset) in _names():
            names = vars(_import(str(preset)))
        else:
            raise Mistake(f"{preset}: no such preset; {_nearest(path)}")
    except Mistake as error:  # of a value that a config refuses, or of a preset that is not there
        raise error if str(error).startswith(str(preset)) else Mistake(f"{preset}: {error}") from None
    except (Exception, SystemExit) as error:  # of any code of the user's
        raise Mistake(f"{preset}: running it failed ({type(error).__name__}: {error})") from error
    if "config" not in names:
        raise Mistake(f"{preset}: it defines no `config`; a preset is a file with `config = ...Config(...)`")
    return names["config"]


def _nearest(path: Path) -> str:
    """What may have been meant: a file beside it, or one of ours."""
    by_path = str(path.parent) != "." or path.suffix
    if by_path and (near := difflib.get_close_matches(path.stem, [each.stem for each in path.parent.glob("*.py")], 1)):
        return f"did you mean {path.with_name(near[0])}.py?"
    if near := difflib.get_close_matches(path.stem, _names(), 1):
        return f"did you mean {near[0]}?"
    return f"ours are {', '.join(_names())}; others are given by path, as in presets/mine.py"


def _names() -> list[str]:
    found = {module.name for module in pkgutil.iter_modules(map(str, _folders()))}
    return sorted(found - {"models"})  # the sizes that presets share


def _folders() -> list[Path]:
    found = importlib.util.find_spec(OURS)
    return [Path(folder).resolve() for folder in (found.submodule_search_locations or [])] if found else []


def _import(name: str) -> Any:
    return importlib.import_module(f"{OURS}.{name}")
