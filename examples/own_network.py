"""A network of your own, with the commands of gfn_jax.

python examples/own_network.py train --config=examples/own_network.py --workdir=runs/own \
  --config.data.photos=DIR
python examples/own_network.py eval --workdir=runs/own
python examples/own_network.py restore photo.jpg sharp.png --weights=runs/own

This file is the network, the config of its training, and the command `gfn` with this network
registered. docs/own_network.md describes each part.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

import gfn_jax
from gfn_jax.cli import commands
from gfn_jax.configs import defaults
from gfn_jax.layers.blocks import Enlarge, pixel_shuffle
from gfn_jax.models import RestorationModel, RestorationOutput


class OwnNetwork(RestorationModel):
  """Residual blocks at the input's size, one image of that size, and one of four times the size.

  Attributes:
    features: number of channels.
    blocks: number of residual blocks.
    dtype: type of the computation.
    precision: precision of the matrix products.
  """

  features: int = 32
  blocks: int = 6
  dtype: Any = jnp.float32
  precision: Any = None

  scale = 4

  @nn.compact
  def __call__(self, lr_blur: jax.Array, train: bool = False) -> RestorationOutput:
    """Restore `lr_blur`, `[b, h, w, 3]` in [0, 1]."""
    layer = dict(dtype=jnp.dtype(self.dtype), precision=self.precision)
    conv = functools.partial(nn.Conv, kernel_size=(3, 3), padding=1, **layer)
    image_conv = functools.partial(conv, kernel_init=nn.initializers.zeros)  # starts as bicubic

    y = conv(self.features)(lr_blur)  # [b, h, w, F]
    for _ in range(self.blocks):
      y = y + conv(self.features)(nn.relu(conv(self.features)(y)))
    lr = lr_blur + image_conv(3)(y).astype(jnp.float32)
    details = pixel_shuffle(image_conv(3 * 4**2)(y), 4)  # [b, 4h, 4w, 3]
    return RestorationOutput(hr=Enlarge(4)(lr) + details.astype(jnp.float32), lr=lr)


gfn_jax.register_model('own_network', OwnNetwork)


def get_config() -> ConfigDict:
  """Return the config: 5,000 steps for CPUs on a folder of photographs."""
  config = defaults.cpu_photos()
  config.model = ConfigDict(dict(name='own_network', features=32, blocks=6))
  schedule = defaults.cosine(2e-3, warmup_steps=100)
  config.phases.phase_1 = defaults.phase(5, schedule, lr_weight=0.5)
  return config


if __name__ == '__main__':
  commands.run()
