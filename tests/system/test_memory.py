import jax
import jax.numpy as jnp
import psutil
import pytest

from gfn_jax.system import memory

GIB = 2**30


@pytest.fixture
def cgroup(tmp_path, monkeypatch):
  """A control group's files; a process in group /job/step, of no group yet."""
  process = tmp_path / 'process'
  process.write_text('0::/job/step\n')
  monkeypatch.setattr(memory, 'CGROUP_ROOT', str(tmp_path))
  monkeypatch.setattr(memory, 'PROCESS_CGROUP', str(process))
  monkeypatch.setattr(psutil, 'virtual_memory', lambda: type('', (), {'available': 8 * GIB}))

  def write(folder, limit, used, cache, version=2):
    names = memory.CGROUP_FILES[2 - version]
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    for name, value in zip(names, (limit, used, f'anon 1\n{names[2]} {cache}'), strict=False):
      (tmp_path / folder / name).write_text(f'{value}\n')
    (tmp_path / folder / 'memory.stat').write_text(f'anon 1\n{names[2]} {cache}\n')

  return write


def available():
  return memory.available_bytes(jax.devices('cpu')[0])


def test_without_limits_it_is_the_machines(cgroup):
  assert available() == 8 * GIB
  cgroup('.', 'max', GIB, 0)
  assert available() == 8 * GIB


@pytest.mark.parametrize(
  ('folder', 'version'), [('.', 2), ('job', 2), ('job/step', 2), ('memory/job', 1)]
)
def test_the_tightest_group_counts(cgroup, folder, version):
  cgroup('.', 5 * GIB, 0, 0)
  cgroup(folder, 3 * GIB, 2 * GIB, GIB // 2, version)
  assert available() == 3 * GIB // 2  # what is cached can be had


def test_never_less_than_nothing(cgroup):
  cgroup('job', GIB, 2 * GIB, 0)
  assert available() == 0


class Device:
  platform = 'gpu'

  def __init__(self, stats):
    self.memory_stats = lambda: stats


def test_accelerators_say_it_themselves():
  assert memory.available_bytes(Device({'bytes_limit': 10, 'bytes_in_use': 4})) == 6
  assert memory.available_bytes(Device(None)) == 8 * GIB


def test_the_peak_is_twice_the_largest_operation():
  def function(x):
    y = jnp.tile(x, (10, 1))  # 10 to 100 values
    return jax.jit(lambda y: jnp.exp(y).sum())(y)

  x = jnp.zeros((1, 10))
  assert memory.peak_bytes(function, x) == 2 * 4 * (100 + 100)
