// Pure functions of tiles and pixels: gfn_jax/restoration/tiling.py in JavaScript.

/** Sides of windows are multiples of 32, as in tiling.py. */
const STEP = 32;

/** Windows begin at multiples of the network's stride, and the image's sides are multiples of it. */
export const STRIDE = 4;

/** Pixels that neighbouring windows share, as OVERLAP in restorer.py. */
export const OVERLAP = 96;

/** Return the smallest multiple of `step` that is at least `n`. */
export function roundUp(n, step) {
  return Math.ceil(n / step) * step;
}

/**
 * Return the windows of one axis, as plan_windows does, but never longer than the image: the
 * network takes any size.
 *
 * @param {number} size pixels of the image, a multiple of STRIDE.
 * @param {number} tile longest side of a window, a multiple of STEP.
 * @return {{start: number, stop: number, from: number, to: number}[]} The network sees the pixels
 *   from start to stop. Those between from and to are kept.
 */
export function planAxis(size, tile) {
  const count = size <= tile ? 1 : Math.ceil((size - OVERLAP) / (tile - OVERLAP));
  const smallest = Math.ceil((size + (count - 1) * OVERLAP) / count);
  const side = Math.min(size, roundUp(smallest, STEP));
  const last = size - side;
  const starts = Array.from({length: count}, (_, i) =>
    roundDown(Math.floor((last * i) / Math.max(1, count - 1)), STRIDE));
  // Neighbours are cut in the middle of their overlap.
  const cuts = starts.slice(1).map((start, i) => Math.floor((starts[i] + side + start) / 2));
  const ends = [0, ...cuts, size];
  return starts.map((start, i) =>
    ({start, stop: start + side, from: ends[i], to: ends[i + 1]}));
}

function roundDown(n, step) {
  return n - (n % step);
}

/** Return the pixel of an image of `size` pixels that is seen at `i` when it is reflected. */
export function reflect(i, size) {
  const period = Math.max(1, 2 * (size - 1));
  const place = i % period;
  return Math.min(place, period - place);
}

/**
 * Return the network's input for RGBA pixels, reflected at the right and at the bottom.
 *
 * @param {Uint8ClampedArray} rgba pixels of width * height.
 * @param {number} width their columns.
 * @param {number} height their rows.
 * @param {number} w columns of the result, at least width.
 * @param {number} h rows of the result, at least height.
 * @return {Float32Array} RGB in [0, 1], [h, w, 3].
 */
export function toFloat(rgba, width, height, w, h) {
  const image = new Float32Array(h * w * 3);
  let k = 0;
  for (let y = 0; y < h; y++) {
    const row = reflect(y, height) * width;
    for (let x = 0; x < w; x++) {
      const i = 4 * (row + reflect(x, width));
      image[k++] = rgba[i] / 255;
      image[k++] = rgba[i + 1] / 255;
      image[k++] = rgba[i + 2] / 255;
    }
  }
  return image;
}

/**
 * Return a part of the network's output as RGBA, clipped and rounded half up.
 *
 * @param {Float32Array} image RGB, [h, w, 3].
 * @param {number} w its columns.
 * @param {{x: number, y: number, width: number, height: number}} part the part.
 * @return {Uint8ClampedArray} pixels of part.width * part.height.
 */
export function fromFloat(image, w, part) {
  const rgba = new Uint8ClampedArray(4 * part.width * part.height);
  let k = 0;
  for (let y = part.y; y < part.y + part.height; y++) {
    let i = 3 * (y * w + part.x);
    for (let x = 0; x < part.width; x++) {
      rgba[k++] = Math.floor(image[i++] * 255 + 0.5);
      rgba[k++] = Math.floor(image[i++] * 255 + 0.5);
      rgba[k++] = Math.floor(image[i++] * 255 + 0.5);
      rgba[k++] = 255;
    }
  }
  return rgba;
}

/**
 * Return the left and the top edge of the box in which two pictures differ most.
 *
 * @param {Uint8ClampedArray} a RGBA of a picture.
 * @param {Uint8ClampedArray} b RGBA of the other one.
 * @param {number} width columns of both.
 * @param {number} height rows of both.
 * @param {number} w columns of the box.
 * @param {number} h rows of the box.
 * @return {[number, number]} its left and top edge.
 */
export function mostDifferent(a, b, width, height, w, h) {
  // sums[y][x]: differences above y and left of x.
  const stride = width + 1;
  const sums = new Float64Array(stride * (height + 1));
  for (let y = 0; y < height; y++) {
    let row = 0;
    for (let x = 0; x < width; x++) {
      const i = 4 * (y * width + x);
      for (let c = 0; c < 3; c++) row += Math.abs(a[i + c] - b[i + c]);
      sums[(y + 1) * stride + x + 1] = sums[y * stride + x + 1] + row;
    }
  }
  let most = -1;
  let place = [0, 0];
  for (let y = 0; y + h <= height; y++) {
    for (let x = 0; x + w <= width; x++) {
      const top = y * stride + x;
      const bottom = top + h * stride;
      const sum = sums[bottom + w] - sums[bottom] - sums[top + w] + sums[top];
      if (sum > most) [most, place] = [sum, [x, y]];
    }
  }
  return place;
}
