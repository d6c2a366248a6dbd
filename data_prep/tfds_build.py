"""Shared code of the commands that build data sets.

TensorFlow is imported only on use, because worker processes import this module too.
"""

import contextlib
import functools
import io
import os
import resource
import signal
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import app, flags
from etils import epath

from gfn_jax.data_prep import staging
from gfn_jax.errors import UserError, install_extra
from gfn_jax.system.files import is_remote

if TYPE_CHECKING:
  from tensorflow_datasets.core import BuilderConfig

  from gfn_jax.data_prep.pair_builder import PairBuilder

_OPEN_FILES = 4096


def build(
  builder_class: 'type[PairBuilder]',
  manual_dir: str | os.PathLike,
  data_dir: str | os.PathLike,
  *,
  config: 'str | BuilderConfig | None' = None,
  workers: int = 1,
  beam_runner: str | None = None,
  beam_options: Sequence[str] = (),
  overwrite: bool = False,
) -> Path | epath.Path:
  """Build a data set, unless it exists already.

  A failed or interrupted build leaves no files, and does not change an existing data set.

  Args:
    builder_class: builder of the data set.
    manual_dir: folder that the builder reads; may be `gs://...`.
    data_dir: parent folder of all data sets. This one is written to `<name>[/<config>]/<version>`.
      May be `gs://...`.
    config: the builder's config or its name; None if the builder has no configs.
    workers: number of processes; 0 or 1 uses only the current one.
    beam_runner: name of the Apache Beam runner to use instead of `workers`.
    beam_options: Beam options for that runner.
    overwrite: rebuild an existing data set, and replace it when the build has succeeded.

  Returns:
    Folder of the data set; an `epath.Path` for `gs://...`.

  Raises:
    UserError: for input that the builder rejects, invalid Beam options, or a data_dir that cannot
      be written.
  """
  manual_dir, data_dir = _absolute(manual_dir), _absolute(data_dir)
  beam = _beam_config(beam_runner, beam_options)
  import tensorflow as tf

  with contextlib.suppress(RuntimeError):  # TensorFlow is already initialised, which is harmless
    tf.config.set_visible_devices([], 'GPU')

  config_name = getattr(config, 'name', config) or ''
  target = data_dir / builder_class.name / config_name / str(builder_class.VERSION)
  make_builder = functools.partial(builder_class, num_workers=workers, config=config)
  try:
    if target.exists() and not overwrite:
      print(f'{target} exists already and is kept; --overwrite rebuilds it', file=sys.stderr)
      return _as_path(target)
    if not manual_dir.is_dir() or not any(manual_dir.iterdir()):
      raise UserError(f'{manual_dir} does not exist or is empty; pass the folder of the frames')
    if not is_remote(data_dir):
      with staging.staging_folder(data_dir, target) as folder:
        staging.put_in_place(_prepare(make_builder, manual_dir, folder, beam), target, folder)
    elif target.exists():
      raise UserError(f'{target} exists and cannot be replaced atomically; remove it first')
    else:  # TFDS builds in a sibling folder and moves it
      _prepare(make_builder, manual_dir, data_dir, beam)
  except UserError:
    raise
  except Exception as error:
    cause = error.__cause__ or error  # TFDS wraps TensorFlow's errors
    if not isinstance(cause, (OSError, tf.errors.OpError)):
      raise
    reason = str(cause).partition('\n')[0]
    raise UserError(f'cannot write {data_dir}, or read {manual_dir}: {reason}') from error
  return _as_path(target)


def _absolute(path: str | os.PathLike) -> epath.Path:
  """Return a local path as an absolute one, and a remote path unchanged."""
  path = epath.Path(path)
  return path if is_remote(path) else path.expanduser().absolute()


def _as_path(path: epath.Path) -> Path | epath.Path:
  return path if is_remote(path) else Path(path)


def _beam_config(runner: str | None, options: Sequence[str]) -> dict[str, Any]:
  """Return the Beam arguments of TFDS's `DownloadConfig`; empty without Beam."""
  if runner is None:
    if options:
      raise UserError('beam_options require beam_runner')
    return {}
  try:
    from gfn_jax.data_prep import beam_pipeline
  except ImportError as error:
    raise UserError(f'Beam requires {error.name}: {install_extra("train,beam")}') from error
  return beam_pipeline.download_config(runner, options)


def _prepare(
  make_builder: 'functools.partial[PairBuilder]',
  manual_dir: epath.Path,
  data_dir: epath.Path,
  beam: dict[str, Any],
) -> epath.Path:
  import tensorflow_datasets as tfds

  empty = make_builder.func.none_kept(manual_dir)
  with _beam_scratch(data_dir, empty) if beam else contextlib.nullcontext() as scratch:
    builder = make_builder(beam_scratch=scratch, data_dir=data_dir)
    download_config = tfds.download.DownloadConfig(
      manual_dir=manual_dir, try_download_gcs=False, **beam
    )
    _allow_many_open_files()
    tfds.disable_progress_bar()  # ours shows the progress over the inputs
    # TFDS prints the temporary folder.
    with contextlib.redirect_stdout(io.StringIO()):
      builder.download_and_prepare(download_config=download_config)
  return epath.Path(builder.data_dir)


@contextlib.contextmanager
def _beam_scratch(data_dir: epath.Path, if_empty: str) -> Iterator[epath.Path]:
  """Create a folder for Beam workers, and raise their errors, or `if_empty` without examples."""
  from gfn_jax.data_prep import beam_pipeline

  folder = data_dir / f'.beam.{uuid.uuid4().hex}'
  folder.mkdir(parents=True)
  try:
    yield folder
  except Exception as error:
    beam_pipeline.raise_errors(folder)
    if 'number of generated examples is 0' in str(error):  # message of TFDS
      raise UserError(if_empty) from error
    if isinstance(error, RuntimeError):  # raised by the runner
      raise UserError(f'Beam failed: {str(error).strip().splitlines()[-1]}') from error
    raise
  finally:
    folder.rmtree()


def _allow_many_open_files() -> None:
  """Raise the limit on open files: TFDS shuffles with 1000, and 1024 is a common limit."""
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  if 0 <= soft < _OPEN_FILES:
    wanted = min(_OPEN_FILES, hard) if hard >= 0 else _OPEN_FILES
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def summarise(folder: str | os.PathLike) -> str:
  """Summarise a built data set in one line.

  Args:
    folder: folder of the data set, as returned by `build`.

  Returns:
    The folder, the number of examples of each split, and, if the data set has training windows, the
    numbers of windows seen, dropped and kept.

  Raises:
    UserError: if the folder is not a complete data set.
  """
  from gfn_jax.data.tfrecords import TFRecordDataset

  try:
    dataset = TFRecordDataset(folder)
  except UserError as error:
    raise UserError(f'{folder} is not a complete data set; --overwrite rebuilds it') from error
  counts = dataset.metadata['counts']
  splits = ', '.join(f'{split} {dataset.num_examples(split)}' for split in counts)
  windows = ''
  if 'windows_seen' in (train := counts.get('train', {})):
    windows = (
      f'; training windows: {train["windows_seen"]} seen, '
      f'{train["windows_dropped"]} dropped, {train["windows_kept"]} kept'
    )
  return f'{folder}: {splits} examples{windows}'


def define_flags(manual_dir: str) -> None:
  """Define the flags that all commands for TFRecords share.

  Args:
    manual_dir: help text of the flag `manual_dir`.
  """
  define_folder_flags(manual_dir)
  flags.DEFINE_string('beam_runner', None, 'Apache Beam runner to build with, e.g. DataflowRunner')
  flags.DEFINE_list('beam_options', [], 'flags of that runner: --name=value,--name=value')


def define_folder_flags(manual_dir: str) -> None:
  """Define the flags of a build from one folder to another, without Apache Beam.

  Args:
    manual_dir: help text of the flag `manual_dir`.
  """
  flags.DEFINE_string('manual_dir', None, manual_dir)
  flags.DEFINE_string('data_dir', None, 'folder to write the data set to')
  flags.DEFINE_integer('workers', os.cpu_count(), 'processes', lower_bound=0)
  flags.DEFINE_bool('overwrite', False, 'replace an existing data set')
  flags.mark_flags_as_required(['manual_dir', 'data_dir'])


def run(argv: list[str], build: Callable[..., Path | epath.Path], *own_flags: str) -> None:
  """Build the data set that the flags describe, and print a summary.

  Args:
    argv: command-line arguments other than flags; only the command's name is allowed.
    build: build function of the command. It takes the flags as arguments of the same names.
    *own_flags: flags that only this command has.
  """
  if argv[1:]:
    raise app.UsageError(f'unexpected argument {argv[1]}')
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # run the clean-up
  values = flags.FLAGS
  if values.beam_runner is not None and values['workers'].present:
    raise UserError('--workers excludes --beam_runner; use --beam_options')
  names = (*own_flags, 'workers', 'beam_runner', 'beam_options', 'overwrite')
  folder = build(values.manual_dir, values.data_dir, **{name: values[name].value for name in names})
  print(summarise(folder))
