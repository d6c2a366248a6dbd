"""Training losses. Each takes a model's output and the batch, and gives the loss and its terms."""

import jax
import jax.numpy as jnp

from gfn_jax.models.blocks import RestorationOutput


def mse(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """Mean squared error over all elements, in float32; nothing is clipped."""
  return jnp.mean(jnp.square(prediction.astype(jnp.float32) - target.astype(jnp.float32)))


def charbonnier(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """Mean of `sqrt(difference**2 + 1e-6)` over all elements, in float32 (Lai et al. 2017, eq. 2)."""
  difference = prediction.astype(jnp.float32) - target.astype(jnp.float32)
  return jnp.mean(jnp.sqrt(jnp.square(difference) + 1e-6))


PIXEL_LOSSES = {'mse': mse, 'charbonnier': charbonnier}
"""How two images are compared, by the names that configs use."""


def gfn_loss(
  output: RestorationOutput,
  batch: dict[str, jax.Array],
  lr_weight: float,
  hr_weight: float = 1.0,
  pixel_loss: str = 'mse',
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """A loss of the super-resolved image plus a weighted one of the deblurred image (GFN, eq. 4).

  Args:
    output: of a model; one without `lr` has no second term.
    batch: `hr` `[B, 4h, 4w, 3]` and `lr` `[B, h, w, 3]`, float in [0, 1].
    lr_weight: the paper's alpha: 0.5, and 0 in the last phase of the released code.
    hr_weight: of the first term, 1 in the paper; with 0 it is not computed, nor is what only it
      needs: the deblurring module is trained alone, in half the time.
    pixel_loss: a key of `PIXEL_LOSSES`; 'mse' in the paper.

  Returns:
    The loss, and its terms `loss_hr` and `loss_lr` before weighting, those that there are.
  """
  compare = PIXEL_LOSSES[pixel_loss]
  terms = {}
  if hr_weight:
    terms['loss_hr'] = compare(output.hr, batch['hr'])
  if output.lr is not None:
    terms['loss_lr'] = compare(output.lr, batch['lr'])
  weights = {'loss_hr': hr_weight, 'loss_lr': lr_weight}
  return sum(weights[key] * term for key, term in terms.items()), terms
