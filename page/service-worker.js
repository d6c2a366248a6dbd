// Stores the page, so that it works offline, and adds headers that a plain server does not send.
importScripts('files.js');  // VERSION and FILES, written by build.py

const NAME = `gfn-page-${VERSION}`;

// The first two allow several threads. The third forbids requests to other servers in worker.js.
const HEADERS = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
  'Content-Security-Policy':
    "default-src 'self' blob:; script-src 'self' 'wasm-unsafe-eval' blob:; img-src 'self' blob: data:",
};

async function store() {
  const cache = await caches.open(NAME);
  // no-cache: files of an older version may be in the browser's own cache.
  await cache.addAll(FILES.map((file) => new Request(file, {cache: 'no-cache'})));
}

async function removeOldVersions() {
  const names = (await caches.keys()).filter((name) => name.startsWith('gfn-page-') && name !== NAME);
  await Promise.all(names.map((name) => caches.delete(name)));
  await clients.claim();
}

async function answer(request) {
  const cache = await caches.open(NAME);
  const path = new URL(request.url).pathname.replace(/\/index\.html$/, '/');
  let response = await cache.match(path);
  if (!response) {
    response = await fetch(request);
    if (response.ok) await cache.put(path, response.clone());
  }
  const headers = new Headers(response.headers);
  Object.entries(HEADERS).forEach(([name, value]) => headers.set(name, value));
  return new Response(response.body, {status: response.status, headers});
}

self.addEventListener('install', (event) => event.waitUntil(store()));
self.addEventListener('activate', (event) => event.waitUntil(removeOldVersions()));
self.addEventListener('fetch', (event) => {
  const {method, url} = event.request;
  if (method === 'GET' && url.startsWith(registration.scope)) event.respondWith(answer(event.request));
});
