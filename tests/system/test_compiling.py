import time

import jax
import jax.numpy as jnp
import pytest

from gfn_jax.system import compiling


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
  monkeypatch.setattr(compiling, 'SECONDS', 0.02)


def slow_to_compile(x):
  for i in range(200):
    x = jnp.sin(x) + time.time_ns() % 1009 + i  # in no cache
  return x


def test_a_compilation_is_announced_once(capsys):
  program = jax.jit(slow_to_compile)
  for _ in range(2):
    with compiling.announce_compiling('compiling it'):
      program(1.0)
  assert capsys.readouterr().err == 'compiling it\n'
  jax.jit(slow_to_compile)(1.0)
  assert capsys.readouterr().err == ''


@pytest.mark.parametrize(('found', 'message'), [(True, ''), (False, 'compiling it\n')])
def test_a_program_from_the_cache_is_not_announced(capsys, found, message):
  with compiling.announce_compiling('compiling it'):
    jax.monitoring.record_event_duration_secs('/jax/core/compile/jaxpr_to_mlir_module_duration', 1)
    if found:
      jax.monitoring.record_event('/jax/compilation_cache/cache_hits')
    time.sleep(0.2)
  assert capsys.readouterr().err == message
