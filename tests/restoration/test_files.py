import errno
import os

import imagecodecs
import numpy as np
import pytest
import skimage.data
from PIL import Image

from gfn_jax import UserError
from gfn_jax.restoration import files
from gfn_jax.restoration.files import finish, plan_jobs
from gfn_jax.restoration.report_files import restore_and_report
from tests.processes import run_together


class Enlarger:
  """In the place of a `Restorer`: repeats pixels."""

  scale = 4
  output = 'hr'
  model = None

  def __init__(self):
    self.calls = 0

  def __call__(self, image, progress=None):
    self.calls += 1
    for done in range(1, 4):
      progress(done, 3)
    return image.repeat(4, axis=0).repeat(4, axis=1)


class Filmer:
  """In the place of a `Restorer` of frames: moves the image."""

  scale = 1
  output = 'frames'
  model = None

  def __init__(self):
    self.calls = 0

  def __call__(self, image, progress=None):
    self.calls += 1
    return np.stack([np.roll(image, 2 * i, axis=1) for i in range(7)])


PHOTO = skimage.data.astronaut()[40:53, 200:222]


@pytest.fixture
def photos(tmp_path):
  """A folder with images at two levels."""
  folder = tmp_path / 'photos'
  (folder / 'deep er').mkdir(parents=True)
  Image.fromarray(PHOTO).save(folder / 'a.png')
  Image.fromarray(PHOTO[::-1]).save(folder / 'b.bmp')
  Image.fromarray(PHOTO[:, ::-1]).save(folder / 'deep er' / 'ç\n.png')
  (folder / 'notes.txt').write_text('no image')
  return folder


def restore(source, target, *, restorer=None, extension=None, **options):
  jobs = plan_jobs(source, target, extension)
  return files.restore_files(restorer or Enlarger(), jobs, **options)


def read(path):
  with Image.open(path) as image:
    return np.asarray(image)


def tree(folder):
  return sorted(str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file())


def test_a_folder_keeps_its_structure_and_formats(photos, tmp_path):
  outcome = restore(photos, tmp_path / 'out')
  assert (outcome.restored, outcome.skipped, outcome.failures) == (3, 0, [])
  assert tree(tmp_path / 'out') == ['a.png', 'b.bmp', 'deep er/ç\n.png']
  for name in tree(tmp_path / 'out'):
    wanted = read(photos / name).repeat(4, axis=0).repeat(4, axis=1)
    np.testing.assert_array_equal(read(tmp_path / 'out' / name), wanted)
  assert (tmp_path / 'out' / 'b.bmp').read_bytes()[:2] == b'BM'


def test_a_format_for_all(photos, tmp_path):
  restore(photos, tmp_path / 'out', extension='.tif')
  assert tree(tmp_path / 'out') == ['a.tif', 'b.tif', 'deep er/ç\n.tif']
  assert (tmp_path / 'out' / 'b.tif').read_bytes()[:2] in (b'II', b'MM')


@pytest.mark.parametrize(
  ('target', 'wanted'),
  [('out.bmp', 'out.bmp'), ('out', 'out/a.png'), ('new/deep/out.PNG', 'new/deep/out.PNG')],
)
def test_a_file_becomes_a_file_or_goes_into_a_folder(photos, tmp_path, target, wanted):
  assert restore(photos / 'a.png', tmp_path / target).restored == 1
  assert read(tmp_path / wanted).shape == (52, 88, 3)


def test_what_is_finished_is_skipped_or_redone(photos, tmp_path):
  restore(photos, tmp_path / 'out')
  (tmp_path / 'out' / 'a.png').unlink()
  Image.fromarray(PHOTO).save(tmp_path / 'out' / 'b.bmp')  # another; not touched
  again = Enlarger()
  outcome = restore(photos, tmp_path / 'out', restorer=again)
  assert (outcome.restored, outcome.skipped, again.calls) == (1, 2, 1)
  assert read(tmp_path / 'out' / 'b.bmp').shape == PHOTO.shape
  outcome = restore(photos, tmp_path / 'out', overwrite=True)
  assert (outcome.restored, outcome.skipped) == (3, 0)
  assert read(tmp_path / 'out' / 'b.bmp').shape == (52, 88, 3)


def test_a_target_below_the_source_is_no_source(photos):
  assert restore(photos, photos / 'out').restored == 3
  assert restore(photos, photos / 'out').skipped == 3
  assert restore(photos, f'{photos}/deep er/../out', overwrite=True).restored == 3
  assert not (photos / 'out' / 'out').exists()


def test_a_bad_file_does_not_stop_the_rest(photos, tmp_path, capsys):
  (photos / 'aa.png').write_bytes((photos / 'a.png').read_bytes()[:200])
  (photos / 'c.jpg').write_text('<html>')
  (photos / 'd.png').symlink_to(photos / 'nowhere.png')
  outcome = restore(photos, tmp_path / 'out')
  assert outcome.restored == 3
  assert tree(tmp_path / 'out') == ['a.png', 'b.bmp', 'deep er/ç\n.png']
  assert [reason.count('\n') for reason in outcome.failures] == [0, 0, 0]
  capsys.readouterr()
  with pytest.raises(UserError, match='3 of 6 images could not be restored: see above'):
    finish(outcome)
  captured = capsys.readouterr()
  assert captured.out == '3 restored\n'
  lines = captured.err.splitlines()
  assert [name in line for name, line in zip(('aa.png', 'c.jpg', 'd.png'), lines, strict=True)]


def test_what_the_format_cannot_hold_is_refused_before_work(tmp_path):
  Image.fromarray(np.zeros((2, 5000, 3), np.uint8)).save(tmp_path / 'wide.png')
  restorer = Enlarger()
  outcome = restore(tmp_path / 'wide.png', tmp_path / 'wide.webp', restorer=restorer)
  [reason] = outcome.failures
  assert '20000x8' in reason
  assert '16383' in reason
  assert restorer.calls == 0
  with pytest.raises(UserError, match='16383'):
    finish(outcome)


def test_large_images_are_refused(photos, tmp_path):
  [reason] = restore(photos / 'a.png', tmp_path / 'a.png', max_pixels=285).failures
  assert '--max_pixels' in reason
  assert restore(photos / 'a.png', tmp_path / 'a.png', max_pixels=286).restored == 1


def test_an_interruption_leaves_whole_files(photos, tmp_path, monkeypatch):
  write = Image.Image.save

  def interrupted(image, file, *args, **kwargs):
    write(image, file, *args, **kwargs)
    if 'b' in os.path.basename(os.fspath(getattr(file, 'name', file))):
      raise KeyboardInterrupt

  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(Image.Image, 'save', interrupted)
    restore(photos, tmp_path / 'out')
  assert tree(tmp_path / 'out') == ['a.png']
  outcome = restore(photos, tmp_path / 'out')
  assert (outcome.restored, outcome.skipped) == (2, 1)


def test_a_full_disk_ends_it(photos, tmp_path, monkeypatch):
  def full(path, photo):
    raise OSError(errno.ENOSPC, 'No space left on device', path)

  monkeypatch.setattr(files, 'write_photo', full)
  with pytest.raises(UserError, match='a.png: No space left on device; free some space and'):
    restore(photos, tmp_path / 'out')


def test_a_target_that_cannot_be_written_is_named(photos, tmp_path):
  (tmp_path / 'out').mkdir()
  (tmp_path / 'out' / 'deep er').write_text('a file where a folder should be')
  outcome = restore(photos, tmp_path / 'out')
  assert outcome.restored == 2
  [reason] = outcome.failures
  assert 'deep er: File exists' in reason


def test_out_of_memory_is_one_images_failure(photos, tmp_path):
  class Small(Enlarger):
    def __call__(self, image, progress=None):
      if not self.calls:
        self.calls = 1
        raise MemoryError
      return super().__call__(image, progress)

  outcome = restore(photos, tmp_path / 'out', restorer=Small())
  assert outcome.restored == 2
  assert outcome.failures == [f'{photos}/a.png: out of memory']


def test_a_page_shows_what_was_restored_and_what_was_there(photos, tmp_path):
  (photos / 'deep er' / 'ç\n.png').unlink()
  Image.fromarray(PHOTO[..., 0]).save(photos / 'deep er' / 'grey.png')
  targets = tmp_path / 'hr'
  (targets / 'deep er').mkdir(parents=True)
  for name in ('a.png', 'b.png', 'deep er/grey.png'):
    path = photos / name if (photos / name).exists() else photos / 'b.bmp'
    with Image.open(path) as image:
      image.convert('RGB').resize((88, 52)).save(targets / name)

  def report(page, **options):
    jobs = plan_jobs(photos, tmp_path / 'out')
    return restore_and_report(Enlarger(), jobs, page, weights='gfn', **options)

  (tmp_path / 'out').mkdir()
  Image.fromarray(PHOTO.repeat(4, axis=0).repeat(4, axis=1)).save(tmp_path / 'out' / 'a.png')
  outcome = report(tmp_path / 'page.html', target_dir=targets, protocol='cnlrn')
  assert (outcome.restored, outcome.skipped, outcome.failures) == (2, 1, [])
  page = (tmp_path / 'page.html').read_text()
  assert all(text in page for text in ('a.png', 'b.bmp', 'deep er/grey.png', 'cnlrn', '88 × 52'))
  report(tmp_path / 'plain.html')
  assert 'cnlrn' not in (tmp_path / 'plain.html').read_text()

  (targets / 'b.png').unlink()
  with pytest.raises(UserError, match='b.bmp has no target in .*hr'):
    report(tmp_path / 'none.html', target_dir=targets)
  assert not (tmp_path / 'none.html').exists()


def test_frames_become_animations(photos, tmp_path):
  imagecodecs.imwrite(photos / '16 bits.png', PHOTO.astype(np.uint16) * 257)
  outcome = restore(photos, tmp_path / 'out', restorer=Filmer(), extension='.gif')
  assert (outcome.restored, outcome.failures) == (4, [])
  assert tree(tmp_path / 'out') == ['16 bits.gif', 'a.gif', 'b.gif', 'deep er/ç\n.gif']
  gifs = [tmp_path / 'out' / name for name in ('a.gif', '16 bits.gif')]
  assert gifs[0].read_bytes() == gifs[1].read_bytes()
  with Image.open(gifs[0]) as image:
    assert (image.n_frames, image.size) == (12, (22, 13))
  again = Filmer()
  outcome = restore(photos, tmp_path / 'out', restorer=again, extension='.gif')
  assert (outcome.skipped, again.calls) == (4, 0)


def test_a_webp_of_frames_keeps_what_belongs_to_the_photo(tmp_path):
  exif = Image.Exif()
  exif[0x010F] = 'maker'
  Image.fromarray(PHOTO).save(tmp_path / 'a.jpg', exif=exif, icc_profile=b'a profile')
  assert restore(tmp_path / 'a.jpg', tmp_path / 'a.webp', restorer=Filmer()).restored == 1
  with Image.open(tmp_path / 'a.webp') as image:
    assert image.n_frames == 12
    assert image.getexif()[0x010F] == 'maker'
    assert image.info['icc_profile'] == b'a profile'


@pytest.mark.parametrize('name', ['a.png', 'a.mp4', 'new/a.TIF'])
def test_frames_are_not_written_as_something_else(photos, tmp_path, name):
  filmer = Filmer()
  [reason] = restore(photos / 'a.png', tmp_path / name, restorer=filmer).failures
  assert reason == f'{tmp_path}/{name}: frames become an animation; choose .gif or .webp'
  assert filmer.calls == 0
  assert not (tmp_path / name).exists()


@pytest.mark.parametrize('name', ['a.gif', 'a.mp4'])
def test_an_image_is_not_written_as_something_else(photos, tmp_path, name):
  [reason] = restore(photos / 'a.png', tmp_path / name).failures
  assert f'{name}: unknown extension; choose one of .png' in reason
  assert not (tmp_path / name).exists()


def test_a_report_shows_no_frames(photos, tmp_path):
  jobs = plan_jobs(photos, tmp_path / 'out', '.gif')
  with pytest.raises(UserError, match='a report shows images, not frames'):
    restore_and_report(Filmer(), jobs, tmp_path / 'page.html', weights='bmdsrnet')
  assert [path.name for path in tmp_path.iterdir()] == ['photos']


def test_processes_share_a_folder(photos, tmp_path, monkeypatch, capsys):
  (photos / 'bad.png').write_bytes(b'no image')
  restorers = [Enlarger(), Enlarger()]

  def run(index):
    jobs = plan_jobs(photos, tmp_path / 'out', '.png')
    outcome = files.restore_files(restorers[index], jobs)
    finish(outcome)

  errors = run_together(monkeypatch, 2, run)
  assert [str(error) for error in errors] == ['1 of 4 images could not be restored: see above'] * 2
  assert sorted(restorer.calls for restorer in restorers) == [1, 2]
  assert tree(tmp_path / 'out') == ['a.png', 'b.png', 'deep er/ç\n.png']
  captured = capsys.readouterr()
  assert captured.out == '3 restored\n'
  assert captured.err.count('bad.png: unsupported format') == 1

  (photos / 'bad.png').unlink()
  assert run_together(monkeypatch, 2, run) == [None, None]
  assert capsys.readouterr().out == '0 restored, 3 existed already (--overwrite)\n'


def test_processes_that_see_other_folders_are_told(photos, tmp_path, monkeypatch):
  def run(index):
    source = photos if index else photos / 'a.png'
    return files.restore_files(Enlarger(), plan_jobs(source, tmp_path / 'out'))

  for error in run_together(monkeypatch, 2, run):
    assert 'the processes see different images' in str(error)
  assert not (tmp_path / 'out').exists()


def test_sources_are_never_overwritten(photos):
  with pytest.raises(UserError, match='a.png would be overwritten; choose another output'):
    plan_jobs(photos, photos)
  with pytest.raises(UserError, match='a.png would be overwritten'):
    plan_jobs(photos / 'a.png', photos / 'a.png')


def test_two_sources_of_one_name_are_refused(photos, tmp_path):
  Image.fromarray(PHOTO).save(photos / 'a.jpg')
  assert len(plan_jobs(photos, tmp_path / 'out')) == 4
  with pytest.raises(UserError, match='a.png and .*a.jpg would both become .*a.png; rename one'):
    plan_jobs(photos, tmp_path / 'out', '.png')


def test_bad_sources_and_targets(photos, tmp_path):
  with pytest.raises(UserError, match='no image in .*out; extensions are .png'):
    (tmp_path / 'out').mkdir()
    plan_jobs(tmp_path / 'out', tmp_path / 'other')
  with pytest.raises(UserError, match='a.png is a file; pass a folder for the images of a folder'):
    plan_jobs(photos, photos / 'a.png')


def test_notes_on_sources_name_them_and_conversions_are_said_once(tmp_path, capsys):
  folder = tmp_path / 'photos'
  folder.mkdir()
  for name in ('a', 'b'):
    imagecodecs.imwrite(folder / f'{name}.png', PHOTO.astype(np.uint16) * 257)
    content = (folder / f'{name}.png').read_bytes()
    (folder / f'{name}.png').write_bytes(content[:-12])
  outcome = restore(folder, tmp_path / 'out', extension='.jpg')
  assert (outcome.restored, outcome.failures) == (2, [])
  lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith(str(tmp_path))]
  assert lines == [
    f'{folder}/a.png: the end of the file is missing, but no pixel',
    f'{folder}/a.png: JPEG does not support 16 bits: they are rounded to 8',
    f'{folder}/b.png: the end of the file is missing, but no pixel',
  ]


def test_metadata_are_those_of_the_result_or_stripped(tmp_path):
  Image.fromarray(PHOTO).save(tmp_path / 'a.jpg', dpi=(300, 300), comment=b'hello')
  restore(tmp_path / 'a.jpg', tmp_path / 'b.jpg')
  restore(tmp_path / 'a.jpg', tmp_path / 'c.jpg', strip=True)
  with Image.open(tmp_path / 'b.jpg') as kept, Image.open(tmp_path / 'c.jpg') as stripped:
    assert (kept.info['dpi'], kept.info['comment']) == ((1200, 1200), b'hello')
    assert not {'dpi', 'comment'} & set(stripped.info)


def test_what_cannot_be_written_in_its_own_format_becomes_a_png(tmp_path):
  Image.fromarray(PHOTO).quantize(200).save(tmp_path / 'a.gif')
  Image.fromarray(PHOTO).save(tmp_path / 'b.JFIF', 'JPEG')
  for name, result in (('a.gif', 'a.png'), ('b.JFIF', 'b.JFIF')):
    restore(tmp_path / name, tmp_path / 'out')
    with Image.open(tmp_path / 'out' / result) as image:
      assert (image.size, image.format) == ((88, 52), 'PNG' if result == 'a.png' else 'JPEG')
