"""GFN on LR-GOPRO, with the three phases of the authors' released code.

    python run_train.py --config=configs/gfn.py --workdir=W --config.data_dir=DIR

Data: LR-GOPRO x4 from GOPRO_Large's `blur_gamma`, 107,584 patches (docs/datasets.md).
Expected: 27.81 dB on the 1111 test images under protocol `gfn` is what the authors report for this
schedule after three to four days on one GTX 1080 Ti. Nobody has run it with this code yet.

`--config=configs/gfn.py:literal` also takes the authors' initialisation and no gradient clipping.
The first gated loss is then about 1e12, and training may never recover from it.
"""

from ml_collections import ConfigDict

from gfn_jax.errors import UserError


def phase(gated, epochs, learning_rate, decay_rate, decay_every, lr_weight, reset_optimizer=False):
  """One phase: the learning rate is multiplied by `decay_rate` every `decay_every` epochs.

  `reset_optimizer` starts Adam anew: its step count is shared by all parameters, and would take the
  gate's first gradients for late ones.
  """
  return ConfigDict(
    dict(
      model=dict(gated=gated),
      epochs=epochs,
      learning_rate=learning_rate,
      decay_rate=decay_rate,
      decay_every=decay_every,
      lr_weight=lr_weight,
      hr_weight=1.0,
      reset_optimizer=reset_optimizer,
    )
  )


def get_config(variant=''):
  """The default config; `variant` is '' or 'literal'."""
  config = ConfigDict()
  config.seed = 0

  config.model = ConfigDict(
    dict(
      name='gfn',
      features=64,
      deblur_blocks=6,
      sr_blocks=8,
      reconstruction_blocks=8,
      gate_recursions=1,
      initialization='scaled',
      global_skip='none',
    )
  )

  config.init_from = ''  # weights to start from: a file, or the name of released ones
  config.init_except = ()  # modules that need not fit them, such as ('gate',)

  config.data_dir = ''  # what data_prep.lr_gopro wrote
  config.batch_size = 16  # over all devices
  config.crop_size = 0  # LR pixels; 0: whole patches
  config.shuffle_buffer = 2048  # encoded records in host memory, about 150 kB each
  config.steps_per_epoch = 0  # 0: every patch once

  config.phases = ConfigDict()  # in order of their names
  config.phases.phase_1 = phase(False, 25, 1e-4, 0.5, 7, lr_weight=0.5)
  config.phases.phase_2 = phase(False, 60, 1e-4, 0.1, 30, lr_weight=0.5)
  config.phases.phase_3 = phase(True, 55, 5e-5, 0.1, 25, lr_weight=0.0, reset_optimizer=True)

  # 'mse', 'l1' or 'charbonnier', and more of the images' edges.
  config.loss = ConfigDict(dict(hr='mse', lr='mse', edge_weight=0.0, gradient_weight=0.0))
  config.precision = 'float32'  # or 'tf32' or 'bfloat16', for what the network computes
  config.accumulate = 1  # parts of a batch that go through the network one after the other
  config.ema_decay = 0.0  # of an average of the parameters, such as 0.999; 0: none
  config.optimizer = ConfigDict(dict(name='adam', b1=0.9, b2=0.999, eps=1e-8, clip_norm=1.0))

  config.log_every = 100  # steps, as the next two
  config.checkpoint_every = 1000
  config.eval_every = 6724  # 0: never
  config.eval_images = 20  # of the test split, while training
  config.protocol = 'gfn'
  config.keep_checkpoints = 3
  config.profile = False  # trace steps 11 to 15, for TensorBoard

  if variant == 'literal':
    config.model.initialization = 'authors'
    config.optimizer.clip_norm = 0.0
  elif variant:
    raise UserError(f"configs/gfn.py has the variants '' and 'literal', not {variant!r}")
  return config
