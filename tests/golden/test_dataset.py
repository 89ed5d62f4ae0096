"""Windows of clips against what the release's data set gives (`dataset/`)."""

import numpy as np

from stableavatar_jax.data.clips import layouts
from stableavatar_jax.data.clips.tally import Tally
from stableavatar_jax.data.sources import windows

GROUPS = {"dataset"}


def test_dataset(case):
    if "rows" in case.info:
        check_frame_indices(case)
    elif "clip_folder" in case.info:
        check_window(case)
    else:
        check_sound_ranges(case)


def check_frame_indices(case):
    for row in case.info["rows"]:
        frames, window, stride = row["video_length"], row["n_sample_frames"], row["sample_frame_rate"]
        assert windows.clip_length(frames, window, stride) == row["clip_length"]
        assert frames - windows.clip_length(frames, window, stride) == row["start_idx_max"]
        assert windows.frame_indices(frames, row["start_idx"], window, stride) == row["batch_index"]


def check_sound_ranges(case):
    rows = zip(*(case.tensors[f"in/{name}"] for name in ("start_frame", "clip_length", "fps")), strict=True)
    ranges = np.array([windows.sound_range(int(start), int(length), float(fps)) for start, length, fps in rows])
    case.check("out/start_sample", ranges[:, 0], atol=0)
    case.check("out/end_sample", ranges[:, 1], atol=0)


def check_window(case):
    """Missing masks are all ones in the release, and here by the explicit option."""
    info, config = case.info, case.info["config"]
    folder = info["clip_folder"]
    clip = layouts.read_clip(case.path.parent / folder, folder, layouts.kind_of(folder))
    assert (clip.frames, clip.fps, clip.text) == (info["video_length"], info["fps_used"], info["text_prompt"])
    span = windows.clip_length(clip.frames, config["n_sample_frames"], config["sample_frame_rate"])
    first, last = windows.sound_range(info["start_idx"], span, clip.fps)
    assert (span, first, last) == (info["clip_length"], info["start_sample"], info["end_sample"])

    tally = Tally(missing_masks="ones")
    window = windows.read_window(
        clip, info["start_idx"], frames=config["n_sample_frames"], stride=config["sample_frame_rate"],
        height=config["height"], width=config["width"], fit="stretch", tally=tally,
    )  # fmt: skip
    # The note allows 2e-3 for another resampler; this is the same one.
    case.check("mid/vocal_segment", clip.samples[first:last])
    case.check("out/vocal_input_values", window.sound[None])
    frames = window.pixels.transpose(0, 3, 1, 2)
    case.check("out/pixel_values", frames)
    case.check("out/reference_image", frames[0])
    case.check("out/clip_pixel_values", (window.pixels[0] + 1) / 2 * 255)
    case.check("out/tgt_face_masks", window.face_mask[None])
    case.check("out/tgt_lip_masks", window.lip_mask[None])
    there = [(clip.face_masks[i], clip.lip_masks[i]) for i in set(windows.frame_indices(
        clip.frames, info["start_idx"], config["n_sample_frames"], config["sample_frame_rate"]
    ))]
    assert tally.filled >= sum((not face) + (not lip) for face, lip in there)
    # Only the first frame is given: the training step knows, so these two are never held.
    hidden = np.arange(len(frames))[:, None, None, None] > 0
    case.check("out/pixel_value_masks", np.broadcast_to(hidden, case.tensors["out/pixel_value_masks"].shape), atol=0)
    case.check("out/masked_pixel_values", frames * ~hidden)
    # out/motion_id is left out: training does not use it.
