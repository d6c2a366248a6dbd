import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gfn_jax import UserError, parallel, train
from gfn_jax.checkpoint import Checkpointer
from gfn_jax.train_state import TrainState

SETTINGS = {'seed': 0, 'model': {'name': 'gfn', 'widths': (1, 2)}}


def state_at(step):
  params = {'a': {'kernel': jnp.arange(6, dtype=jnp.float32).reshape(2, 3) + step}}
  opt_state = train.make_optimizer(0.9, 0.999, 1e-8, 1.0).init(params)
  return TrainState(jnp.asarray(step, jnp.int32), params, opt_state, {})


def test_the_newest_state_comes_back_bit_equal_and_of_its_types(tmp_path):
  with Checkpointer(tmp_path, SETTINGS, keep=2) as checkpointer:
    assert checkpointer.restore(state_at(0)) is None
    for step in (3, 5, 9):
      checkpointer.save(state_at(step))
  with Checkpointer(tmp_path, SETTINGS, keep=2) as checkpointer:
    restored = checkpointer.restore(jax.eval_shape(lambda: state_at(0)))
  assert jax.tree.structure(restored) == jax.tree.structure(state_at(9))
  for a, b in zip(jax.tree.leaves(restored), jax.tree.leaves(state_at(9)), strict=True):
    assert isinstance(a, np.ndarray | np.generic)
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)
  kept = sorted(path.name for path in (tmp_path / 'checkpoints').iterdir())
  assert kept == ['5', '9']


def test_saving_the_same_step_again_does_nothing(tmp_path):
  with Checkpointer(tmp_path, SETTINGS) as checkpointer:
    checkpointer.save(state_at(4))
    checkpointer.save(state_at(4))
  assert [path.name for path in (tmp_path / 'checkpoints').iterdir()] == ['4']


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'seed': 1}, 'config.seed was 0 and is 1'),
    ({'model': {'name': 'gfn', 'widths': (1, 3)}}, r'config.model.widths was \[1, 2\] and is'),
    ({'extra': 2}, 'config.extra was None and is 2'),
  ],
)
def test_other_settings_are_refused_by_name(tmp_path, change, message):
  with Checkpointer(tmp_path, SETTINGS) as checkpointer:
    checkpointer.save(state_at(4))
  with (
    Checkpointer(tmp_path, SETTINGS | change) as checkpointer,
    pytest.raises(UserError, match=message),
  ):
    checkpointer.restore(state_at(0))


def test_a_replicated_state_is_saved_as_one(tmp_path):
  with Checkpointer(tmp_path, SETTINGS) as checkpointer:
    checkpointer.save(parallel.replicate(state_at(2)))
  with Checkpointer(tmp_path, SETTINGS) as checkpointer:
    restored = checkpointer.restore(state_at(0))
  for a, b in zip(jax.tree.leaves(restored), jax.tree.leaves(state_at(2)), strict=True):
    np.testing.assert_array_equal(a, b, strict=True)
