"""Import of the authors' checkpoints as weights of this library, without PyTorch."""

import os
from collections.abc import Mapping
from typing import Any

from gfn_jax.errors import UserError
from gfn_jax.interop.conversion import convert, infer_options
from gfn_jax.interop.tensorflow_checkpoint import load_tensorflow_checkpoint, tensorflow_prefix
from gfn_jax.interop.torch_checkpoint import load_torch_checkpoint
from gfn_jax.interop.torch_pickle import show
from gfn_jax.system.files import file_sha256, printable
from gfn_jax.weights.pretrained import param_count, save_weights


def import_torch(
  source: str | os.PathLike,
  target: str | os.PathLike,
  model_name: str,
  key: str | None = None,
  options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
  """Convert a checkpoint to a weights file and a model card that names the source.

  Args:
    source: PyTorch checkpoint, as for `load_torch_checkpoint`, or TensorFlow checkpoint, as for
      `load_tensorflow_checkpoint`.
    target: .safetensors file to write. An existing file is replaced.
    model_name: a key of `gfn_jax.interop.torch_names.VERSIONS`.
    key: entry of a PyTorch checkpoint, as for `load_torch_checkpoint`.
    options: options of the network, as for `convert`.

  Returns:
    The network's `name` and options, and its number of parameters as `parameters`.

  Raises:
    UserError: as `load_torch_checkpoint`, `load_tensorflow_checkpoint`, `convert` and
      `save_weights`; also for the `key` of a TensorFlow checkpoint.
  """
  prefix = tensorflow_prefix(source)
  if prefix is None:
    file, state = source, load_torch_checkpoint(source, key)
  elif key is None:
    # The index has the checksums of all tensors.
    file, state = f'{prefix}.index', load_tensorflow_checkpoint(source)
  else:
    raise UserError(f'{printable(source)}: a TensorFlow checkpoint has no entry {show(key)}')
  try:
    options = infer_options(model_name, state, **(options or {}))
    variables = convert(model_name, state, **options)
  except UserError as error:
    raise UserError(f'{printable(source)}: {error}') from error
  origin = {'file': os.path.basename(os.fspath(file)), 'sha256': file_sha256(file)}
  model_config = {'name': model_name, **options}
  save_weights(target, variables, model_config, {'imported_from': origin})
  return model_config | {'parameters': param_count(variables)}
