"""Networks of users: registration, and files of weights that name one."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gfn_jax import UserError, create_model, list_models, load_pretrained, models, register_model
from gfn_jax.models import RestorationModel, RestorationOutput, init_variables
from gfn_jax.weights.pretrained import save_weights


class Own(RestorationModel):
  features: int = 4
  dtype: Any = jnp.float32
  precision: Any = None

  scale = 1

  @nn.compact
  def __call__(self, lr_blur, train=False):
    y = nn.Conv(self.features, (1, 1), dtype=self.dtype, precision=self.precision)(lr_blur)
    return RestorationOutput(hr=None, lr=nn.Conv(3, (1, 1))(y))


@pytest.fixture(autouse=True)
def only_here(monkeypatch):
  monkeypatch.setattr(models, 'MODELS', dict(models.MODELS))


def test_a_registered_network_is_created_saved_and_loaded(tmp_path):
  register_model('own', Own)
  assert 'own' in list_models()
  model = create_model('own', features=5)
  assert model == Own(features=5)
  with pytest.raises(UserError, match="model 'own' has no option 'width'; choose from dtype, feat"):
    create_model('own', width=5)
  variables = jax.device_get(init_variables(model, 0))
  save_weights(tmp_path / 'own.safetensors', variables, {'name': 'own', 'features': 5}, {})
  loaded, found = load_pretrained(tmp_path / 'own.safetensors')
  assert loaded == model
  jax.tree.map(np.testing.assert_array_equal, found, variables)


def test_another_class_of_the_same_name_replaces_the_first():
  class Second(Own):
    pass

  register_model('own', Own)
  register_model('own', Second)
  assert type(create_model('own')) is Second


def test_weights_of_a_network_that_is_not_registered_are_refused(tmp_path):
  """Check also that a name that looks like a module is not imported."""
  for name in ('own', 'this:Zen', 'antigravity'):
    save_weights(tmp_path / 'own.safetensors', {'params': {}}, {'name': name}, {})
    with pytest.raises(UserError, match=rf"unknown model '{name}'; .*\(docs/own_network.md\)$"):
      load_pretrained(tmp_path / 'own.safetensors')


class NoScale(RestorationModel):
  dtype: Any = jnp.float32
  precision: Any = None


class NoPrecision(RestorationModel):
  dtype: Any = jnp.float32

  scale = 4


@pytest.mark.parametrize(
  ('name', 'network', 'message'),
  [
    ('gfn', Own, "^gfn_jax has a model 'gfn' already; choose another name$"),
    ('Own', Own, "^model name 'Own': use lower-case letters, digits and underscores$"),
    ('own:Own', Own, 'use lower-case letters'),
    ('own', nn.Conv, "^model 'own': pass a class that derives from RestorationModel$"),
    ('own', Own(), 'pass a class'),
    ('own', NoScale, "^model 'own': NoScale does not state its scale, such as 4$"),
    ('own', NoPrecision, "^model 'own': NoPrecision lacks the field 'precision'$"),
  ],
)
def test_what_cannot_be_registered(name, network, message):
  with pytest.raises(UserError, match=message):
    register_model(name, network)
  assert ('own' in list_models(), list_models() == sorted(models._BUILT_IN)) == (False, True)
