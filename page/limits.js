// Pure functions of the page: limits of a photo, and the estimate of the time.

/** Factor by which a photo with long blur is reduced before it is restored four times larger. */
export const REDUCTION = 2.5;

/** Pixels and longest side of a result. Browsers have no larger pictures, or no memory for them. */
const MAX_PIXELS = 32e6;
const MAX_SIDE = 16384;

/** Return what is wrong with the size of a photo, in a sentence; '' if nothing is. */
export function checkSize({width, height}, output) {
  const scale = {lr: 1, long: 4 / REDUCTION, hr: 4}[output];
  const pixels = Math.round(MAX_PIXELS / scale ** 2);
  const side = Math.round(MAX_SIDE / scale);
  if (width * height <= pixels && Math.max(width, height) <= side) return '';
  const limit = `at most ${pixels / 1e6} megapixels and ${side} pixels a side`;
  if (output !== 'hr') return `${width} × ${height} is too large; reduce it to ${limit}.`;
  return `${width} × ${height} is too large to enlarge (${limit}); choose the same size.`;
}

/** Return the remaining time, such as ', about 2 minutes left'; '' before it is known. */
export function remaining(done, total, seconds) {
  if (!done || done === total) return '';
  const left = (seconds / done) * (total - done);
  if (left < 55) return `, about ${count(Math.max(5, 5 * Math.ceil(left / 5)), 'second')} left`;
  return `, about ${count(Math.ceil(left / 60), 'minute')} left`;
}

function count(number, unit) {
  return `${number} ${unit}${number === 1 ? '' : 's'}`;
}
