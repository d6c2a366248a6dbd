import errno
import json
import os
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gfn_jax import UserError
from gfn_jax.system import parallel
from gfn_jax.training.checkpoints import Checkpointer
from gfn_jax.training.optimizers import OTHERS, make_optimizer
from gfn_jax.training.train_state import TrainState

SETTINGS = {'seed': 0, 'model': {'name': 'gfn', 'widths': (1, 2)}}


def state_at(step):
  params = {'a': {'kernel': jnp.arange(6, dtype=jnp.float32).reshape(2, 3) + step}}
  opt_state = make_optimizer({OTHERS: lambda step: 0.1}, clip_norm=1.0).init(params)
  return TrainState(jnp.asarray(step, jnp.int32), params, opt_state, {}, {})


def test_the_newest_state_comes_back_bit_equal_and_of_its_types(tmp_path):
  with Checkpointer(tmp_path, SETTINGS, keep=2) as checkpointer:
    assert checkpointer.restore(state_at(0)) is None
    for step in (3, 5, 9):
      checkpointer.save(state_at(step), {'window': [0.1 + 0.2]})
  with Checkpointer(tmp_path, SETTINGS, keep=2) as checkpointer:
    restored, progress = checkpointer.restore(jax.eval_shape(lambda: state_at(0)))
  assert progress == {'window': [0.1 + 0.2]}
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
    ({'seed': 1, 'extra': 2}, 'config.extra was None and is 2; config.seed was 0 and is 1'),
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
    restored, _ = checkpointer.restore(state_at(0))
  for a, b in zip(jax.tree.leaves(restored), jax.tree.leaves(state_at(2)), strict=True):
    np.testing.assert_array_equal(a, b, strict=True)


def test_the_state_is_copied_before_the_next_step_reuses_its_memory(tmp_path):
  state = parallel.replicate(state_at(1))
  step = jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)
  with Checkpointer(tmp_path, SETTINGS) as checkpointer:
    checkpointer.save(state)
    for _ in range(20):
      state = step(state)
  with Checkpointer(tmp_path, SETTINGS) as checkpointer:
    restored, _ = checkpointer.restore(state_at(0))
  for a, b in zip(jax.tree.leaves(restored), jax.tree.leaves(state_at(1)), strict=True):
    np.testing.assert_array_equal(a, b)


def test_the_best_is_kept_beside_the_newest(tmp_path):
  for steps in ((1, 2), (3, 4, 5)):  # in two runs
    with Checkpointer(tmp_path, SETTINGS, keep=2) as checkpointer:
      for step in steps:
        checkpointer.save(state_at(step), psnr={1: 20.0, 2: 25.0, 4: 24.0}.get(step))
  assert names(tmp_path) == ['2', '4', '5']


def names(workdir):
  return sorted(path.name for path in (workdir / 'checkpoints').iterdir())


def saved(workdir, *steps):
  with Checkpointer(workdir, SETTINGS) as checkpointer:
    for step in steps:
      checkpointer.save(state_at(step))
  return workdir / 'checkpoints'


def files_of(folder):
  return sorted(path for path in folder.rglob('*') if path.is_file())


def flip_a_byte(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)


def truncate(path):
  path.write_bytes(path.read_bytes()[:-1])


def replace_by_a_pipe(path):
  path.unlink()
  os.mkfifo(path)  # whoever reads it waits


def replace_by_an_endless_file(path):
  path.unlink()
  path.symlink_to('/dev/zero')


@pytest.mark.parametrize(
  'damage',
  [
    flip_a_byte,
    truncate,
    lambda path: path.unlink(),
    replace_by_a_pipe,
    replace_by_an_endless_file,
  ],
)
def test_any_damage_is_told_by_name_and_the_one_before_is_taken(tmp_path, damage, capsys):
  folder = saved(tmp_path, 1, 2)
  whole = {path: path.read_bytes() for path in files_of(folder / '2')}
  assert len(whole) > 3
  for path, content in whole.items():
    damage(path)
    with Checkpointer(tmp_path, SETTINGS) as checkpointer:
      restored, _ = checkpointer.restore(state_at(0))
    assert int(restored.step) == 1
    name = path.relative_to(folder / '2').as_posix()
    told = capsys.readouterr().err
    if name == 'manifest.json':
      assert 'checkpoint 2 in' in told
    else:
      assert f'checkpoint 2 in {folder} is damaged ({name}' in told
    assert told.count('\n') == 1
    path.unlink(missing_ok=True)
    path.write_bytes(content)
  with Checkpointer(tmp_path, SETTINGS) as checkpointer:
    assert int(checkpointer.restore(state_at(0))[0].step) == 2
  assert not capsys.readouterr().err


def test_a_copy_under_another_number_is_passed_over(tmp_path, capsys):
  folder = saved(tmp_path, 1, 2)
  shutil.copytree(folder / '1', folder / '7')
  with Checkpointer(tmp_path, SETTINGS) as checkpointer:
    assert int(checkpointer.restore(state_at(0))[0].step) == 2
  assert 'checkpoint 7 in' in (told := capsys.readouterr().err)
  assert 'is one of step 1: skipped' in told


@pytest.mark.parametrize(
  'content', ['{"run.json": "x"}', '[' * 10**5, 'null', '{"run.json": [9, 9]}']
)
def test_a_manifest_may_hold_anything(tmp_path, content, capsys):
  folder = saved(tmp_path, 1, 2)
  (folder / '2' / 'manifest.json').write_text(content)
  with Checkpointer(tmp_path, SETTINGS) as checkpointer:
    assert int(checkpointer.restore(state_at(0))[0].step) == 1
  assert f'checkpoint 2 in {folder} is damaged (' in capsys.readouterr().err


def test_files_that_are_as_their_manifest_but_no_checkpoint(tmp_path, capsys):
  folder = saved(tmp_path, 1, 2)
  path = folder / '2' / 'manifest.json'
  manifest = json.loads(path.read_text())
  path.write_text(json.dumps({'run.json': manifest['run.json']}))
  shutil.rmtree(folder / '2' / 'state')
  with Checkpointer(tmp_path, SETTINGS) as checkpointer:
    assert int(checkpointer.restore(state_at(0))[0].step) == 1
  assert f'checkpoint 2 in {folder} cannot be read (' in (told := capsys.readouterr().err)
  assert told.count('\n') == 1


def test_a_damaged_checkpoint_is_replaced_when_its_step_comes_again(tmp_path):
  folder = saved(tmp_path, 1, 2)
  flip_a_byte(folder / '2' / 'run.json')
  with Checkpointer(tmp_path, SETTINGS, keep=1) as checkpointer:
    checkpointer.restore(state_at(0))
    checkpointer.save(state_at(2))
  with Checkpointer(tmp_path, SETTINGS) as checkpointer:
    assert int(checkpointer.restore(state_at(0))[0].step) == 2
  assert names(tmp_path) == ['2']


def test_damaged_ones_do_not_count_among_those_to_keep(tmp_path):
  folder = saved(tmp_path, 1, 5, 6)
  for step in '56':
    flip_a_byte(folder / step / 'run.json')
  with Checkpointer(tmp_path, SETTINGS, keep=2) as checkpointer:
    checkpointer.restore(state_at(0))
    checkpointer.save(state_at(2))
  assert names(tmp_path) == ['1', '2', '5', '6']


def test_without_a_whole_checkpoint_nothing_is_started_anew_over_the_damaged_ones(tmp_path):
  flip_a_byte(saved(tmp_path, 3) / '3' / 'run.json')
  with (
    Checkpointer(tmp_path, SETTINGS) as checkpointer,
    pytest.raises(UserError, match=r'every checkpoint in .* is damaged'),
  ):
    checkpointer.restore(state_at(0))


def test_an_unfinished_first_checkpoint_is_no_checkpoint(tmp_path, capsys):
  folder = saved(tmp_path, 3)
  (folder / '3' / 'manifest.json').unlink()
  with Checkpointer(tmp_path, SETTINGS) as checkpointer:
    assert checkpointer.restore(state_at(0)) is None
    assert f'checkpoint 3 in {folder} is unfinished: skipped' in capsys.readouterr().err
    checkpointer.save(state_at(4))
  assert names(tmp_path) == ['4']


def test_a_save_that_fails_is_told_and_leaves_what_was_there(tmp_path, monkeypatch):
  folder = saved(tmp_path, 1)
  with Checkpointer(tmp_path, SETTINGS, keep=1) as checkpointer:
    write = checkpointer._orbax.save

    def full(path, **kwargs):
      write(path, **kwargs)
      raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(checkpointer._orbax, 'save', full)
    checkpointer.save(state_at(2))
    told = f'checkpoint 2 cannot be written to {folder}: No space left on device; the newest good'
    with pytest.raises(UserError, match=re.escape(told)):
      while True:
        checkpointer.check()
    monkeypatch.undo()
    checkpointer.save(state_at(3))
  with Checkpointer(tmp_path, SETTINGS) as checkpointer:
    assert int(checkpointer.restore(state_at(0))[0].step) == 3
  assert names(tmp_path) == ['3']


def test_a_failure_of_the_last_save_is_raised_on_leaving(tmp_path, monkeypatch):
  checkpointer = Checkpointer(tmp_path, SETTINGS)
  monkeypatch.setattr(checkpointer._orbax, 'save', lambda *_, **__: 1 / 0)
  with pytest.raises(UserError, match='division by zero; no earlier one'), checkpointer:
    checkpointer.save(state_at(2))
