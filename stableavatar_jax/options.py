"""Options of a command from its arguments, their --help, and what is said of a mistyped one.

The options of a command are the fields of a frozen dataclass, read by tyro; the line under a field is its help. A help
text with "(required)" in it is of an option that stands first.
"""

import argparse
import contextlib
import dataclasses
import difflib
import inspect
import io
import math
import re
import shutil
import textwrap
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import tyro

from stableavatar_jax.errors import Mistake
from stableavatar_jax.given import check_given
from stableavatar_jax.presets import load_preset

T = TypeVar("T")

ELSEWHERE = {
    "audio": "audio-path driving-audio input-audio driven-audio sound wav speech",
    "audio-scale": "audio-cfg audio-guidance audio-guide-scale sample-audio-guide-scale",
    "batch": "batch-size train-batch-size",
    "checkpoint": "ckpt ckpt-dir ckpt-path model model-dir model-path pretrained pretrained-model weights "
    "transformer-path pretrained-model-name-or-path checkpoint-dir checkpoint-path base-model",
    "clips": "dataset train-data-dir data",
    "clip": "max-grad-norm grad-clip gradient-clip",
    "data": "dataset data-dir train-data-dir train-data-path input-dir records clips",
    "dtype": "precision mixed-precision torch-dtype weight-dtype bf16 fp16",
    "fps": "frame-rate framerate",
    "accumulate": "gradient-accumulation-steps grad-accum",
    "height": "size resolution video-height",
    "image": "image-path input-image ref-image reference-image reference img img-path picture face portrait",
    "learning-rate": "lr",
    "lora": "lora-path lora-weights lora-dir lora-scale",
    "negative-prompt": "neg-prompt n-prompt negative",
    "output": "out output-dir output-path output-file save-path save-dir save-file result outfile",
    "overlap": "overlap-window-length overlapping-window-length context-overlap",
    "rank": "lora-rank network-dim",
    "remat": "gradient-checkpointing activation-checkpointing",
    "run-dir": "output output-dir logdir log-dir workdir resume resume-from-checkpoint exp-dir save-dir",
    "seed": "random-seed base-seed noise-seed manual-seed",
    "shift": "flow-shift sample-shift timestep-shift time-shift",
    "solver": "scheduler sample-solver sampling-method",
    "source": "input input-dir data dataset",
    "steps": "num-inference-steps inference-steps num-steps sample-steps sampling-steps denoising-steps "
    "max-train-steps num-train-steps max-steps iterations iters epochs num-epochs",
    "text-scale": "guidance-scale cfg cfg-scale guide-scale text-guide-scale "
    "sample-text-guide-scale unconditional-guidance",
    "warmup": "lr-warmup-steps warmup-steps",
    "window": "num-frames frame-num frames video-length clip-sample-n-frames context-frames window-size",
    "workers": "num-workers dataloader-num-workers",
}
"""Our options by the last part of their names, and what other programs call them."""

PRESET = {"--config PRESET": "Preset to take all other values from: a name of ours or the path of a Python file."}
"""The option of commands whose values a preset holds, with its help."""


def parse_options(cls: type[T], argv: Sequence[str], *, program: str, default: T | None = None,
                  more: Mapping[str, str] | None = None) -> T:  # fmt: skip
    """A value of `cls` from arguments; prints the help and ends where that is asked for. Raises Mistake.

    `--config PRESET` takes the defaults from a preset, where the class has a field that comes from one. `more` are
    options that were taken from the arguments before, with their help.
    """
    rest, more = list(argv), dict(more or {})
    if _has_preset(cls):
        more |= PRESET
        if (preset := take(rest, "--config")) is not None:
            default = load_preset(preset, cls)
    parser: Any = tyro.extras.get_parser(cls, default=default, prog=program)
    parser.description = wrapped(cls.__doc__ or "").replace("%", "%%")
    if {"-h", "--help"} & set(rest):
        print(_help(parser, program, more))
        raise SystemExit(0)
    _check_names(parser, rest, program)
    with _as_mistakes(program):
        value = tyro.cli(cls, args=rest, default=default, prog=program)
    _check_finite(value, default)
    check_given(value, rest)
    return value


def groups(cls: type[Any]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """What --help lists: a line about each group of options, empty for the first, and its options with their help."""
    parser: Any = tyro.extras.get_parser(cls)
    _tidy(parser, PRESET if _has_preset(cls) else {})
    for group in parser._action_groups:
        hidden = (argparse.SUPPRESS, "show this help message and exit")
        shown = [action for action in group._group_actions if action.help not in hidden]
        options = [
            (" ".join([", ".join(each.option_strings), each.metavar or ""]).strip(), " ".join(each.help.split()))
            for each in shown
        ]
        if options:
            yield " ".join((group.description or "").split()), options


def peek(argv: Sequence[str], option: str) -> str | None:
    """The value of `option VALUE` or `option=VALUE` in the arguments, which stay as they are; None without one."""
    for argument, after in zip(argv, [*argv[1:], None], strict=True):
        if argument == option:
            return after
        if argument.startswith(f"{option}="):
            return argument.removeprefix(f"{option}=")
    return None


def take(argv: list[str], option: str) -> str | None:
    """Remove `option VALUE` or `option=VALUE` from the arguments and return the value; Mistake without one."""
    for i, argument in enumerate(argv):
        if argument == option:
            if i + 1 == len(argv):
                raise Mistake(f"{option} needs a value after it")
            value = argv[i + 1]
            del argv[i : i + 2]
            return value
        if argument.startswith(f"{option}="):
            del argv[i]
            return argument.removeprefix(f"{option}=")
    return None


def nearest(name: str, known: Sequence[str]) -> str | None:
    """The one of the known options (or commands) that a mistyped or foreign name may stand for."""
    word = name.lstrip("-").replace("_", "-")
    by_last: dict[str, str] = {}
    for option in sorted(known, key=len, reverse=True):  # of options that end alike, the shortest
        by_last[option.lstrip("-").rpartition(".")[2]] = option
    for ours, theirs in ELSEWHERE.items():
        if word in theirs.split() and ours in by_last:
            return by_last[ours]
    last = word.rpartition(".")[2]
    near = difflib.get_close_matches(word, [option.lstrip("-") for option in known], 1, 0.7)
    if near:
        return next(option for option in known if option.lstrip("-") == near[0])
    near = difflib.get_close_matches(last, by_last, 1, 0.7) or [each for each in by_last if last.endswith(f"-{each}")]
    return by_last[near[0]] if near else None


def wrapped(text: str) -> str:
    """Prose filled to the width of the terminal; commands, which are to be copied, as they stand."""
    width = min(shutil.get_terminal_size().columns, 100) - 1
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(text))
    filled = [
        textwrap.indent(textwrap.dedent(each), "    ") if re.match(r"\s|python |stableavatar-", each)
        else textwrap.fill(each, width) for each in paragraphs
    ]  # fmt: skip
    return "\n\n".join(filled)


def _check_names(parser: argparse.ArgumentParser, argv: Sequence[str], program: str) -> None:
    """Raise Mistake, with the nearest of ours, for an option that is none."""
    known = [option for action in parser._actions for option in action.option_strings]
    for argument in argv:
        name = argument.partition("=")[0].replace("_", "-")
        if name == "--":
            return
        if re.match("--?[^-0-9.]", name) and name not in known:
            near = nearest(name, [option for option in known if not option.startswith("--no-")])
            advice = f"did you mean {near}?" if near else f"see {program} --help"
            raise Mistake(f"{argument.partition('=')[0]} is not an option; {advice}")


@contextlib.contextmanager
def _as_mistakes(program: str) -> Iterator[None]:
    """What tyro prints in a box before it ends the program, as a Mistake of one line."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            yield
    except SystemExit as end:
        if not end.code:
            raise
        lines = [line.strip(" │") for line in printed.getvalue().splitlines()]
        body = [line for line in lines if line and line[0] not in "╭╰"]
        rule = next((i for i, line in enumerate(body) if line[0] == "─"), len(body))
        text = " ".join(body[:rule])
        for found, said in (
            (r"^(Argument |Error parsing )", ""),
            (r"invalid literal for int\(\) with base 10: ('.*')", r"\1 is no whole number"),
            (r"could not convert string to float: ('.*')", r"\1 is no number"),
        ):
            text = re.sub(found, said, text)
        raise Mistake(f"{text[:1].lower()}{text[1:]}; see {program} --help") from None


def _check_finite(value: Any, default: Any, key: str = "") -> None:
    """Raise Mistake for a number that is NaN or infinite, unless it is so by default."""
    for field in dataclasses.fields(value):
        each, usual = getattr(value, field.name), getattr(default, field.name, field.default)
        name = f"{key}{field.name.replace('_', '-')}"
        if dataclasses.is_dataclass(each):
            _check_finite(each, usual, f"{name}.")
        for number in each if isinstance(each, tuple) else (each,):
            if isinstance(number, float) and not math.isfinite(number) and each != usual:
                raise Mistake(f"--{name} is {number}, a finite number is needed")


def _has_preset(cls: type[Any]) -> bool:
    """Whether a field is `FromPreset`."""
    hints = typing.get_type_hints(cls, include_extras=True).values()
    return any(tyro.conf.Fixed in getattr(hint, "__metadata__", ()) for hint in hints)


def _help(parser: argparse.ArgumentParser, program: str, more: Mapping[str, str]) -> str:
    """The help as argparse lays it out, with its examples as they stand and required options first."""
    parser.usage = f"{program} [options]"
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    _tidy(parser, more)
    return argparse.ArgumentParser.format_help(parser).rstrip()


def _tidy(parser: argparse.ArgumentParser, more: Mapping[str, str]) -> None:
    for action in parser._actions:
        action.help = _tidied(action.help or "")
        if isinstance(action.metavar, str):
            action.metavar = action.metavar.replace("{None}|", "").replace("{None,", "{")
    for option, text in more.items():
        name, _, metavar = option.partition(" ")
        parser.add_argument(name, metavar=metavar, help=text)
    added = [name.partition(" ")[0] for name in more]
    for group in parser._action_groups:
        group.description = group.description and wrapped(group.description)
        group._group_actions.sort(key=lambda action: _rank(action, added))


def _tidied(text: str) -> str:
    if "==SUPPRESS==" in text:
        return argparse.SUPPRESS
    text = re.sub(r" ?\(default: (None|False|)\)$", "", text)
    text = re.sub(r"(\(required\).*) \(required\)$", r"\1", text)
    return re.sub(r"\(default: (?!/)(.{40}).{20,}\)$", r"(default: \1...)", text, flags=re.DOTALL)  # but paths


def _rank(action: Any, added: Sequence[str]) -> int:
    if "-h" in action.option_strings:
        return 3
    if action.required or "(required" in (action.help or ""):
        return 0
    return 1 if set(action.option_strings) & set(added) else 2
