"""A table of tiny networks, as a module of configs/tables has one."""

import types

from ml_collections import ConfigDict

from gfn_jax import UserError, create_model
from gfn_jax.evaluation.paper_tables import DataSet, Row, Table
from gfn_jax.weights.pretrained import save_weights
from tests.models.networks import normal_variables

NETWORK = {'name': 'sr_branch', 'features': 4, 'sr_blocks': 1, 'reconstruction_blocks': 1}
WIDE = NETWORK | {'features': 6}

TABLE = Table(
  title='Tiny networks',
  citation='Nobody, Nothing, 2020, Table 1.',
  protocol='gfn',
  data_sets={'photos': DataSet('Photos x4', timed_size=(12, 20))},
  rows={
    'narrow': Row(
      'Narrow',
      {'photos': {'psnr': 26.2, 'ssim': 0.818, 'seconds': 0.07}},
      NETWORK,
      parameters='1.5M',
      note='the SSIM is probably a misprint',
    ),
    'wide': Row('Wide', {'photos': {'psnr': 24.948, 'ssim': 0.9, 'seconds': 2.1}}, WIDE),
    'lost': Row('Lost', {'photos': {'psnr': 22.74, 'seconds': 0.66}}, parameters='1.1M'),
  },
  notes=('Seconds of one GTX 1080 Ti.',),
)
ROWS = ('narrow', 'wide')


def get_config(variant):
  """Return a config of 2 epochs of 3 steps of 4 examples."""
  if variant not in ROWS:
    raise UserError(f'unknown variant {variant!r}')
  phase = {'epochs': 1}
  training = {'batch_size': 4, 'steps_per_epoch': 3}
  return ConfigDict({'training': training, 'phases': {'phase_1': phase, 'phase_2': phase}})


MODULE = types.SimpleNamespace(TABLE=TABLE, get_config=get_config, __file__='tiny.py')


def write_weights(path, model=NETWORK, seed=0, card=()):
  """Write random weights of a network, in a folder that is made if needed."""
  path.parent.mkdir(parents=True, exist_ok=True)
  save_weights(path, normal_variables(create_model(**model), seed), model, dict(card))
  return path


def write_all_weights(folder):
  """Write weights of both rows: a file, and the folder of a run."""
  write_weights(folder / 'narrow.safetensors')
  write_weights(folder / 'wide' / 'weights.safetensors', WIDE)
  return folder
