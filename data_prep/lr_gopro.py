"""Builds LR-GOPRO, GFN's data set, as TFRecords.

  python -m data_prep.lr_gopro --manual_dir=GOPRO_Large --data_dir=tfds

docs/datasets.md tells where to get GOPRO_Large, what is built, and how large it is.
"""

import contextlib
import io
import os
import resource
import signal
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags
from etils import epath

from data_prep import gopro_tree, staging
from gfn_jax.errors import UserError, run_command

# TensorFlow is imported only where it is used: worker processes import this module too.

SOURCES = ('frames', 'hdf5')

_OPEN_FILES = 4096


def build(
  manual_dir: str | os.PathLike,
  data_dir: str | os.PathLike,
  *,
  blur_folder: str = 'blur_gamma',
  float_lr: bool = False,
  source: str = 'frames',
  workers: int = 1,
  beam_runner: str | None = None,
  beam_options: Sequence[str] = (),
  overwrite: bool = False,
) -> Path | epath.Path:
  """Builds the data set, unless it is there already.

  The records and their order do not depend on the number of workers, nor on Beam. A build that
  fails or is interrupted leaves nothing behind, and does not touch an existing data set.

  Args:
    manual_dir: the GOPRO_Large folder (`train` and `test`; a missing one is left out with a
      warning), or the folder of the authors' `*.h5` parts. May be `gs://...`, but for the parts.
    data_dir: where data sets are kept; this one goes to `lr_gopro/<config>/<version>` in it. May be
      `gs://...`.
    blur_folder: 'blur_gamma' (GFN's) or 'blur' (most later deblurring work).
    float_lr: keep the training LR images unquantised, as the authors do, instead of 8-bit.
    source: 'frames', or 'hdf5' for the authors' generated parts (train only).
    workers: processes to use; 0 or 1 means this one alone. With more, a script that calls this
      must guard its own top level with `if __name__ == '__main__':`.
    beam_runner: name of the Apache Beam runner to build with, instead of `workers`; all its workers
      must reach both folders.
    beam_options: Beam's own flags for that runner, such as '--direct_num_workers=4'.
    overwrite: build anew where the data set exists, and replace it when that has succeeded.

  Returns:
    The data set's folder, for `tfds.builder_from_directory`; an `epath.Path` for `gs://...`.

  Raises:
    UserError: for a wrong option, a file that is missing, damaged or not as expected (the message
      names it), or a data_dir that cannot be written.
  """
  manual_dir, data_dir = _absolute(manual_dir), _absolute(data_dir)
  _check_options(source, blur_folder, manual_dir)
  beam = _beam_config(beam_runner, beam_options)
  import tensorflow as tf

  from data_prep import lr_gopro_builder

  with contextlib.suppress(RuntimeError):  # TensorFlow has started already: too late, harmless
    tf.config.set_visible_devices([], 'GPU')

  config = lr_gopro_builder.config_name(source, blur_folder, float_lr)
  target = data_dir / 'lr_gopro' / config / str(lr_gopro_builder.LrGopro.VERSION)
  try:
    if target.exists() and not overwrite:
      print(f'{target} exists already and is left as it is', file=sys.stderr)
      return _returned(target)
    if not manual_dir.is_dir() or not any(manual_dir.iterdir()):
      raise UserError(f'{manual_dir} does not exist or is empty; give the folder of the frames')
    if not _in_cloud(data_dir):
      with staging.staging_folder(data_dir, target) as folder:
        staging.put_in_place(_prepare(manual_dir, folder, config, workers, beam), target, folder)
    elif target.exists():
      raise UserError(f'{target} exists and cannot be replaced at once there; remove it first')
    else:  # TFDS moves it from a folder beside
      _prepare(manual_dir, data_dir, config, workers, beam)
  except UserError:
    raise
  except Exception as error:
    cause = error.__cause__ or error  # TFDS wraps TensorFlow's errors
    if not isinstance(cause, (OSError, tf.errors.OpError)):
      raise
    reason = str(cause).partition('\n')[0]
    # Damaged frames are UserErrors.
    raise UserError(f'cannot write {data_dir}, or read {manual_dir}: {reason}') from error
  return _returned(target)


def _absolute(path: str | os.PathLike) -> epath.Path:
  path = epath.Path(path)
  return path if _in_cloud(path) else path.expanduser().absolute()


def _in_cloud(path: epath.Path) -> bool:
  return '://' in os.fspath(path)


def _returned(path: epath.Path) -> Path | epath.Path:
  return path if _in_cloud(path) else Path(path)  # which can do more


def _check_options(source: str, blur_folder: str, manual_dir: epath.Path) -> None:
  if source not in SOURCES:
    raise UserError(f'source must be one of {", ".join(SOURCES)}, not {source!r}')
  if blur_folder not in gopro_tree.BLUR_FOLDERS:
    folders = ', '.join(gopro_tree.BLUR_FOLDERS)
    raise UserError(f'blur_folder must be one of {folders}, not {blur_folder!r}')
  if source == 'hdf5' and blur_folder != 'blur_gamma':
    raise UserError("the authors' HDF5 parts hold blur_gamma; leave --blur_folder away")
  if source == 'hdf5' and _in_cloud(manual_dir):
    raise UserError(f'HDF5 files cannot be read from {manual_dir}; copy them to a local folder')


def _beam_config(runner: str | None, options: Sequence[str]) -> dict[str, Any]:
  """For TFDS's `DownloadConfig`; empty without Beam."""
  if runner is None:
    if options:
      raise UserError('beam_options are of no use without beam_runner')
    return {}
  try:
    from data_prep import beam_pipeline
  except ImportError as error:
    raise UserError(f"Beam needs {error.name}: pip install 'gfn_jax[train,beam]'") from error
  return beam_pipeline.download_config(runner, options)


def _prepare(
  manual_dir: epath.Path, data_dir: epath.Path, config: str, workers: int, beam: dict[str, Any]
) -> epath.Path:
  import tensorflow_datasets as tfds

  from data_prep import lr_gopro_builder

  empty = lr_gopro_builder.no_windows(manual_dir / 'train')
  with _beam_scratch(data_dir, empty) if beam else contextlib.nullcontext() as scratch:
    builder = lr_gopro_builder.LrGopro(
      num_workers=workers, beam_scratch=scratch, config=config, data_dir=data_dir
    )
    download_config = tfds.download.DownloadConfig(
      manual_dir=manual_dir, try_download_gcs=False, **beam
    )
    _allow_many_open_files()
    tfds.disable_progress_bar()  # ours counts the inputs, whose number is known
    # TFDS announces a folder that is about to be moved.
    with contextlib.redirect_stdout(io.StringIO()):
      builder.download_and_prepare(download_config=download_config)
  return epath.Path(builder.data_dir)


@contextlib.contextmanager
def _beam_scratch(data_dir: epath.Path, if_empty: str) -> Iterator[epath.Path]:
  """A folder that Beam's workers reach too. What they found wrong is raised, or `if_empty`."""
  from data_prep import beam_pipeline

  folder = data_dir / f'.beam.{uuid.uuid4().hex}'
  folder.mkdir(parents=True)
  try:
    yield folder
  except Exception as error:
    beam_pipeline.raise_errors(folder)
    if 'number of generated examples is 0' in str(error):  # TFDS's
      raise UserError(if_empty) from error
    if isinstance(error, RuntimeError):  # of the runner, or a worker's exception as a text
      raise UserError(f'Beam failed: {str(error).strip().splitlines()[-1]}') from error
    raise
  finally:
    folder.rmtree()


def _allow_many_open_files() -> None:
  """TFDS shuffles through 1000 open files, and 1024 is a common limit for all of them."""
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  if 0 <= soft < _OPEN_FILES:
    wanted = min(_OPEN_FILES, hard) if hard >= 0 else _OPEN_FILES
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def summarise(folder: str | os.PathLike) -> str:
  """Says in one line what a built data set holds.

  Args:
    folder: what `build` returned.

  Returns:
    The folder, the examples of each split, and how many training windows were seen and dropped.

  Raises:
    UserError: if the folder is not a complete data set.
  """
  from gfn_jax.data.tfrecords import TFRecordDataset

  try:
    dataset = TFRecordDataset(folder)
  except UserError as error:
    raise UserError(f'{folder} is no complete data set; --overwrite builds it anew') from error
  counts = dataset.metadata['counts']
  splits = ', '.join(f'{split} {dataset.num_examples(split)}' for split in counts)
  windows = ''
  if counts := counts.get('train'):
    windows = (
      f'; training windows: {counts["windows_seen"]} seen, '
      f'{counts["windows_dropped"]} dropped, {counts["windows_kept"]} kept'
    )
  return f'{folder}: {splits} examples{windows}'


def define_flags() -> None:
  """Defines the command's flags; not on import, as this module is also a library."""
  flags.DEFINE_string('manual_dir', None, 'folder of GOPRO_Large, or of the *.h5 parts')
  flags.DEFINE_string('data_dir', None, 'folder in which the data set is written')
  flags.DEFINE_enum(
    'blur_folder', 'blur_gamma', gopro_tree.BLUR_FOLDERS, "GFN's, or that of most later work"
  )
  flags.DEFINE_bool('float_lr', False, 'keep the training LR images unquantised, as float32')
  flags.DEFINE_enum('source', 'frames', SOURCES, "frames, or the GFN authors' HDF5 parts")
  flags.DEFINE_integer('workers', os.cpu_count(), 'processes', lower_bound=0)
  flags.DEFINE_string('beam_runner', None, 'Apache Beam runner to build with, e.g. DataflowRunner')
  flags.DEFINE_list('beam_options', [], "that runner's flags: --name=value,--name=value")
  flags.DEFINE_bool('overwrite', False, 'replace an existing data set')
  flags.mark_flags_as_required(['manual_dir', 'data_dir'])


def main(argv: list[str]) -> None:
  """Builds what the flags say and prints a summary."""
  if argv[1:]:
    raise app.UsageError(f'unexpected argument {argv[1]}')
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the clean-up runs
  values = flags.FLAGS
  if values.beam_runner is not None and values['workers'].present:
    raise UserError('--workers is for builds without --beam_runner; use --beam_options')
  folder = build(
    values.manual_dir,
    values.data_dir,
    blur_folder=values.blur_folder,
    float_lr=values.float_lr,
    source=values.source,
    workers=values.workers,
    beam_runner=values.beam_runner,
    beam_options=values.beam_options,
    overwrite=values.overwrite,
  )
  print(summarise(folder))


if __name__ == '__main__':
  define_flags()
  run_command(main)
