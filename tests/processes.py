"""Simulation of the processes of a run by threads, which share devices."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import jax

from gfn_jax.system import parallel


def run_together(monkeypatch, count, work):
  """Call `work(process_index)` in each of `count` simulated processes.

  Returns:
    The results or exceptions, in the order of the processes.
  """
  here = threading.local()
  barrier = threading.Barrier(count, timeout=60)
  sent = [None] * count

  def gather(value):
    sent[here.index] = json.dumps(value)
    barrier.wait()
    values = [json.loads(text) for text in sent]
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
