"""Export of weights as a folder that model hubs and `load_pretrained` read."""

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from gfn_jax.errors import UserError, first_line
from gfn_jax.models import RestorationModel, param_count
from gfn_jax.system.files import (
  check_local,
  file_sha256,
  printable,
  read_file,
  remove,
  to_json,
  write_file,
)
from gfn_jax.weights.cards import CARD_FORMAT, HUB_CARD, HUB_WEIGHTS, find_card, read_card
from gfn_jax.weights.pretrained import (
  RELEASED_DIR,
  load_model_config,
  load_pretrained,
  weights_path,
)

README = 'README.md'
ATTRIBUTION = 'ATTRIBUTION.md'
FILES = (HUB_CARD, HUB_WEIGHTS, README, ATTRIBUTION)
"""Files of a folder. The card is removed first and put in place last."""

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


def check_new_hub_folder(folder: str | os.PathLike, overwrite: bool) -> None:
  """Raise, before long work, if a folder cannot be written.

  Raises:
    UserError: if it is in a bucket, its parent is missing, it is a file, or it is not empty and
      `overwrite` is False.
  """
  check_local(folder, "a hub's folder")
  name, parent = printable(folder), os.path.dirname(os.path.abspath(folder))
  if not os.path.isdir(parent):
    raise UserError(f'no such folder: {printable(parent)}')
  if os.path.lexists(folder) and not os.path.isdir(folder):
    raise UserError(f'{name} is a file; choose another folder')
  if os.path.isdir(folder) and os.listdir(folder) and not overwrite:
    raise UserError(f'{name} is not empty; choose another folder, or pass --overwrite')


def export_hub_folder(weights: str | os.PathLike, folder: str | os.PathLike) -> None:
  """Write weights, card and a README with the header that hubs read, and print a summary.

  The weights are copied as they are, and loaded again before they are put in place. Other files of
  an existing folder, such as those of git, are kept.

  Args:
    weights: as for `load_pretrained`.
    folder: folder to write into; made if needed. Its name is that of the weights on the hub.

  Raises:
    UserError: as `load_pretrained`, or if the folder cannot be written.
  """
  model, variables = load_pretrained(weights)
  parameters = param_count(variables)
  path = weights_path(weights)
  card = read_card(path)
  if card is None:
    card = {
      'format_version': CARD_FORMAT,
      'model': load_model_config(weights),
      'parameters': parameters,
      'sha256': file_sha256(path),
    }
    card_text = to_json(card)
  else:
    card_text = read_file(find_card(path))
  name, attribution = os.path.basename(os.path.abspath(folder)), _attribution(card)
  text = describe(name, card, model, parameters, attribution is not None)
  contents = {HUB_WEIGHTS: read_file(path), HUB_CARD: card_text, README: text.encode()}
  if attribution is not None:
    contents[ATTRIBUTION] = attribution
  _write(folder, contents)
  size = len(contents[HUB_WEIGHTS]) / 1e6
  print(f'wrote {", ".join(sorted(contents))} to {printable(folder)}: {size:.1f} MB of parameters')
  print(f'licence of the weights: {_licence(card) or "the model card states none"}')


def _write(folder: str | os.PathLike, contents: Mapping[str, bytes]) -> None:
  """Write files into a folder: first into a temporary one beside it, which must load."""
  folder = os.path.abspath(folder)
  try:
    with tempfile.TemporaryDirectory(prefix='.gfn_export', dir=os.path.dirname(folder)) as aside:
      for name, content in contents.items():
        write_file(os.path.join(aside, name), content)
      load_pretrained(aside)
      os.makedirs(folder, exist_ok=True)
      for name in FILES:  # an interrupted command leaves no card beside other weights
        remove(os.path.join(folder, name))
      for name in reversed(FILES):
        if name in contents:
          os.replace(os.path.join(aside, name), os.path.join(folder, name))
  except OSError as error:
    raise UserError(f'cannot write {printable(folder)}: {first_line(error)}') from error


def describe(
  name: str, card: Mapping[str, Any], model: RestorationModel, parameters: int, attribution: bool
) -> str:
  """Return the README of a folder: a YAML header, use, licence, data and scores.

  Args:
    name: name of the weights on the hub.
    card: the card, maybe a stranger's: entries of other types are left out.
    model: the network.
    parameters: its number of parameters.
    attribution: True if `ATTRIBUTION` is in the folder.
  """
  name, licence = _line(name), _licence(card) or 'The model card states no licence.'
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
  rows = [f'| {name} | {value:.6g} |' for name, value in _numbers(_section(card, 'scores'))]
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
  if licence := _licence(card):
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
  for key, value in _section(card, 'scores').items():
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
  config = _section(card, 'config')
  section = _section(config, 'data') or config  # cards of version 0.1 are flat
  names = [
    os.path.basename(path.rstrip('/'))
    for path in (section.get('photos'), section.get('data_dir'))
    if isinstance(path, str)
  ]
  names += _section(_section(card, 'data'), 'real_pairs')
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


def _licence(card: Mapping[str, Any]) -> str | None:
  return _text(_section(card, 'data').get('licence'))


def _unit(card: Mapping[str, Any]) -> str | None:
  return _text(_section(card, 'scores').get('unit'))


def _protocol(card: Mapping[str, Any]) -> str | None:
  """Return the protocol of the scores; in old cards it is an entry of the config."""
  config = _section(card, 'config')
  places = _section(card, 'scores'), _section(config, 'evaluation'), config
  return next((_text(place['protocol']) for place in places if 'protocol' in place), None)


def _section(card: Mapping[str, Any], name: str) -> dict[str, Any]:
  """Return an entry that is a dict; an empty one for other types."""
  value = card.get(name)
  return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
  return _line(value) if isinstance(value, str) else None


def _line(text: str) -> str:
  """Return a text of a card as one line that Markdown shows as it is."""
  return re.sub(r'([\\`*<>\[\]|])', r'\\\1', printable(' '.join(text.split())))


def _attribution(card: Mapping[str, Any]) -> bytes | None:
  """Return the package's list of photographs, if a card was trained on exactly those."""
  digest = _section(card, 'data').get('photo_list_sha256')
  path = os.path.join(RELEASED_DIR, ATTRIBUTION)
  if not isinstance(digest, str) or len(digest) != 64 or not os.path.exists(path):
    return None
  content = read_file(path)
  return content if digest.encode() in content else None
