import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gfn_jax import UserError
from gfn_jax.training.optimizers import make_optimizer


def test_muon_makes_kernels_orthogonal_and_gives_biases_to_nadam():
  rng = np.random.default_rng(0)
  grads = {'kernel': rng.normal(size=(3, 3, 4, 8)), 'bias': np.array([3.0, -0.1])}
  grads = jax.tree.map(jnp.float32, grads)
  muon = make_optimizer(0.9, 0.999, 1e-8, 0.0, 'muon')
  updates, _ = muon.update(grads, muon.init(grads), grads)
  matrix = np.asarray(updates['kernel']).reshape(36, 8)
  values = np.linalg.svd(matrix, compute_uv=False)
  assert values.max() / values.min() < 2  # about 5 before, and one direction: downhill
  assert np.vdot(matrix, grads['kernel']) > 0
  nadam = optax.nadam(1 / 3)
  expected, _ = nadam.update(grads, nadam.init(grads))
  np.testing.assert_allclose(updates['bias'], -expected['bias'], rtol=1e-5)


def test_an_unknown_optimizer_is_refused():
  with pytest.raises(UserError, match="optimizer.name is 'sgd'; there are 'adam' and 'muon'"):
    make_optimizer(0.9, 0.999, 1e-8, 0.0, 'sgd')


def test_clipping_can_be_switched_off():
  grads = {'a': jnp.full(4, 100.0)}
  for clip_norm, norm in ((1.0, 1.0), (0.0, 200.0)):
    clip = make_optimizer(0.0, 0.0, 1e10, clip_norm)  # a huge eps: updates follow gradients
    updates, _ = clip.update(grads, clip.init(grads))
    np.testing.assert_allclose(optax.tree.norm(updates) * 1e10, norm, rtol=1e-5)
