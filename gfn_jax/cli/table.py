"""Reproduce a table of a paper, with the published number beside each measured one.

gfn-table gfn_table2                     # the numbers that are known
gfn-table gfn_table2 --output_dir=O      # the time of each network on this device
gfn-table gfn_table2 --output_dir=O --weights=RUNS --test_set=lr_gopro=GOPRO_Large/test

RUNS holds ROW.safetensors or the folders of runs, ROW, where ROW is a variant of
configs/tables/gfn_table2.py. O gets table.md, table.csv, table.json and table.png. The same command
continues an interrupted one. docs/evaluation.md describes the tables.
"""

import importlib
import os
import pkgutil
from collections.abc import Sequence
from types import ModuleType

from gfn_jax.cli.runner import ArgumentParser, exit_on_user_error
from gfn_jax.errors import UsageError
from gfn_jax.evaluation.table_format import format_markdown
from gfn_jax.evaluation.table_measurement import measure_table
from gfn_jax.evaluation.table_results import read_results
from gfn_jax.system import compilation_cache
from gfn_jax.system.files import printable


def test_set(text: str) -> tuple[str, str]:
  """Parse NAME=PATH of `--test_set`.

  Raises:
    ValueError: if the text has another form.
  """
  name, _, path = text.partition('=')
  if not (name and path):
    raise ValueError(text)
  return name, path


def make_parser() -> ArgumentParser:
  """Return the command's parser."""
  parser = ArgumentParser('gfn-table', __doc__)
  add = parser.add_argument
  add('name', metavar='NAME', help='a file of configs/tables/, such as gfn_table2')
  add('--output_dir', metavar='O', help='measure, and write the table to this folder')
  add('--weights', metavar='RUNS', help="folder of the rows' weights or runs")
  add(
    '--test_set',
    action='append',
    default=[],
    type=test_set,
    metavar='NAME=PATH',
    help='images of a data set of the table: a data set of gfn-prepare, a folder in the layout of '
    'GOPRO_Large, or LR:HR, two folders',
  )
  add(
    '--blur_name',
    default='blur_gamma',
    metavar='NAME',
    help="name of the folders of blurred photos in GOPRO_Large's layout; default: %(default)s",
  )
  add(
    '--lpips_weights',
    default='',
    metavar='FILES',
    help="PyTorch's files of AlexNet and LPIPS, separated by a comma, to add LPIPS",
  )
  add(
    '--rounds',
    type=int,
    default=5,
    metavar='N',
    help='timed runs of each network; 0: no times; default: %(default)s',
  )
  return parser


def main(argv: Sequence[str] | None = None) -> None:
  """Measure and print the table that the arguments name."""
  args = make_parser().parse_args(argv)
  tables = load_tables()
  if args.name not in tables:
    raise UsageError(f'unknown table {args.name!r}; choose from {", ".join(tables)}')
  module = tables[args.name]
  if args.rounds < 0:
    raise UsageError(f'rounds {args.rounds}: pass 0 or more')
  if bool(args.weights) != bool(args.test_set):
    raise UsageError('--weights and --test_set require each other')
  if args.weights and not args.output_dir:
    raise UsageError('no output folder: pass --output_dir=O')
  if args.lpips_weights and not args.weights:
    raise UsageError('--lpips_weights requires --weights and --test_set')
  table = module.TABLE
  if args.output_dir is None:
    path = os.path.splitext(str(module.__file__))[0] + '.json'
    print(format_markdown(table, read_results(path, args.name, table)), end='')
    return
  text = measure_table(
    args.name,
    table,
    module.get_config,
    args.output_dir,
    weights_dir=args.weights,
    test_sets=dict(args.test_set),
    blur_name=args.blur_name,
    lpips_weights=[file for file in args.lpips_weights.split(',') if file],
    rounds=args.rounds,
  )
  print(f'{text}\nThe table is in {printable(args.output_dir)}')


def load_tables() -> dict[str, ModuleType]:
  """Return the modules of `configs/tables/` that have a table of a paper, by name."""
  folder = importlib.import_module('gfn_jax.configs.tables')
  names = sorted(module.name for module in pkgutil.iter_modules(folder.__path__))
  modules = {name: importlib.import_module(f'gfn_jax.configs.tables.{name}') for name in names}
  return {name: module for name, module in modules.items() if hasattr(module, 'TABLE')}


def run() -> None:
  """Run the command `gfn-table`."""
  compilation_cache.enable()
  with exit_on_user_error():
    main()


if __name__ == '__main__':
  run()
