"""The commands, end to end on a toy avatar: what they write, and that a failure writes nothing and fits one screen."""

import hashlib
import json
import resource
import shutil
from concurrent.futures import CancelledError

import ml_dtypes
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from stableavatar_jax.checkpoint import iterate_params, save_params
from stableavatar_jax.convert import record
from stableavatar_jax.convert.commands import main
from tests.convert.conftest import ToyConfig, tensors
from tests.weights import pth

pytestmark = pytest.mark.usefixtures("toy")

PRESET = "from tests.convert.conftest import AvatarConfig, ToyConfig\nconfig = AvatarConfig(dit=ToyConfig(width={}))\n"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run a command in an empty folder; gives its status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def command(line):
        status = main(line.split())
        return status, *capsys.readouterr()

    return command


def fails(result, *messages):
    status, out, err = result
    assert status == 1 and err.startswith("error: ") and "Traceback" not in err and len(err.splitlines()) < 20
    for message in messages:
        assert message in err
    return True


def tokenizer(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"model": {"type": "Unigram"}}))


def import_all(run, tmp_path, parts=("dit", "vae", "umt5", "clip_vision", "wav2vec2")):
    tokenizer(tmp_path / "tokenizer.json")
    for part in parts:
        pth.save(tmp_path / f"{part}.pth", tensors(part))
        assert run(f"import --part {part} --source {part}.pth --output models")[0] == 0


def test_import_writes_a_part_its_config_and_nothing_else(run, tmp_path):
    source = tensors("dit")
    pth.save(tmp_path / "w.pth", source | {"position_ids": np.arange(3)})
    status, out, _ = run("import --part dit --source w.pth --output models")
    assert status == 0
    assert "ignored, no place in the model: position_ids" in out
    assert "models/dit.safetensors" in out and "float32" in out
    files = sorted(path.name for path in (tmp_path / "models").iterdir())
    assert files == ["config.json", "conversion.json", "dit.safetensors"]
    params = dict(iterate_params(tmp_path / "models" / "dit"))
    assert_array_equal(params["kernel"], np.stack([source[f"dit.{i}.weight"].T for i in range(2)]))
    assert_array_equal(params["scale"], source["dit.gamma"])


def test_a_second_part_is_added_and_the_whole_verified(run, tmp_path):
    import_all(run, tmp_path)
    names = {path.name for path in (tmp_path / "models").iterdir()}
    files = {f"{name}.safetensors" for name in ("dit", "vae", "umt5", "clip_vision", "wav2vec2")}
    assert names == {"config.json", "conversion.json", "tokenizer.json"} | files
    status, out, _ = run("verify models")
    assert status == 0 and out.count("good") == 5 and "all finite" in out


def test_verify_names_what_is_wrong(run, tmp_path):
    import_all(run, tmp_path, ("dit", "vae"))
    bad = dict(iterate_params(tmp_path / "models" / "dit"))
    bad["kernel"] = np.where(np.arange(4) == 2, np.nan, bad["kernel"]).astype(np.float32)
    save_params(tmp_path / "models" / "dit", bad, overwrite=True)
    save_params(tmp_path / "models" / "vae", {"other": np.ones(3, np.float32)}, overwrite=True)
    status, out, _ = run("verify models")
    assert status == 1 and "good" not in out
    for message in (
        "models/dit: not finite: kernel;",
        "other has no place in the model",
        "--part umt5 --source FILE --output models",
        "models/tokenizer.json: no such file",
    ):
        assert message in out
    assert fails(run("verify nowhere"), "nowhere: no such folder; give a model directory")


def test_dtype_is_the_files_own_or_the_one_asked_for(run, tmp_path):
    half = {name: array.astype(ml_dtypes.bfloat16) for name, array in tensors("dit").items()}
    pth.save(tmp_path / "half.pth", half)
    pth.save(tmp_path / "mixed.pth", half | {"dit.gamma": np.ones(4, np.float32)})
    for source, options, dtype in (
        ("half", "", "bfloat16"),
        ("mixed", "", "float32"),
        ("mixed", "--dtype bfloat16", "bfloat16"),
        ("half", "--dtype float32", "float32"),
    ):
        assert run(f"import --part dit --source {source}.pth --output models --overwrite {options}")[0] == 0
        assert {str(array.dtype) for _, array in iterate_params(tmp_path / "models" / "dit")} == {dtype}


def test_an_absent_tensor_is_reported(run, tmp_path):
    source = tensors("dit")
    del source["dit.gamma"]
    pth.save(tmp_path / "w.pth", source)
    status, out, _ = run("import --part dit --source w.pth --output models")
    assert status == 0 and "absent from the file, set to zero: dit.gamma" in out


def test_a_mismatch_is_listed_and_nothing_is_left(run, tmp_path):
    pth.save(tmp_path / "w.pth", tensors("dit") | {"extra": np.ones(1, np.float32)})
    assert fails(run("import --part dit --source w.pth --output models"), "w.pth: 1 mismatch", "unused tensor extra")
    pth.save(tmp_path / "w.pth", tensors("dit", ToyConfig(width=8)))
    assert fails(run("import --part dit --source w.pth --output models"), "another size, name its preset: --config")
    pth.save(tmp_path / "w.pth", tensors("vae"))
    assert fails(run("import --part dit --source w.pth --output models"), "the file looks like vae: try --part vae")
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("existing", [False, True])
def test_a_disk_that_fills_up_midway_leaves_what_was(run, tmp_path, existing):
    import_all(run, tmp_path, ("vae",)) if existing else None
    before = sorted(path.name for path in tmp_path.glob("models/*"))
    wide = ToyConfig(width=256)
    pth.save(tmp_path / "dit.pth", tensors("dit", wide))
    (tmp_path / "wide.py").write_text(PRESET.format(256))
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limit[1]))
        extra = "" if existing else " --config wide.py"
        result = run("import --part dit --source dit.pth --output models" + extra)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert fails(result, "dit.safetensors: cannot be written" if not existing else "mismatch")
    assert sorted(path.name for path in tmp_path.glob("models/*")) == before


def test_an_existing_part_needs_overwrite(run, tmp_path):
    import_all(run, tmp_path, ("dit",))
    assert fails(run("import --part dit --source dit.pth --output models"), "models/dit exists already")
    assert run("import --part dit --source dit.pth --output models --overwrite")[0] == 0


@pytest.mark.parametrize("place", ["models/dit.safetensors", "link.pth", "hard.pth", "models/dit/x.pth"])
def test_a_part_does_not_take_the_place_of_what_it_is_made_from(run, tmp_path, place):
    """`DIR/dit.safetensors` is what an import writes, and the folder `DIR/dit` goes when it is replaced."""
    source = tmp_path / "models" / ("dit/x.pth" if place.endswith("/x.pth") else "dit.safetensors")
    source.parent.mkdir(parents=True)
    pth.save(source, tensors("dit"))
    before = source.read_bytes()
    if place.startswith("link"):
        (tmp_path / place).symlink_to(source)
    if place.startswith("hard"):
        (tmp_path / place).hardlink_to(source)
    refused = run(f"import --part dit --source {place} --output models --overwrite")
    assert fails(refused) and ("is read" in refused[2] or "would be written over" in refused[2])
    assert source.read_bytes() == before


def test_sizes_come_from_the_preset_and_must_agree(run, tmp_path):
    (tmp_path / "wide.py").write_text(PRESET.format(8))
    (tmp_path / "same.py").write_text(PRESET.format(8))
    (tmp_path / "narrow.py").write_text(PRESET.format(6))
    pth.save(tmp_path / "dit.pth", tensors("dit", ToyConfig(width=8)))
    pth.save(tmp_path / "vae.pth", tensors("vae"))
    assert run("import --part dit --source dit.pth --output models --config wide.py")[0] == 0
    assert fails(
        run("import --part vae --source vae.pth --output models --config narrow.py"),
        "models/config.json and narrow.py disagree: dit.width is 8 in the one, 6 in the other",
    )
    assert run("import --part vae --source vae.pth --output models --config same.py")[0] == 0
    assert fails(run("import --part vae --source vae.pth --output new --config absent.py"), "absent.py: no such preset")


@pytest.mark.parametrize("place", ["tokenizer.json", "google/umt5-xxl/tokenizer.json", "../tokenizer/tokenizer.json"])
def test_the_tokenizer_comes_along(run, tmp_path, place):
    (tmp_path / "text").mkdir()
    pth.save(tmp_path / "text" / "w.pth", tensors("umt5"))
    tokenizer(tmp_path / "text" / place)
    assert run("import --part umt5 --source text/w.pth --output models")[0] == 0
    assert (tmp_path / "models" / "tokenizer.json").is_file()


def test_a_tokenizer_given_or_missing(run, tmp_path):
    pth.save(tmp_path / "w.pth", tensors("umt5"))
    tokenizer(tmp_path / "elsewhere" / "t.json")
    (tmp_path / "bad.json").write_text("[]")
    command = "import --part umt5 --source w.pth --output models --overwrite"
    assert fails(run(f"{command} --tokenizer bad.json"), "bad.json: no tokenizer")
    assert "copy it to models/tokenizer.json" in run(command)[1]
    assert "copy it" not in run(f"{command} --tokenizer elsewhere/t.json")[1]


def test_import_refuses_before_it_needs_the_room(run, tmp_path, monkeypatch):
    pth.save(tmp_path / "dit.pth", tensors("dit"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 7}))
    assert fails(run("import --part dit --source dit.pth --output models"), "free; make room")
    assert not (tmp_path / "models").exists()


def test_inspect_says_what_a_file_is(run, tmp_path):
    source = tensors("vae")
    pth.save(tmp_path / "w.pth", source)
    status, out, _ = run("inspect w.pth --names")
    assert status == 0
    assert "vae.0.weight  float32        4x4" in out and "3 tensors" in out and "float32 (3)" in out
    assert "it looks like vae, names of vae original, nearest to the toy model" in out
    assert "3 of its 3 names are known; every tensor fits" in out
    assert "vae.0.weight" not in run("inspect w.pth")[1]
    del source["vae.1.weight"]
    wrong = {"extra": np.ones(2, np.float32), "vae.0.weight": np.ones((4, 5), np.float32)}
    pth.save(tmp_path / "w.pth", source | wrong)
    out = run("inspect w.pth")[1]
    assert "missing: vae.1.weight" in out and "unknown: extra" in out and "of another shape: vae.0.weight" in out
    pth.save(tmp_path / "other.pth", {"a": np.ones(2, np.float32)})
    assert "no part of the avatar" in run("inspect other.pth")[1]
    pth.save(tmp_path / "dit.pth", tensors("dit"))
    run("import --part dit --source dit.pth --output models")
    assert "models/dit: 2 tensors" in run("inspect models")[1]


def test_a_release_folder_comes_in_at_once(run, tmp_path):
    release = tmp_path / "release"
    for part in ("dit", "vae", "umt5", "clip_vision"):
        (release / part).mkdir(parents=True)
        pth.save(release / part / "weights.pth", tensors(part))
    tokenizer(release / "xlm-roberta-large" / "tokenizer.json")
    tokenizer(release / "google" / "umt5-xxl" / "tokenizer.json")
    (release / "notes.pth").write_bytes(b"no weights")
    status, out, _ = run("import --source release --output models")
    assert status == 0 and "wav2vec2: not found in release" in out
    names = {path.name for path in (tmp_path / "models").iterdir()}
    assert names >= {"tokenizer.json", *(f"{part}.safetensors" for part in ("dit", "vae", "umt5", "clip_vision"))}
    assert "dit: there already" in run("import --source release --output models")[1]
    pth.save(release / "dit" / "second.pth", tensors("dit"))
    two = ("dit/second.pth and release/dit/weights.pth hold dit; import one of them, such as --part dit --source",)
    assert fails(run("import --source release --output other"), *two)
    assert "dit: there already" in run("import --source release --output models")[1]  # one of the two is chosen
    assert fails(run("import --source release --output models --overwrite"), *two)
    (release / "elsewhere").mkdir()
    (release / "dit" / "second.pth").rename(release / "elsewhere" / "second.bin")
    assert fails(run("import --source release --output other"), "hold dit")  # another folder's other format is no copy
    (release / "elsewhere" / "second.bin").rename(release / "dit" / "weights.bin")
    assert run("import --source release --output other")[0] == 0  # the same folder's is
    assert "dit/weights.bin" in (tmp_path / "other" / "conversion.json").read_text()
    assert fails(run("import --source models --output more"), "no weights of the avatar in this folder")


def test_the_record_says_where_weights_came_from(run, tmp_path):
    file = pth.save(tmp_path / "w.pth", tensors("dit"))
    run("import --part dit --source w.pth --output models")
    entry = json.loads((tmp_path / "models" / "conversion.json").read_text())["dit"]
    sha = hashlib.sha256(file.read_bytes()).hexdigest()
    assert entry["from"] == [{"file": "w.pth", "bytes": file.stat().st_size, "sha256": sha}]
    assert entry["names"] == "dit original" and entry["dtype"] == "float32" and entry["made"].startswith("20")


def test_sources_are_hashed_in_steps_and_no_further_after_a_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "STEP", 1000)
    long, empty = tmp_path / "long", tmp_path / "empty"
    long.write_bytes(np.random.default_rng(0).bytes(2500))
    empty.touch()
    with record.hashed([long, empty]) as sources:
        found = {entry["file"]: (entry["bytes"], entry["sha256"]) for entry in sources.result()}
    assert found == {str(p): (p.stat().st_size, hashlib.sha256(p.read_bytes()).hexdigest()) for p in (long, empty)}
    monkeypatch.setattr(record, "STEP", 1)
    long.write_bytes(bytes(1 << 20))
    with pytest.raises(KeyError), record.hashed([long]) as sources:
        raise KeyError
    with pytest.raises(CancelledError):
        sources.result()


@pytest.mark.parametrize("command", ["inspect {}", "import --part dit --source {} --output models"])
def test_files_that_are_no_weights_fit_one_screen(run, tmp_path, command):
    (tmp_path / "empty.pth").write_bytes(b"")
    assert fails(run(command.format("empty.pth")), "empty.pth: an empty file; download it again")
    assert fails(run(command.format("absent.pth")), "absent.pth: no such file")
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("command", ["--help", "import --help", "inspect --help", "verify --help"])
def test_help_teaches(run, command):
    status, out, _ = run(command)
    assert status == 0
    if command == "--help":
        assert "python -m convert import --part vae --source Wan2.1_VAE.pth --output models" in out[:1200]


def test_mistyped_options_are_named(run):
    status, out, err = run("import --part vea --source a --output b")
    assert status == 2 and "vae" in out + err
