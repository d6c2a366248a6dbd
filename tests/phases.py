"""Phases of a config, without data."""

from gfn_jax.models import create_model
from gfn_jax.training.phases import make_phases, plain


class NoData:
  """Empty dataset that is compatible with the phases of any config."""

  path = 'nowhere'
  has_frames = False
  metadata = {}

  def __init__(self, scale):
    self.scale = scale

  def steps_per_pass(self, batch_size):
    return 1

  def check_crop_size(self, crop_size):
    pass


def phases_of(config, steps_per_epoch=0):
  """Return the phases, with another number of steps per epoch if it is given."""
  config = plain(config)
  config['training']['steps_per_epoch'] = steps_per_epoch or config['training']['steps_per_epoch']
  scale = create_model(**config['model']).scale
  return make_phases(config, NoData(scale if scale > 1 else 4))
