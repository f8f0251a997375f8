"""What a run depends on is recorded, and refused where it would change the bits."""

import json
import os

import jax
import pytest

from jaxnas import machine
from jaxnas.errors import InputError
from jaxnas.networks.ops import convolution
from jaxnas.runs import provenance


@pytest.fixture(autouse=True)
def restored(monkeypatch, tmp_path):
    for name in ("NPROC", "XLA_FLAGS", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, os.environ.get(name, ""))  # so that what the tests set is undone
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    update, updates, before = jax.config.update, {}, jax.config.jax_compilation_cache_dir
    update("jax_compilation_cache_dir", None)
    monkeypatch.setattr(jax.config, "update", updates.__setitem__)
    yield updates
    update("jax_compilation_cache_dir", before)


def write(folder, **changes):
    about = provenance.describe() | {"cpu_threads": 4} | changes
    (folder / "environment.json").write_text(json.dumps(about))
    return folder


def prepare(folder=None, cpu_devices=1, deterministic=False):
    provenance.prepare(cpu_devices=cpu_devices, deterministic=deterministic, folder=folder)
    return os.environ["NPROC"]


@pytest.mark.parametrize(
    ("nproc", "devices", "threads"), [("8", 1, "8"), ("2", 8, "8"), ("", 1, None), ("", 64, "64")]
)
def test_the_pool_of_a_new_run(nproc, devices, threads, monkeypatch, restored):
    monkeypatch.setenv("NPROC", nproc)
    assert prepare(cpu_devices=devices) == (threads or str(machine.cores()))
    assert restored.get("jax_num_cpu_devices", 1) == devices


@pytest.mark.parametrize("nproc", ["abc", "0", "-2", "2.5", "²"])
def test_nproc_is_a_number(nproc, monkeypatch):
    monkeypatch.setenv("NPROC", nproc)
    with pytest.raises(InputError, match=r"NPROC: found '.*'; it takes"):
        prepare()


def test_a_run_goes_on_with_its_pool(tmp_path, monkeypatch):
    folder = write(tmp_path)
    monkeypatch.setenv("NPROC", "")
    assert prepare(folder) == "4"
    assert prepare(folder, cpu_devices=4) == "4"
    monkeypatch.setenv("NPROC", "2")
    with pytest.raises(InputError, match=r"NPROC: .* began with 4 CPU threads, now it would be 2"):
        prepare(folder)
    assert prepare(folder, cpu_devices=4) == "4"
    monkeypatch.setenv("NPROC", "")
    with pytest.raises(InputError, match=r"runtime.cpu_devices: found 5; .* began with 4 CPU threads"):
        prepare(folder, cpu_devices=5)


def test_deterministic(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_a=1")
    prepare(deterministic=True)
    assert os.environ["XLA_FLAGS"] == "--xla_a=1 --xla_gpu_deterministic_ops=true"
    # There XLA takes a convolution whose bits differ from run to run (seen with jax 0.11 on an H100).
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert convolution.resolve_lowering("auto") == "gemm"
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert convolution.resolve_lowering("auto") == "xla"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setenv("XLA_FLAGS", "")
    assert convolution.resolve_lowering("auto") == "xla"


def test_the_cache_of_programs(tmp_path, restored, monkeypatch):
    programs = tmp_path / "cache" / "jaxnas" / "programs" / prepare()
    assert restored.pop("jax_compilation_cache_dir") == str(programs)
    type(jax.config).update(jax.config, "jax_compilation_cache_dir", str(tmp_path))
    prepare()
    assert "jax_compilation_cache_dir" not in restored  # a user's own is left alone
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert machine.cache_folder().parts[-2:] == (".cache", "jaxnas")


def test_describe():
    about = json.loads(json.dumps(provenance.describe()))
    assert about["format"] == provenance.FORMAT
    assert about["jax"] == jax.__version__
    assert about["backend"] == jax.default_backend()
    assert len(about["devices"]) == len(jax.devices())
    assert about["cpu_threads"] >= 1


def test_read(tmp_path):
    assert provenance.read(write(tmp_path))["cpu_threads"] == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "environment.json: cannot be read"),
        (b"\xff\xfe\xfd", "environment.json: cannot be read"),
        (b"[]", "environment.json: cannot be read"),
        (b"{}", "environment.json: cannot be read"),
        (b'{"format": "x", "cpu_threads": 1}', "environment.json: cannot be read"),
        (b'{"format": 1}', "environment.json: cannot be read"),
        (b'{"format": 1, "cpu_threads": null}', "environment.json: cannot be read"),
        (b"[" * 100_000, "environment.json: cannot be read"),
        (b'{"format": 999}', "format 999 is newer; this jaxnas reads up to 1"),
        (None, r"no run is here \(no environment.json\)"),
    ],
)
def test_what_is_no_run(content, message, tmp_path):
    if content is not None:
        (tmp_path / "environment.json").write_bytes(content)
    with pytest.raises(InputError, match=message):
        provenance.read(tmp_path)


def test_changes(tmp_path):
    assert provenance.changes(write(tmp_path)) == []
    found = provenance.changes(write(tmp_path, jax="0.1", backend="tpu"))
    assert found == ["backend tpu → cpu", f"jax 0.1 → {jax.__version__}"]
