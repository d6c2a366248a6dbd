"""Check the wheel, installed without extras: restore, train two steps, export, import.

make smoke PYTHON=python3.11
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import jax
import numpy as np
from PIL import Image

import gfn_jax
from gfn_jax.images.reading import size_of

ROOT = pathlib.Path(__file__).parents[1]
BIN = pathlib.Path(sys.executable).parent

TRAIN = (
  '--config=gfn_photos:small_sr',
  '--config.model.features=4',
  '--config.model.sr_blocks=1',
  '--config.model.reconstruction_blocks=1',
  '--config.training.batch_size=2',
  '--config.training.crop_size=8',
  '--config.data.margin=8',
  '--config.data.motion_blur.camera.frames=3',
  '--config.data.held_out=1',
  '--config.training.steps_per_epoch=2',
  '--config.phases.phase_2.epochs=1',
  '--config.phases.phase_2.schedule.warmup_steps=1',
  '--config.run.log_every=1',
)

# Commands with options that need an extra, which they name.
NEED_EXTRAS = {
  'gfn-demo': 'demo',
  'gfn-restore video.mp4 sharp.mp4': 'video',
  'gfn-restore photos/0.png x.png --weights gs://bucket/gfn.safetensors': 'gcs',
  'gfn-import model.index srn.safetensors --model srn': 'train',
}


def main():
  print(f'Python {sys.version.split()[0]}, JAX {jax.__version__}, NumPy {np.__version__}')
  assert pathlib.Path(gfn_jax.__file__).parents[1] != ROOT, 'this is the clone'
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    photos, run = folder / 'photos', folder / 'run'
    photos.mkdir()
    for empty in ('video.mp4', 'model.index'):
      (folder / empty).touch()
    picture = Image.open(ROOT / 'docs' / 'before_after.png').convert('RGB')
    for left in (0, 100, 200):
      picture.crop((left, 0, left + 96, 96)).save(photos / f'{left}.png')

    for command in (
      'gfn --help',
      'gfn-train --list_configs',
      'gfn-prepare --help',
      'gfn-table gfn_table2',
    ):
      subprocess.run([BIN / command.split()[0], *command.split()[1:]], cwd=folder, check=True)
    subprocess.run([BIN / 'gfn-restore', photos / '0.png', folder / 'sharp.png'], check=True)
    assert size_of(folder / 'sharp.png') == (384, 384)

    for exported in ('gfn.stablehlo', 'gfn.pth'):
      subprocess.run([BIN / 'gfn-export', 'gfn', folder / exported], check=True)
    imported = folder / 'again.safetensors'
    subprocess.run([BIN / 'gfn-import', folder / 'gfn.pth', imported], check=True)
    model, variables = gfn_jax.load_pretrained(imported)
    expected_model, expected = gfn_jax.load_pretrained('gfn')
    assert model == expected_model
    jax.tree.map(np.testing.assert_array_equal, variables, expected)

    for command, extra in NEED_EXTRAS.items():
      result = subprocess.run(
        [BIN / command.split()[0], *command.split()[1:]], cwd=folder, capture_output=True, text=True
      )
      [line] = result.stderr.splitlines()
      assert result.returncode == 1 and f'gfn_jax[{extra}]' in line, line

    command = [BIN / 'gfn-train', *TRAIN, '--workdir=run', '--config.data.photos=photos']
    subprocess.run(command, cwd=folder, check=True)
    rows = [json.loads(line) for line in (run / 'metrics.jsonl').read_text().splitlines()]
    steps = {row['step']: row['loss'] for row in rows if 'loss' in row}
    assert list(steps) == [1, 2], steps
    assert np.isfinite(list(steps.values())).all(), steps
    for written in ('weights.safetensors', 'curves.png', 'tensorboard'):
      assert (run / written).exists(), written
    subprocess.run([BIN / 'gfn-eval', '--workdir=run'], cwd=folder, check=True)
    assert (run / 'eval' / 'summary.json').exists()
  print('smoke test passed')


if __name__ == '__main__':
  main()
