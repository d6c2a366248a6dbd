"""The package as users get it: wheel, sdist, editable installation, and clone."""

import configparser
import email
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile

import pytest
import skimage.data
import yaml
from PIL import Image

import gfn_jax
from gfn_jax.cli.commands import COMMANDS
from gfn_jax.weights.pretrained import list_pretrained, load_card
from tests.xla_flags import COMPILE_FAST

ROOT = pathlib.Path(__file__).parents[1]
FOLDERS = {'gfn_jax': '', 'configs': 'configs/', 'data_prep': 'data_prep/'}
"""Folders of the package in the clone, and their places in it."""

NOT_COPIED = ('.git', '.venv*', '.cache', '*.egg-info', '__pycache__', 'build', 'dist')

# Prints where the modules are, and which names of a clone can be imported as parts of the package.
LOCATE = """
import importlib, importlib.util, json
names = ['gfn_jax', 'gfn_jax.configs.tables', 'gfn_jax.data_prep']
found = [importlib.import_module(name).__file__ for name in names]
others = ['gfn_jax.tests', 'gfn_jax.benchmarks', 'gfn_jax.gfn_jax', 'gfn_jax.docs']
print(json.dumps(found + [name for name in others if importlib.util.find_spec(name)]))
"""

TRAIN = (
  '--config=gfn_photos:small_sr',
  '--config.model.features=4',
  '--config.model.sr_blocks=1',
  '--config.model.reconstruction_blocks=1',
  '--config.training.batch_size=2',
  '--config.training.crop_size=8',
  '--config.training.steps_per_epoch=2',
  '--config.data.held_out=1',
  '--config.data.margin=8',
  '--config.data.motion_blur.camera.frames=3',
  '--config.phases.phase_2.epochs=1',
  '--config.phases.phase_2.schedule.warmup_steps=1',
)


def setup():
  config = configparser.ConfigParser()
  config.read(ROOT / 'setup.cfg')
  return config


def lines(text):
  return [line.strip() for line in text.strip().splitlines()]


def place(path):
  """Return the place of a file of the clone in the package."""
  folder, _, rest = path.relative_to(ROOT).as_posix().partition('/')
  return f'gfn_jax/{FOLDERS[folder]}{rest}'


def files_of_the_package():
  paths = (path for folder in FOLDERS for path in (ROOT / folder).rglob('*'))
  return {place(path) for path in paths if path.is_file() and path.suffix != '.pyc'}


def links(markdown):
  """Return the targets of links and pictures."""
  found = re.findall(r'\]\(([^)\s]+)|^\[[^\]]+\]:\s*(\S+)|(?:src|href)="([^"]*)"', markdown, re.M)
  return [''.join(target) for target in found]


def run(*command, cwd, **variables):
  """Run a command without the clone on its path, and return what it prints."""
  environment = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
  result = subprocess.run(
    [*map(str, command)],
    cwd=cwd,
    env=environment | {'XLA_FLAGS': COMPILE_FAST} | variables,
    capture_output=True,
    text=True,
    timeout=600,
  )
  assert result.returncode == 0, f'{command}: {result.stdout}{result.stderr}'
  return result.stdout


def install(folder, *arguments):
  """Make an environment with this one's packages, but not its gfn_jax, and install into it.

  Args:
    folder: folder of the environment.
    *arguments: what pip installs, with its options.

  Returns:
    The folder of the environment's commands.
  """
  venv.create(folder, symlinks=True)
  [site] = folder.glob('lib/python*/site-packages')
  packages = [path for path in sys.path if path.endswith(('site-packages', 'dist-packages'))]
  (site / 'packages.pth').write_text('\n'.join(packages))  # pth files in these are not read
  pip = [sys.executable, '-m', 'pip', f'--python={folder / "bin" / "python"}', 'install']
  options = ['--quiet', '--no-deps', '--no-index', '--no-build-isolation', '--ignore-installed']
  run(*pip, *options, *arguments, cwd=folder)
  return folder / 'bin'


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
  """Return a copy of the clone, because building writes into it."""
  folder = tmp_path_factory.mktemp('clone') / 'gfn_jax'
  return shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*NOT_COPIED))


@pytest.fixture(scope='module')
def wheel_and_sdist(tree, tmp_path_factory):
  """Build the sdist, and from it the wheel."""
  pytest.importorskip('build')
  folder = tmp_path_factory.mktemp('dist')
  run(sys.executable, '-m', 'build', '--no-isolation', f'--outdir={folder}', tree, cwd=folder)
  [wheel], [sdist] = folder.glob('*.whl'), folder.glob('*.tar.gz')
  return wheel, sdist


def test_setup_cfg_names_every_folder_of_the_package():
  folders = {pathlib.PurePath(name).parent for name in files_of_the_package()}
  packages = {'.'.join(folder.parts) for folder in folders}
  assert lines(setup()['options']['packages']) == sorted(packages)


def test_the_description_has_no_link_that_an_index_cannot_resolve():
  name = setup()['metadata']['long_description'].removeprefix('file:').strip()
  assert [link for link in links((ROOT / name).read_text()) if not link.startswith('https:')] == []
  assert 'docs/install.md' in links((ROOT / 'README.md').read_text())  # links() finds them


def test_the_licence_names_those_of_the_weights():
  for name in list_pretrained():
    assert load_card(name)['data']['licence'].startswith('CC BY-SA 4.0. ')
  assert setup()['metadata']['license_expression'] == 'Apache-2.0 AND CC-BY-SA-4.0'
  notice = (ROOT / 'NOTICE').read_text()
  assert 'LICENSES/CC-BY-SA-4.0.txt' in notice
  assert all(f'eights `{name}`' in notice for name in list_pretrained())


def test_the_metadata_name_the_tested_versions_of_python():
  versions = re.findall(r':: (3\.\d+)$', setup()['metadata']['classifiers'], re.M)
  assert versions == ['3.11', '3.12', '3.13']
  assert setup()['options']['python_requires'] == f'>={versions[0]}'
  assert setup()['metadata']['version'] == 'attr: gfn_jax.__version__'


def test_version_and_date_agree():
  version, date = gfn_jax.__version__, None
  headings = re.findall(r'^## \[(\d.*?)\](.*)$', (ROOT / 'CHANGELOG.md').read_text(), re.M)
  if headings:  # newest first
    newest, rest = headings[0]
    date = re.fullmatch(r' - (\d{4}-\d\d-\d\d)', rest)[1]
    assert newest == version
  for name in list_pretrained():
    assert load_card(name)['version'] in {version, *(heading for heading, _ in headings)}
  citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
  assert citation['version'] == version
  assert str(citation.get('date-released')) == str(date)


def test_a_clone_finds_its_configs_without_installation(tmp_path):
  """Run without site-packages, where an editable installation would help."""
  command = [sys.executable, '-S', '-c', LOCATE]
  environment = os.environ | {'PYTHONPATH': str(ROOT)}
  output = subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
  files = ('gfn_jax', 'configs/tables', 'data_prep')
  assert json.loads(output.stdout) == [str(ROOT / file / '__init__.py') for file in files]


@pytest.mark.full
def test_a_builder_is_registered_once_under_both_names_of_its_folder(gopro_tree, tmp_path):
  """Check that `python -m data_prep.NAME` in a clone uses the modules of the package."""
  code = (
    'import runpy, sys\n'
    'import gfn_jax.data_prep.lr_gopro_builder as builder\n'
    "runpy.run_module('data_prep.lr_gopro', run_name='__main__', alter_sys=True)\n"
  )
  flags = [f'--manual_dir={gopro_tree}', f'--data_dir={tmp_path}', '--workers=1']
  command = [sys.executable, '-c', code, *flags]
  result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert result.returncode == 0, result.stderr
  assert 'train 11, test 1 examples' in result.stdout


@pytest.mark.full
def test_the_wheel_has_the_package_and_nothing_else(wheel_and_sdist):
  wheel, _ = wheel_and_sdist
  assert wheel.name == f'gfn_jax-{gfn_jax.__version__}-py3-none-any.whl'
  info = f'gfn_jax-{gfn_jax.__version__}.dist-info'
  with zipfile.ZipFile(wheel) as archive:
    names = {name for name in archive.namelist() if not name.startswith(f'{info}/')}
    metadata = email.message_from_bytes(archive.read(f'{info}/METADATA'))
    assert b'Root-Is-Purelib: true' in archive.read(f'{info}/WHEEL')
    for file in metadata.get_all('License-File'):
      assert archive.read(f'{info}/licenses/{file}') == (ROOT / file).read_bytes()
  assert names == files_of_the_package()
  assert metadata['Author'] == 'The gfn_jax authors'
  assert metadata['License-Expression'] == setup()['metadata']['license_expression']
  assert metadata.get_payload() == (ROOT / 'DESCRIPTION.md').read_text()


@pytest.mark.full
def test_the_commands_of_the_wheel_work_in_any_folder(wheel_and_sdist, tmp_path):
  wheel, _ = wheel_and_sdist
  commands = install(tmp_path / 'venv', wheel)
  folder = tmp_path / 'folder'
  (folder / 'photos').mkdir(parents=True)
  for name in ('astronaut', 'chelsea', 'coffee'):
    photo = getattr(skimage.data, name)()[100:228, 100:228]
    Image.fromarray(photo).save(folder / 'photos' / f'{name}.png')

  def call(command, *arguments):
    return run(commands / command, *arguments, cwd=folder)

  found = json.loads(run(commands / 'python', '-c', LOCATE, cwd=folder))
  assert len(found) == 3
  assert all(pathlib.Path(path).is_relative_to(tmp_path / 'venv') for path in found)
  search = 'import importlib.util as u; print(u.find_spec("configs"), u.find_spec("data_prep"))'
  assert run(commands / 'python', '-c', search, cwd=folder) == 'None None\n'

  overview = call('gfn', '--help')
  scripts = [line.split()[0] for line in lines(setup()['options.entry_points']['console_scripts'])]
  assert set(scripts) == {'gfn', *(f'gfn-{name}' for name in COMMANDS)}
  for script in scripts:
    assert script in call(script, '--help')
  assert all(f'\n  {name} ' in overview for name in COMMANDS)
  assert '--manual_dir' in call('gfn-prepare', 'lr_gopro', '--help')

  assert '\ngfn_photos ' in call('gfn-train', '--list_configs')
  call('gfn-train', *TRAIN, '--workdir=run', '--config.data.photos=photos')
  assert '| SRBranch | 2,775 |' in call('gfn-eval', '--workdir=run')
  flags = ['--workdir=run', '--config=configs/gfn_photos.py:small_sr', '--output_dir=eval']
  call('gfn-eval', *flags, '--config.data.photos=photos', '--config.data.held_out=1')
  assert '| GFN | ' in call('gfn-table', 'gfn_table2')
  call('gfn-restore', 'photos/coffee.png', 'sharp.png', '--weights=run/weights.safetensors')
  with Image.open(folder / 'sharp.png') as image:
    assert image.size == (512, 512)
  listed = 'from gfn_jax.data.photo_list import read_photo_list as read; '
  listed += 'from gfn_jax.system.package_files import find_file as find; '
  listed += 'print(len(read(find("data_prep/photos_open.csv"))))'
  assert run(commands / 'python', '-c', listed, cwd=folder) == '525\n'


@pytest.mark.full
def test_an_editable_installation_finds_the_configs_of_its_clone(tree, tmp_path):
  commands = install(tmp_path / 'venv', '--editable', tree)
  folders = ('gfn_jax', 'configs/tables', 'data_prep')
  found = json.loads(run(commands / 'python', '-c', LOCATE, cwd=tmp_path))
  assert found == [str(tree / folder / '__init__.py') for folder in folders]
  other = json.loads(run(commands / 'python', '-c', LOCATE, cwd=tmp_path, PYTHONPATH=str(ROOT)))
  assert other == [str(ROOT / folder / '__init__.py') for folder in folders]  # another clone
  assert f'The files: {tree / "configs"}' in run(
    commands / 'gfn-train', '--list_configs', cwd=tmp_path
  )
  assert '| GFN | ' in run(commands / 'gfn-table', 'gfn_table2', cwd=tmp_path)


@pytest.mark.full
def test_the_tests_run_from_the_sdist(wheel_and_sdist, tmp_path):
  _, sdist = wheel_and_sdist
  with tarfile.open(sdist) as archive:
    archive.extractall(tmp_path, filter='data')
  [folder] = tmp_path.iterdir()
  copied = {path.relative_to(ROOT) for path in (ROOT / 'tests').rglob('*') if path.is_file()}
  missing = [path for path in copied if path.suffix != '.pyc' and not (folder / path).exists()]
  assert missing == []
  tests = (
    'test_configs.py::test_every_config_is_in_the_table',
    'test_language.py',
    'test_layers.py',
    'test_public_names.py',
    'test_tools.py',
    'cli/test_config_flags.py',
    'data/test_photo_list.py',
    'evaluation/test_paper_tables.py',
    'images/test_folders.py',
    'interop/test_torch_entries.py',
    'models/test_srresnet.py',
    'ops/test_imresize.py',
    'restoration/test_tiling.py',
  )
  paths = [folder / 'tests' / test for test in tests]
  output = run(sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', *paths, cwd=folder)
  assert re.search(r'^\d{3} passed', output.splitlines()[-1]), output
