import jax.numpy as jnp
import numpy as np

from gfn_jax.ops.symmetries import (
  SYMMETRIES,
  apply_symmetry,
  apply_traced_symmetry,
  undo_symmetry,
)


def test_the_eight_are_different_and_undone():
  image = np.random.default_rng(0).random((2, 3, 4, 1))
  seen = set()
  for symmetry in SYMMETRIES:
    turned = apply_symmetry(image, symmetry)
    assert turned.shape == ((2, 4, 3, 1) if symmetry & 4 else image.shape)
    np.testing.assert_array_equal(undo_symmetry(turned, symmetry), image)
    seen.add(turned.tobytes())
  assert len(seen) == 8


def test_they_are_those_of_turns_and_mirrors():
  image = np.arange(18).reshape(3, 3, 2)
  turned = {np.rot90(image, turns).tobytes() for turns in range(4)}
  turned |= {np.rot90(image[:, ::-1], turns).tobytes() for turns in range(4)}
  assert {apply_symmetry(image, symmetry).tobytes() for symmetry in SYMMETRIES} == turned


def test_a_traced_number_does_the_same():
  image = np.arange(27).reshape(3, 3, 3)
  for symmetry in SYMMETRIES:
    np.testing.assert_array_equal(
      apply_traced_symmetry(jnp.asarray(image), jnp.int32(symmetry)),
      apply_symmetry(image, symmetry),
    )
