"""Writes docs/options.md, the reference of all options of all commands, from the code: `python docs/options.py`."""

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import stableavatar_jax
from stableavatar_jax.convert import commands as convert
from stableavatar_jax.data import __main__ as data
from stableavatar_jax.demo import __main__ as demo
from stableavatar_jax.evaluation import __main__ as evaluation
from stableavatar_jax.options import groups
from stableavatar_jax.page.__main__ import Page
from stableavatar_jax.plan import __main__ as plan
from stableavatar_jax.sampling.calibrate import Calibrate
from stableavatar_jax.sampling.config import SampleConfig
from stableavatar_jax.training.parts.configs import CONFIGS
from stableavatar_jax.world import __main__ as world

HERE = f"{Path(stableavatar_jax.__file__).parents[1]}/"
"""What the paths of files of the package begin with."""
PAGE = Path(__file__).with_suffix(".md")
ROOT = PAGE.resolve().parents[1]
ABOUT = """# All options of all commands

`python docs/options.py` writes this page from the code; a test compares the two. `COMMAND --help` says the same in a
terminal. An option without a default is off, or says what it does without one. A preset (`--config`,
[presets.md](presets.md)) changes defaults.
"""
PROGRAMS: dict[str, type[Any] | Mapping[str, type[Any]]] = {
    "python sample.py": SampleConfig,
    "python -m stableavatar_jax.sampling calibrate": Calibrate,
    "python -m stableavatar_jax.page": Page,
    "python train.py --part": CONFIGS,
    "python -m stableavatar_jax.data": data.COMMANDS,
    "python -m convert": convert.COMMANDS,
    "python -m stableavatar_jax.evaluation": evaluation.COMMANDS,
    "python -m stableavatar_jax.plan": plan.COMMANDS,
    "python -m stableavatar_jax.demo": demo.COMMANDS,
    "python -m stableavatar_jax.world": world.COMMANDS,
}


ALIKE = {
    "python train.py --part": "python train.py --part dit",
    "python -m stableavatar_jax.sampling calibrate": "python sample.py",
}
"""Programs most of whose options another command lists."""


def page() -> str:
    """The whole page. Where commands share most options, the first lists them all, others theirs."""
    commands = {}
    for program, known in PROGRAMS.items():
        named = known if isinstance(known, Mapping) else {"": known}
        commands |= {f"{program} {name}".strip(): (cls, program) for name, cls in named.items()}
    contents = [f"* [`{name}`](#{_anchor(name)}): {_first(cls)}" for name, (cls, _) in commands.items()]
    sections = []
    seen: dict[str, set[tuple[str, str]]] = {}
    for name, (cls, program) in commands.items():
        family = ALIKE.get(program, name)
        others = seen.setdefault(family, set())
        note = f" Options that `{family}` has too are listed there." if others else ""
        sections.append(f"## `{name}`\n\n{_first(cls)}{note}\n")
        for about, options in groups(cls):
            rows = [_row(option, text) for option, text in options if (option, text) not in others]
            if rows:
                sections.append("\n".join([*([f"{about}\n"] if about else []), "| option | default | |",
                                           "| --- | --- | --- |", *rows, ""]))  # fmt: skip
            others |= set(options)
    return "\n".join([ABOUT, *contents, "", *sections]).replace(f"{ROOT}/", "")  # wherever the checkout lies


def _first(cls: type[Any]) -> str:
    """The first paragraph about a command."""
    return " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())


def _anchor(title: str) -> str:
    """What GitHub calls the place of a heading."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def _row(option: str, text: str) -> str:
    found = re.search(r" ?\(default: (.*)\)$", text)
    default = f"`{found[1].removeprefix(HERE)}`" if found else ""
    text = text[: found.start()] if found else text
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in (f"`{option}`", default, text)) + " |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
