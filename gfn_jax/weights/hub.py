"""Download of weights from a model hub: `hf://OWNER/NAME`."""

import functools
import os
import re

from gfn_jax.errors import UserError, first_line, install_extra
from gfn_jax.system.files import printable
from gfn_jax.weights.cards import HUB_CARD, HUB_WEIGHTS

SCHEME = 'hf://'
_ADDRESS = re.compile(rf'{SCHEME}([\w.-]+/[\w.-]+)(?:@([\w./-]+))?', re.ASCII)


@functools.cache  # one answer in a process, although a hub may change
def fetch(address: str) -> str:
  """Download the weights and the card of a repository, unless the cache has them.

  Other files are not downloaded. Address of the hub, cache and token are those of huggingface_hub:
  `HF_ENDPOINT`, `HF_HOME` and `HF_TOKEN`. Without a network, the last download is used.

  Args:
    address: `hf://OWNER/NAME`, or `hf://OWNER/NAME@REVISION` with a branch, a tag or a commit.

  Returns:
    The folder of the files.

  Raises:
    UserError: for a malformed address, if huggingface_hub is missing, or if the repository cannot
      be downloaded or has no weights.
  """
  match = _ADDRESS.fullmatch(address)
  if not match:
    raise UserError(
      f'{printable(address)}: malformed address; pass {SCHEME}OWNER/NAME or '
      f'{SCHEME}OWNER/NAME@REVISION'
    )
  folder = _download(address, *match.groups())
  if not os.path.isfile(os.path.join(folder, HUB_WEIGHTS)):
    raise UserError(f'{address} has no {HUB_WEIGHTS}; pass a repository of weights of gfn_jax')
  return folder


def _download(address: str, repository: str, revision: str | None) -> str:
  try:
    from huggingface_hub import errors, snapshot_download
  except ImportError as error:
    raise UserError(
      f'cannot import huggingface_hub ({error}), which {address} needs; {install_extra("hub")}'
    ) from error
  reasons = {  # the first that fits
    errors.GatedRepoError: 'access must be requested on the hub; then log in with hf auth login',
    errors.RepositoryNotFoundError: 'no such repository, or it is private: hf auth login',
    errors.RevisionNotFoundError: f'the repository has no revision {revision}',
    errors.LocalEntryNotFoundError: 'the hub cannot be reached, and the cache has no copy; check '
    'the network, or pass a folder',
  }
  try:
    return snapshot_download(
      repository, revision=revision, allow_patterns=[HUB_WEIGHTS, HUB_CARD], library_name='gfn_jax'
    )
  except Exception as error:  # of the HTTP library, too
    reason = next((text for kind, text in reasons.items() if isinstance(error, kind)), None)
    raise UserError(f'cannot download {address}: {reason or first_line(error)}') from error
