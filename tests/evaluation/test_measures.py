"""Pure measures: against published numbers, and against what is known by construction."""

import numpy as np
import pytest
from scipy import linalg

from stableavatar_jax.diffusion.windows import WindowPlan
from stableavatar_jax.errors import Mistake
from stableavatar_jax.evaluation.__main__ import main
from stableavatar_jax.evaluation.colour import ciede2000
from stableavatar_jax.evaluation.measures import csim, filled, joints, proportions, seams, sync
from stableavatar_jax.evaluation.quality import detail_kept, frechet, frozen, psnr, seam, sharpness, ssim
from stableavatar_jax.evaluation.readings import Faces, Readings, read
from stableavatar_jax.evaluation.sync import sync_scores

RNG = np.random.default_rng(0)
SHARMA = """
50 2.6772 -79.7751   50 0 -82.7485    2.0425
50 3.1571 -77.2803   50 0 -82.7485    2.8615
50 2.8361 -74.0200   50 0 -82.7485    3.4412
50 -1.3802 -84.2814  50 0 -82.7485    1.0000
50 -1.1848 -84.8006  50 0 -82.7485    1.0000
50 -0.9009 -85.5211  50 0 -82.7485    1.0000
50 0 0               50 -1 2          2.3669
50 -1 2              50 0 0           2.3669
50 2.49 -0.001       50 -2.49 0.0009  7.1792
50 2.49 -0.001       50 -2.49 0.0010  7.1792
50 2.49 -0.001       50 -2.49 0.0011  7.2195
50 2.49 -0.001       50 -2.49 0.0012  7.2195
50 -0.001 2.49       50 0.0009 -2.49  4.8045
50 -0.001 2.49       50 0.0010 -2.49  4.8045
50 -0.001 2.49       50 0.0011 -2.49  4.7461
50 2.5 0             50 0 -2.5        4.3065
50 2.5 0             73 25 -18        27.1492
50 2.5 0             61 -5 29         22.8977
50 2.5 0             56 -27 -3        31.9030
50 2.5 0             58 24 15         19.4535
50 2.5 0             50 3.1736 0.5854 1.0000
50 2.5 0             50 3.2972 0      1.0000
50 2.5 0             50 1.8634 0.5757 1.0000
50 2.5 0             50 3.2592 0.3350 1.0000
60.2574 -34.0099 36.2677  60.4626 -34.1751 39.4387  1.2644
63.0109 -31.0961 -5.8663  62.8187 -29.7946 -4.0864  1.2630
61.2901 3.7196 -5.3901    61.4292 2.2480 -4.9620    1.8731
35.0831 -44.1164 3.7933   35.0232 -40.0716 1.5901   1.8645
22.7233 20.0904 -46.6940  23.0331 14.9730 -42.5619  2.0373
36.4612 47.8580 18.3852   36.2715 50.5065 21.2231   1.4146
90.8027 -2.0831 1.4410    91.1528 -1.6435 0.0447    1.4441
90.9257 -0.5406 -0.9208   88.6381 -0.8985 -0.7239   1.5381
6.7747 -0.2908 -2.4247    5.8714 -0.0985 -2.2286    0.6377
2.0776 0.0795 -1.1350     0.9033 -0.0636 -0.5514    0.9082
"""
"""Pairs of CIELAB colours and their difference: Sharma, Wu and Dalal 2005, table 1."""


def test_ciede2000_gives_the_published_differences():
    pairs = np.array(SHARMA.split(), float).reshape(-1, 7)
    assert len(pairs) == 34
    np.testing.assert_allclose(ciede2000(pairs[:, :3], pairs[:, 3:6]), pairs[:, 6], atol=5e-5)
    np.testing.assert_allclose(ciede2000(pairs[:, 3:6], pairs[:, :3]), pairs[:, 6], atol=5e-5)


def test_psnr_and_ssim():
    a = RNG.integers(0, 256, (40, 30, 3), np.uint8)
    assert psnr(a, a) == 100 and ssim(a, a) == pytest.approx(1)
    assert psnr(a // 2, a // 2 + 3) == pytest.approx(20 * np.log10(255 / 3))
    b = RNG.integers(0, 256, (40, 30, 3), np.uint8)
    assert abs(ssim(a, b)) < 0.1 < ssim(a, (a // 2 + b // 2)) < 0.95
    # Of flat pictures only the term of the means is left: (2 mn + c1) / (m^2 + n^2 + c1).
    flat = [np.full((20, 20, 3), level, np.uint8) for level in (100, 200)]
    assert ssim(*flat) == pytest.approx((2 * 100 * 200 + 6.5025) / (100**2 + 200**2 + 6.5025), abs=1e-4)
    with pytest.raises(Mistake, match="11 or more"):
        ssim(a[:8], a[:8])


def test_frechet_distance_of_gaussians():
    a = RNG.standard_normal((4000, 6)) @ RNG.standard_normal((6, 6)) + 1
    b = RNG.standard_normal((3000, 6)) @ RNG.standard_normal((6, 6))
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = linalg.sqrtm(first @ second).real
    by_definition = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(first + second - 2 * root)
    assert frechet(a, b) == pytest.approx(by_definition, rel=1e-8) and frechet(b, a) == pytest.approx(by_definition)
    assert abs(frechet(a, a)) < 1e-6 and frechet(a, a + 2) == pytest.approx(6 * 4)
    with pytest.raises(Mistake, match="two rows"):
        frechet(a[:1], b)


def test_sharpness_is_of_edges_not_of_contrast():
    picture = np.kron(RNG.integers(0, 256, (12, 12, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    soft = np.stack([picture, np.roll(picture, 1, 0), np.roll(picture, 1, 1), np.roll(picture, (1, 1), (0, 1))])
    paler = (picture * 0.7 + 30).astype(np.uint8)
    assert sharpness(soft.mean(0).astype(np.uint8)) < 0.9 * sharpness(picture)
    assert sharpness(paler) == pytest.approx(sharpness(picture), rel=0.01)
    assert sharpness(np.zeros((20, 20, 3), np.uint8)) == 0


def test_frozen_frames_are_copies_in_a_row():
    change = np.array([np.nan, 1, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0.5, 0.01, 0.02, 0.0, 0.03, 0.02])
    np.testing.assert_array_equal(np.flatnonzero(frozen(change)), [2, 3, 4, 5, 6, 12, 13, 14, 15, 16])


def test_seams_are_where_windows_meet():
    plan = WindowPlan(27, 9, 3)
    np.testing.assert_array_equal(joints(plan), [6, 9, 12, 15, 18, 21])
    np.testing.assert_array_equal(joints(WindowPlan(27, 9, 0)), [9, 18])
    change = np.ones(4 * 27 - 3)
    empty = {"fps": 25.0, "colours": np.zeros((105, 1, 3)), "sharpness": np.ones(105)}
    assert seams(Readings(change=change, **empty), plan) == 1
    change[4 * joints(plan) - 3] = 2.5
    assert seams(Readings(change=change, **empty), plan) == 2.5
    assert np.isnan(seam(np.ones(5), np.array([], int))) and np.isnan(seam(np.ones(5), np.array([9])))


def test_sync_scores_find_the_offset():
    sound = RNG.standard_normal((60, 32))
    found = sync_scores(sound[:57], np.concatenate([sound[3:], np.zeros((3, 32))])[:57])
    assert found.offset == -3 and found.d < 0.8 and found.c > 5
    wrong = sync_scores(RNG.standard_normal((57, 32)), sound[:57])
    assert wrong.c < 1 and wrong.d > 6
    with pytest.raises(Mistake, match="same shape"):
        sync_scores(sound, sound[:50])


def test_lips_and_sound_by_correlation():
    expected = np.convolve(RNG.random(80), np.ones(3) / 3, "same")
    late = np.roll(expected, 4)
    faces = Faces(opening=late * 0.2, place=np.zeros((80, 2)), flat=0.02)
    found = sync(faces, expected)
    assert found["lag"] == 4 and found["best_r"] > 0.99 > 0.5 > found["r"]
    holes = late * 0.2
    holes[10:12] = np.nan
    assert sync(Faces(opening=holes, place=np.zeros((80, 2)), flat=0.02), expected)["best_r"] > 0.9
    np.testing.assert_allclose(filled(np.array([np.nan, 1, np.nan, 3])), [1, 1, 2, 3])
    assert sync(faces, np.zeros(80))["best_r"] == 0, "nobody speaks"
    assert sync(Faces(opening=late * 0.01, place=np.zeros((80, 2)), flat=0.02), expected)["best_r"] == 0
    with pytest.raises(Mistake, match="too few"):
        sync(faces, expected[:10])


def test_identity_of_embeddings_and_of_proportions():
    one, other = np.eye(4)[:1].repeat(3, 0), np.eye(4)[1:2].repeat(2, 0)
    assert csim(one, one * 5) == pytest.approx(1) and csim(one, other) == 0 and csim(one, -one) == -1
    assert proportions(np.ones((4, 3)), np.ones((3, 3)) * [1, 1.1, 0.95]) == pytest.approx(0.1)


def test_a_video_is_read_in_one_pass():
    frames = RNG.integers(0, 256, (7, 32, 48, 3), np.uint8)
    frames[3] = frames[2]

    def reader(shown):
        assert next(iter(shown)).shape == (32, 48, 3), "a reader may stop early"
        return Faces(opening=np.zeros(7), place=np.zeros((7, 2)), flat=0.1)

    seen = read(iter(frames), 25.0, reader)
    assert len(seen) == 7 and seen.colours.shape == (7, 64, 3) and seen.faces is not None
    assert np.isnan(seen.change[0]) and seen.change[3] == 0 and seen.change[4] > 50


def test_the_frechet_command(tmp_path, capsys):
    for name, shift in (("real", 0), ("made", 2)):
        np.save(tmp_path / f"{name}.npy", np.random.default_rng(1).standard_normal((50, 6)) + shift)
    command = ["frechet", str(tmp_path / "real.npy")]
    assert main([*command, str(tmp_path / "made.npy")]) == 0
    assert float(capsys.readouterr().out) == pytest.approx(24, rel=1e-3)
    np.save(tmp_path / "few.npy", np.zeros((3, 6)))
    assert main([*command, str(tmp_path / "few.npy")]) == 0 and "fewer rows" in capsys.readouterr().out
    (tmp_path / "text.npy").write_text("no features")
    for name, told in (("text", "no .npy file"), ("flat", "rows, are needed")):
        np.save(tmp_path / "flat.npy", np.zeros(6))
        assert main([*command, str(tmp_path / f"{name}.npy")]) == 1 and told in capsys.readouterr().err


def test_detail_of_light_and_of_colour_are_told_apart():
    """Grey pictures keep all light and no colour; blurred ones neither; the same ones both."""
    given = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3), np.uint8)
    grey = np.repeat((given @ np.float32((0.299, 0.587, 0.114)))[..., None], 3, -1).round().astype(np.uint8)
    assert detail_kept(given, given) == (1.0, 1.0)
    np.testing.assert_allclose(detail_kept(grey, given), (1, 0), atol=2e-3)
    flat = np.full_like(given, 128)
    np.testing.assert_allclose(detail_kept(flat, given), (0, 0), atol=1e-5)
