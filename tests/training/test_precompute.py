"""Encoding windows once gives what encoding them in every step gives."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from stableavatar_jax.checkpoint import load_part
from stableavatar_jax.data import __main__ as command
from stableavatar_jax.data import iterator as pipeline
from stableavatar_jax.data.clips.dataset import BuildConfig, ClipDataset, build
from stableavatar_jax.data.config import ClipWindow
from stableavatar_jax.data.sources.records import FIELDS, RecordReader
from stableavatar_jax.encoding import precompute as module
from stableavatar_jax.encoding.precompute import PrecomputeConfig, precompute
from stableavatar_jax.encoding.tokens import tokenize
from stableavatar_jax.encoding.windows import ClipSource, clip_window, window_arrays
from stableavatar_jax.errors import Mistake
from stableavatar_jax.models.config import AvatarConfig
from stableavatar_jax.presets import load_preset
from tests.data import made

TINY = Path(__file__).parents[2] / "configs" / "tiny.py"
WINDOW = ClipWindow(frames=5, sizes=((32, 32),))
MODEL = load_preset(TINY, AvatarConfig)
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for name in ("speech-1.mp4", "singing-2.mp4"):
        made.video_clip(folder / "raw" / name, 12)
    build(BuildConfig(source=folder / "raw", output=folder / "clips"))
    return folder / "clips"


@pytest.fixture(autouse=True)
def one_encoder(encoder, monkeypatch):
    """All tests share an encoder."""
    monkeypatch.setattr(module, "WindowEncoder", lambda *_, **__: encoder)


def config(data, output, **options) -> PrecomputeConfig:
    exact = {"windows_per_clip": 2, "dtype": "float32", "latents_dtype": "float32"}
    return PrecomputeConfig(data=data, output=output, config=TINY, **{"window": WINDOW, **exact, **options})


def test_records_are_what_a_step_would_encode(data, tmp_path, encoder):
    assert str(precompute(config(data, tmp_path))) == "0 clips left out"
    reader = RecordReader(tmp_path)
    assert [line["id"] for line in reader.index] == [
        "singing-2.mp4@0", "singing-2.mp4@7", "speech-1.mp4@0", "speech-1.mp4@7"
    ]  # fmt: skip
    clips = ClipDataset(data)
    online = [window_arrays(clip_window(clips[i], start, WINDOW, RNG), WINDOW) for i in (0, 1) for start in (0, 7)]
    for pair in ([0, 3], [1, 2]):
        together = encoder({name: np.stack([online[row][name] for row in pair]) for name in online[0]})
        for place, row in enumerate(pair):
            record = reader[row]
            assert record.keys() == FIELDS.keys()
            for name, array in record.items():
                np.testing.assert_allclose(array, together[name][place], atol=2e-5, rtol=1e-4, err_msg=name)


def test_a_record_holds_the_posterior_of_its_window(data, tmp_path):
    precompute(config(data, tmp_path))
    record = RecordReader(tmp_path)[1]
    pixels = window_arrays(clip_window(ClipDataset(data)[0], 7, WINDOW, RNG), WINDOW)["pixels"]
    video = pixels[None].astype(np.float32) / np.float32(127.5) - 1
    vae, params = load_part(None, MODEL, "vae")
    encode = jax.jit(lambda video: vae.apply({"params": params}, video, method="encode")[:2])
    for name, shown in (("latents", video), ("reference", video * (np.arange(5) == 0)[None, :, None, None, None])):
        for part, whole in zip(("mean", "logvar"), encode(shown.astype(np.float32)), strict=True):
            np.testing.assert_allclose(record[f"{name}_{part}"], whole[0], atol=2e-5, rtol=1e-4)
    assert record["latents_mean"].shape == (2, 4, 4, 16)
    assert record["text"].shape == (*record["text_mask"].shape, 32) and record["text_mask"].any()
    assert not record["text"][~record["text_mask"]].any()
    assert record["audio"].shape[1] == 32 and 0 < record["lip_mask"].mean() < record["face_mask"].mean() < 1


def test_the_reference_may_be_any_frame_of_the_clip(data, tmp_path):
    """It is drawn alike every time, so that what was begun can be gone on with."""
    both = []
    for name in ("1", "2"):
        precompute(config(data, tmp_path / name, window=dataclasses.replace(WINDOW, reference="any")))
        both.append([RecordReader(tmp_path / name)[row] for row in range(4)])
    precompute(config(data, tmp_path / "first"))
    first = [RecordReader(tmp_path / "first")[row] for row in range(4)]
    for a, b, c in zip(*both, first, strict=True):
        np.testing.assert_array_equal(a["reference_mean"], b["reference_mean"])
        np.testing.assert_array_equal(a["latents_mean"], c["latents_mean"])
    changes = [a["reference_mean"] - c["reference_mean"] for a, c in zip(both[0], first, strict=True)]
    assert np.abs(changes).max() > 0.01
    precompute(config(data, tmp_path / "clip", window=dataclasses.replace(WINDOW, reference="clip")))
    for row in (0, 1):  # both windows of a clip
        shown = RecordReader(tmp_path / "clip")[row]["reference_mean"]
        np.testing.assert_array_equal(shown, first[0]["reference_mean"])
    with pytest.raises(Mistake, match="reference"):
        precompute(config(data, tmp_path / "first", window=dataclasses.replace(WINDOW, reference="any")))


def test_what_is_there_is_kept(data, tmp_path):
    precompute(config(data, tmp_path))
    index = tmp_path / "index-00000.jsonl"
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.npz")}
    lines = [line for line in index.read_text().splitlines() if line]
    index.write_text("\n".join(lines[:3]))  # as if killed before the last
    precompute(config(data, tmp_path))
    after = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.npz")}
    assert before.keys() == after.keys()
    assert sum(before[name] != after[name] for name in before) == 1
    with pytest.raises(Mistake, match="windows_per_clip 2, not 1"):
        precompute(config(data, tmp_path, windows_per_clip=1))


def test_workers_share_the_clips(data, tmp_path):
    for worker in range(2):
        precompute(config(data, tmp_path, worker=worker, workers=2, format="array_record"))
    assert len(RecordReader(tmp_path)) == 4


def test_stored_types(data, tmp_path):
    precompute(config(data, tmp_path / "exact"))
    precompute(config(data, tmp_path / "small", dtype="float16", latents_dtype="bfloat16", format="array_record"))
    exact, small = RecordReader(tmp_path / "exact"), RecordReader(tmp_path / "small")
    assert {str(a.dtype) for a in small[0].values()} == {"bfloat16", "float16", "bool"}
    for name, array in small[0].items():
        np.testing.assert_allclose(array.astype(np.float32), exact[0][name], atol=0.02, rtol=0.01, err_msg=name)


def test_records_and_windows_go_through_the_same_loop(data, tmp_path, encoder):
    precompute(config(data, tmp_path))
    stored = next(pipeline.open_records(tmp_path, batch=2))
    online = encoder(next(pipeline.open_batches(ClipSource(ClipDataset(data), WINDOW), batch=2)))
    assert {name: a.shape for name, a in stored.items()} == {name: a.shape for name, a in online.items()}


def test_clips_too_short(data, tmp_path):
    long = dataclasses.replace(WINDOW, frames=13)
    with pytest.raises(Mistake, match="12 frames, a window needs 13; .*--frames.*; or leave out .*--on-bad skip"):
        precompute(dataclasses.replace(config(data, tmp_path), window=long))
    with pytest.raises(Mistake, match=r"no clip is as long .* \(--frames\): 2 clips left out \(2 too short\)"):
        precompute(dataclasses.replace(config(data, tmp_path), window=long, on_bad="skip"))


def test_encoders_are_asked_for(data, tmp_path):
    with pytest.raises(Mistake, match="give --checkpoint"):
        dataclasses.replace(config(data, tmp_path), config=None)


def test_the_output_is_no_input(data, tmp_path):
    with pytest.raises(Mistake, match="is an input"):
        precompute(config(data, data))


def test_shapes_are_counted(data, tmp_path, capsys):
    precompute(config(data, tmp_path, window=dataclasses.replace(WINDOW, sizes=((32, 32), (32, 48)))))
    assert "4 windows of 1 shape: 4 of 32x48 at 25 frames a second\n" in capsys.readouterr().out


def test_a_folder_without_records_takes_other_options(data, tmp_path, monkeypatch):
    def fails(*_, **__):
        raise Mistake("the encoders do not fit")

    monkeypatch.setattr(module, "WindowEncoder", fails)
    with pytest.raises(Mistake, match="do not fit"):
        precompute(config(data, tmp_path / "records"))
    assert not (tmp_path / "records").exists()


def test_from_real_clips_to_batches(shared, tmp_path, capsys):
    """The commands of docs/data.md, shortened: a smaller clip, smaller windows, random encoders."""
    pytest.importorskip("ai_edge_litert", reason="the face models run in LiteRT: pip install -e '.[face]'")
    (tmp_path / "raw").mkdir()
    for name in ("speech-02.mpg", "speech-05.mpg"):
        (tmp_path / "raw" / name[-6:]).symlink_to(shared / "data" / "clips" / name)
    (tmp_path / "raw" / "mute.mp4").symlink_to(shared / "data" / "clips" / "mute-01.mp4")
    folders = {name: str(tmp_path / name) for name in ("raw", "prepared", "clips", "records")}
    models = shared / "models"
    command.main([
        "prepare", "--source", folders["raw"], "--output", folders["prepared"], "--frames", "5", "--detector",
        str(models / "face_detection_short_range.tflite"), "--landmarks", str(models / "face_landmark.tflite"),
    ])  # fmt: skip
    assert "1 clip left out (1 no sound)" in capsys.readouterr().out
    command.main(["build", "--source", folders["prepared"], "--output", folders["clips"]])
    command.main(["inspect", folders["clips"]])
    assert (tmp_path / "clips.sheet.png").is_file()
    assert "2 clips (2 talking)" in capsys.readouterr().out
    command.main([
        "precompute", "--data", folders["clips"], "--output", folders["records"], "--config", str(TINY),
        "--frames", "5", "--sizes", "32", "32", "--windows-per-clip", "1",
    ])  # fmt: skip
    batch = next(pipeline.open_records(Path(folders["records"]), batch=2))
    assert batch["latents_mean"].shape == (2, 2, 4, 4, 16)
    assert all(np.isfinite(array.astype(np.float32)).all() for array in batch.values())
    assert (batch["face_mask"].mean((1, 2, 3)) > 0).all()  # lips are less than a latent in so small a picture


def test_mistakes_end_with_one_line(tmp_path, capsys):
    assert command.main(["build", "--source", str(tmp_path / "nowhere"), "--output", str(tmp_path / "out")]) == 1
    assert "error: " in (said := capsys.readouterr().err) and "nowhere: no such folder" in said


def test_every_frame_rate_is_a_shape():
    entries = [{"id": str(fps), "fps": fps, "frames": 9, "height": 32, "width": 32} for fps in (25.0, 30.0, 25.0)]
    clips = object.__new__(ClipDataset)  # of which its entries alone are read
    clips.entries = entries
    told = module.describe_shapes(clips, [(0, 0), (1, 0), (2, 0), (2, 4)], PrecomputeConfig(
        data=Path("d"), output=Path("o"), config=TINY, window=WINDOW))  # fmt: skip
    assert told.startswith("4 windows of 2 shapes: 3 of 32x32 at 25 frames a second; 1 of 32x32 at 30 frames a second.")
    assert "prepare --fps" in told


def test_a_prompt_that_is_cut_is_told(caplog):
    ids, mask = tokenize(["short", "x" * 100], MODEL, None)
    assert ids.shape == (2, MODEL.dit.text_len) and mask[1].all()
    assert f"a prompt of 101 tokens is cut to {MODEL.dit.text_len}: xxx" in caplog.text
    assert "short" not in caplog.text
