"""Packages for darktable's neural restore module: a zip of ONNX files and `config.json`.

docs/darktable.md names the public documents of the format.
"""

import json
import os
import re
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from gfn_jax import __version__
from gfn_jax.errors import UserError
from gfn_jax.interop.onnx_file import load_onnx_nchw, write_onnx
from gfn_jax.interop.parity import Images, output_names
from gfn_jax.models import RestorationModel
from gfn_jax.system.files import printable


class Task(NamedTuple):
  """A task of darktable, of which one model at a time is active.

  Attributes:
    name: the task's name in `config.json`.
    file: name of the ONNX file that darktable looks for, with the scale.
    tile: side of the only tile that the file accepts. It is that of darktable's denoisers. Its
      upscalers have 256 at 4x, which makes more cuts.
    scales: scales that darktable offers.
  """

  name: str
  file: str
  tile: int
  scales: tuple[int, ...]


TASKS = {
  'hr': Task('upscale', 'model_x{scale}.onnx', 512, (2, 4)),
  'lr': Task('denoise', 'model.onnx', 768, (1,)),
}
"""The task for each output. darktable has none for deblurring at the input's size."""

CONFIG = 'config.json'


def package_id(path: str | os.PathLike) -> str:
  """Return the id of a package, which is the name of its file without the extension.

  Raises:
    UserError: unless darktable accepts the id as a folder.
  """
  name = os.path.splitext(os.path.basename(os.fspath(path)))[0]
  if not re.fullmatch(r'[A-Za-z0-9][A-Za-z0-9_-]*', name):
    raise UserError(
      f'{printable(path)}: darktable takes the id of the model from this name; use letters, '
      'digits and hyphens, such as upscale-gfn.dtmodel'
    )
  return name


def write_dtmodel(
  model: RestorationModel,
  variables: Mapping[str, Any],
  path: str,
  metadata: Mapping[str, str],
  *,
  name: str,
  output: str,
  data: Mapping[str, Any],
) -> None:
  """Write a package with a network.

  Args:
    model: the network.
    variables: its variables.
    path: the file.
    metadata: entries for the metadata of the ONNX file; `licence` is also written as a file.
    name: id of the package, see `package_id`.
    output: 'hr', for the task `upscale`, or 'lr', for the task `denoise`.
    data: description of the training data, as in the weights' card.

  Raises:
    UserError: if darktable cannot use the network, and as `write_onnx`.
  """
  output_names(model, variables, output)  # fails if the network does not have it
  task, scale = TASKS[output], model.scale if output == 'hr' else 1
  if scale not in task.scales:
    raise UserError(f'{type(model).__name__} enlarges {scale}x; darktable has only 2x and 4x')
  if not model.local:
    raise UserError(
      f'{type(model).__name__} uses the whole image, but darktable restores tiles: the result '
      'would depend on them'
    )
  licence = metadata.get('licence', '')
  config = _config(model, task, scale, name) | {'model_card': _model_card(licence, data)}
  with tempfile.TemporaryDirectory() as folder:
    onnx = os.path.join(folder, 'model.onnx')
    write_onnx(model, variables, onnx, metadata, output=output, layout='nchw', side=task.tile)
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as package:
      package.writestr(f'{name}/{CONFIG}', json.dumps(config, indent=2) + '\n')
      package.write(onnx, f'{name}/{task.file.format(scale=scale)}')
      if licence:
        package.writestr(f'{name}/LICENSE', licence + '\n')


def load_dtmodel(path: str, output: str) -> Callable[[np.ndarray], Images]:
  """Load the network of a package as a function of one tile, `[1, side, side, 3]`.

  Args:
    path: the file.
    output: the output with which it was written.
  """
  with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as package:
    [onnx] = (name for name in package.namelist() if name.endswith('.onnx'))
    return load_onnx_nchw(package.extract(onnx, folder), output)


def _config(model: RestorationModel, task: Task, scale: int, name: str) -> dict[str, Any]:
  """Return the fields of `config.json` but the card."""
  does = f'removes motion blur and enlarges {scale}x' if scale > 1 else 'removes motion blur'
  return {
    'id': name,
    'name': name.replace('-', ' '),
    'description': f'{type(model).__name__} of gfn_jax: {does}',
    'task': task.name,
    'arch': type(model).__name__.lower(),
    'backend': 'onnx',
    'version': '.'.join(__version__.split('.')[:2]),
    'tiling': True,
    'attributes': {'input_sizes': [task.tile]},
  }


def _model_card(licence: str, data: Mapping[str, Any]) -> dict[str, str]:
  """Return the fields of `model_card` that are known, each a string."""
  card = {'scope': 'motion deblurring of photographs', 'author': 'trained with gfn_jax'}
  if licence:
    card['license'] = licence
  photos, pairs = data.get('train_photos'), data.get('real_pairs')
  sources = [f'{photos:,} photographs'] if isinstance(photos, int) else []
  if isinstance(pairs, dict):
    sources += [f'real pairs of {printable(name)}' for name in pairs]
  if sources:
    card['training_data'] = ', '.join(sources)
  return card
