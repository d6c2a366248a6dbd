"""A network and a configuration small enough for tests."""

from configs import gfn_photos, gfn_small

MODEL = {
  'name': 'gfn',
  'features': 8,
  'deblur_blocks': 1,
  'sr_blocks': 1,
  'reconstruction_blocks': 1,
}

# Compiles in a quarter of the time: for runs of which it does not matter what they train.
SR_BRANCH = {'name': 'sr_branch', 'features': 8, 'sr_blocks': 1, 'reconstruction_blocks': 1}

MPRNET = {
  'features': 8,
  'unet_step': 4,
  'orsnet_step': 2,
  'unet_blocks': 1,
  'orsnet_blocks': 1,
  'reduction': 4,
}
MOTION_DEBLUR_SR = {**MPRNET, 'sr_features': 6, 'reconstruction_blocks': 1}

CNLRN = {
  'features': 8,
  'deblur_features': 6,
  'deblur_blocks': 1,
  'deblur_stage_blocks': 1,
  'groups': 1,
  'upsample_groups': 1,
  'subgroups': 1,
  'rcabs': 1,
  'reduction': 4,
}

BMDSRNET = {'features': 4, 'blocks': 1, 'fusion_blocks': 1, 'recurrent_features': 1}


def config(data_dir, **changes):
  """Two phases of two steps each, as plain values."""
  settings = _shorten(gfn_small.get_config())
  settings.data_dir = str(data_dir)
  for phase in settings.phases.values():
    phase.update(epochs=1, decay_every=1)
  settings.update(changes)
  return settings


def photos_config(photos, **changes):
  """One phase of four steps on a folder of photos."""
  settings = _shorten(gfn_photos.get_config('small'))
  settings.update(photos=str(photos), held_out=1, margin=8)
  settings.motion_blur.camera.update(frames=3, translation=(0.0, 12.0))
  settings.phases = {'phase_1': settings.phases.phase_2}
  settings.phases.phase_1.update(epochs=2, warmup_steps=1)
  settings.update(changes)
  return settings


def sr_branch(settings):
  """The same run of `SR_BRANCH`."""
  settings.model = dict(SR_BRANCH)
  for phase in settings.phases.values():
    phase.model = {}
  return settings


def _shorten(settings):
  settings.model.update(MODEL)
  settings.update(batch_size=8, crop_size=16, steps_per_epoch=2)
  settings.update(log_every=1, checkpoint_every=1, eval_every=2, eval_images=1)
  return settings
