"""Free ports of this machine."""

import socket


def free_port():
  """Return a port that is not in use."""
  with socket.socket() as listener:
    listener.bind(('127.0.0.1', 0))
    return listener.getsockname()[1]
