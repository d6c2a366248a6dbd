"""Restore a photo, a folder of photos or a video.

gfn-restore photo.jpg sharp.png
gfn-restore photos restored                        # a folder, recursively
gfn-restore photos restored --report report.html
gfn-restore video.mp4 sharp.mp4                    # pip install 'gfn_jax[video]'
gfn-restore photo.jpg frames.gif --output=frames   # the motion during the exposure
"""

import argparse
import os
from collections.abc import Sequence

from gfn_jax.cli.runner import ArgumentParser, exit_on_user_error
from gfn_jax.errors import UserError
from gfn_jax.images import animations
from gfn_jax.images.reading import MAX_PIXELS
from gfn_jax.images.videos import is_video
from gfn_jax.images.writing import EXTENSIONS
from gfn_jax.ops.protocols import PROTOCOLS
from gfn_jax.restoration.files import finish, plan_jobs, restore_files
from gfn_jax.restoration.restorer import DTYPES, OUTPUTS, OVERLAP, Restorer
from gfn_jax.restoration.video import restore_video
from gfn_jax.system import compilation_cache
from gfn_jax.system.files import file_sha256, printable
from gfn_jax.weights.pretrained import weights_path


def tile(text: str) -> int | str | None:
  """Return the value of `--tile`: 'auto', None for 'none', or a number."""
  if text in ('auto', 'none'):
    return None if text == 'none' else text
  return int(text)


def make_parser() -> ArgumentParser:
  """Return the command's options."""
  parser = ArgumentParser('gfn-restore', __doc__)
  add = parser.add_argument
  add('source', metavar='IN', help='a photo, a folder or a video')
  add('target', metavar='OUT', help='a file, whose extension sets the format, or a folder')
  add(
    '--weights',
    help='a .safetensors file or a name; default: gfn, or bmdsrnet for --output=frames',
  )
  add(
    '--output',
    choices=OUTPUTS,
    help='hr: 4x larger (default if the network enlarges); lr: deblurred only; frames: the motion '
    'during the exposure, as an animation (BMDSRNet)',
  )
  add('--ensemble', action='store_true', help='average over 8 turned and flipped inputs: 8x slower')
  add('--overwrite', action='store_true', help='replace existing results')
  add('--keep_damaged', action='store_true', help='restore what can be read of a damaged video')
  add(
    '--format',
    choices=sorted({extension[1:] for extension in EXTENSIONS + animations.EXTENSIONS}),
    help="format of a folder's results; default: each image's own, or gif for frames",
  )
  add('--report', metavar='FILE.html', help='write a page that shows before and after')
  add(
    '--target_dir',
    metavar='DIR',
    help='for --report: sharp images with the same names, as large as the results',
  )
  add(
    '--protocol',
    default='gfn',
    choices=sorted(PROTOCOLS),
    help='for --target_dir: protocol of the comparison; default: %(default)s',
  )
  add(
    '--max_pixels',
    type=int,
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
  add('--batch_size', type=int, metavar='N', help='tiles that are restored together')
  add('--dtype', choices=DTYPES, help="type of the computation; default: the network's")
  return parser


def _extension(args: argparse.Namespace) -> str | None:
  """Return the extension of a folder's results; None to keep each image's own.

  Raises:
    UserError: if the output cannot be written in the format.
  """
  frames = args.output == 'frames'
  if not args.format:
    return '.gif' if frames else None
  extension = f'.{args.format}'
  if frames and extension not in animations.EXTENSIONS:
    raise UserError(f'--format={args.format}: frames become an animation; choose gif or webp')
  if not frames and extension not in EXTENSIONS:
    raise UserError(f'--format={args.format} requires --output=frames')
  return extension


def main(argv: Sequence[str] | None = None) -> None:
  """Restore the photos or the video that the arguments name."""
  args = make_parser().parse_args(argv)
  if not os.path.exists(args.source):
    raise UserError(f'no such file or folder: {printable(args.source)}')
  if args.max_pixels < 1:
    raise UserError(f'max_pixels {args.max_pixels}: pass 1 or more')
  if args.target_dir and not args.report:
    raise UserError('--target_dir requires a report: pass --report=FILE.html')
  if args.report:
    from gfn_jax.restoration.report import check_page  # late: imports the metrics

    check_page(args.report)
  video = os.path.isfile(args.source) and is_video(args.source)
  if video and (args.report or args.format):
    raise UserError('--report and --format are for images, not for a video')
  if args.keep_damaged and not video:
    raise UserError('--keep_damaged is for videos')
  if video and args.output == 'frames':
    raise UserError('--output=frames is for photos, not for a video')
  jobs = [] if video else plan_jobs(args.source, args.target, _extension(args))
  weights = args.weights or ('bmdsrnet' if args.output == 'frames' else 'gfn')
  restorer = Restorer.from_pretrained(
    weights,
    tile=args.tile,
    overlap=args.overlap,
    ensemble=args.ensemble,
    output=args.output,
    batch_size=args.batch_size,
    dtype=args.dtype,
  )
  if video:
    settings = {key: getattr(args, key) for key in ('output', 'ensemble', 'dtype')}
    settings['weights'] = file_sha256(weights_path(weights))
    restore_video(
      restorer,
      args.source,
      args.target,
      settings=settings,
      overwrite=args.overwrite,
      keep_damaged=args.keep_damaged,
    )
    print('1 restored')
    return
  if args.report:
    from gfn_jax.restoration.report_files import restore_and_report

    outcome = restore_and_report(
      restorer,
      jobs,
      args.report,
      weights=weights,
      target_dir=args.target_dir,
      protocol=args.protocol,
      overwrite=args.overwrite,
      max_pixels=args.max_pixels,
    )
  else:
    outcome = restore_files(restorer, jobs, overwrite=args.overwrite, max_pixels=args.max_pixels)
  finish(outcome)


def run() -> None:
  """Run the command `gfn-restore`."""
  compilation_cache.enable()
  with exit_on_user_error():
    main()


if __name__ == '__main__':
  run()
