"""Files and folders are there whole or not at all, are written by one process at a time, and never over an input."""

import contextlib
import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from stableavatar_jax.errors import Mistake, explained
from stableavatar_jax.locks import alone, hidden
from stableavatar_jax.whole import check_folder, check_output, check_outputs, whole

HOLD = r"""
import os, sys, time
from pathlib import Path
from stableavatar_jax.whole import whole
with whole(Path(sys.argv[1])) as partial:
    partial.write_text("half")
    os.write(1, b"ready\n")
    time.sleep(60)
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@contextlib.contextmanager
def another(path):
    """Another process that is writing `path`."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("name", ["a", "ä" * 125, "x" * 255, "10:15.mp4", "-.%d [a]*.mp4", os.fsdecode(b"\xff.mp4")])
def test_a_file_of_any_name_is_there_when_it_is_whole(tmp_path, name):
    for text in ("first", "second"):
        with whole(tmp_path / name) as partial:
            partial.write_text(text)
            assert not (tmp_path / name).exists() or (tmp_path / name).read_text() == "first"
            assert all(each.startswith(".") for each in names(tmp_path) if each != name)
        assert (tmp_path / name).read_text() == text and names(tmp_path) == [name]


def test_long_names_have_hidden_names_of_their_own():
    a, b = (hidden(Path("é" * 100 + end)) for end in "ab")
    assert a != b and len(os.fsencode(a.name)) < 200
    a.name.encode()  # no character is cut in two


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, Mistake("no")])
@pytest.mark.parametrize("folder", [False, True])
def test_nothing_is_left_after_an_error_and_what_was_there_stays(tmp_path, error, folder):
    path = tmp_path / "out"
    (path / "x" if folder else path).parent.mkdir(exist_ok=True)
    (path / "x" if folder else path).write_text("old")
    with (
        pytest.raises(type(error) if isinstance(error, Exception) else error),
        whole(path, folder=folder, replace=True) as partial,
    ):
        partial.mkdir() if folder else partial.write_text("new")
        partial.with_name(f"{partial.name}.library-tmp").write_text("a library's")
        raise error
    assert names(tmp_path) == ["out"] and (path / "x" if folder else path).read_text() == "old"


def test_a_folder_is_replaced_only_when_told(tmp_path):
    def write(text, **options):
        with whole(tmp_path / "above" / "folder", folder=True, **options) as partial:
            partial.mkdir()
            (partial / text).write_text(text)

    write("one")
    for told, advice in ((False, "pass --overwrite to replace it, or "), (None, "")):
        with pytest.raises(Mistake, match=f"exists already; {advice}choose another folder"):
            write("two", replace=told)  # None: the command has no such option
    assert names(tmp_path / "above" / "folder") == ["one"]
    write("two", replace=True)
    assert names(tmp_path / "above" / "folder") == ["two"] and names(tmp_path / "above") == ["folder"]


def test_a_folder_whose_run_was_killed_between_two_renames_comes_back(tmp_path):
    old = hidden(tmp_path / "dit", ".old")
    old.mkdir()
    (old / "weights").write_text("old")
    with pytest.raises(KeyboardInterrupt), whole(tmp_path / "dit", folder=True):
        raise KeyboardInterrupt
    assert (tmp_path / "dit" / "weights").read_text() == "old" and names(tmp_path) == ["dit"]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_permissions_are_those_of_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        with whole(tmp_path / "file") as partial:
            os.close(os.open(partial, os.O_CREAT, 0o600))  # as safetensors makes it
        with whole(tmp_path / "folder", folder=True) as partial:
            partial.mkdir(0o700)
    finally:
        assert os.umask(before) == mask
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~mask
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o777 & ~mask


def test_a_second_process_is_refused_and_names_the_first(tmp_path):
    path = tmp_path / "out.mp4"
    (tmp_path / "link").symlink_to(tmp_path)
    with another(path) as process:
        for again in (path, tmp_path / "link" / "out.mp4"):
            for write in (whole, alone):
                with pytest.raises(Mistake, match=f"process {process.pid} on .*python.* is writing"), write(again):
                    pytest.fail("entered")
            with pytest.raises(Mistake, match=f"process {process.pid} "):
                check_output(again)
        with whole(tmp_path / "other.mp4") as partial:
            partial.write_text("")
        assert hidden(path).read_text() == "half"


def test_what_a_killed_process_leaves_is_no_obstacle(tmp_path):
    path = tmp_path / "out.mp4"
    with another(path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert names(tmp_path) == [".out.mp4.lock", ".out.mp4.part"]
    check_output(path)
    with whole(path) as partial:
        assert not partial.exists()
        partial.write_text("whole")
    assert names(tmp_path) == ["out.mp4"]


def test_a_child_process_does_not_keep_the_lock(tmp_path):
    """A worker that was forked lives longer than its parent."""
    script = HOLD.replace("    os.write", "    os.fork()\n    os.write")
    command = [sys.executable, "-c", script, str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            assert [process.stdout.readline() for _ in range(2)] == ["ready\n"] * 2
            process.kill()
            process.wait()
            check_output(tmp_path / "out")
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_places_that_cannot_be_written_are_found_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    before = names(tmp_path)
    for path, words in (
        (tmp_path / "none" / "out", "there is no folder .*none; make it first"),
        (tmp_path / "file" / "out", "there is no folder"),
        (tmp_path / "folder", "is a folder"),
        (tmp_path / "pipe", "is no plain file"),
        (Path("/dev/null"), "is no plain file"),
        (Path("/proc/foo"), "/proc/foo: cannot be written"),
        (tmp_path / ("x" * 256), "more than 255 bytes"),
        (tmp_path / ("ä" * 130), "more than 255 bytes"),
        (tmp_path / ("x" * 300) / "out", "cannot be written .File name too long"),
        (Path(), "is a folder"),
        (Path("/"), "is a folder"),
    ):
        with pytest.raises(Mistake, match=words):
            check_output(path)
        with pytest.raises(Mistake, match=words), whole(path):
            pytest.fail("entered")
    for path, words in (
        (Path("/proc/foo"), "/proc/foo: cannot be written"),
        (Path("/proc/foo/bar"), "/proc/foo/bar: cannot be written"),
        (tmp_path / "file", "is no folder"),
        (tmp_path / "file" / "a" / "b", "file is no folder"),
    ):
        with pytest.raises(Mistake, match=words):
            check_folder(path)
        with pytest.raises(Mistake, match="is no folder|is a file|cannot be written"):
            check_output(path, folder=True)
    check_folder(tmp_path / "a" / "b" / "c")
    check_output(tmp_path / "a" / "b", folder=True)
    assert names(tmp_path) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(Mistake, match="Permission denied"):
        check_output(tmp_path / "out")
    with pytest.raises(Mistake, match="Permission denied"):
        check_folder(tmp_path / "a" / "b")


def test_an_output_is_no_input(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    sound = folder / "talk.mp4"
    sound.write_text("sound")
    (tmp_path / "link.mp4").symlink_to(sound)
    os.link(sound, tmp_path / "hard.mp4")
    (tmp_path / "way").symlink_to(folder)
    for output in (sound, tmp_path / "link.mp4", tmp_path / "hard.mp4", tmp_path / "way" / "talk.mp4",
                   folder / ".." / "clips" / "talk.mp4"):  # fmt: skip
        with pytest.raises(Mistake, match="is an input too .*talk.mp4.*written over"):
            check_output(output, inputs=[None, tmp_path / "absent", sound])
        with pytest.raises(Mistake, match="is an input too"):
            check_output(sound, inputs=[output])
    with pytest.raises(Mistake, match="lies in .*clips, which is read"):
        check_output(tmp_path / "way" / "new.mp4", inputs=[folder])
    with pytest.raises(Mistake, match="is an input too"):
        check_output(folder, folder=True, replace=True, inputs=[tmp_path / "way"])
    with pytest.raises(Mistake, match="holds .*talk.mp4, which is read"):
        check_output(folder, folder=True, replace=True, inputs=[sound])
    with pytest.raises(Mistake, match="lies in"):
        check_folder(folder / "records", inputs=[folder])
    check_folder(folder, inputs=[sound])
    check_output(tmp_path / "clips.mp4", inputs=[folder, sound])
    assert sound.read_text() == "sound"


def test_space_is_looked_at_before_the_work(tmp_path):
    check_output(tmp_path / "small", space=1000)
    for check in (check_output, check_folder):
        with pytest.raises(Mistake, match="1000000000.0 GB are needed there, .* are free; make room"):
            check(tmp_path / "large", space=10**18)
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    sizes = {tmp_path / "a": free * 2 // 3, tmp_path / "b": free * 2 // 3}
    for path, size in sizes.items():
        check_output(path, space=size)
    with pytest.raises(Mistake, match="are needed there"):
        check_outputs(*sizes.items())


def test_results_have_names_of_their_own(tmp_path):
    check_outputs((tmp_path / "a", 0), (None, 0), (tmp_path / "b", 0))
    (tmp_path / "link").symlink_to(tmp_path)
    for other in (tmp_path / "a", tmp_path / "link" / "a"):
        with pytest.raises(Mistake, match="two results would be written to it"):
            check_outputs((tmp_path / "a", 0), (other, 0))


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("I/O error: full (os error 28)")]
)
def test_a_full_disk_is_a_mistake_with_advice(tmp_path, error):
    with (
        pytest.raises(Mistake, match="out: cannot be written .No space left on device.; go on with --x"),
        whole(tmp_path / "out", advice="go on with --x") as partial,
    ):
        partial.write_text("half")
        raise error
    assert names(tmp_path) == []


@pytest.mark.parametrize("error", [BrokenPipeError(), FileNotFoundError(2, "none", "input.wav"), RuntimeError("bug")])
def test_errors_of_other_things_are_not_the_outputs(tmp_path, error):
    with pytest.raises(type(error)) as caught, whole(tmp_path / "out"):
        raise error
    assert caught.value is error and names(tmp_path) == []


def test_explained_speaks_of_the_file():
    message = "here: cannot be written .Permission denied.; do this"
    with pytest.raises(Mistake, match=message), explained(Path("here"), "do this"):
        raise PermissionError(errno.EACCES, "Permission denied", "elsewhere")
