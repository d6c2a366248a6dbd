"""Files that are damaged beside their pixels are read; missing pixels are counted."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import skimage.data
import tifffile
from PIL import Image

from gfn_jax import UserError
from gfn_jax.images.folders import read_rgb
from gfn_jax.images.reading import read_photo, size_of

HEIGHT, WIDTH = 40, 56
RGB = np.ascontiguousarray(skimage.data.coffee()[100 : 100 + HEIGHT, 200 : 200 + WIDTH])
DEEP = RGB.astype(np.uint16) * 256 + RGB[::-1]


def encoded(kind, image=RGB, **options):
  buffer = io.BytesIO()
  Image.fromarray(image).save(buffer, kind, **options)
  return buffer.getvalue()


def chunk(kind, content):
  return len(content).to_bytes(4) + kind + content + zlib.crc32(kind + content).to_bytes(4)


def read(tmp_path, content):
  path = tmp_path / 'photo'
  path.write_bytes(content)
  return read_photo(path)


def missing(tmp_path, content, total=HEIGHT * WIDTH):
  """Return the number of missing pixels that the error names."""
  with pytest.raises(
    UserError, match=rf' of {total:,} pixels are missing; copy it again$'
  ) as error:
    read(tmp_path, content)
  message = str(error.value)
  assert message.isprintable()
  return int(message.split(': ')[-1].split(' of ')[0].replace(',', ''))


def assert_whole(tmp_path, content, pixels, note):
  photo = read(tmp_path, content)
  np.testing.assert_array_equal(photo.pixels, pixels, strict=True)
  assert [note in one for one in photo.notes] == [True]
  assert size_of(tmp_path / 'photo') == pixels.shape[1::-1]


def damage(content, at):
  return content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]


PNG, DEEP_PNG = encoded('PNG'), imagecodecs.png_encode(DEEP)


@pytest.mark.parametrize(('content', 'pixels'), [(PNG, RGB), (DEEP_PNG, DEEP)])
def test_a_png_that_is_damaged_beside_its_pixels(tmp_path, content, pixels):
  assert read(tmp_path, content).notes == ()
  for text in (b'Comment\0hello', bytes(300)):
    for place in (33, len(content) - 12):  # before and after the pixels
      with_text = content[:place] + chunk(b'tEXt', text) + content[place:]
      assert_whole(tmp_path, damage(with_text, place + 10), pixels, 'damaged tEXt left out')
      assert_whole(tmp_path, damage(with_text, place + 9 + len(text)), pixels, 'damaged tEXt')
  for kind in (b'eXIf', b'iCCP', b'gAMA', b'pHYs', b'zTXt', b'iTXt'):
    broken = content[:33] + damage(chunk(kind, b'12345678'), 9) + content[33:]
    assert_whole(tmp_path, broken, pixels, f'damaged {kind.decode()} left out')
  for kind, data in ((b'gAMA', b'1'), (b'zTXt', b'a\0\0' + zlib.compress(bytes(2**21)))):
    nonsense = content[:33] + chunk(kind, data) + content[33:]
    assert_whole(tmp_path, nonsense, pixels, 'damaged metadata left out')
  end = len(content) - 12  # of the pixels
  for cut in range(9):  # also within the checksum of the pixels, and their own
    assert_whole(tmp_path, content[: end - cut], pixels, 'the end of the file is missing')
  assert_whole(tmp_path, content[:end] + bytes(99), pixels, 'the end of the file is missing')
  assert_whole(tmp_path, damage(content, end - 1), pixels, 'a checksum is wrong')


def test_damage_to_what_colours_depend_on_is_refused(tmp_path):
  image = Image.fromarray(RGB).quantize(16)
  buffer = io.BytesIO()
  image.save(buffer, 'PNG', transparency=3)
  content = buffer.getvalue()
  for kind in (b'IHDR', b'PLTE', b'tRNS'):
    with pytest.raises(UserError, match=f'the checksum of {kind.decode()} is wrong'):
      read(tmp_path, damage(content, content.index(kind) + 4))
  at = PNG.index(b'IDAT')
  with pytest.raises(UserError, match='the checksum of the pixels is wrong; copy it again'):
    read(tmp_path, damage(damage(PNG, len(PNG) - 14), len(PNG) - 18))
  assert missing(tmp_path, damage(PNG, at + 900)) > 0


@pytest.mark.parametrize(
  ('depth', 'colour', 'bits'), [(8, 2, 24), (16, 6, 64), (1, 0, 1), (8, 0, 8)]
)
def test_the_missing_pixels_of_a_png_are_counted(tmp_path, depth, colour, bits):
  width, height = 37, 11
  row = 1 + (width * bits + 7) // 8
  rows = np.random.default_rng(0).integers(0, 256, (height, row), np.uint8)
  rows[:, 0] = 0
  header = chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, depth, colour, 0, 0, 0))
  for count in (5 * row, 5 * row + 1 + bits, 1 + bits):
    stream = zlib.compressobj(0)  # stored, flushed at the cut
    data = stream.compress(rows.tobytes()[:count]) + stream.flush(zlib.Z_SYNC_FLUSH)
    content = b'\x89PNG\r\n\x1a\n' + header + chunk(b'IDAT', data)
    present = count // row * width + max(0, count % row - 1) * 8 // bits
    for ends in (b'', chunk(b'IEND', b'')):
      assert missing(tmp_path, content + ends, width * height) == width * height - present


def test_the_missing_pixels_of_an_interlaced_png_are_counted(tmp_path):
  header = struct.pack('>IIBBBBB', 8, 8, 8, 0, 0, 0, 1)
  rows = bytes(1 + 1) + bytes(1 + 1) + bytes(1 + 2) + bytes(2 * 3)  # passes 1 to 4: 1, 1, 2, 4
  content = b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(rows))
  assert missing(tmp_path, content + chunk(b'IEND', b''), 64) == 64 - 8
  assert missing(tmp_path, content, 64) == 64 - 8


JPEGS = {
  'baseline': {},
  'full colour': {'subsampling': '4:4:4'},
  'optimized': {'optimize': True, 'quality': 95},
  'progressive': {'progressive': True},
  'restarts': {'restart_marker_blocks': 2},
  'grey': {'image': RGB[..., 1]},
}


@pytest.mark.parametrize('name', JPEGS)
def test_a_jpeg_without_its_end(tmp_path, name):
  content = encoded('JPEG', **JPEGS[name])
  whole = read(tmp_path, content)
  assert whole.notes == ()
  for end in (b'', b'\xff', bytes(100)):
    assert_whole(tmp_path, content[:-2] + end, whole.pixels, 'the end of the file is missing')
  assert read(tmp_path, content + b'trailing').notes == ()


@pytest.mark.parametrize('end', [b'', b'\xff\xd9', bytes(1000)])
@pytest.mark.parametrize('name', JPEGS)
def test_the_missing_pixels_of_a_jpeg_are_counted(tmp_path, name, end):
  content = encoded('JPEG', **JPEGS[name])
  whole = read(tmp_path, content).pixels
  start = content.rindex(b'\xff\xda') if name != 'progressive' else content.index(b'\xff\xda')
  for cut in (5, 100, (len(content) - start) // 2):
    if end == b'\xff\xd9' and (cut == 5 or name == 'progressive'):
      continue  # well-formed, with a part of the details of the last or all blocks
    count = missing(tmp_path, content[:-2][:-cut] + end)
    if name == 'progressive':
      assert 0 < count <= HEIGHT * WIDTH
      continue
    # As many pixels as a decoder shows in grey, in whole blocks.
    buffer = io.BytesIO(content[:-2][:-cut] + b'\xff\xd9')
    shown = np.asarray(Image.open(buffer)).reshape(HEIGHT, WIDTH, -1)
    grey = (shown == 128).all(-1) & ~(whole == 128).all(-1)
    assert grey.sum() * 0.9 <= count <= grey.sum() + 2 * 256


def test_a_grey_jpeg_is_whole(tmp_path):
  content = encoded('JPEG', np.full((20, 20, 3), 128, np.uint8))
  assert (read(tmp_path, content).pixels == 128).all()


@pytest.mark.parametrize('options', [{'lossless': True}, {'quality': 80}])
def test_a_webp_without_its_end(tmp_path, options):
  exif = Image.Exif()
  exif[0x010F] = 'maker'
  content = encoded('WEBP', exif=exif, **options)
  whole = read(tmp_path, content)
  assert len(whole.metadata.exif) > 0
  at = content.index(b'EXIF')
  for end in (at + 4, at, len(content) - 4):
    assert_whole(tmp_path, content[:end], whole.pixels, 'the end of the file is missing')
  with pytest.raises(
    UserError, match=r': 100 of [\d,]+ bytes of pixels are missing; copy it again$'
  ):
    read(tmp_path, cut(content, 100))


def cut(content, count):
  """Cut a WebP so that bytes of its pixels are missing."""
  at = next(content.index(kind) for kind in (b'VP8L', b'VP8 ') if kind in content)
  length = int.from_bytes(content[at + 4 : at + 8], 'little')
  return content[: at + 8 + length - count]


@pytest.mark.parametrize('width', [53, 56])
def test_a_bmp_without_its_end(tmp_path, width):
  image = RGB[:, :width]
  content = encoded('BMP', image)
  stride = (3 * width + 3) // 4 * 4
  padding = stride - 3 * width
  for lost in range(1, padding + 1):
    assert_whole(tmp_path, content[:-lost], image, 'the end of the file is missing')
  total = width * HEIGHT
  assert missing(tmp_path, content[: -padding - 3], total) == 1
  assert missing(tmp_path, content[: -2 * stride], total) == 2 * width
  assert missing(tmp_path, content[:60], total) == total - 2
  grey = encoded('BMP', RGB[..., 1])
  assert missing(tmp_path, grey[:-WIDTH]) == WIDTH


def tiff(image=RGB, **options):
  buffer = io.BytesIO()
  tifffile.imwrite(buffer, image, photometric='rgb', metadata=None, **options)
  return buffer.getvalue()


def test_the_missing_pixels_of_a_tiff_are_counted(tmp_path):
  for rows in (HEIGHT, 8):
    content = tiff(rowsperstrip=rows)
    assert missing(tmp_path, content[:-1]) == 1
    assert missing(tmp_path, content[: -3 * 100]) == 100
    assert missing(tmp_path, content[: -3 * WIDTH * 10]) == 10 * WIDTH
  content = tiff(rowsperstrip=10, compression='zlib')
  assert missing(tmp_path, content[:-1]) == 10 * WIDTH


def test_of_several_pages_the_first_is_read(tmp_path):
  content = tiff(np.stack([RGB, RGB[::-1]]))
  assert_whole(tmp_path, content, RGB, 'the first of several pages is read')
  content = tiff()
  start = struct.unpack('<I', content[4:8])[0]
  end = start + 2 + 12 * struct.unpack('<H', content[start : start + 2])[0]
  for after, notes in ((start, 1), (len(content) + 9, 0)):  # itself, and one that is not there
    photo = read(tmp_path, content[:end] + struct.pack('<I', after) + content[end + 4 :])
    np.testing.assert_array_equal(photo.pixels, RGB)
    assert len(photo.notes) == notes


def test_damage_is_no_obstacle_to_training(tmp_path):
  (tmp_path / 'a.png').write_bytes(PNG[:-12])
  np.testing.assert_array_equal(read_rgb(tmp_path / 'a.png'), RGB)
