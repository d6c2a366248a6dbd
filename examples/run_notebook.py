"""Run a notebook, and write it with its outputs.

python examples/run_notebook.py
python examples/run_notebook.py --output=build/quickstart.ipynb
"""

import argparse
import pathlib

import nbclient
import nbformat

NOTEBOOK = pathlib.Path(__file__).with_name('quickstart.ipynb')

LIMIT = 300_000
"""Largest size of the file, in bytes: the outputs are part of the repository."""


def main() -> None:
  """Run the notebook that the arguments name."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('notebook', nargs='?', type=pathlib.Path, default=NOTEBOOK)
  parser.add_argument('--output', type=pathlib.Path, help='another file; default: in place')
  args = parser.parse_args()

  notebook = nbformat.read(args.notebook, as_version=4)
  folder = {'metadata': {'path': str(args.notebook.resolve().parent)}}
  client = nbclient.NotebookClient(
    notebook,
    timeout=1800,
    kernel_name='python3',
    resources=folder,
    record_timing=False,
    coalesce_streams=True,
  )
  client.execute()
  for cell in notebook.cells:
    if cell.cell_type == 'code':  # without progress bars, which differ from run to run
      cell.outputs = [output for output in cell.outputs if output.get('name') != 'stderr']
  kernel = {'name': 'python3', 'display_name': 'Python 3', 'language': 'python'}
  notebook.metadata = {'kernelspec': kernel, 'language_info': {'name': 'python'}}
  text = nbformat.writes(notebook)
  if len(text.encode()) > LIMIT:
    raise SystemExit(f'error: {len(text.encode()):,} bytes with outputs; the limit is {LIMIT:,}')
  (args.output or args.notebook).write_text(text + '\n')


if __name__ == '__main__':
  main()
