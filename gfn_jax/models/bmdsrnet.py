"""BMDSRNet, blind motion deblurring super-resolution: one blurred image becomes a short video.

    lr_blur --> BMDNet --> 7 sharp frames --+-- 1 ... 7 --> ForNet ---> image --+
                                |           +-- the 4th --> CoreNet --> image --+--> FuNet --> hr
                                v           +-- 7 ... 1 --> BackNet --> image --+
                          the 4th: lr                        (ForNet's weights)

    ForNet: for each frame: 7 x (conv, stride 2 --> ConvLSTM), the states go on to the next frame;
            then, once:     7 x (deconv, stride 2 --> concat with a state --> conv) --> N x --> conv
    BMDNet, CoreNet, FuNet: 2 convs --> residual blocks --(N x, in CoreNet)--> 3 convs

Niu et al., "Blind Motion Deblurring Super-Resolution: When Dynamic Spatio-Temporal Learning Meets
Static Image Understanding" (TIP 2021). There is no public code. The paper contradicts itself: the
widths in its Table 2 make 43.6 million parameters, its Table 6 says 2.9 million. `BMDSRNet.presets`
has both: `table2`, and `compact`, whose recurrent module is 5/32 as wide.

What the paper leaves open is chosen so:

- Table 2 has no strides. Row for row it is the depth network of Wang et al. (CVPR 2019), whose
  convolutions and transposed convolutions have stride 2 at all seven levels.
- Odd sizes are halved to the next larger integer, and cut on the way up.
- ForNet and BackNet see all frames and decode what they know after the last one; the target is the
  sharp image of the 4th. `decode='center'` stops there, where both see four frames.
- Enlargements repeat pixels. ReLUs follow all convolutions but the last and a block's second; there
  is no normalisation. A ConvLSTM is SRN-Deblur's: no peepholes, the forget gate starts open.
- The "+" in FuNet's figure is a skip around its blocks.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gfn_jax.layers.activations import relu
from gfn_jax.layers.blocks import (
  Enlarge,
  Layers,
  ModuleDef,
  RestorationOutput,
  check_choice,
  check_positive,
  make_layers,
  pixel_shuffle,
  scaled_normal,
)
from gfn_jax.layers.cpu_conv import ConvTranspose

SHARP_FRAMES = 7  # that BMDNet makes of an image
CENTER = SHARP_FRAMES // 2  # the index of the frame that `hr` shows
SCALES = (2, 3, 4)
VARIANTS = ('srnet', 'c', 'f+c', 'f+c+b')
DECODES = ('last', 'center')
UPSAMPLES = ('nearest', 'shuffle')
FUSION_SKIPS = ('features', 'core')
GLOBAL_SKIPS = ('none', 'input')
INITIALIZATIONS = ('scaled', 'he')

# Channels of the recurrent module (Table 2), in units of those of its first level.
_ENCODER = (1, 2, 4, 8, 8, 8, 16)
_DECODER = (8, 4, 4, 4, 2, 1, 1)

States = tuple[tuple[jax.Array, jax.Array], ...]
"""For each level the cell and the hidden state of its ConvLSTM, both `[B, ., ., F]`."""


class ResidualNet(nn.Module):
  """What BMDNet, CoreNet and FuNet are (Tables 1 and 3, Figure 6): a plain network with blocks.

  Attributes:
    features: channels.
    blocks: residual blocks.
    outputs: channels of the result.
    layers: makes the layers.
    scale: how much larger the result is.
    upsample: 'nearest', or 'shuffle' for pixel shuffles behind convolutions.
    long_skip: whether what goes into the blocks is added to what comes out.
  """

  features: int
  blocks: int
  outputs: int
  layers: Layers
  scale: int = 1
  upsample: str = 'nearest'
  long_skip: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[B, h, w, C]` to `[B, scale * h, scale * w, outputs]`."""
    f = self.features
    conv = functools.partial(self.layers.conv, kernel_size=(3, 3), padding=1)
    y = relu(conv(f, name='conv1')(x))
    y = before = relu(conv(f, name='conv2')(y))
    for i in range(self.blocks):
      y = self.layers.res_block(f, relu, name=f'resblock_{i}')(y)
    if self.long_skip:
      y = y + before
    if self.upsample == 'nearest':
      y = _repeat(y, self.scale)
    else:
      for i, factor in enumerate((2, 2) if self.scale == 4 else (self.scale,), start=1):
        y = pixel_shuffle(conv(factor**2 * f, name=f'upconv{i}')(y), factor)
    y = relu(conv(f, name='conv3')(y))
    y = relu(conv(f, name='conv4')(y))
    return self.layers.image_conv(self.outputs, (3, 3), padding=1, name='conv5')(y)


class ConvLSTM(nn.Module):
  """One step of a convolutional LSTM (Shi et al. 2015), without peepholes.

  Flax's `ConvLSTMCell` has the same equations, but two convolutions, and so two biases or none.

  Attributes:
    features: channels of the input, of both states and of the output.
    conv: makes a convolution.
  """

  features: int
  conv: ModuleDef

  @nn.compact
  def __call__(
    self, state: tuple[jax.Array, jax.Array], x: jax.Array
  ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
    """Maps cell, hidden state and input, all `[B, h, w, F]`, to new states and the output."""
    cell, hidden = state
    init = nn.initializers.glorot_uniform()
    conv = self.conv(4 * self.features, (3, 3), padding=1, kernel_init=init, name='gates')
    gates = conv(jnp.concatenate([x, hidden], axis=-1))
    enter, new, keep, show = jnp.split(gates, 4, axis=-1)
    cell = cell * nn.sigmoid(keep + 1) + nn.sigmoid(enter) * jnp.tanh(new)
    hidden = jnp.tanh(cell) * nn.sigmoid(show)
    return (cell, hidden), hidden


class EncoderStep(nn.Module):
  """What the recurrent module does with one frame.

  Attributes:
    widths: channels of each level.
    conv: makes a convolution.
  """

  widths: tuple[int, ...]
  conv: ModuleDef

  @nn.compact
  def __call__(self, states: States, frame: jax.Array) -> tuple[States, None]:
    """Maps the states after the frame before and `[B, h, w, 3]` to the states after this one."""
    y, new_states = frame, []
    for i, (f, state) in enumerate(zip(self.widths, states, strict=True), start=1):
      y = relu(self.conv(f, (3, 3), strides=2, padding=1, name=f'conv{i}')(y))
      state, y = ConvLSTM(f, self.conv, name=f'lstm{i}')(state, y)
      new_states.append(state)
    return tuple(new_states), None


class RecurrentNet(nn.Module):
  """ForNet and BackNet (Table 2): from a sequence of frames to one image.

  Attributes:
    features: channels of the first level, half the size of the frames.
    scale: how much larger the image is.
    layers: makes the layers.
    dtype: of the states.
  """

  features: int
  scale: int
  layers: Layers
  dtype: Any

  @nn.compact
  def __call__(self, frames: jax.Array) -> jax.Array:
    """Maps `[B, T, h, w, 3]` to `[B, scale * h, scale * w, 3]`."""
    b, _, h, w, _ = frames.shape
    f = self.features
    conv = functools.partial(self.layers.conv, kernel_size=(3, 3), padding=1)
    encode = nn.scan(
      EncoderStep, variable_broadcast='params', split_rngs={'params': False}, in_axes=1
    )
    widths, states, height, width = tuple(n * f for n in _ENCODER), [], h, w
    for channels in widths:
      height, width = (height - 1) // 2 + 1, (width - 1) // 2 + 1
      states.append((jnp.zeros((b, height, width, channels), self.dtype),) * 2)
    states, _ = encode(widths, self.layers.conv, name='encoder')(tuple(states), frames)
    *skips, y = (hidden for _, hidden in states)
    for i, n in enumerate(_DECODER, start=1):
      y = relu(self.layers.deconv(n * f, name=f'deconv{i}')(y))
      if skips:
        skip = skips.pop()
        y = jnp.concatenate([y[:, : skip.shape[1], : skip.shape[2]], skip], axis=-1)
        y = relu(conv(n * f, name=f'conv{i}')(y))
    y = _repeat(y[:, :h, :w], self.scale)
    y = relu(conv(_DECODER[-1] * f, name='conv_hr')(y))
    return self.layers.image_conv(3, (3, 3), padding=1, name='conv_last')(y)


class BMDSRNet(nn.Module):
  """Makes seven sharp frames of a blurred image, and a large image of these; 2,926,427 parameters.

  `frames` are what BMDNet makes, `lr` is the one in the middle; `hr_stages` are the images of
  ForNet, CoreNet and BackNet, as far as there are such, and `hr` is FuNet's, or CoreNet's where
  that is alone. The top-level modules are `bmd`, `core`, `recurrent` and `fusion`.

  Attributes:
    variant: 'f+c+b', or a row of the paper's ablation: 'f+c' has no BackNet (2,924,699 parameters),
      'c' is BMDNet and CoreNet (1,568,408), 'srnet' CoreNet on the blurred image (779,011).
    scale: how much larger `hr` is: 2, 3 or 4. The paper trains a network for each.
    features: channels of BMDNet, CoreNet and FuNet.
    blocks: residual blocks of BMDNet and of CoreNet.
    fusion_blocks: residual blocks of FuNet.
    recurrent_features: channels of ForNet's and BackNet's first level; the last has 16 times as
      many.
    decode: which state ForNet and BackNet decode: that after the 'last' frame or after the 'center'
      one, where they stop.
    upsample: how CoreNet enlarges: 'nearest', which has no parameters, or 'shuffle', by one pixel
      shuffle for 2x and 3x and two for 4x (CoreNet then has 926,723, 1,111,363 and 1,074,435).
    fusion_skip: where the "+" of FuNet comes from: 'features' is a skip around its blocks, 'core'
      adds CoreNet's image to the result.
    residual_input: whether BMDNet's input is added to each frame.
    global_skip: 'input' adds the input to each frame, and enlarged bicubically to each large image
      (but not twice to `hr`), which makes short trainings better; 'none' is the paper's.
    initialization: 'scaled' starts with residual blocks that do little, and images that are small
      where there is a `global_skip`; 'he' is He's, fan-out, with which each block doubles the
      variance or more: the first images are in the thousands. Gates are Glorot's in both.
    dtype: of the computation, such as 'bfloat16'. Parameters and outputs are float32.
    precision: of the matrix products, as `jax.lax.Precision`; 'highest' for parity on GPU and TPU.
    stride: any size will do. Not an option.
    local: whether a result depends on what is near it only. Not an option.
    presets: the options of the versions. Not an option. `table2` has 43,574,846 parameters;
      `compact`, the default, has the number that the paper gives.
  """

  variant: str = 'f+c+b'
  scale: int = 4
  features: int = 64
  blocks: int = 9
  fusion_blocks: int = 3
  recurrent_features: int = 5
  decode: str = 'last'
  upsample: str = 'nearest'
  fusion_skip: str = 'features'
  residual_input: bool = False
  global_skip: str = 'none'
  initialization: str = 'scaled'
  dtype: Any = jnp.float32
  precision: Any = None

  stride = 1
  presets = {  # noqa: RUF012
    'compact': {},
    'table2': dict(recurrent_features=32),
  }

  @property
  def local(self) -> bool:
    """False with ForNet: its smallest features have one pixel for 128 of the input."""
    return not self._directions

  def __post_init__(self):
    for field in ('features', 'blocks', 'fusion_blocks', 'recurrent_features'):
      check_positive(field, getattr(self, field))
    for field, allowed in (
      ('variant', VARIANTS),
      ('scale', SCALES),
      ('decode', DECODES),
      ('upsample', UPSAMPLES),
      ('fusion_skip', FUSION_SKIPS),
      ('global_skip', GLOBAL_SKIPS),
      ('initialization', INITIALIZATIONS),
    ):
      check_choice(field, getattr(self, field), allowed)
    if self.residual_input and self.variant == 'srnet':
      raise ValueError("residual_input needs BMDNet, which variant 'srnet' does not have")
    super().__post_init__()

  @nn.compact
  def __call__(self, lr_blur: jax.Array) -> RestorationOutput:
    """Restores `lr_blur`, `[B, h, w, 3]` in [0, 1], to `hr` `[B, scale * h, scale * w, 3]`.

    All but 'srnet' give `lr` `[B, h, w, 3]` and `frames` `[B, 7, h, w, 3]`, too.
    """
    layers = self._make_layers()
    enlarged = Enlarge(self.scale)(lr_blur) if self.global_skip == 'input' else 0.0
    core_net = self._residual_net(
      self.blocks, 3, layers, scale=self.scale, upsample=self.upsample, name='core'
    )
    if self.variant == 'srnet':
      return RestorationOutput(hr=core_net(lr_blur).astype(jnp.float32) + enlarged)
    frames = self.make_frames(lr_blur, layers)
    lr = frames[:, CENTER]
    core = core_net(lr).astype(jnp.float32) + enlarged
    if not self._directions:
      return RestorationOutput(hr=core, lr=lr, frames=frames)
    streams = [image + enlarged for image in self._recur(frames, layers)]
    streams.insert(1, core)
    fusion = self._residual_net(
      self.fusion_blocks, 3, layers, long_skip=self.fusion_skip == 'features', name='fusion'
    )
    hr = fusion(jnp.concatenate(streams, axis=-1)).astype(jnp.float32)
    hr = hr + (core if self.fusion_skip == 'core' else enlarged)
    return RestorationOutput(hr=hr, lr=lr, hr_stages=tuple(streams), frames=frames)

  def make_frames(self, lr_blur: jax.Array, layers: Layers) -> jax.Array:
    """BMDNet: from `[B, h, w, 3]` to `[B, 7, h, w, 3]`."""
    bmd_net = self._residual_net(self.blocks, 3 * SHARP_FRAMES, layers, name='bmd')
    frames = bmd_net(lr_blur).astype(jnp.float32)  # [B, h, w, 21], all channels of a frame together
    frames = jnp.stack(jnp.split(frames, SHARP_FRAMES, axis=-1), axis=1)
    if self.residual_input or self.global_skip == 'input':
      frames = frames + lr_blur[:, None]
    return frames

  def _recur(self, frames: jax.Array, layers: Layers) -> list[jax.Array]:
    """The large images of ForNet and, if there is one, of BackNet; both at once, as one batch."""
    count = SHARP_FRAMES if self.decode == 'last' else CENTER + 1
    sequences = [frames[:, ::step][:, :count] for step in self._directions]
    recurrent = RecurrentNet(
      self.recurrent_features, self.scale, layers, jnp.dtype(self.dtype), name='recurrent'
    )
    images = recurrent(jnp.concatenate(sequences)).astype(jnp.float32)
    return jnp.split(images, len(sequences))

  @property
  def _directions(self) -> tuple[int, ...]:
    """The steps in which sequences of frames go through the recurrent module."""
    return {'f+c': (1,), 'f+c+b': (1, -1)}.get(self.variant, ())

  def _residual_net(self, blocks: int, outputs: int, layers: Layers, **options) -> ResidualNet:
    return ResidualNet(self.features, blocks, outputs, layers, **options)

  def _make_layers(self) -> Layers:
    # An output pixel sees a quarter of a 3x3 kernel of stride 2: four times He's variance.
    deconv = functools.partial(
      ConvTranspose,
      kernel_size=(3, 3),
      strides=(2, 2),
      kernel_init=scaled_normal(8.0, 'fan_in'),
      dtype=jnp.dtype(self.dtype),
      precision=self.precision,
    )
    return make_layers(self, gain=2.0)._replace(deconv=deconv)


def _repeat(x: jax.Array, factor: int) -> jax.Array:
  """`[B, h, w, C]` as `[B, factor * h, factor * w, C]`, nearest neighbours."""
  return x.repeat(factor, axis=1).repeat(factor, axis=2)
