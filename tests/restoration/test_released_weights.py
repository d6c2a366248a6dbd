"""Tiles of the released weights against whole photographs, as `make release` repeats them."""

import numpy as np
import pytest
import skimage.data

from gfn_jax import Restorer, list_pretrained
from gfn_jax.weights.pretrained import load_card

TILE = 192
SIDE = 288  # two tiles a side, which share the 96 pixels of the default overlap


def photos():
  """Yield parts of scikit-image's photographs, sharp and moved by 9 pixels."""
  for name in ('astronaut', 'coffee'):
    photo = getattr(skimage.data, name)()[:SIDE, : SIDE + 8]
    yield name, photo[:, :SIDE]
    shifted = np.stack([photo[:, i : i + SIDE] for i in range(9)])
    yield f'{name}, blurred', shifted.mean(axis=0).round().astype(np.uint8)


@pytest.mark.full
@pytest.mark.parametrize('name', list_pretrained())
def test_tiles_equal_the_whole_photograph(name):
  for output in load_card(name)['bfloat16']:  # the network's outputs
    options = {'output': output, 'dtype': 'float32'}
    whole = Restorer.from_pretrained(name, tile=None, **options)
    tiled = Restorer.from_pretrained(name, tile=TILE, **options)
    for title, photo in photos():
      difference = np.abs(tiled(photo).astype(int) - whole(photo)).max()
      assert difference <= 1, f'{output} of {title}: {difference} of 255'
