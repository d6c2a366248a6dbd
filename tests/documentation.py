"""Commands in the documentation, and the options that each command's source defines."""

import ast
import functools
import pathlib
import re
import shlex

ROOT = pathlib.Path(__file__).parents[1]

PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').rglob('*.md'))]

BLOCK = re.compile(r'^```([^\n`]*)\n(.*?)^```$', re.MULTILINE | re.DOTALL)
LANGUAGES = ('', 'bash', 'yaml', 'python')
"""Languages of the blocks that hold commands."""

SPAN = re.compile(r'(?<!`)`([^`]+)`(?!`)')

PROGRAM = re.compile(r'(?:^|\s|bin/)(gfn(?:-[a-z-]+)?|python3? (?:-m [\w.]+|[\w/]+\.py))(?= |$)')
"""Start of a command: `gfn-NAME`, `gfn NAME`, `python -m MODULE` or `python FILE`."""


def commands(page, spans=True):
  """Return the commands of the project on a page, as lists of words.

  The first word is the path of the command's source. Commands of other programs are left out.

  Args:
    page: a Markdown file.
    spans: False for the commands of blocks alone, which are complete.
  """
  text = page.read_text()
  blocks = [block for language, block in BLOCK.findall(text) if language in LANGUAGES]
  lines = [line for block in blocks for line in re.sub(r'\\\n', '', block).splitlines()]
  if spans:
    lines += [' '.join(span.split()) for span in SPAN.findall(BLOCK.sub('', text))]
  found = []
  for line in lines:
    line = line.strip()
    start = PROGRAM.search(line)
    if line.startswith(('#', '|')) or not start:
      continue
    program = ' '.join(start[1].split())
    words = _words(line[start.end() :])
    if source := source_of(program, words):
      found.append([source, *words])
  return found


def _words(text):
  try:
    return shlex.split(text.rstrip("'"), comments=True)
  except ValueError:  # an apostrophe in a comment
    return text.split('#')[0].split()


def source_of(program, words):
  """Return the path of a program's source, or None for a program of others.

  The name of a subcommand is removed from the words.
  """
  cli = ROOT / 'gfn_jax' / 'cli'
  module = {'eval': 'evaluate', 'import': 'import_torch', 'join-weights': 'join_weights'}
  if program in ('gfn', 'python -m gfn_jax'):
    if not words or not (cli / f'{module.get(words[0], words[0])}.py').exists():
      return None
    program = f'gfn-{words.pop(0)}'
  if program.startswith('gfn-'):
    name = program.removeprefix('gfn-')
    if name == 'prepare' and words and (ROOT / f'data_prep/{words[0]}.py').exists():
      return ROOT / f'data_prep/{words.pop(0)}.py'
    source = cli / f'{module.get(name, name)}.py'
    assert source.exists(), f'unknown command {program}'
    return source
  target = program.split()[-1]
  if program.startswith('python -m') or program.startswith('python3 -m'):
    if target.partition('.')[0] not in ('benchmarks', 'data_prep', 'gfn_jax'):
      return None
    target = target.replace('.', '/') + '.py'
  source = ROOT / target
  assert source.exists(), f'{program}: no such file'
  return source


@functools.cache
def options(source):
  """Return the names of the options that a file and the project's files it imports define."""
  names = set()
  for node in ast.walk(ast.parse(source.read_text())):
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
      function = getattr(node.func, 'attr', getattr(node.func, 'id', ''))
      name = str(node.args[0].value)
      if function.startswith('DEFINE') or function.endswith('Flag'):
        names |= {name, f'no{name}'} if 'bool' in function else {name}
      elif function in ('add', 'add_argument') and name.startswith('--'):
        names.add(name[2:])
    elif isinstance(node, ast.ImportFrom):
      paths = [node.module, *(f'{node.module}.{alias.name}' for alias in node.names)]
      for path in paths:
        path = path.replace('gfn_jax.data_prep', 'data_prep')
        file = ROOT / (path.replace('.', '/') + '.py')
        if re.match(r'(gfn_jax\.cli|benchmarks|data_prep)\.', path) and file.exists():
          names |= options(file)
  return names
