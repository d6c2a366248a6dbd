"""Restoration of blurred low-resolution photos, whole or in tiles."""

import collections
import functools
import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from gfn_jax.errors import UserError
from gfn_jax.images.reading import read_photo, to_photo
from gfn_jax.models.base import RestorationModel
from gfn_jax.ops.pixels import check_image, from_float, spread_colours
from gfn_jax.ops.sizes import SHARP_FRAMES
from gfn_jax.restoration import tiling
from gfn_jax.restoration.predictor import OUTPUTS, Predictor
from gfn_jax.restoration.resizing import resize, resize_channel
from gfn_jax.system import cpu_bfloat16, memory
from gfn_jax.system.console import print_message
from gfn_jax.weights.pretrained import load_pretrained

OVERLAP = 96
"""Pixels that tiles share: 48 on each side of a cut. With 40 the result of the released weights
differs from that for the whole image by at most 1 of 255, with 32 by up to 8 (26 photographs)."""

MAX_TILE = 768
"""Side of the largest automatic tile, which bounds the memory. Larger ones take less time: with the
released weights, an image of 1280x720 takes 0.87 of it as a whole (benchmarks/restore.py)."""

KNOWN_BLUR = 10
"""Length in pixels of the longest blur that the released networks were trained on."""

T = TypeVar('T')


@functools.cache
def _report_not_local(model: RestorationModel, tile: int) -> None:
  """Print a message when a network that is not local is first applied to tiles."""
  print_message(
    f'{type(model).__name__} uses the whole image, but sees tiles of {tile} here: the result '
    'differs from that for the whole image'
  )


class Restorer:
  """Restores photos with a trained network.

      restorer = gfn_jax.Restorer.from_pretrained('gfn')
      sharp = restorer('photo.jpg')  # [4h, 4w, 3] uint8

  Images are restored in overlapping tiles, so that memory is bounded. The tiles of an image go to
  all local devices in turn. Tiles have few sizes. The network is compiled for each new size, which
  prints a message on stderr if it takes seconds.

  Attributes:
    model: the network, as `RestorationModel.for_output` returns it.
    variables: its variables.
    tile: largest side of a tile, in pixels of the input, a multiple of 32. None restores images
      whole, and compiles for each size of an image. 'auto', the default, takes the size that fits
      into memory, and halves it when memory runs out. The result of a network that is not local,
      such as one with instance normalisation, depends on the tiles. For it 'auto' divides only
      images that do not fit, with a message on stderr.
    overlap: pixels that neighbouring tiles share, a multiple of 16.
    ensemble: True to average over the eight symmetries of a square (Timofte et al., CVPR 2016),
      before rounding: slightly better, eight times slower.
    output: 'hr', or 'lr' for the deblurred image at the input's size. The default is 'hr', or 'lr'
      for a network that only deblurs. 'frames' are the sharp images during the exposure, at the
      input's size (BMDSRNet only). Their direction in time is unknown and may differ between an
      image and its mirror image; so they have no `ensemble`.
    blur: length of the blur, in pixels of the image, if it is longer than `KNOWN_BLUR`. The image
      is then reduced until its blur has that length, restored with all the detail that the network
      has, and resized to its own size. None restores images as they are.
    scale: factor between the input and the output: the network's scale, such as 4, or 1.
    batch_size: tiles that pass through the network together.
    dtype: type of the computation, such as 'float32'.
    dtype_8bit: the same for 8-bit images.
  """

  def __init__(
    self,
    model: RestorationModel,
    variables: Mapping[str, Any],
    *,
    tile: int | str | None = 'auto',
    overlap: int = OVERLAP,
    ensemble: bool = False,
    output: str | None = None,
    blur: float | None = None,
    batch_size: int | None = None,
    dtype: str | None = None,
    dtype_8bit: str | None = None,
  ):
    """Put a network on the first device, and on the others when an image has tiles for them.

    Args:
      model: the network.
      variables: its variables.
      tile: see the class.
      overlap: see the class.
      ensemble: see the class.
      output: see the class; 'lr' with `blur`.
      blur: see the class.
      batch_size: see the class; None is 1 on CPUs and 4 elsewhere.
      dtype: type of the computation, 'float32', 'bfloat16' or 'float16'; None is the network's.
      dtype_8bit: type of the computation for 8-bit images, in which rounding is not seen; None is
        `dtype`.

    Raises:
      UserError: for an invalid option, or an output that the network does not have.
    """
    if output is None:
      output = 'hr' if model.scale > 1 and blur is None else 'lr'
    if output not in OUTPUTS:
      raise UserError(f'output {output!r}: choose from {", ".join(OUTPUTS)}')
    if blur is not None and not (0 < blur < float('inf') and output == 'lr'):
      raise UserError(f"blur {blur}: pass a length in pixels, with output 'lr', not {output!r}")
    if output == 'frames' and ensemble:
      raise UserError(
        'frames have no ensemble: their order in time may differ between turned images'
      )
    if tile not in ('auto', None) and not isinstance(tile, int):
      raise UserError(f"tile {tile!r}: pass a number, None or 'auto'")
    tiling.check_tile(tile if isinstance(tile, int) else MAX_TILE, overlap)
    if batch_size is not None and batch_size < 1:
      raise UserError(f'batch_size {batch_size}: pass 1 or more')
    self.output = output
    self.scale = model.scale if output == 'hr' else 1
    self.blur = blur
    self.tile = tile
    self.overlap = overlap
    self.ensemble = ensemble
    self._shrinks = tile == 'auto'
    self._reduction = max(1.0, (blur or 0) / KNOWN_BLUR)
    if self._reduction > 1 and model.scale > 1:
      output = 'hr'
    self._predictor = Predictor(
      model, variables, output, ensemble=ensemble, dtype=dtype, dtype_8bit=dtype_8bit
    )
    self.model, self.variables = self._predictor.model, self._predictor.variables
    self.dtype, self.dtype_8bit = map(self.dtype_for, (np.float32, np.uint8))
    self._devices = self._predictor.devices
    self.device = self._devices[0]
    self.batch_size = batch_size or (1 if self.device.platform == 'cpu' else 4)
    # Kinds of batches that `time_forward` has compiled.
    self._timed: set[tuple[tuple[int, ...], np.dtype, bool]] = set()

  @classmethod
  def from_pretrained(
    cls,
    path_or_name: str | os.PathLike,
    *,
    tile: int | str | None = 'auto',
    overlap: int = OVERLAP,
    ensemble: bool = False,
    output: str | None = None,
    blur: float | None = None,
    batch_size: int | None = None,
    dtype: str | None = None,
    dtype_8bit: str | None = None,
  ) -> 'Restorer':
    """Return a restorer with trained weights.

    Args:
      path_or_name: see `load_pretrained`, such as 'gfn'.
      tile: see `Restorer`.
      overlap: see `Restorer`.
      ensemble: see `Restorer`.
      output: see `Restorer`.
      blur: see `Restorer`.
      batch_size: see `Restorer`.
      dtype: see `Restorer`.
      dtype_8bit: see `Restorer`.

    Raises:
      UserError: as `load_pretrained`, or if an option is invalid.
    """
    return cls(
      *load_pretrained(path_or_name),
      tile=tile,
      overlap=overlap,
      ensemble=ensemble,
      output=output,
      blur=blur,
      batch_size=batch_size,
      dtype=dtype,
      dtype_8bit=dtype_8bit,
    )

  def dtype_for(self, pixels: jax.typing.DTypeLike) -> str:
    """Return the type of the computation for images of a type, such as uint16."""
    return self._predictor.dtype_for(pixels)

  def __call__(
    self,
    image: str | os.PathLike | Image.Image | np.ndarray,
    progress: Callable[[int, int], None] | None = None,
  ) -> np.ndarray:
    """Restore an image.

    Args:
      image: a path, a PIL image, or an array `[h, w]` or `[h, w, C]` of uint8, uint16 or float in
        [0, 1], where C is 1 (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGB and alpha). Fully
        transparent pixels take the colours of the nearest others.
      progress: called as `progress(done, total)` after each batch of tiles.

    Returns:
      An array of the same kind, `scale` times larger. With output='frames', the seven frames
      `[7, h, w]` or `[7, h, w, C]`. Floats are float32, clipped to [0, 1]. Alpha is resized. An
      image that is read has the channels and the depth of its file, as `[h, w, C]`.

    Raises:
      UserError: if a file cannot be read, or the device has too little memory.
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

  def time_forward(self, image: np.ndarray) -> float:
    """Measure the network's forward pass on an image that is on the device, after compilation.

    An image that fits into memory is not divided or padded, and compiled for its own size.

    Args:
      image: `[h, w, 3]` of uint8, uint16 or float in [0, 1].

    Returns:
      Seconds: of the whole image, or the sum over its batches of tiles. With `ensemble`, of all
      eight passes. Transfers and rounding are left out.

    Raises:
      UserError: if the device has too little memory.
    """
    image = self._reduce(check_image(image))
    return self._retry(lambda: self._time_passes(image))

  def _restore(self, image: np.ndarray, progress: Callable | None) -> np.ndarray:
    """Restore `[h, w, C]` with any channels: the network restores the colours, alpha is resized.

    Returns:
      `[s * h, s * w, C]`, or frames `[7, h, w, C]`.
    """
    channels = image.shape[-1]
    alpha = channels in (2, 4)
    colours = image[..., : channels - alpha]
    if alpha:
      colours = spread_colours(colours, image[..., -1])
    if channels <= 2:
      colours = np.repeat(colours, 3, axis=-1)
    small = self._reduce(colours)
    restored = self._retry(lambda: self._restore_tiles(small, progress))
    if self._reduction > 1:
      restored = resize(restored, image.shape[:2])
    if channels <= 2:
      restored = _mean(restored)
    if not alpha:
      return restored
    resized = resize_channel(image[..., -1], restored.shape[-3:-1])[..., None]
    resized = np.broadcast_to(resized, (*restored.shape[:-1], 1))
    return np.concatenate([restored, resized], axis=-1)

  def _reduce(self, image: np.ndarray) -> np.ndarray:
    """Return `[h, w, C]`, smaller if its blur is longer than the network knows."""
    h, w, _ = image.shape
    size = (max(1, round(h / self._reduction)), max(1, round(w / self._reduction)))
    return resize(image, size) if self._reduction > 1 else image

  def _retry(self, work: Callable[[], T]) -> T:
    """Return what `work` returns, after as many tries with smaller tiles as memory needs."""
    while True:
      try:
        return work()
      except jax.errors.JaxRuntimeError as error:
        if 'RESOURCE_EXHAUSTED' in str(error):
          self._shrink(error)
        elif not ('bfloat16' in (self.dtype, self.dtype_8bit) and cpu_bfloat16.give_up(error)):
          raise

  def _shrink(self, error: Exception) -> None:
    """Halve the tiles after the device ran out of memory."""
    smallest = self._smallest_tile()
    if not (self._shrinks and isinstance(self.tile, int) and self.tile > smallest):
      advice = 'pass a smaller tile' if self.tile else "pass tile='auto'"
      raise UserError(f'tile {self.tile}: out of memory on {self.device}; {advice}') from error
    tile = max(smallest, self.tile // 2 // tiling.STEP * tiling.STEP)
    print_message(f'out of memory with tiles of {self.tile}, trying {tile}')
    self.tile = tile

  def _restore_tiles(self, image: np.ndarray, progress: Callable | None) -> np.ndarray:
    """Restore `[h, w, 3]`, one batch of tiles after the other.

    Returns:
      `[s * h, s * w, 3]`, or frames `[7, h, w, 3]`, of the image's type.
    """
    h, w, _ = image.shape
    image, shape, windows = self._divide(image)
    scale, are_frames = self._predictor.scale, self._predictor.output == 'frames'
    count = SHARP_FRAMES if are_frames else 1
    restored = np.empty((count, scale * h, scale * w, 3), image.dtype)
    pixels = np.moveaxis(restored, 0, 2)
    done = 0
    for group, result in self._results(image, windows, shape):
      for window, tile in zip(group, np.asarray(result), strict=False):
        tiling.put_in(pixels, window, tile.reshape(*tile.shape[:2], count, 3), scale)
      done += len(group)
      if progress is not None:
        progress(done, len(windows))
    return restored if are_frames else restored[0]

  def _time_passes(self, image: np.ndarray) -> float:
    """Return the seconds of the forward passes on `[h, w, 3]`, or on its batches of tiles."""
    h, w, _ = image.shape
    tile = self._tile_for(h, w)
    if tile is None or h * w <= tile**2:
      batches = iter([jax.device_put((image[None], None), self.device)])
    else:
      image, shape, windows = self._divide(image)
      groups = tiling.batches(windows, self.batch_size)
      batches = (self._batch(image, group, shape, self.device) for group in groups)
    seconds = 0.0
    for x, inside in batches:
      jax.block_until_ready((x, inside))
      kind = x.shape, x.dtype, inside is None
      if kind not in self._timed:
        jax.block_until_ready(self._predictor.predict(x, inside))  # compiles
        self._timed.add(kind)
      start = time.perf_counter()
      jax.block_until_ready(self._predictor.predict(x, inside))
      seconds += time.perf_counter() - start
    return seconds

  def _divide(self, image: np.ndarray) -> tuple[np.ndarray, tuple[int, int], list[tiling.Window]]:
    """Return an image, padded if it is divided, and the windows' shape and places."""
    h, w, _ = image.shape
    if (tile := self._tile_for(h, w)) is None:
      everything = slice(0, h), slice(0, w)
      return image, (h, w), [tiling.Window(everything, everything)]
    stride, mode = self.model.stride, self.model.pad_mode
    image = np.pad(image, [(0, -h % stride[0]), (0, -w % stride[1]), (0, 0)], mode)
    shape, windows = tiling.plan_windows(image.shape[:2], tile, self.overlap, stride)
    if not self.model.local:
      # Such a network cannot ignore pixels beyond the image.
      shape = min(shape[0], image.shape[0]), min(shape[1], image.shape[1])
      if len(windows) > 1:
        _report_not_local(self.model, tile)
    return image, shape, windows

  def _results(
    self, image: np.ndarray, windows: list[tiling.Window], shape: tuple[int, int]
  ) -> Iterator[tuple[list[tiling.Window], jax.Array]]:
    """Yield batches of windows with their results, in order and in the image's type.

    The batches go to the devices in turn. An accelerator computes its next batch while one is
    fetched. A CPU would compute both at once, in twice the memory: its devices have one batch each.
    """
    ahead = len(self._devices) - (self.device.platform == 'cpu')
    running: collections.deque[tuple[list[tiling.Window], jax.Array]] = collections.deque()
    devices = itertools.cycle(self._devices)
    for group, device in zip(tiling.batches(windows, self.batch_size), devices, strict=False):
      batch = self._batch(image, group, shape, device)
      running.append((group, from_float(self._predictor.predict(*batch), jnp.dtype(image.dtype))))
      if len(running) > ahead:
        yield running.popleft()
    yield from running

  def _batch(
    self,
    image: np.ndarray,
    windows: list[tiling.Window],
    shape: tuple[int, int],
    device: jax.Device,
  ) -> tuple[jax.Array, jax.Array | None]:
    """Return windows `[B, h, w, 3]` on a device, and the mask of their part in the image."""
    size = min(image.shape[0], shape[0]), min(image.shape[1], shape[1])
    x = np.stack([tiling.cut_out(image, window, shape) for window in windows])
    if self.tile is not None:
      x = _fill_batch(x, self.batch_size)
    inside = None
    if size != shape:
      inside = np.zeros((1, *shape, 1), bool)
      inside[:, : size[0], : size[1]] = True
    return jax.device_put((x, inside), device)

  def _tile_for(self, h: int, w: int) -> int | None:
    """Return the largest side of a tile for an image of a size; None to restore it whole."""
    if self.tile is None:
      return None
    if isinstance(self.tile, str):  # 'auto'
      self.tile = self._largest_tile()
    fits = self._shrinks and not self.model.local and h * w <= self.tile**2
    return None if fits else self.tile

  def _smallest_tile(self) -> int:
    """Return the smallest tile that is larger than the overlap."""
    return (self.overlap // tiling.STEP + 1) * tiling.STEP

  def _largest_tile(self) -> int:
    """Return the largest tile that fits into memory; for a local network at most MAX_TILE."""
    per_pixel = self._predictor.peak_bytes(self.batch_size)
    budget = memory.available_bytes(self.device) / 2
    side = int((budget / per_pixel) ** 0.5) // tiling.STEP * tiling.STEP
    largest = max(self._smallest_tile(), min(side, MAX_TILE) if self.model.local else side)
    if self.device.platform == 'cpu':  # its devices share the memory
      self._devices = self._devices[: max(1, int(budget / (per_pixel * largest**2)))]
    return largest


def _mean(image: np.ndarray) -> np.ndarray:
  """Return the mean over the channels, `[..., 1]`; integers are rounded half up."""
  mean = np.empty((*image.shape[:-1], 1), image.dtype)
  rows = (array.reshape(-1, *array.shape[-2:]) for array in (image, mean))
  for row, out in zip(*rows, strict=True):  # row by row, to bound the memory of the sums
    if image.dtype == np.float32:
      out[...] = row.mean(axis=-1, keepdims=True)
    else:
      out[...] = (2 * row.sum(axis=-1, keepdims=True, dtype=np.uint32) + 3) // 6
  return mean


def _fill_batch(x: np.ndarray, batch_size: int) -> np.ndarray:
  """Repeat the last image up to a power of 2, or `batch_size`, so that few sizes are compiled."""
  size = min(batch_size, 1 << (len(x) - 1).bit_length())
  return np.concatenate([x, np.repeat(x[-1:], size - len(x), axis=0)])
