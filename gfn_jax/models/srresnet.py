"""SRResNet (Ledig et al., CVPR 2017), the baseline of the GFN paper's Tables 1 and 2.

    lr_blur --> conv --+--> residual blocks --> conv --(+)--> 2 x (conv, pixel shuffle) --> hr
                       |                                |
                       +--------------------------------+

The authors published no code. `SRResNet.presets` has the three versions in common use.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from gfn_jax.layers.activations import leaky_relu, relu
from gfn_jax.layers.blocks import (
  INITIALIZATIONS,
  Enlarge,
  ModuleDef,
  batch_norm,
  check_choice,
  check_positive,
  make_layers,
  pixel_shuffle,
)
from gfn_jax.models.base import RestorationModel, RestorationOutput

SCALE = 4
NORMS = ('none', 'batch', 'instance')
ACTIVATIONS = ('relu', 'leaky_relu', 'prelu')
GLOBAL_SKIPS = ('none', 'input', 'input_bilinear')


class SRResNet(RestorationModel):
  """Residual network at the input's size, with a long skip and two pixel shuffles; it has no `lr`.

  The GFN paper does not state which version it retrained. Its training script descends from the
  code of `srresnet_gfn`.

  Presets: `srresnet_gfn`, the default, is the twtygqyy/pytorch-SRResNet that GFN's code builds on,
  1,546,752 parameters. `srresnet_paper` has the batch normalisation and the PReLUs of the paper,
  1,549,462. `msrresnet` is BasicSR's, without normalisation, 1,517,571.

  Attributes:
    features: number of channels.
    blocks: number of residual blocks.
    norm: normalisation after each convolution of the blocks and the one that follows them:
      'instance', 'batch' or 'none'. 'instance' computes its statistics from the whole image, so
      that tiles would change them. 'batch' keeps running statistics in `batch_stats`.
    act: activation outside the blocks: 'relu', 'leaky_relu', or 'prelu' with one parameter.
    block_act: activation inside the blocks.
    slope: negative slope of 'leaky_relu', above 0.
    use_bias: True for convolutions with biases.
    kernel_size: side of the kernels of the first and the last convolution.
    long_skip: True for a convolution, a normalisation and a skip after the blocks.
    hr_conv: True for one more 3x3 convolution at the final size.
    initialization: 'authors' is He's, fan-out, in all convolutions; 'scaled' as for GFN.
    global_skip: 'input' adds the input, enlarged bicubically, to `hr`; 'input_bilinear' adds it
      enlarged bilinearly; 'none' adds nothing.
    dtype: type of the computation.
    precision: precision of the matrix products.
    axis_name: mapped axis of devices over which 'batch' averages its statistics in training.
  """

  features: int = 64
  blocks: int = 16
  norm: str = 'instance'
  act: str = 'leaky_relu'
  block_act: str = 'leaky_relu'
  slope: float = 0.2
  use_bias: bool = False
  kernel_size: int = 9
  long_skip: bool = True
  hr_conv: bool = False
  initialization: str = 'scaled'
  global_skip: str = 'none'
  dtype: Any = jnp.float32
  precision: Any = None
  axis_name: str | None = None

  scale = SCALE
  presets = {  # noqa: RUF012
    'srresnet_gfn': {},
    'srresnet_paper': dict(norm='batch', act='prelu', block_act='prelu', use_bias=True),
    'msrresnet': dict(
      norm='none',
      block_act='relu',
      slope=0.1,
      use_bias=True,
      kernel_size=3,
      long_skip=False,
      hr_conv=True,
      global_skip='input_bilinear',
    ),
  }

  @property
  def local(self) -> bool:
    """True unless the normalisation is 'instance'."""
    return self.norm != 'instance'

  def __post_init__(self) -> None:
    check_choice('norm', self.norm, NORMS)
    check_choice('act', self.act, ACTIVATIONS)
    check_choice('block_act', self.block_act, ACTIVATIONS)
    check_choice('initialization', self.initialization, INITIALIZATIONS)
    check_choice('global_skip', self.global_skip, GLOBAL_SKIPS)
    check_positive('features', self.features)
    if self.slope <= 0:
      raise ValueError(f'slope must be above 0, not {self.slope}')
    if self.kernel_size % 2 == 0:
      raise ValueError(f'kernel_size must be odd, not {self.kernel_size}')
    super().__post_init__()

  @nn.compact
  def __call__(
    self, lr_blur: Float[jax.Array, 'b h w 3'], train: bool = False
  ) -> RestorationOutput:
    """Enlarge `lr_blur`, in [0, 1], to `hr`, `[b, 4h, 4w, 3]`."""
    f, k, layers, norm = self.features, self.kernel_size, make_layers(self), self._norm(train)
    conv = functools.partial(layers.conv, use_bias=self.use_bias)
    res_block = functools.partial(layers.res_block, conv=conv, norm=norm)
    act = functools.partial(_activate, self.act, self.slope)
    block_act = functools.partial(_activate, self.block_act, self.slope, name='prelu')

    first = act(conv(f, (k, k), padding=k // 2, name='conv_first')(lr_blur), name='prelu_first')
    y = first  # [B, h, w, F]
    for i in range(self.blocks):
      y = res_block(f, block_act, name=f'resblock_{i}')(y)
    if self.long_skip:
      y = conv(f, (3, 3), padding=1, name='conv_mid')(y)
      y = first + (norm(name='norm_mid')(y) if norm else y)
    for i in (1, 2):
      y = pixel_shuffle(conv(4 * f, (3, 3), padding=1, name=f'upconv{i}')(y), 2)
      y = act(y, name=f'prelu_up{i}')  # [B, 2h, 2w, F], then [B, 4h, 4w, F]
    if self.hr_conv:
      y = act(conv(f, (3, 3), padding=1, name='conv_hr')(y), name='prelu_hr')
    image_conv = functools.partial(layers.image_conv, use_bias=self.use_bias)
    hr = image_conv(3, (k, k), padding=k // 2, name='conv_last')(y)  # [B, 4h, 4w, 3]
    hr = hr.astype(jnp.float32)
    if self.global_skip != 'none':
      method = 'linear' if self.global_skip == 'input_bilinear' else 'cubic'
      hr = hr + Enlarge(SCALE, method)(lr_blur)
    return RestorationOutput(hr=hr)

  def for_training(self, axis_name: str | None) -> 'SRResNet':
    """Return the network with statistics of the batch on all devices mapped over `axis_name`."""
    return self.clone(axis_name=axis_name)

  def _norm(self, train: bool) -> ModuleDef | None:
    if self.norm == 'instance':
      return functools.partial(
        nn.InstanceNorm, epsilon=1e-5, use_fast_variance=False, dtype=jnp.dtype(self.dtype)
      )
    if self.norm == 'batch':
      return batch_norm(self, train)
    return None


def _activate(act: str, slope: float, x: jax.Array, name: str) -> jax.Array:
  if act == 'prelu':  # becomes a submodule of the calling module
    return nn.PReLU(negative_slope_init=0.25, name=name)(x)
  return relu(x) if act == 'relu' else leaky_relu(x, slope)
