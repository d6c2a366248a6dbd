"""The tables of docs/models.md agree with the cards, the files and the networks."""

import json
import os
import pathlib
import re

import pytest

from gfn_jax import create_model, list_models, list_pretrained
from gfn_jax.interop.torch_names import VERSIONS
from gfn_jax.models import param_count, variable_shapes
from gfn_jax.weights.pretrained import RELEASED_DIR, load_card

ROOT = pathlib.Path(__file__).parents[1]


def rows(section):
  """Return the cells of each row of a section's table, by the name in the first cell."""
  text = (ROOT / 'docs' / 'models.md').read_text()
  table = re.search(rf'^## {section}\n.*?(?=^## |\Z)', text, re.MULTILINE | re.DOTALL)[0]
  lines = [line.strip('|').split('|') for line in table.splitlines() if line.startswith('| `')]
  return {first.strip('` '): [cell.strip() for cell in rest] for first, *rest in lines}


def light_seconds():
  file = ROOT / 'benchmarks' / 'results' / 'light_cpu.json'
  return {key: row['seconds'] for key, row in json.loads(file.read_text())['networks'].items()}


def test_the_released_weights_are_listed_as_their_cards_say():
  table = rows('With weights')
  assert sorted(table) == list_pretrained()
  for name, (_, size, parameters, psnr, bicubic, seconds, licence) in table.items():
    card = load_card(name)
    assert float(size) == round(os.path.getsize(f'{RELEASED_DIR}/{name}.safetensors') / 1e6, 1)
    assert parameters == f'{card["parameters"]:,}'
    assert licence.split()[0] in card['data']['licence']
    scores = card['scores'].get('gopro')
    if scores:
      assert (psnr, bicubic) == tuple(f'{scores[key]["psnr"]:.2f}' for key in (name, 'bicubic'))
      assert scores['protocol'] == 'gfn'
    else:
      assert abs(float(psnr) - card['scores']['public, hr, PSNR']) < 0.006
      assert abs(float(psnr) - float(bicubic) - card['scores']['public, hr']) < 0.011
    if name == 'gfn':
      assert seconds == f'{light_seconds()["gfn_open, float32"]:.2f}'
  text = (ROOT / 'docs' / 'models.md').read_text()
  assert f'`gfn` takes {light_seconds()["gfn_open, bfloat16"]:.2f}' in text


def test_every_network_is_listed_with_what_can_be_imported():
  table = rows('Without weights')
  assert sorted(table) == list_models()
  assert {name for name, row in table.items() if row[-1] == 'yes'} == set(VERSIONS)


@pytest.mark.full
def test_the_networks_have_the_parameters_of_the_table():
  for name, (_, parameters, scales, _) in rows('Without weights').items():
    if name == 'cascade':
      continue
    model = create_model(name)
    assert parameters == f'{param_count(variable_shapes(model)):,}', name
    assert str(model.scale) in scales.split(', ')
    for scale in scales.split(', '):
      if ',' in scales:
        assert create_model(name, scale=int(scale)).scale == int(scale)
