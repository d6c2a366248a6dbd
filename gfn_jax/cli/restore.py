"""Restore photos, folders of photos and videos.

gfn-restore photo.jpg sharp.png
gfn-restore photo.jpg sharp.png --same_size        # sharper, not larger
gfn-restore photo.jpg sharp.png --blur=30          # the same, for a blur of 30 pixels
gfn-restore photos restored                        # a folder, recursively
gfn-restore *.jpg restored                         # several files or folders
gfn-restore photos restored --report report.html
gfn-restore video.mp4 sharp.mp4                    # pip install 'gfn_jax[video]'
gfn-restore photo.jpg frames.gif --output=frames   # the motion during the exposure
"""

import argparse
import math
from collections.abc import Sequence
from typing import Any

from gfn_jax.cli.runner import ArgumentParser, exit_on_user_error
from gfn_jax.errors import UsageError, UserError
from gfn_jax.images import animations
from gfn_jax.images.reading import MAX_PIXELS, size_of
from gfn_jax.images.writing import EXTENSIONS
from gfn_jax.ops.protocols import PROTOCOLS
from gfn_jax.ops.symmetries import SYMMETRIES
from gfn_jax.restoration import tiling
from gfn_jax.restoration.dtypes import describe, faster_dtype, keeps_result
from gfn_jax.restoration.files import finish, restore_files
from gfn_jax.restoration.plan import Plan, plan_jobs
from gfn_jax.restoration.predictor import DTYPES, OUTPUTS
from gfn_jax.restoration.records import settings_of
from gfn_jax.restoration.restorer import KNOWN_BLUR, MAX_TILE, OVERLAP, Restorer
from gfn_jax.system import compilation_cache
from gfn_jax.system.console import print_message
from gfn_jax.system.files import extension_of, printable


def tile(text: str) -> int | str | None:
  """Return the value of `--tile`: 'auto', None for 'none', or a number."""
  if text in ('auto', 'none'):
    return None if text == 'none' else text
  return int(text)


def positive(text: str) -> int:
  """Return a number of at least 1.

  Raises:
    ValueError: for another text.
  """
  if (number := int(text)) < 1:
    raise ValueError(text)
  return number


def length(text: str) -> float:
  """Return a positive, finite number.

  Raises:
    ValueError: for another text.
  """
  if not 0 < (number := float(text)) < math.inf:
    raise ValueError(text)
  return number


def make_parser() -> ArgumentParser:
  """Return the command's options."""
  parser = ArgumentParser('gfn-restore', __doc__)
  add = parser.add_argument
  add('sources', metavar='IN', nargs='+', help='a photo, a folder or a video')
  add('target', metavar='OUT', help='a file, whose extension sets the format, or a folder')
  add(
    '--weights',
    help='a .safetensors file, the folder of a training run or of a model hub, hf://OWNER/NAME, or '
    'a name; default: gfn, or bmdsrnet for --output=frames',
  )
  add('--same_size', action='store_true', help='sharpen without enlarging, as --output=lr')
  add(
    '--output',
    choices=OUTPUTS,
    help='hr: 4x larger (default if the network enlarges); lr: as --same_size; frames: the motion '
    'during the exposure, as an animation (BMDSRNet)',
  )
  add(
    '--blur',
    type=length,
    metavar='PIXELS',
    help=f'length of the blur, if it is longer than {KNOWN_BLUR} pixels: the photo is reduced '
    'until its blur is that short, and the result has the size of the photo',
  )
  add('--ensemble', action='store_true', help='average over 8 turned and flipped inputs: 8x slower')
  add('--overwrite', action='store_true', help='replace existing results')
  add('--keep_damaged', action='store_true', help='restore what can be read of a damaged video')
  add(
    '--format',
    choices=sorted({extension[1:] for extension in EXTENSIONS + animations.EXTENSIONS}),
    help="format of the images in a folder; default: each image's own, or gif for frames",
  )
  add(
    '--strip',
    action='store_true',
    help='write no EXIF, XMP, IPTC, texts and resolution; colour profiles stay',
  )
  add('--report', metavar='FILE.html', help='write a page that shows before and after')
  add(
    '--target_dir',
    metavar='DIR',
    help='for --report: sharp images with the same names, as large as the results',
  )
  add(
    '--protocol',
    choices=sorted(PROTOCOLS),
    help='for --target_dir: protocol of the comparison; default: gfn',
  )
  add(
    '--max_pixels',
    type=positive,
    default=MAX_PIXELS,
    metavar='N',
    help='refuse larger images; default: %(default)s',
  )
  add(
    '--tile',
    type=tile,
    default='auto',
    metavar='N',
    help='side of the tiles that an image is divided into: pixels, auto (default), or none',
  )
  add(
    '--overlap',
    type=int,
    default=OVERLAP,
    metavar='N',
    help='pixels that neighbouring tiles share; default: %(default)s',
  )
  add('--batch_size', type=positive, metavar='N', help='tiles that are restored together')
  add(
    '--dtype',
    choices=DTYPES,
    help="type of the computation; default: the network's, float32, or for 8-bit images bfloat16 "
    'where it is faster and keeps the result',
  )
  return parser


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
  """Return the command's options, checked against each other.

  Raises:
    UsageError: for unknown, invalid or contradicting options.
  """
  args = make_parser().parse_intermixed_args(argv)
  frames = args.output == 'frames'
  if args.same_size:
    if args.output not in (None, 'lr'):
      raise UsageError(f'--same_size contradicts --output={args.output}; omit one of them')
    args.output = 'lr'
  if args.blur is not None:
    if args.output not in (None, 'lr'):
      raise UsageError(f'--blur contradicts --output={args.output}; omit one of them')
    args.output = 'lr'
  try:
    tiling.check_tile(args.tile if isinstance(args.tile, int) else MAX_TILE, args.overlap)
  except UserError as error:
    raise UsageError(f'--tile={args.tile} --overlap={args.overlap}: {error}') from error
  if args.target_dir and not args.report:
    raise UsageError('--target_dir requires a report: pass --report=FILE.html')
  if args.protocol and not args.target_dir:
    raise UsageError('--protocol requires the sharp images: pass --target_dir=DIR')
  for flag in ('ensemble', 'report'):
    if frames and getattr(args, flag):
      raise UsageError(f'--{flag} is not for --output=frames; omit one of them')
  if args.format and frames != (f'.{args.format}' in animations.EXTENSIONS):
    if frames:
      raise UsageError(f'--format={args.format}: frames become an animation; choose gif or webp')
    if f'.{args.format}' not in EXTENSIONS:
      raise UsageError(f'--format={args.format} requires --output=frames')
  return args


_A = {'video': 'a video', 'animation': 'an animation'}


def _plan(args: argparse.Namespace) -> Plan:
  """Return the work that the options ask for.

  Raises:
    UsageError: if the options are not for videos, and there are only videos.
    UserError: as `plan_jobs`.
  """
  frames = args.output == 'frames'
  extension = f'.{args.format}' if args.format else '.gif' if frames else None
  plan = plan_jobs(args.sources, args.target, extension)
  kinds = {job.kind for job in plan.jobs}
  if args.keep_damaged and 'video' not in kinds:
    raise UsageError('--keep_damaged is for videos')
  if kinds and 'image' not in kinds:
    [kind, *_] = sorted(kinds, reverse=True)
    for flag in ('report', 'format', 'strip'):
      if getattr(args, flag) and not frames:
        raise UsageError(f'--{flag} is for images, not for {_A[kind]}')
    if frames:
      raise UsageError(f'--output=frames is for photos, not for {_A[kind]}')
  if args.format and not plan.into_folder and extension_of(plan.target) != extension:
    raise UsageError(
      f'--format={args.format} contradicts {printable(plan.target)}; omit one of them'
    )
  if frames:
    plan.pass_over_videos('frames are made of photos')
  return plan


def _pixels(plan: Plan, ensemble: bool) -> float:
  """Return the pixels that the network sees; infinity if there is more than one photo."""
  if len(plan.jobs) != 1 or plan.jobs[0].kind != 'image':
    return float('inf')
  try:
    pixels = math.prod(size_of(plan.jobs[0].source, None))
  except UserError:  # reported when it is restored
    return 0
  return pixels * len(SYMMETRIES) if ensemble else pixels


def main(argv: Sequence[str] | None = None) -> None:
  """Restore the photos and the videos that the arguments name."""
  args = parse(argv)
  if args.report:
    from gfn_jax.restoration.report import check_page  # late: imports the metrics

    check_page(args.report)
  plan = _plan(args)
  weights = args.weights or ('bmdsrnet' if args.output == 'frames' else 'gfn')
  restorer = Restorer.from_pretrained(
    weights,
    tile=args.tile,
    overlap=args.overlap,
    ensemble=args.ensemble,
    output=args.output,
    blur=args.blur,
    batch_size=args.batch_size,
    dtype=args.dtype,
    dtype_8bit=None if args.dtype else faster_dtype(weights, _pixels(plan, args.ensemble)),
  )
  print_message(describe(restorer))
  any_dtype = not args.dtype and keeps_result(weights)
  options: dict[str, Any] = {
    'settings': settings_of(restorer, weights, any_dtype) | {'strip': args.strip},
    'overwrite': args.overwrite,
    'max_pixels': args.max_pixels,
    'strip': args.strip,
    'keep_damaged': args.keep_damaged,
  }
  if args.report:
    from gfn_jax.restoration.report_files import restore_and_report

    outcome = restore_and_report(
      restorer,
      plan,
      args.report,
      weights=weights,
      target_dir=args.target_dir,
      protocol=args.protocol or 'gfn',
      **options,
    )
  else:
    outcome = restore_files(restorer, plan, **options)
  finish(plan, outcome, args.report)


def run() -> None:
  """Run the command `gfn-restore`."""
  compilation_cache.enable()
  with exit_on_user_error():
    main()


if __name__ == '__main__':
  run()
