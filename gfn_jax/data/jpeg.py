"""Baseline JPEG compression as a pure JAX function, bit-exact with libjpeg-turbo.

    RGB --> YCbCr --> chroma / 2 --> 8x8 DCT --> quantized --> 8x8 DCT^-1 --> chroma x 2 --> RGB

All arithmetic is in int32 with the fixed-point constants and the rounding of libjpeg's defaults:
4:2:0 chroma, the `islow` DCT and "fancy" upsampling. Samples and planes are level-shifted: 0 is
middle grey. Huffman coding is lossless, so it is left out.

Sources: ITU-T Rec. T.81 (1992); the C files of libjpeg-turbo named in each docstring.
"""

import jax
import jax.numpy as jnp
import numpy as np

# T.81, Tables K.1 (luminance) and K.2 (chrominance): quantizer steps at quality 50.
_LUMA_STEPS = np.array(
  [
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
  ]
)
_CHROMA_STEPS = np.full((8, 8), 99)
_CHROMA_STEPS[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]

# The DCT of jfdctint.c in units of 2**-13, `[frequency, sample]`: the first four samples of each
# row, which the other four mirror, with the sign changed in odd rows. libjpeg sums products of
# rounded constants, hence entries such as 4433 + 6270 = 10703 beside 15137 - 4433 = 10704.
_HALF_DCT = np.array(
  [
    [8192, 8192, 8192, 8192],
    [11363, 9633, 6437, 2260],
    [10703, 4433, -4433, -10703],
    [9633, -2259, -11362, -6436],
    [8192, -8192, -8192, 8192],
    [6437, -11362, 2261, 9633],
    [4433, -10704, 10704, -4433],
    [2260, -6436, 9633, -11363],
  ]
)
_SIGNS = np.array([1, -1] * 4)[:, None]
_DCT = np.concatenate([_HALF_DCT, _SIGNS * _HALF_DCT[:, ::-1]], axis=1).astype(np.int32)

# RGB to YCbCr and back (jccolor.c, jdcolor.c; the coefficients of JFIF) in units of 2**-16.
_RGB_TO_YCC = np.array(
  [[19595, 38470, 7471], [-11059, -21709, 32768], [32768, -27439, -5329]], np.int32
)
_YCC_TO_RGB = np.array([[65536, 0, 91881], [65536, -22554, -46802], [65536, 116130, 0]], np.int32)


def compress_jpeg(image: jax.Array, quality: jax.typing.ArrayLike) -> jax.Array:
  """Compress an image to a baseline JPEG file and return the image that the file holds.

  The result is that of `PIL.Image.save(format='JPEG', quality=quality)` and of opening the file,
  where Pillow uses libjpeg-turbo, with 4:2:0 chroma. Can be used under `jit` and `vmap`.

  Args:
    image: `[H, W, 3]` uint8, RGB, of any size.
    quality: scalar integer, 1 (smallest file) to 100 (best image). Other values are clipped.

  Returns:
    `[H, W, 3]` uint8.

  Raises:
    TypeError: if the image is not uint8 or the quality is not a scalar integer.
    ValueError: if the image has another shape.
  """
  if image.dtype != jnp.uint8:
    raise TypeError(f'image must be uint8, not {image.dtype}')
  if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
    raise ValueError(f'image must be [H, W, 3] and not empty, not {list(image.shape)}')
  quality = jnp.asarray(quality)
  if quality.ndim or not jnp.issubdtype(quality.dtype, jnp.integer):
    raise TypeError(f'quality must be a scalar integer, not {quality.dtype}{list(quality.shape)}')
  height, width, _ = image.shape
  ycc = _rgb_to_ycc(image)  # [3, H, W]
  luma = _code(ycc[:1], _quantizer_steps(_LUMA_STEPS, quality))
  chroma = _code(_downsample(ycc[1:]), _quantizer_steps(_CHROMA_STEPS, quality))
  chroma = chroma[:, :, : (width + 1) // 2]  # the upsampling must not use the padding
  chroma = _upsample(chroma)[:, :height, :width]  # [2, H, W]
  return _ycc_to_rgb(jnp.concatenate([luma, chroma]))


def _quantizer_steps(steps: np.ndarray, quality: jax.Array) -> jax.Array:
  """Scale the quantizer steps of quality 50 to another quality (jcparam.c).

  Args:
    steps: `[8, 8]` integers, from T.81 Annex K.
    quality: scalar integer, clipped to 1..100.

  Returns:
    `[8, 8]` int32 in 1..255.
  """
  quality = jnp.clip(quality.astype(jnp.int32), 1, 100)
  percent = jnp.where(quality < 50, 5000 // quality, 200 - 2 * quality)
  return jnp.clip((jnp.asarray(steps, jnp.int32) * percent + 50) // 100, 1, 255)


def _rgb_to_ycc(image: jax.Array) -> jax.Array:
  """Convert `[H, W, 3]` uint8 to level-shifted YCbCr `[3, H, W]` int32 (jccolor.c)."""
  # Chroma rounds halves down, luma up.
  offset = np.array([2**15 - 128 * 2**16, 2**15 - 1, 2**15 - 1], np.int32)[:, None, None]
  planes = jnp.einsum('kc,hwc->khw', _RGB_TO_YCC, image.astype(jnp.int32))
  return (planes + offset) >> 16


def _ycc_to_rgb(planes: jax.Array) -> jax.Array:
  """Convert level-shifted YCbCr `[3, H, W]` int32 to `[H, W, 3]` uint8 (jdcolor.c)."""
  image = jnp.einsum('kc,chw->hwk', _YCC_TO_RGB, planes)
  return jnp.clip((image + (2**15 + 128 * 2**16)) >> 16, 0, 255).astype(jnp.uint8)


def _downsample(planes: jax.Array) -> jax.Array:
  """Halve planes `[C, H, W]` to `[C, ceil(H / 2), 8 * ceil(W / 16)]` (jcsample.c, h2v2).

  Columns are padded before the reduction. Rows are padded to an even number only: libjpeg repeats
  rows of the result (jcprepct.c), as `_code` does.
  """
  planes = _pad(planes, 2, 16)
  count, height, width = planes.shape
  sums = planes.reshape(count, height // 2, 2, width // 2, 2).sum((2, 4), dtype=jnp.int32)
  # Halves round down in even columns and up in odd ones.
  bias = 1 + np.arange(width // 2, dtype=np.int32)[None, None] % 2
  return (sums + bias) >> 2


def _upsample(planes: jax.Array) -> jax.Array:
  """Double the sides of planes `[C, H, W]` with a triangle filter (jdsample.c, h2v2 fancy).

  As in libjpeg, planes of one or two columns are doubled without a filter.
  """
  count, height, width = planes.shape
  if width <= 2:
    return planes.repeat(2, axis=1).repeat(2, axis=2)
  x = jnp.pad(planes, ((0, 0), (1, 1), (1, 1)), mode='edge')
  middle = 3 * x[:, 1:-1]
  x = jnp.stack([middle + x[:, :-2], middle + x[:, 2:]], axis=2)  # [C, H, 2, W + 2]
  middle = 3 * x[..., 1:-1]
  x = jnp.stack([middle + x[..., :-2] + 8, middle + x[..., 2:] + 7], axis=-1)  # [C, H, 2, W, 2]
  return x.reshape(count, 2 * height, 2 * width) >> 4


def _code(planes: jax.Array, steps: jax.Array) -> jax.Array:
  """Quantize the DCT of each 8x8 block of planes (jfdctint.c, jcdctmgr.c, jidctint.c).

  Args:
    planes: `[C, H, W]` int32 in -128..127; the last row and column are repeated to fill blocks.
    steps: `[8, 8]` int32, quantizer steps.

  Returns:
    The decoded planes, of the same shape and range.
  """
  count, height, width = planes.shape
  padded = _pad(planes, 8, 8)
  rows, columns = padded.shape[1] // 8, padded.shape[2] // 8
  blocks = padded.reshape(count, rows, 8, columns, 8).swapaxes(2, 3).reshape(-1, 8, 8)
  coefficients = _transform(blocks, _DCT, (11, 15))  # 8 times the DCT
  divisor = jnp.broadcast_to(8 * steps[None], coefficients.shape)
  half = jnp.where(coefficients < 0, -1, 1) * (divisor // 2)
  levels = jax.lax.div(coefficients + half, divisor)  # truncates: halves round away from 0
  # The inverse transforms columns before rows.
  blocks = _transform((levels * steps[None]).mT, _DCT.T, (11, 18)).mT
  blocks = jnp.clip(blocks, -128, 127).reshape(count, rows, columns, 8, 8)
  return blocks.swapaxes(2, 3).reshape(padded.shape)[:, :height, :width]


def _transform(blocks: jax.Array, matrix: np.ndarray, shifts: tuple[int, int]) -> jax.Array:
  """Multiply the rows of blocks, then their columns, by a matrix.

  libjpeg's passes round only at their end, so each is exactly an integer matrix product.

  Args:
    blocks: `[N, 8, 8]` int32.
    matrix: `[8, 8]` int32, `[output, input]`.
    shifts: number of bits by which each of the two products is divided, halves rounded up.

  Returns:
    `[N, 8, 8]` int32.
  """
  for shift in shifts:
    # A product and a sum: XLA's integer dot is slower on CPUs.
    products = blocks[:, None] * matrix[None, :, None]  # [N, output, other axis, input]
    blocks = (products.sum(-1, dtype=jnp.int32) + (1 << shift - 1)) >> shift  # transposed
  return blocks


def _pad(planes: jax.Array, rows: int, columns: int) -> jax.Array:
  """Repeat the edge of `[C, H, W]`, to multiples of `rows` and `columns`."""
  _, height, width = planes.shape
  return jnp.pad(planes, ((0, 0), (0, -height % rows), (0, -width % columns)), mode='edge')
