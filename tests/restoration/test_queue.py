import concurrent.futures
import threading

import numpy as np
import pytest

from gfn_jax.restoration import queue as queue_module
from gfn_jax.restoration.queue import OVERLAP_COST, TRIAL, Queue, Stopped

SECONDS = 20


class Clock:
  """A clock that tests set."""

  now = 100.0

  def monotonic(self):
    return self.now


class StepwiseRestorer:
  """Restores an image in `tiles` steps, each of which begins when a test allows it."""

  def __init__(self, tiles=1, pace=1e-3):
    self.tiles, self.pace = tiles, pace
    self.allowed = threading.Semaphore(0)
    self.finished = threading.Semaphore(0)
    self.restored = []

  def time_forward(self, image):
    assert image.shape == (TRIAL, TRIAL, 3)
    return self.pace * TRIAL**2

  def __call__(self, image, progress):
    for i in range(self.tiles):
      assert self.allowed.acquire(timeout=SECONDS)
      progress(i + 1, self.tiles)
      self.finished.release()
    self.restored.append(int(image[0, 0, 0]))
    return image + 1

  def step(self):
    self.allowed.release()
    assert self.finished.acquire(timeout=SECONDS)


def image(value, height=10, width=20):
  return np.full((height, width, 3), value, np.uint8)


@pytest.fixture
def queue():
  queue = Queue()
  yield queue
  queue.close()


@pytest.fixture
def clock(monkeypatch):
  clock = Clock()
  monkeypatch.setattr(queue_module, 'time', clock)
  return clock


def wait_for_start(work):
  while work.elapsed() is None:
    assert not work.wait(0.01)


def test_images_are_restored_in_the_order_of_their_arrival(queue):
  restorer = StepwiseRestorer()
  works = [queue.submit(restorer, image(value)) for value in (7, 8, 9)]
  assert queue.before(works[0]) == []
  assert queue.before(works[2]) == works[:2]
  restorer.step()
  assert works[0].wait(SECONDS)
  np.testing.assert_array_equal(works[0].future.result(), image(8))
  assert not works[1].wait(0)
  assert queue.before(works[2]) == works[1:2]
  for _ in range(2):
    restorer.step()
  assert works[2].wait(SECONDS)
  assert restorer.restored == [7, 8, 9]


def test_the_time_is_estimated_by_the_speed_and_then_by_the_tiles(queue, clock):
  restorer = StepwiseRestorer(tiles=4)
  assert queue.estimate(restorer, 200) is None
  work, second = (queue.submit(restorer, image(7)) for _ in range(2))
  wait_for_start(work)
  assert work.left() == pytest.approx(0.2)  # 200 pixels of a millisecond
  clock.now += 0.05
  assert (work.left(), work.fraction()) == (pytest.approx(0.15), pytest.approx(0.25))
  clock.now += 10  # the network was compiled
  assert work.left() == 0
  assert work.fraction() is None  # the estimate was too short: no bar that is full
  restorer.step()
  assert (work.done, work.total) == (1, 4)
  assert work.left() == pytest.approx(0.15)  # three tiles of four
  clock.now += 3
  restorer.step()
  assert work.left() == pytest.approx(6)  # two tiles of 3 seconds
  clock.now += 1
  assert work.left() == pytest.approx(5)
  assert second.left() == pytest.approx(0.2)
  for _ in range(2):
    restorer.step()
  assert work.wait(SECONDS)
  # The second image's estimate is learnt from the first one's tiles.
  assert queue.estimate(restorer, 200) == pytest.approx(4 * 4 / 3 / OVERLAP_COST)
  second.stop()
  restorer.allowed.release()


def test_smaller_tiles_are_estimated_by_themselves(queue, clock):
  restorer = StepwiseRestorer()
  work = queue.submit(restorer, image(7))
  wait_for_start(work)
  for now, done, total in ((1, 1, 4), (2, 2, 4), (9, 1, 9), (13, 3, 9)):  # memory ran out at 2
    clock.now = now
    work._note(done, total)
  assert work.left() == pytest.approx(6 * 2)
  restorer.step()


def test_large_images_have_an_overlap_to_compute(queue):
  restorer = StepwiseRestorer()
  queue.measure(restorer)
  assert queue.estimate(restorer, 768**2) == pytest.approx(589.824)
  assert queue.estimate(restorer, 10**6) == pytest.approx(1300)


def test_who_stops_leaves_the_queue(queue):
  restorer = StepwiseRestorer(tiles=2)
  first, second, third = (queue.submit(restorer, image(value)) for value in (1, 2, 3))
  restorer.step()
  second.stop()
  with pytest.raises(concurrent.futures.CancelledError):
    second.future.result()
  assert queue.before(third) == [first]
  first.stop()
  restorer.allowed.release()
  with pytest.raises(Stopped):
    first.future.result(SECONDS)
  for _ in range(2):
    restorer.step()
  assert third.wait(SECONDS)
  assert restorer.restored == [3]


def test_a_failure_is_that_of_its_image_alone(queue):
  def fail(*_):
    raise MemoryError

  fail.time_forward = lambda _: 1.0
  work = queue.submit(fail, image(1))
  with pytest.raises(MemoryError):
    work.future.result(SECONDS)
  restorer = StepwiseRestorer()
  work = queue.submit(restorer, image(1))
  restorer.step()
  assert work.wait(SECONDS)
