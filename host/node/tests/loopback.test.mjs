// The listener that the user's browser is sent back to.
import assert from 'node:assert/strict';
import { request } from 'node:http';
import { connect } from 'node:net';
import { test } from 'node:test';
import { LoopbackListener } from 'tokenwell';
import { settles } from './support.mjs';

async function listening(t, redirectUri) {
  const listener = await LoopbackListener.bind('shop <b>', redirectUri);
  t.after(() => listener.close());
  return listener;
}

/** The status of a request with a `Host` of its own. */
function statusOf(url, options) {
  return new Promise((resolve, reject) => {
    request(url, options, (response) => response.resume().on('end', () => resolve(response.statusCode)))
      .on('error', reject)
      .end();
  });
}

test('a redirect arrives whole, and its browser waits to hear how it went', async (t) => {
  const listener = await listening(t);
  assert.match(listener.redirectUri, /^http:\/\/127\.0\.0\.1:\d+\/oauth2$/);
  const page = fetch(`${listener.redirectUri}?code=a&state=b`);
  const arrival = await settles(listener.next(60_000));
  assert.deepEqual(arrival.redirect, { url: `${listener.redirectUri}?code=a&state=b` });
  await arrival.respond({ status: 'failed', reason: 'because <script>' });
  const response = await page;
  assert.equal(response.status, 400);
  const text = await response.text();
  assert.ok(text.includes('because &lt;script&gt;') && text.includes('shop &lt;b&gt;'), text);
  assert.equal(response.headers.get('cache-control'), 'no-store');
});

test('a form post arrives as its body', async (t) => {
  const listener = await listening(t);
  const page = fetch(listener.redirectUri, { method: 'POST', body: new URLSearchParams({ code: 'a b' }) });
  const arrival = await settles(listener.next(60_000));
  assert.deepEqual(arrival.redirect, { formPost: 'code=a+b' });
  await arrival.respond({ status: 'authorized' });
  assert.equal((await page).status, 200);
});

test('what is no redirect is turned away, and nobody hears of it', async (t) => {
  const listener = await listening(t);
  const uri = listener.redirectUri;
  const post = (type, body) => fetch(uri, { method: 'POST', headers: { 'content-type': type }, body }).then(({ status }) => status);
  assert.equal((await fetch(new URL('/favicon.ico', uri))).status, 404);
  assert.equal((await fetch(uri, { method: 'PUT' })).status, 405);
  assert.equal(await post('application/json', '{}'), 415);
  assert.equal(await post('application/x-www-form-urlencoded', 'x'.repeat(70_000)), 413);
  assert.equal(await post('application/x-www-form-urlencoded', Buffer.from([0xff])), 400);
  assert.equal(await statusOf(uri, { headers: { host: 'evil.example' } }), 421);
  assert.equal(await listener.next(0), undefined);
});

test('connections that send nothing keep no redirect out', async (t) => {
  const listener = await listening(t);
  const { port } = new URL(listener.redirectUri);
  const idle = await Promise.all(
    Array.from({ length: 80 }, () => {
      const socket = connect(port, '127.0.0.1').on('error', () => undefined);
      return new Promise((resolve) => socket.once('connect', () => resolve(socket)));
    }),
  );
  t.after(() => idle.forEach((socket) => socket.destroy()));
  const page = fetch(`${listener.redirectUri}?code=a`);
  const arrival = await settles(listener.next(60_000));
  await arrival.respond({ status: 'authorized' });
  assert.equal((await page).status, 200);
});

test('a redirect that nobody takes is told so when the listener closes', async (t) => {
  const listener = await listening(t);
  const page = fetch(`${listener.redirectUri}?code=a`);
  const arrival = await settles(listener.next(60_000));
  arrival.drop();
  assert.match(await (await page).text(), /no longer waiting/);
  listener.close();
  await assert.rejects(listener.next(1000), { kind: 'unavailable' });
});

test('it listens where the redirect URI says, its query included', async (t) => {
  const first = await listening(t, 'http://localhost/back?from=here');
  const url = new URL(first.redirectUri);
  assert.deepEqual([url.hostname, url.pathname, url.search], ['localhost', '/back', '?from=here']);
  const page = fetch(`http://localhost:${url.port}/back?from=here&code=a`);
  const arrival = await settles(first.next(60_000));
  assert.equal(arrival.redirect.url, `http://localhost:${url.port}/back?from=here&code=a`);
  await arrival.respond({ status: 'authorized' });
  await page;
  await assert.rejects(LoopbackListener.bind('shop', `http://localhost:${url.port}/`), { kind: 'unavailable' });
});

test('a redirect URI that names a port is sent as it is written', async (t) => {
  for (const [before, after] of [
    ['http://127.0.0.1:', ''],
    ['http://127.0.0.1:', '?tenant=x'],
    ['http://127.0.0.1:', '/'],
    ['http://127.0.0.1:0', '/cb'],
    ['http://LocalHost:', '/cb'],
    ['HTTP://127.0.0.1:', '/cb'],
  ]) {
    const free = await listening(t);
    const { port } = new URL(free.redirectUri);
    free.close();
    const uri = `${before}${port}${after}`;
    const listener = await listening(t, uri);
    assert.equal(listener.redirectUri, uri);
    const { origin, pathname } = new URL(uri);
    const page = fetch(`${origin}${pathname}?code=c`);
    const arrival = await settles(listener.next(60_000));
    assert.deepEqual(arrival.redirect, { url: `${uri.split('?')[0]}?code=c` });
    await arrival.respond({ status: 'authorized' });
    assert.equal((await page).status, 200);
  }
});

test('a redirect URI that names no port gets one and nothing else', async (t) => {
  for (const [uri, before, after] of [
    ['http://127.0.0.1', 'http://127.0.0.1:', ''],
    ['http://127.0.0.1:/cb', 'http://127.0.0.1:', '/cb'],
    // Nobody can be sent to port 0.
    ['http://127.0.0.1:0/cb', 'http://127.0.0.1:', '/cb'],
    ['http://LocalHost?a=b', 'http://LocalHost:', '?a=b'],
  ]) {
    const { redirectUri } = await listening(t, uri);
    const { port } = new URL(redirectUri);
    assert.notEqual(port, '0');
    assert.equal(redirectUri, `${before}${port}${after}`);
  }
});

for (const uri of ['https://127.0.0.1/x', 'http://192.0.2.1/x', 'http://user@127.0.0.1/x', 'http://127.0.0.1:99999/x', 'http://127.0.0.1/x#y']) {
  test(`${uri} is none to listen on`, async () => {
    await assert.rejects(LoopbackListener.bind('shop', uri), { kind: 'unavailable', message: /loopback interface/ });
  });
}
