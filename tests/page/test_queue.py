"""The line of videos behind the page: what becomes of each, and what is left of them."""

import threading
import time
import wave

import numpy as np
import pytest
from PIL import Image

from stableavatar_jax import media
from stableavatar_jax.errors import Mistake
from stableavatar_jax.page.progress import Progress
from stableavatar_jax.page.queue import Queue
from stableavatar_jax.sampling.avatar import Avatar
from stableavatar_jax.sampling.progress import Decoded, Denoised, Encoding
from tests.sampling.test_jobs import FAST


@pytest.fixture(scope="module")
def avatar():
    return Avatar(FAST.model, dtype="float32", keep=True)


@pytest.fixture
def given(tmp_path):
    """Options of a video of 2.4 s, 60 frames: two segments, of which the second is shorter."""
    samples = 0.3 * np.sin(np.arange(38400) * 0.05) * 32767
    with wave.open(str(tmp_path / "talk.wav"), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(16000)
        file.writeframes(samples.astype("<i2").tobytes())
    pixels = np.random.default_rng(0).integers(0, 255, (80, 70, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "face.png")
    return {"image": tmp_path / "face.png", "audio": tmp_path / "talk.wav"}


@pytest.fixture
def queue(tmp_path, avatar):
    with Queue(FAST, avatar, tmp_path / "page") as queue:
        yield queue


def ended(wanted):
    deadline = time.monotonic() + 240
    while not wanted.over and time.monotonic() < deadline:
        time.sleep(0.02)
    return wanted.state


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.name.startswith(".page"))


def begun(queue, wanted, monkeypatch):
    """Wait until a video is being denoised, and let it go on no further before `go` is set."""
    reached, go, listen = threading.Event(), threading.Event(), Queue.__call__

    def slowly(self, event):
        if isinstance(event, Denoised) and self._line[0] is wanted:
            reached.set()
            go.wait(240)
        listen(self, event)

    monkeypatch.setattr(Queue, "__call__", slowly)
    return reached, go


def test_all_get_their_own_videos_and_nothing_else_is_kept(queue, given, tmp_path):
    wanted = [queue.add({**given, "seed": seed, "duration": 0.3}) for seed in range(2)]
    assert "denoised" not in wanted[0].plan
    assert [ended(each) for each in wanted] == ["stands", "stands"]
    assert names(tmp_path / "page") == sorted(
        name for each in wanted for name in (each.folder.name, f"{each.folder.name}/talk.mp4")
    )
    first, second = (np.stack(list(media.read_video(each.video))).astype(int) for each in wanted)
    assert len(first) == len(second) == 8 and np.abs(first - second).mean() > 1
    assert "video     8 frames, 0.32 s" in wanted[0].plan and "memory    about" in wanted[0].plan


def test_a_video_can_be_played_before_it_is_finished(queue, given, monkeypatch):
    seen, listen = [], Queue.__call__

    def watch(self, event):
        listen(self, event)
        if isinstance(event, Decoded) and (path := self._line[0].video):
            seen.append((path, sum(1 for _ in media.read_video(path)), len(media.read_sound(path))))

    monkeypatch.setattr(Queue, "__call__", watch)
    wanted = queue.add(given)
    assert ended(wanted) == "stands"
    [(path, frames, samples)] = set(seen)
    assert frames == 32 and abs(samples - 32 * 640) <= 1024  # the last packet of AAC
    assert not path.exists() and [each.name for each in wanted.folder.iterdir()] == ["talk.mp4"]
    assert sum(1 for _ in media.read_video(wanted.video)) == 60


@pytest.mark.parametrize("order", ["plain", "wavefront"])
def test_a_cancelled_video_leaves_nothing_and_the_next_is_made(queue, given, tmp_path, monkeypatch, order):
    first = queue.add({**given, "order": order})
    reached, go = begun(queue, first, monkeypatch)
    waits = [queue.add({**given, "seed": seed, "duration": 0.3}) for seed in range(2)]
    assert reached.wait(240)
    assert [queue.ahead(each) for each in (first, *waits)] == [0, 1, 2]
    queue.cancel(waits[0])
    assert waits[0].state == "cancelled" and not waits[0].folder.exists() and queue.ahead(waits[1]) == 1
    queue.cancel(first)
    assert first.state == "is made"
    go.set()
    assert (ended(first), ended(waits[1])) == ("cancelled", "stands")
    assert names(tmp_path / "page") == [waits[1].folder.name, f"{waits[1].folder.name}/talk.mp4"]


def test_a_closed_page_leaves_nothing_unfinished(avatar, given, tmp_path, monkeypatch):
    with Queue(FAST, avatar, tmp_path / "page") as queue:
        first, second = queue.add(given), queue.add(given)
        reached, go = begun(queue, first, monkeypatch)
        assert reached.wait(240)
        with pytest.raises(Mistake, match="process .* is writing it"), Queue(FAST, avatar, tmp_path / "page"):
            pass
        threading.Timer(0.3, go.set).start()
    assert first.state == second.state == "cancelled" and names(tmp_path / "page") == []


def test_errors_are_those_of_the_command_line(queue, given, tmp_path):
    (tmp_path / "notes.png").write_text("no picture")
    wanted = queue.add({**given, "image": tmp_path / "notes.png"})
    assert ended(wanted) == "failed"
    assert wanted.error == "notes.png: not a picture Pillow can read; save it as PNG or JPEG"
    wanted = queue.add({**given, "start": 9.0})
    assert ended(wanted) == "failed" and wanted.error.startswith("talk.wav: its sound is 2.40 s long, and nothing is")
    for options, words in (({"image": tmp_path / "none.png"}, "none.png: no such file"), ({"height": 50}, "48 is the"),
                           ({"duration": 0.01}, "duration is 0.01"), ({"image": None}, "--image is missing")):
        with pytest.raises(Mistake, match=words):
            queue.add({**given, **options})
    with pytest.raises(Mistake, match="nothing is left of it"):
        queue.plan({**given, "start": 9.0})
    text, notices = queue.plan(given)
    assert "5 windows x 2 steps x 1 branch" in text and notices == []
    assert names(tmp_path / "page") == []


def test_a_failure_that_is_no_mistake_stops_no_other(queue, given, avatar, monkeypatch, caplog):
    monkeypatch.setattr(type(avatar), "denoise", lambda *_: 1 / 0)
    wanted = queue.add(given)
    assert ended(wanted) == "failed" and wanted.error == "ZeroDivisionError: division by zero"
    assert "a bug" in caplog.text
    monkeypatch.undo()
    assert ended(queue.add({**given, "duration": 0.3})) == "stands"


def test_time_that_is_left():
    """Encoding 3 s, then 2 s a window after the first, which is compiled; then 0.5 s a frame."""
    now = 0.0
    progress = Progress({"denoising": 8.0, "decoding": 4.0}, frames=10, clock=lambda: now)
    progress(Encoding("vae", 2, 4))
    assert progress.left is None and progress.encoding == ("vae", 2, 4)
    now = 20.0
    progress(Denoised(1, 5))
    assert progress.left is None
    now = 22.0
    progress(Denoised(2, 5))
    assert progress.encoding == ("vae", 4, 4)
    assert progress.left == pytest.approx(3 * 2 + 10 / 2)  # decoding is planned to take half of denoising
    now = 28.0
    progress(Denoised(5, 5))
    assert progress.left == pytest.approx(5)
    for frames, at in ((1, 30.0), (4, 31.5)):
        now = at
        progress(Decoded(frames, 10))
    assert progress.left == pytest.approx(6 * 0.5)


def test_time_that_is_left_in_a_wavefront():
    """A window of 1 s and then a frame of 9 s: nothing is counted twice."""
    now = 0.0
    progress = Progress({"denoising": 5.0, "decoding": 45.0}, frames=5, clock=lambda: now)
    for count in range(1, 6):
        now += 1
        progress(Denoised(count, 5))
        now += 9
        progress(Decoded(count, 5))
        assert count == 1 or progress.left == pytest.approx((5 - count) * 10)
