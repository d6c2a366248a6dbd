"""Writes trained weights for other programs: as StableHLO, as ONNX or for PyTorch.

python -m gfn_jax.interop.export gfn gfn.stablehlo
python -m gfn_jax.interop.export gfn gfn.onnx     # needs an environment of its own: make onnx
python -m gfn_jax.interop.export gfn gfn.pth      # the tensors, under the names of the authors

What was written is read anew and compared with JAX before it gets its name. docs/export.md tells
how to use the files.
"""

import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jax.image import resize  # bound here: jax2onnx replaces jax.image.resize while it traces

from gfn_jax.errors import ArgumentParser, UserError, exit_on_user_error
from gfn_jax.interop.convert import convert, to_torch
from gfn_jax.interop.torch_checkpoint import load_torch_checkpoint, save_torch_checkpoint
from gfn_jax.layers.blocks import Enlarge, pixel_shuffle
from gfn_jax.models import as_variables, param_count
from gfn_jax.system.files import check_new_file, extension_of, file_sha256, printable, write_aside
from gfn_jax.weights.pretrained import load_card, load_model_config, load_pretrained, weights_path

EXTENSIONS = {'.stablehlo': 'stablehlo', '.onnx': 'onnx', '.pth': 'torch', '.pt': 'torch'}
"""What a file is by its name."""

FORMATS = tuple(dict.fromkeys(EXTENSIONS.values()))

PLATFORMS = ('cpu', 'cuda', 'tpu')
"""What a StableHLO file runs on."""

OPSET = 18
"""Of ONNX: old enough for ONNX Runtime 1.15."""

TOLERANCE = 1e-4
"""Largest difference between a file's output and JAX's, in standard deviations of the latter."""

STABLEHLO_SIZES = ((1, 64, 48), (3, 32, 80))
ONNX_SIZES = ((1, 64, 48), (3, 32, 80), (1, 180, 320), (1, 256, 256))
"""Batch, height and width of the inputs that are compared; for a network with a larger stride the
sides are rounded up to it."""

Images = dict[str, jax.typing.ArrayLike]


def restore_images(model: nn.Module, params: Any, lr_blur: jax.typing.ArrayLike) -> Images:
  """What an exported network computes.

  Args:
    model: a network of this library.
    params: its parameters.
    lr_blur: `[B, h, w, 3]` float32 in [0, 1]; the sides are multiples of `model.stride`.

  Returns:
    `hr`, `[B, 4h, 4w, 3]`, and where the network has them `lr`, `[B, h, w, 3]`, and `frames`,
    `[B, 7, h, w, 3]`. float32, unclipped.
  """
  output = model.apply(as_variables(params), lr_blur)
  images = {'hr': output.hr, 'lr': output.lr, 'frames': output.frames}
  return {name: image for name, image in images.items() if image is not None}


def export_weights(
  weights: str | os.PathLike, path: str | os.PathLike, file_format: str | None = None
) -> None:
  """Writes trained weights in another format, checks the file, and prints what came out.

  Meant for a process whose JAX computes on the CPU, as the command's does.

  Args:
    weights: a .safetensors file or the name of released weights.
    path: the new file; is replaced.
    file_format: one of `FORMATS`; None takes it from the extension of `path`.

  Raises:
    UserError: if `weights` cannot be read, `path` cannot be written or has the extension of another
      format, the network cannot be had in that format, a library is missing, or what was written
      does not compute what JAX does. At `path` is then what was there before.
  """
  file_format = choose_format(path, file_format)
  model, params = load_pretrained(weights)
  model = model.clone(dtype='float32')
  model_config, card = load_model_config(weights), _card(weights)
  with _new_file(path) as temporary:
    if file_format == 'stablehlo':
      write_stablehlo(model, params, temporary)
      check_parity(load_stablehlo(temporary), model, params, STABLEHLO_SIZES)
    elif file_format == 'onnx':
      write_onnx(model, params, temporary, _onnx_metadata(weights, model_config, card))
      check_parity(load_onnx(temporary), model, params, ONNX_SIZES)
    else:
      write_torch(model_config, params, temporary)
    size = os.path.getsize(temporary)
  name = model_config.pop('name')
  settings = ', '.join(f'{key}={value}' for key, value in model_config.items())
  count = f'{param_count(params):,} parameters of {name} ({settings})'
  print(f'{count} are in {printable(path)}, {size / 1e6:.1f} MB')
  if licence := _licence(card):
    print(f'licence of the weights: {licence}')


def choose_format(path: str | os.PathLike, file_format: str | None) -> str:
  """The format of a file: what was asked for, or what its extension says.

  Raises:
    UserError: if neither tells, or the extension is that of something else.
  """
  extension = extension_of(path)
  meant = (EXTENSIONS | {'.safetensors': 'this library'}).get(extension)
  if file_format is None and extension not in EXTENSIONS:
    raise UserError(
      f'{printable(path)}: the name of a file to write ends in {", ".join(EXTENSIONS)}; '
      'for another name pass --format'
    )
  if file_format is not None and meant not in (None, file_format):
    raise UserError(
      f'{printable(path)}: {extension} is the extension of {meant}, not {file_format}'
    )
  return file_format or EXTENSIONS[extension]


def write_stablehlo(model: nn.Module, params: Any, path: str) -> None:
  """Writes a network with its parameters as `jax.export` serialises it, of any size and batch.

  Args:
    model: the network.
    params: its parameters.
    path: the file.
  """
  sides = ', '.join(_symbolic_sides(model))
  shape = jax.export.symbolic_shape(f'B, {sides}, 3')

  @jax.jit
  def restore(lr_blur: jax.Array) -> Images:
    return restore_images(model, params, lr_blur)

  exported = jax.export.export(restore, platforms=PLATFORMS)(
    jax.ShapeDtypeStruct(shape, jnp.float32)
  )
  with open(path, 'wb') as file:
    file.write(exported.serialize(vjp_order=0))


def load_stablehlo(path: str) -> Callable[[np.ndarray], Images]:
  """A file of `write_stablehlo` as a function of `lr_blur`."""
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


def write_onnx(model: nn.Module, params: Any, path: str, metadata: Mapping[str, str]) -> None:
  """Writes a network with its parameters as ONNX, of any size and batch.

  Args:
    model: the network.
    params: its parameters.
    path: the file.
    metadata: texts to put into it.

  Raises:
    UserError: if jax2onnx or ONNX Runtime is missing, or does not know what the network does.
  """
  with _needs_onnx():
    import jax2onnx
    import onnx
    import onnxruntime  # noqa: F401  # for the check that follows: better to miss it now
  logging.getLogger('onnx_ir').setLevel(logging.ERROR)  # it reports on its own intermediate values
  lr_blur = jax.ShapeDtypeStruct((1, 16 * model.stride, 16 * model.stride, 3), jnp.float32)
  names = list(jax.eval_shape(lambda x: restore_images(model, params, x), lr_blur))

  def restore(lr_blur: jax.Array) -> tuple[jax.Array, ...]:
    with nn.intercept_methods(_enlarge_by_convolution):
      images = restore_images(model, params, lr_blur)
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
    reason = f'{error}'.partition('\n')[0]
    raise UserError(
      f'jax2onnx does not convert this {type(model).__name__} ({reason.rstrip(".")}); '
      'StableHLO can hold it'
    ) from error
  proto.ir_version = onnx.helper.find_min_ir_version_for(proto.opset_import)
  enlarges = f' and enlarges {model.scale}x' if model.scale > 1 else ''
  proto.doc_string = (
    f'Removes motion blur{enlarges}. lr_blur: [B, h, w, 3], RGB in [0, 1], sides multiples of '
    f'{model.stride}. The outputs are of the same kind, not clipped.'
  )
  onnx.helper.set_model_props(proto, dict(metadata))
  onnx.checker.check_model(proto, full_check=True)
  onnx.save(proto, path)


def load_onnx(path: str) -> Callable[[np.ndarray], Images]:
  """A file of `write_onnx` as a function of `lr_blur`, computed by ONNX Runtime on the CPU."""
  import onnxruntime

  session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
  names = [output.name for output in session.get_outputs()]

  def restore(lr_blur: np.ndarray) -> Images:
    return dict(zip(names, session.run(names, {'lr_blur': lr_blur}), strict=True))

  return restore


def check_parity(
  restore: Callable[[np.ndarray], Images],
  model: nn.Module,
  params: Any,
  sizes: Sequence[tuple[int, int, int]],
) -> None:
  """Compares a file with the network on random images, and prints the largest differences.

  Args:
    restore: computes with the file.
    model: the network.
    params: its parameters.
    sizes: batch, height and width of the images.

  Raises:
    UserError: if they differ by more than `TOLERANCE`.
  """
  reference = jax.jit(lambda params, lr_blur: restore_images(model, params, lr_blur))
  for batch, *sides in sizes:
    size = batch, *(side + -side % model.stride for side in sides)
    lr_blur = np.random.default_rng(0).random((*size, 3), np.float32)
    expected, got = reference(params, lr_blur), restore(lr_blur)
    if got.keys() != expected.keys():
      raise UserError(f'the file gives {", ".join(got)}, JAX {", ".join(expected)}; not written')
    for name, image in expected.items():
      _compare(f'{name} of {"x".join(map(str, size))}', np.asarray(got[name]), np.asarray(image))


def write_torch(model_config: Mapping[str, Any], params: Any, path: str) -> None:
  """Writes parameters under the names of the authors' PyTorch code, and reads them back.

  Args:
    model_config: `name` and the options of `create_model`.
    params: the network's parameters.
    path: the file.

  Raises:
    UserError: if the network has no such names, or not every bit comes back.
  """
  options = dict(model_config)
  name = options.pop('name')
  save_torch_checkpoint(path, to_torch(name, params, **options))
  state = load_torch_checkpoint(path)
  again = convert(name, state, **options)
  same = jax.tree.map(lambda a, b: a.tobytes() == b.tobytes(), again, params)
  if not all(jax.tree.leaves(same)):
    raise UserError('the tensors read back are not those of the weights; not written')
  print(f'{len(state)} tensors, read back bit for bit')


def _compare(what: str, got: np.ndarray, expected: np.ndarray) -> None:
  if got.shape != expected.shape:
    raise UserError(f'{what} has shape {got.shape}, not {expected.shape}; not written')
  difference = float(np.abs(got - expected).max())
  relative = difference / (float(expected.std()) or 1.0)
  text = f'{what}: at most {difference:.1e} from JAX, {relative:.1e} of its standard deviation'
  if not relative <= TOLERANCE:  # not a number, too
    raise UserError(f'{text}; not written, as that is more than {TOLERANCE:.0e}')
  print(text)


def _symbolic_sides(model: nn.Module) -> tuple[str, str]:
  """Height and width as multiples of the network's stride."""
  factor = f'{model.stride}*' if model.stride > 1 else ''
  return f'{factor}H', f'{factor}W'


def _enlarge_by_convolution(
  next_layer: Callable, args: tuple, kwargs: dict, context: nn.module.InterceptorContext
) -> Any:
  """Computes `Enlarge` as a convolution: jax2onnx resizes to constant sizes only."""
  if not isinstance(context.module, Enlarge) or context.method_name != '__call__':
    return next_layer(*args, **kwargs)
  scale, method = context.module.scale, context.module.method
  (x,) = args
  channels = x.shape[-1]
  with jax.ensure_compile_time_eval():
    # A pixel's weights for the `scale` pixels it becomes, seen far from the borders.
    weights = np.asarray(resize(jnp.eye(9), (9 * scale, 9), method)[4 * scale : 5 * scale, 2:7])
  # [y, x, in, out, i, j]: pixel (i, j) of a channel comes from the same channel.
  kernel = np.einsum('iy,jx,co->yxcoij', weights, weights, np.eye(channels))
  kernel = kernel.reshape(5, 5, channels, -1).astype(x.dtype)

  def enlarge(y: jax.Array) -> jax.Array:
    layout = ('NHWC', 'HWIO', 'NHWC')
    y = jax.lax.conv_general_dilated(y, kernel, (1, 1), ((2, 2), (2, 2)), dimension_numbers=layout)
    return pixel_shuffle(y, scale)

  # Beyond the border there are zeros: the weights of the pixels that exist are to sum to 1.
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
  """The card of weights that could be read, or nothing where there is none."""
  with contextlib.suppress(UserError):
    return load_card(weights)
  return {}


def _licence(card: Mapping[str, Any]) -> str | None:
  data = card.get('data')
  licence = data.get('licence') if isinstance(data, dict) else None
  return printable(licence) if isinstance(licence, str) else None


@contextlib.contextmanager
def _new_file(path: str | os.PathLike) -> Iterator[str]:
  """`write_aside`, of which a path that cannot be written is told at once."""
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
      f'{error.name or error} is not installed, and needs an older orbax-checkpoint than gfn_jax: '
      '`make onnx` exports in an environment of its own (docs/export.md)'
    ) from error


def make_parser() -> ArgumentParser:
  """The command's options."""
  parser = ArgumentParser('python -m gfn_jax.interop.export', __doc__)
  parser.add_argument('weights', metavar='WEIGHTS', help='a .safetensors file or a name: gfn')
  parser.add_argument('out', metavar='OUT', help='the file; its extension is its format')
  parser.add_argument('--format', choices=FORMATS, help='for files of other names')
  parser.add_argument('--overwrite', action='store_true', help='replace OUT if it exists')
  return parser


def main(argv: Sequence[str] | None = None) -> None:
  """Options to a call."""
  args = make_parser().parse_args(argv)
  check_new_file(args.out, args.overwrite)
  jax.config.update('jax_platforms', 'cpu')  # before JAX looks for a GPU, which it does not need
  export_weights(args.weights, args.out, args.format)


if __name__ == '__main__':
  with exit_on_user_error():
    main()
