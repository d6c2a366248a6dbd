"""Metadata of all kinds, from each format to each other."""

import dataclasses
import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from gfn_jax import UserError
from gfn_jax.images.animations import write_animation
from gfn_jax.images.metadata import COMMENT, Metadata, Resolution, as_resource, iptc_in, load
from gfn_jax.images.reading import Photo, read_photo
from gfn_jax.images.writing import EXTENSIONS, conversion_notes, write_photo

RGB = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
IPTC = b'\x1c\x02x\x00\x07caption'
XMP = (
  b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description tiff:Orientation="1"'
  b' dc:title="Z\xc3\xbcrich"/></rdf:RDF></x:xmpmeta>'
)
WITHOUT_PLACE = {
  '.png': set(),
  '.jpg': set(),
  '.tif': {'texts'},
  '.webp': {'iptc', 'texts'},
  '.avif': {'iptc', 'texts'},
  '.bmp': {'xmp', 'iptc', 'texts'},
}


def exif_of(*, x=300, y=300, unit=2):
  exif = Image.Exif()
  exif[ExifTags.Base.XResolution], exif[ExifTags.Base.YResolution] = x, y
  exif[ExifTags.Base.ResolutionUnit] = unit
  return exif.tobytes()


def enlarged(photo, factor=4):
  return dataclasses.replace(photo, pixels=photo.pixels.repeat(factor, 0).repeat(factor, 1))


def written(path, photo):
  write_photo(path, photo)
  return read_photo(path).metadata


def png(*chunks):
  """A PNG with chunks before its pixels."""
  buffer = io.BytesIO()
  Image.fromarray(RGB).save(buffer, 'PNG')
  content = buffer.getvalue()
  parts = (
    struct.pack('>I', len(data)) + kind + data + zlib.crc32(kind + data).to_bytes(4)
    for kind, data in chunks
  )
  return content[:33] + b''.join(parts) + content[33:]


def read(path, content):
  path.write_bytes(content)
  return read_photo(path)


@pytest.mark.parametrize('target', list(WITHOUT_PLACE))
@pytest.mark.parametrize('source', list(WITHOUT_PLACE))
def test_metadata_go_from_one_format_to_another(tmp_path, source, target):
  everything = Metadata(
    xmp=XMP, iptc=IPTC, texts=((COMMENT, 'hëllo'),), resolution=Resolution(300, 300)
  )
  write_photo(tmp_path / f'a{source}', Photo(RGB, everything))
  read = read_photo(tmp_path / f'a{source}')
  found = written(tmp_path / f'b{target}', enlarged(read))
  for field in ('xmp', 'iptc', 'texts'):
    lost = field in WITHOUT_PLACE[source] | WITHOUT_PLACE[target]
    wanted = type(getattr(everything, field))() if lost else getattr(everything, field)
    assert getattr(found, field) == wanted
  with Image.open(
    tmp_path / f'b{target}'
  ) as image:  # as others see it: as large as before in print
    if target in ('.webp', '.avif'):
      assert image.getexif()[ExifTags.Base.XResolution] == pytest.approx(1200, abs=0.1)
    else:
      assert image.info['dpi'] == pytest.approx((1200, 1200), abs=0.1)


def test_other_programs_find_what_is_written(tmp_path):
  photo = Photo(RGB, Metadata(xmp=XMP, iptc=IPTC, texts=((COMMENT, 'hello'),)))
  for extension in ('.jpg', '.png', '.webp', '.avif', '.tif'):
    write_photo(tmp_path / f'x{extension}', photo)
    with Image.open(tmp_path / f'x{extension}') as image:
      assert image.info['xmp'] == XMP
      if extension == '.jpg':
        assert image.info['photoshop'][0x0404] == IPTC
        assert image.info['comment'] == b'hello'
      if extension == '.png':
        lines = image.info['Raw profile type iptc'].split('\n')
        assert lines[1:3] == ['iptc', f'{len(as_resource(IPTC)):8d}']
        assert image.info[COMMENT] == 'hello'
  with tifffile.TiffFile(tmp_path / 'x.tif') as tiff:
    assert tiff.pages.first.tags[33723].value == IPTC


def test_the_resolution_of_a_jpeg_is_scaled_or_kept(tmp_path):
  cases = {
    b'\1\1\x2c\1\x2c': ((300, 300), b'\1\4\xb0\4\xb0'),  # per inch
    b'\2\0\x64\0\x64': ((254, 254), b'\1\3\xf8\3\xf8'),  # per centimetre
    b'\0\0\2\0\1': (None, b'\0\0\2\0\1'),  # the sides of a pixel
    b'\0\0\1\0\1': (None, b'\0\0\1\0\1'),  # unknown
  }
  buffer = io.BytesIO()
  Image.fromarray(RGB).save(buffer, 'JPEG')
  for fields, (kept, scaled) in cases.items():
    photo = read(tmp_path / 'a.jpg', buffer.getvalue()[:13] + fields + buffer.getvalue()[18:])
    write_photo(tmp_path / 'b.jpg', enlarged(photo))
    assert (tmp_path / 'b.jpg').read_bytes()[13:18] == scaled
    write_photo(tmp_path / 'c.jpg', photo)
    with Image.open(tmp_path / 'c.jpg') as image:
      assert image.info.get('dpi') == kept


def test_the_resolution_of_a_png_is_scaled(tmp_path):
  for fields in (struct.pack('>IIB', 11811, 5906, 1), struct.pack('>IIB', 2, 1, 0)):
    photo = read(tmp_path / 'a.png', png((b'pHYs', fields)))
    factor = 4 if fields[-1] else 1
    write_photo(tmp_path / 'b.png', enlarged(photo))
    content = (tmp_path / 'b.png').read_bytes()
    at = content.index(b'pHYs') + 4
    x, y, unit = struct.unpack('>IIB', fields)
    assert struct.unpack('>IIB', content[at : at + 9]) == (factor * x, factor * y, unit)
    write_photo(tmp_path / 'b.tif', enlarged(photo))
    with tifffile.TiffFile(tmp_path / 'b.tif') as tiff:
      tags = tiff.pages.first.tags
      ratio = np.divide(*tags['XResolution'].value) / np.divide(*tags['YResolution'].value)
      assert ratio == pytest.approx(x / y, rel=1e-3)
      assert tags['ResolutionUnit'].value == (2 if unit else 1)


def test_exif_s_resolution_is_scaled_apart_and_turns_with_the_image(tmp_path):
  exif = Image.Exif()
  exif.load(exif_of(x=100, y=50, unit=3))
  exif[ExifTags.Base.Orientation] = 6
  exif[ExifTags.IFD.Exif] = {
    ExifTags.Base.FocalPlaneXResolution: 1000,
    ExifTags.Base.FocalPlaneYResolution: 500,
  }
  Image.fromarray(RGB).save(tmp_path / 'a.jpg', exif=exif, dpi=(72, 36))
  photo = read_photo(tmp_path / 'a.jpg')
  assert photo.metadata.resolution == (36, 72, True)
  for extension in ('.jpg', '.png', '.tif', '.webp'):
    write_photo(tmp_path / f'b{extension}', enlarged(photo, 2))
    with Image.open(tmp_path / f'b{extension}') as image:
      found = image.getexif()
      details = found.get_ifd(ExifTags.IFD.Exif)
    wanted = (100, 200, 3) if extension in ('.jpg', '.png') else (72, 144, 2)
    tags = (ExifTags.Base.XResolution, ExifTags.Base.YResolution, ExifTags.Base.ResolutionUnit)
    assert tuple(found[tag] for tag in tags) == wanted
    assert details[ExifTags.Base.FocalPlaneYResolution] == 2000


def test_the_size_may_be_that_of_the_image(tmp_path):
  """Metadata without a size are those of the pixels: nothing is scaled."""
  write_photo(
    tmp_path / 'a.png', Photo(RGB, Metadata(exif=exif_of(), resolution=Resolution(90, 90)))
  )
  with Image.open(tmp_path / 'a.png') as image:
    assert image.info['dpi'] == pytest.approx((90, 90), abs=0.1)
    assert image.getexif()[ExifTags.Base.XResolution] == 300


@pytest.mark.parametrize('unit', [2, 3])
def test_the_resolution_of_a_tiff(tmp_path, unit):
  tifffile.imwrite(
    tmp_path / 'a.tif', RGB, photometric='rgb', resolution=(100, 50), resolutionunit=unit
  )
  photo = read_photo(tmp_path / 'a.tif')
  description = ExifTags.Base.ImageDescription
  assert description not in load(photo.metadata.exif)  # tifffile's has the old size
  inch = {2: 1, 3: 2.54}[unit]
  for extension in ('.tif', '.png', '.jpg', '.bmp'):
    write_photo(tmp_path / f'b{extension}', enlarged(photo))
    with Image.open(tmp_path / f'b{extension}') as image:
      assert image.info['dpi'] == pytest.approx((400 * inch, 200 * inch), abs=0.6)
  with tifffile.TiffFile(tmp_path / 'b.tif') as tiff:
    assert tiff.pages.first.asarray().shape == (24, 32, 3)
    assert 'ImageDescription' not in tiff.pages.first.tags


@pytest.mark.parametrize('kind', ['LONG', 'BYTE', 'photoshop'])
def test_iptc_of_a_tiff_in_all_its_types(tmp_path, kind):
  padded = IPTC + bytes(-len(IPTC) % 4)
  tag = {
    'LONG': (33723, 4, len(padded) // 4, struct.unpack(f'<{len(padded) // 4}I', padded), True),
    'BYTE': (33723, 1, len(IPTC), IPTC, True),
    'photoshop': (34377, 1, len(as_resource(IPTC)), as_resource(IPTC), True),
  }[kind]
  tifffile.imwrite(tmp_path / 'a.tif', RGB, photometric='rgb', extratags=[tag], byteorder='<')
  assert read_photo(tmp_path / 'a.tif').metadata.iptc == IPTC


def test_iptc_among_other_resources():
  other = b'8BIM' + struct.pack('>H', 1005) + b'\3abc' + struct.pack('>I', 3) + b'xyz\0'
  assert iptc_in(other + as_resource(IPTC) + other) == IPTC
  assert iptc_in(other) == b''
  for damaged in (b'', b'8BIM', b'8BIM\4\4', b'8BIM\4\4\xff', as_resource(IPTC)[:9]):
    assert iptc_in(damaged) in (b'', IPTC)


XMP_BEFORE = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description tiff:Orientation="6"
 exif:PixelXDimension='8' tiff:XResolution="300/1" hdrgm:Version="1.0" dc:format="image/jpeg">
<tiff:ImageWidth>8</tiff:ImageWidth> 7
<tiff:ImageLength>6</tiff:ImageLength><GPano:FullPanoHeightPixels>60</GPano:FullPanoHeightPixels>
<Container:Directory><rdf:Seq><rdf:li Container:Item="2"/></rdf:Seq></Container:Directory>
<xmp:Thumbnails><rdf:Alt>/9j/4AAQ</rdf:Alt></xmp:Thumbnails></rdf:Description></rdf:RDF></x:xmpmeta>"""
XMP_AFTER = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description tiff:Orientation="1"
 exif:PixelXDimension='24' tiff:XResolution="1200/1" dc:format="image/jpeg">
<tiff:ImageWidth>24</tiff:ImageWidth> 7
<tiff:ImageLength>32</tiff:ImageLength><GPano:FullPanoHeightPixels>240</GPano:FullPanoHeightPixels>

</rdf:Description></rdf:RDF></x:xmpmeta>"""


def test_xmp_describes_the_result(tmp_path):
  """It is upright and larger, and has no thumbnail, gain map or other images."""
  Image.fromarray(RGB).save(tmp_path / 'a.webp', xmp=XMP_BEFORE)
  photo = read_photo(tmp_path / 'a.webp')
  assert photo.pixels.shape == (8, 6, 3)  # turned
  assert written(tmp_path / 'b.webp', enlarged(photo)).xmp == XMP_AFTER


def test_damaged_xmp_takes_no_time():
  for xmp in (b'<hdrgm:a>' * 10**5, b'<hdrgm:a' * 10**5, b' hdrgm:a="' * 10**5):
    assert Metadata(xmp=xmp, size=(1, 1)).for_size((4, 4)).xmp in (b'', xmp)


def test_the_texts_of_a_png(tmp_path):
  info = PngInfo()
  info.add_text('parameters', 'a cat, Steps: 20')
  info.add_itxt('Title', '猫')
  info.add_text('Raw profile type exif', '\nexif\n       4\n49492a00\n')
  Image.fromarray(RGB).save(tmp_path / 'a.png', pnginfo=info)
  content = (tmp_path / 'a.png').read_bytes()
  late = b'Comment\0after the pixels'
  chunk = struct.pack('>I', len(late)) + b'tEXt' + late + zlib.crc32(b'tEXt' + late).to_bytes(4)
  photo = read(tmp_path / 'a.png', content[:-12] + chunk + content[-12:])
  wanted = (('parameters', 'a cat, Steps: 20'), ('Title', '猫'), ('Comment', 'after the pixels'))
  assert photo.metadata.texts == wanted
  write_photo(tmp_path / 'b.png', photo)
  with Image.open(tmp_path / 'b.png') as image:
    assert image.text == dict(wanted)
  assert written(tmp_path / 'b.jpg', photo).texts == (('Comment', 'after the pixels'),)
  assert conversion_notes('b.jpg', photo) == ('JPEG has no place for: text',)


CICP = {'PQ': b'\x09\x10\0\1', 'HLG': b'\x09\x12\0\1', 'P3': b'\x0c\x0d\0\1', 'sRGB': b'\1\x0d\0\1'}


@pytest.mark.parametrize('name', CICP)
def test_coded_colours_of_a_png_are_kept_or_refused(tmp_path, name):
  photo = read(tmp_path / 'a.png', png((b'cICP', CICP[name])))
  assert written(tmp_path / 'b.png', photo).colour == ((b'cICP', CICP[name]),)
  for extension in set(EXTENSIONS) - {'.png'}:
    path = tmp_path / f'b{extension}'
    if name in ('PQ', 'HLG'):
      with pytest.raises(UserError, match=rf'b{extension}: .* HDR .*\({name}\); choose .png$'):
        write_photo(path, photo)
      assert not path.exists()
    else:
      write_photo(path, photo)
      notes = conversion_notes(path, photo)
      assert [note.endswith('for: gamma and primaries') for note in notes] == [True] * (
        name == 'P3'
      )


def test_gamma_and_primaries_of_a_png(tmp_path):
  srgb = struct.pack('>8I', 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
  linear = (b'gAMA', struct.pack('>I', 100000))
  usual = ((b'gAMA', struct.pack('>I', 45455)), (b'cHRM', srgb))
  for chunks, notes in ((usual, 0), ((linear,), 1), ((linear, (b'sRGB', b'\0')), 0)):
    photo = read(tmp_path / 'a.png', png(*chunks))
    assert written(tmp_path / 'b.png', photo).colour == chunks
    assert len(conversion_notes('b.jpg', photo)) == notes


def test_nothing_but_the_colours_stays_when_stripped(tmp_path):
  metadata = Metadata(
    exif_of(), b'a profile', XMP, IPTC, (('a', 'b'),), ((b'sRGB', b'\0'),), Resolution(9, 9), (8, 6)
  )
  for field in dataclasses.fields(Metadata):
    assert getattr(metadata, field.name) not in (b'', (), None)
  stripped = metadata.stripped()
  assert stripped == Metadata(icc_profile=b'a profile', colour=((b'sRGB', b'\0'),))
  write_photo(tmp_path / 'a.png', Photo(RGB, stripped))
  with Image.open(tmp_path / 'a.png') as image:
    image.load()
    assert set(image.info) == {'icc_profile', 'srgb'}


def test_the_zero_at_the_end_of_a_comment_is_left_out(tmp_path):
  Image.fromarray(RGB).save(tmp_path / 'a.jpg', comment=b'LEAD V1.01\0')
  assert read_photo(tmp_path / 'a.jpg').metadata.texts == ((COMMENT, 'LEAD V1.01'),)


def test_what_is_too_long_for_a_jpeg_is_left_out(tmp_path):
  long = Metadata(xmp=bytes(70_000), iptc=bytes(70_000), texts=((COMMENT, 'x' * 70_000),))
  found = written(tmp_path / 'a.jpg', Photo(RGB, long))
  assert (found.xmp, found.iptc, found.texts) == (b'', b'', ())


def test_an_animation_of_webp_keeps_its_part(tmp_path):
  metadata = Metadata(
    xmp=XMP, icc_profile=b'a profile', resolution=Resolution(300, 300), size=(8, 6)
  )
  write_animation(tmp_path / 'a.webp', np.stack([RGB, RGB[::-1]]), metadata)
  with Image.open(tmp_path / 'a.webp') as image:
    assert (image.info['xmp'], image.info['icc_profile']) == (XMP, b'a profile')
    assert image.getexif()[ExifTags.Base.XResolution] == 300


@pytest.mark.parametrize(('channels', 'name'), [(2, 'L'), (4, 'RGB')])
@pytest.mark.parametrize('extension', ['.jpg', '.webp', '.bmp', '.avif', '.png', '.tif'])
def test_opaque_alpha_and_16_bits_are_converted(tmp_path, extension, channels, name):
  deep = np.full((6, 8, channels), 1000 * 257 // 8, np.uint16)
  deep[..., -1] = 65535
  photo, path = Photo(deep), tmp_path / f'x{extension}'
  notes = conversion_notes(path, photo)
  write_photo(path, photo)
  found = read_photo(path).pixels
  kept = {'.png', '.tif'}
  assert any('16 bits' in note for note in notes) == (extension not in kept)
  assert any('opaque alpha' in note for note in notes) == (extension == '.jpg')
  if extension in kept:
    np.testing.assert_array_equal(found, deep, strict=True)
    return
  assert found.dtype == np.uint8
  with Image.open(path) as image:
    assert image.mode == {'.jpg': name, '.bmp': 'RGBA'}.get(extension, 'RGB')
  assert np.abs(found[..., : channels - 1].astype(int) - 125).max() <= 1
  deep[0, 0, -1] = 65534
  if extension == '.jpg':
    with pytest.raises(UserError, match='x.jpg: JPEG does not support transparency; choose .png'):
      conversion_notes(path, photo)
    with pytest.raises(UserError, match='does not support transparency'):
      write_photo(path, photo)
