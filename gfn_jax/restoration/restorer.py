"""From a blurred low-resolution photo to a sharp one, 4 times larger."""

import collections
import functools
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
from tqdm import tqdm

from gfn_jax.errors import UserError
from gfn_jax.images.reading import read_photo, to_photo
from gfn_jax.layers.borders import apply_within
from gfn_jax.models import as_variables
from gfn_jax.models.bmdsrnet import SHARP_FRAMES, BMDSRNet
from gfn_jax.restoration import tiling
from gfn_jax.system import memory
from gfn_jax.weights.pretrained import load_pretrained

OVERLAP = 96
"""Pixels that tiles share. With 40 pixels of context left at a cut the released weights give what
they give for the whole image, to 1 of 255; with 32 some pixels differ by up to 8 (26 photographs).
Here are 48."""

MAX_TILE = 512
"""Side of the largest automatic tile: larger ones are hardly faster."""

OUTPUTS = ('hr', 'lr', 'frames')
"""What a network can give, as its output's field."""

DTYPES = ('float32', 'bfloat16', 'float16')

# The eight symmetries of a square: quarter turns, then a flip.
SYMMETRIES = [(turns, flip) for turns in range(4) for flip in (False, True)]


def to_float(image: jax.Array) -> jax.Array:
  """An image as the networks take it: integers become float32 in [0, 1], floats stay."""
  if jnp.issubdtype(image.dtype, jnp.integer):
    return image.astype(jnp.float32) / jnp.iinfo(image.dtype).max
  return image


@functools.partial(jax.jit, static_argnums=1)
def from_float(image: jax.Array, dtype: Any) -> jax.Array:
  """A network's image, clipped to [0, 1], as float32 or as an integer type, rounded half up."""
  image = jnp.clip(image, 0, 1)
  if dtype == jnp.float32:
    return image
  return jnp.floor(image * jnp.iinfo(dtype).max + 0.5).astype(dtype)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _forward(model: nn.Module, output: str, params: Any, x: jax.Array, inside: jax.Array | None):
  """Images `[B, h, w, 3]`, of which only `inside` `[1, h, w, 1]` counts, to float32.

  Frames come as channels, `[B, h, w, 7 * 3]`.
  """
  x = to_float(x)
  if inside is None:
    images = getattr(model.apply(as_variables(params), x), output)
  else:
    images = getattr(apply_within(model, params, x, inside), output)
  if output == 'frames' and images is not None:
    return jnp.moveaxis(images, 1, 3).reshape(*x.shape[:3], -1)
  return images


@functools.cache
def _say_compiling(model: nn.Module, height: int, width: int, *_: Any) -> None:
  """Prints a line the first time that a network meets a size."""
  tqdm.write(f'compiling {type(model).__name__} for {width}x{height}', file=sys.stderr)


@functools.cache
def _say_not_local(model: nn.Module, tile: int) -> None:
  """Prints, once, that a network sees less in tiles."""
  tqdm.write(
    f'{type(model).__name__} looks at all of an image, but at one tile of {tile} at a time here: '
    'the result differs from that of the whole',
    file=sys.stderr,
  )


class Restorer:
  """Restores photos with a trained network.

      restorer = gfn_jax.Restorer.from_pretrained('gfn')
      sharp = restorer('photo.jpg')  # [4h, 4w, 3] uint8

  An image is divided into tiles, which overlap, so that memory is bounded whatever its size. Tiles
  have few sizes; a new one compiles the network anew, which takes some seconds and is said on
  stderr.

  Attributes:
    model: the network; a BMDSRNet without ForNet where the output does not need that.
    params: its parameters.
    tile: largest side of a tile, in pixels of the input, a multiple of 32; None restores an image
      whole, and compiles for each size of image; 'auto' (at first) takes what fits into memory, and
      half of it when that runs out. A network that is not local, such as one with instance
      normalisation, gives something else in tiles than for the whole image: for it 'auto' divides
      only what does not fit, and a line on stderr says so.
    overlap: pixels that neighbouring tiles share, a multiple of 16.
    ensemble: whether to average over the eight symmetries of a square (Timofte et al., CVPR 2016),
      before rounding: better by a little, eight times slower.
    output: 'hr', or 'lr' for the deblurred image at the input's size; at first 'hr', or 'lr' for a
      network that only deblurs. 'frames' are the sharp images of the exposure, at the input's size,
      of a network that makes them: BMDSRNet. Nothing says which end of it comes first, and that may
      differ between an image and its mirror image; so they have no `ensemble`.
    scale: how much larger the output is: the network's scale, such as 4, or 1.
    batch_size: tiles that go through the network at once.
  """

  def __init__(
    self,
    model: nn.Module,
    params: Any,
    *,
    tile: int | str | None = 'auto',
    overlap: int = OVERLAP,
    ensemble: bool = False,
    output: str | None = None,
    batch_size: int | None = None,
    dtype: str | None = None,
  ):
    """Puts a network on the first device.

    Args:
      model: the network.
      params: its parameters.
      tile: as the attribute.
      overlap: as the attribute.
      ensemble: as the attribute.
      output: as the attribute.
      batch_size: None is 1 on CPUs and 4 elsewhere.
      dtype: of the computation, 'float32', 'bfloat16' or 'float16'; None leaves the network's.

    Raises:
      UserError: for an option that cannot be, or an output that the network does not have.
    """
    if dtype not in (None, *DTYPES):
      raise UserError(f'dtype {dtype!r}: pass one of {", ".join(DTYPES)}')
    if output is None:
      output = 'hr' if model.scale > 1 else 'lr'
    if isinstance(model, BMDSRNet) and not model.local and output != 'hr':
      model = model.clone(variant='c')  # without ForNet, which sees the whole image
    self.model = model.clone(dtype=dtype) if dtype else model
    if output not in OUTPUTS:
      raise UserError(f'output {output!r}: pass one of {", ".join(OUTPUTS)}')
    if tile not in ('auto', None) and not isinstance(tile, int):
      raise UserError(f"tile {tile!r}: pass a number, None or 'auto'")
    tiling.check_tile(tile if isinstance(tile, int) else MAX_TILE, overlap)
    self.device = jax.local_devices()[0]
    if batch_size is None:
      batch_size = 1 if self.device.platform == 'cpu' else 4
    if batch_size < 1:
      raise UserError(f'batch_size {batch_size}: pass 1 or more')
    self.params = jax.device_put(params, self.device)
    self.tile = tile
    self.overlap = overlap
    self.ensemble = ensemble
    self.output = output
    self.scale = model.scale if output == 'hr' else 1
    self.batch_size = batch_size
    self._shrinks = tile == 'auto'
    if output == 'hr' and model.scale == 1:
      raise UserError(f"{type(model).__name__} only deblurs: leave output out, or pass 'lr'")
    if output == 'lr' and self._output_shape((32, 32)) is None:
      raise UserError(f'{type(model).__name__} has no deblurred image at the size of its input')
    if output == 'frames':
      if self._output_shape((32, 32)) is None:
        raise UserError(f'{type(model).__name__} makes no frames; BMDSRNet does')
      if ensemble:
        raise UserError(
          'frames have no ensemble: their order in time may differ between turned images'
        )

  @classmethod
  def from_pretrained(cls, path_or_name: str | os.PathLike, **options) -> 'Restorer':
    """Reads weights as `load_pretrained`: a file that `run_train.py` wrote, or released ones.

    Args:
      path_or_name: a .safetensors file, which names its network, or a name such as 'gfn'.
      **options: of `Restorer`.

    Raises:
      UserError: if there is no such file or name, it is damaged or not of this library, or for an
        option that cannot be.
    """
    return cls(*load_pretrained(path_or_name), **options)

  def __call__(
    self,
    image: str | os.PathLike | Image.Image | np.ndarray,
    progress: Callable[[int, int], None] | None = None,
  ) -> np.ndarray:
    """Restores one image.

    Args:
      image: a path, a PIL image, or an array `[h, w]` or `[h, w, C]` of uint8, uint16 or float in
        [0, 1], where C is 1 (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGB and alpha).
      progress: called as `progress(done, total)` after each batch of tiles.

    Returns:
      An array of the same kind, `scale` times larger; or, as `output` says, the seven frames
      `[7, h, w]` or `[7, h, w, C]`. Floats are float32, clipped to [0, 1]. Alpha is resized. An
      image that is read has the channels and the depth of its file, as `[h, w, C]`.

    Raises:
      UserError: if a file cannot be read, or the device's memory does not suffice.
      ValueError: for an array of another shape, or floats of another range.
      TypeError: for an array of another type.
    """
    if isinstance(image, (str, os.PathLike)):
      image = read_photo(image).pixels
    elif isinstance(image, Image.Image):
      image = to_photo(image).pixels
    image = check_image(image)
    if image.ndim == 2:
      return self._restore(image[..., None], progress)[..., 0]
    return self._restore(image, progress)

  def _restore(self, image: np.ndarray, progress: Callable | None) -> np.ndarray:
    """Any channels of `[h, w, C]`: the colours go through the network, alpha does not.

    Returns:
      `[s * h, s * w, C]`, or frames `[7, h, w, C]`.
    """
    channels = image.shape[-1]
    alpha = channels in (2, 4)
    colours = image[..., : channels - alpha]
    if channels <= 2:
      colours = np.repeat(colours, 3, axis=-1)
    restored = self._restore_rgb(colours, progress)
    if channels <= 2:
      restored = _mean(restored)
    if not alpha:
      return restored
    resized = resize_alpha(image[..., -1], self.scale)[..., None]
    resized = np.broadcast_to(resized, (*restored.shape[:-1], 1))
    return np.concatenate([restored, resized], axis=-1)

  def _restore_rgb(self, image: np.ndarray, progress: Callable | None) -> np.ndarray:
    while True:
      try:
        return self._restore_tiles(image, progress)
      except jax.errors.JaxRuntimeError as error:
        if 'RESOURCE_EXHAUSTED' not in str(error):
          raise
        self._shrink(error)

  def _shrink(self, error: Exception) -> None:
    """Halves the tiles after an error for want of memory."""
    tile = self.tile and self.tile // 2 // tiling.STEP * tiling.STEP
    if not (self._shrinks and tile > self.overlap):
      advice = 'pass a smaller tile' if self.tile else "pass tile='auto'"
      raise UserError(f'tile {self.tile}: out of memory on {self.device}; {advice}') from error
    tqdm.write(f'out of memory with tiles of {self.tile}, trying {tile}', file=sys.stderr)
    self.tile = tile

  def _restore_tiles(self, image: np.ndarray, progress: Callable | None) -> np.ndarray:
    """`[h, w, 3]` to `[s * h, s * w, 3]` of the same type, a batch of tiles after the other.

    Frames are `[7, h, w, 3]`.
    """
    h, w, _ = image.shape
    if (tile := self._tile_for(h, w)) is None:
      everything = slice(0, h), slice(0, w)
      shape, windows = (h, w), [tiling.Window(everything, everything)]
    else:
      stride = self.model.stride
      image = np.pad(image, [(0, -h % stride), (0, -w % stride), (0, 0)], mode='reflect')
      shape, windows = tiling.plan_windows(image.shape[:2], tile, self.overlap, stride)
      if not self.model.local:
        shape = min(shape[0], image.shape[0]), min(shape[1], image.shape[1])  # nothing beyond it
        if len(windows) > 1:
          _say_not_local(self.model, tile)
    count = SHARP_FRAMES if self.output == 'frames' else 1
    restored = np.empty((count, self.scale * h, self.scale * w, 3), image.dtype)
    pixels = np.moveaxis(restored, 0, 2)
    done = 0
    for group, result in self._results(image, windows, shape):
      for window, tile in zip(group, np.asarray(result), strict=False):
        tiling.put_in(pixels, window, tile.reshape(*tile.shape[:2], count, 3), self.scale)
      done += len(group)
      if progress is not None:
        progress(done, len(windows))
    return restored if self.output == 'frames' else restored[0]

  def _results(
    self, image: np.ndarray, windows: list[tiling.Window], shape: tuple[int, int]
  ) -> Iterator[tuple[list[tiling.Window], jax.Array]]:
    """Batches of windows and their results, in order.

    An accelerator computes the next batch while one is fetched. A CPU would compute both at once,
    in twice the memory.
    """
    ahead = 0 if self.device.platform == 'cpu' else 1
    running = collections.deque()
    for group in tiling.batches(windows, self.batch_size):
      running.append((group, self._start(image, group, shape)))
      if len(running) > ahead:
        yield running.popleft()
    yield from running

  def _start(
    self, image: np.ndarray, windows: list[tiling.Window], shape: tuple[int, int]
  ) -> jax.Array:
    """Sends a batch of windows of `shape` to the device; their results have the image's type."""
    size = min(image.shape[0], shape[0]), min(image.shape[1], shape[1])
    x = np.stack([tiling.cut_out(image, window, shape) for window in windows])
    if self.tile is not None:
      x = _fill_batch(x, self.batch_size)
    inside = None
    if size != shape:
      inside = np.zeros((1, *shape, 1), bool)
      inside[:, : size[0], : size[1]] = True
    dtype = jnp.dtype(image.dtype)
    return from_float(self._predict(x, inside), dtype)

  def _predict(self, x: np.ndarray, inside: np.ndarray | None) -> jax.Array:
    """float32 `[B, s * h, s * w, 3]` of images `[B, h, w, 3]`: one pass, or eight averaged.

    Of frames `[B, h, w, 7 * 3]`.
    """
    forward = functools.partial(_forward, self.model, self.output, self.params)
    total = 0.0
    for turns, flip in SYMMETRIES if self.ensemble else SYMMETRIES[:1]:
      turned = _transform(x, turns, flip)
      mask = None if inside is None else _transform(inside, turns, flip)
      _say_compiling(self.model, *turned.shape[1:3], len(x), self.output, mask is None, x.dtype)
      y = forward(jax.device_put(turned, self.device), mask)
      total += _transform_back(y, turns, flip)
    return total / len(SYMMETRIES) if self.ensemble else total

  def _output_shape(self, size: tuple[int, int]) -> Any:
    """What the network would return for one image of a size, as `ShapeDtypeStruct` or None."""
    x = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    return jax.eval_shape(
      functools.partial(_forward, self.model, self.output), self.params, x, None
    )

  def _tile_for(self, h: int, w: int) -> int | None:
    """The tile for an image of a size; None for the whole."""
    if self.tile == 'auto':
      self.tile = self._largest_tile()
    fits = self._shrinks and not self.model.local and h * w <= self.tile**2
    return None if fits else self.tile

  def _largest_tile(self) -> int:
    """The largest tile for which the memory should suffice; up to MAX_TILE if nothing is lost."""
    x = jax.ShapeDtypeStruct((self.batch_size, 64, 64, 3), jnp.float32)
    forward = functools.partial(_forward, self.model, self.output)
    per_pixel = memory.peak_bytes(forward, self.params, x, None) / 64**2
    budget = memory.available_bytes(self.device) / 2
    side = int((budget / per_pixel) ** 0.5) // tiling.STEP * tiling.STEP
    smallest = (self.overlap // tiling.STEP + 1) * tiling.STEP
    return max(smallest, min(side, MAX_TILE) if self.model.local else side)


def check_image(image: Any) -> np.ndarray:
  """An image as the restorer takes it: an array; floats become float32.

  Raises:
    ValueError: for another shape, or floats that are not finite or far from [0, 1].
    TypeError: for another type.
  """
  image = np.asarray(image)
  if image.ndim not in (2, 3) or 0 in image.shape or (image.ndim == 3 and image.shape[-1] > 4):
    raise ValueError(f'an image is [h, w] or [h, w, C] with C from 1 to 4, not {image.shape}')
  if image.dtype in (np.uint8, np.uint16):
    return image
  if not jnp.issubdtype(image.dtype, jnp.floating):
    raise TypeError(f'an image is uint8, uint16 or float in [0, 1], not {image.dtype}')
  image = image.astype(np.float32)
  if not (image.min() >= -1 and image.max() <= 2):  # bicubic overshoots a little
    raise ValueError(f'float images are in [0, 1], not from {image.min()} to {image.max()}')
  return image


def resize_alpha(alpha: np.ndarray, scale: int) -> np.ndarray:
  """`[h, w]` of any type to `[scale * h, scale * w]`, bicubic."""
  if scale == 1:
    return alpha
  size = (scale * alpha.shape[1], scale * alpha.shape[0])
  if alpha.dtype == np.uint8:
    return np.asarray(Image.fromarray(alpha).resize(size, Image.Resampling.BICUBIC))
  resized = Image.fromarray(alpha.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
  if alpha.dtype == np.float32:
    return np.clip(resized, 0, 1)
  return np.clip(np.round(resized), 0, np.iinfo(alpha.dtype).max).astype(alpha.dtype)


def _mean(image: np.ndarray) -> np.ndarray:
  """The mean of three channels as one, `[..., 1]`, rounded half up."""
  mean = np.empty((*image.shape[:-1], 1), image.dtype)
  rows = (array.reshape(-1, *array.shape[-2:]) for array in (image, mean))
  for row, out in zip(*rows, strict=True):  # so that the sums take little memory
    if image.dtype == np.float32:
      out[...] = row.mean(axis=-1, keepdims=True)
    else:
      out[...] = (2 * row.sum(axis=-1, keepdims=True, dtype=np.uint32) + 3) // 6
  return mean


def _fill_batch(x: np.ndarray, batch_size: int) -> np.ndarray:
  """Repeats the last image up to a power of 2, or to `batch_size`: few programs to compile."""
  size = min(batch_size, 1 << (len(x) - 1).bit_length())
  return np.concatenate([x, np.repeat(x[-1:], size - len(x), axis=0)])


def _transform(x: np.ndarray, turns: int, flip: bool) -> np.ndarray:
  """Turns `[B, h, w, C]` by quarters, then flips it."""
  x = np.rot90(x, turns, axes=(1, 2))
  return np.flip(x, axis=2) if flip else x


def _transform_back(x: jax.Array, turns: int, flip: bool) -> jax.Array:
  x = jnp.flip(x, axis=2) if flip else x
  return jnp.rot90(x, -turns, axes=(1, 2))
