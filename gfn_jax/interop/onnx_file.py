"""ONNX files of networks, in the library's own layout or in the one that image tools expect."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.image import resize  # bound here: jax2onnx replaces jax.image.resize while it traces

from gfn_jax.errors import UserError, install_extra
from gfn_jax.interop.parity import Images, output_names, restore_images
from gfn_jax.layers.blocks import Enlarge, pixel_shuffle
from gfn_jax.models import RestorationModel

if TYPE_CHECKING:
  import onnx

LAYOUTS = ('nhwc', 'nchw')
"""`nhwc` is JAX's: input `lr_blur`, and all outputs. `nchw` is PyTorch's: `input` and `output`."""

OPSET = 18
"""ONNX operator set, supported since ONNX Runtime 1.15."""

IR_VERSION = 8
"""Version of the file format that belongs to `OPSET`."""

# An image is padded at the bottom and at the right, as `pad_to_multiple` does, and cropped.
_PAD = """
  <ir_version: {ir_version}, opset_import: ["": {opset}]>
  pad (float[batch, 3, height, width] input) =>
    (float[batch, 3, padded_height, padded_width] padded_input, int64[2] sides)
  {{
    sides = Shape <start=2> (input)
    stride = Constant <value_ints=[{stride}]> ()
    negative = Neg (sides)
    missing = Mod (negative, stride)
    none = Constant <value_ints=[0, 0]> ()
    pads = Concat <axis=0> (none, missing)
    axes = Constant <value_ints=[2, 3]> ()
    padded_input = Pad <mode="{mode}"> (input, pads, , axes)
  }}
"""
_CROP = """
  <ir_version: {ir_version}, opset_import: ["": {opset}]>
  crop (float[batch, 3, padded_height, padded_width] padded_output, int64[2] input_sides) =>
    (float[batch, 3, output_height, output_width] output)
  {{
    scale = Constant <value_int={scale}> ()
    ends = Mul (input_sides, scale)
    starts = Constant <value_ints=[0, 0]> ()
    output_axes = Constant <value_ints=[2, 3]> ()
    output = Slice (padded_output, starts, ends, output_axes)
  }}
"""


def write_onnx(
  model: RestorationModel,
  variables: Mapping[str, Any],
  path: str,
  metadata: Mapping[str, str],
  *,
  output: str | None = None,
  layout: str = 'nhwc',
  side: int | None = None,
) -> None:
  """Write a network with its parameters as ONNX.

  Args:
    model: the network.
    variables: its variables.
    path: the file.
    metadata: entries for the file's metadata.
    output: the only output; None for all that the network has. `nchw` needs one.
    layout: one of `LAYOUTS`. A file in `nchw` pads its input and crops its output, and so accepts
      all sizes. One in `nhwc` accepts multiples of the network's stride.
    side: height and width of the only image that a file in `nchw` accepts at a time, a multiple of
      the network's strides. None for a file for any sizes and any batch.

  Raises:
    UserError: if jax2onnx or ONNX Runtime is missing, jax2onnx cannot convert the network, or the
      network does not have `output`.
  """
  names = output_names(model, variables, output)
  proto = _trace(model, variables, names, nchw=layout == 'nchw')
  factor = model.scale if output == 'hr' else 1
  if side is not None:
    _fix_size(proto, side, factor)
  elif layout == 'nchw' and model.stride != (1, 1):
    proto = _with_padding(proto, model, factor)
  _save(proto, model, path, metadata)


def load_onnx(path: str) -> Callable[[np.ndarray], Images]:
  """Load a file of `write_onnx` as a function of `lr_blur`, run by ONNX Runtime on the CPU."""
  import onnxruntime

  session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
  [source] = (value.name for value in session.get_inputs())
  names = [value.name for value in session.get_outputs()]

  def restore(lr_blur: np.ndarray) -> Images:
    return dict(zip(names, session.run(names, {source: lr_blur}), strict=True))

  return restore


def load_onnx_nchw(path: str, output: str) -> Callable[[np.ndarray], Images]:
  """Load a file in the layout `nchw` as a function of `lr_blur`, `[B, h, w, 3]`.

  Args:
    path: the file.
    output: name of its output.
  """
  restore = load_onnx(path)

  def restore_nhwc(lr_blur: np.ndarray) -> Images:
    image = np.asarray(restore(np.moveaxis(lr_blur, 3, 1))['output'])
    return {output: np.moveaxis(image, 1, 3)}

  return restore_nhwc


def symbolic_sides(model: RestorationModel, names: tuple[str, str] = ('H', 'W')) -> tuple[str, str]:
  """Return symbolic height and width, as multiples of the network's stride."""
  rows, columns = (f'{step}*' if step > 1 else '' for step in model.stride)
  return f'{rows}{names[0]}', f'{columns}{names[1]}'


_NOT_CONVERTED = (
  jax.errors.InconclusiveDimensionOperation,
  KeyError,
  NotImplementedError,
  TypeError,
  ValueError,
)


def _trace(
  model: RestorationModel, variables: Mapping[str, Any], names: list[str], nchw: bool
) -> 'onnx.ModelProto':
  """Return the outputs `names` of a network as ONNX, for multiples of the network's stride.

  Raises:
    UserError: as `write_onnx`.
  """
  with _needs_onnx():
    import jax2onnx
    import onnxruntime  # noqa: F401  # needed after the conversion: fail before it
  logging.getLogger('onnx_ir').setLevel(logging.ERROR)  # warns of its own intermediate values

  def restore(images: jax.Array) -> tuple[jax.typing.ArrayLike, ...]:
    if nchw:
      images = jnp.transpose(images, (0, 2, 3, 1))
    with nn.intercept_methods(_enlarge_by_convolution):
      restored = restore_images(model, variables, images)
    if nchw:
      restored = {name: jnp.transpose(image, (0, 3, 1, 2)) for name, image in restored.items()}
    return tuple(restored[name] for name in names)

  sides = symbolic_sides(model, ('height', 'width') if nchw else ('H', 'W'))
  try:
    return jax2onnx.to_onnx(
      restore,
      [('batch', 3, *sides) if nchw else ('B', *sides, 3)],
      model_name=type(model).__name__,
      opset=OPSET,
      input_names=['input' if nchw else 'lr_blur'],
      output_names=['output'] if nchw else names,
    )
  except _NOT_CONVERTED as error:
    raise _not_converted(model, error) from error


def _fix_size(proto: 'onnx.ModelProto', side: int, factor: int) -> None:
  """Limit a network in the layout `nchw` to one image of `side` pixels squared.

  Converting a network for a fixed size instead would write large constants, ten times the weights.
  """
  for value, n in ((proto.graph.input[0], side), (proto.graph.output[0], factor * side)):
    for dimension, size in zip(value.type.tensor_type.shape.dim, (1, 3, n, n), strict=True):
      dimension.dim_value = size
  del proto.graph.value_info[:]  # intermediate values of symbolic sizes


def _with_padding(
  proto: 'onnx.ModelProto', model: RestorationModel, factor: int
) -> 'onnx.ModelProto':
  """Return a network that pads its `input` to the stride, and crops its `output`.

  Args:
    proto: the network, in the layout `nchw`.
    model: the same network.
    factor: size of the output in units of the input.
  """
  from onnx import compose, parser

  proto.ir_version = IR_VERSION
  versions = {'ir_version': IR_VERSION, 'opset': OPSET}
  stride = ', '.join(map(str, model.stride))
  pad = parser.parse_model(_PAD.format(**versions, stride=stride, mode=model.pad_mode))
  crop = parser.parse_model(_CROP.format(**versions, scale=factor))
  network = compose.add_prefix(proto, 'network/')
  padded = compose.merge_models(
    pad,
    network,
    io_map=[('padded_input', 'network/input')],
    outputs=['network/output', 'sides'],
  )
  return compose.merge_models(
    padded,
    crop,
    io_map=[('network/output', 'padded_output'), ('sides', 'input_sides')],
    name=type(model).__name__,
  )


def _save(
  proto: 'onnx.ModelProto', model: RestorationModel, path: str, metadata: Mapping[str, str]
) -> None:
  """Check a network and write it with a description.

  Raises:
    UserError: if jax2onnx made a graph that is not valid.
  """
  import onnx

  proto.ir_version = IR_VERSION
  proto.doc_string = _describe(proto, model)
  onnx.helper.set_model_props(proto, dict(metadata))
  try:
    onnx.checker.check_model(proto, full_check=True)
  except onnx.checker.ValidationError as error:
    raise _not_converted(model, error) from error
  onnx.save(proto, path)


def _describe(proto: 'onnx.ModelProto', model: RestorationModel) -> str:
  """Return a sentence on what a network does, and one on its input and outputs."""
  enlarges = f' and enlarges {model.scale}x' if model.scale > 1 else ''
  [value] = proto.graph.input
  sides = ', '.join(d.dim_param or str(d.dim_value) for d in value.type.tensor_type.shape.dim)
  return (
    f'Removes motion blur{enlarges}. {value.name}: [{sides}], RGB in [0, 1]. The outputs have the '
    'same range, but are not clipped.'
  )


def _not_converted(model: RestorationModel, error: Exception) -> UserError:
  """Return the error for a network that jax2onnx cannot convert."""
  reason = f'{error}'.partition('\n')[0]
  return UserError(
    f'jax2onnx cannot convert {type(model).__name__} ({reason.rstrip(".")}); '
    'export to StableHLO instead'
  )


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


@contextlib.contextmanager
def _needs_onnx() -> Iterator[None]:
  try:
    yield
  except ImportError as error:
    raise UserError(
      f'{error.name or error} is not installed; {install_extra("onnx")}, which takes an older JAX '
      'and Orbax (docs/export.md)'
    ) from error
