"""Restores a photo, a folder of photos or a video.

gfn-restore photo.jpg sharp.png
gfn-restore photos restored                        # a folder and all below it
gfn-restore photos restored --report report.html
gfn-restore video.mp4 sharp.mp4                    # pip install 'gfn_jax[video]'
gfn-restore photo.jpg frames.gif --output=frames   # what moved during the exposure
"""

import argparse
import os
from collections.abc import Sequence

from gfn_jax.errors import ArgumentParser, UserError, exit_on_user_error
from gfn_jax.evaluation import evaluate
from gfn_jax.images import animations
from gfn_jax.images.reading import MAX_PIXELS
from gfn_jax.images.videos import is_video
from gfn_jax.images.writing import EXTENSIONS
from gfn_jax.ops import metrics
from gfn_jax.restoration.files import finish, plan_jobs, restore_and_report, restore_files
from gfn_jax.restoration.restorer import DTYPES, OUTPUTS, OVERLAP, Restorer
from gfn_jax.restoration.video import restore_video
from gfn_jax.system import compilation_cache
from gfn_jax.system.files import file_sha256, printable
from gfn_jax.weights.pretrained import weights_path


def tile(text: str) -> int | str | None:
  """What `--tile` takes: 'auto', 'none' or a number."""
  if text in ('auto', 'none'):
    return None if text == 'none' else text
  return int(text)


def make_parser() -> ArgumentParser:
  """The command's options."""
  parser = ArgumentParser('gfn-restore', __doc__)
  add = parser.add_argument
  add('source', metavar='IN', help='a photo, a folder or a video')
  add('target', metavar='OUT', help='a file, whose extension is its format, or a folder')
  add(
    '--weights',
    help='a .safetensors file or a name; default: gfn, or bmdsrnet where frames are wanted',
  )
  add(
    '--output',
    choices=OUTPUTS,
    help='hr: 4x larger (default, where the network enlarges); lr: deblurred only; frames: what '
    'moved during the exposure, as an animation (BMDSRNet)',
  )
  add('--ensemble', action='store_true', help='average over 8 turned and flipped inputs: 8x slower')
  add('--overwrite', action='store_true', help='restore also what is there already')
  add(
    '--format',
    choices=sorted({extension[1:] for extension in EXTENSIONS + animations.EXTENSIONS}),
    help="of a folder's results; default: that of each image, and gif for frames",
  )
  add('--report', metavar='FILE.html', help='write a page that shows before and after')
  add(
    '--target_dir',
    metavar='DIR',
    help='for --report: sharp images of the same names, as large as the results',
  )
  add(
    '--protocol',
    default='gfn',
    choices=sorted(metrics.PROTOCOLS),
    help='for --target_dir: how to compare; default: %(default)s',
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
    help='side of the parts that an image is divided into: pixels, auto (default), or none',
  )
  add(
    '--overlap',
    type=int,
    default=OVERLAP,
    metavar='N',
    help='pixels that these parts share; default: %(default)s',
  )
  add('--batch_size', type=int, metavar='N', help='parts that go through the network together')
  add('--dtype', choices=DTYPES, help="of the computation; default: the network's")
  return parser


def _extension(args: argparse.Namespace) -> str | None:
  """The extension of a folder's results; None for that of each image.

  Raises:
    UserError: for a format that the output cannot have.
  """
  frames = args.output == 'frames'
  if not args.format:
    return '.gif' if frames else None
  extension = f'.{args.format}'
  if frames and extension not in animations.EXTENSIONS:
    raise UserError(f'--format={args.format}: frames become an animation; choose gif or webp')
  if not frames and extension not in EXTENSIONS:
    raise UserError(f'--format={args.format} is for --output=frames')
  return extension


def main(argv: Sequence[str] | None = None) -> None:
  """Options to a call."""
  args = make_parser().parse_args(argv)
  if not os.path.exists(args.source):
    raise UserError(f'no such file or folder: {printable(args.source)}')
  if args.max_pixels < 1:
    raise UserError(f'max_pixels {args.max_pixels}: pass 1 or more')
  if args.target_dir and not args.report:
    raise UserError('--target_dir is for the report: pass --report=FILE.html too')
  evaluate.check_page(args.report)
  video = os.path.isfile(args.source) and is_video(args.source)
  if video and (args.report or args.format):
    raise UserError('--report and --format are for images')
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
    restore_video(restorer, args.source, args.target, settings=settings, overwrite=args.overwrite)
    print('1 restored')
    return
  options = {'overwrite': args.overwrite, 'max_pixels': args.max_pixels}
  if args.report:
    facts = {'weights': weights, 'target_dir': args.target_dir, 'protocol': args.protocol}
    outcome = restore_and_report(restorer, jobs, args.report, **facts, **options)
  else:
    outcome = restore_files(restorer, jobs, **options)
  finish(outcome)


def run() -> None:
  """The command `gfn-restore`."""
  compilation_cache.enable()
  with exit_on_user_error():
    main()
