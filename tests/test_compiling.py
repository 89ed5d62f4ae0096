"""Options of compilation: by the platform asked for, and the user's own come first."""

from stableavatar_jax.compiling import compiler_options


def test_options_belong_to_the_platform_that_is_asked_for(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    assert list(compiler_options("cpu")) == ["xla_disable_hlo_passes"]
    assert all("xla_tpu" in name for name in compiler_options("tpu")) and compiler_options("other") == {}
    plain, same = compiler_options("gpu"), compiler_options("gpu", deterministic=True)
    assert set(same) - set(plain) == {"xla_gpu_exclude_nondeterministic_ops"}


def test_what_the_user_has_set_is_left(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_enable_triton_gemm=true --xla_dump_to=here")
    assert list(compiler_options("gpu")) == ["xla_gpu_enable_latency_hiding_scheduler"]
