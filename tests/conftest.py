"""Strictness as taste: promotions raise, warnings are errors, two CPU devices."""

import os

os.environ.setdefault("NPROC", "2")

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 2)


@pytest.fixture
def key():
    return jax.random.key(0)
