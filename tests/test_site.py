"""The documentation's site, which `make docs` builds, and the notebook that it shows."""

import html.parser
import json
import os
import pathlib
import subprocess
import sys
import urllib.parse

import pytest

import gfn_jax
from gfn_jax import interop
from gfn_jax.cli.commands import COMMANDS

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOK = ROOT / 'examples' / 'quickstart.ipynb'


class Links(html.parser.HTMLParser):
  """The targets of a page's links and pictures, and its anchors."""

  def __init__(self, file):
    super().__init__()
    self.targets, self.anchors = set(), set()
    self.feed(file.read_text())

  def handle_starttag(self, tag, attributes):
    values = dict(attributes)
    self.anchors |= {values[key] for key in ('id', 'name') if values.get(key)}
    if target := values.get('href' if tag in ('a', 'link') else 'src'):
      self.targets.add(target)


@pytest.fixture(scope='module')
def site(tmp_path_factory):
  """Build the site as `make docs` does: a warning is an error."""
  pytest.importorskip('sphinx')
  out = tmp_path_factory.mktemp('site')
  options = ['--fresh-env', '--nitpicky', '--fail-on-warning', '--quiet']
  process = subprocess.run(
    [sys.executable, '-m', 'sphinx', *options, 'docs', str(out)],
    cwd=ROOT,
    env=os.environ | {'PYTHONPATH': str(ROOT)},
    capture_output=True,
    text=True,
  )
  assert (process.returncode, process.stderr) == (0, '')
  return out


@pytest.mark.full
def test_all_links_of_the_site_lead_somewhere(site):
  pages = {file: Links(file) for file in site.rglob('*.html')}
  assert len(pages) > 60
  for file, page in pages.items():
    for target in page.targets:
      url = urllib.parse.urlsplit(target)
      if url.scheme:
        assert url.scheme in ('http', 'https', 'data'), f'{file}: {target}'
        continue
      linked = (file.parent / urllib.parse.unquote(url.path)).resolve() if url.path else file
      assert linked.exists(), f'{file}: {target}'
      if url.fragment and linked in pages:
        anchor = urllib.parse.unquote(url.fragment)
        assert anchor in pages[linked].anchors, f'{file}: {target}'


@pytest.mark.full
def test_the_site_has_the_commands_the_api_and_the_sources(site):
  api = Links(site / 'api.html').anchors
  assert {f'gfn_jax.{name}' for name in gfn_jax.__all__} <= api
  assert {f'gfn_jax.interop.{name}' for name in interop.__all__} <= api
  commands = (site / 'commands.html').read_text()
  for name in COMMANDS:
    assert f'<h2>gfn-{name}<' in commands
  assert '--same_size' in commands
  assert 'class="mermaid"><svg id="mermaid-' in (site / 'architecture.html').read_text()
  source = (site / 'source' / 'gfn_jax' / 'models' / 'base.py.html').read_text()
  assert 'RestorationOutput' in source
  assert 'Add a network in three places' in (site / 'contributing.html').read_text()
  assert (site / 'quickstart.html').read_text().count('data:image/jpeg') == 4


@pytest.mark.full
def test_the_pages_load_nothing_from_elsewhere(site):
  for file in site.rglob('*.html'):
    for line in file.read_text().splitlines():
      for tag in ('<script', '<img', '<link'):
        if tag in line:
          rest = line.split(tag, 1)[1].split('>', 1)[0]
          assert 'src="http' not in rest and 'href="http' not in rest, f'{file}: {line[:200]}'


def outputs(path):
  """Return the text and the number of pictures of a notebook that ran without an error."""
  cells = [cell for cell in json.loads(path.read_text())['cells'] if cell['cell_type'] == 'code']
  assert [cell['execution_count'] for cell in cells] == list(range(1, len(cells) + 1))
  found = [output for cell in cells for output in cell['outputs']]
  assert {output['output_type'] for output in found} <= {'stream', 'execute_result', 'display_data'}
  text = ''.join(''.join(output.get('text', '')) for output in found)
  return text, sum('image/jpeg' in output.get('data', {}) for output in found)


def figures(path):
  """Return the figures of a notebook: the gain in dB, the fall of the loss, and the pictures."""
  text, pictures = outputs(path)
  words = text.split()
  bicubic, restored = (float(words[words.index(name) + 1]) for name in ('bicubic', 'restored'))
  first, last = (float(words[words.index('50') + 2].strip(',')), float(words[-1]))
  return restored - bicubic, first - last, pictures


def test_the_notebook_is_stored_with_its_outputs():
  gain, fall, pictures = figures(NOTEBOOK)
  assert gain > 3
  assert fall > 0
  assert pictures == 4
  assert NOTEBOOK.stat().st_size < 300_000


@pytest.mark.full
def test_the_notebook_runs(tmp_path):
  pytest.importorskip('nbclient')
  pytest.importorskip('ipykernel')
  command = [sys.executable, 'examples/run_notebook.py', f'--output={tmp_path / "new.ipynb"}']
  environment = os.environ | {'PYTHONPATH': str(ROOT), 'XLA_FLAGS': ''}
  process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
  assert process.returncode == 0, process.stderr
  gain, fall, pictures = figures(tmp_path / 'new.ipynb')
  assert gain > 3
  assert fall > 0
  assert pictures == 4
  assert (tmp_path / 'new.ipynb').stat().st_size < 300_000
  cells = [json.loads(path.read_text())['cells'] for path in (NOTEBOOK, tmp_path / 'new.ipynb')]
  assert len({json.dumps([cell['source'] for cell in each]) for each in cells}) == 1
