import jax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from stableavatar_jax.diffusion.guidance import Branch, Guidance, audio_native, cfg, combine, none

SOUND = Branch(text="prompt", audio="sound")


def test_neutral_scales_are_the_conditional_prediction_in_one_evaluation():
    v = jax.random.normal(jax.random.key(0), (2, 1, 3, 4))
    for guidance in (audio_native(0, 0), cfg(1, 1), none()):
        assert guidance.branches == (SOUND,)
        assert_array_equal(combine(v, guidance), v[:, 0])


def test_a_zero_coefficient_costs_no_evaluation():
    assert len(audio_native(3, 1).branches) == 3
    assert audio_native(3, 0).branches == (SOUND, Branch(audio="silence"))
    assert cfg(4, 4).branches == (Branch(text="negative", audio="dropped"), SOUND)
    assert cfg(3, 5, null="silence").branches[0] == Branch(text="negative", audio="silence")


@pytest.mark.parametrize("guidance", [none(), audio_native(3, 1), audio_native(0.3, 2.7), cfg(3, 5), cfg(6, 0.5)])
def test_what_all_branches_agree_on_is_kept(guidance):
    assert abs(sum(guidance.coefficients) - 1) < 1e-12
    v = jax.numpy.full((2, len(guidance.branches), 5), 1.5)
    assert_allclose(combine(v, guidance), 1.5, rtol=1e-5)


def test_formulas():
    sound, silence, dropped = u = jax.random.normal(jax.random.key(1), (3, 1, 4))
    expected = (1 + 3 + 2) * sound - 3 * silence - 2 * dropped
    assert_allclose(combine(u.swapaxes(0, 1), audio_native(3, 2)), expected, rtol=1e-5)
    u0, u1, u2 = u
    expected = u0 + 5 * (u1 - u0) + 3 * (u2 - u1)
    assert_allclose(combine(u.swapaxes(0, 1), cfg(3, 5)), expected, rtol=1e-5, atol=1e-6)


def test_coefficients_that_would_scale_the_velocity_are_refused():
    with pytest.raises(ValueError, match="not to 1"):
        Guidance((SOUND, Branch(audio="silence")), (1.0, 1.0))
    with pytest.raises(ValueError, match="branches"):
        combine(jax.numpy.ones((1, 2, 3)), none())
