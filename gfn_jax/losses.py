"""Training losses. Each takes a model's output and the batch, and gives the loss and its terms."""

import jax
import jax.numpy as jnp

from gfn_jax.models.blocks import RestorationOutput


def mse(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """Mean squared error over all elements, in float32; nothing is clipped."""
  return jnp.mean(jnp.square(prediction.astype(jnp.float32) - target.astype(jnp.float32)))


def gfn_loss(
  output: RestorationOutput, batch: dict[str, jax.Array], lr_weight: float
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """MSE of the super-resolved image plus a weighted MSE of the deblurred one (GFN, eq. 4).

  Args:
    output: of a model.
    batch: `hr` `[B, 4h, 4w, 3]` and `lr` `[B, h, w, 3]`, float in [0, 1].
    lr_weight: the paper's alpha: 0.5, and 0 in the last phase of the released code.

  Returns:
    The loss, and its terms `loss_hr` and `loss_lr` before weighting.
  """
  loss_hr = mse(output.hr, batch['hr'])
  loss_lr = mse(output.lr, batch['lr'])
  return loss_hr + lr_weight * loss_lr, {'loss_hr': loss_hr, 'loss_lr': loss_lr}
