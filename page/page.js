// The page: choice of a photo, progress, and the result. worker.js computes.
import {checkSize, remaining} from './limits.js';

const find = (id) => document.getElementById(id);

const LOADING = 'Loading the network.';

/** The chosen photo: {file, width, height}; null before its size is known. */
let chosen = null;
/** The photo that is being restored, or was last. */
let started = null;
let choices = 0;
let worker = null;
let running = false;
/** Object URLs of the result on the page. */
let urls = [];

function say(text) {
  find('state').textContent = text;
}

function alertUser(text) {
  find('alert').textContent = text;
}

function output() {
  return document.querySelector('[name=output]:checked').value;
}

function setRunning(value) {
  const focused = [find('start'), find('stop')].includes(document.activeElement);
  running = value;
  find('running').hidden = find('stop').hidden = !value;
  find('sample').hidden = value;
  updateStart();
  // A button that disappears must not lose the keyboard's place.
  if (focused) find(value ? 'stop' : 'start').focus({preventScroll: true});
}

function updateStart() {
  find('start').disabled = running || !worker || !chosen;
}

/** Return the size of a photo as it is shown, upright. The browser reads it without its pixels. */
async function sizeOf(file) {
  const url = URL.createObjectURL(file);
  const image = new Image();
  try {
    await new Promise((resolve, reject) => {
      image.addEventListener('load', resolve);
      image.addEventListener('error', reject);
      image.src = url;
    });
    return {width: image.naturalWidth, height: image.naturalHeight};
  } finally {
    URL.revokeObjectURL(url);
  }
}

async function choose(file) {
  if (!file || running) return;
  const choice = ++choices;
  const size = await sizeOf(file).catch(() => null);
  if (choice !== choices || running) return;  // another one was chosen meanwhile
  chosen = size && {file, ...size};
  find('chosen').hidden = !size;
  find('chosen').textContent = size && `${file.name}: ${size.width} × ${size.height}`;
  alertUser(size ? '' : `${file.name}: this is not an image that the browser can read.`);
  updateStart();
}

function clearResult() {
  find('result').replaceChildren();
  urls.forEach((url) => URL.revokeObjectURL(url));
  urls = [];
}

function start() {
  if (find('start').disabled) return;
  const problem = checkSize(chosen, output());
  alertUser(problem ? `${chosen.file.name}: ${problem}` : '');
  if (problem) return;
  clearResult();
  started = chosen;
  find('progress').removeAttribute('value');
  find('left').textContent = 'Reading the photo.';
  say('Restoring.');
  setRunning(true);
  worker.postMessage({restore: started.file, output: output()});
}

function restartWorker() {
  worker.terminate();
  startWorker();
}

function stop() {
  restartWorker();
  setRunning(false);
  say('Stopped.');
}

function showProgress({done, total, seconds}) {
  find('progress').max = total;
  find('progress').value = done;
  find('left').textContent = `${done} of ${total} tiles${remaining(done, total, seconds)}`;
}

/** Fill a slider with two pictures. */
function fillStage(stage, {size, blobs}, labels, name) {
  stage.querySelectorAll('div').forEach((side, i) => {
    const image = side.querySelector('img');
    image.src = URL.createObjectURL(blobs[i]);
    urls.push(image.src);
    [image.width, image.height] = size;
    image.alt = `${labels[i]}: ${name}`;
    side.dataset.label = side.querySelector('span').textContent = labels[i];
  });
  stage.querySelector('input').setAttribute('aria-label', `Divider of ${name}`);
}

function showResult({pictures: {whole, detail}, width, height}) {
  const article = find('article').content.cloneNode(true);
  const {file} = started;
  const enlarged = width !== started.width;
  const labels = [enlarged ? 'Enlarged' : 'Input', 'Restored'];
  const before = enlarged ? `${started.width} × ${started.height} → ` : '';
  const reduced = whole.size[0] === width ? '' : `, shown as ${whole.size.join(' × ')}`;
  article.querySelector('h2').textContent = file.name;
  article.querySelector('header p').textContent = `${before}${width} × ${height}${reduced}`;
  const stage = article.querySelector('.stage');
  if (detail) {
    const second = stage.cloneNode(true);
    const where = document.createElement('p');
    where.className = 'where';
    where.textContent = `Detail at full size, where ${labels[0].toLowerCase()} and restored differ `
      + `most: ${detail.size.join(' × ')} pixels, ${detail.place[0]} from the left and `
      + `${detail.place[1]} from the top`;
    stage.after(second, where);
    fillStage(second, detail, labels, `detail of ${file.name}`);
  }
  fillStage(stage, whole, labels, file.name);
  for (const button of article.querySelectorAll('[data-type]')) {
    button.addEventListener('click', () => worker.postMessage({encode: button.dataset.type}));
  }
  find('result').replaceChildren(article);
  // article.js then describes the sliders' places with the labels.
  find('result').querySelectorAll('input')
    .forEach((range) => range.dispatchEvent(new Event('input', {bubbles: true})));
}

function download(blob) {
  const link = document.createElement('a');
  const stem = started.file.name.replace(/\.[^.]*$/, '');
  link.download = `${stem}_sharp.${blob.type === 'image/png' ? 'png' : 'jpg'}`;
  link.href = URL.createObjectURL(blob);
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function describe({provider, threads}) {
  const place = provider === 'webgpu'
    ? 'with WebGPU' : `on ${threads} thread${threads === 1 ? '' : 's'}`;
  return `Ready, computes ${place}.${navigator.serviceWorker?.controller ? ' Works offline.' : ''}`;
}

function receive({data}) {
  if (data.ready && find('state').textContent === LOADING) say(describe(data.ready));
  if (data.total) showProgress(data);
  if (data.result) {
    showResult(data.result);
    setRunning(false);
    say('Done.');
  }
  if (data.file) download(data.file);
  if (data.error) {
    if (running) restartWorker();  // memory that ran out may have left it unusable
    setRunning(false);
    say('');
    alertUser(data.error);
  }
}

function startWorker() {
  worker = new Worker('worker.js', {type: 'module'});
  worker.addEventListener('message', receive);
  worker.addEventListener('error', () => receive({data: {
    error: 'The page could not be started: it needs a current browser.'}}));
  updateStart();
}

/** Wait until the service worker has stored the page, or has failed to. */
async function store() {
  const registration = await navigator.serviceWorker.register('service-worker.js');
  if (registration.active) return;
  const installing = registration.installing ?? registration.waiting;
  await new Promise((resolve) => {
    installing.addEventListener('statechange', () => {
      if (['activated', 'redundant'].includes(installing.state)) resolve();
    });
  });
}

/** Reload the page once if the service worker then allows it several threads. */
function reloadForThreads() {
  const helps = !crossOriginIsolated && navigator.serviceWorker.controller;
  if (!helps || chosen || sessionStorage.getItem('reloaded')) return false;
  sessionStorage.setItem('reloaded', 'yes');
  location.reload();
  return true;
}

async function open() {
  say(LOADING);
  try {
    await store();
    if (reloadForThreads()) return;
  } catch (error) {
    console.info('The page works, but not offline:', error.message);
  }
  startWorker();
}

find('form').addEventListener('submit', (event) => {
  event.preventDefault();
  start();
});
find('file').addEventListener('change', ({target}) => choose(target.files[0]));
find('stop').addEventListener('click', stop);
find('sample').addEventListener('click', async () => {
  try {
    const response = await fetch('sample.png');
    choose(new File([await response.blob()], 'sample.png'));
  } catch {
    alertUser('The sample photo could not be loaded. Check the connection and try again.');
  }
});
document.addEventListener('paste', ({clipboardData}) => choose(clipboardData.files[0]));
document.addEventListener('dragover', (event) => {
  event.preventDefault();
  document.body.classList.add('dragging');
});
document.addEventListener('dragleave', () => document.body.classList.remove('dragging'));
document.addEventListener('drop', (event) => {
  event.preventDefault();
  document.body.classList.remove('dragging');
  choose(event.dataTransfer.files[0]);
});
open();
