import io
import os
import stat
import struct
import subprocess
import sys
import threading
import warnings
import zlib

import imagecodecs
import numpy as np
import pytest
import skimage.color
import skimage.data
import tifffile
from PIL import ExifTags, Image, ImageCms, ImageOps
from PIL.JpegImagePlugin import get_sampling
from PIL.TiffImagePlugin import IFDRational

from gfn_jax.errors import UserError
from gfn_jax.images import decoding, formats, metadata, reading, writing
from gfn_jax.images.metadata import Metadata
from gfn_jax.images.reading import Photo, read_photo, size_of, to_photo
from gfn_jax.images.writing import EXTENSIONS, check_target, write_photo

HEIGHT, WIDTH = 20, 30
RGB = np.ascontiguousarray(skimage.data.astronaut()[40 : 40 + HEIGHT, 200 : 200 + WIDTH])
GREY = RGB[..., 1]
ALPHA = (np.arange(HEIGHT * WIDTH) % 256).astype(np.uint8).reshape(HEIGHT, WIDTH)
RGBA = np.dstack([RGB, ALPHA])
CMYK = Image.fromarray(RGB).convert('CMYK')
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
LOSSLESS = ['.png', '.webp', '.bmp', '.tif', '.tiff']


def pixels(channels, dtype=np.uint8):
  """A photograph; in 16 bits, the lower 8 differ from the upper ones."""
  image = {1: GREY[..., None], 2: np.dstack([GREY, ALPHA]), 3: RGB, 4: RGBA}[channels]
  return image if dtype == np.uint8 else image.astype(np.uint16) * 256 + image[::-1]


def encoded(image, kind, **options):
  """A file's content; `image` is an array or a Pillow image."""
  buffer = io.BytesIO()
  image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
  image.save(buffer, kind, **options)
  return buffer.getvalue()


def tiff(image, **options):
  """A TIFF's content, written by tifffile."""
  buffer = io.BytesIO()
  tifffile.imwrite(buffer, image, **({'photometric': 'rgb', 'metadata': None} | options))
  return buffer.getvalue()


def chunk(kind, content):
  checksum = zlib.crc32(kind + content).to_bytes(4)
  return len(content).to_bytes(4) + kind + content + checksum


def png(width, height, depth, colour, data, *chunks):
  """A PNG's content, put together by hand."""
  header = chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, depth, colour, 0, 0, 0))
  ends = chunk(b'IDAT', zlib.compress(data)) + chunk(b'IEND', b'')
  return b'\x89PNG\r\n\x1a\n' + header + b''.join(chunks) + ends


def read(content, folder, name='photo', **options):
  path = folder / name
  path.write_bytes(content)
  return read_photo(path, **options)


def some_exif():
  exif = Image.Exif()
  exif[ExifTags.Base.Make] = 'Maker'
  exif[ExifTags.Base.ImageDescription] = b'Z\xc3\xbcrich'
  exif[ExifTags.Base.XResolution] = IFDRational(72, 1)
  exif[ExifTags.Base.Orientation] = 6
  exif[ExifTags.Base.ImageWidth] = 11
  exif[ExifTags.Base.ImageLength] = 12
  exif[ExifTags.Base.XPTitle] = 'title'.encode('utf-16le')
  exif[ExifTags.IFD.Exif] = {
    ExifTags.Base.ExposureTime: IFDRational(1, 125),
    ExifTags.Base.LensSpecification: (*map(IFDRational, (24, 70)), *[IFDRational(0, 0)] * 2),
    ExifTags.Base.MakerNote: b'maker\0note' * 9,
    ExifTags.Base.ExifImageWidth: 11,
    ExifTags.Base.ExifImageHeight: 12,
    ExifTags.IFD.Interop: {1: 'R98'},
  }
  exif[ExifTags.IFD.GPSInfo] = {1: 'N', 2: (IFDRational(47), IFDRational(22), IFDRational(305, 10))}
  return exif


def assert_some_exif(exif, width, height, from_tiff=False):
  """`exif` holds what `some_exif` does, upright, with the size of the picture.

  A TIFF has these two tags for itself: they are not taken from it.
  """
  assert ExifTags.Base.Orientation not in exif or exif[ExifTags.Base.Orientation] == 1
  assert exif[ExifTags.Base.Make] == 'Maker'
  assert exif[ExifTags.Base.ImageDescription].encode('latin-1').decode() == 'Zürich'
  assert exif[ExifTags.Base.XResolution] == 72
  assert exif.get(ExifTags.Base.ImageWidth) == (None if from_tiff else width)
  assert exif.get(ExifTags.Base.ImageLength) == (None if from_tiff else height)
  assert exif[ExifTags.Base.XPTitle].decode('utf-16le') == 'title'
  details, position = (exif.get_ifd(ifd) for ifd in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo))
  assert details[ExifTags.Base.ExposureTime] == IFDRational(1, 125)
  assert details[ExifTags.Base.LensSpecification][:2] == (24, 70)
  assert details[ExifTags.Base.MakerNote] == b'maker\0note' * 9
  assert details[ExifTags.Base.ExifImageWidth] == width
  assert details[ExifTags.Base.ExifImageHeight] == height
  assert position[1] == 'N'
  assert position[2] == (47, 22, 30.5)
  assert exif.get_ifd(ExifTags.IFD.Interop)[1] == 'R98'


# What is read.


@pytest.mark.parametrize('channels', [1, 2, 3, 4])
@pytest.mark.parametrize('extension', LOSSLESS)
def test_8_bits_come_back_as_they_were(tmp_path, extension, channels):
  write_photo(tmp_path / f'x{extension}', Photo(pixels(channels)))
  read = read_photo(tmp_path / f'x{extension}')
  expected = pixels(channels)
  if extension == '.webp' and channels == 1:
    expected = np.repeat(expected, 3, axis=-1)
  if extension in ('.webp', '.bmp') and channels == 2:
    expected = np.dstack([GREY, GREY, GREY, ALPHA])
  np.testing.assert_array_equal(read.pixels, expected, strict=True)
  assert (read.metadata.exif, read.metadata.icc_profile) == (b'', None)
  with Image.open(tmp_path / f'x{extension}') as image:  # as others see it
    np.testing.assert_array_equal(np.asarray(image), np.squeeze(expected))


@pytest.mark.parametrize('channels', [1, 2, 3, 4])
@pytest.mark.parametrize('extension', ['.png', '.tif'])
def test_16_bits_come_back_as_they_were(tmp_path, extension, channels):
  path, expected = tmp_path / f'x{extension}', pixels(channels, np.uint16)
  write_photo(path, Photo(expected))
  np.testing.assert_array_equal(read_photo(path).pixels, expected, strict=True)
  if channels > 2:
    with Image.open(path) as image:  # Pillow has the upper 8 bits
      np.testing.assert_array_equal(np.asarray(image), expected >> 8)


@pytest.mark.parametrize(
  'shape', [(1, 1, 3), (1, 7, 1), (7, 1, 4), (3, 3, 2), (2, 3, 3), (1, 2, 2)]
)
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('extension', ['.png', '.tif'])
def test_small_pictures_keep_their_shape(tmp_path, shape, dtype, extension):
  path = tmp_path / f'x{extension}'
  expected = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype)
  write_photo(path, Photo(expected))
  np.testing.assert_array_equal(read_photo(path).pixels, expected, strict=True)


@pytest.mark.parametrize('channels', [1, 3])
def test_jpeg_keeps_all_of_the_colour(tmp_path, channels):
  write_photo(tmp_path / 'x.JPG', Photo(pixels(channels)))
  read = read_photo(tmp_path / 'x.JPG').pixels
  assert read.shape == (HEIGHT, WIDTH, channels)
  assert np.abs(read.astype(int) - pixels(channels)).mean() < 2.5
  with Image.open(tmp_path / 'x.JPG') as image:
    assert get_sampling(image) == (0 if channels == 3 else -1)


PALETTE = Image.fromarray(RGB).quantize(16)
BILEVEL = Image.fromarray(GREY).convert('1')
PIECES = {  # content, and what it shows
  'png 1': (encoded(BILEVEL, 'PNG'), np.asarray(BILEVEL.convert('L'))),
  'png P': (encoded(PALETTE, 'PNG'), np.asarray(PALETTE.convert('RGB'))),
  'png P with a transparent colour': (
    encoded(PALETTE, 'PNG', transparency=3),
    np.dstack([PALETTE.convert('RGB'), np.where(np.asarray(PALETTE) == 3, 0, 255)]),
  ),
  'png P with alpha': (
    encoded(PALETTE, 'PNG', transparency=bytes(range(100, 116))),
    np.dstack([PALETTE.convert('RGB'), 100 + np.asarray(PALETTE)]),
  ),
  'png L with a transparent grey': (
    encoded(GREY, 'PNG', transparency=int(GREY[3, 4])),
    np.dstack([GREY, np.where(GREY[3, 4] == GREY, 0, 255)]),
  ),
  'png RGB with a transparent colour': (
    encoded(RGB, 'PNG', transparency=tuple(map(int, RGB[3, 4]))),
    np.dstack([RGB, np.where((RGB[3, 4] == RGB).all(-1), 0, 255)]),
  ),
  'png of 1 bit with a transparent grey': (
    png(8, 1, 1, 0, b'\0\xaa', chunk(b'tRNS', b'\0\1')),
    np.array([[[255, 0], [0, 255]] * 4]),
  ),
  'png of 2 bits with a transparent grey': (
    png(4, 1, 2, 0, b'\0\x1b', chunk(b'tRNS', b'\0\1')),
    np.array([[[0, 255], [85, 0], [170, 255], [255, 255]]]),
  ),
  'png of 4 bits': (png(4, 1, 4, 0, b'\0\x01\x2f'), np.array([[0, 17, 34, 255]])),
  'png of 16 bits with a transparent grey': (
    png(3, 1, 16, 0, b'\0\0\0\0\1\1\1', chunk(b'tRNS', b'\0\1')),
    np.array([[[0, 65535], [1, 0], [257, 65535]]], np.uint16),
  ),
  'png of 16 bits with a transparent colour': (
    png(2, 1, 16, 2, struct.pack('>x6H', 1, 2, 3, 4, 5, 6), chunk(b'tRNS', b'\0\1\0\2\0\3')),
    np.array([[[1, 2, 3, 0], [4, 5, 6, 65535]]], np.uint16),
  ),
  'webp': (encoded(RGB, 'WEBP', lossless=True), RGB),
  'bmp 1': (encoded(BILEVEL, 'BMP'), np.asarray(BILEVEL.convert('L'))),
  'bmp P': (encoded(PALETTE, 'BMP'), np.asarray(PALETTE.convert('RGB'))),
  'tiff 1': (encoded(BILEVEL, 'TIFF'), np.asarray(BILEVEL.convert('L'))),
  'tiff by fax': (encoded(BILEVEL, 'TIFF', compression='group4'), np.asarray(BILEVEL.convert('L'))),
  'tiff P': (encoded(PALETTE, 'TIFF'), np.asarray(PALETTE.convert('RGB'))),
  'tiff LA': (encoded(pixels(2), 'TIFF'), pixels(2)),
  'tiff RGBA': (encoded(RGBA, 'TIFF'), RGBA),
  'tiff CMYK': (
    encoded(CMYK, 'TIFF'),
    np.asarray(CMYK.convert('RGB')),
  ),
  'tiff lzw': (encoded(RGB, 'TIFF', compression='tiff_lzw'), RGB),
  'tiff deflate': (encoded(RGB, 'TIFF', compression='tiff_deflate'), RGB),
  'tiff packbits': (encoded(RGB, 'TIFF', compression='packbits'), RGB),
  'tiff white is 0': (tiff(GREY, photometric='miniswhite'), 255 - GREY),
  'tiff in planes': (tiff(np.moveaxis(RGB, -1, 0), planarconfig='separate'), RGB),
  'tiff 16 lzw': (
    tiff(pixels(3, np.uint16), compression='lzw', predictor=True),
    pixels(3, np.uint16),
  ),
  'tiff 16 white is 0': (
    tiff(pixels(1, np.uint16)[..., 0], photometric='miniswhite'),
    65535 - pixels(1, np.uint16),
  ),
  'tiff 16 in planes, big': (
    tiff(np.moveaxis(pixels(3, np.uint16), -1, 0), planarconfig='separate', bigtiff=True),
    pixels(3, np.uint16),
  ),
  'tiff 16 the other way round': (tiff(pixels(3, np.uint16), byteorder='>'), pixels(3, np.uint16)),
  'bigtiff 16 the other way round': (
    tiff(pixels(3, np.uint16), byteorder='>', bigtiff=True),
    pixels(3, np.uint16),
  ),
  'tiff 16 in tiles': (tiff(pixels(3, np.uint16), tile=(16, 16)), pixels(3, np.uint16)),
  'tiff 16 whose alpha is not said to be one': (
    tiff(pixels(4, np.uint16), extrasamples=['unspecified']),
    pixels(3, np.uint16),
  ),
}


@pytest.mark.parametrize('name', PIECES)
def test_all_kinds_are_read_by_value(tmp_path, name):
  content, expected = PIECES[name]
  expected = expected[..., None] if expected.ndim == 2 else expected
  if expected.dtype != np.uint16:
    expected = expected.astype(np.uint8)
  photo = read(content, tmp_path)
  np.testing.assert_array_equal(photo.pixels, expected, strict=True)
  assert size_of(tmp_path / 'photo') == expected.shape[1::-1]


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_colour_that_is_multiplied_by_alpha_is_divided_again(tmp_path, dtype):
  image, most = pixels(4, dtype), np.iinfo(dtype).max
  product = np.round(image[..., :3] * (image[..., 3:] / most)).astype(dtype)
  content = tiff(np.dstack([product, image[..., 3]]), extrasamples=['assocalpha'])
  photo = read(content, tmp_path).pixels
  np.testing.assert_array_equal(photo[..., 3], image[..., 3])
  visible = image[..., 3] > most // 2
  error = photo[visible].astype(int) - image[visible]
  assert np.abs(error).max() <= 1
  assert (photo[image[..., 3] == 0] == 0).all()


@pytest.mark.parametrize('compression', ['jpeg', 'tiff_deflate'])
def test_ycbcr_in_a_tiff(tmp_path, compression):
  image = Image.fromarray(RGB).convert('YCbCr')
  photo = read(encoded(image, 'TIFF', compression=compression), tmp_path)
  assert np.abs(photo.pixels.astype(int) - RGB).mean() < 6


def test_lab_becomes_srgb(tmp_path):
  srgb, lab = ImageCms.createProfile('sRGB'), ImageCms.createProfile('LAB')
  image = ImageCms.profileToProfile(Image.fromarray(RGB), srgb, lab, outputMode='LAB')
  photo = read(encoded(image, 'TIFF'), tmp_path)
  assert np.abs(photo.pixels.astype(int) - RGB).mean() < 1


def test_the_first_picture_of_a_phone_s_file(tmp_path):
  content = encoded(RGB, 'MPO', save_all=True, append_images=[Image.fromarray(RGB[::-1])])
  assert np.abs(read(content, tmp_path).pixels.astype(int) - RGB).mean() < 6


def test_a_reduced_second_page_is_a_preview(tmp_path):
  with tifffile.TiffWriter(tmp_path / 'x.tif') as writer:
    writer.write(RGB, photometric='rgb')
    writer.write(RGB[::2, ::2], photometric='rgb', subfiletype=1)
  np.testing.assert_array_equal(read_photo(tmp_path / 'x.tif').pixels, RGB)


@pytest.mark.parametrize(
  'name', ['png named.jpg', 'no extension', 'naïve 写真.gif', 'a\nb\x7f.png']
)
def test_names_say_nothing(tmp_path, name):
  np.testing.assert_array_equal(read(encoded(RGB, 'PNG'), tmp_path, name).pixels, RGB)


# Colour profiles.


def cmyk_profile(darkness=1.0):
  """A profile of CMYK inks: a table of the colours of all combinations of full inks."""
  ink = np.moveaxis(np.mgrid[:2, :2, :2, :2], 0, -1).astype(float)  # C is the slowest
  rgb = (1 - ink[..., :3]) * (1 - darkness * ink[..., 3:])
  lab = skimage.color.rgb2lab(rgb) * [255 / 100, 1, 1] + [0, 128, 128]
  identity = bytes(range(256))
  matrix = b''.join(struct.pack('>i', 65536 * (i % 4 == 0)) for i in range(9))
  table = b'mft1' + bytes(4) + bytes([4, 3, 2, 0]) + matrix + 4 * identity
  table += lab.round().astype(np.uint8).tobytes() + 3 * identity
  header = struct.pack(
    '>I4sI4s4s4s12s4s28x3I48x',
    *(144 + len(table), b'', 0x02400000, b'prtr', b'CMYK', b'Lab ', b'', b'acsp'),
    *(0xF6D6, 0x10000, 0xD32D),
  )
  return header + struct.pack('>I4sII', 1, b'A2B0', 144, len(table)) + table


@pytest.mark.parametrize('kind', ['JPEG', 'TIFF'])
def test_cmyk_goes_through_its_profile(tmp_path, kind):
  profile = cmyk_profile(0.5)
  content = encoded(CMYK, kind, icc_profile=profile, **({'quality': 95} if kind == 'JPEG' else {}))
  photo = read(content, tmp_path)
  with Image.open(tmp_path / 'photo') as image:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    srgb = ImageCms.createProfile('sRGB')
    expected = ImageCms.profileToProfile(image, source, srgb, outputMode='RGB')
    plain = np.asarray(image.convert('RGB'))
  assert np.abs(photo.pixels.astype(int) - np.asarray(expected)).max() <= 2
  assert np.abs(photo.pixels.astype(int) - plain).mean() > 10
  assert photo.metadata.icc_profile is None


@pytest.mark.parametrize('profile', [None, b'no profile', SRGB])
def test_cmyk_without_a_profile_of_its_own(tmp_path, profile):
  photo = read(encoded(CMYK, 'TIFF', icc_profile=profile), tmp_path)
  np.testing.assert_array_equal(photo.pixels, np.asarray(CMYK.convert('RGB')))
  assert photo.metadata.icc_profile is None


@pytest.mark.parametrize(
  ('extension', 'dtype'),
  [(extension, np.uint8) for extension in EXTENSIONS] + [('.png', np.uint16), ('.tif', np.uint16)],
)
def test_profile_and_exif_are_kept(tmp_path, extension, dtype):
  exif = some_exif()
  del exif[ExifTags.Base.Orientation]
  path = tmp_path / f'x{extension}'
  write_photo(path, Photo(pixels(3, dtype), Metadata(exif.tobytes(), SRGB)))
  photo = read_photo(path)
  if extension == '.bmp':
    assert (photo.metadata.exif, photo.metadata.icc_profile) == (b'', None)
    return
  assert photo.metadata.icc_profile == SRGB
  assert_some_exif(
    loaded(photo.metadata.exif), WIDTH, HEIGHT, from_tiff=extension.startswith('.tif')
  )
  with Image.open(path) as image:
    assert image.info['icc_profile'] == SRGB
    assert_some_exif(image.getexif(), WIDTH, HEIGHT)


@pytest.mark.parametrize('extension', ['.png', '.jpg', '.webp', '.tif'])
@pytest.mark.parametrize('source', ['PNG', 'JPEG', 'WEBP', 'TIFF'])
def test_exif_goes_from_one_format_to_another(tmp_path, source, extension):
  content = turned_and_tagged(source)
  photo = read(content, tmp_path)
  assert ExifTags.Base.Orientation not in loaded(photo.metadata.exif)
  write_photo(tmp_path / f'x{extension}', photo)
  with Image.open(tmp_path / f'x{extension}') as image:
    assert image.size == (HEIGHT, WIDTH)
    exif = image.getexif()
    from_tiff = source == 'TIFF' and extension != '.tif'
    assert_some_exif(exif, HEIGHT, WIDTH, from_tiff)
    assert image.info['icc_profile'] == SRGB
  if extension != '.tif':
    assert not set(exif) & {258, 259, 262, 273, 277, 278, 279, 284}
  again = read_photo(tmp_path / f'x{extension}').pixels
  np.testing.assert_allclose(again, photo.pixels, atol=60 if extension == '.jpg' else 0)


def turned_and_tagged(kind):
  if kind != 'TIFF':
    return encoded(RGB, kind, exif=some_exif().tobytes(), icc_profile=SRGB)
  file = io.BytesIO(tiff(RGB, iccprofile=SRGB))  # Pillow's TIFFs cannot have all of these tags
  exif = metadata.kept(loaded(some_exif().tobytes()))
  exif[ExifTags.Base.Orientation] = 6
  metadata.add_to_tiff(file, exif)
  return file.getvalue()


def loaded(content):
  exif = Image.Exif()
  exif.load(content)
  return exif


def test_an_exif_that_is_too_long_for_a_jpeg_loses_the_maker_s_notes(tmp_path):
  exif = some_exif()
  exif[ExifTags.IFD.Exif][ExifTags.Base.MakerNote] = bytes(70_000)
  write_photo(tmp_path / 'x.jpg', Photo(RGB, Metadata(exif.tobytes())))
  kept = loaded(read_photo(tmp_path / 'x.jpg').metadata.exif)
  assert kept[ExifTags.Base.Make] == 'Maker'
  assert ExifTags.Base.MakerNote not in kept.get_ifd(ExifTags.IFD.Exif)
  write_photo(tmp_path / 'x.png', Photo(RGB, Metadata(exif.tobytes())))
  kept = loaded(read_photo(tmp_path / 'x.png').metadata.exif)
  assert kept.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] == bytes(70_000)
  exif[ExifTags.Base.ImageDescription] = 'x' * 70_000
  write_photo(tmp_path / 'x.jpg', Photo(RGB, Metadata(exif.tobytes())))
  assert read_photo(tmp_path / 'x.jpg').metadata.exif == b''


@pytest.mark.parametrize('kind', ['PNG', 'JPEG', 'WEBP'])
@pytest.mark.parametrize('exif', [b'nonsense', b'II*\0\xff\xff\0\0', b'II*\0'])
def test_a_damaged_exif_is_left_out(tmp_path, kind, exif):
  photo = read(encoded(RGB, kind, exif=b'Exif\0\0' + exif), tmp_path)
  assert photo.pixels.shape == RGB.shape
  assert photo.metadata.exif == b''


def test_of_an_exif_only_the_damaged_tags_are_left_out(tmp_path):
  content = bytearray(some_exif().tobytes())
  entry = content.index(struct.pack('>HHI', 40091, 1, 10))  # XPTitle, at an offset
  content[entry + 8 : entry + 12] = b'\x7f\xff\xff\xff'
  exif = loaded(read(encoded(RGB, 'JPEG', exif=bytes(content)), tmp_path).metadata.exif)
  assert ExifTags.Base.XPTitle not in exif
  assert exif[ExifTags.Base.Make] == 'Maker'
  assert exif.get_ifd(ExifTags.IFD.GPSInfo)[1] == 'N'


def test_a_thumbnail_is_left_out(tmp_path):
  exif = some_exif()
  content = exif.tobytes()
  first = len(content) - 6  # of the thumbnail's tags, at the end
  count = struct.unpack('>H', content[14:16])[0]
  end = 16 + 12 * count
  thumbnail = struct.pack('>HHHIHHI', 1, 259, 3, 1, 6, 0, 0)
  content = content[:end] + struct.pack('>I', first) + content[end + 4 :] + thumbnail
  assert loaded(content).get_ifd(ExifTags.IFD.IFD1) == {259: 6}
  kept = loaded(read(encoded(RGB, 'JPEG', exif=content), tmp_path).metadata.exif)
  assert kept.get_ifd(ExifTags.IFD.IFD1) == {}
  assert kept[ExifTags.Base.Make] == 'Maker'


# Orientation.


def turned(image, kind, orientation, **options):
  exif = Image.Exif()
  exif[ExifTags.Base.Orientation] = orientation
  return encoded(image, kind, exif=exif.tobytes(), **options)


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('kind', ['PNG', 'WEBP', 'TIFF', 'TIFF P', 'PNG 16', 'TIFF 16', 'TIFF LZW'])
def test_photos_are_upright(tmp_path, kind, orientation):
  image, name = Image.fromarray(RGB), kind.split()[0]
  options = {'WEBP': {'lossless': True}, 'TIFF LZW': {'compression': 'tiff_lzw'}}.get(kind, {})
  image = image.quantize(16) if kind == 'TIFF P' else image
  content = turned(image, name, orientation, **options)
  if kind == 'PNG 16':
    exif = chunk(b'eXIf', turned(RGB, 'PNG', orientation).split(b'eXIf')[1][:26])
    content = imagecodecs.png_encode(pixels(3, np.uint16))
    content = content[:33] + exif + content[33:]
  if kind == 'TIFF 16':
    tag = (274, 3, 1, orientation, True)
    content = tiff(pixels(3, np.uint16), extratags=[tag])
  photo = read(content, tmp_path)
  image = image.convert('RGB')
  image.getexif()[ExifTags.Base.Orientation] = orientation
  expected = np.asarray(ImageOps.exif_transpose(image))
  found = photo.pixels >> 8 if photo.pixels.dtype == np.uint16 else photo.pixels
  np.testing.assert_array_equal(found, expected)
  assert ('16' in kind) == (photo.pixels.dtype == np.uint16)
  assert size_of(tmp_path / 'photo') == expected.shape[1::-1]
  assert ExifTags.Base.Orientation not in loaded(photo.metadata.exif)


def test_the_exif_of_a_png_may_follow_the_pixels(tmp_path):
  content = turned(RGB, 'PNG', 6)
  start = content.index(b'eXIf') - 4
  end = start + 12 + int.from_bytes(content[start : start + 4])
  content = content[:start] + content[end:-12] + content[start:end] + content[-12:]
  photo = read(content, tmp_path)
  np.testing.assert_array_equal(photo.pixels, np.rot90(RGB, -1))
  assert size_of(tmp_path / 'photo') == (HEIGHT, WIDTH)


# Pillow's images.


@pytest.mark.parametrize(
  'mode', ['1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'CMYK', 'YCbCr', 'HSV', 'RGBX']
)
def test_pillow_s_images(mode):
  image = Image.fromarray(RGB if mode == 'P' else RGBA).convert(mode)
  expected = {'1': 'L', 'L': 'L', 'LA': 'LA', 'RGBA': 'RGBA'}.get(mode, 'RGB')
  photo = to_photo(image)
  expected = np.asarray(image.convert(expected))
  np.testing.assert_array_equal(np.squeeze(photo.pixels), expected, strict=True)
  assert photo.pixels.ndim == 3


def test_pillow_s_images_of_16_bits_and_more():
  grey = pixels(1, np.uint16)
  np.testing.assert_array_equal(to_photo(Image.fromarray(grey[..., 0])).pixels, grey, strict=True)
  for dtype in (np.int32, np.float32):
    with pytest.raises(UserError, match='cannot read the image: floating-point or 32-bit values'):
      to_photo(Image.fromarray(grey[..., 0].astype(dtype)))


def test_pillow_s_images_come_with_all_they_hold(tmp_path):
  content = encoded(RGB, 'PNG', exif=some_exif(), icc_profile=SRGB)
  photo = to_photo(Image.open(io.BytesIO(content)))
  expected = read(content, tmp_path)
  np.testing.assert_array_equal(photo.pixels, expected.pixels)
  assert (photo.metadata.exif, photo.metadata.icc_profile) == (
    expected.metadata.exif,
    expected.metadata.icc_profile,
  )
  assert len(photo.metadata.exif) > 200
  with pytest.raises(UserError, match='cannot read mine: damaged'):
    to_photo(Image.open(io.BytesIO(encoded(RGB, 'JPEG')[:-80])), 'mine')


# GIF, AVIF and HEIC.


def test_a_still_gif(tmp_path):
  photo = read(encoded(PALETTE, 'GIF', comment=b'hello'), tmp_path)
  np.testing.assert_array_equal(photo.pixels, np.asarray(PALETTE.convert('RGB')))
  assert photo.metadata.texts == (('Comment', 'hello'),)
  photo = read(encoded(PALETTE, 'GIF', transparency=3), tmp_path)
  np.testing.assert_array_equal(photo.pixels, PIECES['png P with a transparent colour'][1])


def test_avif(tmp_path):
  content = encoded(RGB, 'AVIF', quality=100, subsampling='4:4:4', exif=some_exif().tobytes())
  photo = read(content, tmp_path)
  assert np.abs(photo.pixels.astype(int) - np.rot90(RGB, -1)).mean() < 2
  assert size_of(tmp_path / 'photo') == (HEIGHT, WIDTH)
  assert (photo.metadata.hdr, photo.metadata.has_other_colours, photo.notes) == (None, False, ())
  assert loaded(photo.metadata.exif)[ExifTags.Base.Make] == 'Maker'
  colours = content.index(b'colrnclx') + 8
  p3 = read(changed(content, colours, b'\0\x0c'), tmp_path)
  assert p3.metadata.has_other_colours
  deep = io.BytesIO(changed(content, content.index(b'pixi') + 9, b'\x0a'))  # Pillow writes 8 bits
  assert formats._coded_colour(deep)[1] == ('10 bits are rounded to 8',)
  for transfer in (b'\0\x10', b'\0\x12'):
    path = tmp_path / 'hdr.avif'
    path.write_bytes(changed(content, colours + 2, transfer))
    for function in (read_photo, size_of):
      with pytest.raises(UserError, match=r'HDR image \(PQ or HLG\); convert it'):
        function(path)
  animation = [Image.fromarray(RGB[::-1])]
  content = encoded(RGB, 'AVIF', save_all=True, append_images=animation, duration=99)
  assert 'animated image' in assert_refused(tmp_path / 'a.avif', content)


def test_heic_names_what_it_needs(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'pillow_heif', None)
  for brand in (b'heic', b'heix', b'mif1', b'msf1', b'hevc'):
    message = assert_refused(tmp_path / 'x.heic', b'\0\0\0\x18ftyp' + brand + b'\0\0\0\0mif1heic')
    assert message.endswith("HEIC needs pillow-heif; pip install 'gfn_jax[heif]'")


def test_heic(tmp_path):
  pillow_heif = pytest.importorskip('pillow_heif')
  file = pillow_heif.from_pillow(Image.fromarray(RGB))
  file.save(tmp_path / 'a.heic', quality=100, exif=some_exif().tobytes())
  photo = read_photo(tmp_path / 'a.heic')
  assert np.abs(photo.pixels.astype(int) - np.rot90(RGB, -1)).mean() < 6
  assert size_of(tmp_path / 'a.heic') == (HEIGHT, WIDTH)
  assert loaded(photo.metadata.exif)[ExifTags.Base.Make] == 'Maker'


# What is refused.


PNG, JPEG, BMP, WEBP = (encoded(RGB, kind) for kind in ('PNG', 'JPEG', 'BMP', 'WEBP'))
TIFF, CMYK_TIFF, TAGGED_TIFF = tiff(RGB), encoded(CMYK, 'TIFF'), turned_and_tagged('TIFF')
DEEP_PNG = imagecodecs.png_encode(pixels(3, np.uint16))
DEEP_TIFF = tiff(pixels(3, np.uint16), compression='zlib')
ALL = {
  'png': PNG,
  'jpg': JPEG,
  'webp': WEBP,
  'bmp': BMP,
  'tif': TIFF,
  'lzw.tif': encoded(RGB, 'TIFF', compression='tiff_lzw'),
  'cmyk.tif': CMYK_TIFF,
  'tagged.tif': TAGGED_TIFF,
  '16.png': DEEP_PNG,
  '16.tif': DEEP_TIFF,
}


@pytest.mark.parametrize('kept', ['header', 'half', 'most', 'all but 8'])
def test_files_that_are_cut_short(tmp_path, kept, capfd):
  for name, content in ALL.items():
    size = len(content)
    end = {'header': 30, 'half': size // 2, 'most': size * 9 // 10, 'all but 8': size - 8}[kept]
    if kept == 'all but 8' and name.endswith(('jpg', 'png')):  # the last 12 hold no pixels
      end = size - 30
    assert_refused(tmp_path / name, content[:end])
  assert capfd.readouterr() == ('', '')


def assert_refused(path, content=None, **options):
  """Reading gives an error of one line that names the file; returns it."""
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(UserError) as error:
    read_photo(path, **options)
  message = str(error.value)
  assert message.isprintable()
  assert message.startswith(f'cannot read {path}: ')
  return message


def changed(content, at, new):
  at = content.index(at) if isinstance(at, bytes) else at
  return content[:at] + new + content[at + len(new) :]


def with_tag(content, tag, value, kind=3, count=1):
  """A TIFF with another value in a tag of its first directory."""
  start = struct.unpack('<I', content[4:8])[0]
  for i in range(struct.unpack('<H', content[start : start + 2])[0]):
    at = start + 2 + 12 * i
    if content[at : at + 2] == struct.pack('<H', tag):
      return changed(content, at, struct.pack('<HHII', tag, kind, count, value))
  raise AssertionError(f'no tag {tag}')


def next_page(content, offset):
  start = struct.unpack('<I', content[4:8])[0]
  end = start + 2 + 12 * struct.unpack('<H', content[start : start + 2])[0]
  return changed(content, end, struct.pack('<I', start if offset is None else offset))


def animated(kind):
  return encoded(RGB, kind, save_all=True, append_images=[Image.fromarray(RGB[::-1])], duration=99)


HUGE = struct.pack('>I', 100_000)
SAYS = {
  'empty': (b'', 'empty file'),
  'a byte': (b'\xff', 'unknown format; convert it to PNG'),
  'zeros': (bytes(1000), 'unknown format'),
  'noise': (np.random.default_rng(0).bytes(1000), 'unknown format'),
  'pcx': (encoded(RGB, 'PCX'), 'unknown format; convert it to PNG, JPEG, WebP, TIFF or BMP'),
  'pdf': (b'%PDF-1.7\n%\xe2\xe3\xcf\xd3\n', r'\(PDF\)'),
  'text': (b'no picture\n', r'\(text\)'),
  'html': (b'\n<!DOCTYPE html><html lang="en">', r'\(web page\)'),
  'svg': (b'<svg xmlns="http://www.w3.org/2000/svg">', r'\(XML or SVG\)'),
  'postscript': (b'%!PS-Adobe-3.0 EPSF-3.0\n', r'\(PostScript\)'),
  'zip': (b'PK\x03\x04' + bytes(30), r'\(archive\)'),
  'avif': (b'\0\0\0\x18ftypavif\0\0\0\0mif1avif', 'damaged or unsupported file'),
  'video': (b'\0\0\0\x18ftypmp42\0\0\0\0mp42isom', r'\(video\)'),
  'raw': (b'\0\0\0\x18ftypcrx \0\0\0\1crx isom', r'\(raw photo\)'),
  'photoshop': (b'8BPS\0\1' + bytes(20), r'\(Photoshop document\)'),
  'jpeg xl': (b'\xff\x0a\xfa\x1f\x01', r'\(JPEG XL\)'),
  'jpeg 2000': (encoded(RGB, 'JPEG2000'), r'\(JPEG 2000\)'),
  'animated png': (
    animated('PNG'),
    'animated image; restore it alone, as .gif or .webp, or save one',
  ),
  'animated webp': (animated('WEBP'), 'animated'),
  'animated gif': (animated('GIF'), 'animated'),
  'tiff of 0 pixels': (with_tag(TIFF, 256, 0), 'image without pixels'),
  'tiff of floats': (tiff(RGB / np.float32(255)), 'floating-point or signed values; convert it'),
  'tiff of signed numbers': (tiff(RGB.astype(np.int16)), 'floating-point or signed values'),
  'tiff of 32 bits': (tiff(RGB.astype(np.uint32)), '32 bits per channel; convert it to 8 or 16'),
  'tiff of 12 bits': (
    tiff(pixels(1, np.uint16)[..., 0] >> 4, photometric='minisblack', bitspersample=12),
    '12 bits per channel; convert it to 8 or 16',
  ),
  'tiff of many channels': (
    tiff(np.zeros((HEIGHT, WIDTH, 9), np.uint8), photometric='minisblack', planarconfig='contig'),
    'channels other than grey or RGB with alpha',
  ),
  'tiff of a preview': (tiff(RGB, subfiletype=1), 'raw photo or preview; develop it'),
  'tiff of a camera': (
    tiff(RGB, extratags=[(50706, 1, 4, b'\1\4\0\0', True)]),
    'raw photo or preview',
  ),
  'tiff of 16 bits in jpegs': (with_tag(DEEP_TIFF, 259, 7), 'unsupported compression'),
  'tiff without pixels': (
    with_tag(TIFF, 273, 0, 4),
    'truncated or damaged file: 600 of 600 pixels are missing; copy it again',
  ),
}


@pytest.mark.parametrize('name', SAYS)
def test_what_is_refused_is_said(tmp_path, name, capfd):
  content, message = SAYS[name]
  path = tmp_path / 'photo.jpg'
  path.write_bytes(content)
  for function in (read_photo, size_of):  # the header says it
    with pytest.raises(UserError, match=message):
      function(path)
  assert_refused(path)
  assert capfd.readouterr() == ('', '')


DAMAGED = {
  'png of 0 pixels': png(0, 5, 8, 2, b''),
  'jpeg of 0 lines': changed(JPEG, JPEG.index(b'\xff\xc0') + 5, b'\0\0'),
  'png header': changed(PNG, 20, b'\x11'),
  'png header too short': b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', bytes(5)),
  'png of an unknown depth': png(4, 4, 7, 2, bytes(99)),
  'png pixels': changed(PNG, PNG.index(b'IDAT') + 300, b'\0\0\0\0'),
  'png checksums': changed(PNG, len(PNG) - 20, bytes(8)),
  'png without pixels': PNG[:33] + chunk(b'IEND', b''),
  'png with too few pixels': png(40, 40, 8, 2, bytes(99)),
  'png without a palette': png(4, 4, 8, 3, bytes(20)),
  'png of 16 bits, pixels': changed(DEEP_PNG, DEEP_PNG.index(b'IDAT') + 300, b'\0\0\0\0'),
  'png of 16 bits, checksums': changed(DEEP_PNG, len(DEEP_PNG) - 20, bytes(8)),
  'png of 16 bits with too few pixels': png(40, 40, 16, 2, bytes(99)),
  'jpeg without a table': changed(JPEG, b'\xff\xdb', b'\xff\xfe'),
  'jpeg quantization': changed(JPEG, JPEG.index(b'\xff\xdb') + 4, b'\x7f'),
  'jpeg of 12 bits': changed(JPEG, JPEG.index(b'\xff\xc0') + 4, b'\x0c'),
  'jpeg of 5 channels': changed(JPEG, JPEG.index(b'\xff\xc0') + 9, b'\x05'),
  'jpeg of markers': b'\xff\xd8' + b'\xff\xe0\0\2' * 1000,
  'jpeg of padding': b'\xff\xd8' + b'\xff' * 1000,
  'webp header': changed(WEBP, 23, b'\0\0\0'),
  'webp of an unknown part': changed(WEBP, 12, b'VP9 '),
  'bmp header': changed(BMP, 14, b'\x29'),
  'bmp depth': changed(BMP, 28, b'\x07'),
  'bmp compression': changed(BMP, 30, b'\x09'),
  'tiff without a page': changed(TIFF, 4, b'\0\0\0\0'),
  'tiff whose page is missing': changed(TIFF, 4, b'\xff\xff\xff\x7f'),
  'tiff of 65535 tags': changed(TIFF, struct.unpack('<I', TIFF[4:8])[0], b'\xff\xff'),
  'tiff that is nothing but tags': b'II*\0\x08\0\0\0' + b'\xff' * 500,
  'tiff without a width': with_tag(TIFF, 256, 0, 2),
  'tiff of an unknown compression': with_tag(TIFF, 259, 65000),
  'tiff of an unknown colour': with_tag(TIFF, 262, 999),
  'tiff of 16 bits, pixels': changed(DEEP_TIFF, DEEP_TIFF.index(b'\x78', 200) + 90, b'\xff' * 99),
  'bigtiff header': b'II+\0\x08\0\0\0' + b'\xff' * 8,
}


@pytest.mark.parametrize('name', DAMAGED)
def test_damaged_files(tmp_path, name, capfd):
  assert_refused(tmp_path / 'photo', DAMAGED[name])
  assert capfd.readouterr() == ('', '')


def test_tiles_that_are_larger_than_memory(tmp_path):
  content = tiff(pixels(3, np.uint16), tile=(16, 16), compression='zlib')
  for tag in (322, 323):
    content = with_tag(content, tag, 1 << 20, 4)
  assert_refused(tmp_path / 'photo', content)


@pytest.fixture
def no_decoder(monkeypatch):
  for owner, name in (
    (Image.core, 'new'),
    (reading.WebPImageFile, 'load'),
    (imagecodecs, 'png_decode'),
    (tifffile.TiffPage, 'asarray'),
  ):
    monkeypatch.setattr(owner, name, None)


@pytest.mark.parametrize(
  'content',
  [
    png(100_000, 100_000, 8, 2, bytes(9)),
    png(100_000, 100_000, 16, 6, bytes(9)),
    changed(JPEG, JPEG.index(b'\xff\xc0') + 5, b'\xff\xff\xff\xff'),
    changed(BMP, 18, HUGE[::-1] + HUGE[::-1]),
    with_tag(with_tag(TIFF, 256, 100_000, 4), 257, 100_000, 4),
    with_tag(with_tag(CMYK_TIFF, 256, 100_000, 4), 257, 100_000, 4),
  ],
)
def test_pictures_with_too_many_pixels_are_not_decoded(tmp_path, content, no_decoder):
  (tmp_path / 'photo').write_bytes(content)
  for function in (read_photo, size_of):
    with pytest.raises(UserError) as error:
      function(tmp_path / 'photo')
    assert str(error.value).startswith(f'cannot read {tmp_path}/photo: ')
    advice = 'pixels; reduce the image, or pass --max_pixels='
    assert f' exceeds the limit of 50,000,000 {advice}' in str(error.value)


def test_a_lower_limit_holds_in_all_formats(tmp_path, no_decoder):
  for name, content in ALL.items():
    message = assert_refused(tmp_path / name, content, max_pixels=599)
    assert '30x20 exceeds the limit of 599 pixels; reduce the image, or pass' in message


def test_how_many_pixels_are_allowed(tmp_path):
  path = tmp_path / 'x.png'
  write_photo(path, Photo(RGB))
  assert read_photo(path, max_pixels=600).pixels.shape == RGB.shape
  with pytest.raises(
    UserError, match='30x20 exceeds the limit of 599 pixels; .* --max_pixels=600$'
  ):
    read_photo(path, max_pixels=599)
  path.write_bytes(png(30_000, 30_000, 8, 2, b''))
  with pytest.raises(UserError, match='the limit of 800,000,000 pixels; reduce the image$'):
    read_photo(path, max_pixels=None)


@pytest.mark.parametrize('limit', [100, 500])  # half of them is an error, one of them a warning
def test_pillow_s_own_limit_is_not_ours(tmp_path, monkeypatch, limit):
  monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', limit)
  for name, content in ALL.items():
    assert sorted(read(content, tmp_path, name).pixels.shape[:2]) == [HEIGHT, WIDTH]
  assert limit == Image.MAX_IMAGE_PIXELS


def special_paths(folder):
  """Paths that are no regular files, and what is said of them."""
  (folder / 'folder.png').mkdir()
  os.mkfifo(folder / 'fifo.png')
  (folder / 'broken.png').symlink_to(folder / 'nowhere')
  (folder / 'loop.png').symlink_to(folder / 'loop.png')
  return {
    folder / 'folder.png': 'expected a file, found a folder',
    folder / 'fifo.png': 'expected a file, found a device or a pipe',
    '/dev/null': 'expected a file, found a device or a pipe',
    folder / 'broken.png': 'link to a missing file',
    folder / 'loop.png': 'Too many levels of symbolic links',
    folder / 'none.png': 'No such file or directory',
    folder / 'folder.png' / 'none.png': 'No such file or directory',
    str(folder / 'a\0b.png'): 'invalid file name',
    folder / ('x' * 300): 'File name too long',
  }


def test_paths_that_are_no_files(tmp_path):
  for path, message in special_paths(tmp_path).items():
    for function in (read_photo, size_of):
      with pytest.raises(UserError, match=f'cannot read .*: {message}') as error:
        function(path)
      assert str(error.value).isprintable()


@pytest.mark.skipif(os.geteuid() == 0, reason='root may read everything')
def test_a_file_that_may_not_be_read(tmp_path):
  (tmp_path / 'x.png').write_bytes(PNG)
  (tmp_path / 'x.png').chmod(0)
  with pytest.raises(UserError, match='cannot read .*x.png: Permission denied'):
    read_photo(tmp_path / 'x.png')


def test_the_message_is_one_line_whatever_the_name(tmp_path):
  path = tmp_path / 'two\nlines\udcff.png'
  path.write_bytes(rb'\(text\)')
  with pytest.raises(UserError, match=r'/two\\nlines\\udcff.png: unsupported format \(text\)'):
    read_photo(path)


def test_nothing_is_printed_and_warnings_are_as_before(tmp_path):
  """In threads, as filters of warnings are the process's; in a process whose warnings are shown."""
  for i in range(8):
    exif = changed(some_exif().tobytes(), 26, b'\xff\xff\xff\xff')
    (tmp_path / f'{i}.jpg').write_bytes(encoded(RGB, 'JPEG', exif=exif))
    (tmp_path / f'{i}.png').write_bytes(PNG[:33] + chunk(b'acTL', bytes(8)) + PNG[33:])
  for name, content in DAMAGED.items():
    (tmp_path / name).write_bytes(content)
  code = """
import concurrent.futures, pathlib, sys, warnings
from gfn_jax.images.reading import read_photo
def read(path):
  try:
    return read_photo(path)
  except ValueError:
    pass
before = list(warnings.filters)
with concurrent.futures.ThreadPoolExecutor(8) as pool:
  list(pool.map(read, pathlib.Path(sys.argv[1]).iterdir()))
assert warnings.filters == before
"""
  command = [sys.executable, '-W', 'always', '-c', code, str(tmp_path)]
  result = subprocess.run(command, capture_output=True, text=True, timeout=60)
  assert (result.returncode, result.stdout, result.stderr) == (0, '', '')


def test_the_last_thread_takes_the_settings_back():
  before = (list(warnings.filters), Image.MAX_IMAGE_PIXELS)
  inside, done, seen = threading.Event(), threading.Event(), []

  def other():
    with decoding.DECODING:
      inside.set()
      done.wait(10)
      warnings.warn('not shown', stacklevel=1)
      seen.append(Image.MAX_IMAGE_PIXELS)

  thread = threading.Thread(target=other)
  with decoding.DECODING:
    thread.start()
    inside.wait(10)
  done.set()
  thread.join(10)
  assert seen == [None]
  assert (list(warnings.filters), Image.MAX_IMAGE_PIXELS) == before


# Writing.


@pytest.mark.parametrize(
  ('name', 'size', 'dtype', 'channels', 'message'),
  [
    (
      'x.gif',
      (1, 1),
      np.uint8,
      3,
      'unknown extension; choose one of .png, .jpg, .jpeg, .jpe, .jfif',
    ),
    ('x', (1, 1), np.uint8, 3, 'unknown extension'),
    ('x.png.', (1, 1), np.uint8, 3, 'unknown extension'),
    (
      'x.jpg',
      (65501, 1),
      np.uint8,
      3,
      '65501x1 exceeds the 65500 pixels per side of JPEG; choose .png',
    ),
    (
      'x.webp',
      (1, 16384),
      np.uint8,
      3,
      '1x16384 exceeds the 16383 pixels per side of WebP; ',
    ),
    (
      'x.png',
      (1, 1_000_001),
      np.uint8,
      1,
      'exceeds the 1000000 pixels per side of PNG; choose .tif',
    ),
    ('x.bmp', (40_000, 40_000), np.uint8, 3, '.*0x.*0 exceeds the 4 GiB of BMP; choose .png'),
    ('x.bmp', (33_000, 33_000), np.uint8, 2, '.*0x.*0 exceeds the 4 GiB of BMP; choose .png'),
    ('x.tif', (40_000, 40_000), np.uint8, 3, '.*0x.*0 exceeds the 4 GiB of TIFF; choose .png'),
    ('x.tiff', (30_000, 30_000), np.uint16, 3, '.*0x.*0 exceeds the 4 GiB of TIFF; choose .png'),
  ],
)
def test_what_a_format_cannot_hold_is_refused(name, size, dtype, channels, message):
  with pytest.raises(UserError, match=f'^{name}: .*{message}'):
    check_target(name, size, dtype, channels)


@pytest.mark.parametrize(
  ('name', 'size', 'dtype', 'channels'),
  [
    ('x.png', (16_000, 12_000), np.uint16, 4),
    ('x.TIF', (16_000, 12_000), np.uint16, 4),
    ('x.jpg', (65500, 65500), np.uint8, 3),
    ('x.webp', (16383, 16383), np.uint8, 4),
    ('x.bmp', (32_000, 32_000), np.uint8, 4),
    ('x.bmp', (32_000, 32_000), np.uint16, 3),
  ],
)
def test_what_a_format_can_hold(name, size, dtype, channels):
  assert check_target(name, size, dtype, channels) is None  # not refused


@pytest.mark.parametrize(
  ('name', 'shape'),
  [('x.png', (1, 1_000_000, 1)), ('x.jpg', (65500, 1, 1)), ('x.webp', (1, 16383, 3))],
)
def test_the_largest_sides_can_be_written(tmp_path, name, shape):
  image = np.full(shape, 99, np.uint8)
  write_photo(tmp_path / name, Photo(image))
  np.testing.assert_array_equal(read_photo(tmp_path / name).pixels, image, strict=True)


@pytest.mark.parametrize(
  ('image', 'error'),
  [
    (np.zeros((4, 4), np.uint8), ValueError),
    (np.zeros((4, 4, 5), np.uint8), ValueError),
    (np.zeros((0, 4, 3), np.uint8), ValueError),
    (np.zeros((4, 4, 3), np.float32), TypeError),
    (np.zeros((4, 4, 3), bool), TypeError),
  ],
)
def test_what_is_no_picture(tmp_path, image, error):
  with pytest.raises(error, match='^pixels must be'):
    write_photo(tmp_path / 'x.png', Photo(image))
  assert os.listdir(tmp_path) == []


@pytest.mark.parametrize('extension', EXTENSIONS)
def test_pixels_may_lie_in_memory_in_any_way(tmp_path, extension):
  view = np.asfortranarray(RGB)[::-1]
  write_photo(tmp_path / f'view{extension}', Photo(view))
  write_photo(tmp_path / f'copy{extension}', Photo(view.copy()))
  files = [(tmp_path / f'{name}{extension}').read_bytes() for name in ('view', 'copy')]
  assert files[0] == files[1]


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='no /dev/full')
@pytest.mark.parametrize('channels', [1, 4])
@pytest.mark.parametrize('extension', EXTENSIONS)
def test_a_full_disk(tmp_path, monkeypatch, extension, channels):
  path = tmp_path / f'x{extension}'
  path.write_bytes(b'old')
  image = pixels(1 if extension.startswith('.j') else channels)
  opened = []

  def full(name, mode):
    opened.append(name)
    return open('/dev/full', mode)

  monkeypatch.setattr(writing, 'open', full, raising=False)
  with pytest.raises(OSError, match='No space left on device') as error:
    write_photo(path, Photo(image))
  assert error.value.filename == str(path)
  assert error.value.errno == 28
  assert len(opened) == 1
  assert path.read_bytes() == b'old'
  assert os.listdir(tmp_path) == [path.name]


def test_a_disk_that_is_full_within_the_last_block(tmp_path):
  """A part of the last block is written, and then no more: as a limit of the size of files does."""
  code = """
import os, resource, signal, sys
import numpy as np
from gfn_jax.images.writing import EXTENSIONS, write_photo
from gfn_jax.images.metadata import Metadata
from gfn_jax.images.reading import Photo
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
photo = Photo(np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8))
paths = [sys.argv[1] + '/x' + extension for extension in EXTENSIONS]
for path in paths:
  write_photo(path, photo)
  resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(path) - 9, resource.RLIM_INFINITY))
  os.remove(path)
  try:
    write_photo(path, photo)
  except OSError as error:
    assert (error.errno, error.filename) == (27, path), error
  else:
    sys.exit(path + ' is cut short')
  resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""
  command = [sys.executable, '-c', code, str(tmp_path)]
  result = subprocess.run(command, capture_output=True, text=True, timeout=60)
  assert (result.returncode, result.stdout, result.stderr) == (0, '', '')
  assert os.listdir(tmp_path) == []


def test_a_folder_that_is_missing(tmp_path):
  with pytest.raises(FileNotFoundError) as error:
    write_photo(tmp_path / 'none' / 'x.png', Photo(RGB))
  assert error.value.filename == str(tmp_path / 'none' / 'x.png')


def test_files_have_the_usual_permissions(tmp_path):
  write_photo(tmp_path / 'x.png', Photo(RGB))
  (tmp_path / 'y').write_bytes(b'')
  modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ('x.png', 'y')}
  assert len(modes) == 1


def test_exif_of_a_tiff_in_the_other_order(tmp_path):
  """Cameras write both; TIFFs are written in one."""
  for endian in '<>':
    exif = some_exif()
    exif.endian = endian
    write_photo(tmp_path / 'x.tif', Photo(pixels(2, np.uint16), Metadata(exif.tobytes())))
    exif = loaded(read_photo(tmp_path / 'x.tif').metadata.exif)
    assert_some_exif(exif, WIDTH, HEIGHT, from_tiff=True)


def test_a_tiff_with_exif_is_one_page_for_others(tmp_path):
  write_photo(tmp_path / 'x.tif', Photo(RGB, Metadata(some_exif().tobytes(), SRGB)))
  with tifffile.TiffFile(tmp_path / 'x.tif') as file:
    [page] = file.pages
    np.testing.assert_array_equal(page.asarray(), RGB)
    assert page.tags['ExifTag'].value['ExposureTime'] == (1, 125)
    assert page.tags['GPSTag'].value['GPSLatitudeRef'] == 'N'
    assert [tag.code for tag in page.tags] == sorted(tag.code for tag in page.tags)


def test_the_directories_of_a_tiff_begin_at_even_places(tmp_path):
  for width in range(1, 9):
    noise = np.random.default_rng(width).integers(0, 256, (3, width, 3), np.uint8)
    write_photo(tmp_path / 'x.tif', Photo(noise, Metadata(some_exif().tobytes())))
    with tifffile.TiffFile(tmp_path / 'x.tif') as file:
      assert file.pages.first.offset % 2 == 0


def test_to_bytes_of_nothing():
  assert metadata.to_bytes(Image.Exif()) == b''


def test_a_package_that_is_missing_is_named(tmp_path, monkeypatch):
  deep = pixels(3, np.uint16)
  contents = {
    'imagecodecs': [DEEP_PNG, tiff(deep, compression='zlib')],
    'tifffile': [TIFF],
  }
  for package, files in contents.items():
    with monkeypatch.context() as patch:
      patch.setitem(sys.modules, package, None)
      for content in files:
        with pytest.raises(UserError, match=rf'cannot import {package} .*; pip install {package}$'):
          read(content, tmp_path)
      name = 'x.png' if package == 'imagecodecs' else 'x.tif'
      with pytest.raises(UserError, match=rf'^cannot write .*{name}: cannot import {package}'):
        write_photo(tmp_path / name, Photo(deep))
      for content in (PNG, JPEG, WEBP, BMP):
        assert read(content, tmp_path).pixels.shape == RGB.shape
  assert not list(tmp_path.glob('x.*'))
