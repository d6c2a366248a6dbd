import pathlib

from gfn_jax.system.package_files import find_file, package_folder

ROOT = pathlib.Path(__file__).parents[2]


def test_files_of_the_package_are_found_in_any_folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert package_folder('configs') == str(ROOT / 'configs')
  assert find_file('data_prep/photos_open.csv') == str(ROOT / 'data_prep' / 'photos_open.csv')
  for other in ('data_prep/none.csv', 'photos_open.csv', 'docs/weights.md', 'gs://b/configs/a.csv'):
    assert find_file(other) == other


def test_a_file_of_the_current_folder_comes_first(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'data_prep').mkdir()
  (tmp_path / 'data_prep' / 'photos_open.csv').touch()
  assert find_file(pathlib.Path('data_prep', 'photos_open.csv')) == 'data_prep/photos_open.csv'
