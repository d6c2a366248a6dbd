import contextlib
import errno
import itertools
import os
import sys

import imagecodecs
import numpy as np
import pytest
import skimage.data
from PIL import Image

from gfn_jax import UserError
from gfn_jax.restoration import files
from gfn_jax.restoration.files import finish
from gfn_jax.restoration.plan import plan_jobs
from gfn_jax.restoration.report_files import restore_and_report
from gfn_jax.system import memory
from tests.log import Log
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


def restore(sources, target, *, restorer=None, extension=None, **options):
  plan = plan_jobs(sources, target, extension)
  return files.restore_files(restorer or Enlarger(), plan, **options)


def restore_and_print(sources, target, **options):
  plan = plan_jobs(sources, target)
  finish(plan, files.restore_files(Enlarger(), plan, **options))


def read(path):
  with Image.open(path) as image:
    return np.asarray(image)


def tree(folder):
  """Return the paths of the files in a folder, without records."""
  paths = (path for path in folder.rglob('*') if path.parent.name != '.gfn_restore')
  return sorted(str(path.relative_to(folder)) for path in paths if path.is_file())


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


@pytest.mark.parametrize('name', ['a.jpg_large', 'noextension', 'a.b.heic'])
def test_a_file_with_another_extension_becomes_a_png_in_a_folder(tmp_path, name):
  Image.fromarray(PHOTO).save(tmp_path / name, format='JPEG')
  assert restore(tmp_path / name, tmp_path / 'out').restored == 1
  assert tree(tmp_path / 'out') == [f'{os.path.splitext(name)[0]}.png']


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
  plan = plan_jobs(photos, tmp_path / 'out')
  outcome = files.restore_files(Enlarger(), plan)
  assert outcome.restored == 3
  assert tree(tmp_path / 'out') == ['a.png', 'b.bmp', 'deep er/ç\n.png']
  assert [reason.count('\n') for reason in outcome.failures] == [0, 0, 0]
  capsys.readouterr()
  with pytest.raises(UserError, match='3 of 6 files could not be restored: see above'):
    finish(plan, outcome)
  captured = capsys.readouterr()
  assert captured.out == f'3 restored -> {tmp_path}/out/\npassed over: 1 .txt\n'
  lines = captured.err.splitlines()
  assert [name in line for name, line in zip(('aa.png', 'c.jpg', 'd.png'), lines, strict=True)]


def test_what_the_format_cannot_hold_is_refused_before_work(tmp_path):
  Image.fromarray(np.zeros((2, 5000, 3), np.uint8)).save(tmp_path / 'wide.png')
  restorer = Enlarger()
  plan = plan_jobs(tmp_path / 'wide.png', tmp_path / 'wide.webp')
  outcome = files.restore_files(restorer, plan)
  [reason] = outcome.failures
  assert '20000x8' in reason
  assert '16383' in reason
  assert restorer.calls == 0
  with pytest.raises(UserError, match='16383'):
    finish(plan, outcome)


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


@pytest.fixture
def log(monkeypatch):
  """A log of the images that are read and written, by the stems of their names."""
  log = Log()

  def stem(path):
    return os.path.splitext(os.path.basename(path))[0]

  read = log.after(files.read_photo, lambda path, *_: f'read {stem(path)}')
  monkeypatch.setattr(files, 'read_photo', read)
  write = log.after(files.write_photo, lambda path, _: f'write {stem(path)}')
  monkeypatch.setattr(files, 'write_photo', write)
  return log


class Logged(Enlarger):
  """Calls a function with the number of an image, before it is restored."""

  def __init__(self, function):
    super().__init__()
    self.function = function

  def __call__(self, image, progress=None):
    self.function(self.calls)
    return super().__call__(image, progress)


@pytest.fixture
def four(tmp_path):
  """A folder of the images 0.png to 3.png."""
  folder = tmp_path / 'four'
  folder.mkdir()
  for i in range(4):
    Image.fromarray(np.roll(PHOTO, i, axis=1)).save(folder / f'{i}.png')
  return folder


def test_the_next_image_is_read_and_the_last_one_written_meanwhile(
  four, tmp_path, log, monkeypatch
):
  write = files.write_photo

  def write_meanwhile(path, photo):
    number = int(os.path.basename(path)[0])
    if number < 3:
      log.wait_for(f'restore {number + 1}')
    write(path, photo)

  def meanwhile(number):
    log.add(f'restore {number}')
    log.wait_for(*[f'read {number + 1}'] * (number < 3), *[f'write {number - 1}'] * (number > 0))
    assert f'read {number + 2}' not in log.events

  monkeypatch.setattr(files, 'write_photo', write_meanwhile)
  assert restore(four, tmp_path / 'out', restorer=Logged(meanwhile)).restored == 4
  for name in tree(four):
    wanted = read(four / name).repeat(4, axis=0).repeat(4, axis=1)
    np.testing.assert_array_equal(read(tmp_path / 'out' / name), wanted)


def test_without_memory_for_two_images_one_follows_the_other(four, tmp_path, log, monkeypatch):
  monkeypatch.setattr(memory, 'host_bytes', lambda: 8 * PHOTO.nbytes)
  restorer = Logged(lambda number: log.add(f'restore {number}'))
  assert restore(four, tmp_path / 'out', restorer=restorer).restored == 4
  assert log.events == [f'{work} {i}' for i in range(4) for work in ('read', 'restore', 'write')]


def test_failures_are_in_the_order_of_the_files(four, tmp_path, monkeypatch):
  write = files.write_photo

  def fail(path, photo):
    if path.endswith('0.png'):
      raise OSError(errno.EIO, 'Input/output error', path)
    write(path, photo)

  monkeypatch.setattr(files, 'write_photo', fail)
  (four / '1.png').write_bytes(b'no image')
  outcome = restore(four, tmp_path / 'out')
  assert outcome.restored == 2
  assert [reason.count(f'{i}.png') for i, reason in enumerate(outcome.failures)] == [1, 1]


def test_nothing_is_written_after_a_disk_is_full(four, tmp_path, monkeypatch):
  def full(path, photo):
    raise OSError(errno.ENOSPC, 'No space left on device', path)

  monkeypatch.setattr(files, 'write_photo', full)
  restorer = Enlarger()
  with pytest.raises(UserError, match='0.png: No space left on device'):
    restore(four, tmp_path / 'out', restorer=restorer)
  assert restorer.calls == 2
  assert not any(path.is_file() for path in (tmp_path / 'out').rglob('*'))


def test_ctrl_c_waits_for_the_image_that_is_being_written(four, tmp_path, log, monkeypatch):
  write = files.write_photo

  def write_late(path, photo):
    log.wait_for('interrupt')
    write(path, photo)

  def interrupt(number):
    if number == 1:
      log.add('interrupt')
      raise KeyboardInterrupt

  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(files, 'write_photo', write_late)
    restore(four, tmp_path / 'out', restorer=Logged(interrupt))
  assert tree(tmp_path / 'out') == ['0.png']
  outcome = restore(four, tmp_path / 'out')
  assert (outcome.restored, outcome.skipped) == (3, 1)


def test_a_file_that_appears_meanwhile_is_not_replaced(four, tmp_path):
  """Such as the result of another name that differs in its case alone, on some disks."""
  appeared = tmp_path / 'out' / '2.png'

  def appear(number):
    if number == 2:
      appeared.write_bytes(b'the only copy')

  outcome = restore(four, tmp_path / 'out', restorer=Logged(appear))
  assert outcome.restored == 3
  assert outcome.failures == [
    f'{appeared} exists, and has no record of what made it; --overwrite replaces it'
  ]
  assert appeared.read_bytes() == b'the only copy'


def test_results_are_shown_in_the_order_of_the_files(four, tmp_path):
  restore(four / '1.png', tmp_path / 'out')
  shown = []

  def show(job, before, after):
    shown.append(job.name)
    np.testing.assert_array_equal(before, read(job.source))
    np.testing.assert_array_equal(after, read(job.target))

  outcome = restore(four, tmp_path / 'out', on_result=show)
  assert (outcome.restored, outcome.skipped) == (3, 1)
  assert shown == ['0.png', '1.png', '2.png', '3.png']


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
  for name in ('a.PNG', 'b.png', 'deep er/grey.png'):
    path = photos / name if (photos / name).exists() else photos / 'b.bmp'
    with Image.open(path) as image:
      image.convert('RGB').resize((88, 52)).save(targets / name)

  def report(page, **options):
    plan = plan_jobs(photos, tmp_path / 'out')
    return restore_and_report(Enlarger(), plan, page, weights='gfn', **options)

  restore(photos / 'a.png', tmp_path / 'out')
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
  plan = plan_jobs(photos, tmp_path / 'out', '.gif')
  with pytest.raises(UserError, match='a report shows images, not frames'):
    restore_and_report(Filmer(), plan, tmp_path / 'page.html', weights='bmdsrnet')
  assert [path.name for path in tmp_path.iterdir()] == ['photos']


def test_processes_share_a_folder(photos, tmp_path, monkeypatch, capsys):
  (photos / 'bad.png').write_bytes(b'no image')
  restorers = [Enlarger(), Enlarger()]

  def run(index):
    plan = plan_jobs(photos, tmp_path / 'out', '.png')
    outcome = files.restore_files(restorers[index], plan)
    finish(plan, outcome)

  errors = run_together(monkeypatch, 2, run)
  assert [str(error) for error in errors] == ['1 of 4 files could not be restored: see above'] * 2
  assert sorted(restorer.calls for restorer in restorers) == [1, 2]
  assert tree(tmp_path / 'out') == ['a.png', 'b.png', 'deep er/ç\n.png']
  captured = capsys.readouterr()
  assert captured.out == f'3 restored -> {tmp_path}/out/\npassed over: 1 .txt\n'
  assert captured.err.count('bad.png: unsupported format') == 1

  (photos / 'bad.png').unlink()
  assert run_together(monkeypatch, 2, run) == [None, None]
  first, _ = capsys.readouterr().out.splitlines()
  assert first == f'0 restored, 3 existed already (--overwrite) -> {tmp_path}/out/'


def test_processes_that_see_other_folders_are_told(photos, tmp_path, monkeypatch):
  def run(index):
    source = photos if index else photos / 'a.png'
    return files.restore_files(Enlarger(), plan_jobs(source, tmp_path / 'out'))

  for error in run_together(monkeypatch, 2, run):
    assert 'the processes see different images' in str(error)
  assert not (tmp_path / 'out').exists()


def test_sources_are_never_overwritten(photos, tmp_path):
  with pytest.raises(UserError, match='photos would be overwritten; choose another output'):
    plan_jobs(photos, photos)
  originals = {name: (photos / name).read_bytes() for name in tree(photos)}
  [reason] = restore(photos / 'a.png', photos / 'a.png', overwrite=True).failures
  assert (
    reason == f'{photos}/a.png: its result would overwrite {photos}/a.png; choose another output'
  )
  (tmp_path / 'a.png').hardlink_to(photos / 'a.png')
  outcome = restore([photos / 'a.png', photos / 'b.bmp'], tmp_path, overwrite=True)
  assert (outcome.restored, len(outcome.failures)) == (1, 1)
  # The result of one source is another source.
  Image.fromarray(PHOTO).save(tmp_path / 'b.png')
  outcome = restore([tmp_path / 'b.png', photos], photos, extension='.png', overwrite=True)
  assert {name: (photos / name).read_bytes() for name in originals} == originals


def test_two_sources_of_one_target_are_named_and_the_others_restored(photos, tmp_path, capsys):
  Image.fromarray(PHOTO).save(photos / 'a.jpg')
  assert len(plan_jobs(photos, tmp_path / 'out').jobs) == 4
  outcome = restore(photos, tmp_path / 'out', extension='.png')
  assert outcome.restored == 2
  assert tree(tmp_path / 'out') == ['b.png', 'deep er/ç\n.png']
  both = f'would both become {tmp_path}/out/a.png; rename one'
  assert outcome.failures == [
    f'{photos}/a.jpg and {photos}/a.png {both}',
    f'{photos}/a.png and {photos}/a.jpg {both}',
  ]


def test_results_beside_their_sources_are_no_sources(photos):
  assert restore(photos, photos, extension='.png').restored == 1
  assert tree(photos) == ['a.png', 'b.bmp', 'b.png', 'deep er/ç\n.png', 'notes.txt']
  assert read(photos / 'b.png').shape == (52, 88, 3)
  assert read(photos / 'a.png').shape == PHOTO.shape
  assert restore(photos, photos, extension='.png').skipped == 1


def test_several_sources(photos, tmp_path):
  other = tmp_path / 'other'
  other.mkdir()
  Image.fromarray(PHOTO).save(other / 'a.png')
  Image.fromarray(PHOTO).save(tmp_path / 'z.jpe', format='JPEG')
  sources = [photos, f'{other}/', tmp_path / 'z.jpe', tmp_path / 'z.jpe', tmp_path / 'none.jpg']
  outcome = restore(sources, tmp_path / 'out')
  assert outcome.restored == 5
  assert outcome.failures == [f'no such file or folder: {tmp_path}/none.jpg']
  assert tree(tmp_path / 'out') == [
    'other/a.png',
    'photos/a.png',
    'photos/b.bmp',
    'photos/deep er/ç\n.png',
    'z.jpe',
  ]
  assert (tmp_path / 'out' / 'z.jpe').read_bytes()[:2] == b'\xff\xd8'
  plan = plan_jobs([tmp_path / 'out', other], tmp_path / 'out')
  assert plan.passed_over == {'folder of the results': 1}
  assert [job.name for job in plan.jobs] == ['other/a.png']
  outcome = restore([photos / 'a.png', other / 'a.png', photos / 'b.bmp'], tmp_path / 'same')
  assert (outcome.restored, len(outcome.failures)) == (1, 2)
  assert tree(tmp_path / 'same') == ['b.bmp']


@pytest.mark.parametrize('sources', ['photos', 'photos/a.png photos/b.bmp'])
def test_several_results_need_a_folder(photos, tmp_path, monkeypatch, sources):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(UserError, match='^out.png is a file, but several .* write out.png/ for a'):
    plan_jobs(sources.split(), 'out.png')
  assert plan_jobs(sources.split(), 'out.png/').target == 'out.png/'
  os.mkdir('out.png')
  assert plan_jobs(sources.split(), 'out.png').target == 'out.png/'


@pytest.mark.parametrize('name', ['out.heic', 'out.pgn', 'out.tga', 'v1.2'])
def test_a_target_with_an_unknown_extension_is_refused(photos, tmp_path, name):
  for source in (photos, photos / 'a.png'):
    with pytest.raises(UserError, match=f'{name}: unknown extension; .* or write .*{name}/ for a'):
      plan_jobs(source, tmp_path / name)
  assert plan_jobs(photos / 'a.png', f'{tmp_path}/{name}/').jobs[0].target.endswith('/a.png')
  (tmp_path / name).mkdir()
  assert plan_jobs(photos / 'a.png', tmp_path / name).jobs[0].target.endswith('/a.png')


def test_bad_sources_and_targets(photos, tmp_path):
  (tmp_path / 'empty').mkdir()
  (tmp_path / 'empty' / 'a.psd').write_bytes(b'')
  with pytest.raises(UserError, match='no image in .*; extensions are .png.*; passed over: 1 .psd'):
    plan_jobs(tmp_path / 'empty', tmp_path / 'other')
  with pytest.raises(UserError, match='a.png is a file, but several images need a folder'):
    plan_jobs(photos, photos / 'a.png')
  with pytest.raises(UserError, match='^no such file or folder: .*/none$'):
    plan_jobs(tmp_path / 'none', tmp_path / 'out')


def test_everything_else_in_a_folder_is_counted(photos, tmp_path, capsys):
  for name in ('a.PSD', 'b.psd', '.hidden.png', 'noextension', 'c.xcf'):
    (photos / name).write_bytes(b'')
  os.mkfifo(photos / 'fifo.png')
  restore_and_print(photos, tmp_path / 'out')
  assert capsys.readouterr().out.splitlines() == [
    f'3 restored -> {tmp_path}/out/',
    'passed over: 2 .psd, 1 .txt, 1 .xcf, 1 hidden, 1 not a regular file, 1 without extension',
  ]


@pytest.mark.skipif(os.geteuid() == 0, reason='root reads everything')
def test_a_subfolder_that_cannot_be_read_is_one_failure(photos, tmp_path):
  (photos / 'deep er').chmod(0)
  try:
    outcome = restore(photos, tmp_path / 'out')
  finally:
    (photos / 'deep er').chmod(0o755)
  assert outcome.restored == 2
  assert outcome.failures == [f'cannot read {photos}/deep er: Permission denied']


def make_video(path, codec='libx264'):
  av = pytest.importorskip('av')
  with av.open(str(path), 'w') as output:
    stream = output.add_stream(codec, rate=5)
    stream.width, stream.height, stream.pix_fmt = 32, 16, 'yuv420p'
    for shift in range(3):
      frame = av.VideoFrame.from_ndarray(np.roll(skimage.data.astronaut()[:16, :32], shift, axis=1))
      output.mux(stream.encode(frame))
    output.mux(stream.encode(None))


def video_size(path):
  import av

  with av.open(str(path)) as container:
    return [(frame.width, frame.height) for frame in container.decode(video=0)]


class VideoEnlarger(Enlarger):
  """In the place of a `Restorer`, also for the frames of videos."""

  def __call__(self, image, progress=None):
    self.calls += 1
    return image.repeat(4, axis=0).repeat(4, axis=1)


def test_videos_in_a_folder_are_restored_one_by_one(photos, tmp_path):
  make_video(photos / 'm.MP4')
  make_video(photos / 'old.avi', 'mpeg4')
  (photos / 'bad.mov').write_bytes(b'no video')
  outcome = restore(photos, tmp_path / 'out', restorer=VideoEnlarger(), extension='.jpg')
  assert outcome.restored == 5
  [reason] = outcome.failures
  assert 'bad.mov' in reason
  assert tree(tmp_path / 'out') == ['a.jpg', 'b.jpg', 'deep er/ç\n.jpg', 'm.MP4', 'old.mkv']
  for name in ('m.MP4', 'old.mkv'):
    assert video_size(tmp_path / 'out' / name) == 3 * [(128, 64)]
  again = VideoEnlarger()
  outcome = restore(photos, tmp_path / 'out', restorer=again, extension='.jpg')
  assert (outcome.skipped, again.calls) == (5, 0)
  [reason] = restore(photos / 'm.MP4', tmp_path / 'out', settings={'ensemble': True}).failures
  assert reason.endswith('m.MP4 exists, from other settings (ensemble); --overwrite replaces it')


def test_a_video_goes_into_a_folder(tmp_path):
  make_video(tmp_path / 'm.mp4')
  assert restore(tmp_path / 'm.mp4', tmp_path / 'out', restorer=VideoEnlarger()).restored == 1
  assert tree(tmp_path / 'out') == ['m.mp4']


def test_a_linked_folder_is_restored(photos, tmp_path):
  (tmp_path / 'other').mkdir()
  (photos / 'b.bmp').rename(tmp_path / 'other' / 'b.bmp')
  (photos / 'link').symlink_to('../other')
  (tmp_path / 'other' / 'loop').symlink_to(photos)
  plan = plan_jobs(photos, tmp_path / 'out')
  assert files.restore_files(Enlarger(), plan).restored == 3
  assert tree(tmp_path / 'out') == ['a.png', 'deep er/ç\n.png', 'link/b.bmp']
  assert plan.passed_over == {'.txt': 1, 'read already (linked folder)': 1}


def test_videos_are_passed_over_without_pyav(photos, tmp_path, monkeypatch):
  (photos / 'm.mp4').write_bytes(b'')
  (photos / 'n.mp4').write_bytes(b'')
  monkeypatch.setitem(sys.modules, 'av', None)
  plan = plan_jobs(photos, tmp_path / 'out')
  assert len(plan.jobs) == 3
  assert plan.passed_over == {
    '.txt': 1,
    ".mp4 (videos require PyAV: pip install 'gfn_jax[video]')": 2,
  }
  with pytest.raises(UserError, match="^videos require PyAV: pip install 'gfn_jax.video.'$"):
    plan_jobs(photos / 'm.mp4', tmp_path / 'm.mp4')


SETTINGS = {'weights': 'a hash', 'ensemble': False}


def test_results_of_other_settings_are_not_taken_for_finished_ones(photos, tmp_path, capsys):
  out = tmp_path / 'out'
  restore(photos, out, settings=SETTINGS)
  (out / 'b.bmp').unlink()
  Image.fromarray(PHOTO).save(photos / 'a.png', compress_level=0)  # another file
  with pytest.raises(UserError, match='2 of 3 files could not be restored'):
    restore_and_print(photos, out, settings=SETTINGS | {'weights': 'another'})
  output = capsys.readouterr()
  assert output.out.startswith(f'1 restored -> {out}/\n')
  assert output.err.splitlines()[-2:] == [
    f'{out}/a.png exists, from other settings (weights, source); --overwrite replaces it',
    f'{out}/deep er/ç\\n.png exists, from other settings (weights); --overwrite replaces it',
  ]
  assert restore(photos, out, settings=SETTINGS, overwrite=True).restored == 3
  assert restore(photos, out, settings=SETTINGS).skipped == 3


def test_a_file_without_a_record_is_not_a_result(photos, tmp_path):
  (tmp_path / 'out').mkdir()
  (tmp_path / 'out' / 'a.png').write_bytes(b'the only copy')
  outcome = restore(photos, tmp_path / 'out')
  assert (outcome.restored, outcome.skipped) == (2, 0)
  assert outcome.failures == [
    f'{tmp_path}/out/a.png exists, and has no record of what made it; --overwrite replaces it'
  ]
  assert (tmp_path / 'out' / 'a.png').read_bytes() == b'the only copy'


class Inverter(Enlarger):
  """In the place of a `Restorer` with other weights."""

  def __call__(self, image, progress=None):
    return 255 - super().__call__(image, progress)


@pytest.mark.parametrize('replaced', [False, True])
@pytest.mark.parametrize('changes_before_kill', range(4))
def test_no_kill_leaves_a_result_with_the_record_of_another(
  photos, tmp_path, monkeypatch, replaced, changes_before_kill
):
  """Stop before each of the changes to the disk that follow the restoring of an image."""
  source, out = photos / 'a.png', tmp_path / 'out'
  if replaced:
    restore(source, out, restorer=Inverter(), settings={'weights': 'old'})
  changes = itertools.count()

  def stop_or(function):
    def call(*args, **kwargs):
      if next(changes) >= changes_before_kill:
        raise SystemExit  # nothing after it reaches the disk
      return function(*args, **kwargs)

    return call

  with monkeypatch.context() as patch:
    for name in ('replace', 'remove', 'rmdir'):
      patch.setattr(os, name, stop_or(getattr(os, name)))
    with contextlib.suppress(SystemExit):
      restore(source, out, settings={'weights': 'new'}, overwrite=True)
  enlarged = PHOTO.repeat(4, axis=0).repeat(4, axis=1)
  for weights, wanted in (('old', 255 - enlarged), ('new', enlarged)):
    if (out / 'a.png').exists() and restore(source, out, settings={'weights': weights}).skipped:
      np.testing.assert_array_equal(read(out / 'a.png'), wanted)
  if not replaced:  # the same command continues
    assert not restore(source, out, settings={'weights': 'new'}).failures


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
