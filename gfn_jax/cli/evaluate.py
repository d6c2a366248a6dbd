"""Evaluates a network on a test set, or restores photos with it.

gfn-eval --workdir=W                                             # the run's own test split
gfn-eval --config=configs/gfn.py --config.data_dir=DIR --weights=FILE --output_dir=O
gfn-eval --input_dir=LR --target_dir=HR --weights=FILE --output_dir=O
gfn-eval --input_dir=PHOTOS --weights=FILE --output_dir=O

In place of FILE stands the name of released weights, too, such as gfn. W and O may be in a bucket:
gs://BUCKET/... On several machines the same command with --distributed runs in each process, and
they share the images (docs/cluster.md).
"""

import os
import sys

from absl import flags
from ml_collections import config_flags

from gfn_jax.cli import distributed
from gfn_jax.errors import UserError, run_command
from gfn_jax.evaluation import evaluate
from gfn_jax.ops import metrics
from gfn_jax.restoration.files import finish, plan_jobs, restore_and_report, restore_together
from gfn_jax.restoration.restorer import DTYPES, Restorer
from gfn_jax.system import compilation_cache, parallel

config_flags.DEFINE_config_file('config', None, 'Experiment; default: the one of --workdir.')
flags.DEFINE_string('workdir', None, 'Folder of a training run, whose newest weights are taken.')
flags.DEFINE_string('weights', None, 'A .safetensors file or a name; default: of --workdir.')
flags.DEFINE_string('input_dir', None, 'Blurred photos: a folder, or one file to restore.')
flags.DEFINE_string(
  'target_dir', None, 'Their sharp versions, as large as the results, of the same names.'
)
flags.DEFINE_string('output_dir', None, 'For images and results; default: WORKDIR/eval.')
flags.DEFINE_enum(
  'protocol',
  None,
  sorted(metrics.PROTOCOLS),
  "How to compare; default: the config's, or gfn.",
)
flags.DEFINE_integer('limit', 0, 'How many test images; 0: all.', lower_bound=0)
flags.DEFINE_list(
  'lpips_weights', [], "PyTorch's files of AlexNet and LPIPS: adds LPIPS; see docs/lpips.md."
)
flags.DEFINE_string('report', None, 'A page to write, FILE.html, that shows before and after.')
flags.DEFINE_bool('ensemble', False, 'Average over 8 turned and flipped inputs: 8x slower.')
flags.DEFINE_enum('dtype', None, DTYPES, "Of the computation; default: the network's.")
flags.DEFINE_integer('tile', 0, 'Largest side restored at once, in pixels; 0: what memory allows.')
flags.adopt_module_key_flags(distributed)


def main(_):
  """Flags to a call."""
  args = flags.FLAGS
  distributed.join()
  if not (args.weights or args.workdir):
    raise UserError(
      'no weights: pass --weights=gfn for the released ones, --weights=FILE or --workdir=W'
    )
  output_dir = args.output_dir or (args.workdir and os.path.join(args.workdir, 'eval'))
  if not output_dir:
    raise UserError('pass --output_dir=O, where the restored images go')
  weights = args.weights or os.path.join(args.workdir, 'weights.safetensors')
  options = {'tile': args.tile or 'auto', 'ensemble': args.ensemble, 'dtype': args.dtype}
  if args.target_dir and not args.input_dir:
    raise UserError('--target_dir needs --input_dir, the blurred photos')
  if args.input_dir and not args.target_dir:
    if args.protocol or args.limit or args.lpips_weights:
      raise UserError(
        '--protocol, --limit and --lpips_weights are for evaluating: pass --target_dir too'
      )
    evaluate.check_page(args.report)
    with parallel.ending_together():
      jobs = plan_jobs(args.input_dir, output_dir, '.png')
      restorer = Restorer.from_pretrained(weights, **options)
    if args.report:
      finish(restore_and_report(restorer, jobs, args.report, weights=weights))
    else:
      finish(restore_together(restorer, jobs))
    return

  config = {'protocol': 'gfn'}
  with parallel.ending_together():
    if args.config is not None:
      config = args.config.to_dict()
    elif args.workdir:
      config = evaluate.run_config(args.workdir)
    if args.input_dir:
      test_set = evaluate.folder_test_set(args.input_dir, args.target_dir, args.limit)
    elif {'data_dir', 'photos'} & config.keys():
      test_set = evaluate.dataset_test_set(config, args.limit)
    else:
      raise UserError('no test images: pass --config and --config.data_dir, or --input_dir')
  protocol = args.protocol or config['protocol']
  evaluate.evaluate_and_report(
    weights, test_set, protocol, output_dir, args.report, args.lpips_weights, **options
  )


def run() -> None:
  """The command `gfn-eval`."""
  sys.path.insert(0, os.getcwd())  # configs import each other from the project's folder
  compilation_cache.enable()
  run_command(main)
