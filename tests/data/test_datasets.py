import itertools

import jax
import numpy as np
import pytest
import skimage.data
from PIL import Image

from gfn_jax.configs import defaults
from gfn_jax.data.datasets import open_dataset


@pytest.fixture
def data(tmp_path, monkeypatch):
  """Return a config's section `data` with two photographs and simple blur, for one core."""
  monkeypatch.setattr('os.cpu_count', lambda: 1)
  for name in ('astronaut', 'coffee'):
    Image.fromarray(getattr(skimage.data, name)()).save(tmp_path / f'{name}.png')
  config = defaults.photos().data
  config.update(photos=str(tmp_path), held_out=1, margin=8, photo_scales=(1.0,))
  nothing = (0.0, 0.0)
  config.motion_blur.camera.update(frames=3, regions=0, shot_noise=nothing, read_noise=nothing)
  return config.to_dict()


def test_a_clean_dataset_has_the_sharp_image_as_its_input(data):
  blurred, clean = open_dataset(data), open_dataset(data | {'clean': True})
  assert clean.metadata == blurred.metadata | {'clean': True}
  assert (clean.path, clean.scale, clean.has_frames) == (blurred.path, 4, False)
  assert clean.steps_per_pass(1) == blurred.steps_per_pass(1) == 1
  options = dict(crop_size=16, start_step=0, process_index=0, process_count=1)
  batches = [
    jax.jit(dataset.prepare)(*itertools.islice(dataset.train_batches(2, 0, **options), 1))
    for dataset in (blurred, clean)
  ]
  images = [next(dataset.images('test')) for dataset in (blurred, clean)]
  for with_blur, without in (batches, images):
    assert set(without) - {'name'} == {'lr_blur', 'hr'}
    np.testing.assert_array_equal(without['lr_blur'], with_blur['lr'])
    np.testing.assert_array_equal(without['hr'], with_blur['hr'])
    assert np.any(np.asarray(without['lr_blur']) != np.asarray(with_blur['lr_blur']))
