import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gfn_jax import UserError
from gfn_jax.system import parallel


def test_eight_devices_are_forced():
  assert jax.device_count() == 8


def test_shard_keeps_the_order():
  batch = {'a': np.arange(32).reshape(16, 2)}
  np.testing.assert_array_equal(parallel.shard(batch)['a'], np.arange(32).reshape(8, 2, 2))


@pytest.mark.parametrize('batch_size', [0, -8, 4, 12])
def test_batches_must_divide(batch_size):
  with pytest.raises(UserError, match=f'batch_size {batch_size} is not a multiple of the 8 dev'):
    parallel.check_batch_size(batch_size)


def test_parts_of_batches_must_divide_too():
  parallel.check_batch_size(32, 4)
  with pytest.raises(UserError, match=r'24 is not a multiple of the 8 devices times accumulate .2'):
    parallel.check_batch_size(24, 2)
  with pytest.raises(UserError, match='accumulate must be at least 1, not 0'):
    parallel.check_batch_size(24, 0)


def test_a_step_averages_over_devices_and_is_compiled_once():
  traced = []

  def step(state, batch, average):
    traced.append(1)
    mean = average(batch['a'].mean())
    return state + mean, {'mean': mean}

  run = parallel.parallel_step(step)
  state = parallel.replicate(jnp.float32(1))
  batch = parallel.shard({'a': np.arange(16, dtype=np.float32)})
  for expected in (8.5, 16, 23.5):
    state, metrics = run(state, batch)
    assert float(state) == expected
    assert float(metrics['mean']) == 7.5
    assert state.shape == ()
  assert len(traced) == 1
