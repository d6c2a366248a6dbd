"""BMDSRNet, blind motion deblurring super-resolution, by way of a video of seven sharp frames.

    lr_blur --> BMDNet --> 7 sharp frames --+-- 1 ... 7 --> ForNet ---> image --+
                                |           +-- the 4th --> CoreNet --> image --+--> FuNet --> hr
                                v           +-- 7 ... 1 --> BackNet --> image --+
                          the 4th: lr                        (ForNet's weights)

    ForNet: for each frame: 7 x (conv, stride 2 --> ConvLSTM), states are kept for the next frame;
            then, once:     7 x (deconv, stride 2 --> concat with a state --> conv) --> N x --> conv
    BMDNet, CoreNet, FuNet: 2 convs --> residual blocks --(N x, in CoreNet)--> 3 convs

Niu et al., "Blind Motion Deblurring Super-Resolution: When Dynamic Spatio-Temporal Learning Meets
Static Image Understanding" (TIP 2021). No code is public. The paper contradicts itself: the widths
in its Table 2 give 43.6 million parameters, but its Table 6 states 2.9 million. `BMDSRNet.presets`
has both: `table2`, and `compact`, whose recurrent module is 5/32 as wide.

Choices where the paper gives no details:

- Table 2 has no strides. Row by row it equals the depth network of Wang et al. (CVPR 2019), whose
  convolutions and transposed convolutions have stride 2 at all seven levels.
- Odd sizes are halved to the next larger integer, and cut in the decoder.
- ForNet and BackNet process all frames and decode the states after the last one. The target is the
  sharp image of the 4th frame. With `decode='center'` both stop at that frame.
- Enlargements repeat pixels. ReLUs follow all convolutions except the last and the second of each
  block, without normalisation. The ConvLSTM is SRN-Deblur's: no peepholes, and a forget gate that
  starts open.
- The "+" in FuNet's figure is a skip around its blocks.
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
  Layers,
  ModuleDef,
  check_choice,
  check_positive,
  enlarge_nearest,
  make_layers,
  pixel_shuffle,
  scaled_normal,
)
from gfn_jax.layers.conv_lstm import ConvLSTM, State
from gfn_jax.layers.cpu_conv import ConvTranspose
from gfn_jax.models.base import GLOBAL_SKIPS, RestorationModel, RestorationOutput
from gfn_jax.ops.sizes import SCALES, SHARP_FRAMES

CENTER = SHARP_FRAMES // 2  # the index of the frame that `hr` shows
VARIANTS = ('srnet', 'c', 'f+c', 'f+c+b')
DECODES = ('last', 'center')
UPSAMPLES = ('nearest', 'shuffle')
FUSION_SKIPS = ('features', 'core')
INITIALIZATIONS = ('scaled', 'he')

# Channels of the recurrent module (Table 2), as multiples of its first level's.
_ENCODER = (1, 2, 4, 8, 8, 8, 16)
_DECODER = (8, 4, 4, 4, 2, 1, 1)

States = tuple[State, ...]
"""The states of the ConvLSTM of each level."""


class ResidualNet(nn.Module):
  """BMDNet, CoreNet and FuNet (Tables 1 and 3, Figure 6): a plain residual network.

  Attributes:
    features: number of channels.
    blocks: number of residual blocks.
    outputs: channels of the result.
    layers: makes the layers.
    scale: factor of enlargement.
    upsample: 'nearest', or 'shuffle' for convolutions with pixel shuffles.
    long_skip: True for a skip around the blocks.
  """

  features: int
  blocks: int
  outputs: int
  layers: Layers
  scale: int = 1
  upsample: str = 'nearest'
  long_skip: bool = False

  @nn.compact
  def __call__(
    self, x: Float[jax.Array, 'b h w c']
  ) -> Float[jax.Array, 'b {self.scale}*h {self.scale}*w {self.outputs}']:
    """Map images or features to one image or more, enlarged."""
    f = self.features
    conv = functools.partial(self.layers.conv, kernel_size=(3, 3), padding=1)
    y = relu(conv(f, name='conv1')(x))  # [B, h, w, F]
    y = before = relu(conv(f, name='conv2')(y))
    for i in range(self.blocks):
      y = self.layers.res_block(f, relu, name=f'resblock_{i}')(y)
    if self.long_skip:
      y = y + before
    if self.upsample == 'nearest':
      y = enlarge_nearest(y, self.scale)
    else:
      for i, factor in enumerate((2, 2) if self.scale == 4 else (self.scale,), start=1):
        y = pixel_shuffle(conv(factor**2 * f, name=f'upconv{i}')(y), factor)
    y = relu(conv(f, name='conv3')(y))  # [B, scale * h, scale * w, F]
    y = relu(conv(f, name='conv4')(y))
    return self.layers.image_conv(self.outputs, (3, 3), padding=1, name='conv5')(y)


class EncoderStep(nn.Module):
  """Encoder of the recurrent module, for one frame.

  Attributes:
    widths: channels of each level.
    conv: makes a convolution.
  """

  widths: tuple[int, ...]
  conv: ModuleDef

  @nn.compact
  def __call__(self, states: States, frame: Float[jax.Array, 'b h w 3']) -> tuple[States, None]:
    """Map the states of the previous frame and a frame to its states."""
    y, new_states = frame, []
    for i, (f, state) in enumerate(zip(self.widths, states, strict=True), start=1):
      y = relu(self.conv(f, (3, 3), strides=2, padding=1, name=f'conv{i}')(y))
      state, y = ConvLSTM(f, self.conv, name=f'lstm{i}')(state, y)
      new_states.append(state)
    return tuple(new_states), None


class RecurrentNet(nn.Module):
  """ForNet and BackNet (Table 2): from a sequence of frames to one image.

  Attributes:
    features: channels of the first level, at half the size of the frames.
    scale: factor of enlargement.
    layers: makes the layers.
    dtype: type of the states.
  """

  features: int
  scale: int
  layers: Layers
  dtype: Any

  @nn.compact
  def __call__(
    self, frames: Float[jax.Array, 'b t h w 3']
  ) -> Float[jax.Array, 'b {self.scale}*h {self.scale}*w 3']:
    """Map frames to an enlarged image."""
    b, _, h, w, _ = frames.shape
    f = self.features
    conv = functools.partial(self.layers.conv, kernel_size=(3, 3), padding=1)
    encode = nn.scan(
      EncoderStep, variable_broadcast='params', split_rngs={'params': False}, in_axes=1
    )
    widths, height, width = tuple(n * f for n in _ENCODER), h, w
    start: list[State] = []
    for channels in widths:
      height, width = (height - 1) // 2 + 1, (width - 1) // 2 + 1
      start.append((jnp.zeros((b, height, width, channels), self.dtype),) * 2)
    states, _ = encode(widths, self.layers.conv, name='encoder')(tuple(start), frames)
    *skips, y = (hidden for _, hidden in states)
    for i, n in enumerate(_DECODER, start=1):
      y = relu(self.layers.deconv(n * f, name=f'deconv{i}')(y))
      if skips:
        skip = skips.pop()
        y = jnp.concatenate([y[:, : skip.shape[1], : skip.shape[2]], skip], axis=-1)
        y = relu(conv(n * f, name=f'conv{i}')(y))
    y = enlarge_nearest(y[:, :h, :w], self.scale)  # [B, scale * h, scale * w, F]
    y = relu(conv(_DECODER[-1] * f, name='conv_hr')(y))
    return self.layers.image_conv(3, (3, 3), padding=1, name='conv_last')(y)


class BMDSRNet(RestorationModel):
  """Restoration by way of seven sharp frames; 2,926,427 parameters by default.

  `frames` are BMDNet's, `lr` is the middle one. `hr_stages` are the images of ForNet, CoreNet and
  BackNet, as far as the variant has them. `hr` is FuNet's image, or CoreNet's without FuNet. The
  top-level modules are `bmd`, `core`, `recurrent` and `fusion`.

  Presets: `compact`, the default, has the paper's number of parameters; `table2` has 43,574,846.

  Attributes:
    variant: 'f+c+b', or a row of the paper's ablation: 'f+c' has no BackNet (2,924,699 parameters),
      'c' is BMDNet and CoreNet (1,568,408), 'srnet' CoreNet on the blurred image (779,011).
    scale: factor between `lr_blur` and `hr`: 2, 3 or 4. The paper trains a network for each.
    features: channels of BMDNet, CoreNet and FuNet.
    blocks: number of residual blocks of BMDNet and of CoreNet.
    fusion_blocks: number of residual blocks of FuNet.
    recurrent_features: channels of the first level of ForNet and BackNet; the last has 16 times as
      many.
    decode: states that ForNet and BackNet decode: those after the 'last' frame, or those after the
      'center' one, where they stop.
    upsample: enlargement in CoreNet: 'nearest', without parameters, or 'shuffle', by one pixel
      shuffle for 2x and 3x and two for 4x (CoreNet then has 926,723, 1,111,363 and 1,074,435).
    fusion_skip: meaning of the "+" of FuNet: 'features' is a skip around its blocks, 'core' adds
      CoreNet's image to the result.
    residual_input: True to add BMDNet's input to each frame.
    global_skip: 'none' is the paper's. 'input' adds the input to each frame, and the input enlarged
      bicubically to each large image (but not twice to `hr`). This improves short trainings.
    initialization: 'scaled' starts with small residual branches, and with small images if there is
      a `global_skip`. 'he' is He's, fan-out: each block doubles the variance or more, and the first
      images are in the thousands. Gates are Glorot's in both.
    dtype: type of the computation, such as 'bfloat16'. Parameters and outputs are float32.
    precision: precision of the matrix products, as `jax.lax.Precision`; 'highest' for parity on GPU
      and TPU.
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

  presets = {  # noqa: RUF012
    'compact': {},
    'table2': dict(recurrent_features=32),
  }

  @property
  def local(self) -> bool:
    """True without ForNet, whose smallest features have one pixel for 128 of the input."""
    return not self._directions

  def for_output(self, output: str) -> 'BMDSRNet':
    """Return the network without ForNet, which needs the whole image, if `hr` is not needed."""
    if output == 'hr' or self.local:
      return self
    return self.clone(variant='c')

  def __post_init__(self) -> None:
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
  def __call__(
    self, lr_blur: Float[jax.Array, 'b h w 3'], train: bool = False
  ) -> RestorationOutput:
    """Restore `lr_blur`, in [0, 1], to `hr`.

    All variants except 'srnet' also return `lr` and `frames`.
    """
    layers = self._make_layers()
    enlarged = Enlarge(self.scale)(lr_blur) if self.global_skip == 'input' else 0.0
    core_net = self._residual_net(
      self.blocks, 3, layers, scale=self.scale, upsample=self.upsample, name='core'
    )
    if self.variant == 'srnet':
      return RestorationOutput(hr=core_net(lr_blur).astype(jnp.float32) + enlarged)
    frames = self.make_frames(lr_blur, layers)  # [B, 7, h, w, 3]
    lr = frames[:, CENTER]  # [B, h, w, 3]
    core = core_net(lr).astype(jnp.float32) + enlarged  # [B, scale * h, scale * w, 3]
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

  def make_frames(
    self, lr_blur: Float[jax.Array, 'b h w 3'], layers: Layers
  ) -> Float[jax.Array, 'b 7 h w 3']:
    """Map blurred images to sharp frames, by BMDNet."""
    bmd_net = self._residual_net(self.blocks, 3 * SHARP_FRAMES, layers, name='bmd')
    frames = bmd_net(lr_blur).astype(jnp.float32)  # [B, h, w, 21], frame by frame
    frames = jnp.stack(jnp.split(frames, SHARP_FRAMES, axis=-1), axis=1)
    if self.residual_input or self.global_skip == 'input':
      frames = frames + lr_blur[:, None]
    return frames

  def _recur(self, frames: jax.Array, layers: Layers) -> list[jax.Array]:
    """Return the large images of ForNet and maybe BackNet, computed as one batch."""
    count = SHARP_FRAMES if self.decode == 'last' else CENTER + 1
    sequences = [frames[:, ::step][:, :count] for step in self._directions]
    recurrent = RecurrentNet(
      self.recurrent_features, self.scale, layers, jnp.dtype(self.dtype), name='recurrent'
    )
    images = recurrent(jnp.concatenate(sequences)).astype(jnp.float32)
    return jnp.split(images, len(sequences))

  @property
  def _directions(self) -> tuple[int, ...]:
    """Steps between frames for each pass of the recurrent module: 1 forward, -1 backward."""
    return {'f+c': (1,), 'f+c+b': (1, -1)}.get(self.variant, ())

  def _residual_net(self, blocks: int, outputs: int, layers: Layers, **options: Any) -> ResidualNet:
    return ResidualNet(self.features, blocks, outputs, layers, **options)

  def _make_layers(self) -> Layers:
    # An output pixel depends on a quarter of a 3x3 kernel of stride 2: four times He's variance.
    deconv = functools.partial(
      ConvTranspose,
      kernel_size=(3, 3),
      strides=(2, 2),
      kernel_init=scaled_normal(8.0, 'fan_in'),
      dtype=jnp.dtype(self.dtype),
      precision=self.precision,
    )
    return make_layers(self, gain=2.0)._replace(deconv=deconv)
