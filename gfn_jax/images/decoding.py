"""Decoding of image files: results, errors in one line, and settings of the decoders."""

import contextlib
import io
import logging
import os
import stat
import threading
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple, cast

import numpy as np
from PIL import Image, ImageCms

from gfn_jax.errors import UserError, missing_package
from gfn_jax.images import metadata
from gfn_jax.images.damage import UnreadableError
from gfn_jax.images.metadata import Metadata
from gfn_jax.system.files import printable
from gfn_jax.system.ignored_warnings import ignored_warnings


class Decoded(NamedTuple):
  """Pixels of an image file.

  Attributes:
    pixels: `[h, w, C]` as stored, or upright without the tag in `Opened.exif`.
    icc_profile: their colour profile.
    notes: notes on damage.
  """

  pixels: np.ndarray
  icc_profile: bytes | None
  notes: tuple[str, ...] = ()


class Opened(NamedTuple):
  """Image file whose header has been read.

  Attributes:
    size: width and height as stored, before the orientation is applied.
    exif: EXIF, or the tags of a TIFF's first page.
    decode: function that returns the pixels. If it applies the orientation, it removes the tag from
      `exif`.
    metadata: metadata but EXIF and the profile.
    notes: notes that the header suffices for.
  """

  size: tuple[int, int]
  exif: Image.Exif
  decode: Callable[[], Decoded]
  metadata: Metadata = Metadata()
  notes: tuple[str, ...] = ()


def opened_with(
  image: Image.Image, decode: Callable[[], Decoded], notes: tuple[str, ...] = ()
) -> Opened:
  """Return a Pillow image as `Opened`, with the metadata that Pillow reads."""
  beside = metadata.beside_exif(image)
  return Opened(image.size, metadata.of_image(image), decode, beside, notes)


@contextlib.contextmanager
def decoder_errors(path: str | os.PathLike) -> Iterator[None]:
  """Turn every exception of a decoder into a `UserError` of one line, and silence its output."""
  try:
    with DECODING:
      yield
  except UnreadableError as error:
    reason, cause = str(error), error.__cause__
  except ModuleNotFoundError as error:
    reason, cause = missing_package(str(error.name), error), error
  except MemoryError as error:
    reason, cause = 'not enough memory', error
  except OSError as error:  # errors of the decoders have no errno
    reason = error.strerror if error.errno and error.strerror else _damage_reason(error)
    cause = error
  except Exception as error:  # decoders raise about twenty types
    reason, cause = _damage_reason(error), error
  else:
    return
  raise UserError(f'cannot read {printable(path)}: {printable(reason)}') from cause


def _damage_reason(error: Exception) -> str:
  detail = ' '.join(str(error).split())[:100] or type(error).__name__
  return f'damaged or unsupported file ({detail}); save it again with another program'


class _Decoding:
  """Context in which decoders print nothing and Pillow does not limit the number of pixels.

  Both are settings of the process: the first thread that enters changes them, and the last thread
  that exits restores them.
  """

  def __init__(self) -> None:
    self._lock = threading.Lock()
    self._threads = 0
    self._undo = contextlib.ExitStack()

  def __enter__(self) -> None:
    with self._lock:
      if not self._threads:
        self._undo.enter_context(ignored_warnings())
        self._undo.callback(setattr, Image, 'MAX_IMAGE_PIXELS', Image.MAX_IMAGE_PIXELS)
        Image.MAX_IMAGE_PIXELS = None
        for name in ('PIL', 'tifffile', 'imagecodecs'):
          logger = logging.getLogger(name)
          self._undo.callback(logger.setLevel, logger.level)
          logger.setLevel(logging.CRITICAL + 1)
      self._threads += 1

  def __exit__(self, *_: object) -> None:
    with self._lock:
      self._threads -= 1
      if not self._threads:
        self._undo.close()


DECODING = _Decoding()


@contextlib.contextmanager
def open_regular(path: str | os.PathLike) -> Iterator[BinaryIO]:
  """Open a regular file; reading a pipe could block forever."""
  try:
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
      raise UnreadableError('expected a file, found a folder')
    if not stat.S_ISREG(mode):
      raise UnreadableError('expected a file, found a device or a pipe')
    file = open(path, 'rb')  # noqa: SIM115
  except FileNotFoundError as error:
    if os.path.islink(path):
      raise UnreadableError('link to a missing file') from error
    raise
  except ValueError as error:
    raise UnreadableError(f'invalid file name ({error})') from error
  with file:
    yield file


def pixels_of(image: Image.Image) -> tuple[np.ndarray, bytes | None]:
  """Return a loaded image's pixels, `[h, w, C]` as stored, and their colour profile."""
  icc_profile = image.info.get('icc_profile')
  if image.mode in ('I', 'F'):
    raise UnreadableError('floating-point or 32-bit values; convert it to 8 or 16 bits')
  if image.mode.startswith('I;16'):
    return with_channels(np.asarray(image).astype(np.uint16)), icc_profile
  if image.mode in ('CMYK', 'LAB'):
    return np.asarray(_to_srgb(image, icc_profile)), None
  grey, alpha = image.mode in ('1', 'L', 'LA', 'La'), image.has_transparency_data
  mode = ('LA' if alpha else 'L') if grey else ('RGBA' if alpha else 'RGB')
  return with_channels(np.asarray(image.convert(mode))), icc_profile


def _to_srgb(image: Image.Image, icc_profile: bytes | None) -> Image.Image:
  srgb = ImageCms.createProfile('sRGB')

  def convert(source: ImageCms.ImageCmsProfile | ImageCms.core.CmsProfile) -> Image.Image:
    # Pillow returns None only if it converts in place.
    return cast(Image.Image, ImageCms.profileToProfile(image, source, srgb, outputMode='RGB'))

  if image.mode == 'LAB':  # device-independent, needs no profile
    return convert(ImageCms.createProfile('LAB'))
  try:
    return convert(ImageCms.ImageCmsProfile(io.BytesIO(icc_profile or b'')))
  except (ImageCms.PyCMSError, OSError):  # no profile, or not a CMYK profile
    return image.convert('RGB')


def with_channels(pixels: np.ndarray) -> np.ndarray:
  """Return `[h, w]` or `[h, w, C]` as `[h, w, C]`."""
  return pixels[..., None] if pixels.ndim == 2 else pixels
