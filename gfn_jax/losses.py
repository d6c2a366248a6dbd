"""Training losses. Each takes a model's output and the batch, and gives the loss and its terms."""

import jax
import jax.numpy as jnp
import numpy as np

from gfn_jax.models.blocks import RestorationOutput


def mse(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """Mean squared error over all elements, in float32; nothing is clipped."""
  return jnp.mean(jnp.square(prediction.astype(jnp.float32) - target.astype(jnp.float32)))


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
    padding = [(2, 2) if i == axis else (0, 0) for i in range(4)]
    padded, size = jnp.pad(x, padding, mode='edge'), x.shape[axis]
    x = sum(
      weight * jax.lax.slice_in_dim(padded, i, i + size, axis=axis)
      for i, weight in enumerate((0.05, 0.25, 0.4, 0.25, 0.05))
    )
  return x


PIXEL_LOSSES = {'mse': mse, 'charbonnier': charbonnier}
"""How two images are compared, by the names that configs use."""


def restoration_loss(
  output: RestorationOutput,
  batch: dict[str, jax.Array],
  lr_weight: float,
  hr_weight: float = 1.0,
  hr: str = 'mse',
  lr: str = 'mse',
  edge_weight: float = 0.0,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """A loss of the super-resolved image plus a weighted one of the deblurred images.

      hr_weight * hr(...) + lr_weight * sum over the stages of (lr(...) + edge_weight * edge(...))

  | | lr_weight | hr | lr | edge_weight |
  |---|---|---|---|---|
  | GFN, eq. 4; alpha is 0 in the last phase of the authors' code | 0.5 | mse | mse | 0 |
  | Shoyan et al.; 1 in the paper, 0.05 in the authors' code | 0.5 | mse | charbonnier | 0.05 |
  | MPRNet, eq. 5, for a network that only deblurs | 1 | - | charbonnier | 0.05 |

  Args:
    output: of a model; what it does not have is no part of the loss.
    batch: `hr` `[B, 4h, 4w, 3]` and `lr` `[B, h, w, 3]`, float in [0, 1].
    lr_weight: of the deblurred images.
    hr_weight: of the super-resolved image; with 0 it is not computed, nor is what only it needs:
      the deblurring module is trained alone, in half the time.
    hr: how the super-resolved image is compared, a key of `PIXEL_LOSSES`.
    lr: how the deblurred ones are compared, a key of `PIXEL_LOSSES`.
    edge_weight: of the `edge` loss of the deblurred images.

  Returns:
    The loss, and its terms `loss_hr`, `loss_lr` and `loss_edge` before weighting, those that count.
  """
  terms = {}
  if hr_weight and output.hr is not None:
    terms['loss_hr'] = PIXEL_LOSSES[hr](output.hr, batch['hr'])
  if output.lr is not None:
    stages = (*output.lr_stages, output.lr)
    terms['loss_lr'] = sum(PIXEL_LOSSES[lr](image, batch['lr']) for image in stages)
    if edge_weight:
      terms['loss_edge'] = sum(edge(image, batch['lr']) for image in stages)
  weights = {'loss_hr': hr_weight, 'loss_lr': lr_weight, 'loss_edge': lr_weight * edge_weight}
  return sum(weights[key] * term for key, term in terms.items()), terms
