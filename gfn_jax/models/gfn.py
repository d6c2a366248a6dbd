"""GFN, the Gated Fusion Network (Zhang et al., BMVC 2018): Figure 2 and section 3.1 of the paper.

    lr_blur --+--> deblurring module --> f_deblur --+--> gate --> g
              |           |                         |             |
              |           +--> lr                   v             v
              |                                 g * f_deblur + f_sr --> reconstruction --> hr
              |                                                   ^
              +--> SR feature module --> f_sr ---------------------+

Where the paper and the authors' released code differ, this follows the code: 7x7 kernels in the two
first convolutions and the decoder's last, ReLU in the deblurring and reconstruction blocks, and a
gate without a sigmoid, per pixel and channel.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from gfn_jax.errors import UserError
from gfn_jax.layers.activations import leaky_relu, relu
from gfn_jax.layers.blocks import (
  INITIALIZATIONS,
  Enlarge,
  Layers,
  check_choice,
  check_positive,
  make_layers,
  pad_to_multiple,
  pixel_shuffle,
  resize_bilinear,
)
from gfn_jax.models.base import RestorationModel, RestorationOutput

SCALE = 4  # two pixel shuffles of 2
STRIDE = 4  # two convolutions of stride 2
SIZE_MODES = ('pad', 'resize')
GLOBAL_SKIPS = ('none', 'input', 'deblurred')
DEBLUR_MODULES = ('encoder_decoder', 'unet')
UPSAMPLERS = ('pixelshuffle', 'pixelshuffledirect')


class DeblurModule(nn.Module):
  """Deblurring module: residual encoder-decoder at the input's size (section 3.1).

  Attributes:
    features: channels at full size, doubled at 1/2 and again at 1/4.
    blocks: number of residual blocks at full size, at 1/2 and at 1/4.
    layers: makes the layers.
  """

  features: int
  blocks: Sequence[int]
  layers: Layers

  def _residual_group(self, x: jax.Array, features: int, blocks: int, name: str) -> jax.Array:
    y = x
    for i in range(blocks):
      y = self.layers.res_block(features, relu, name=f'{name}_{i}')(y)
    return y + x

  @nn.compact
  def __call__(
    self, x: Float[jax.Array, 'b h w 3']
  ) -> tuple[Float[jax.Array, 'b h w f'], Float[jax.Array, 'b h w 3']]:
    """Map an image, sides multiples of 4, to features and `lr`."""
    f, conv, deconv = self.features, self.layers.conv, self.layers.deconv
    full, half, quarter = self.blocks
    # Encoder.
    c1 = leaky_relu(conv(f, (7, 7), padding=3, name='conv1')(x))  # [B, h, w, F]
    y = self._residual_group(c1, f, full, 'resblock1')
    y = relu(conv(2 * f, (3, 3), strides=2, padding=1, name='conv2')(y))  # [B, h/2, w/2, 2F]
    y = self._residual_group(y, 2 * f, half, 'resblock2')
    y = relu(conv(4 * f, (3, 3), strides=2, padding=1, name='conv3')(y))  # [B, h/4, w/4, 4F]
    y = self._residual_group(y, 4 * f, quarter, 'resblock3')
    # Decoder.
    y = relu(deconv(2 * f, name='deconv1')(y))  # [B, h/2, w/2, 2F]
    y = relu(deconv(f, name='deconv2')(y))  # [B, h, w, F]
    f_deblur = conv(f, (7, 7), padding=3, name='conv4')(y)
    # Image, from the features and the only skip between encoder and decoder.
    y = relu(conv(f, (3, 3), padding=1, name='conv5')(f_deblur + c1))
    lr = self.layers.image_conv(3, (3, 3), padding=1, name='conv6')(y)  # [B, h, w, 3]
    return f_deblur, lr


class UNetDeblurModule(nn.Module):
  """U-Net alternative to `DeblurModule`, with skips and residual blocks at every size.

  It is not in the paper. Pixel shuffles enlarge, and skips are added, not concatenated.

  Attributes:
    features: channels at full size, doubled at 1/2 and again at 1/4.
    blocks: number of residual blocks at full size, at 1/2 and at 1/4. The decoder has the same
      numbers at full size and at 1/2.
    layers: makes the layers.
  """

  features: int
  blocks: Sequence[int]
  layers: Layers

  def _blocks(self, y: jax.Array, level: int, name: str) -> jax.Array:
    for i in range(self.blocks[level]):
      y = self.layers.res_block(self.features * 2**level, relu, name=f'{name}{level + 1}_{i}')(y)
    return y

  @nn.compact
  def __call__(
    self, x: Float[jax.Array, 'b h w 3']
  ) -> tuple[Float[jax.Array, 'b h w f'], Float[jax.Array, 'b h w 3']]:
    """Map an image, sides multiples of 4, to features and `lr`."""
    f, conv = self.features, self.layers.conv
    y = leaky_relu(conv(f, (7, 7), padding=3, name='conv1')(x))  # [B, h, w, F]
    skip1 = self._blocks(y, 0, 'encoder')
    y = relu(conv(2 * f, (3, 3), strides=2, padding=1, name='down1')(skip1))  # [B, h/2, w/2, 2F]
    skip2 = self._blocks(y, 1, 'encoder')
    y = relu(conv(4 * f, (3, 3), strides=2, padding=1, name='down2')(skip2))  # [B, h/4, w/4, 4F]
    y = self._blocks(y, 2, 'encoder')
    y = conv(8 * f, (3, 3), padding=1, name='up2')(y)
    y = self._blocks(pixel_shuffle(y, 2) + skip2, 1, 'decoder')  # [B, h/2, w/2, 2F]
    y = conv(4 * f, (3, 3), padding=1, name='up1')(y)
    f_deblur = self._blocks(pixel_shuffle(y, 2) + skip1, 0, 'decoder')  # [B, h, w, F]
    y = relu(conv(f, (3, 3), padding=1, name='conv2')(f_deblur))
    lr = self.layers.image_conv(3, (3, 3), padding=1, name='conv3')(y)  # [B, h, w, 3]
    return f_deblur, lr


class SRFeatureModule(nn.Module):
  """SR feature module: features at the input's size, never downsampled (section 3.1).

  Attributes:
    features: number of channels.
    blocks: number of residual blocks.
    layers: makes the layers.
  """

  features: int
  blocks: int
  layers: Layers

  @nn.compact
  def __call__(self, x: Float[jax.Array, 'b h w 3']) -> Float[jax.Array, 'b h w f']:
    """Map an image to features."""
    f, conv = self.features, self.layers.conv
    s1 = leaky_relu(conv(f, (7, 7), padding=3, name='conv1')(x))  # [B, h, w, F]
    y = s1
    for i in range(self.blocks):
      y = self.layers.res_block(f, leaky_relu, name=f'resblock_{i}')(y)
    return conv(f, (3, 3), padding=1, name='conv2')(y) + s1


class Gate(nn.Module):
  """Gate module: the score map that weighs the deblurred features (section 3.1).

  The map is the output of a convolution, without bounds.

  Attributes:
    features: number of channels.
    layers: makes the layers.
  """

  features: int
  layers: Layers

  @nn.compact
  def __call__(
    self,
    f_deblur: Float[jax.Array, 'b h w f'],
    x: Float[jax.Array, 'b h w 3'],
    f_sr: Float[jax.Array, 'b h w f'],
  ) -> Float[jax.Array, 'b h w f']:
    """Map both features and the image `x` to the score map."""
    y = jnp.concatenate([f_deblur, x.astype(f_deblur.dtype), f_sr], axis=-1)  # [B, h, w, 2F + 3]
    y = self.layers.conv(self.features, (3, 3), padding=1, name='conv1')(y)  # [B, h, w, F]
    return self.layers.gate_conv(self.features, (1, 1), name='conv2')(leaky_relu(y))  # [B, h, w, F]


class ReconstructionModule(nn.Module):
  """Reconstruction module: from fused features to an image of four times the size (section 3.1).

  Attributes:
    features: number of channels.
    blocks: number of residual blocks.
    layers: makes the layers.
    upsampler: 'pixelshuffle' is the paper's: two pixel shuffles of 2, and two convolutions at the
      final size. 'pixelshuffledirect' is much cheaper: one convolution to 48 channels and one pixel
      shuffle of 4 (named as in SwinIR, Liang et al. 2021).
  """

  features: int
  blocks: int
  layers: Layers
  upsampler: str = 'pixelshuffle'

  @nn.compact
  def __call__(self, y: Float[jax.Array, 'b h w f']) -> Float[jax.Array, 'b 4*h 4*w 3']:
    """Map features to an image."""
    f, conv = self.features, self.layers.conv
    for i in range(self.blocks):
      y = self.layers.res_block(f, relu, name=f'resblock_{i}')(y)
    if self.upsampler == 'pixelshuffledirect':
      y = self.layers.image_conv(3 * SCALE**2, (3, 3), padding=1, name='conv1')(y)  # [B, h, w, 48]
      return pixel_shuffle(y, SCALE)  # [B, 4h, 4w, 3]
    # Activations precede the shuffles, so that they fuse with the convolutions.
    y = leaky_relu(conv(4 * f, (3, 3), padding=1, name='conv1')(y), negative_slope=0.1)
    y = pixel_shuffle(y, 2)  # [B, 2h, 2w, F]
    y = leaky_relu(conv(4 * f, (3, 3), padding=1, name='conv2')(y))
    y = pixel_shuffle(y, 2)  # [B, 4h, 4w, F]
    y = leaky_relu(conv(f, (3, 3), padding=1, name='conv3')(y))
    return self.layers.image_conv(3, (3, 3), padding=1, name='conv4')(y)  # [B, 4h, 4w, 3]


class GFN(RestorationModel):
  """Gated Fusion Network: deblurs and super-resolves 4x, 12,210,438 parameters by default.

  The paper's loss is eq. 2 (`training.losses`), its two training phases are in section 3.3.

  Attributes:
    features: base number of channels.
    deblur_blocks: number of residual blocks of the deblurring module at full size, at 1/2 and at
      1/4; or one number for all three.
    deblur_module: 'encoder_decoder' for the paper's `DeblurModule`, or 'unet' for
      `UNetDeblurModule`.
    sr_blocks: number of residual blocks of the SR feature module.
    reconstruction_blocks: number of residual blocks of the reconstruction module.
    upsampler: as for `ReconstructionModule`.
    gated: False replaces the score map by ones, as in the first training phase (section 3.3) and in
      the paper's Model-5.
    gate_recursions: number of times that the gate is applied to its own fusion, with shared
      weights: 1 in the BMVC paper, 3 in the authors' IJCV 2020 variant.
    size_mode: treatment of sides that are not multiples of 4. 'pad' reflects the input and crops
      the outputs. 'resize' is the authors' test code: the input is resized bilinearly to the next
      multiples, `hr` is resized back to `(4h, 4w)`, and `lr` stays at the padded size.
    initialization: 'authors' is the released code's: He, fan-out, with PyTorch's default for the
      transposed convolutions; its outputs start at about 1e7. 'scaled' is LeCun's (variance
      1 / fan-in), with the residual branches and the gate's last convolution scaled by 0.1: outputs
      start near the range of an image, and the gate near 1, as in the ungated phase.
    global_skip: 'none' is the paper's. 'deblurred' adds the input to `lr`, and `lr`, enlarged
      bicubically, to `hr`: the network learns only the differences. 'input' adds the input to `lr`,
      and the enlarged input to `hr`. Both improve short trainings.
    dtype: type of the computation, such as 'bfloat16'. Parameters and outputs are float32.
    precision: precision of the matrix products, as `jax.lax.Precision`; 'highest' for parity on GPU
      and TPU.
  """

  features: int = 64
  deblur_blocks: int | Sequence[int] = 6
  deblur_module: str = 'encoder_decoder'
  sr_blocks: int = 8
  reconstruction_blocks: int = 8
  upsampler: str = 'pixelshuffle'
  gated: bool = True
  gate_recursions: int = 1
  size_mode: str = 'pad'
  initialization: str = 'scaled'
  global_skip: str = 'none'
  dtype: Any = jnp.float32
  precision: Any = None

  stride = (STRIDE, STRIDE)
  scale = SCALE

  @property
  def local(self) -> bool:
    """True unless size_mode is 'resize', where every pixel depends on the image's size."""
    return self.size_mode != 'resize'

  def __post_init__(self) -> None:
    check_choice('size_mode', self.size_mode, SIZE_MODES)
    check_choice('global_skip', self.global_skip, GLOBAL_SKIPS)
    check_choice('initialization', self.initialization, INITIALIZATIONS)
    check_choice('deblur_module', self.deblur_module, DEBLUR_MODULES)
    check_choice('upsampler', self.upsampler, UPSAMPLERS)
    check_positive('features', self.features)
    if not isinstance(self.deblur_blocks, int):
      self.deblur_blocks = tuple(self.deblur_blocks)  # hashable, unlike a list from JSON
      if len(self.deblur_blocks) != 3 or not all(isinstance(n, int) for n in self.deblur_blocks):
        raise ValueError(f'deblur_blocks must be one number or 3 numbers, not {self.deblur_blocks}')
    super().__post_init__()

  @nn.compact
  def __call__(
    self, lr_blur: Float[jax.Array, 'b h w 3'], train: bool = False
  ) -> RestorationOutput:
    """Restore `lr_blur`, in [0, 1], to `hr`, `[b, 4h, 4w, 3]`, and `lr`."""
    f = self.features
    layers = make_layers(self)
    blocks = self.deblur_blocks
    blocks = (blocks,) * 3 if isinstance(blocks, int) else blocks
    deblur_module = UNetDeblurModule if self.deblur_module == 'unet' else DeblurModule
    deblur = deblur_module(f, blocks, layers, name='deblur')
    sr_feature = SRFeatureModule(f, self.sr_blocks, layers, name='sr_feature')
    gate = Gate(f, layers, name='gate')
    reconstruction = ReconstructionModule(
      f, self.reconstruction_blocks, layers, self.upsampler, name='reconstruction'
    )
    _, h, w, _ = lr_blur.shape
    if self.size_mode == 'resize':
      x = resize_bilinear(lr_blur, h + -h % STRIDE, w + -w % STRIDE)
    else:
      x = pad_to_multiple(lr_blur, self.stride)

    f_deblur, lr = deblur(x)  # [B, h, w, F], [B, h, w, 3]
    f_sr = sr_feature(x)  # [B, h, w, F]
    if self.gated:
      f_fusion = f_sr
      for _ in range(self.gate_recursions):
        f_fusion = f_fusion + gate(f_deblur, x, f_fusion) * f_deblur
    else:
      f_fusion = f_sr + f_deblur
    hr = reconstruction(f_fusion)  # [B, 4h, 4w, 3]

    hr, lr = hr.astype(jnp.float32), lr.astype(jnp.float32)
    if self.global_skip != 'none':
      lr = lr + x
      hr = hr + Enlarge(SCALE)(lr if self.global_skip == 'deblurred' else x)
    if self.size_mode == 'resize':
      return RestorationOutput(hr=resize_bilinear(hr, SCALE * h, SCALE * w), lr=lr)
    return RestorationOutput(hr=hr[:, : SCALE * h, : SCALE * w], lr=lr[:, :h, :w])


class SRBranch(RestorationModel):
  """GFN's SR feature module and reconstruction module alone, without deblurring.

  This SRResNet-like network is the baseline for the value of the deblurring branch. It has no `lr`.

  Attributes:
    features: number of channels.
    sr_blocks: number of residual blocks of the SR feature module.
    reconstruction_blocks: number of residual blocks of the reconstruction module.
    initialization: as for GFN.
    global_skip: 'input' adds the input, enlarged bicubically, to `hr`; or 'none'.
    dtype: as for GFN.
    precision: as for GFN.
  """

  features: int = 64
  sr_blocks: int = 8
  reconstruction_blocks: int = 8
  initialization: str = 'scaled'
  global_skip: str = 'none'
  dtype: Any = jnp.float32
  precision: Any = None

  scale = SCALE

  def __post_init__(self) -> None:
    check_choice('global_skip', self.global_skip, GLOBAL_SKIPS[:2])
    check_choice('initialization', self.initialization, INITIALIZATIONS)
    check_positive('features', self.features)
    super().__post_init__()

  @nn.compact
  def __call__(
    self, lr_blur: Float[jax.Array, 'b h w 3'], train: bool = False
  ) -> RestorationOutput:
    """Enlarge `lr_blur`, in [0, 1], to `hr`, `[b, 4h, 4w, 3]`."""
    f = self.features
    layers = make_layers(self)
    f_sr = SRFeatureModule(f, self.sr_blocks, layers, name='sr_feature')(lr_blur)  # [B, h, w, F]
    hr = ReconstructionModule(f, self.reconstruction_blocks, layers, name='reconstruction')(f_sr)
    hr = hr.astype(jnp.float32)  # [B, 4h, 4w, 3]
    if self.global_skip == 'input':
      hr = hr + Enlarge(SCALE)(lr_blur)
    return RestorationOutput(hr=hr)


def fusion_features(
  model: nn.Module, variables: Mapping[str, Any], lr_blur: Float[jax.Array, 'b h w 3']
) -> tuple[RestorationOutput, dict[str, Float[jax.Array, 'b h w f']]]:
  """Return the output of a GFN and the features around its fusion, as in Figure 3 of the paper.

  Args:
    model: a `GFN`.
    variables: its variables.
    lr_blur: images in [0, 1], sides multiples of 4.

  Returns:
    The output, and the features: `f_deblur`, `f_sr` and `f_fusion`; with a gate also
    `gate` and `gated`, the product of gate and `f_deblur`. Gates of several recursions are added.

  Raises:
    UserError: for another network.
  """
  if not isinstance(model, GFN):
    raise UserError(f'{type(model).__name__} has no gate to draw; pass weights of a GFN')
  names = ('deblur', 'sr_feature', 'gate')
  output, state = model.apply(
    variables,
    lr_blur,
    capture_intermediates=lambda module, method: module.name in names and method == '__call__',
  )
  calls = {name: calls['__call__'] for name, calls in state['intermediates'].items()}
  [(f_deblur, _)], [f_sr] = calls['deblur'], calls['sr_feature']
  features = {'f_deblur': f_deblur, 'f_sr': f_sr, 'f_fusion': f_sr + f_deblur}
  if 'gate' in calls:
    gate = sum(calls['gate'])
    features |= {'gate': gate, 'gated': gate * f_deblur, 'f_fusion': f_sr + gate * f_deblur}
  return output, features
