"""Losses: comparisons of images, and weighted sums of them over a network's outputs."""

import dataclasses
import functools
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gfn_jax.errors import UserError
from gfn_jax.models.base import RestorationOutput


def _add(values: Iterable[jax.Array]) -> jax.Array:
  """Return the sum of at least one array."""
  return functools.reduce(operator.add, values)


def mse(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """Return the mean squared error over all elements, in float32."""
  return jnp.mean(jnp.square(prediction.astype(jnp.float32) - target.astype(jnp.float32)))


def l1(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """Return the mean absolute error over all elements, in float32."""
  return jnp.mean(jnp.abs(prediction.astype(jnp.float32) - target.astype(jnp.float32)))


def charbonnier(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """Return the mean of `sqrt(difference**2 + 1e-6)`, in float32 (Lai et al. 2017, eq. 2)."""
  difference = prediction.astype(jnp.float32) - target.astype(jnp.float32)
  return jnp.mean(jnp.sqrt(jnp.square(difference) + 1e-6))


def edge(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """Return `charbonnier` of the Laplacians (Jiang et al. 2020, as MPRNet's code computes it)."""
  difference = laplacian(prediction.astype(jnp.float32) - target.astype(jnp.float32))
  return charbonnier(difference, jnp.zeros_like(difference))


def laplacian(x: jax.Array) -> jax.Array:
  """Return a level of Burt and Adelson's pyramid: what `[B, h, w, C]` loses at half the size.

  Both ways are blurred by a Gaussian of 5 taps. Pixels beyond the border repeat the border.
  """
  _, h, w, _ = x.shape
  kept = (np.arange(h)[:, None] % 2 == 0) & (np.arange(w) % 2 == 0)
  # Three of four pixels are zero, so those that are left count four times.
  return x - _blur(jnp.where(kept[None, :, :, None], 4 * _blur(x), 0))


def _blur(x: jax.Array) -> jax.Array:
  for axis in (1, 2):
    x = _correlate(x, (0.05, 0.25, 0.4, 0.25, 0.05), axis, mode='edge')
  return x


def gradient(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """Return `l1` of Sobel's derivatives, added over both directions (CNLRN's code).

  Args:
    prediction: `[B, h, w, C]`; zeros are assumed around each image.
    target: as `prediction`.
  """
  x = prediction.astype(jnp.float32) - target.astype(jnp.float32)  # the operator is linear
  return _add(
    jnp.mean(jnp.abs(_correlate(_correlate(x, (1, 2, 1), axis), (1, 0, -1), 3 - axis)))
    for axis in (1, 2)
  )


def _correlate(
  x: jax.Array, taps: tuple[float, ...], axis: int, mode: str = 'constant'
) -> jax.Array:
  """Correlate with an odd number of taps along an axis, padded in a mode of `jnp.pad`."""
  padding = [(len(taps) // 2,) * 2 if i == axis else (0, 0) for i in range(x.ndim)]
  padded, size = jnp.pad(x, padding, mode=mode), x.shape[axis]
  return _add(
    weight * jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i, weight in enumerate(taps)
  )


PAIR_DIFFERENCES = ('absolute', 'either', 'signed')


def frame_loss(
  frames: jax.Array, targets: jax.Array, pair_difference: str = 'absolute'
) -> jax.Array:
  """Return the loss of the sharp frames of a blurred image: the middle one, and pairs (BMDSRNet).

      l1(Y_4, T_4) + sum over i = 1, 2, 3 of
        l1(Y_i + Y_{8-i}, T_i + T_{8-i}) + l1(|Y_i - Y_{8-i}|, |T_i - T_{8-i}|)

  A blurred image does not show which end of the exposure came first. 'absolute' (Jin et al., CVPR
  2018) lets each value of a pair choose its order, so that the frames of a pair may differ in
  colour instead of place. 'either', which is not in the papers, lets each image choose one order
  for all of its values: for frames to look at. 'signed' is BMDSRNet's eq. 2, in which the order
  counts, unlike in its text.

  Args:
    frames: `[B, T, h, w, 3]`, T odd, 7 above.
    targets: as `frames`.
    pair_difference: 'absolute', 'either' or 'signed'.

  Raises:
    ValueError: for another `pair_difference`, an even T, or two shapes.
  """
  if pair_difference not in PAIR_DIFFERENCES:
    raise ValueError(f'pair_difference must be one of {PAIR_DIFFERENCES}, not {pair_difference!r}')
  if frames.shape != targets.shape or frames.shape[1] % 2 == 0:
    raise ValueError(f'an odd number of frames is compared, not {frames.shape} and {targets.shape}')
  center = frames.shape[1] // 2

  def pairs(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    x = x.astype(jnp.float32)
    first, second = x[:, :center], x[:, : -center - 1 : -1]
    return first + second, first - second

  (sums, differences), (target_sums, target_differences) = pairs(frames), pairs(targets)
  # All pairs at once: the mean over them, times their number.
  of_differences = _compare_differences(differences, target_differences, pair_difference)
  of_pairs = l1(sums, target_sums) + of_differences
  return l1(frames[:, center], targets[:, center]) + center * of_pairs


def _compare_differences(x: jax.Array, target: jax.Array, kind: str) -> jax.Array:
  """Return the loss of differences of pairs, `[B, 3, h, w, C]`."""
  if kind == 'absolute':
    return l1(jnp.abs(x), jnp.abs(target))
  if kind == 'signed':
    return l1(x, target)
  forwards, backwards = (jnp.abs(x - y).mean(axis=(1, 2, 3, 4)) for y in (target, -target))
  return jnp.minimum(forwards, backwards).mean()


IMAGE_LOSSES = {
  'mse': mse,
  'l1': l1,
  'charbonnier': charbonnier,
  'edge': edge,
  'gradient': gradient,
}
"""Comparisons of two images, by the names that configs use."""

ON = ('hr', 'lr', 'frames')
"""Outputs that a term can be of."""

Pairs = list[tuple[jax.Array, jax.Array]]
"""Images of a network, each with its target."""


@dataclasses.dataclass(frozen=True)
class LossTerm:
  """One term of a loss: a comparison of an output with its target.

  Attributes:
    name: `loss_NAME` is the term in logs.
    on: 'hr', 'lr' or 'frames', the output and the target. For images, a network's stages, streams
      or smaller sizes are compared, too, and added.
    compare: maps the output and the target to a scalar.
    weight: factor in the sum.
  """

  name: str
  on: str
  compare: Callable[[jax.Array, jax.Array], jax.Array]
  weight: float


def make_loss(
  terms: Mapping[str, Mapping[str, Any]],
  weights: Mapping[str, float],
  perceptual: Callable[[jax.Array], jax.Array] | None = None,
) -> tuple[LossTerm, ...]:
  """Return the terms of a loss that a config describes.

  | paper | terms: on, loss, weight |
  |---|---|
  | GFN, eq. 2; alpha is 0 in the last phase of the code | hr, mse, 1; lr, mse, alpha = 0.5 |
  | Shoyan et al.; the paper's edge weight is 1 | hr, mse, 1; lr, charbonnier and 0.05 edge, 0.5 |
  | MPRNet, eq. 5 | lr, charbonnier, 1; lr, edge, 0.05 |
  | CNLRN, pre-training; then both networks | lr, l1, 1; then hr, l1, 1; hr, gradient, 0.1 |
  | BMDSRNet, eqs. 1 to 3 | hr, mse, 1; frames, frames, 1; frames, perceptual, 1 |
  | DeepDeblur without its discriminator; in its PyTorch code l1 | lr, mse, 1 |
  | DMPHN | lr, mse, 1 |

  Args:
    terms: for each name of a term `on`, `loss` and `weight`. `loss` is a key of `IMAGE_LOSSES` for
      'hr' and 'lr', and for 'frames' one of 'frames', with `pair_difference`, and 'perceptual'.
    weights: the weight of all terms on an output, 1 where none is given.
    perceptual: features of images `[B, h, w, 3]`, such as `perceptual.VGG19`. Without them terms
      with the loss 'perceptual' are left out.

  Returns:
    The terms whose weight is not 0. What they alone need is not computed.

  Raises:
    UserError: for an unknown output or loss, or an option that a loss does not have.
  """
  made = []
  for name, settings in terms.items():
    options = dict(settings)
    on, loss, weight = options.pop('on'), options.pop('loss'), options.pop('weight')
    if on not in ON:
      raise UserError(f'loss.{name}.on is {on!r}; choose from {", ".join(ON)}')
    if weight := weight * weights.get(on, 1.0):
      compare = _make_comparison(name, on, loss, options, perceptual)
      if compare is not None:
        made.append(LossTerm(name, on, compare, weight))
  return tuple(made)


def _make_comparison(
  name: str,
  on: str,
  loss: str,
  options: Mapping[str, Any],
  perceptual: Callable[[jax.Array], jax.Array] | None,
) -> Callable[[jax.Array, jax.Array], jax.Array] | None:
  """Return the comparison of a term; None for a perceptual one without features."""
  known = ('frames', 'perceptual') if on == 'frames' else tuple(IMAGE_LOSSES)
  if loss not in known:
    raise UserError(f'loss.{name}.loss is {loss!r}; choose from {", ".join(known)}')
  if unknown := sorted(set(options) - ({'pair_difference'} if loss == 'frames' else set())):
    raise UserError(f'loss.{name} has no option {unknown[0]!r}')
  if loss == 'frames':
    if (pair_difference := options['pair_difference']) not in PAIR_DIFFERENCES:
      raise UserError(
        f'loss.{name}.pair_difference is {pair_difference!r}; choose from '
        f'{", ".join(PAIR_DIFFERENCES)}'
      )
    return functools.partial(frame_loss, pair_difference=pair_difference)
  if loss == 'perceptual':
    return perceptual and functools.partial(_compare_features, perceptual)
  return IMAGE_LOSSES[loss]


def _compare_features(
  features: Callable[[jax.Array], jax.Array], frames: jax.Array, targets: jax.Array
) -> jax.Array:
  """Return `l1` of the features of the middle frames (BMDSRNet, eq. 3)."""
  center = frames.shape[1] // 2
  return l1(features(frames[:, center]), features(targets[:, center]))


def restoration_loss(
  output: RestorationOutput,
  batch: Mapping[str, jax.Array],
  terms: Sequence[LossTerm],
  pyramid: Callable[[jax.Array], Sequence[jax.Array]] = lambda image: (),
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Return the weighted sum of the terms that an output and a batch allow, and these terms.

  Terms on 'lr' are left out where frames are compared: `lr` is the middle one.

  Args:
    output: of a network. Terms on an output that it does not have are left out.
    batch: `hr` `[B, s * h, s * w, 3]`, `lr` `[B, h, w, 3]`, maybe `frames` `[B, 7, h, w, 3]`, float
      in [0, 1]. With `has_hr`, `[B]` bool, examples without an `hr` add nothing to the terms on
      'hr', which stay means over all examples.
    terms: as of `make_loss`.
    pyramid: the network's method, which maps `lr` to the targets of `lr_pyramid`.

  Returns:
    The loss, and `loss_NAME` of each term before weighting.
  """
  wanted = {term.on for term in terms}
  pairs: dict[str, Pairs] = {}
  if 'hr' in wanted and output.hr is not None:
    pairs['hr'] = [(image, batch['hr']) for image in (*output.hr_stages, output.hr)]
  if 'frames' in wanted and output.frames is not None and 'frames' in batch:
    pairs['frames'] = [(output.frames, batch['frames'])]
  elif 'lr' in wanted and output.lr is not None:
    smaller = zip(output.lr_pyramid, pyramid(batch['lr']), strict=True)
    pairs['lr'] = [*smaller, *((image, batch['lr']) for image in (*output.lr_stages, output.lr))]
  total, values = jnp.zeros(()), {}
  for term in terms:
    if term.on in pairs:
      has_target = batch.get('has_hr') if term.on == 'hr' else None
      value = _add(_compare(term.compare, *pair, has_target) for pair in pairs[term.on])
      values[f'loss_{term.name}'] = value
      total = total + term.weight * value
  return total, values


def _compare(
  compare: Callable[..., jax.Array], x: jax.Array, target: jax.Array, mask: jax.Array | None
) -> jax.Array:
  """Return `compare` of two batches, with 0 for the examples that the mask `[B]` leaves out."""
  if mask is None:
    return compare(x, target)
  of_examples = jax.vmap(lambda *pair: compare(*(image[None] for image in pair)))(x, target)
  return jnp.mean(jnp.where(mask, of_examples, 0.0))
