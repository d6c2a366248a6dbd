"""What the commands that build data sets have in common. Users call the commands.

TensorFlow is imported only where it is used: worker processes import this module too.
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

from data_prep import staging
from gfn_jax.errors import UserError
from gfn_jax.system.files import is_remote

if TYPE_CHECKING:
  from tensorflow_datasets.core import BuilderConfig

  from data_prep.pair_builder import PairBuilder

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
  """Builds a data set, unless it is there already.

  A build that fails or is interrupted leaves nothing behind, and does not touch an existing data
  set.

  Args:
    builder_class: of the data set.
    manual_dir: the folder that the builder reads; may be `gs://...`.
    data_dir: where data sets are kept; this one goes to `<name>[/<config>]/<version>` in it. May be
      `gs://...`.
    config: the builder's config, or the name of one that it lists; None if it has no configs.
    workers: processes to use; 0 or 1 means this one alone.
    beam_runner: name of the Apache Beam runner to build with, instead of `workers`.
    beam_options: Beam's own flags for that runner.
    overwrite: build anew where the data set exists, and replace it when that has succeeded.

  Returns:
    The data set's folder; an `epath.Path` for `gs://...`.

  Raises:
    UserError: for what the builder refuses, wrong Beam options, or a data_dir that cannot be
      written.
  """
  manual_dir, data_dir = _absolute(manual_dir), _absolute(data_dir)
  beam = _beam_config(beam_runner, beam_options)
  import tensorflow as tf

  with contextlib.suppress(RuntimeError):  # TensorFlow has started already: too late, harmless
    tf.config.set_visible_devices([], 'GPU')

  config_name = getattr(config, 'name', config) or ''
  target = data_dir / builder_class.name / config_name / str(builder_class.VERSION)
  make_builder = functools.partial(builder_class, num_workers=workers, config=config)
  try:
    if target.exists() and not overwrite:
      print(f'{target} exists already and is left as it is', file=sys.stderr)
      return _returned(target)
    if not manual_dir.is_dir() or not any(manual_dir.iterdir()):
      raise UserError(f'{manual_dir} does not exist or is empty; give the folder of the frames')
    if not is_remote(data_dir):
      with staging.staging_folder(data_dir, target) as folder:
        staging.put_in_place(_prepare(make_builder, manual_dir, folder, beam), target, folder)
    elif target.exists():
      raise UserError(f'{target} exists and cannot be replaced at once there; remove it first')
    else:  # TFDS moves it from a folder beside
      _prepare(make_builder, manual_dir, data_dir, beam)
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
  """A local path made absolute; an address as it is."""
  path = epath.Path(path)
  return path if is_remote(path) else path.expanduser().absolute()


def _returned(path: epath.Path) -> Path | epath.Path:
  return path if is_remote(path) else Path(path)  # which can do more


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
    The folder, the examples of each split, and how many training windows
    were seen and dropped, if it has windows.

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
  if 'windows_seen' in (train := counts.get('train', {})):
    windows = (
      f'; training windows: {train["windows_seen"]} seen, '
      f'{train["windows_dropped"]} dropped, {train["windows_kept"]} kept'
    )
  return f'{folder}: {splits} examples{windows}'


def define_flags(manual_dir: str) -> None:
  """Defines the flags that all commands have; not on import, as they are libraries too.

  Args:
    manual_dir: what `--help` says of that flag.
  """
  flags.DEFINE_string('manual_dir', None, manual_dir)
  flags.DEFINE_string('data_dir', None, 'folder in which the data set is written')
  flags.DEFINE_integer('workers', os.cpu_count(), 'processes', lower_bound=0)
  flags.DEFINE_string('beam_runner', None, 'Apache Beam runner to build with, e.g. DataflowRunner')
  flags.DEFINE_list('beam_options', [], "that runner's flags: --name=value,--name=value")
  flags.DEFINE_bool('overwrite', False, 'replace an existing data set')
  flags.mark_flags_as_required(['manual_dir', 'data_dir'])


def run(argv: list[str], build: Callable[..., Path | epath.Path], *own_flags: str) -> None:
  """Builds what the flags say and prints a summary.

  Args:
    argv: the command's arguments that are not flags; there must be none.
    build: of the command; takes the flags as arguments of the same names.
    *own_flags: the flags that only this command has.
  """
  if argv[1:]:
    raise app.UsageError(f'unexpected argument {argv[1]}')
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the clean-up runs
  values = flags.FLAGS
  if values.beam_runner is not None and values['workers'].present:
    raise UserError('--workers is for builds without --beam_runner; use --beam_options')
  names = (*own_flags, 'workers', 'beam_runner', 'beam_options', 'overwrite')
  folder = build(values.manual_dir, values.data_dir, **{name: values[name].value for name in names})
  print(summarise(folder))
