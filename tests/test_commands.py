"""Commands: options from arguments and presets, a screen for each mistake, and an end that leaves nothing behind."""

import dataclasses
import errno
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from stableavatar_jax import commands
from stableavatar_jax.commands import main
from stableavatar_jax.errors import Mistake
from stableavatar_jax.options import nearest, parse_options
from stableavatar_jax.presets import FromPreset, load_preset


@dataclass(frozen=True, kw_only=True)
class Model:
    """A network."""

    dim: int = 12
    """Width."""


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Windows."""

    overlap: int = 10
    """Frames that two windows share."""


@dataclass(frozen=True, kw_only=True)
class Make:
    """Make something.

    python make.py --output out.mp4
    """

    model: FromPreset[Model] = field(default_factory=Model)
    """The network."""
    text: str = "a"
    """What it says (%)."""
    output: Path
    """Where it goes."""
    steps: int = 50
    """Steps."""
    learning_rate: float = 1e-3
    """Rate."""
    seed: int | None = None
    """None means a new one."""
    wish: Path | None = None
    """What it needs, though it has a default (required)."""
    guidance: tuple[float, ...] = ()
    """Scales."""
    windows: Windows = field(default_factory=Windows)
    """Windows."""

    def __post_init__(self):
        if self.steps < 1:
            raise Mistake(f"steps is {self.steps}, at least 1 is needed")

    def run(self):
        match self.text:
            case "mistake":
                raise Mistake("face.png: no such file")
            case "bug":
                raise ValueError("a bug")
            case "interrupt":
                raise KeyboardInterrupt
            case "gate":
                return 3
            case _:
                return print(f"{self.text} {self.steps}")


@dataclass(frozen=True)
class Look:
    """Look at something."""

    def run(self):
        print("looked")


BOTH = {"make": Make, "look": Look}
OUT = ["--output", "x"]


def run(*arguments, which=Make, **options):
    return main(which, [*arguments], **options)


def test_a_command_runs(capsys):
    assert run(*OUT, "--steps", "3") == 0
    assert capsys.readouterr().out == "a 3\n"
    assert run("look", which=BOTH) == 0 and run("make", *OUT, "--text", "gate", which=BOTH) == 3
    assert run("--part", "look", which=BOTH, by="--part", default="make") == 0
    assert run(*OUT, "--text", "gate", which=BOTH, by="--part", default="make") == 3


@pytest.mark.parametrize(("text", "status", "said"), [("mistake", 1, "error: face.png: no such file\n"),
                                                      ("interrupt", 130, "stopped\n")])  # fmt: skip
def test_a_mistake_and_an_interrupt_are_one_line(capsys, text, status, said):
    assert run(*OUT, "--text", text) == status
    assert capsys.readouterr() == ("", said)


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ValueError, match="a bug"):
        run(*OUT, "--text", "bug")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--sed", "3"], "--sed is not an option; did you mean --seed?"),
        (["--zzz"], "--zzz is not an option; see .* --help"),
        (["--seed", "x"], "--seed"),
        (["--steps", "3.5"], "--steps: '3.5' is no whole number"),
        (["--learning-rate", "x"], "--learning-rate: 'x' is no number"),
        (["--learning-rate", "nan"], "--learning-rate is nan, a finite number is needed"),
        (["--guidance", "1", "inf"], "--guidance is inf, a finite number is needed"),
        (["-sed", "3"], "-sed is not an option; did you mean --seed"),
        (["--steps"], "--steps: expected 1 argument"),
        (["--steps", "0"], "steps is 0, at least 1 is needed"),
        (["3"], "unrecognized arguments: 3"),
        (["--model.dim", "3"], "--model.dim is not an option"),
        (["--windows.overlp", "3"], "did you mean --windows.overlap"),
        (["--overlap", "3"], "did you mean --windows.overlap"),
        (["--lr", "3"], "did you mean --learning-rate"),
        (["--num-inference-steps", "3"], "did you mean --steps"),
        (["--num_inference_steps=3"], "--num_inference_steps is not an option; did you mean --steps"),
        (["--config"], "--config needs a value"),
        (["--config", "absent.py"], "absent.py: no such preset"),
    ],
)
def test_mistakes_in_arguments(capsys, argv, said):
    assert run(*OUT, *argv) == 2
    out, err = capsys.readouterr()
    assert out == "" and re.search(f"^error: .*{said}", err) and err.count("\n") == 1
    assert run("make", *OUT, *argv, which=BOTH) == 2 and capsys.readouterr().err.startswith("error: ")


def test_what_is_missing_and_what_is_unknown(capsys):
    for argv, which, said in (
        ([], Make, "required: --output"),
        (["mke"], BOTH, "command 'mke' is unknown; did you mean make"),
        (["zzz"], BOTH, "there are make, look"),
    ):
        assert run(*argv, which=which) == 2 and said in capsys.readouterr().err
    assert run(*OUT, "--part", "zzz", which=BOTH, by="--part", default="make") == 2
    assert "--part 'zzz' is unknown; there are make, look" in capsys.readouterr().err


def test_help_lists_every_option_and_the_required_ones_first(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert run("--help") == 0
    shown = capsys.readouterr().out
    assert "\n    python make.py --output out.mp4\n" in shown
    names = re.findall(r"(?m)^  (--[\w.-]+)", shown)
    assert names[:3] == ["--output", "--wish", "--config"] and {"--seed", "--windows.overlap"} < set(names)
    assert "(required)" in shown and "None means a new one" in shown and "(%)" in shown and "(default: 50)" in shown
    assert "--model" not in shown and "{None}" not in shown and "SUPPRESS" not in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_the_overview_lists_the_commands(capsys):
    for argv, status in ((["--help"], 0), ([], 2)):
        assert run(*argv, which=BOTH, about="Two commands.") == status
        shown = capsys.readouterr().out
        assert "Two commands." in shown and "make  Make something." in shown and "look  Look at something." in shown
    assert run("--help", which=BOTH, by="--part", default="make") == 0
    assert "--part {make,look}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("--lr", "--optimizer.learning-rate"), ("--guidance-scale", "--text-scale"), ("--num-frames", "--windows.window"),
     ("--ckpt", "--checkpoint"), ("--sampling-steps", "--steps"), ("--my-steps", "--steps"), ("--zzz", None),
     ("--pretrained_model_name_or_path", "--checkpoint"), ("--learning-rate", "--optimizer.learning-rate"),
     ("--window", "--windows.window")],
)  # fmt: skip
def test_names_of_other_programs(theirs, ours):
    known = ["--optimizer.learning-rate", "--text-scale", "--windows.window", "--checkpoint", "--steps", "--w1"]
    assert nearest(theirs, known) == ours


def preset(folder, text):
    path = folder / "tiny.py"
    path.write_text(f"from {__name__} import Make, Model\nfrom pathlib import Path\n{text}")
    return path


def test_presets(tmp_path, capsys):
    path = preset(tmp_path, "config = Make(output=Path('x'), steps=7, model=Model(dim=2))")
    assert load_preset(path) == Make(output=Path("x"), steps=7, model=Model(dim=2))
    assert load_preset(path, Model) == Model(dim=2)
    for argv in (["--config", str(path), "--text", "b"], ["--text", "b", f"--config={path}"]):
        assert parse_options(Make, argv, program="make") == dataclasses.replace(load_preset(path), text="b")
    assert run("--config", str(path)) == 0 and capsys.readouterr().out == "a 7\n"
    assert type(load_preset("tiny")).__name__ == "SampleConfig"
    assert load_preset("tiny") == load_preset(Path(__file__).parents[1] / "configs" / "tiny.py")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("confg = 1", "defines no `config`"),
        ("config = 3", "of type int, Make is needed"),
        ("config = Make(sed=3)", "running it failed .TypeError.*sed"),
        ("config = (", "running it failed .SyntaxError"),
    ],
)
def test_presets_with_mistakes(tmp_path, text, message):
    with pytest.raises(Mistake, match=message):
        load_preset(preset(tmp_path, text), Make)
    for wrong, said in (
        (tmp_path / "tny.py", "no such preset; did you mean .*/tiny.py"),
        ("tny", "no such preset; did you mean tiny"),
        ("zzzzzz", "ours are .*tiny"),
        ("configs/zzzzzz.py", "ours are .*tiny"),
        (tmp_path, "no such preset"),
    ):
        with pytest.raises(Mistake, match=said):
            load_preset(wrong)


SLOW = """
import sys, time
from dataclasses import dataclass
from pathlib import Path
from stableavatar_jax.commands import main
from stableavatar_jax.whole import whole

@dataclass(frozen=True)
class Slow:
    'Write slowly.'
    output: Path
    'Where.'
    def run(self):
        with whole(self.output) as partial:
            partial.write_text("half")
            print("ready", flush=True)
            time.sleep(60)

sys.exit(main(Slow))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_leave_nothing_behind(tmp_path, number):
    # A shell that runs the tests in the background has set Ctrl-C to be ignored, and children inherit that.
    usual = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [sys.executable, "-c", f"{usual}\n{SLOW}", "--output", str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(20) == 128 + number
        assert process.stderr.read().startswith("stopped") and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_a_destructor_is_not_lost(number):
    class Gone:
        def __del__(self):
            signal.raise_signal(number)

    def run(_):
        Gone()
        time.sleep(20)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main(Make, ["--output", "x"], run=run) == 128 + number
    finally:
        signal.signal(signal.SIGINT, handler)


def test_an_ignored_signal_stays_ignored(tmp_path):
    """As nohup has it."""
    command = ["import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)", SLOW.replace("60", "1")]
    command = [sys.executable, "-c", "\n".join(command), "--output", str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        assert process.wait(20) == 0


PRINT = "import sys; from stableavatar_jax import commands; from tests.test_commands import Make; sys.exit(main(Make))"


def printing(text, **environment):
    script = PRINT.replace("sys.exit(main", "sys.exit(commands.main")
    return subprocess.Popen(
        [sys.executable, "-c", script, *OUT, "--text", text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **environment}, cwd=Path(__file__).parents[1],
    )  # fmt: skip


def test_names_that_the_terminal_cannot_show_end_no_run():
    with printing("Grüße 顔", PYTHONIOENCODING="ascii", PYTHONUTF8="0") as process:
        out, err = process.communicate()
    assert (process.returncode, err) == (0, "") and out.startswith("Gr\\xfc")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_closed_pipe_ends_quietly(unbuffered):
    with printing("x", PYTHONUNBUFFERED=unbuffered) as process:
        process.stdout.close()
        assert process.wait() == 128 + signal.SIGPIPE and process.stderr.read() == ""


def test_another_broken_pipe_is_a_bug(monkeypatch):
    monkeypatch.setattr(Make, "run", lambda _: (_ for _ in ()).throw(BrokenPipeError()))
    with pytest.raises(BrokenPipeError):
        run(*OUT)


def test_mistakes_are_answered_before_jax_is_loaded():
    """And before all else that takes a second to import."""
    script = (
        "import sys; from stableavatar_jax import commands; from tests.test_commands import Make\n"
        "status = commands.main(Make, ['--output', 'x', '--sed', '3'])\n"
        "print(status, [name for name in ('jax', 'flax', 'transformers', 'tensorflow', 'av', 'librosa')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.stdout == "2 []\n", done


def test_programs_say_how_they_are_called(monkeypatch):
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None, raising=False)
    for called, said in (("/bin/stableavatar-sample", "stableavatar-sample"), ("here/sample.py", "python sample.py")):
        monkeypatch.setattr(sys, "argv", [called])
        assert commands.program() == said


@pytest.mark.parametrize(("platform", "call"), [("cuda", "jax.numpy.ones(3)"), ("cpux,gpu", "jax.devices()")])
def test_a_platform_that_is_not_there(platform, call):
    script = (
        "import sys; from stableavatar_jax import commands; from tests.test_commands import Look\n"
        f"def run(self):\n  import jax\n  {call}\n"
        "Look.run = run\nsys.exit(commands.main(Look, []))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=Path(__file__).parents[1],
        env={**os.environ, "JAX_PLATFORMS": platform},
    )  # fmt: skip
    told = f"error: JAX_PLATFORMS={platform}: there is no such device, only cpu; unset the variable"
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith(told) and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.EACCES, "cannot be read or written (Permission denied); give yourself permission (chmod)"),
        (errno.EIO, "cannot be read or written (Input/output error); check the path and its disk"),
        (errno.ENOENT, None),
    ],
)
def test_a_file_that_the_machine_refuses_is_named_wherever_it_is_opened(monkeypatch, capsys, number, told):
    """One that is not there may be a bug of ours, and keeps its traceback."""

    def refuse(self):
        raise OSError(number, os.strerror(number), "weights/dit.safetensors")

    monkeypatch.setattr(Look, "run", refuse)
    if told is None:
        with pytest.raises(FileNotFoundError):
            commands.main(Look, [])
    else:
        assert commands.main(Look, []) == 1
        assert capsys.readouterr().err.startswith(f"error: weights/dit.safetensors: {told}")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("raise SystemExit(3)", "running it failed (SystemExit: 3)"),
        ("from stableavatar_jax.sampling.config import *\nconfig = Frame(height=5)", "height is 5, a multiple of 16"),
    ],
)
def test_a_preset_that_fails_is_named(tmp_path, text, told):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(Mistake, match=re.escape(f"{tmp_path / 'mine.py'}: {told}")):
        load_preset(tmp_path / "mine.py")
