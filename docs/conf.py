"""Settings of the documentation's site, which `make docs` builds (Sphinx with MyST)."""

import pathlib
import re
import sys

DOCS = pathlib.Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]  # `site_pages`, and `gfn_jax` in a clone

project = 'gfn_jax'
author = copyright = 'The gfn_jax authors'
release = re.findall(r"__version__ = '(.+)'", (DOCS.parent / 'gfn_jax/__init__.py').read_text())[0]

extensions = [
  'myst_parser',
  'sphinx.ext.autodoc',
  'sphinx.ext.napoleon',
  'sphinx_copybutton',
  'site_pages',
]
exclude_patterns = ['*.py']
html_theme = 'furo'
html_title = f'gfn_jax {release}'
html_static_path = ['site.css']
html_css_files = ['site.css']
html_show_sphinx = False
html_copy_source = False

myst_heading_anchors = 4
myst_url_schemes = ['http', 'https', 'mailto', 'site']  # `site:` is resolved by `site_pages`
myst_fence_as_directive = ['mermaid']
pygments_style = 'friendly'

autodoc_member_order = 'bysource'
autodoc_typehints = 'description'
autodoc_typehints_description_target = 'documented'
autodoc_default_options = {'members': True}
napoleon_numpy_docstring = False

smartquotes = False
highlight_language = 'text'  # of blocks without a language
default_role = 'literal'  # single backticks in docstrings

nitpicky = True
nitpick_ignore_regex = [
  # Types of other packages, whose documentation an offline build cannot look up, and shapes.
  ('py:.*', r"'.*'|ndarray|Array|((jax|jaxtyping|flax|numpy|os|collections|PIL|matplotlib)\..*)"),
]
nitpick_ignore = [('py:class', 'gfn_jax.images.metadata.Metadata')]
