"""A network and a configuration small enough for tests."""

from configs import gfn_small

MODEL = {
  'name': 'gfn',
  'features': 8,
  'deblur_blocks': 1,
  'sr_blocks': 1,
  'reconstruction_blocks': 1,
}


def config(data_dir, **changes):
  """Two phases of two steps each, as plain values."""
  settings = gfn_small.get_config()
  settings.model.update(MODEL)
  settings.update(data_dir=str(data_dir), batch_size=8, crop_size=16, steps_per_epoch=2)
  settings.update(log_every=1, checkpoint_every=1, eval_every=2, eval_images=1)
  for phase in settings.phases.values():
    phase.update(epochs=1, decay_every=1)
  settings.update(changes)
  return settings
