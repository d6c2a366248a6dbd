"""Test the tools of the repository: its Makefile and its hooks."""

import os
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).parent.parent


def test_make_lists_every_target():
  outer = {name: value for name, value in os.environ.items() if not name.startswith('MAKE')}
  listed = subprocess.run(['make'], cwd=ROOT, env=outer, check=True, capture_output=True).stdout
  targets = re.search(r'^\.PHONY: (.*)$', (ROOT / 'Makefile').read_text(), re.M).group(1).split()
  assert [line.split()[0] for line in listed.decode().splitlines()] == targets


def test_hooks_use_the_ruff_of_the_test_extra():
  (pinned,) = re.findall(r'ruff == (\S+)', (ROOT / 'setup.cfg').read_text())
  hooks = re.findall(r'ruff==([\d.]+)', (ROOT / '.pre-commit-config.yaml').read_text())
  assert hooks == [pinned] * 2
