"""Export of trained weights to StableHLO, ONNX, darktable, PyTorch and a folder for model hubs.

Each file is read back and compared with JAX before it replaces an existing one. docs/export.md
shows how to use the files.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from gfn_jax.errors import UserError
from gfn_jax.interop.conversion import has_torch_names
from gfn_jax.interop.darktable import TASKS, load_dtmodel, package_id, write_dtmodel
from gfn_jax.interop.exported import export_tensors, import_tensors
from gfn_jax.interop.hub_folder import export_hub_folder
from gfn_jax.interop.onnx_file import load_onnx, load_onnx_nchw, symbolic_sides, write_onnx
from gfn_jax.interop.parity import Images, check_parity, restore_images
from gfn_jax.interop.torch_checkpoint import read_checkpoint, save_torch_checkpoint
from gfn_jax.models import RestorationModel, param_count
from gfn_jax.system.files import extension_of, file_sha256, printable, write_aside
from gfn_jax.weights.cards import card_licence, card_section
from gfn_jax.weights.pretrained import load_card, load_model_config, load_pretrained, weights_path
from gfn_jax.weights.tensors import flatten_variables

EXTENSIONS = {
  '.stablehlo': 'stablehlo',
  '.onnx': 'onnx',
  '.dtmodel': 'darktable',
  '.pth': 'torch',
  '.pt': 'torch',
}
"""Format of a file, by its extension."""

FORMATS = (*dict.fromkeys(EXTENSIONS.values()), 'hub')

PLATFORMS = ('cpu', 'cuda', 'tpu')
"""Platforms that a StableHLO file runs on."""

STABLEHLO_SIZES = ((1, 64, 48), (3, 32, 80))
ONNX_SIZES = ((1, 64, 48), (3, 32, 80), (1, 180, 320), (1, 256, 256))
"""Batch, height and width of the inputs to compare; sides are rounded up to the model's stride."""

NCHW_SIZES = (*ONNX_SIZES, (2, 61, 50))
"""The same for files that pad their input, whose sides are not rounded."""


def export_weights(
  weights: str | os.PathLike,
  path: str | os.PathLike,
  file_format: str | None = None,
  *,
  output: str | None = None,
  layout: str = 'nhwc',
) -> None:
  """Export trained weights to another format, verify the file and print a summary.

  Run it in a process whose JAX computes on the CPU, as the command `gfn-export` does.

  Args:
    weights: as for `load_pretrained`.
    path: the file to write, or the folder for 'hub'. Existing files are replaced.
    file_format: one of `FORMATS`. None uses the extension of `path`.
    output: 'hr' or 'lr', the only output of an ONNX file. None is all outputs, or in `nchw` and for
      darktable the main one: 'hr', or 'lr' for a network that only deblurs.
    layout: of an ONNX file, as for `write_onnx`.

  Raises:
    UserError: if `weights` cannot be read, `path` cannot be written or has the extension of another
      format, the format does not support the network or an option, a library is missing, or the
      file's outputs differ from JAX's. An existing file at `path` is then kept.
  """
  file_format = choose_format(path, file_format)
  _check_options(file_format, output, layout)
  if file_format == 'hub':
    export_hub_folder(weights, path)
    return
  if file_format == 'darktable':
    package_id(path)  # fails, if it does, before long work
  model, variables = load_pretrained(weights)
  model = model.clone(dtype='float32')
  model_config, card = load_model_config(weights), _card(weights)
  with _new_file(path) as temporary:
    if file_format == 'stablehlo':
      write_stablehlo(model, variables, temporary)
      check_parity(load_stablehlo(temporary), model, variables, _rounded(STABLEHLO_SIZES, model))
    elif file_format == 'torch':
      write_torch(card | {'model': model_config}, variables, temporary)
    elif file_format == 'onnx':
      metadata = _onnx_metadata(weights, model_config, card)
      _export_onnx(model, variables, temporary, metadata, output, layout)
    else:
      metadata = _onnx_metadata(weights, model_config, card)
      name, data = package_id(path), card_section(card, 'data')
      _export_dtmodel(model, variables, temporary, metadata, output, name, data)
    size = os.path.getsize(temporary)
  name = model_config.pop('name')
  settings = ', '.join(f'{key}={value}' for key, value in model_config.items())
  count = f'{param_count(variables):,} parameters of {name} ({settings})'
  print(f'wrote {printable(path)}: {count}, {size / 1e6:.1f} MB')
  if licence := card_licence(card):
    print(f'licence of the weights: {licence}')


def choose_format(path: str | os.PathLike, file_format: str | None) -> str:
  """Return the format to write: `file_format`, or the format of the path's extension.

  Raises:
    UserError: if the extension is unknown and `file_format` is None, or the two contradict.
  """
  extension = extension_of(path)
  meant = (EXTENSIONS | {'.safetensors': 'this library'}).get(extension)
  if file_format is None and extension not in EXTENSIONS:
    raise UserError(
      f'{printable(path)}: unknown extension; choose one of {", ".join(EXTENSIONS)}, '
      'or pass --format'
    )
  if file_format is not None and meant not in (None, file_format):
    raise UserError(
      f'{printable(path)}: {extension} is the extension of {meant}, not {file_format}; rename it'
    )
  return file_format or EXTENSIONS[extension]


def _export_onnx(
  model: RestorationModel,
  variables: Mapping[str, Any],
  path: str,
  metadata: Mapping[str, str],
  output: str | None,
  layout: str,
) -> None:
  """Write an ONNX file and compare it with the network."""
  if layout == 'nhwc':
    model = model.for_output(output) if output else model
    write_onnx(model, variables, path, metadata, output=output)
    check_parity(load_onnx(path), model, variables, _rounded(ONNX_SIZES, model), output)
  else:
    output = output or _main_output(model)
    model = model.for_output(output)
    write_onnx(model, variables, path, metadata, output=output, layout=layout)
    check_parity(load_onnx_nchw(path, output), model, variables, NCHW_SIZES, output)


def _export_dtmodel(
  model: RestorationModel,
  variables: Mapping[str, Any],
  path: str,
  metadata: Mapping[str, str],
  output: str | None,
  name: str,
  data: Mapping[str, Any],
) -> None:
  """Write a package for darktable and compare it with the network, on one tile."""
  output = output or _main_output(model)
  model = model.for_output(output)
  write_dtmodel(model, variables, path, metadata, name=name, output=output, data=data)
  side = TASKS[output].tile
  check_parity(load_dtmodel(path, output), model, variables, [(1, side, side)], output)


def _main_output(model: RestorationModel) -> str:
  """Return the output of which a file with only one is made, unless another is named."""
  return 'hr' if model.scale > 1 else 'lr'


def _check_options(file_format: str, output: str | None, layout: str) -> None:
  """Raise unless a format has the options that are set.

  Raises:
    UserError: if `output` is not for ONNX or darktable, or `layout` not for ONNX.
  """
  if output is not None and file_format not in ('onnx', 'darktable'):
    raise UserError(f'output {output!r} is for the formats onnx and darktable, not {file_format}')
  if layout != 'nhwc' and file_format != 'onnx':
    raise UserError(f'layout {layout!r} is for the format onnx, not {file_format}')


def write_stablehlo(model: RestorationModel, variables: Mapping[str, Any], path: str) -> None:
  """Write a network with its parameters as StableHLO, for any image size and batch size.

  Args:
    model: the network.
    variables: its variables.
    path: the file.
  """
  sides = ', '.join(symbolic_sides(model))
  shape = jax.export.symbolic_shape(f'B, {sides}, 3')

  @jax.jit
  def restore(lr_blur: jax.Array) -> Images:
    return restore_images(model, variables, lr_blur)

  exported = jax.export.export(restore, platforms=PLATFORMS)(
    jax.ShapeDtypeStruct(shape, jnp.float32)
  )
  with open(path, 'wb') as file:
    file.write(exported.serialize(vjp_order=0))


def load_stablehlo(path: str) -> Callable[[np.ndarray], Images]:
  """Load a file of `write_stablehlo` as a function of `lr_blur`."""
  with open(path, 'rb') as file:
    exported = jax.export.deserialize(bytearray(file.read()))
  return jax.jit(exported.call)


def write_torch(card: Mapping[str, Any], variables: Mapping[str, Any], path: str) -> None:
  """Write parameters and the model card for PyTorch, and verify the file.

  Args:
    card: the card of the weights; its `model` is the name and the options of `create_model`.
    variables: the network's variables.
    path: the file. Its `state_dict` has the names of the authors' code if there is such code, and
      our names and layouts otherwise; its `gfn_jax` is the card as JSON.

  Raises:
    UserError: if the tensors read back differ.
  """
  options = dict(card['model'])
  name = options.pop('name')
  save_torch_checkpoint(path, export_tensors(card['model'], variables), card)
  checkpoint = read_checkpoint(path)
  again = flatten_variables(import_tensors(card['model'], checkpoint.tensors))
  for key, value in flatten_variables(variables).items():
    if again[key].tobytes() != np.asarray(value).tobytes():
      raise UserError(f'not written: {key} differs from the weights when it is read back')
  whose = "the authors'" if has_torch_names(name, **options) else "gfn_jax's own"
  print(f'{len(checkpoint.tensors)} tensors under {whose} names, identical when read back')


def _rounded(
  sizes: Iterable[tuple[int, int, int]], model: RestorationModel
) -> list[tuple[int, int, int]]:
  """Return batches, heights and widths, with sides rounded up to the network's stride."""
  rows, columns = model.stride
  return [(count, h + -h % rows, w + -w % columns) for count, h, w in sizes]


def _onnx_metadata(
  weights: str | os.PathLike, model_config: Mapping[str, Any], card: Mapping[str, Any]
) -> dict[str, str]:
  metadata = {
    'model': json.dumps(model_config),
    'weights_sha256': file_sha256(weights_path(weights)),
  }
  if licence := card_licence(card):
    metadata['licence'] = licence
  if 'scores' in card:
    metadata['scores'] = json.dumps(card['scores'])
  return metadata


def _card(weights: str | os.PathLike) -> dict[str, Any]:
  """Return the model card of readable weights, or an empty one if it is missing."""
  with contextlib.suppress(UserError):
    return load_card(weights)
  return {}


@contextlib.contextmanager
def _new_file(path: str | os.PathLike) -> Iterator[str]:
  """Open a file with `write_aside`, but fail at once if its folder cannot be written."""
  with write_aside(path) as temporary:
    try:
      open(temporary, 'wb').close()
    except OSError as error:
      raise UserError(f'cannot write {printable(path)}: {error.strerror}') from error
    yield temporary
