"""Evaluate a network on a test set, or restore photos with it.

gfn-eval --workdir=W                                             # the run's own test split
gfn-eval --config=gfn --config.data.data_dir=DIR --weights=FILE --output_dir=O
gfn-eval --input_dir=LR --target_dir=HR --weights=FILE --output_dir=O
gfn-eval --input_dir=PHOTOS --output_dir=O                       # with the released weights, gfn

FILE may be the name of released weights, such as gfn, the default. W and O may be in a bucket,
gs://BUCKET/... Without --config, the config is that of --workdir.
On several machines, run the same command with --distributed in each process; the processes share
the images (docs/cluster.md).
"""

import os
import sys

from absl import flags

from gfn_jax.cli import config_flags, distributed
from gfn_jax.cli.runner import run_command
from gfn_jax.errors import UsageError
from gfn_jax.evaluation import evaluate, test_sets
from gfn_jax.ops.protocols import PROTOCOLS
from gfn_jax.restoration import report
from gfn_jax.restoration.files import finish, restore_files
from gfn_jax.restoration.plan import plan_jobs
from gfn_jax.restoration.predictor import DTYPES
from gfn_jax.restoration.records import settings_of
from gfn_jax.restoration.report_files import restore_and_report
from gfn_jax.restoration.restorer import Restorer
from gfn_jax.system import compilation_cache, parallel

flags.DEFINE_string('workdir', None, 'Folder of a training run, to evaluate its newest weights.')
flags.DEFINE_string(
  'weights',
  None,
  'A .safetensors file, a folder, hf://OWNER/NAME or a name; default: those of --workdir, or gfn.',
)
flags.DEFINE_string('input_dir', None, 'Blurred photos: a folder, or one file to restore.')
flags.DEFINE_string(
  'target_dir',
  None,
  'Sharp images with the same names, as large as the results; or a folder of several for each '
  'photo, of which the best match counts.',
)
flags.DEFINE_string('output_dir', None, 'Folder for images and results; default: WORKDIR/eval.')
flags.DEFINE_enum(
  'protocol',
  None,
  sorted(PROTOCOLS),
  "Protocol of the comparison; default: the config's, or gfn.",
)
flags.DEFINE_integer('limit', 0, 'Number of test images; 0: all.', lower_bound=0)
flags.DEFINE_list(
  'lpips_weights', [], "PyTorch's files of AlexNet and LPIPS, to add LPIPS; see docs/lpips.md."
)
flags.DEFINE_string('report', None, 'FILE.html: write a page that shows before and after.')
flags.DEFINE_bool('overwrite', False, 'Restore photos whose result exists, too.')
flags.DEFINE_bool('ensemble', False, 'Average over 8 turned and flipped inputs: 8x slower.')
flags.DEFINE_enum(
  'dtype', None, DTYPES, "Type of the computation; default: the network's, also for photos."
)
flags.DEFINE_integer('tile', 0, 'Side of tiles, in pixels; 0: what fits into memory.')
flags.adopt_module_key_flags(config_flags)
flags.adopt_module_key_flags(distributed)


def main(_: list[str]) -> None:
  """Evaluate, or restore, as the flags ask for."""
  args = flags.FLAGS
  distributed.join()
  output_dir = args.output_dir or (args.workdir and os.path.join(args.workdir, 'eval'))
  if not output_dir:
    raise UsageError('no output folder: pass --output_dir=O')
  weights = args.weights or 'gfn'
  if args.workdir and not args.weights:
    weights = os.path.join(args.workdir, 'weights.safetensors')
  options = {'tile': args.tile or 'auto', 'ensemble': args.ensemble, 'dtype': args.dtype}
  if args.target_dir and not args.input_dir:
    raise UsageError('--target_dir requires --input_dir, the blurred photos')
  if args.input_dir and not args.target_dir:
    if args.protocol or args.limit or args.lpips_weights:
      raise UsageError(
        '--protocol, --limit and --lpips_weights require --target_dir, the sharp images'
      )
    report.check_page(args.report)
    with parallel.ending_together():
      plan = plan_jobs(args.input_dir, os.path.join(output_dir, ''), '.png')
      restorer = Restorer.from_pretrained(weights, **options)
      settings = settings_of(restorer, weights)
    if args.report:
      outcome = restore_and_report(
        restorer, plan, args.report, weights=weights, settings=settings, overwrite=args.overwrite
      )
    else:
      outcome = restore_files(restorer, plan, settings=settings, overwrite=args.overwrite)
    finish(plan, outcome, args.report)
    return
  if args.overwrite:
    raise UsageError('--overwrite is for restoring: an evaluation always replaces its results')

  config = None
  with parallel.ending_together():
    if args.config is not None:
      config = args.config.to_dict()
    elif args.workdir:
      config = test_sets.run_config(args.workdir)
    if args.input_dir:
      test_set = test_sets.folder_test_set(args.input_dir, args.target_dir, args.limit)
    elif config is not None:
      test_set = test_sets.dataset_test_set(config, args.limit)
    else:
      raise UsageError('no test images: pass --config and --config.data.data_dir, or --input_dir')
  protocol = args.protocol or (config['evaluation']['protocol'] if config else 'gfn')
  evaluate.evaluate_and_report(
    weights, test_set, protocol, output_dir, args.report, args.lpips_weights, **options
  )


def run() -> None:
  """Run the command `gfn-eval`."""
  sys.path.append(os.getcwd())  # a config of the user may import files beside it
  compilation_cache.enable()
  run_command(main)


if __name__ == '__main__':
  run()
