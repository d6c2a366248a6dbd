import importlib.metadata
import pathlib

import pytest

from gfn_jax.errors import install_extra


def test_an_extra_is_installed_from_the_clone_if_the_package_is_not_installed(monkeypatch):
  def version(name):
    raise importlib.metadata.PackageNotFoundError(name)

  monkeypatch.setattr(importlib.metadata, 'version', version)
  root = pathlib.Path(__file__).parents[1]
  assert install_extra('train,beam') == f"pip install -e '{root}[train,beam]'"


@pytest.mark.parametrize('extra', ['video', 'train,beam'])
def test_an_extra_of_an_installed_package(monkeypatch, extra):
  monkeypatch.setattr(importlib.metadata, 'version', lambda name: '1.0')
  assert install_extra(extra) == f"pip install 'gfn_jax[{extra}]'"
