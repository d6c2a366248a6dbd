"""Named protocols: the border that a paper cuts before its metrics, and its kind of SSIM."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Protocol:
  """Comparison of two images as in a paper.

  Attributes:
    name: name of the protocol in results.
    border_x4: pixels cut on each side of images enlarged 4x, before both metrics.
    ssim: 'ssim3d' or 'ssim2d_valid', the name of a function of `ops.metrics`.
  """

  name: str
  border_x4: int
  ssim: str

  def border(self, scale: int = 4) -> int:
    """Return the pixels cut on each side of an image that was enlarged `scale` times.

    The border is proportional to the scale, rounded up, and 0 at scale 1. The papers' code is for
    scale 4 only.
    """
    return -(-self.border_x4 * scale // 4) if scale > 1 else 0


PROTOCOLS = {
  protocol.name: protocol
  for protocol in (
    Protocol('gfn', border_x4=6, ssim='ssim3d'),  # 1.5 * scale
    Protocol('cnlrn', border_x4=4, ssim='ssim2d_valid'),
    Protocol('mprnet', border_x4=0, ssim='ssim3d'),
  )
}
