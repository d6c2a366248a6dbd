import pytest
import skimage.data
from PIL import Image

from gfn_jax.data.photo_list import ListedPhoto, check_listed, read_photo_list
from gfn_jax.errors import UserError
from gfn_jax.images.folders import list_images

HEADER = 'name,width,height,held_out\n'


@pytest.fixture
def write(tmp_path):
  path = tmp_path / 'list.csv'

  def write_list(content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path

  return write_list


def test_rows_become_photos_in_their_order(write):
  path = write(
    '\ufeffheld_out,licence,name,height,width\r\n'
    '0,CC0-1.0,b/second one,480,640\r\n'
    '1,"MIT, see ""there""",a/first,1024,1\r\n'
  )
  photos = read_photo_list(path)
  assert list(photos.items()) == [
    ('b/second one', ListedPhoto('b/second one', width=640, height=480, held_out=False)),
    ('a/first', ListedPhoto('a/first', width=1, height=1024, held_out=True)),
  ]


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    ('', ', line 1: no column name, width, height, held_out; the header must name name, width,'),
    ('name,height,held_out\na,1,0\n', ', line 1: no column width; the header must name'),
    (HEADER, ' lists nothing; add a row for each photograph'),
    (HEADER + 'a,1,1,0\nb,1,1\n', ', line 3: expected 4 values, found 3; correct the row'),
    (HEADER + 'a,1,1,0\n\nb,1,1,1\n', ', line 3: expected 4 values, found 0; correct the row'),
    (HEADER + 'a,1,1,0,5\n', ', line 2: expected 4 values, found 5; correct the row'),
    (HEADER + 'a,1,1,"0\n', ', line 2: unexpected end of data; correct it'),
    (HEADER + 'a,1,1,0\nb,1,1,0\na,2,2,1\n', ', line 4: a is listed twice; remove one of the'),
    (HEADER + 'a,1.5,1,0\n', ", line 2: width must be a number of pixels, from 1 to 999999, not '"),
    (HEADER + 'a,1,-1,0\n', ', line 2: height must be a number of pixels'),
    (HEADER + 'a,0,1,0\n', ', line 2: width must be a number of pixels'),
    (HEADER + 'a,1,\u0661,0\n', ', line 2: height must be a number of pixels'),
    (HEADER + 'a,1,1,yes\n', ", line 2: held_out must be 0 or 1, not 'yes'"),
    (HEADER + ',1,1,0\n', ", line 2: invalid name ''; give the path below the folder"),
    (HEADER + '../a,1,1,0\n', ", line 2: invalid name '../a'"),
    (HEADER + '/a,1,1,0\n', ", line 2: invalid name '/a'"),
    (HEADER + 'a\\b,1,1,0\n', ', line 2: invalid name '),
    (HEADER + '"a\nb",1,1,0\n', ", line 3: invalid name 'a\\\\nb'"),
    (HEADER + 'a\0,1,1,0\n', ", line 2: invalid name 'a\\\\x00'"),
    (HEADER.encode() + b'\xff,1,1,0\n', None),
  ],
)
def test_malformed_lists_are_refused_in_one_line(write, content, message):
  path = write(content)
  start = f'cannot read {path}: not UTF-8 text' if message is None else f'{path}{message}'
  with pytest.raises(UserError) as caught:
    read_photo_list(path)
  assert str(caught.value).startswith(start.replace('\\\\', '\\'))
  assert '\n' not in str(caught.value)


def test_a_missing_list_is_named(tmp_path):
  path = tmp_path / 'none.csv'
  with pytest.raises(UserError, match=f'^cannot read {path}: No such file or directory$'):
    read_photo_list(path)


@pytest.fixture
def folder(tmp_path):
  """Four photographs of 30x20 pixels and a list of them."""
  root = tmp_path / 'photos'
  for index, name in enumerate(('b/one.png', 'a/two.jpg', 'a/deep/three.jpg', 'four.png')):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(skimage.data.coffee()[20 * index :][:20, :30]).save(path)
  names = {'b/one': False, 'four': True, 'a/deep/three': True, 'a/two': False}
  return root, {name: ListedPhoto(name, 30, 20, held) for name, held in names.items()}


def check(root, photo_list):
  return check_listed(list_images(root, recursive=True), root, photo_list)


def test_paths_are_split_in_the_order_of_the_list(folder):
  root, photo_list = folder
  assert check(root, photo_list) == (
    [f'{root}/b/one.png', f'{root}/a/two.jpg'],
    [f'{root}/four.png', f'{root}/a/deep/three.jpg'],
  )


def test_the_folder_may_be_relative(folder, monkeypatch):
  root, photo_list = folder
  monkeypatch.chdir(root)
  train, held_out = check('.', photo_list)
  assert (train[0], held_out[0]) == ('./b/one.png', './four.png')


def test_other_photographs_are_refused(folder):
  root, photo_list = folder
  for name in ('a/y.png', 'b/four.png', 'x.png', 'z.png'):
    Image.new('RGB', (30, 20)).save(root / name)
  with pytest.raises(UserError) as caught:
    check(root, photo_list)
  assert str(caught.value) == (
    f'{root} does not hold exactly the listed photographs: 4 not on the list (a/y, b/four, x, '
    f'...). Move unlisted images elsewhere, and fetch the others with '
    f'gfn-prepare open_photos --output_dir={root}; or pass --config.data.photo_list= to '
    'train on any photographs'
  )


def test_all_that_differs_is_named_at_once(folder):
  root, photo_list = folder
  (root / 'a/two.jpg').unlink()
  Image.new('RGB', (20, 30)).save(root / 'four.png')
  Image.new('RGB', (30, 20)).save(root / 'line\nbreak.png')
  with pytest.raises(UserError) as caught:
    check(root, photo_list)
  assert str(caught.value).startswith(
    f'{root} does not hold exactly the listed photographs: 1 not on the list (line\\nbreak); '
    f'1 missing (a/two); 1 of another size (four: expected 30x20, found 20x30). Move '
  )


def test_an_image_in_two_formats_is_refused(folder):
  root, photo_list = folder
  Image.new('RGB', (30, 20)).save(root / 'four.jpg')
  with pytest.raises(UserError) as caught:
    check(root, photo_list)
  assert str(caught.value) == (
    f'two images have the same name: {root}/four.jpg and {root}/four.png; remove one'
  )


def test_a_file_that_is_no_image_is_named(folder):
  root, photo_list = folder
  (root / 'four.png').write_bytes(b'x')
  with pytest.raises(UserError, match=f'^cannot read {root}/four.png: '):
    check(root, photo_list)
