"""The data set of clips, and windows read from it."""

import dataclasses
import json
import sys
import weakref
from itertools import islice

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core import shuffle

from stableavatar_jax.data import inspection
from stableavatar_jax.data import iterator as pipeline
from stableavatar_jax.data.clips import dataset
from stableavatar_jax.data.clips.clip import PROMPTS
from stableavatar_jax.data.clips.dataset import BuildConfig, ClipDataset, build
from stableavatar_jax.data.clips.layouts import read_clip
from stableavatar_jax.data.clips.tally import Tally
from stableavatar_jax.data.config import ClipWindow
from stableavatar_jax.encoding.windows import ClipSource
from stableavatar_jax.errors import Mistake
from tests.data import made

CONFIG = ClipWindow(frames=5, sizes=((32, 32), (32, 64)))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    made.folder_clip(folder / "rec" / "speech" / "1")
    made.video_clip(folder / "singing-1.mp4", 20, height=48, width=96)
    made.video_clip(folder / "speech-2.mp4", 9, height=48, width=96)
    return folder


@pytest.fixture(scope="module")
def built(source, tmp_path_factory):
    output = tmp_path_factory.mktemp("built") / "clips"
    assert str(build(BuildConfig(source=source, output=output))) == "0 clips left out"
    return output


def test_clips_come_back_as_they_were(source, built):
    clips = ClipDataset(built)
    assert [clip.id for clip in (clips[i] for i in range(3))] == ["rec/speech/1", "singing-1.mp4", "speech-2.mp4"]
    for number in range(3):
        clip = clips[number]
        assert clip == read_clip(source / clip.id, clip.id, clip.kind)
    assert "tensorflow" not in sys.modules
    assert not list(built.parent.glob(".*")), "nothing is left of building it"


def test_a_clip_may_have_its_own_prompt_and_labels(source, tmp_path):
    plain = read_clip(source / "speech-2.mp4", "speech-2.mp4", "talking")
    own = dataclasses.replace(plain, id="own", prompt="A cat is talking", labels='{"opening": [0.5]}')
    assert dataset.write_clips(tmp_path / "clips", lambda: iter([plain, own]), total=2) == 2
    clips = ClipDataset(tmp_path / "clips")
    assert [clips[0], clips[1]] == [plain, own]
    assert (plain.text, own.text) == ("The protagonist is talking", "A cat is talking")
    assert clips.prompts == (*PROMPTS.values(), "A cat is talking")
    numbers = [ClipSource(clips, CONFIG).read(i, np.random.default_rng(0))["prompt"] for i in range(2)]
    assert [clips.prompts[number] for number in numbers] == [plain.text, own.text]


def test_memory_and_files_do_not_bound_its_size(source, tmp_path, monkeypatch):
    """Neither what tfds sorts without TensorFlow, 1 GB, nor a file."""
    monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", 1000)
    monkeypatch.setattr(dataset, "CLIPS_PER_SHARD", 3)
    clip = read_clip(source / "speech-2.mp4", "speech-2.mp4", "talking")
    alive: list[weakref.ref] = []

    def clips():
        for number in range(8):
            made = dataclasses.replace(clip, id=str(number))
            alive.append(weakref.ref(made))
            yield made
            del made
            assert sum(ref() is not None for ref in alive) <= 1

    assert dataset.write_clips(tmp_path / "clips", clips) == 8
    assert len(list(tmp_path.glob("clips/clips/1.0.0/*.array_record-*"))) == 3
    read = ClipDataset(tmp_path / "clips")
    assert [read[i].id for i in range(8)] == [entry["id"] for entry in read.entries] == list("01234567")
    assert read[7] == dataclasses.replace(clip, id="7")
    half = tfds.builder_from_directory(str(tmp_path / "clips/clips/1.0.0")).as_data_source("train[50%:]")
    assert [example["id"] for example in half] == [b"4", b"5", b"6", b"7"]


def test_a_data_set_with_its_number_of_files_in_their_names(source, tmp_path, monkeypatch):
    """As they were named when a `GeneratorBasedBuilder` wrote them."""
    clip = read_clip(source / "speech-2.mp4", "speech-2.mp4", "talking")

    class Clips(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION, name, code_path, _info = (getattr(dataset.Clips, n) for n in ("VERSION", "name", "code_path", "_info"))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            yield 0, dataset.to_example(clip)

    Clips(data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
    (tmp_path / dataset.INDEX).write_text(json.dumps([dataset.to_entry(clip)]))
    assert (tmp_path / "clips/1.0.0/clips-train.array_record-00000-of-00001").exists()
    assert ClipDataset(tmp_path)[0] == clip


def test_a_data_set_from_before_prompts_and_labels(built):
    clip = ClipDataset(built)[0]
    example = dataset.to_example(clip)
    del example["prompt"], example["labels"]
    encoded = {name: value.encode() if name in ("id", "kind") else value for name, value in example.items()}
    assert dataset.from_example(encoded) == clip


def test_it_is_not_built_over(built, source):
    with pytest.raises(Mistake, match="exists already; pass --overwrite"):
        build(BuildConfig(source=source, output=built))
    for output in (source, source / "speech-2", source.parent):
        with pytest.raises(Mistake, match="is read|is an input|exists already"):
            build(BuildConfig(source=source, output=output))


def test_it_does_not_take_the_place_of_clips_that_a_list_names(tmp_path):
    made.video_clip(tmp_path / "clips" / "speech.mp4")
    (tmp_path / "list.txt").write_text("clips/speech.mp4\n")
    (tmp_path / "link").symlink_to(tmp_path / "clips")
    for output in ("clips", "link"):
        with pytest.raises(Mistake, match="holds .*speech.mp4, which is read"):
            build(BuildConfig(source=tmp_path / "list.txt", output=tmp_path / output, overwrite=True))
    assert (tmp_path / "clips" / "speech.mp4").exists()


def test_missing_masks_are_found_before_a_clip_is_read(tmp_path, monkeypatch):
    made.video_clip(tmp_path / "raw" / "speech-1.mp4")
    made.video(tmp_path / "raw" / "speech-2.mp4")
    made.folder_clip(tmp_path / "raw" / "speech-3")
    made.video(tmp_path / "raw" / "speech-4.mp4")
    monkeypatch.setattr(dataset, "read_clip", None)
    with pytest.raises(Mistake, match="raw: 2 of 4 clips without masks, speech-2.mp4, speech-4.mp4; make them with"):
        build(BuildConfig(source=tmp_path / "raw", output=tmp_path / "out"))


def test_what_the_path_does_not_say_is_said(tmp_path, caplog):
    for name in ("holidays/a.mp4", "holidays/singing-b.mp4"):
        made.video_clip(tmp_path / "raw" / name)
    build(BuildConfig(source=tmp_path / "raw", output=tmp_path / "out"))
    assert [entry["kind"] for entry in ClipDataset(tmp_path / "out").entries] == ["talking", "singing"]
    assert "taken as talking (--kind)" in caplog.text and "1 of 2 clips, holidays/a.mp4" in caplog.text
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"clips", "clips.json"}
    build(BuildConfig(source=tmp_path / "raw", output=tmp_path / "out", kind="dancing", overwrite=True))
    assert [entry["kind"] for entry in ClipDataset(tmp_path / "out").entries] == ["dancing", "singing"]


def test_bad_clips_end_the_build_or_are_counted(tmp_path):
    made.folder_clip(tmp_path / "raw" / "speech" / "1")
    (made.folder_clip(tmp_path / "raw" / "speech" / "2") / "lip_masks" / "frame_0.png").unlink()
    bad = made.video_clip(tmp_path / "raw" / "speech-3.mp4")
    bad.write_bytes(b"cut off")
    config = {"source": tmp_path / "raw", "output": tmp_path / "out"}
    with pytest.raises(Mistake, match="speech/2: 1 of 24"):
        build(BuildConfig(**config))
    with pytest.raises(ValueError, match="speech-3.mp4"):
        build(BuildConfig(**config, missing_masks="skip"))
    assert not (tmp_path / "out").exists()
    tally = build(BuildConfig(**config, missing_masks="skip", on_bad="skip"))
    assert dict(tally.refused) == {"missing masks": 1, "damaged": 1}
    assert len(ClipDataset(tmp_path / "out")) == 1


def test_missing_masks_as_ones_are_asked_for_twice(tmp_path):
    (made.folder_clip(tmp_path / "raw" / "speech" / "2") / "lip_masks" / "frame_0.png").unlink()
    tally = build(BuildConfig(source=tmp_path / "raw", output=tmp_path / "out", missing_masks="ones"))
    assert tally.filled == 1
    clips = ClipDataset(tmp_path / "out")
    assert clips.entries[0]["masks_missing"] == 1
    # 9 of 12 frames: one window in four begins at the frame without a mask
    most = ClipWindow(frames=5, stride=2, sizes=((32, 32),))
    rng = np.random.default_rng(0)
    starts = [ClipSource(clips, most, Tally(missing_masks="ones")).read(0, rng) for _ in range(40)]
    assert any((batch["lip_mask"][0] > 0.2).all() for batch in starts)
    with pytest.raises(Mistake, match="missing"):
        for _ in range(40):
            ClipSource(clips, most).read(0, rng)


def test_all_left_out(tmp_path):
    made.video(tmp_path / "raw" / "speech.mp4")
    with pytest.raises(Mistake, match=r"no clip can be used: 1 clip left out \(1 missing masks\)"):
        build(BuildConfig(source=tmp_path / "raw", output=tmp_path / "out", missing_masks="skip"))


def test_a_full_disk(tmp_path, monkeypatch):
    made.folder_clip(tmp_path / "raw" / "speech" / "1")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(dataset.Clips, "download_and_prepare", full)
    with pytest.raises(Mistake, match="out: cannot be written .*No space left"):
        build(BuildConfig(source=tmp_path / "raw", output=tmp_path / "out"))


def test_an_unfinished_data_set(tmp_path):
    with pytest.raises(Mistake, match="no finished data set"):
        ClipDataset(tmp_path)


def test_windows_follow_from_seed_and_step(built):
    source = ClipSource(ClipDataset(built), CONFIG)
    assert source.buckets == [(32, 32, 3200), (32, 64, 3200), (32, 64, 3200)]
    one, other = (pipeline.open_batches(source, batch=2, seed=4) for _ in range(2))
    for a, b in islice(zip(one, other, strict=True), 6):
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])
    one.close()
    other.close()


def test_hosts_take_parts_of_the_same_windows(built):
    source = ClipSource(ClipDataset(built), CONFIG)
    whole = pipeline.open_batches(source, batch=2, seed=4)
    halves = [pipeline.open_batches(source, batch=2, seed=4, host=host, hosts=2) for host in range(2)]
    for batch, *parts in islice(zip(whole, *halves, strict=True), 4):
        for name in batch:
            np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), batch[name])


def test_clips_too_short_are_refused(built):
    long = ClipWindow(frames=13, sizes=((32, 32),))
    with pytest.raises(Mistake, match="rec/speech/1: 12 frames, a window needs 13"):
        ClipSource(ClipDataset(built), long)
    tally = Tally(on_bad="skip")
    assert len(ClipSource(ClipDataset(built), long, tally).buckets) == 1
    assert dict(tally.refused) == {"too short": 2}


def test_inspect(built, tmp_path):
    text = inspection.inspect(built, tmp_path / "sheet.png")
    assert "singing-1.mp4: singing, 96x48, 20 frames at 25 (0.80 s), sound at 32000 Hz, masks whole" in text
    assert "3 clips (2 talking, 1 singing)" in text
    sheet = np.asarray(inspection.contact_sheet(inspection.open_clips(built)))
    assert sheet.shape[1] == 6 * inspection.TILE and (tmp_path / "sheet.png").stat().st_size > 1000


def test_a_sheet_takes_the_place_of_no_picture_of_a_list(tmp_path):
    picture = made.folder_clip(tmp_path / "speech") / "images" / "frame_0.png"
    before = picture.read_bytes()
    (tmp_path / "list.txt").write_text("speech\n")
    (tmp_path / "link.png").symlink_to(picture)
    for sheet in (picture, tmp_path / "link.png"):
        with pytest.raises(Mistake, match="which is read"):
            inspection.inspect(tmp_path / "list.txt", sheet)
    assert picture.read_bytes() == before


def test_a_damaged_data_set_is_named(source, tmp_path):
    build(BuildConfig(source=source, output=tmp_path / "out"))
    (shard,) = (tmp_path / "out").rglob("*.array_record*")
    content = shard.read_bytes()
    shard.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    with pytest.raises(Mistake, match="out: .*build it again"):
        [ClipDataset(tmp_path / "out")[number] for number in range(3)]
    shard.unlink()
    with pytest.raises(Mistake, match="out: .*build it again"):
        ClipDataset(tmp_path / "out")[0]
