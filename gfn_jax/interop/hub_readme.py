"""README of a hub's folder: the YAML header that hubs read, and the text for users.

Both are made from the model card, which may be a stranger's: entries of other types are left out,
and texts cannot add lines, tables or HTML to the page.
"""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from gfn_jax.models import RestorationModel
from gfn_jax.system.files import printable
from gfn_jax.weights.cards import card_licence, card_section

README = 'README.md'
ATTRIBUTION = 'ATTRIBUTION.md'

_LICENCES = {
  'CC BY-SA 4.0': 'cc-by-sa-4.0',
  'CC BY 4.0': 'cc-by-4.0',
  'CC0 1.0': 'cc0-1.0',
  'Apache-2.0': 'apache-2.0',
  'MIT': 'mit',
}
"""Identifier on hubs, by the first words of a card's licence."""

_README_TEXT = """\
---
{header}---

# {name}

Removes motion blur from photographs{enlarges}. Network: `{network}` of gfn_jax, {parameters:,}
parameters.

```
pip install 'gfn_jax[hub]'
```

```python
import gfn_jax

restorer = gfn_jax.Restorer.from_pretrained('hf://OWNER/{name}')  # or the path of this folder
sharp = restorer('photo.jpg')  # [height, width, 3] uint8
```

`model.safetensors` has the parameters. `config.json` is the model card: options of the network,
training config, data, scores, and the SHA-256 of the parameters.

## Licence

{licence}
{data}{scores}"""

_METRICS = ('psnr', 'ssim', 'lpips')
_MAX_DEPTH = 4  # of scores in a card


def make_readme(
  name: str, card: Mapping[str, Any], model: RestorationModel, parameters: int, attribution: bool
) -> str:
  """Return the README of a folder: a YAML header, use, licence, data and scores.

  Args:
    name: name of the weights on the hub.
    card: the card. Its `model` has a `name`.
    model: the network.
    parameters: its number of parameters.
    attribution: True if `ATTRIBUTION` is in the folder.
  """
  name, licence = _line(name), _text(card_licence(card)) or 'The model card states no licence.'
  if attribution:
    licence += f'\n\n[{ATTRIBUTION}]({ATTRIBUTION}) names the photographs and their licences.'
  data = ', '.join(f'`{part}`' for part in _data_names(card))
  return _README_TEXT.format(
    header=yaml.safe_dump(_header(name, card, model), sort_keys=False, allow_unicode=True),
    name=name,
    enlarges=f' and enlarges them {model.scale}x' if model.scale > 1 else '',
    network=_line(card['model']['name']),
    parameters=parameters,
    licence=licence,
    data=f'\n## Data\n\nTrained on {data}.\n' if data else '',
    scores=_score_table(card),
  )


def _score_table(card: Mapping[str, Any]) -> str:
  rows = [f'| {name} | {value:.6g} |' for name, value in _numbers(card_section(card, 'scores'))]
  if not rows:
    return ''
  lines = ['', '## Scores', '', '| score | value |', '|---|---|', *rows]
  facts = {'Protocol': _protocol(card), 'Unit, where no other is named': _unit(card)}
  for label, text in facts.items():
    lines += ['', f'{label}: {text}.'] if text else []
  return '\n'.join([*lines, ''])


def _header(name: str, card: Mapping[str, Any], model: RestorationModel) -> dict[str, Any]:
  """Return the metadata that hubs read, as in the model card specification of Hugging Face."""
  header: dict[str, Any] = {}
  if licence := card_licence(card):
    short = next((key for text, key in _LICENCES.items() if licence.startswith(text)), 'other')
    header['license'] = short
    if short == 'other':
      header |= {'license_name': 'see-readme', 'license_link': README}
  header |= {'library_name': 'gfn_jax', 'pipeline_tag': 'image-to-image'}
  header['tags'] = ['jax', 'flax', 'image-restoration', 'deblurring', 'motion-deblurring']
  if model.scale > 1:
    header['tags'] += ['super-resolution']
  if data := [name for name in _data_names(card) if re.fullmatch(r'[\w.-]+', name)]:
    header['datasets'] = data
  if results := _results(card):
    header['metrics'] = sorted({result['metrics'][0]['type'] for result in results})
    header['model-index'] = [{'name': name, 'results': results}]
  return header


def _results(card: Mapping[str, Any]) -> list[dict[str, Any]]:
  """Return the entries of a model-index: scores whose name has a metric, such as `test/psnr`.

  Gains over bicubic are left out, because hubs would show them as plain PSNR.
  """
  protocol, results = _protocol(card), []
  for key, value in card_section(card, 'scores').items():
    parts = [part.strip() for part in re.split('[,/]', _line(key))]
    metric = next((part.lower() for part in parts if part.lower() in _METRICS), None)
    if metric is None or not _is_number(value):
      continue
    images = ', '.join(part for part in parts if part.lower() != metric) or 'test'
    title = metric.upper() + (f' (protocol {protocol})' if protocol else '')
    results.append(
      {
        'task': {'type': 'image-to-image'},
        'dataset': {'type': re.sub('[^a-z0-9]+', '-', images.lower()).strip('-'), 'name': images},
        'metrics': [{'type': metric, 'value': value, 'name': title}],
      }
    )
  return results


def _data_names(card: Mapping[str, Any]) -> list[str]:
  """Return the names of the training data in a card."""
  config = card_section(card, 'config')
  section = card_section(config, 'data') or config  # cards of version 0.1 are flat
  names = [
    os.path.basename(path.rstrip('/'))
    for path in (section.get('photos'), section.get('data_dir'))
    if isinstance(path, str)
  ]
  names += card_section(card_section(card, 'data'), 'real_pairs')
  return [_line(name) for name in names if name]


def _numbers(value: Any, names: tuple[str, ...] = ()) -> Iterator[tuple[str, float]]:
  """Yield the name and the value of each number in dicts, at most `_MAX_DEPTH` deep."""
  if isinstance(value, dict) and len(names) < _MAX_DEPTH:
    for key, inner in value.items():
      yield from _numbers(inner, (*names, _line(key)))
  elif _is_number(value) and names:
    yield ', '.join(names), value


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def _unit(card: Mapping[str, Any]) -> str | None:
  return _text(card_section(card, 'scores').get('unit'))


def _protocol(card: Mapping[str, Any]) -> str | None:
  """Return the protocol of the scores; in old cards it is an entry of the config."""
  config = card_section(card, 'config')
  places = card_section(card, 'scores'), card_section(config, 'evaluation'), config
  return next((_text(place['protocol']) for place in places if 'protocol' in place), None)


def _text(value: Any) -> str | None:
  return _line(value) if isinstance(value, str) else None


def _line(text: str) -> str:
  """Return a text of a card as one line that Markdown shows as it is."""
  return re.sub(r'([\\`*<>\[\]|])', r'\\\1', printable(' '.join(text.split())))
