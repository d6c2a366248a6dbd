"""The contract of all networks: `RestorationModel` maps `lr_blur` to a `RestorationOutput`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import flax.linen as nn
import flax.struct
import jax
from jaxtyping import Float, Float32

PadMode = Literal['reflect', 'edge']
"""Mode of `numpy.pad` and `jax.numpy.pad`."""

GLOBAL_SKIPS = ('none', 'input')
"""Values of the option `global_skip` that most networks have."""

Pyramid = tuple[Float[jax.Array, 'b _ _ 3'], ...]
"""Images at the smaller sizes of a network that deblurs from coarse to fine, the smallest first."""


class RestorationOutput(flax.struct.PyTreeNode):
  """Images that a network makes of an `lr_blur` of `[b, h, w, 3]` in [0, 1].

  They are not clipped, unless the network's docstring says so.

  Attributes:
    hr: sharp and super-resolved, `[b, s * h, s * w, 3]` for the network's scale s. None for a
      network that only deblurs.
    lr: deblurred at the input's size. None if the network has no such output.
    lr_stages: estimates of `lr` by the stages before the last one, in their order. For the loss.
    lr_pyramid: estimates of `lr` at the sizes of the network's `pyramid`. For the loss.
    hr_stages: estimates of `hr` by the streams that are fused in it, or by the steps before the
      last one. For the loss.
    frames: the sharp frames whose mean `lr_blur` is, in temporal order; `lr` is the middle one.
      None if the network has no such output.
  """

  hr: Float32[jax.Array, 'b height width 3'] | None
  lr: Float32[jax.Array, 'b h w 3'] | None = None
  lr_stages: tuple[Float32[jax.Array, 'b h w 3'], ...] = ()
  hr_stages: tuple[Float32[jax.Array, 'b height width 3'], ...] = ()
  frames: Float32[jax.Array, 'b 7 h w 3'] | None = None
  lr_pyramid: Pyramid = ()


class RestorationModel(nn.Module):
  """Base class of the networks.

  A subclass has the options of its network as fields, `dtype` and `precision` among them, and
  states the following as class attributes, properties or fields. Parameters and outputs are
  float32.

  Attributes:
    scale: factor between `lr_blur` and `hr`; 1 for a network that only deblurs.
    stride: height and width that need no padding are multiples of these two numbers. A network pads
      others up to the next multiple, and crops its outputs.
    pad_mode: mode of that padding, as for `jnp.pad`.
    local: True if an output pixel depends on nearby input only, so that tiles with an overlap give
      the same result as the whole image.
    presets: options of published or useful versions, by name.
  """

  presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

  if TYPE_CHECKING:  # read-only properties can be overridden by class attributes and fields, too

    @property
    def scale(self) -> int: ...  # noqa: D102
    @property
    def stride(self) -> tuple[int, int]: ...  # noqa: D102
    @property
    def pad_mode(self) -> PadMode: ...  # noqa: D102
    @property
    def local(self) -> bool: ...  # noqa: D102
  else:
    stride = (1, 1)
    pad_mode = 'reflect'
    local = True

  def __call__(
    self, lr_blur: Float[jax.Array, 'b h w 3'], train: bool = False
  ) -> RestorationOutput:
    """Restore images.

    Args:
      lr_blur: images in [0, 1].
      train: True to normalise by the statistics of the batch, and to update the running ones, where
        the network has any.
    """
    raise NotImplementedError

  def pyramid(self, image: Float[jax.Array, 'b h w 3']) -> Pyramid:
    """Return an image at the smaller sizes of a network that deblurs from coarse to fine.

    Such a network sees this pyramid of its input, and the loss compares `lr_pyramid` with that of
    the sharp image.

    Args:
      image: an image at the input's size. A filter sees it mirrored at its borders, 'symmetric' of
        `jnp.pad`, which `layers.borders.apply_within` relies on.

    Returns:
      The image at each smaller size, the smallest first. Empty for other networks.
    """
    del image
    return ()

  def for_output(self, output: str) -> Self:
    """Return a network with these parameters that computes one output at the least cost.

    Args:
      output: 'hr', 'lr' or 'frames'.
    """
    del output
    return self

  def for_training(self, axis_name: str | None) -> Self:
    """Return the network as it is trained on devices that are mapped over `axis_name`."""
    del axis_name
    return self
