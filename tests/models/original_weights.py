"""The original networks' tensors under their names, filled by a formula, as our parameters."""

import hashlib
import pathlib
import zlib

import jax
import numpy as np

from gfn_jax.interop.conversion import convert, to_torch
from gfn_jax.models import create_model, variable_shapes

FIXTURES = pathlib.Path(__file__).parents[1] / 'fixtures'


def fill(key: str, torch_shape: tuple[int, ...]) -> np.ndarray:
  """The formula of the fixtures: normal numbers seeded by the tensor's name."""
  z = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(torch_shape)
  if len(torch_shape) >= 4:
    return (z * 0.7 / np.sqrt(np.prod(torch_shape[1:]))).astype(np.float32)
  if torch_shape == (1,) and 'weight' in key:  # the slope of a PReLU
    return np.full(torch_shape, 0.25, np.float32)
  return (z * 0.02).astype(np.float32)


def original_state(model_name: str, fill=fill, /, **options) -> dict[str, np.ndarray]:
  """The tensors of an original network, each filled by the formula, but for its constants."""
  shapes = variable_shapes(create_model(model_name, **options))['params']
  zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
  state = to_torch(model_name, {'params': zeros}, **options)
  return {
    key: tensor if np.any(tensor) else fill(key, tensor.shape) for key, tensor in state.items()
  }


def original_params(model_name: str = 'gfn', fill=fill, /, **options):
  """Parameters of a full-size network with every tensor filled by the formula."""
  return convert(model_name, original_state(model_name, fill, **options), **options)['params']


def names_digest(state) -> str:
  """The SHA-256 of the sorted names and shapes of tensors: lines such as `head.0.bias (64,)`."""
  lines = sorted(f'{name} {tuple(tensor.shape)}' for name, tensor in state.items())
  return hashlib.sha256('\n'.join(lines).encode()).hexdigest()


def read_fixture(name: str) -> dict[str, np.ndarray]:
  """Inputs and outputs of an original network with these weights, NHWC."""
  with np.load(FIXTURES / f'{name}.npz') as file:
    return {key: file[key].transpose(0, 2, 3, 1) for key in file.files}


def errors(found, expected: np.ndarray) -> np.ndarray:
  """The largest difference in each image, relative to that image's standard deviation."""
  axes = (1, 2, 3)
  return np.abs(found - expected).max(axes) / expected.std(axes)


def assert_parity(found: jax.Array, expected: np.ndarray, tolerance: float = 5e-5) -> None:
  """Compare images with those of an original network, in their standard deviations."""
  np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * expected.std())
