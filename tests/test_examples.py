"""The examples that users start from, run as their docstrings say."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import gfn_jax
from gfn_jax import models
from tests.xla_flags import COMPILE_FAST

ROOT = pathlib.Path(__file__).parents[1]

TINY = (
  '--config.model.features=4',
  '--config.model.blocks=1',
  '--config.training.batch_size=2',
  '--config.training.crop_size=8',
  '--config.training.steps_per_epoch=4',
  '--config.data.margin=8',
  '--config.data.motion_blur.camera.frames=3',
  '--config.data.held_out=1',
  '--config.phases.phase_1.epochs=1',
  '--config.phases.phase_1.schedule.warmup_steps=1',
  '--config.evaluation.every=0',
)


def run(*command):
  environment = os.environ | {'XLA_FLAGS': COMPILE_FAST, 'PYTHONPATH': str(ROOT)}
  command = [sys.executable, *map(str, command)]
  return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.full
def test_a_network_of_ones_own_is_trained_evaluated_and_restored_with(
  photos_dir, tmp_path, monkeypatch
):
  example = 'examples/own_network.py'
  assert len((ROOT / example).read_text().splitlines()) < 100
  workdir, photo = tmp_path / 'run', tmp_path / 'photo.png'
  Image.open(photos_dir / 'a.png').crop((0, 0, 48, 32)).save(photo)

  train = [
    'train',
    f'--config={example}',
    f'--workdir={workdir}',
    f'--config.data.photos={photos_dir}',
  ]
  result = run(example, *train, *TINY)
  assert result.returncode == 0, result.stderr
  card = json.loads((workdir / 'weights.json').read_text())
  assert card['model']['name'] == 'own_network'
  # 3 -> 4, two convolutions of 4, and the two images.
  assert card['parameters'] == 28 * 4 + 2 * 37 * 4 + 37 * 3 + 37 * 48

  result = run(example, 'eval', f'--workdir={workdir}')
  assert result.returncode == 0, result.stderr
  assert json.loads((workdir / 'eval' / 'summary.json').read_text())

  restore = ['restore', photo, tmp_path / 'sharp.png', f'--weights={workdir}']
  result = run(example, *restore)
  assert result.returncode == 0, result.stderr
  assert np.asarray(Image.open(tmp_path / 'sharp.png')).shape == (128, 192, 3)

  result = run('-m', 'gfn_jax', *restore[:2], tmp_path / 'other.png', *restore[3:])
  assert (result.returncode, result.stderr.count('\n')) == (1, 1)
  assert 'register a network of your own first (docs/own_network.md)' in result.stderr
  assert not (tmp_path / 'other.png').exists()

  monkeypatch.setattr(models, 'MODELS', dict(models.MODELS))
  monkeypatch.syspath_prepend(ROOT / 'examples')
  import own_network

  restorer = gfn_jax.Restorer.from_pretrained(workdir)
  assert type(restorer.model) is own_network.OwnNetwork
  np.testing.assert_array_equal(restorer(photo), np.asarray(Image.open(tmp_path / 'sharp.png')))
