"""Ports of this machine."""

import socket


def free_port():
  """One that nothing listens on."""
  with socket.socket() as listener:
    listener.bind(('127.0.0.1', 0))
    return listener.getsockname()[1]
