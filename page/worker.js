// Restores photos in a Web Worker, so that the page stays responsive.
//
// Messages in:  {restore: File, output: 'lr' | 'long' | 'hr'}, {encode: media type}
// Messages out: {ready}, {done, total, seconds}, {result}, {file}, {error}
import {REDUCTION} from './limits.js';
import {OVERLAP, STRIDE, fromFloat, mostDifferent, planAxis, roundUp, toFloat} from './tiles.js';

/** Longest side of a tile in pixels of the photo. */
const TILE = 384;

const SCALES = {lr: 1, hr: 4};

/** Longest side of the pictures of the page, and the detail's sides, as in article.py. */
const SHOWN_SIDE = 2048;
const COLUMN = 1280;
const DETAIL = [640, 480];

const JPEG_QUALITY = 0.95;

/** A mistake that the user can understand. */
class UserError extends Error {}

let runtime = null;  // promise of {ort, provider}
const sessions = {};  // promises of sessions by output
let result = null;  // canvas of the restored photo

/** Return the WebGPU runtime where there is an adapter, or else the smaller WebAssembly one. */
async function loadRuntime() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  const provider = adapter ? 'webgpu' : 'wasm';
  const ort = await import(`./ort.${provider}.min.mjs`);
  ort.env.logLevel = 'error';
  ort.env.wasm.numThreads =
    self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
  return {ort, provider};
}

async function loadSession(output) {
  const {ort, provider} = await (runtime ??= loadRuntime());
  return ort.InferenceSession.create(`gfn_${output}.onnx`, {executionProviders: [...new Set([provider, 'wasm'])]});
}

/** Return the network of an output. */
async function network(output) {
  try {
    return await (sessions[output] ??= loadSession(output));
  } catch (error) {
    delete sessions[output];
    runtime = null;
    console.error(error);
    throw new UserError('The network could not be loaded. Check the connection and try again.');
  }
}

async function decode(file) {
  try {
    return await createImageBitmap(file, {imageOrientation: 'from-image'});
  } catch {
    throw new UserError('The photo could not be decoded: it is damaged or too large.');
  }
}

function context(width, height) {
  return new OffscreenCanvas(width, height).getContext('2d', {willReadFrequently: true});
}

/** Return a part of a photo, on white where it is transparent. */
function read(bitmap, x, y, width, height) {
  const canvas = context(width, height);
  canvas.fillStyle = '#fff';
  canvas.fillRect(0, 0, width, height);
  canvas.drawImage(bitmap, -x, -y);
  return canvas.getImageData(0, 0, width, height).data;
}

/** Restore a photo tile by tile. */
async function restoreTiles(bitmap, output) {
  const session = await network(output);
  const {ort} = await runtime;
  const scale = SCALES[output];
  const {width, height} = bitmap;
  const canvas = context(scale * width, scale * height);
  const rows = planAxis(roundUp(height, STRIDE), TILE);
  const columns = planAxis(roundUp(width, STRIDE), TILE);
  const total = rows.length * columns.length;
  const start = performance.now();
  let done = 0;
  postMessage({done, total, seconds: 0});
  for (const row of rows) {
    for (const column of columns) {
      const w = column.stop - column.start;
      const h = row.stop - row.start;
      const seenWidth = Math.min(column.stop, width) - column.start;
      const seenHeight = Math.min(row.stop, height) - row.start;
      const rgba = read(bitmap, column.start, row.start, seenWidth, seenHeight);
      const x = toFloat(rgba, seenWidth, seenHeight, w, h);
      const feeds = {lr_blur: new ort.Tensor('float32', x, [1, h, w, 3])};
      const {[output]: tensor} = await session.run(feeds, [output]);
      const part = {
        x: scale * (column.from - column.start),
        y: scale * (row.from - row.start),
        width: scale * (Math.min(column.to, width) - column.from),
        height: scale * (Math.min(row.to, height) - row.from),
      };
      const pixels = fromFloat(await tensor.getData(), scale * w, part);
      tensor.dispose();
      canvas.putImageData(
        new ImageData(pixels, part.width, part.height), scale * column.from, scale * row.from);
      postMessage({done: ++done, total, seconds: (performance.now() - start) / 1000});
    }
  }
  return canvas.canvas;
}

/** Restore a photo whose blur is too long for the network: smaller, then back to its size. */
async function restoreLongBlur(bitmap) {
  const {width, height} = bitmap;
  const size = [width, height].map((n) => Math.max(1, Math.round(n / REDUCTION)));
  const restored = await restoreTiles(resize(bitmap, [0, 0, width, height], size), 'hr');
  return resize(restored, [0, 0, restored.width, restored.height], [width, height]);
}

/** Return a part of an image, resized, on a canvas. */
function resize(image, [x, y, w, h], [width, height]) {
  const canvas = context(width, height);
  canvas.fillStyle = '#fff';
  canvas.fillRect(0, 0, width, height);
  canvas.imageSmoothingQuality = 'high';
  canvas.drawImage(image, x, y, w, h, 0, 0, width, height);
  return canvas.canvas;
}

function pixelsOf(canvas) {
  return canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
}

/** Encode a canvas. */
async function encode(canvas, type) {
  try {
    return await canvas.convertToBlob({type, quality: JPEG_QUALITY});
  } catch {
    throw new UserError('This browser cannot write a picture of this size.');
  }
}

/** Return the page's pictures of a photo before and after: the whole and, if large, a detail. */
async function show(bitmap, restored) {
  const {width, height} = restored;
  const shrink = Math.max(1, Math.max(width, height) / SHOWN_SIDE);
  const size = [width, height].map((n) => Math.max(1, Math.round(n / shrink)));
  const images = [bitmap, restored];
  const shown = images.map((image) => resize(image, [0, 0, image.width, image.height], size));
  const pictures = {whole: {size, blobs: await encodeBoth(shown)}};
  if (Math.max(width, height) > COLUMN) {
    const box = detailBox(shown, [width, height]);
    const details = images.map((image) => {
      const ratio = image.width / width;
      return resize(image, box.map((n) => ratio * n), box.slice(2));
    });
    const [left, top, ...size] = box;
    pictures.detail = {size, place: [left, top], blobs: await encodeBoth(details)};
  }
  return pictures;
}

function encodeBoth(canvases) {
  return Promise.all(canvases.map((canvas) => encode(canvas, 'image/jpeg')));
}

/** Return left, top, width and height of the part in which two shown pictures differ most. */
function detailBox(shown, full) {
  const ratio = shown[1].width / full[0];
  const [w, h] = DETAIL.map((side, i) => Math.min(side, full[i]));
  const {width, height} = shown[1];
  const window = [Math.min(width, Math.round(ratio * w)), Math.min(height, Math.round(ratio * h))]
    .map((side) => Math.max(1, side));
  const [x, y] = mostDifferent(...shown.map(pixelsOf), width, height, ...window);
  const place = [x, y].map((n, i) => Math.min(Math.round(n / ratio), full[i] - [w, h][i]));
  return [...place, w, h];
}

async function restore(file, output) {
  result = null;
  const bitmap = await decode(file);
  try {
    const restored = await (output === 'long' ? restoreLongBlur(bitmap) : restoreTiles(bitmap, output));
    const pictures = await show(bitmap, restored);
    result = restored;
    const {width, height} = restored;
    postMessage({result: {pictures, width, height}});
  } finally {
    bitmap.close();
  }
}

async function load() {
  await network('lr');
  const {ort, provider} = await runtime;
  postMessage({ready: {provider, threads: ort.env.wasm.numThreads}});
}

/** Do some work, and post its error as one line. */
async function attempt(work) {
  try {
    await work();
  } catch (error) {
    if (error instanceof UserError) return postMessage({error: error.message});
    console.error(error);
    postMessage({error: 'The photo could not be restored: the memory may be too small for it.'});
  }
}

self.addEventListener('message', ({data}) => attempt(async () => {
  if (data.restore) await restore(data.restore, data.output);
  if (data.encode) postMessage({file: await encode(result, data.encode)});
}));
attempt(load);
