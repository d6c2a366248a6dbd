"""GFN, the Gated Fusion Network (Zhang et al., BMVC 2018), as in the paper's Figure 2.

    lr_blur --+--> deblurring module --> f_deblur --+--> gate --> g
              |           |                         |             |
              |           +--> lr                   v             v
              |                                 g * f_deblur + f_sr --> reconstruction --> hr
              |                                                   ^
              +--> SR feature module --> f_sr ---------------------+

Where the paper and the authors' released code differ, this is the code: 7x7 kernels in the two
first convolutions and the decoder's last, ReLU in the deblurring and reconstruction blocks, a gate
without a sigmoid, per pixel and channel.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gfn_jax.layers.activations import leaky_relu, relu
from gfn_jax.layers.blocks import (
  INITIALIZATIONS,
  Enlarge,
  Layers,
  RestorationOutput,
  check_choice,
  check_positive,
  make_layers,
  pad_to_multiple,
  pixel_shuffle,
  resize_bilinear,
)

SCALE = 4  # two pixel shuffles of 2
STRIDE = 4  # two strided convolutions: the sizes that need no padding are multiples of it
SIZE_MODES = ('pad', 'resize')
GLOBAL_SKIPS = ('none', 'input', 'deblurred')
DEBLUR_MODULES = ('encoder_decoder', 'unet')
UPSAMPLERS = ('pixelshuffle', 'pixelshuffledirect')


class DeblurModule(nn.Module):
  """Residual encoder-decoder that deblurs at the input's size (section 3.1).

  Attributes:
    features: channels at full size; twice at 1/2, four times at 1/4.
    blocks: residual blocks at each of the three sizes, the full one first.
    layers: makes the layers.
  """

  features: int
  blocks: tuple[int, int, int]
  layers: Layers

  def _residual_group(self, x: jax.Array, features: int, blocks: int, name: str) -> jax.Array:
    y = x
    for i in range(blocks):
      y = self.layers.res_block(features, relu, name=f'{name}_{i}')(y)
    return y + x

  @nn.compact
  def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Maps `[B, h, w, 3]`, sides multiples of 4, to features `[B, h, w, F]` and `lr`."""
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
    # The image, from the features and the only skip between the encoder and the decoder.
    y = relu(conv(f, (3, 3), padding=1, name='conv5')(f_deblur + c1))
    lr = self.layers.image_conv(3, (3, 3), padding=1, name='conv6')(y)  # [B, h, w, 3]
    return f_deblur, lr


class UNetDeblurModule(nn.Module):
  """U-shaped alternative to `DeblurModule`: skips and residual blocks at every size, both ways.

  Not in the paper. The upward steps are pixel shuffles, and skips are added, not concatenated.

  Attributes:
    features: channels at full size; twice at 1/2, four times at 1/4.
    blocks: residual blocks at each of the three sizes, the full one first; the two larger sizes
      have as many again on the way up.
    layers: makes the layers.
  """

  features: int
  blocks: tuple[int, int, int]
  layers: Layers

  def _blocks(self, y: jax.Array, level: int, name: str) -> jax.Array:
    for i in range(self.blocks[level]):
      y = self.layers.res_block(self.features * 2**level, relu, name=f'{name}{level + 1}_{i}')(y)
    return y

  @nn.compact
  def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Maps `[B, h, w, 3]`, sides multiples of 4, to features `[B, h, w, F]` and `lr`."""
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
  """Features for super-resolution, at the input's size and never downsampled (section 3.1).

  Attributes:
    features: channels.
    blocks: residual blocks.
    layers: makes the layers.
  """

  features: int
  blocks: int
  layers: Layers

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[B, h, w, 3]` to `[B, h, w, F]`."""
    f, conv = self.features, self.layers.conv
    s1 = leaky_relu(conv(f, (7, 7), padding=3, name='conv1')(x))  # [B, h, w, F]
    y = s1
    for i in range(self.blocks):
      y = self.layers.res_block(f, leaky_relu, name=f'resblock_{i}')(y)
    return conv(f, (3, 3), padding=1, name='conv2')(y) + s1


class Gate(nn.Module):
  """The learned score map that weighs the deblurred features (section 3.1). Linear, unbounded.

  Attributes:
    features: channels.
    layers: makes the layers.
  """

  features: int
  layers: Layers

  @nn.compact
  def __call__(self, f_deblur: jax.Array, x: jax.Array, f_sr: jax.Array) -> jax.Array:
    """Maps features, input image and features, all `[B, h, w, .]`, to `[B, h, w, F]`."""
    y = jnp.concatenate([f_deblur, x.astype(f_deblur.dtype), f_sr], axis=-1)  # [B, h, w, 2F + 3]
    y = self.layers.conv(self.features, (3, 3), padding=1, name='conv1')(y)  # [B, h, w, F]
    return self.layers.gate_conv(self.features, (1, 1), name='conv2')(leaky_relu(y))


class ReconstructionModule(nn.Module):
  """From fused features to the image, four times larger (section 3.1).

  Attributes:
    features: channels.
    blocks: residual blocks.
    layers: makes the layers.
    upsampler: 'pixelshuffle' is the paper's: two pixel shuffles of 2, and two convolutions at the
      full size. 'pixelshuffledirect' is one convolution to 48 channels and one pixel shuffle of 4
      (the name of Liang et al. 2021, SwinIR): far less work.
  """

  features: int
  blocks: int
  layers: Layers
  upsampler: str = 'pixelshuffle'

  @nn.compact
  def __call__(self, y: jax.Array) -> jax.Array:
    """Maps `[B, h, w, F]` to `[B, 4h, 4w, 3]`."""
    f, conv = self.features, self.layers.conv
    for i in range(self.blocks):
      y = self.layers.res_block(f, relu, name=f'resblock_{i}')(y)
    if self.upsampler == 'pixelshuffledirect':
      y = self.layers.image_conv(3 * SCALE**2, (3, 3), padding=1, name='conv1')(y)
      return pixel_shuffle(y, SCALE)  # [B, 4h, 4w, 3]
    # The activations stand before the shuffles, where they fuse with the convolutions.
    y = leaky_relu(conv(4 * f, (3, 3), padding=1, name='conv1')(y), negative_slope=0.1)
    y = pixel_shuffle(y, 2)  # [B, 2h, 2w, F]
    y = leaky_relu(conv(4 * f, (3, 3), padding=1, name='conv2')(y))
    y = pixel_shuffle(y, 2)  # [B, 4h, 4w, F]
    y = leaky_relu(conv(f, (3, 3), padding=1, name='conv3')(y))
    return self.layers.image_conv(3, (3, 3), padding=1, name='conv4')(y)  # [B, 4h, 4w, 3]


class GFN(nn.Module):
  """Gated Fusion Network: deblurs and super-resolves 4x, 12,210,438 parameters by default.

  Attributes:
    features: base number of channels.
    deblur_blocks: residual blocks at the deblurring module's three sizes, the full one first; one
      number is for each of them.
    deblur_module: 'encoder_decoder' is the paper's `DeblurModule`, 'unet' is `UNetDeblurModule`.
    sr_blocks: residual blocks of the SR feature module.
    reconstruction_blocks: residual blocks of the reconstruction module.
    upsampler: the end of the reconstruction module, as `ReconstructionModule` has it.
    gated: False replaces the score map by ones: the first training phases, and the paper's Model-5.
    gate_recursions: how often the gate is applied to its own fusion, with the same weights: 1 in
      the BMVC paper, 3 in the authors' IJCV 2020 variant.
    size_mode: for sides that are no multiples of 4, 'pad' reflects the input and crops the outputs;
      'resize' does as the authors' test code: the input is resized bilinearly to the next
      multiples, `hr` back to `(4h, 4w)`, and `lr` stays at the padded size.
    initialization: 'authors' is the released code's: He, fan-out, and PyTorch's default for the
      transposed convolutions; its outputs start at about 1e7. 'scaled' is LeCun's (variance
      1 / fan-in), with the residual branches and the gate's last convolution scaled by 0.1: outputs
      start near the range of an image, and the gate near 1, where the ungated phase ends.
    global_skip: 'deblurred' adds the input to `lr`, and this, enlarged bicubically, to `hr`: the
      network learns only the differences. 'input' adds the enlarged input to `hr` instead. 'none'
      is the paper's; the others make short trainings better.
    dtype: of the computation, such as 'bfloat16'. Parameters and outputs are float32.
    precision: of the matrix products, as `jax.lax.Precision`; 'highest' for parity on GPU and TPU.
    stride: sides that need no padding are multiples of it. Not an option.
    local: whether a result depends on what is near it only. Not an option.
    scale: how much larger `hr` is; 1 for a network that only deblurs. Not an option.
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

  stride = STRIDE
  local = True
  scale = SCALE

  def __post_init__(self):
    check_choice('size_mode', self.size_mode, SIZE_MODES)
    check_choice('global_skip', self.global_skip, GLOBAL_SKIPS)
    check_choice('initialization', self.initialization, INITIALIZATIONS)
    check_choice('deblur_module', self.deblur_module, DEBLUR_MODULES)
    check_choice('upsampler', self.upsampler, UPSAMPLERS)
    check_positive('features', self.features)
    if not isinstance(self.deblur_blocks, int):
      self.deblur_blocks = tuple(self.deblur_blocks)  # a list, as JSON has it, becomes hashable
      if len(self.deblur_blocks) != 3 or not all(isinstance(n, int) for n in self.deblur_blocks):
        raise ValueError(
          f'deblur_blocks must be one number or one for each of 3 sizes, not {self.deblur_blocks}'
        )
    super().__post_init__()

  @nn.compact
  def __call__(self, lr_blur: jax.Array) -> RestorationOutput:
    """Restores `lr_blur`, `[B, h, w, 3]` in [0, 1], to `hr` `[B, 4h, 4w, 3]` and `lr`."""
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
      x = pad_to_multiple(lr_blur, STRIDE)

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


class SRBranch(nn.Module):
  """GFN's SR feature module and reconstruction alone, without deblurring.

  A plain SRResNet-like network, the baseline that shows what the other branch is worth. Its output
  has no `lr`.

  Attributes:
    features: channels.
    sr_blocks: residual blocks of the SR feature module.
    reconstruction_blocks: residual blocks of the reconstruction module.
    initialization: as GFN's.
    global_skip: 'input' adds the input, enlarged bicubically, to `hr`; or 'none'.
    dtype: as GFN's.
    precision: as GFN's.
    stride: any size will do. Not an option.
    local: as GFN's. Not an option.
    scale: as GFN's. Not an option.
  """

  features: int = 64
  sr_blocks: int = 8
  reconstruction_blocks: int = 8
  initialization: str = 'scaled'
  global_skip: str = 'none'
  dtype: Any = jnp.float32
  precision: Any = None

  stride = 1
  local = True
  scale = SCALE

  def __post_init__(self):
    check_choice('global_skip', self.global_skip, GLOBAL_SKIPS[:2])
    check_choice('initialization', self.initialization, INITIALIZATIONS)
    check_positive('features', self.features)
    super().__post_init__()

  @nn.compact
  def __call__(self, lr_blur: jax.Array) -> RestorationOutput:
    """Enlarges `lr_blur`, `[B, h, w, 3]` in [0, 1], to `hr` `[B, 4h, 4w, 3]`."""
    f = self.features
    layers = make_layers(self)
    f_sr = SRFeatureModule(f, self.sr_blocks, layers, name='sr_feature')(lr_blur)
    hr = ReconstructionModule(f, self.reconstruction_blocks, layers, name='reconstruction')(f_sr)
    hr = hr.astype(jnp.float32)  # [B, 4h, 4w, 3]
    if self.global_skip == 'input':
      hr = hr + Enlarge(SCALE)(lr_blur)
    return RestorationOutput(hr=hr)
