"""Training losses. Each takes a model's output and the batch, and gives the loss and its terms."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from gfn_jax.layers.blocks import RestorationOutput


def mse(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """Mean squared error over all elements, in float32; nothing is clipped."""
  return jnp.mean(jnp.square(prediction.astype(jnp.float32) - target.astype(jnp.float32)))


def l1(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """Mean absolute error over all elements, in float32; nothing is clipped."""
  return jnp.mean(jnp.abs(prediction.astype(jnp.float32) - target.astype(jnp.float32)))


def charbonnier(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """Mean of `sqrt(difference**2 + 1e-6)` over all elements, in float32 (Lai et al. 2017, eq. 2)."""
  difference = prediction.astype(jnp.float32) - target.astype(jnp.float32)
  return jnp.mean(jnp.sqrt(jnp.square(difference) + 1e-6))


def edge(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """`charbonnier` of the `laplacian` of both (Jiang et al. 2020, as MPRNet's code computes it)."""
  difference = laplacian(prediction.astype(jnp.float32) - target.astype(jnp.float32))
  return charbonnier(difference, jnp.zeros_like(difference))


def laplacian(x: jax.Array) -> jax.Array:
  """What is lost of `[B, h, w, C]` at half the size, both ways blurred by a Gaussian of 5 taps.

  A level of Burt and Adelson's pyramid. Pixels beyond the border are those at the border.
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
  """Sum over both directions of `l1` of what Sobel's operator gives (CNLRN's code).

  Of `[B, h, w, C]`, with zeros around each image.
  """
  x = prediction.astype(jnp.float32) - target.astype(jnp.float32)  # the operator is linear
  return sum(
    jnp.mean(jnp.abs(_correlate(_correlate(x, (1, 2, 1), axis), (1, 0, -1), 3 - axis)))
    for axis in (1, 2)
  )


def _correlate(
  x: jax.Array, taps: tuple[float, ...], axis: int, mode: str = 'constant'
) -> jax.Array:
  """With an odd number of taps along an axis, padded in a mode of `jnp.pad`."""
  padding = [(len(taps) // 2,) * 2 if i == axis else (0, 0) for i in range(x.ndim)]
  padded, size = jnp.pad(x, padding, mode=mode), x.shape[axis]
  return sum(
    weight * jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i, weight in enumerate(taps)
  )


PAIR_DIFFERENCES = ('absolute', 'either', 'signed')


def frame_loss(
  frames: jax.Array, targets: jax.Array, pair_difference: str = 'absolute'
) -> jax.Array:
  """Of the sharp frames of a blurred image: the one in the middle, and pairs around it (BMDSRNet).

      l1(Y_4, T_4) + sum over i = 1, 2, 3 of
        l1(Y_i + Y_{8-i}, T_i + T_{8-i}) + l1(|Y_i - Y_{8-i}|, |T_i - T_{8-i}|)

  A blurred image does not show which end of the exposure came first. Here each value of a pair may
  be either way round, as it likes (Jin et al., CVPR 2018): 'absolute'. A network can use that to
  make the frames of a pair differ in colour, and not in place. With 'either', which is not in the
  papers, an image chooses one way for all of its values: for frames that are to be looked at.
  BMDSRNet's eq. 2 has the difference with its sign, 'signed', with which the order counts, against
  what the paper says of it.

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
  """Of `[B, 3, h, w, C]`, with the sign of each value, of each image, or none to choose."""
  if kind == 'absolute':
    return l1(jnp.abs(x), jnp.abs(target))
  if kind == 'signed':
    return l1(x, target)
  forwards, backwards = (jnp.abs(x - y).mean(axis=(1, 2, 3, 4)) for y in (target, -target))
  return jnp.minimum(forwards, backwards).mean()


PIXEL_LOSSES = {'mse': mse, 'l1': l1, 'charbonnier': charbonnier}
"""How two images are compared, by the names that configs use."""


def restoration_loss(
  output: RestorationOutput,
  batch: dict[str, jax.Array],
  lr_weight: float,
  hr_weight: float = 1.0,
  hr: str = 'mse',
  lr: str = 'mse',
  edge_weight: float = 0.0,
  gradient_weight: float = 0.0,
  frames_weight: float = 1.0,
  pair_difference: str = 'absolute',
  perceptual: Callable[[jax.Array], jax.Array] | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """A loss of the super-resolved image plus a weighted one of the deblurred images.

      hr_weight * sum over the streams of (hr(...) + gradient_weight * gradient(...))
      + lr_weight * sum over the stages of (lr(...) + edge_weight * edge(...))

  Where the model makes frames and the batch has them, in place of the second row

      + frames_weight * (frame_loss(...) + l1 of perceptual(...))

  | | lr_weight | hr | lr | edge_weight | gradient_weight |
  |---|---|---|---|---|---|
  | GFN, eq. 2; alpha is 0 in the last phase of the authors' code | 0.5 | mse | mse | 0 | 0 |
  | Shoyan et al.; 1 in the paper, 0.05 in the authors' code | 0.5 | mse | charbonnier | 0.05 | 0 |
  | MPRNet, eq. 5, for a network that only deblurs | 1 | - | charbonnier | 0.05 | 0 |
  | CNLRN, pre-training of its deblurring network, hr_weight 0 | 1 | - | l1 | 0 | 0 |
  | CNLRN, both networks, without `lr` | - | l1 | - | - | 0.1 |
  | BMDSRNet, eqs. 1 to 3, frames_weight 1 | - | mse | - | - | 0 |

  Args:
    output: of a model; what it does not have is no part of the loss.
    batch: `hr` `[B, 4h, 4w, 3]`, `lr` `[B, h, w, 3]`, maybe `frames` `[B, 7, h, w, 3]`, float in
      [0, 1]. With `has_hr`, `[B]` bool, examples without an `hr` add nothing to its losses, which
      stay means over all examples.
    lr_weight: of the deblurred images.
    hr_weight: of the super-resolved image; with 0 it is not computed, nor is what only it needs:
      the deblurring module is trained alone, in half the time.
    hr: how the super-resolved image is compared, a key of `PIXEL_LOSSES`.
    lr: how the deblurred ones are compared, a key of `PIXEL_LOSSES`.
    edge_weight: of the `edge` loss of the deblurred images.
    gradient_weight: of the `gradient` loss of the super-resolved image.
    frames_weight: of the frames.
    pair_difference: as that of `frame_loss`.
    perceptual: features of images `[B, h, w, 3]`, such as `perceptual.VGG19`, by which the
      frames in the middle are compared, too; None for not.

  Returns:
    The loss, and its terms `loss_hr`, `loss_gradient`, `loss_lr`, `loss_edge`, `loss_frames` and
    `loss_perceptual` before weighting, those that count.
  """
  terms = {}
  if hr_weight and output.hr is not None:
    streams = (*output.hr_stages, output.hr)

    def of_streams(pixel_loss: Callable[..., jax.Array]) -> jax.Array:
      return sum(_compare(pixel_loss, image, batch['hr'], batch.get('has_hr')) for image in streams)

    terms['loss_hr'] = of_streams(PIXEL_LOSSES[hr])
    if gradient_weight:
      terms['loss_gradient'] = of_streams(gradient)
  if output.frames is not None and 'frames' in batch:
    targets = batch['frames']
    terms['loss_frames'] = frame_loss(output.frames, targets, pair_difference)
    if perceptual:
      target = targets[:, targets.shape[1] // 2]
      terms['loss_perceptual'] = l1(perceptual(output.lr), perceptual(target))
  elif output.lr is not None:
    stages = (*output.lr_stages, output.lr)
    terms['loss_lr'] = sum(PIXEL_LOSSES[lr](image, batch['lr']) for image in stages)
    if edge_weight:
      terms['loss_edge'] = sum(edge(image, batch['lr']) for image in stages)
  weights = {
    'loss_hr': hr_weight,
    'loss_gradient': hr_weight * gradient_weight,
    'loss_lr': lr_weight,
    'loss_edge': lr_weight * edge_weight,
    'loss_frames': frames_weight,
    'loss_perceptual': frames_weight,
  }
  return sum(weights[key] * term for key, term in terms.items()), terms


def _compare(
  pixel_loss: Callable[..., jax.Array], x: jax.Array, target: jax.Array, mask: jax.Array | None
) -> jax.Array:
  """Return `pixel_loss` of two batches, with 0 for the examples that the mask `[B]` leaves out."""
  if mask is None:
    return pixel_loss(x, target)
  of_examples = jax.vmap(lambda *pair: pixel_loss(*(image[None] for image in pair)))(x, target)
  return jnp.mean(jnp.where(mask, of_examples, 0.0))
