"""The page as a user starts it: a process of its own."""

import contextlib
import os
import signal
import subprocess
import sys


@contextlib.contextmanager
def served(folder, *options):
    """The address of a page whose home and working directory are empty folders in `folder`; it ends by Ctrl-C."""
    for name in ("home", "work"):
        (folder / name).mkdir()
    own = {"HOME": str(folder / "home"), "JAX_PLATFORMS": "cpu", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "stableavatar_jax.page", *options]
    with (folder / "errors").open("w") as errors, subprocess.Popen(
        command, cwd=folder / "work", env=os.environ | own, stdout=subprocess.PIPE, stderr=errors, text=True
    ) as process:
        try:
            line = process.stdout.readline()
            assert line.startswith("the page is open at "), f"{line}{(folder / 'errors').read_text()}"
            yield line.split(" at ")[1].split()[0]
        finally:
            process.send_signal(signal.SIGINT)
            status = process.wait(240)
    assert status == 130
