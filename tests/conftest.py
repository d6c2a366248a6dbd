"""Set up eight CPU devices for all tests, and provide sample data."""

import gc
import os
import pathlib
import signal
import threading

from tests.xla_flags import COMPILE_FAST

os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['XLA_FLAGS'] = f'--xla_force_host_platform_device_count=8 {COMPILE_FAST}'
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
# As in the Makefile, to leave the cache of the user alone.
_CACHE = pathlib.Path(__file__).parent.parent / '.cache' / 'jax'
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(_CACHE))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.1')

# At Python's default, 700 objects, the collector takes a quarter of the time of tracing a network.
gc.set_threshold(50_000, 20, 20)

# A shell starts jobs in the background with SIGINT ignored, and processes of tests inherit that.
if threading.current_thread() is threading.main_thread():
  signal.signal(signal.SIGINT, signal.default_int_handler)

import jax  # noqa: E402

jax.config.update('jax_numpy_rank_promotion', 'raise')

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import skimage.data  # noqa: E402
from PIL import Image  # noqa: E402
from scipy import ndimage  # noqa: E402


@pytest.fixture(scope='session')
def gopro_tree(tmp_path_factory):
  """Return two photographs in GOPRO_Large's layout, with a horizontal blur of 9 pixels."""
  root = tmp_path_factory.mktemp('gopro')
  photos = {'train': skimage.data.astronaut(), 'test': skimage.data.coffee()[:128, :192]}
  for split, sharp in photos.items():
    blur = ndimage.uniform_filter1d(sharp.astype(np.float32), 9, axis=1)
    for kind, image in (('sharp', sharp), ('blur_gamma', np.round(blur).astype(np.uint8))):
      folder = root / split / 'sequence' / kind
      folder.mkdir(parents=True)
      Image.fromarray(image).save(folder / '000001.png')
  return root


@pytest.fixture(scope='session')
def dataset_dir(gopro_tree, tmp_path_factory):
  """Return LR-GOPRO of `gopro_tree`: 11 training patches and 1 test image."""
  from gfn_jax.data_prep import lr_gopro

  return lr_gopro.build(gopro_tree, tmp_path_factory.mktemp('tfds'))


@pytest.fixture(scope='session')
def photos_dir(tmp_path_factory):
  """Return a folder of three sharp photographs."""
  root = tmp_path_factory.mktemp('photos')
  photos = {'a': skimage.data.astronaut(), 'b': skimage.data.chelsea(), 'c': skimage.data.coffee()}
  for name, image in photos.items():
    Image.fromarray(image[:200, :240]).save(root / f'{name}.png')
  return root
