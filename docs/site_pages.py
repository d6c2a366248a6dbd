"""Sphinx extension that makes a site of the plain Markdown files in `docs/`.

- Links between files of the repository lead to pages of the site. A source file that is linked gets
  a page with highlighted lines.
- Mermaid diagrams become SVG while the site is built, so that the page needs no network.
- The pages in `GENERATED` are written here: from the files that they stand for, from the commands'
  parsers and from the notebook.
"""

import concurrent.futures
import json
import os
import pathlib
import posixpath
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import mermaidx
from docutils import nodes
from pygments import lexers
from pygments.util import ClassNotFound
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from gfn_jax.cli.commands import COMMANDS

ROOT = pathlib.Path(__file__).parents[1]

PAGES = {'README.md': 'index', 'CONTRIBUTING.md': 'contributing', 'CHANGELOG.md': 'changelog'}
"""Files outside `docs/` that are pages of the site."""

BROWSER_PAGE = ROOT / 'build' / 'page'
"""The page that restores in the browser, if `make page` has built it."""

LINK = re.compile(r'(?<=\]\()(?![a-z]+:|#)([^)#\s]+)(?=[)#])')
"""Target of a relative link in Markdown, without its fragment."""


def setup(app: Sphinx) -> dict[str, bool]:
  """Register the extension."""
  app.add_directive('mermaid', Mermaid)
  app.connect('source-read', read_source)
  app.connect('autodoc-process-docstring', prepare_docstring, priority=400)  # before napoleon
  app.connect('doctree-resolved', link_pages)
  app.connect('html-collect-pages', source_pages)
  app.connect('build-finished', copy_browser_page)
  return {'parallel_read_safe': False}


class Mermaid(SphinxDirective):
  """A Mermaid diagram, drawn as SVG."""

  has_content = True

  def run(self) -> list[nodes.Node]:
    """Return the diagram."""
    name = f'mermaid-{self.env.new_serialno("mermaid")}'
    svg = mermaidx.render('\n'.join(self.content)).svg().replace('my-svg', name)
    return [nodes.raw('', f'<figure class="mermaid">{svg}</figure>', format='html')]


def read_source(app: Sphinx, docname: str, source: list[str]) -> None:
  """Replace a page's text by the generated one, if it has one, and its links by the site's."""
  file = f'docs/{docname}.md'
  if docname in GENERATED:
    file, source[0] = GENERATED[docname]()
  if docname == 'index' and BROWSER_PAGE.exists():
    row = (
      '| sharpen a photo in this browser, with nothing installed | [the page](site:page/index) |'
    )
    source[0] = source[0].replace('|---|---|', f'|---|---|\n{row}', 1)
  linked = app.env.__dict__.setdefault('gfn_jax_sources', set())

  def link(match: re.Match) -> str:
    target = posixpath.normpath(posixpath.join(posixpath.dirname(file), match[0]))
    if target in PAGES:
      target = f'docs/{PAGES[target]}.md'
    if target.startswith('docs/') or not (ROOT / target).is_file():
      return posixpath.relpath(target, posixpath.dirname(f'docs/{docname}'))
    if target.endswith(('.png', '.gif')):
      return match[0]
    linked.add(target)
    return f'site:source/{target}'

  source[0] = LINK.sub(link, source[0])


def link_pages(app: Sphinx, doctree: nodes.document, docname: str) -> None:
  """Let the links `site:PAGE` lead to a page of the site that is made of no Markdown file."""
  for node in doctree.findall(nodes.reference):
    scheme, _, page = node.get('refuri', '').partition(':')
    if scheme == 'site':
      node['refuri'] = app.builder.get_relative_uri(docname, page)


def source_pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
  """Yield a page for each source file that a page links to."""
  for path in sorted(app.env.__dict__.get('gfn_jax_sources', ())):
    text = (ROOT / path).read_text()
    try:
      language = lexers.get_lexer_for_filename(path).aliases[0]
    except ClassNotFound:
      language = 'text'
    body = app.builder.highlighter.highlight_block(text, language, linenos='inline')
    yield f'source/{path}', {'title': path, 'body': f'<h1>{path}</h1>{body}'}, 'page.html'


def copy_browser_page(app: Sphinx, exception: Exception | None) -> None:
  """Make the page that restores in the browser a part of the site, if it was built."""
  if exception is None and BROWSER_PAGE.exists():
    shutil.copytree(BROWSER_PAGE, app.outdir / 'page', dirs_exist_ok=True)


def prepare_docstring(
  app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]
) -> None:
  """Rewrite what reStructuredText and napoleon would misread in a docstring.

  Indented examples are marked as code. A colon before the text of Returns says that no type comes
  first: the types are those of the signature.
  """
  del app, what, name, thing, options
  prepared: list[str] = []
  above = ''  # the last line that is not blank
  for line in lines:
    blank_above = bool(prepared) and not prepared[-1]
    if line.startswith('    ') and blank_above and not above.startswith(' '):
      prepared += ['.. code-block:: python', '']
    elif above in ('Returns:', 'Yields:') and line.strip():
      line = f'  : {line.strip()}'
    prepared.append(line)
    above = line or above
  lines[:] = prepared


def _contributing() -> tuple[str, str]:
  return 'CONTRIBUTING.md', (ROOT / 'CONTRIBUTING.md').read_text()


def _changelog() -> tuple[str, str]:
  return 'CHANGELOG.md', (ROOT / 'CHANGELOG.md').read_text()


def _commands() -> tuple[str, str]:
  """Return the page of the commands, with the help of each."""
  environment = os.environ | {'COLUMNS': '90', 'JAX_PLATFORMS': 'cpu'}

  def show(name: str) -> str:
    command = [sys.executable, '-m', 'gfn_jax', name, '--help']
    text = subprocess.run(
      command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    ).stdout
    return f'## gfn-{name}\n\n```text\n{text.strip()}\n```\n'

  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    sections = pool.map(show, COMMANDS)
    text = (ROOT / 'docs/commands.md').read_text()
    return 'docs/commands.md', '\n'.join([text, *sections])


def _quickstart() -> tuple[str, str]:
  """Return the notebook as Markdown, with the outputs that it was saved with."""
  notebook = json.loads((ROOT / 'examples/quickstart.ipynb').read_text())
  parts = []
  for cell in notebook['cells']:
    source = ''.join(cell['source'])
    if cell['cell_type'] == 'markdown':
      parts.append(source)
      continue
    parts.append(f'```ipython\n{source}\n```')
    for output in cell['outputs']:
      data = output.get('data', {'text/plain': output.get('text', '')})
      if 'image/jpeg' in data:
        picture = ''.join(data['image/jpeg']).replace('\n', '')
        parts.append(f'![Output of the cell](data:image/jpeg;base64,{picture})')
      else:
        parts.append('```text\n' + ''.join(data['text/plain']).rstrip() + '\n```')
  title, _, text = parts[0].partition('\n')
  download = '{download}`The notebook <../examples/quickstart.ipynb>`, with its outputs.'
  parts[0] = f'{title}\n\n{download}\n{text}'
  return 'docs/quickstart.md', '\n\n'.join(parts)


GENERATED = {
  'changelog': _changelog,
  'commands': _commands,
  'contributing': _contributing,
  'quickstart': _quickstart,
}
"""Functions that return the file whose links a page has, and its text, by page."""
