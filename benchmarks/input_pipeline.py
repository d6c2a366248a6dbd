"""Compare ways to store images in TFRecords by size and by speed of reading.

    python -m benchmarks.input_pipeline --data_dir=tfds \
      --output=benchmarks/results/input_pipeline_cpu.json

Some training records of a dataset are stored in several ways and read back in turns, on one core:
shuffled, decoded, in batches, augmented. The figures are processor time, which depends little on
other load on the machine. Skipping to a late step of a pass is timed on many copies of the records.
"""

import contextlib
import io
import itertools
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from absl import flags
from PIL import Image
from tqdm import tqdm

from gfn_jax.cli.runner import run_command
from gfn_jax.errors import UserError
from gfn_jax.system.files import write_json

# TensorFlow and JAX create threads for the visible cores, so import them after the core is set.

DATA_DIR = flags.DEFINE_string('data_dir', None, '8-bit dataset of gfn-prepare.', required=True)
OUTPUT = flags.DEFINE_string('output', None, 'JSON file for the figures.')
RECORDS = flags.DEFINE_integer('records', 200, 'Records to store.', lower_bound=64)
ROUNDS = flags.DEFINE_integer('rounds', 15, 'Timings of each format.', lower_bound=1)
COPIES = flags.DEFINE_integer('copies', 40, 'Copies of the records to skip over.', lower_bound=1)

BATCH = 16
BATCHES = 8  # per round
CHOSEN = 'hr zlib, lr raw'

Images = dict[str, Any]


def main(_):
  """Measure, print and write the figures."""
  os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
  import jax
  import tensorflow as tf
  import tensorflow_datasets as tfds

  from gfn_jax.data.tfrecords import TFRecordDataset

  dataset = TFRecordDataset(DATA_DIR.value)
  if dataset.metadata['lr_quantisation'] != 'uint8':
    raise UserError(f'{dataset.path} has float LR images; pass an 8-bit dataset')
  originals = list(tqdm(dataset.images('train', RECORDS.value), total=RECORDS.value, desc='read'))

  with tempfile.TemporaryDirectory() as folder:
    readers = {}
    for number, (name, (features, convert)) in enumerate(formats().items()):
      path = os.path.join(folder, str(number))
      write(path, features, map(convert, tqdm(originals, desc=name)), dataset.metadata)
      readers[name] = TFRecordDataset(path)
    rates = measure(readers)
    many = os.path.join(folder, 'many')
    features, convert = formats()[CHOSEN]
    repeated = itertools.chain.from_iterable(itertools.repeat(originals, COPIES.value))
    write(many, features, map(convert, tqdm(repeated, desc='copies')), dataset.metadata)
    skipping = measure_skipping(TFRecordDataset(many), many)
    sizes = {name: tfrecord_bytes(reader.path) / len(originals) for name, reader in readers.items()}

  figures = {
    'device': processor(),
    'cores': 1,
    'records': len(originals),
    'batch_size': BATCH,
    'formats': {
      name: {
        'bytes_per_triplet': round(sizes[name]),
        'size_relative_to_png': round(sizes[name] / sizes['png'], 3),
        'triplets_per_second_per_core': rates[name]['with'],
        'without_augmentation': rates[name]['without'],
      }
      for name in readers
    },
    'skipping': skipping,
    'rounds': ROUNDS.value,
    'versions': {module.__name__: module.__version__ for module in (jax, tf, tfds)},
  }
  print(figures)
  if OUTPUT.value:
    write_json(OUTPUT.value, figures)


def formats() -> dict[str, tuple[dict[str, Any], Callable[[Images], Images]]]:
  """Return features, and the function that converts images to a record, by format."""
  import tensorflow_datasets as tfds

  def tensor(dtype: type, encoding: str) -> tfds.features.Tensor:
    return tfds.features.Tensor(shape=(None, None, 3), dtype=dtype, encoding=encoding)

  def same(images: Images) -> Images:
    return images

  def as_png(images: Images) -> Images:
    return {key: png(value) if key != 'name' else value for key, value in images.items()}

  def as_float(images: Images) -> Images:
    return images | {key: images[key] / np.float32(255) for key in ('lr_blur', 'lr')}

  def features(lr: Any, hr: Any) -> dict[str, Any]:
    return {'lr_blur': lr, 'lr': lr, 'hr': hr, 'name': tfds.features.Text()}

  image = tfds.features.Image(shape=(None, None, 3), encoding_format='png')
  raw, zlib = (tensor(np.uint8, encoding) for encoding in ('bytes', 'zlib'))
  raw_float = tensor(np.float32, 'bytes')
  return {
    'png': (features(image, image), as_png),
    'raw': (features(raw, raw), same),
    'zlib': (features(zlib, zlib), same),
    CHOSEN: (features(raw, zlib), same),
    'hr zlib, lr float': (features(raw_float, zlib), as_float),
  }


def png(image: np.ndarray) -> bytes:
  """Encode an image as PNG, as version 1.0.0 of the builder did."""
  buffer = io.BytesIO()
  Image.fromarray(image).save(buffer, 'PNG', compress_level=3)
  return buffer.getvalue()


def write(
  path: str, features: dict[str, Any], examples: Iterator[Images], metadata: dict[str, Any]
) -> None:
  """Write a train split in files of 500 records."""
  import tensorflow_datasets as tfds

  os.mkdir(path)
  identity = tfds.core.dataset_info.DatasetIdentity(
    name='patches', version=tfds.core.Version('1.0.0'), data_dir=path, module_name=__name__
  )
  info = tfds.core.DatasetInfo(
    builder=identity,
    features=tfds.features.FeaturesDict(features),
    metadata=tfds.core.MetadataDict(patch_size=metadata['patch_size']),
  )
  writer = tfds.core.SequentialWriter(info, max_examples_per_shard=500)
  writer.initialize_splits(['train'])
  for example in examples:
    writer.add_examples({'train': [example]})
  writer.close_splits(['train'])


def measure(readers: dict[str, Any]) -> dict[str, dict[str, int]]:
  """Return median triplets per second of one core, with and without augmentation."""
  import jax

  prepare = {name: jax.jit(reader.prepare) for name, reader in readers.items()}
  seconds = {(name, kind): [] for name in readers for kind in ('with', 'without')}
  with contextlib.ExitStack() as stack:
    batches = {
      name: stack.enter_context(contextlib.closing(reader.train_batches(BATCH, 0)))
      for name, reader in readers.items()
    }
    for number in tqdm(range(1 + ROUNDS.value), desc='rounds'):
      for (name, kind), times in seconds.items():
        start = time.process_time()
        for batch in itertools.islice(batches[name], BATCHES):
          if kind == 'with':
            jax.block_until_ready(prepare[name](batch))
        wait_until_idle()  # include the prefetching of as many batches as were taken
        if number:  # the first round compiles and fills the queues
          times.append(time.process_time() - start)
  rates: dict[str, dict[str, int]] = {name: {} for name in readers}
  for (name, kind), times in seconds.items():
    rates[name][kind] = round(BATCH * BATCHES / statistics.median(times))
  return rates


def wait_until_idle() -> None:
  """Wait until the threads of this process are idle."""
  busy = True
  while busy:
    start = time.process_time()
    time.sleep(0.05)
    busy = time.process_time() - start > 0.002


def measure_skipping(dataset: Any, path: str) -> dict[str, Any]:
  """Measure the seconds to the first batch when starting at the first and last step of a pass."""
  last = dataset.steps_per_pass(BATCH) - 1

  def seconds(step: int) -> float:
    start = time.process_time()
    next(dataset.train_batches(BATCH, 0, start_step=step))
    return time.process_time() - start

  first, late = (statistics.median(seconds(step) for _ in range(3)) for step in (0, last))
  return {
    'records_skipped': last * BATCH,
    'gigabytes': round(tfrecord_bytes(path) / 1e9, 2),
    'seconds_to_the_first_step': round(first, 2),
    'seconds_to_the_last_step': round(late, 2),
  }


def tfrecord_bytes(path: str) -> int:
  """Return the size of a dataset's records in bytes."""
  return sum(entry.stat().st_size for entry in os.scandir(path) if '.tfrecord' in entry.name)


def processor() -> str:
  """Return the name of the processor."""
  with contextlib.suppress(OSError), open('/proc/cpuinfo') as file:
    names: Sequence[str] = [line for line in file if line.startswith('model name')]
    if names:
      return names[0].partition(':')[2].strip()
  return platform.processor() or platform.machine()


if __name__ == '__main__':
  run_command(main)
