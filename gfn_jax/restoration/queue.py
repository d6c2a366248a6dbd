"""Restoration of images one after the other, in the background, with estimates of the time."""

import concurrent.futures
import itertools
import threading
import time

import numpy as np

from gfn_jax.restoration.restorer import MAX_TILE, Restorer

TRIAL = 128
"""Side of the image that a network's speed is measured with."""

OVERLAP_COST = 1.3
"""Pixels that tiles of `MAX_TILE` compute for each pixel of the image, about."""


class Stopped(Exception):  # noqa: N818 (not an error)
  """The restoration was stopped."""


class Work:
  """A restoration in a `Queue`.

  Attributes:
    restorer: the network.
    pixels: number of pixels of the image.
    future: its result, as of the restorer; it raises `Stopped` or `CancelledError` after `stop`.
    done: number of finished tiles.
    total: number of tiles; 0 before the first one is finished.
  """

  future: 'concurrent.futures.Future[np.ndarray]'

  def __init__(self, queue: 'Queue', restorer: Restorer, image: np.ndarray):
    self.restorer = restorer
    self.pixels = image.shape[0] * image.shape[1]
    self.done = self.total = 0
    self._queue = queue
    self._image = image
    self._stopped = False
    self._start: float | None = None
    self._marks: list[tuple[float, int]] = []  # times and numbers of finished tiles

  def run(self) -> np.ndarray:
    """Restore the image."""
    self._check()
    self._queue.measure(self.restorer)
    self._start = time.monotonic()
    restored = self.restorer(self._image, self._note)
    if seconds := self._seconds_of_a_tile():
      self._queue.learn(self.restorer, seconds * self.total, self.pixels)
    return restored

  def wait(self, seconds: float) -> bool:
    """Wait until the restoration has ended, or for some seconds. Return True if it has ended."""
    return not concurrent.futures.wait([self.future], seconds).not_done

  def stop(self) -> None:
    """Leave the queue, or stop after the current batch of tiles."""
    self._stopped = True
    self.future.cancel()

  def elapsed(self) -> float | None:
    """Return the seconds since the restoration has begun; None before."""
    return None if self._start is None else time.monotonic() - self._start

  def left(self) -> float | None:
    """Return an estimate of the remaining seconds; None if the network's speed is unknown.

    It follows the pace of the tiles. The time until the first one is left out, because a network
    may be compiled in it.
    """
    if seconds := self._seconds_of_a_tile():
      since = time.monotonic() - self._marks[-1][0]
      return max(0.0, seconds * (self.total - self.done) - since)
    expected = self._queue.estimate(self.restorer, self.pixels)
    if expected is None:
      return None
    if self._marks:
      since = time.monotonic() - self._marks[-1][0]
      return max(0.0, expected * (1 - self.done / self.total) - since)
    return max(0.0, expected - (self.elapsed() or 0))

  def fraction(self) -> float | None:
    """Return the part that is done, by the estimate; None if that is unknown or was too short."""
    elapsed, left = self.elapsed(), self.left()
    return elapsed / (elapsed + left) if elapsed is not None and left else None

  def _seconds_of_a_tile(self) -> float | None:
    if len(self._marks) < 2:
      return None
    (first, first_done), (last, last_done) = self._marks[0], self._marks[-1]
    return (last - first) / (last_done - first_done)

  def _note(self, done: int, total: int) -> None:
    self._check()
    if done <= self.done:  # started again, with smaller tiles
      self._marks.clear()
    self.done, self.total = done, total
    self._marks.append((time.monotonic(), done))

  def _check(self) -> None:
    if self._stopped:
      raise Stopped


class Queue:
  """Restores images in the order of their arrival, one at a time."""

  def __init__(self) -> None:
    self._pool = concurrent.futures.ThreadPoolExecutor(1)
    self._lock = threading.Lock()
    self._works: list[Work] = []  # unfinished ones, in order
    self._pace: dict[Restorer, float] = {}  # seconds for a pixel

  def submit(self, restorer: Restorer, image: np.ndarray) -> Work:
    """Queue an image, as `Restorer` takes it."""
    work = Work(self, restorer, image)
    with self._lock:  # one order in the pool and in the list
      work.future = self._pool.submit(work.run)
      self._works.append(work)
    work.future.add_done_callback(lambda _: self._works.remove(work))
    return work

  def before(self, work: Work) -> list[Work]:
    """Return the unfinished restorations that come before one."""
    earlier = itertools.takewhile(lambda other: other is not work, [*self._works])
    return [other for other in earlier if not other.future.done()]

  def estimate(self, restorer: Restorer, pixels: int) -> float | None:
    """Return about how many seconds an image takes; None if the network's speed is unknown."""
    if restorer not in self._pace:
      return None
    return self._pace[restorer] * pixels * (OVERLAP_COST if pixels > MAX_TILE**2 else 1)

  def measure(self, restorer: Restorer) -> None:
    """Measure a network's speed on this machine, once."""
    if restorer not in self._pace:
      trial = np.zeros((TRIAL, TRIAL, 3), np.uint8)
      self._pace[restorer] = restorer.time_forward(trial) / TRIAL**2

  def learn(self, restorer: Restorer, seconds: float, pixels: int) -> None:
    """Correct a network's speed by an image that was divided into tiles."""
    self._pace[restorer] = seconds / (pixels * OVERLAP_COST)

  def close(self) -> None:
    """Stop all, and wait for the end of the current batch of tiles."""
    for work in [*self._works]:
      work.stop()
    self._pool.shutdown(cancel_futures=True)
