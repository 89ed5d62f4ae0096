"""Progress bars while stages take turns."""

from stableavatar_jax.sampling import progress
from stableavatar_jax.sampling.progress import Bars, Decoded, Denoised, Encoding


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
