"""Model cards: beside what is exported, and beside the demo's weights."""

import re

import pytest

from stableavatar_jax.convert.commands import main
from stableavatar_jax.demo.preset import MODEL
from stableavatar_jax.weights.directory import open_part


def front(card):
    """The front matter that model hubs read, as {key: value}."""
    lines = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)[1].splitlines()
    return dict(line.split(": ", 1) for line in lines if ": " in line)


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A model directory with one part, and nothing that tells of it."""
    folder = tmp_path_factory.mktemp("bare")
    for name in ("config.json", "wav2vec2.safetensors"):
        (folder / name).symlink_to(MODEL / name)
    return folder


def export(source, output, part="wav2vec2", *more):
    return main(["export", "--part", part, "--source", str(source), "--output", str(output), *more])


def test_a_folder_has_its_card(bare, tmp_path):
    assert export(bare, tmp_path / "out", "wav2vec2", "--layout", "transformers") == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert front(card) == {"license": "unknown", "library_name": "transformers"}
    count = sum(tensor.size for tensor in open_part(bare / "wav2vec2").values())
    assert f"{count / 1e6:,.1f} M parameters (bfloat16)" in card
    for says in ("speech encoder", "No record says", "What they were trained on is not recorded", "No licence is"):
        assert says in card
    for title in ("## Training", "## Licence", "## Limits"):
        assert card.count(title) == 1


def test_a_card_tells_where_imported_weights_came_from(bare, tmp_path):
    export(bare, tmp_path / "speech.bin")
    where = ["--source", str(tmp_path / "speech.bin"), "--output", str(tmp_path / "model"), "--config", "demo"]
    assert main(["import", "--part", "wav2vec2", *where]) == 0
    assert export(tmp_path / "model", tmp_path / "again.safetensors") == 0
    card = (tmp_path / "again.safetensors.md").read_text()
    assert re.search(r"by `convert import` from `speech.bin` \(SHA-256 [0-9a-f]{64}\)", card)


def test_a_file_of_the_users_is_not_written_over(bare, tmp_path, capsys):
    (tmp_path / "w.pt.md").write_text("mine")
    assert export(bare, tmp_path / "w.pt") == 1 and "w.pt.md exists already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["w.pt.md"]
    assert (tmp_path / "w.pt.md").read_text() == "mine"


def test_the_demo_has_a_card_that_its_exports_carry(tmp_path):
    card = (MODEL / "README.md").read_text()
    assert front(card)["license"] == "apache-2.0"
    for name in ("dit", "vae", "umt5", "clip_vision", "wav2vec2"):
        count = sum(tensor.size for tensor in open_part(MODEL / name).values())
        assert f"| `{name}` | {count / 1e6:.2f} M |" in card
    assert export(MODEL, tmp_path / "dit.pt", "dit") == 0
    exported = (tmp_path / "dit.pt.md").read_text()
    assert front(exported)["license"] == "apache-2.0" and "not recorded" not in exported
    assert "drawn cartoon characters" in exported and front(exported)["pipeline_tag"] == "image-to-video"
