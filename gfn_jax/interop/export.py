"""Export of trained weights to StableHLO, ONNX, PyTorch and a folder for model hubs.

Each file is read back and compared with JAX before it replaces an existing one. docs/export.md
shows how to use the files.
"""

import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jax.image import resize  # bound here: jax2onnx replaces jax.image.resize while it traces

from gfn_jax.errors import UserError
from gfn_jax.interop.conversion import has_torch_names
from gfn_jax.interop.exported import export_tensors, import_tensors
from gfn_jax.interop.hub_folder import export_hub_folder
from gfn_jax.interop.torch_checkpoint import read_checkpoint, save_torch_checkpoint
from gfn_jax.layers.blocks import Enlarge, pixel_shuffle
from gfn_jax.models import RestorationModel, RestorationOutput, param_count
from gfn_jax.system.files import extension_of, file_sha256, printable, write_aside
from gfn_jax.weights.pretrained import load_card, load_model_config, load_pretrained, weights_path
from gfn_jax.weights.tensors import flatten_variables

EXTENSIONS = {'.stablehlo': 'stablehlo', '.onnx': 'onnx', '.pth': 'torch', '.pt': 'torch'}
"""Format of a file, by its extension."""

FORMATS = (*dict.fromkeys(EXTENSIONS.values()), 'hub')

PLATFORMS = ('cpu', 'cuda', 'tpu')
"""Platforms that a StableHLO file runs on."""

OPSET = 18
"""ONNX operator set, supported since ONNX Runtime 1.15."""

TOLERANCE = 1e-4
"""Largest difference between the output of a file and of JAX, in standard deviations of JAX's."""

STABLEHLO_SIZES = ((1, 64, 48), (3, 32, 80))
ONNX_SIZES = ((1, 64, 48), (3, 32, 80), (1, 180, 320), (1, 256, 256))
"""Batch, height and width of the inputs to compare; sides are rounded up to the model's stride."""

Images = dict[str, jax.typing.ArrayLike]


def restore_images(
  model: RestorationModel, variables: Mapping[str, Any], lr_blur: jax.typing.ArrayLike
) -> Images:
  """Apply a network, as an exported file does.

  Args:
    model: a network of this library.
    variables: its variables.
    lr_blur: `[B, h, w, 3]` float32 in [0, 1]. The sides are multiples of `model.stride`.

  Returns:
    The outputs that the network has, float32 and not clipped: `hr`, `[B, 4h, 4w, 3]`; `lr`,
    `[B, h, w, 3]`; and `frames`, `[B, 7, h, w, 3]`.
  """
  output = cast(RestorationOutput, model.apply(variables, lr_blur))
  images = {'hr': output.hr, 'lr': output.lr, 'frames': output.frames}
  return {name: image for name, image in images.items() if image is not None}


def export_weights(
  weights: str | os.PathLike, path: str | os.PathLike, file_format: str | None = None
) -> None:
  """Export trained weights to another format, verify the file and print a summary.

  Run it in a process whose JAX computes on the CPU, as the command `gfn-export` does.

  Args:
    weights: a .safetensors file or the name of released weights.
    path: the file to write, or the folder for 'hub'. Existing files are replaced.
    file_format: one of `FORMATS`. None uses the extension of `path`.

  Raises:
    UserError: if `weights` cannot be read, `path` cannot be written or has the extension of another
      format, the format does not support the network, a library is missing, or the file's outputs
      differ from JAX's. An existing file at `path` is then kept.
  """
  file_format = choose_format(path, file_format)
  if file_format == 'hub':
    export_hub_folder(weights, path)
    return
  model, variables = load_pretrained(weights)
  model = model.clone(dtype='float32')
  model_config, card = load_model_config(weights), _card(weights)
  with _new_file(path) as temporary:
    if file_format == 'stablehlo':
      write_stablehlo(model, variables, temporary)
      check_parity(load_stablehlo(temporary), model, variables, STABLEHLO_SIZES)
    elif file_format == 'onnx':
      write_onnx(model, variables, temporary, _onnx_metadata(weights, model_config, card))
      check_parity(load_onnx(temporary), model, variables, ONNX_SIZES)
    else:
      write_torch(card | {'model': model_config}, variables, temporary)
    size = os.path.getsize(temporary)
  name = model_config.pop('name')
  settings = ', '.join(f'{key}={value}' for key, value in model_config.items())
  count = f'{param_count(variables):,} parameters of {name} ({settings})'
  print(f'wrote {printable(path)}: {count}, {size / 1e6:.1f} MB')
  if licence := _licence(card):
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


def write_stablehlo(model: RestorationModel, variables: Mapping[str, Any], path: str) -> None:
  """Write a network with its parameters as StableHLO, for any image size and batch size.

  Args:
    model: the network.
    variables: its variables.
    path: the file.
  """
  sides = ', '.join(_symbolic_sides(model))
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


_NOT_CONVERTED = (
  jax.errors.InconclusiveDimensionOperation,
  KeyError,
  NotImplementedError,
  TypeError,
  ValueError,
)


def write_onnx(
  model: RestorationModel, variables: Mapping[str, Any], path: str, metadata: Mapping[str, str]
) -> None:
  """Write a network with its parameters as ONNX, for any image size and batch size.

  Args:
    model: the network.
    variables: its variables.
    path: the file.
    metadata: entries for the file's metadata.

  Raises:
    UserError: if jax2onnx or ONNX Runtime is missing, or jax2onnx cannot convert the network.
  """
  with _needs_onnx():
    import jax2onnx
    import onnx
    import onnxruntime  # noqa: F401  # needed after the conversion: fail before it
  logging.getLogger('onnx_ir').setLevel(logging.ERROR)  # warns of its own intermediate values
  lr_blur = jax.ShapeDtypeStruct((1, *(16 * step for step in model.stride), 3), jnp.float32)
  names = list(jax.eval_shape(lambda x: restore_images(model, variables, x), lr_blur))

  def restore(lr_blur: jax.Array) -> tuple[jax.typing.ArrayLike, ...]:
    with nn.intercept_methods(_enlarge_by_convolution):
      images = restore_images(model, variables, lr_blur)
    return tuple(images[name] for name in names)

  try:
    proto = jax2onnx.to_onnx(
      restore,
      [('B', *_symbolic_sides(model), 3)],
      model_name=type(model).__name__,
      opset=OPSET,
      input_names=['lr_blur'],
      output_names=names,
    )
  except _NOT_CONVERTED as error:
    raise _not_converted(model, error) from error
  proto.ir_version = onnx.helper.find_min_ir_version_for(proto.opset_import)
  enlarges = f' and enlarges {model.scale}x' if model.scale > 1 else ''
  proto.doc_string = (
    f'Removes motion blur{enlarges}. lr_blur: [B, h, w, 3], RGB in [0, 1], h and w multiples '
    f'of {model.stride[0]} and {model.stride[1]}. The outputs have the same range, but are not '
    'clipped.'
  )
  onnx.helper.set_model_props(proto, dict(metadata))
  try:
    onnx.checker.check_model(proto, full_check=True)
  except onnx.checker.ValidationError as error:
    raise _not_converted(model, error) from error
  onnx.save(proto, path)


def _not_converted(model: RestorationModel, error: Exception) -> UserError:
  """Return the error for a network that jax2onnx cannot convert."""
  reason = f'{error}'.partition('\n')[0]
  return UserError(
    f'jax2onnx cannot convert {type(model).__name__} ({reason.rstrip(".")}); '
    'export to StableHLO instead'
  )


def load_onnx(path: str) -> Callable[[np.ndarray], Images]:
  """Load a file of `write_onnx` as a function of `lr_blur`, run by ONNX Runtime on the CPU."""
  import onnxruntime

  session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
  names = [output.name for output in session.get_outputs()]

  def restore(lr_blur: np.ndarray) -> Images:
    return dict(zip(names, session.run(names, {'lr_blur': lr_blur}), strict=True))

  return restore


def check_parity(
  restore: Callable[[np.ndarray], Images],
  model: RestorationModel,
  variables: Mapping[str, Any],
  sizes: Sequence[tuple[int, int, int]],
) -> None:
  """Compare a file with the network on random images, and print the largest differences.

  Args:
    restore: the loaded file, a function of `lr_blur`.
    model: the network.
    variables: its variables.
    sizes: batch, height and width of the images.

  Raises:
    UserError: if the outputs differ by more than `TOLERANCE`.
  """
  reference = jax.jit(lambda variables, lr_blur: restore_images(model, variables, lr_blur))
  for batch, *sides in sizes:
    size = batch, *(side + -side % step for side, step in zip(sides, model.stride, strict=True))
    lr_blur = np.random.default_rng(0).random((*size, 3), np.float32)
    expected, got = reference(variables, lr_blur), restore(lr_blur)
    if got.keys() != expected.keys():
      raise UserError(
        f'not written: the file returns {", ".join(got)} but JAX returns {", ".join(expected)}'
      )
    for name, image in expected.items():
      _compare(f'{name} of {"x".join(map(str, size))}', np.asarray(got[name]), np.asarray(image))


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


def _compare(what: str, got: np.ndarray, expected: np.ndarray) -> None:
  if got.shape != expected.shape:
    raise UserError(f'not written: {what} has shape {got.shape}, expected {expected.shape}')
  difference = float(np.abs(got - expected).max())
  relative = difference / (float(expected.std()) or 1.0)
  text = f'{what}: maximum difference {difference:.1e}, {relative:.1e} standard deviations'
  if not relative <= TOLERANCE:  # also true for NaN
    raise UserError(f'not written: {text}; the limit is {TOLERANCE:.0e}')
  print(text)


def _symbolic_sides(model: RestorationModel) -> tuple[str, str]:
  """Return symbolic height and width, as multiples of the network's stride."""
  rows, columns = (f'{step}*' if step > 1 else '' for step in model.stride)
  return f'{rows}H', f'{columns}W'


def _enlarge_by_convolution(
  next_layer: Callable, args: tuple, kwargs: dict, context: nn.module.InterceptorContext
) -> Any:
  """Compute `Enlarge` as a convolution, because jax2onnx resizes only to constant sizes."""
  if not isinstance(context.module, Enlarge) or context.method_name != '__call__':
    return next_layer(*args, **kwargs)
  scale, method = context.module.scale, context.module.method
  (x,) = args
  channels = x.shape[-1]
  with jax.ensure_compile_time_eval():
    # Weights of one input pixel in its `scale` output pixels, far from the borders.
    weights = np.asarray(resize(jnp.eye(9), (9 * scale, 9), method)[4 * scale : 5 * scale, 2:7])
  # [y, x, in, out, i, j]: pixel (i, j) of a channel comes from the same channel.
  kernel = np.einsum('iy,jx,co->yxcoij', weights, weights, np.eye(channels))
  kernel = kernel.reshape(5, 5, channels, -1).astype(x.dtype)

  def enlarge(y: jax.Array) -> jax.Array:
    layout = ('NHWC', 'HWIO', 'NHWC')
    y = jax.lax.conv_general_dilated(y, kernel, (1, 1), ((2, 2), (2, 2)), dimension_numbers=layout)
    return pixel_shuffle(y, scale)

  # Zeros lie beyond the border, so normalise by the weights of the pixels inside.
  return enlarge(x) / enlarge(jnp.ones((1, *x.shape[1:]), x.dtype))


def _onnx_metadata(
  weights: str | os.PathLike, model_config: Mapping[str, Any], card: Mapping[str, Any]
) -> dict[str, str]:
  metadata = {
    'model': json.dumps(model_config),
    'weights_sha256': file_sha256(weights_path(weights)),
  }
  if licence := _licence(card):
    metadata['licence'] = licence
  if 'scores' in card:
    metadata['scores'] = json.dumps(card['scores'])
  return metadata


def _card(weights: str | os.PathLike) -> dict[str, Any]:
  """Return the model card of readable weights, or an empty one if it is missing."""
  with contextlib.suppress(UserError):
    return load_card(weights)
  return {}


def _licence(card: Mapping[str, Any]) -> str | None:
  data = card.get('data')
  licence = data.get('licence') if isinstance(data, dict) else None
  return printable(licence) if isinstance(licence, str) else None


@contextlib.contextmanager
def _new_file(path: str | os.PathLike) -> Iterator[str]:
  """Open a file with `write_aside`, but fail at once if its folder cannot be written."""
  with write_aside(path) as temporary:
    try:
      open(temporary, 'wb').close()
    except OSError as error:
      raise UserError(f'cannot write {printable(path)}: {error.strerror}') from error
    yield temporary


@contextlib.contextmanager
def _needs_onnx() -> Iterator[None]:
  try:
    yield
  except ImportError as error:
    raise UserError(
      f'{error.name or error} is not installed. It needs an older orbax-checkpoint than training: '
      'run `make onnx`, which uses a separate environment (docs/export.md)'
    ) from error
