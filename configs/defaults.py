"""Sections and defaults of the configs.

    gfn-train --config=gfn --config.training.batch_size=8 ...

changes a value from the command line. A continued run requires equal `model`, `loss`, `optimizer`,
`training`, `phases` and data; `evaluation` and `run` may change.
"""

from ml_collections import ConfigDict

from gfn_jax.errors import UserError


def check_variant(name, variant, choices):
  """Raise a UserError if a config `NAME.py` has no such variant."""
  if variant not in choices:
    raise UserError(
      f'unknown variant of configs/{name}.py: {variant!r}; choose from '
      f'{", ".join(map(repr, choices))}'
    )


def tfrecords():
  """Return the defaults for a data set built by gfn-prepare."""
  data = dict(
    data_dir='',  # folder that data_prep wrote; may be gs://...
    shuffle_buffer=2048,  # encoded records in host memory, about 150 kB each
    clean=False,  # True trains super-resolution of sharp images: `lr` is the input
  )
  return _config(data)


def photos(**worlds):
  """Return the defaults for a folder of sharp photos with synthetic motion blur.

  Args:
    **worlds: options of each kind of motion blur, such as `camera()`, by name; default: `camera`.
  """
  data = dict(
    photos='',  # folder of photographs, with subfolders
    held_out=-1,  # number of test photos; -1: a fifth, at most 20
    photo_list='',  # CSV file that names all photos and the test photos, instead of `held_out`
    memory=4.0,  # GiB of decoded photos to keep; others are decoded when drawn
    photo_scales=(1.0, 0.84, 0.7, 0.6, 0.5),  # initial reductions of the photos
    margin=32,  # pixels around a crop that motion can bring into view
    motion_blur=worlds or dict(camera=camera()),
    # Folders in GOPRO_Large's layout to mix in: `path`, name of the blurred folders, size of the
    # files relative to LR images, and share of the examples.
    real_pairs=dict(gopro=dict(path='', blur='blur_gamma', reduce=4, share=0.25)),
    scale=4,  # reduction factor of LR images; 1 to deblur at full size
    frames=False,  # True adds seven sharp frames of the exposure
    clean=False,  # True trains super-resolution of sharp images: `lr` is the input
  )
  config = _config(data)
  config.loss.hr.loss = config.loss.lr.loss = 'charbonnier'
  config.training.update(precision='bfloat16', batch_size=32, crop_size=64, steps_per_epoch=1000)
  config.evaluation.every = 5000
  return config


def _config(data):
  return ConfigDict(
    dict(
      data=data,
      model=dict(),  # `name` and the other arguments of `create_model`
      # Terms of the loss: the output, the comparison, and a weight, which is multiplied by the
      # phase's weight of that output (gfn_jax/training/losses.py).
      loss=dict(
        hr=dict(on='hr', loss='mse', weight=1.0),
        lr=dict(on='lr', loss='mse', weight=1.0),
      ),
      optimizer=dict(name='adam', b1=0.9, b2=0.999, eps=1e-8, clip_norm=1.0),
      training=dict(
        seed=0,
        batch_size=16,  # total over all devices
        crop_size=0,  # LR pixels; 0: whole patches
        steps_per_epoch=0,  # 0: every example once
        precision='float32',  # or 'tf32' or 'bfloat16', for the computation of the network
        accumulate=1,  # parts of a batch that are processed one after the other
        ema_decay=0.0,  # decay of the average of the parameters, such as 0.999; 0: no average
      ),
      phases=dict(),  # run in the order of their names
      evaluation=dict(
        every=6724,  # steps; 0: never
        images=20,  # number of test images during training
        protocol='gfn',
        test_pairs=dict(),  # folders of real pairs by name, scored separately
      ),
      run=dict(
        init_from='',  # initial weights: a file, a folder, a released name or hf://OWNER/NAME
        init_except=(),  # modules that may differ from `init_from`, such as ('gate',)
        perceptual_weights='',  # file of torchvision's VGG19, for the perceptual loss
        log_every=0,  # steps; 0: 100, or a twentieth of a shorter run
        checkpoint_every=1000,  # steps
        keep_checkpoints=3,
        accept_changed_data=False,  # True continues a run although its data have changed
        profile=False,  # True traces steps 11 to 15, for TensorBoard
      ),
    )
  )


def phase(epochs, schedule, *, model=(), lr_weight, hr_weight=1.0, reset_optimizer=False):
  """Return one phase of training.

  Args:
    epochs: length of the phase.
    schedule: `name` and arguments of a function in gfn_jax/training/schedules.py.
    model: options of the network that change in this phase.
    lr_weight: weight of the deblurred images in the loss.
    hr_weight: weight of the super-resolved image; 0 skips the modules that only it requires.
    reset_optimizer: True to reinitialise the optimizer. All parameters share its step count, which
      is wrong for the first gradients of a new module.
  """
  return ConfigDict(
    dict(
      epochs=epochs,
      model=dict(model),
      schedule=schedule,
      lr_weight=lr_weight,
      hr_weight=hr_weight,
      reset_optimizer=reset_optimizer,
    )
  )


def step_decay(learning_rate, decay_rate, decay_every):
  """Return GFN's schedule, which multiplies the rate by `decay_rate` every `decay_every` epochs."""
  return dict(
    name='step_decay',
    learning_rate=learning_rate,
    decay_rate=decay_rate,
    decay_every=decay_every,
  )


def cosine(learning_rate, warmup_steps):
  """Return a schedule that rises over `warmup_steps`, then falls to 0 along a cosine."""
  return dict(name='cosine', learning_rate=learning_rate, warmup_steps=warmup_steps)


def cpu_photos():
  """Return photo defaults for two CPU cores: small crops, Muon, float32."""
  config = photos()
  config.training.update(precision='float32', batch_size=8, crop_size=32)
  config.optimizer.name = 'muon'
  config.evaluation.every = 1000
  return config


def table_budget(lr_weight):
  """Return data, steps and schedule of a table whose rows are trained on CPUs, without `model`.

  Networks are expected to add the input to their images; without it, 2,000 steps do not suffice to
  reach bicubic.
  """
  config = cpu_photos()
  config.training.update(crop_size=24, steps_per_epoch=2000)
  schedule = cosine(3e-3, warmup_steps=200)
  config.phases.phase_1 = phase(1, schedule, lr_weight=lr_weight, reset_optimizer=True)
  config.evaluation.every = 0
  config.run.checkpoint_every = 100
  return config


def camera():
  """Return options of the blur of a camera, which averages light, in pixels of full-size photos.

  Sources: the ranges from translation to zoom and of the regions fit the blur of GOPRO
  (docs/motion_blur.md). Gamma is close to sRGB. RSBlur (Rim et al., ECCV 2022) found that
  exposure, noise and JPEG matter; their strength fits small cameras.
  """
  return ConfigDict(
    dict(
      share=1.0,  # relative frequency of this world
      frames=15,
      gamma=(2.2, 2.2),  # gamma of the photos; 1 averages the stored values
      skew=1.5,
      wobble=0.2,
      translation=(0.0, 40.0),  # pixels
      rotation=(0.0, 1.0),  # degrees
      tilt=(0.0, 0.5),  # degrees
      focal_length=1000.0,  # pixels
      zoom=(0.0, 1.0),  # percent
      regions=1,
      region_size=(0.15, 0.6),  # fraction of the crop's side
      region_edge=(1.0, 4.0),  # pixels
      region_translation=(0.0, 24.0),  # pixels
      region_rotation=(0.0, 4.0),  # degrees
      region_zoom=(0.0, 4.0),  # percent
      exposure=(1.0, 1.2),  # factor
      shot_noise=(0.0, 1e-4),  # variance per unit of linear light
      read_noise=(0.0, 1e-3),  # standard deviation, linear light
      sharp_share=0.0,  # fraction of the photos without motion
      jpeg_share=0.0,  # fraction of the inputs with JPEG compression
      jpeg_quality=(30, 95),  # on Pillow's scale
    )
  )
