"""The demo's own commands, and the way of `make demo`."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from stableavatar_jax import media
from stableavatar_jax.demo import check, threshold
from stableavatar_jax.demo import make as making
from stableavatar_jax.demo.__main__ import main
from stableavatar_jax.demo.bundle import write_flac
from stableavatar_jax.demo.nearness import Nearness, gains, read_nearness, write_nearness
from stableavatar_jax.demo.preset import ASSETS, PICTURE, SPEECH
from stableavatar_jax.world.build import BuildWorldConfig, build_world


def test_the_bundle_is_what_its_command_makes(tmp_path):
    main(["bundle", "--output", str(tmp_path)])
    made, kept = (np.asarray(media.read_picture(f / "character.png"), int) for f in (tmp_path, ASSETS))
    assert np.abs(made - kept).max() <= 2, "drawing differs by rounding at most"
    np.testing.assert_allclose(media.read_sound(tmp_path / "speech.flac"), media.read_sound(SPEECH), atol=1e-3)
    assert len(media.read_sound(SPEECH)) == 160000 and sum(f.stat().st_size for f in ASSETS.iterdir()) < 400_000


def test_a_picture_is_judged_without_what_draws_and_speaks():
    """`make demo` needs no extra."""
    program = (
        "import sys; sys.modules['skia'] = sys.modules['espeakng_loader'] = None\n"
        "import stableavatar_jax.demo.__main__, stableavatar_jax.demo.check\n"
        "import stableavatar_jax.evaluation.__main__, stableavatar_jax.evaluation.sheet"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def sharp(video):
    """An autoencoder that keeps everything but fine noise."""
    return np.round(video * 16) / 16


def poor(video):
    """One that keeps nothing."""
    return np.zeros_like(video)


@pytest.mark.parametrize(("codec", "near"), [(sharp, True), (poor, False)])
def test_check(monkeypatch, capsys, tmp_path, codec, near):
    monkeypatch.setattr(check, "load_codec", lambda folder: codec)
    write_nearness(tmp_path, Nearness(threshold=1.0, characters=3, lowest=1.5, median=2.0))
    main(["check", str(PICTURE), "--checkpoint", str(tmp_path)])
    out, err = capsys.readouterr()
    assert ("of the kind that the demo's" in out) == near and ("docs/weights.md" in err) != near
    assert main(["check", str(tmp_path / "missing.png"), "--checkpoint", str(tmp_path)]) == 1
    assert "no such file" in capsys.readouterr().err


def test_the_threshold_is_kept_beside_the_weights(monkeypatch, tmp_path):
    build_world(BuildWorldConfig(output=tmp_path / "clips", characters=3, seconds=0.0, split="test", workers=1))
    monkeypatch.setattr(threshold, "load_codec", lambda folder: sharp)
    main(["threshold", "--clips", str(tmp_path / "clips"), "--checkpoint", str(tmp_path)])
    found = read_nearness(tmp_path)
    assert found.characters == 3 and 0 < found.threshold < found.lowest <= found.median
    (tmp_path / "nearness.json").write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        read_nearness(tmp_path)
    with pytest.raises(ValueError, match="demo threshold"):
        read_nearness(tmp_path / "elsewhere")


def test_an_even_picture_is_far():
    even, noise = np.zeros((16, 16, 3), np.float32), np.random.default_rng(0).uniform(-1, 1, (16, 16, 3))
    keeps_little = lambda video: video + 0.3  # noqa: E731
    assert (gains(keeps_little, [even])[0] < 0) and gains(sharp, [noise.astype(np.float32)])[0] > 10


def test_frames_are_enlarged():
    frames = np.zeros((2, 8, 6, 3), np.uint8) + np.arange(6, dtype=np.uint8)[:, None] * 40
    assert media.enlarge(frames, 1) is frames
    large = media.enlarge(frames, 4)
    assert large.shape == (2, 32, 24, 3)
    small = np.asarray(Image.fromarray(large[1]).resize((6, 8), Image.Resampling.BOX), int)
    assert np.abs(small - frames[1]).max() <= 8


def test_make_demo_shortened(tmp_path, capsys):
    """The bundled picture and the first second of the bundled recording."""
    write_flac(tmp_path / "short.flac", media.read_sound(SPEECH)[:16000])
    output = tmp_path / "demo.mp4"
    assert main(["make", "--audio", str(tmp_path / "short.flac"), "--output", str(output)]) == 0
    told = capsys.readouterr().out
    assert "96x96 pixels, enlarged to\n384x384" in told
    assert told.endswith(f"{output}: the picture speaks the recording.\n")
    info = media.probe(output)
    assert (info.frames, info.height, info.width, info.sound) == (25, 384, 384, True)
    frames = np.stack(list(media.read_video(output))).astype(float)
    error = np.square(frames[0] - np.asarray(media.read_picture(PICTURE), float)).mean()
    assert 10 * np.log10(255**2 / error) > 18, "it begins with the picture"
    assert np.abs(frames[12:] - frames[0]).mean((1, 2, 3)).max() > 0.5, "and moves"


@pytest.mark.parametrize("status", [0, 1], ids=["made", "failed"])
def test_another_kind_of_picture_is_warned_of_before_and_after(monkeypatch, capsys, status):
    monkeypatch.setattr(check, "load_codec", lambda folder: poor)
    monkeypatch.setattr(making, "main", lambda argv: print("sampling") or status)
    assert main(["make", "--output", "a.mp4"]) == status
    out, err = capsys.readouterr()
    assert "drawn cartoon characters" in out and "photographs" in err and "speaks the recording" not in out
    assert ("a.mp4: made, but" in err) == (status == 0)
