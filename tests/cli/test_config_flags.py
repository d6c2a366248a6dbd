"""Tests of the flags `--config` and `--list_configs`."""

import pathlib

import pytest

from gfn_jax.cli.config_flags import _Parser, describe_configs, find_config
from gfn_jax.configs import gfn_photos
from gfn_jax.errors import UserError
from tests.test_configs import PARAMETERS

CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """Make an empty folder the current one."""
  monkeypatch.chdir(tmp_path)
  return tmp_path


@pytest.mark.parametrize(
  ('spec', 'found'),
  [
    ('gfn', 'gfn.py'),
    ('gfn_photos:small', 'gfn_photos.py:small'),
    ('gfn.py:paper', 'gfn.py:paper'),
    ('configs/gfn.py', 'gfn.py'),
    ('tables/gfn_table2:model_1,small', 'tables/gfn_table2.py:model_1,small'),
    ('configs/tables/gfn_table2.py', 'tables/gfn_table2.py'),
  ],
)
def test_the_configs_of_the_package_are_found_in_any_folder(folder, spec, found):
  assert find_config(spec) == f'{CONFIGS}/{found}'


def test_the_current_folder_comes_first_then_its_configs(folder):
  (folder / 'configs').mkdir()
  (folder / 'configs' / 'gfn.py').touch()
  assert find_config('gfn:a') == find_config('configs/gfn.py:a') == 'configs/gfn.py:a'
  (folder / 'gfn.py').touch()
  assert find_config('gfn:a') == find_config('gfn.py:a') == 'gfn.py:a'
  assert find_config('configs/gfn') == 'configs/gfn.py'
  assert find_config(f'{folder}/gfn') == f'{folder}/gfn.py'


@pytest.mark.parametrize('name', ['none', 'configs/none.py', 'docs/weights.md', ''])
def test_an_unknown_name_is_one_line(folder, name):
  with pytest.raises(UserError) as caught:
    find_config(f'{name}:small')
  assert str(caught.value) == (
    f'no config {name!r} in the current folder or in the package; --list_configs lists those of '
    'the package'
  )


@pytest.mark.filterwarnings('ignore:the load_module:DeprecationWarning')  # of ml_collections
def test_a_name_is_parsed_to_the_config(folder):
  config = _Parser('config').parse('gfn_photos:small')
  assert config.to_dict() == gfn_photos.get_config('small').to_dict()


@pytest.mark.filterwarnings('ignore:the load_module:DeprecationWarning')  # of ml_collections
def test_a_variant_of_a_config_without_variants(folder):
  with pytest.raises(UserError, match='^config gfn_small has no variants; omit :fast$'):
    _Parser('config').parse('gfn_small:fast')


@pytest.mark.filterwarnings('ignore:the load_module:DeprecationWarning')  # of ml_collections
def test_a_config_of_the_user_imports_those_of_the_package(folder):
  (folder / 'mine.py').write_text(
    'from gfn_jax.configs import gfn_small\n\n\n'
    'def get_config():\n'
    '  config = gfn_small.get_config()\n'
    '  config.model.features = 5\n'
    '  return config\n'
  )
  assert _Parser('config').parse('mine').model.features == 5


def test_the_list_has_all_configs_of_the_package():
  *rows, empty, note = describe_configs().split('\n')
  names = {row.split()[0] for row in rows}
  assert names == {name.partition(':')[0].replace('.', '/') for name in PARAMETERS}
  assert all(row.endswith('.') for row in rows)
  assert (empty, note) == (
    '',
    f'A variant follows a colon: gfn_photos:small. The files: {CONFIGS}',
  )
