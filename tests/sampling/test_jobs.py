"""Lists of videos: what refuses a list, what fails one video, what is packed, and what is made again."""

import contextlib
import dataclasses
import io
import json
import re
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stableavatar_jax import hosts, media
from stableavatar_jax.configs import tiny
from stableavatar_jax.encoding.conditions import save_conditions
from stableavatar_jax.errors import UNWRITTEN, Mistake
from stableavatar_jax.locks import alone
from stableavatar_jax.sampling import jobs, jobs_plan
from stableavatar_jax.sampling.__main__ import main
from stableavatar_jax.sampling.avatar import Avatar
from stableavatar_jax.sampling.config import change
from stableavatar_jax.sampling.job import about, open_job
from stableavatar_jax.sampling.jobs_file import Listed, read_jobs
from stableavatar_jax.sampling.jobs_plan import groups, look, share
from stableavatar_jax.sampling.several import Several
from stableavatar_jax.sampling.video import write

OPTIONS = {
    "height": 32, "width": 32, "steps": 2, "guidance": "none", "window": 5, "overlap": 2, "batches": 1, "crf": 10,
    "dtype": "float32", "random_weights": True,
}  # fmt: skip
FAST = change(tiny.config, **OPTIONS)
# The line of overlap 2 has four places: 0.3 s and 1 s are one window and two, 2.4 s are five.
SOUNDS = {"short": 0.3, "middle": 1.0, "long": 2.4}
GOOD = {
    "0001": {"audio": "short.wav"},
    "0002": {"audio": "short.wav", "seed": 1},
    "0004": {"audio": "middle.wav", "prompt": "A wall."},
    "long": {"audio": "long.wav", "output": "long.mp4"},
    "0007": {"audio": "short.wav", "size": "48x32"},
    "more/0010": {"audio": "middle.wav", "seed": 3, "output": "more/0010.mp4"},
    "0011": {"audio": "long.wav", "start": 1.2, "duration": 0.3, "seed": 4},
}
BAD = {
    "0003": ({"audio": "short.wav", "image": "damaged.png"}, "damaged.png: the picture is damaged or cut off"),
    "0006": ({"audio": "nowhere.wav"}, "nowhere.wav: no such file"),
    "0009": ({"audio": "short.wav", "conditions": "broken.safetensors"}, "gave numbers that are not finite"),
    "0008": ({"audio": "short.wav", "start": 0.3}, "short.wav: its sound is 0.30 s long, and nothing is left"),
    "0012": ({"audio": "short.wav", "solver": "unpc"}, "one of euler, unipc, dpm++ is needed; did you mean unipc?"),
}


@pytest.fixture(scope="module", autouse=True)
def avatar():
    """One avatar for all lists: its weights are drawn once."""
    kept = Avatar(FAST.model, dtype="float32", keep=True)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(jobs, "open_avatar", lambda *_: kept)
        yield kept


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, avatar) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 70, 3), np.uint8)).save(folder / "face.png")
    (folder / "damaged.png").write_bytes((folder / "face.png").read_bytes()[:2000])
    (folder / "damaged.wav").write_bytes(np.random.default_rng(1).bytes(5000))
    for name, seconds in SOUNDS.items():
        samples = 0.3 * np.sin(np.arange(round(16000 * seconds)) * 0.05) * 32767
        with wave.open(str(folder / f"{name}.wav"), "wb") as file:
            file.setnchannels(1), file.setsampwidth(2), file.setframerate(16000)
            file.writeframes(samples.astype("<i2").tobytes())
    job = open_job(change(FAST, image=folder / "face.png", audio=folder / "short.wav"))
    [made] = avatar.conditions([job], sound=True)
    broken = dataclasses.replace(made, image=made.image * np.nan)
    save_conditions(folder / "broken.safetensors", broken, about(job))
    return folder


def listed(folder: Path, lines: list, name: str = "jobs.jsonl") -> Path:
    path = folder / name
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def arguments(path: Path, output: Path, *more: str) -> list[str]:
    options = [f"--{name.replace('_', '-')}={value}" for name, value in OPTIONS.items() if name != "random_weights"]
    given = ["--jobs", str(path), "--output-dir", str(output), "--image", str(path.parent / "face.png")]
    return ["--config", "tiny", *options, *given, *more]


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


@pytest.fixture(scope="module")
def run(inputs, tmp_path_factory):
    """A list of twelve videos, five of them bad, made once: the folder, the exit status, and what was printed."""
    lines = {name: {**options, "output": f"{name}.mp4"} for name, options in GOOD.items()}
    lines |= {name: {**options, "output": f"{name}.mp4"} for name, (options, _) in BAD.items()}
    ordered = [lines["long" if name == "0005" else "more/0010" if name == "0010" else name] for name in numbered(12)]
    for number, line in enumerate(ordered, 1):
        if line["output"] == f"{number:04d}.mp4":
            del line["output"]
    path = listed(inputs, ordered)
    output = tmp_path_factory.mktemp("lists") / "videos"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        status = main(arguments(path, output))
    return path, output, status, printed.getvalue()


def numbered(count: int) -> list[str]:
    return [f"{number:04d}" for number in range(1, count + 1)]


def test_good_videos_are_made_and_bad_ones_name_their_cause(run):
    _, output, status, printed = run
    assert status == 1
    made = [f"{name}.{ending}" for name in GOOD for ending in ("json", "mp4")]
    assert names(output) == sorted([*made, *(f"{name}.error.txt" for name in BAD), "summary.jsonl"])
    assert names(output.parent) == sorted(f"videos/{name}" for name in names(output))
    for name, (_, cause) in BAD.items():
        assert cause in (output / f"{name}.error.txt").read_text()
    for name, options in GOOD.items():
        info = media.probe(output / f"{name}.mp4")
        seconds = options.get("duration", SOUNDS[options["audio"].removesuffix(".wav")])
        assert info.frames == round(25 * seconds + 0.49)
        assert (info.height, info.width) == ((48, 32) if "size" in options else (32, 32))
    summary = [json.loads(line) for line in (output / "summary.jsonl").read_text().splitlines()]
    assert [each["line"] for each in summary] == list(range(1, 13))
    assert {each["output"].removesuffix(".mp4"): each["result"] for each in summary} == {
        **dict.fromkeys(GOOD, "made"), **dict.fromkeys(BAD, "failed")
    }  # fmt: skip
    assert all(each["seconds"] > 0 for each in summary if each["result"] == "made")
    assert "12 videos: 8 to be made, 0 there, 4 that fail" in printed
    assert "of 6 videos packed in 1 group, of 2 one after another" in printed
    assert "1 rows evaluated for each needed" in printed
    assert "12 videos: 7 made, 5 failed; 5.68 s of video in" in printed


def test_a_packed_video_is_the_one_that_is_made_alone(run, avatar, tmp_path):
    path, output, *_ = run
    made = {}
    for name in ("0002", "0004"):
        given = {**GOOD[name], "audio": path.parent / GOOD[name]["audio"]}
        config = change(FAST, image=path.parent / "face.png", **given)
        write(tmp_path / f"{name}.mp4", open_job(config), avatar, sound=config.inputs.audio, crf=10)
        made[name] = np.stack(list(media.read_video(tmp_path / f"{name}.mp4"))).astype(int)
        packed = np.stack(list(media.read_video(output / f"{name}.mp4"))).astype(int)
        assert np.abs(packed - made[name]).mean() < 0.1
    assert np.abs(made["0002"] - made["0004"][:8]).mean() > 1


def test_what_stands_is_not_made_again(run, inputs, monkeypatch, capsys, tmp_path):
    path, output, *_ = run
    before = {name: (output / name).stat().st_mtime_ns for name in names(output) if name.endswith(".mp4")}
    monkeypatch.setattr(Avatar, "denoise", lambda *_: pytest.fail("a video was made again"))
    bad = path.read_text()
    try:  # the one that fails while it is made is left out
        lines = bad.splitlines()
        lines[8] = ""
        path.write_text("\n".join(lines))
        assert main(arguments(path, output)) == 1
    finally:
        path.write_text(bad)
    assert "11 videos: 7 there, 4 failed" in capsys.readouterr().out
    assert before == {name: (output / name).stat().st_mtime_ns for name in before}


def test_what_changed_is_made_again(inputs, tmp_path, capsys):
    lines = [{"audio": "short.wav"}, {"audio": "own.wav"}, {"audio": "gone.wav"}]
    (inputs / "own.wav").write_bytes((inputs / "short.wav").read_bytes())
    path = listed(inputs, lines, "changing.jsonl")
    assert main(arguments(path, tmp_path / "videos")) == 1
    first = (tmp_path / "videos" / "0001.json").read_text()
    (inputs / "own.wav").write_bytes((inputs / "middle.wav").read_bytes())
    (inputs / "gone.wav").write_bytes((inputs / "short.wav").read_bytes())
    capsys.readouterr()
    assert main(arguments(path, tmp_path / "videos")) == 0
    assert "3 videos: 2 made, 1 there" in capsys.readouterr().out
    assert names(tmp_path / "videos") == sorted(
        [*(f"{name}.{ending}" for name in numbered(3) for ending in ("json", "mp4")), "summary.jsonl"]
    )
    assert (tmp_path / "videos" / "0001.json").read_text() == first
    assert media.probe(tmp_path / "videos" / "0002.mp4").frames == 25


def test_a_list_that_was_stopped_goes_on(inputs, tmp_path, monkeypatch, capsys):
    path = listed(inputs, [{"audio": "short.wav", "seed": seed} for seed in range(4)], "stopped.jsonl")
    output = tmp_path / "videos"
    write, written = jobs.Maker._write, []

    def stop(self, planned, *rest):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(planned)
        write(self, planned, *rest)

    monkeypatch.setattr(jobs.Maker, "_write", stop)
    assert main(arguments(path, output)) == 130
    monkeypatch.undo()
    assert names(output) == ["0001.json", "0001.mp4", "0002.json", "0002.mp4", "summary.jsonl"]
    assert "the same command goes on with the list" in capsys.readouterr().err
    assert main(arguments(path, output)) == 0
    assert "4 videos: 2 made, 2 there" in capsys.readouterr().out


def test_what_ends_a_group_ends_no_other_video(inputs, tmp_path, monkeypatch, capsys):
    path = listed(inputs, [{"audio": "short.wav", "seed": seed} for seed in range(2)], "ended.jsonl")
    denoise = Avatar.denoise

    def fail(self, jobs, *rest):
        if len(jobs) > 1:
            raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return denoise(self, jobs, *rest)

    monkeypatch.setattr(Avatar, "denoise", fail)
    assert main(arguments(path, tmp_path / "videos")) == 0
    assert "2 videos that were made together are made one after another" in capsys.readouterr().out
    assert names(tmp_path / "videos") == ["0001.json", "0001.mp4", "0002.json", "0002.mp4", "summary.jsonl"]


def test_a_bug_leaves_its_traceback_and_a_full_disk_ends_the_list(inputs, tmp_path, monkeypatch, capsys):
    path = listed(inputs, [{"audio": "short.wav", "seed": seed} for seed in range(2)], "bug.jsonl")
    monkeypatch.setattr(jobs.Maker, "_write", lambda *_: [].pop())
    assert main(arguments(path, tmp_path / "a")) == 1
    told = (tmp_path / "a" / "0002.error.txt").read_text()
    assert told.startswith("IndexError: pop from empty list\n\nTraceback")

    def full(*_):
        raise Mistake("disk full", UNWRITTEN)

    monkeypatch.setattr(jobs.Maker, "_write", full)
    assert main(arguments(path, tmp_path / "b")) == 1
    assert "error: disk full" in capsys.readouterr().err
    assert names(tmp_path / "b") == ["summary.jsonl"]


def test_two_runs_of_one_folder(inputs, tmp_path, capsys):
    path = listed(inputs, [{"audio": "short.wav"}], "locked.jsonl")
    with alone(tmp_path / "videos"):
        assert main(arguments(path, tmp_path / "videos")) == 1
    assert re.search(r"error: .*videos: process \d+ on .* is writing it", capsys.readouterr().err)
    assert names(tmp_path) == []


def test_a_dry_run_makes_nothing(inputs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Avatar, "conditions", lambda *_: pytest.fail("an encoder ran"))
    path = listed(inputs, [{"audio": "short.wav"}, {"audio": "middle.wav", "output": "b.mp4"}], "dry.jsonl")
    assert main(arguments(path, tmp_path / "videos", "--dry-run")) == 0
    told = capsys.readouterr().out
    assert "0001.mp4     0.32 s, 32x32, 1 window, 2 evaluations, about" in told
    assert "b.mp4        1.00 s, 32x32, 2 windows, 4 evaluations, about" in told
    assert "2 videos: 2 to be made, 0 there, 0 that fail" in told and "6 evaluations, 1 rows evaluated" in told
    assert names(tmp_path) == []


def test_processes_share_the_videos(inputs, tmp_path, monkeypatch, capsys):
    """Each is made by one of them, and the first tells what all made."""
    sounds = ("middle", "short", "short", "nowhere")
    path = listed(inputs, [{"audio": f"{sound}.wav"} for sound in sounds], "shared.jsonl")
    config = change(FAST, image=inputs / "face.png", several=Several(jobs=path, output_dir=tmp_path / "videos"))
    planned = [look(job) for job in read_jobs(config)]
    owners = share(planned, 2)
    assert owners == [0, 1, 1, -1]
    monkeypatch.setattr(hosts, "count", lambda: 2)
    monkeypatch.setattr(hosts, "agree", lambda values: owners)

    def second(name):
        """While the first process waits for it, the second makes its part."""
        made = ["0001.json", "0001.mp4", "0004.error.txt"]
        assert names(tmp_path / "videos") == made
        monkeypatch.setattr(hosts, "index", lambda: 1)
        monkeypatch.setattr(hosts, "meet", lambda name: None)
        assert main(arguments(path, tmp_path / "videos")) == 0
        made += ["0002.json", "0002.mp4", "0003.json", "0003.mp4"]
        assert names(tmp_path / "videos") == sorted(made)
        monkeypatch.setattr(hosts, "index", lambda: 0)

    monkeypatch.setattr(hosts, "index", lambda: 0)
    monkeypatch.setattr(hosts, "meet", second)
    assert main(arguments(path, tmp_path / "videos")) == 1
    assert "4 videos: 3 made, 1 failed" in capsys.readouterr().out


@pytest.mark.parametrize("processes", [1, 3, 20])
def test_shares_leave_no_gap_and_are_even(inputs, processes):
    config = change(FAST, image=inputs / "face.png", audio=inputs / "short.wav")
    one = look(Listed(line=1, config=config))
    lengths = np.random.default_rng(0).integers(1, 9, 15)
    windows = one.known.windows
    plans = [dataclasses.replace(windows, frames=5 + 3 * (int(length) - 1)) for length in lengths]
    jobs = [dataclasses.replace(one, time=dataclasses.replace(one.known, windows=plan)) for plan in plans]
    jobs[4] = dataclasses.replace(one, time=None)
    owners = share(jobs, processes)
    assert [owner == -1 for owner in owners] == [not job.due for job in jobs]
    work = np.bincount([o for o in owners if o >= 0], [j.evaluations for j in jobs if j.due], minlength=processes)
    assert len(work) == processes and work.max() - work.min() <= max(lengths) * 2


def test_groups_keep_to_one_size_and_to_what_memory_holds(inputs, monkeypatch):
    config = change(FAST, image=inputs / "face.png", audio=inputs / "short.wav")
    sizes = [32, 32, 48, 32, 32, 48, 32]
    planned = [look(Listed(line=n, config=change(config, height=size))) for n, size in enumerate(sizes, 1)]
    made = groups(planned, keep=True)
    assert [[each.job.line for each in group.jobs] for group in made] == [[1, 2, 4, 5, 7], [3, 6]]
    assert {group.denoising.order for group in made} == {"wavefront"}
    monkeypatch.setattr(jobs_plan, "MOST_TOGETHER", 2)
    made = groups(planned, keep=True)
    assert [[each.job.line for each in group.jobs] for group in made] == [[1], [2, 4], [3, 6], [5, 7]]
    assert all(group.work[0] == group.work[1] for group in made)  # one row at a time: nothing is filled up


FAULTS = {
    "no JSON": ("{", "line 1: is no JSON object"),
    "no object": ("[1, 2]", "line 1: is no JSON object (it is [1, 2])"),
    "not UTF-8": (b'{"image": "\xff"}', "line 1: is no JSON object ('utf-8' codec"),
    "NaN": ('{"image": "a", "audio": "b", "w1": NaN}', "NaN is no number of JSON"),
    "twice": ('{"image": "a", "image": "b", "audio": "c"}', "image is there twice"),
    "nested": ("[" * 99999, "line 1: is no JSON object"),
    "unknown": ('{"image": "a", "audio": "b", "guidance-scale": 3}', "guidance_scale is not an option; did you mean"),
    "type": ('{"image": "a", "audio": "b", "seed": "3"}', 'line 1: seed is "3", int is needed'),
    "whole number": ('{"image": "a", "audio": "b", "steps": true}', "line 1: steps is true, int is needed"),
    "size": ('{"image": "a", "audio": "b", "size": 32}', "size is 32, rows x columns are needed"),
    "of all": ('{"image": "a", "audio": "b", "checkpoint": "c"}', "checkpoint is of the whole list; give it on"),
    "no video": ('{"image": "a", "audio": "b", "save_conditions": "c"}', "save_conditions makes no video"),
    "live": ('{"image": "a", "audio": "-"}', "audio is a live sound"),
    "missing": ('{"image": "a"}', "line 1: audio is missing"),
    "outside": ('{"image": "a", "audio": "b", "output": "../c.mp4"}', "output is ../c.mp4, a place in --output-dir"),
    "ending": ('{"image": "a", "audio": "b", "output": "c.avi"}', "output is c.avi, a name that ends in .mp4"),
    "one name": ('\n{"image": "a", "audio": "b"}\n{"image": "a", "audio": "b", "output": "0002.MP4"}',
                 "line 3: {folder}/out/0002.json is written by line 2 too"),
    "an input": ('{"image": "a", "audio": "out/0001.mp4"}', "line 1: {folder}/out/0001.mp4 is read, and would be wr"),
    "empty": ("# nothing\n\n", "no videos are listed"),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_a_faulty_list_is_refused_whole(tmp_path, case):
    text, words = FAULTS[case]
    path = tmp_path / "jobs.jsonl"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    config = dataclasses.replace(tiny.config, several=Several(jobs=path, output_dir=tmp_path / "out"))
    with pytest.raises(Mistake) as refused:
        read_jobs(config)
    assert words.format(folder=tmp_path) in str(refused.value) and str(refused.value).startswith(str(path))


def test_all_faults_are_told_at_once_and_nothing_is_written(inputs, tmp_path, capsys):
    path = listed(inputs, [{"audio": "short.wav"}, {"sed": 1}, "{", {"steps": 1.5, "audio": 3}], "faulty.jsonl")
    assert main(arguments(path, tmp_path / "videos")) == 1
    error = capsys.readouterr().err
    assert "nothing is made of a list with 5 faults" in error
    lines = [line.partition(":")[0] for line in error.splitlines()[1:]]
    assert lines == ["line 2", "line 2", "line 3", "line 4", "line 4"]
    assert names(tmp_path) == []


@pytest.mark.parametrize("option", ["--output=a.mp4", "--latents=z.npy", "--save-conditions=c", "--audio=-"])
def test_options_of_one_video_are_refused(inputs, tmp_path, capsys, option):
    path = listed(inputs, [{"audio": "short.wav"}], "options.jsonl")
    assert main(arguments(path, tmp_path / "videos", option)) == 1
    assert f"error: {option.replace('=-', ' -').partition('=')[0]} is of one video" in capsys.readouterr().err


def test_lines_as_editors_write_them(tmp_path):
    """A byte-order mark, line ends of Windows, blank lines, notes, options with hyphens; numbers are those of lines."""
    path = tmp_path / "jobs.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"image": "a.png", "audio": "/b.wav"}\r\n\r\n# a note\r\n'
        b'  {"image": "a.png", "audio": "b.wav", "negative-prompt": "\xe4\xba\xba \xe2\x80\xa8", "w1": 2, "rows": null}'
    )
    config = dataclasses.replace(tiny.config, several=Several(jobs=path, output_dir=tmp_path / "out"))
    first, second = read_jobs(change(config, seed=5, rows=2))
    assert (first.output, second.output) == (tmp_path / "out" / "0001.mp4", tmp_path / "out" / "0004.mp4")
    assert (first.config.inputs.image, first.config.inputs.audio) == (tmp_path / "a.png", Path("/b.wav"))
    assert (second.config.inputs.negative_prompt, second.config.denoising.w1) == ("人 \u2028", 2.0)
    assert second.config.inputs.seed == 5 and second.config.denoising.windows.rows is None
