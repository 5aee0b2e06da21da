from __future__ import annotations

import importlib.util
import sys

import pytest

from pnp_ovss.engine import BackendError
from pnp_ovss.engine.runners import tensorrt_api

needs_rtx = pytest.mark.skipif(
    not importlib.util.find_spec("tensorrt_rtx"), reason="needs tensorrt-rtx"
)


def load_anew(target: str) -> tensorrt_api.TensorRT:
    """Past the cache, whose loggers the libraries hold on to."""
    return tensorrt_api.load.__wrapped__(target)


@pytest.mark.parametrize("target", ["tensorrt", "tensorrt-rtx"])
def test_a_library_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    monkeypatch.setitem(sys.modules, target.replace("-", "_"), None)
    with pytest.raises(BackendError, match=f"^{target} is not installed") as caught:
        load_anew(target)
    assert caught.value.cure == f"pip install --upgrade 'pnp-ovss[{target}]'"


def test_a_target_that_is_none() -> None:
    with pytest.raises(BackendError, match="unknown target 'tensorflow'"):
        load_anew("tensorflow")


@needs_rtx
def test_a_library_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before TensorRT 11, networks were not strongly typed unless that was asked for."""
    import tensorrt_rtx

    monkeypatch.setattr(tensorrt_rtx, "__version__", "10.16.1")
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt_rtx)
    with pytest.raises(BackendError, match=r"tensorrt 10\.16\.1 is older than 11\.0"):
        load_anew("tensorrt")


@needs_rtx
def test_what_the_library_says_is_kept_and_not_printed(capfd: pytest.CaptureFixture[str]) -> None:
    api = tensorrt_api.load("tensorrt-rtx")
    builder = api.trt.Builder(api.logger)
    network = builder.create_network()
    assert not api.trt.OnnxParser(network, api.logger).parse(b"no graph")
    assert "\n" not in (said := api.said())
    assert "pars" in said.lower()
    assert api.said() == ""
    assert capfd.readouterr() == ("", "")


@needs_rtx
def test_tensorrt_rtx_names_the_architectures_that_it_builds_for() -> None:
    names = tensorrt_api.load("tensorrt-rtx").named_architectures()
    assert {"sm_75", "sm_86", "sm_89", "sm_120"} <= set(names)
    assert "sm_90" not in names


@needs_rtx
def test_the_configuration_of_a_build() -> None:
    api = tensorrt_api.load("tensorrt-rtx")
    config = api.builder_config(api.trt.Builder(api.logger), ["sm_86", "sm_120"], b"")
    chosen = [config.get_compute_capability(i) for i in range(config.num_compute_capabilities)]
    assert chosen == [api.trt.ComputeCapability.SM86, api.trt.ComputeCapability.SM120]
    assert not config.get_flag(api.trt.BuilderFlag.TF32)
    assert config.get_flag(api.trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    assert api.timings(config) == b""
