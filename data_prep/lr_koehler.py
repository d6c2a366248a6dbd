"""Build LR-Koehler, a test set of GFN, from the images of Koehler et al. (ECCV 2012).

  gfn-prepare lr_koehler --manual_dir=KOEHLER --data_dir=tfds

KOEHLER holds 48 blurred images of 800x800, `Blurry<scene>_<trajectory>.png`, and about 199 sharp
frames for each, `GroundTruth<scene>_<trajectory>_<frame>.png`. They are found by name at any depth,
such as in `BlurryImages/` and `Image1/Kernel1/`, the folders of the archives, or in `GroundTruth/`.
These names are from public descriptions and code. The whole archives were not at hand.

`gfn-eval --input_dir=RESULT/lr_blur --target_dir=RESULT/hr` evaluates on the result. RESULT is the
folder that the command prints. docs/datasets.md describes it, and docs/evaluation.md the comparison
with several frames.
"""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

from absl import app, flags
from etils import epath
from tqdm import tqdm

from gfn_jax.cli.runner import run_command
from gfn_jax.data_prep import degradation, koehler_tree, staging, tfds_build
from gfn_jax.data_prep.workers import map_in_order
from gfn_jax.errors import UserError
from gfn_jax.system.files import is_remote, write_json

NAME, VERSION = 'lr_koehler', '1.0.0'
_METADATA = 'metadata.json'


def build(
  manual_dir: str | os.PathLike,
  data_dir: str | os.PathLike,
  *,
  copy: bool = False,
  workers: int = 1,
  overwrite: bool = False,
) -> Path:
  """Build the test set, unless it exists already.

  A failed or interrupted build leaves no files, and does not change an existing test set.

  Args:
    manual_dir: folder of the unpacked archives.
    data_dir: parent folder of all data sets. This one is written to `lr_koehler/<version>`:
      `lr_blur/Blurry1_1.png` and so on, `hr/Blurry1_1/001.png` and so on, and `metadata.json`.
    copy: copy the reference frames, so that the archives can be removed. Otherwise `hr` holds
      symbolic links to them.
    workers: number of processes; 0 or 1 uses only the current one.
    overwrite: rebuild an existing test set, and replace it when the build has succeeded.

  Returns:
    Folder of the test set.

  Raises:
    UserError: for a missing, damaged or unexpected file (the message names it), or a folder that is
      not on this machine.
    OSError: if a file cannot be written.
  """
  for name, path in (('manual_dir', manual_dir), ('data_dir', data_dir)):
    if is_remote(path):
      raise UserError(f'{name} must be a folder of this machine, not {path}')
  source, parent = (epath.Path(path).expanduser().absolute() for path in (manual_dir, data_dir))
  target = parent / NAME / VERSION
  if target.exists() and not overwrite:
    print(f'{target} exists already and is kept; --overwrite rebuilds it', file=sys.stderr)
    return Path(target)
  if not source.is_dir():
    raise UserError(f'{source} does not exist; pass the folder of the unpacked archives')
  shots = koehler_tree.find_shots(source)
  with staging.staging_folder(parent, target) as folder:
    _write(shots, folder / 'built', copy, workers)
    staging.put_in_place(folder / 'built', target, folder)
  return Path(target)


def _write(shots: list[koehler_tree.Shot], folder: epath.Path, copy: bool, workers: int) -> None:
  """Write the folders `lr_blur` and `hr`, and the metadata."""
  (folder / 'lr_blur').mkdir(parents=True)
  images = map_in_order(koehler_tree.reduce_shot, shots, workers)
  progress = tqdm(images, 'reducing', len(shots), unit='image', leave=False)
  for shot, lr_blur in zip(shots, progress, strict=True):
    (folder / 'lr_blur' / f'{shot.name}.png').write_bytes(lr_blur)
    frames = folder / 'hr' / shot.name
    frames.mkdir(parents=True)
    for number, path in shot.references.items():
      (shutil.copyfile if copy else os.symlink)(path, frames / f'{number:03d}.png')
  metadata = {
    'source': 'Koehler',
    'lr_quantisation': 'uint8',
    'scale': degradation.SCALE,
    'border': degradation.BORDER,
    'counts': {'images': len(shots), 'references': sum(len(shot.references) for shot in shots)},
  }
  write_json(folder / _METADATA, metadata)


def summarise(folder: str | os.PathLike) -> str:
  """Summarise a built test set in one line: its folder, and the numbers of images and frames.

  Raises:
    UserError: if the folder is not a complete test set.
  """
  try:
    counts = json.loads((Path(folder) / _METADATA).read_text())['counts']
    return f'{folder}: {counts["images"]} images, {counts["references"]:,} reference frames'
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise UserError(f'{folder} is not a complete test set; --overwrite rebuilds it') from error


def define_flags() -> None:
  """Define the command's flags."""
  tfds_build.define_folder_flags('folder of the unpacked archives of Koehler et al.')
  flags.adopt_module_key_flags(tfds_build)
  flags.DEFINE_bool('copy', False, 'copy the reference frames, instead of links to them')


def main(argv: list[str]) -> None:
  """Build the test set that the flags describe, and print a summary."""
  if argv[1:]:
    raise app.UsageError(f'unexpected argument {argv[1]}')
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # run the clean-up
  values = flags.FLAGS
  folder = build(
    values.manual_dir,
    values.data_dir,
    copy=values.copy,
    workers=values.workers,
    overwrite=values.overwrite,
  )
  print(summarise(folder))


if __name__ == '__main__':
  define_flags()
  run_command(main)
