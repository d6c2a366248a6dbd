"""Surrogate for the generator of SCGAN (Xu et al., ICCV 2017), of the GFN paper's Table 1.

    lr_blur --> 2 x (deconv, norm, ReLU) --> N x (conv, norm, ReLU) --> conv --> hr

Xu, Sun, Pan, Zhang, Pfister, and Yang, "Learning to Super-Resolve Blurry Face and Text Images". It
is NOT the authors' network: neither code nor a table of its layers is public. Known are a single
generator from `lr_blur` to `hr`, 1.1 million parameters, and 9 times the time of SRResNet, so that
most layers work at the final size. This one matches both. There is no discriminator and no
adversarial loss. Its scores are not those of SCGAN.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from gfn_jax.layers.activations import relu
from gfn_jax.layers.blocks import (
  Enlarge,
  ModuleDef,
  batch_norm,
  check_choice,
  check_positive,
  torch_convolutions,
)
from gfn_jax.models.base import GLOBAL_SKIPS, RestorationModel, RestorationOutput

SCALE = 4  # two transposed convolutions of stride 2
NORMS = ('none', 'batch')


class SCGANLike(RestorationModel):
  """Surrogate for SCGAN's generator, not a reproduction: enlarges first, 1,082,883 parameters.

  1,408 of them are the normalisation's. It has no `lr`. The preset `small`, 69,315 parameters,
  trains on CPUs.

  Attributes:
    features: number of channels.
    blocks: number of convolutions at the final size, before the last one.
    kernel_size: side of the kernels at the final size, odd.
    norm: normalisation after each convolution but the last: 'batch', with running statistics in
      `batch_stats`, or 'none'.
    global_skip: 'input' adds the input, enlarged bicubically, to `hr`; or 'none'.
    dtype: type of the computation, such as 'bfloat16'. Parameters and outputs are float32.
    precision: precision of the matrix products, as `jax.lax.Precision`.
    axis_name: mapped axis of devices over which 'batch' averages its statistics in training.
  """

  features: int = 64
  blocks: int = 9
  kernel_size: int = 5
  norm: str = 'batch'
  global_skip: str = 'none'
  dtype: Any = jnp.float32
  precision: Any = None
  axis_name: str | None = None

  scale = SCALE
  presets = {  # noqa: RUF012
    'small': dict(features=32, blocks=3, kernel_size=3),
  }

  def __post_init__(self) -> None:
    check_positive('features', self.features)
    check_positive('blocks', self.blocks)
    if self.kernel_size < 1 or self.kernel_size % 2 == 0:
      raise ValueError(f'kernel_size must be odd and at least 1, not {self.kernel_size}')
    check_choice('norm', self.norm, NORMS)
    check_choice('global_skip', self.global_skip, GLOBAL_SKIPS)
    super().__post_init__()

  @nn.compact
  def __call__(
    self, lr_blur: Float[jax.Array, 'b h w 3'], train: bool = False
  ) -> RestorationOutput:
    """Enlarge `lr_blur`, in [0, 1], to `hr`, `[b, 4h, 4w, 3]`."""
    f, k = self.features, self.kernel_size
    conv, deconv = torch_convolutions(self)
    conv = functools.partial(conv, kernel_size=(k, k), padding=k // 2)
    norm = batch_norm(self, train) if self.norm == 'batch' else _no_norm
    y = lr_blur
    for i in (1, 2):
      y = deconv(f, (6, 6), name=f'deconv{i}')(y)  # [B, 2h, 2w, F], then [B, 4h, 4w, F]
      y = relu(norm(name=f'deconv{i}_norm')(y))
    for i in range(self.blocks):
      y = relu(norm(name=f'norm_{i}')(conv(f, name=f'conv_{i}')(y)))
    hr = conv(3, name='conv_last')(y).astype(jnp.float32)
    if self.global_skip == 'input':
      hr = hr + Enlarge(SCALE)(lr_blur)
    return RestorationOutput(hr=hr)

  def for_training(self, axis_name: str | None) -> 'SCGANLike':
    """Return the network with statistics of the batch on all devices mapped over `axis_name`."""
    return self.clone(axis_name=axis_name)


def _no_norm(name: str) -> ModuleDef:
  return lambda y: y
