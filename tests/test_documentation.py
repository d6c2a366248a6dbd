"""The commands in the documentation: their options exist, and the cheap ones run."""

import configparser
import functools
import importlib.util
import pathlib
import re

import jax
import numpy as np
import pytest
import skimage.data
from PIL import Image

from gfn_jax import create_model, load_pretrained, models
from gfn_jax.cli.config_flags import find_config
from gfn_jax.interop import save_torch_checkpoint, to_torch
from gfn_jax.models import init_variables
from gfn_jax.weights.pretrained import save_weights
from tests import documentation, small
from tests.documentation import PAGES, ROOT

COMMON = {'help', 'h', 'helpfull', 'version'}


@pytest.fixture(autouse=True)
def own_models(monkeypatch):
  """Keep the network that examples/own_network.py registers out of other tests."""
  monkeypatch.setattr(models, 'MODELS', dict(models.MODELS))


def page_name(page):
  return page.relative_to(ROOT).as_posix()


@functools.cache
def config_keys(path):
  """Return the keys of a config, such as 'data.photos', for a value of `--config`."""
  file, _, variant = find_config(path).partition(':')
  spec = importlib.util.spec_from_file_location('documented_config', file)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config = module.get_config(variant) if variant else module.get_config()
  keys = set()

  def visit(node, prefix):
    for key, value in node.items():
      keys.add(prefix + key)
      if hasattr(value, 'items'):
        visit(value, f'{prefix}{key}.')

  visit(config, '')
  return keys


@functools.cache
def all_config_keys():
  """Return the keys that some config has."""
  files = sorted(file.name for file in (ROOT / 'configs').glob('*.py'))
  paths = [f'configs/{file}' for file in files if file not in ('__init__.py', 'defaults.py')]
  variants = ['configs/gfn_photos.py:small', 'configs/bmdsrnet.py:x4,c,photos,small']
  variants += ['configs/cnlrn.py', 'configs/super_resolution.py:edsr', 'examples/own_network.py']
  return set().union(*map(config_keys, paths + variants))


def check_options(source, words):
  """Raise an AssertionError if a command has no such option, or its config no such key."""
  flags = [word for word in words if re.match('--?[a-zA-Z]', word)]
  configs = [word.partition('=')[2] for word in flags if word.startswith('--config=')]
  known = documentation.options(source) | COMMON
  if source.name in ('run_train.py', 'own_network.py'):
    known = known | documentation.options(ROOT / 'gfn_jax/cli/train.py')
  if source.name in ('run_eval.py', 'own_network.py'):
    known = known | documentation.options(ROOT / 'gfn_jax/cli/evaluate.py')
    known = known | documentation.options(ROOT / 'gfn_jax/cli/restore.py')
  for flag in flags:
    name = flag.partition('=')[0].lstrip('-')
    if name.startswith('config.'):
      keys = config_keys(configs[0]) if configs else all_config_keys()
      assert name.removeprefix('config.') in keys, f'{flag}: no such key in {configs}'
    else:
      assert name in known, f'{page_name(source)} has no option --{name}'


@pytest.mark.parametrize('page', PAGES, ids=page_name)
def test_the_options_of_documented_commands_exist(page):
  for source, *words in documentation.commands(page):
    check_options(source, words)
  for key in re.findall(r'`"?--config\.([\w.]+)', page.read_text()):
    key = re.sub(r'\.[A-Z].*', '', key)  # a name that the user chooses
    assert key in all_config_keys(), f'--config.{key}'


def test_the_check_finds_commands_and_mistakes():
  commands = {page_name(page): documentation.commands(page) for page in PAGES}
  assert sum(map(len, commands.values())) > 150
  evaluation = [ROOT / 'gfn_jax/cli/evaluate.py', '--workdir=runs/gfn', '--protocol=gfn']
  assert evaluation in commands['README.md']
  restore, train = ROOT / 'gfn_jax/cli/restore.py', ROOT / 'run_train.py'
  check_options(restore, ['a.jpg', 'b.png', '--same_size'])
  with pytest.raises(AssertionError, match='has no option --samesize'):
    check_options(restore, ['--samesize'])
  with pytest.raises(AssertionError, match='no such key'):
    check_options(train, ['--config=configs/gfn.py', '--config.data.photos=DIR'])
  with pytest.raises(AssertionError, match='no such key'):
    check_options(train, ['--config.batch_size=8'])
  with pytest.raises(AssertionError, match='unknown command gfn-magic'):
    documentation.source_of('gfn-magic', [])


def test_documented_extras_and_targets_exist():
  setup = configparser.ConfigParser()
  setup.read(ROOT / 'setup.cfg')
  extras = set(setup['options.extras_require'])
  targets = set(re.search(r'^\.PHONY: (.*)$', (ROOT / 'Makefile').read_text(), re.M)[1].split())
  found = set()
  for page in PAGES:
    text = page.read_text()
    for names in re.findall(r'(?:gfn_jax|-e [\'"]?\.)\[([\w,]+)\]', text):
      assert set(names.split(',')) <= extras, f'{page_name(page)}: [{names}]'
    made = set(re.findall('(?:^|`)make ([a-z-]+)', text, re.MULTILINE))
    assert made <= targets, f'{page_name(page)}: make {made - targets}'
    found |= made
  assert {'demo', 'test', 'docs', 'notebook'} <= found


CHEAP = ('restore', 'table', 'import_torch', 'export', 'join_weights', 'visualize', 'figure')
"""Commands of `gfn_jax/cli` that take seconds."""

INPUTS = {'photo.jpg', 'blurred.png', 'GFN_epoch_55.pkl', 'gfn', 'runs/gfn/weights.safetensors'}
INPUTS |= {'mprnet.safetensors', 'gfn_authors.safetensors', 'gfn.pth'}
"""Inputs that `make_inputs` or an earlier command of the page makes."""

RUN = ('README.md', 'docs/restoring.md', 'docs/pytorch.md', 'docs/export.md', 'docs/gate.md')
RUN += ('docs/weights.md', 'docs/evaluation.md', 'docs/results/gfn.md', 'docs/results/cnlrn.md')
RUN += (
  'docs/results/bmdsrnet.md',
  'docs/results/motion_deblur_sr.md',
  'docs/index.md',
  'docs/faq.md',
)


def make_inputs():
  """Make the inputs of the cheap commands in the working directory."""
  photo = Image.fromarray(skimage.data.astronaut())
  photo.resize((928, 448)).save('photo.jpg')
  photo.resize((128, 96)).save('blurred.png')
  photo.resize((512, 384)).save('sharp.png')
  networks = {
    'mprnet': {'name': 'mprnet', **small.MPRNET},
    'srresnet': {'name': 'srresnet', 'features': 4, 'blocks': 1},
    'runs/gfn/weights': small.MODEL,
  }
  pathlib.Path('runs/gfn').mkdir(parents=True)
  for name, network in networks.items():
    variables = jax.device_get(init_variables(create_model(**network), 0))
    save_weights(f'{name}.safetensors', variables, network, {})
  options = {key: value for key, value in small.MODEL.items() if key != 'name'}
  save_torch_checkpoint('GFN_epoch_55.pkl', to_torch('gfn', variables, **options))


def is_cheap(source, words):
  """Return True if a command takes seconds, and its inputs and libraries exist."""
  if source.parent.name != 'cli' or source.stem not in CHEAP:
    return False
  if source.stem == 'export' and words[1].endswith(('.onnx', '.dtmodel')):
    return False  # these need another environment: make test-onnx
  if any(word.startswith('hf://') for word in words):
    return False  # of a hub
  if source.stem in ('table', 'figure'):
    return not any(word.startswith('--output_dir') for word in words)
  return words[0] in INPUTS


@pytest.mark.full
@pytest.mark.parametrize('name', RUN)
def test_the_cheap_commands_run(name, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  make_inputs()
  done = []
  for source, *words in documentation.commands(ROOT / name, spans=False):
    if not is_cheap(source, words):
      continue
    module = importlib.import_module(f'gfn_jax.cli.{source.stem}')
    capsys.readouterr()
    replace = source.stem in ('restore', 'import_torch', 'export', 'join_weights')
    module.main([*words, '--overwrite'] if replace else words)
    done.append(words)
    names = [word for word in words if not word.startswith('--')]
    if source.stem == 'table':
      assert capsys.readouterr().out.count('|') > 12, words
    elif source.stem == 'figure':
      with Image.open('figure.png') as figure:
        assert figure.width > 100
    else:
      last = names[2] if source.stem == 'join_weights' else names[1]
      assert pathlib.Path(last).stat().st_size, words
  assert done
  if name == 'docs/pytorch.md':
    network, variables = load_pretrained('gfn.safetensors')
    expected, original = load_pretrained('runs/gfn')
    assert network == expected
    jax.tree.map(np.testing.assert_array_equal, variables, original)
