"""Threads in the place of the processes of a run, for what does not need devices of their own."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import jax

from gfn_jax.system import parallel


def run_together(monkeypatch, count, work):
  """Calls `work(process_index)` in each; gives what they return or raise, in their order."""
  here = threading.local()
  barrier = threading.Barrier(count, timeout=60)
  passed = [None] * count

  def gather(value):
    passed[here.index] = json.dumps(value)
    barrier.wait()
    values = [json.loads(text) for text in passed]
    barrier.wait()
    return values

  def run(index):
    here.index = index
    try:
      return work(index)
    except Exception as error:
      return error

  with monkeypatch.context() as patch, ThreadPoolExecutor(count) as pool:
    patch.setattr(jax, 'process_index', lambda: here.index)
    patch.setattr(jax, 'process_count', lambda: count)
    patch.setattr(parallel, 'gather', gather)
    return list(pool.map(run, range(count)))
