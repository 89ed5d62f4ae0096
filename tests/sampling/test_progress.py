"""Progress bars while stages take turns, and how far frames are behind a live sound."""

from unittest.mock import Mock

from stableavatar_jax.media import LiveSound
from stableavatar_jax.sampling import progress
from stableavatar_jax.sampling.live import Lag
from stableavatar_jax.sampling.progress import Bars, Decoded, Denoised, Encoding, Pace


def test_stages_that_take_turns_have_a_bar_each(monkeypatch):
    made, tqdm = [], progress.tqdm
    monkeypatch.setattr(progress, "tqdm", lambda **options: made.append(tqdm(**options)) or made[-1])
    with Bars() as bars:
        for number, part in enumerate(("umt5", "vae")):
            bars(Encoding(part, number, 2))
        for step in range(5):  # a live sound: how much there is turns out at the end
            bars(Denoised(3 * step, None if step < 4 else 12))
            bars(Decoded(40 * step, None if step < 4 else 160))
    assert [(bar.desc.rstrip(": "), bar.n, bar.total) for bar in made] == [
        ("encode", 2, 2), ("denoise", 12, 12), ("decode", 160, 160)
    ]  # fmt: skip
    assert len({bar.pos for bar in made}) == 3 and all(bar.disable for bar in made)  # closed


def test_lag_is_counted_from_when_the_sound_of_a_frame_was_read():
    sound, now = Mock(spec=LiveSound, read=0), [0.0]
    lag = Lag(sound, fps=25.0, clock=lambda: now[0])
    for second, (samples, done) in enumerate([(16000, 0), (32000, 25), (48000, 26), (48000, 75)], 1):
        now[0], sound.read = float(second), samples
        lag(Decoded(done, None))
    assert (lag.longest, lag.last) == (1.0, 1.0)  # frames 1 to 25 were heard at 1 and made at 2; up to 75 at 3 and 4
    assert len(lag._samples) == 1  # the past is not kept


def test_the_pace_is_that_of_the_frames_after_the_first():
    now = [10.0]
    pace = Pace(lambda: now[0])
    assert pace.frames_a_second() == 0
    for second, done in ((30.0, 1), (31.0, 21), (32.0, 41)):
        now[0] = second
        pace(Decoded(done, 41))
    now[0] = 34.0  # the file is whole
    assert pace.frames_a_second() == 10
