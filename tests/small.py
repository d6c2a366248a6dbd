"""Networks and configs that are small enough for tests."""

from gfn_jax.configs import gfn_photos, gfn_small

MODEL = {
  'name': 'gfn',
  'features': 8,
  'deblur_blocks': 1,
  'sr_blocks': 1,
  'reconstruction_blocks': 1,
}

# Compiles in a quarter of the time, for runs that may train any network.
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

EDSR = {'features': 4, 'blocks': 2}
RCAN = {'features': 8, 'groups': 2, 'blocks': 2, 'reduction': 4}  # and HAN
SRN = {'features': 4, 'blocks': 1}
ED_DSRN_LIKE = {'features': 4, 'blocks': 1, 'bottleneck_blocks': 2, 'reconstruction_blocks': 1}

BMDSRNET = {'features': 4, 'blocks': 1, 'fusion_blocks': 1, 'recurrent_features': 1}

RRDBNET = {'features': 4, 'growth': 3, 'blocks': 2}

SRFBN = {'features': 4, 'groups': 2, 'steps': 2}


def config(data_dir, changes=()):
  """Return the config of two phases of two steps each; `changes` are values by dotted key."""
  settings = _shorten(gfn_small.get_config())
  settings.data.data_dir = str(data_dir)
  for phase in settings.phases.values():
    phase.epochs = phase.schedule.decay_every = 1
  settings.update_from_flattened_dict(dict(changes))
  return settings


def photos_config(photos, changes=()):
  """Return the config of one phase of four steps on a folder of photos."""
  settings = _shorten(gfn_photos.get_config('small'))
  settings.data.update(photos=str(photos), held_out=1, margin=8)
  settings.data.motion_blur.camera.update(frames=3, translation=(0.0, 12.0))
  settings.phases = {'phase_1': settings.phases.phase_2}
  settings.phases.phase_1.epochs = 2
  settings.phases.phase_1.schedule.warmup_steps = 1
  settings.update_from_flattened_dict(dict(changes))
  return settings


def sr_branch(settings):
  """Change a config in place to train `SR_BRANCH`, and return it."""
  settings.model = dict(SR_BRANCH)
  for phase in settings.phases.values():
    phase.model = {}
  return settings


def _shorten(settings):
  settings.model.update(MODEL)
  settings.training.update(batch_size=8, crop_size=16, steps_per_epoch=2)
  settings.run.update(log_every=1, checkpoint_every=1)
  settings.evaluation.update(every=2, images=1)
  return settings
