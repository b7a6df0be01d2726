// Grants that need a user, against a real authorization server and in a real browser.
import assert from 'node:assert/strict';
import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { MemoryStore, Tokenwell } from 'tokenwell';
import { host, browse, directory, native, Server, settles, tokenEndpoint, without } from './support.mjs';

test('authorization code in a real browser', { skip: without('browser') }, async (t) => {
  const server = await Server.start(t);
  const tokenwell = host(t);
  const connection = await tokenwell.open('shop', native(server));
  let page;
  const screenshot = process.env.TOKENWELL_TEST_SCREENSHOT;
  const status = await connection.authorize({
    onUrl: (url) => {
      page = browse(url, screenshot ? ['--screenshot', screenshot] : []);
    },
  });
  assert.equal(status.state, 'authorized');
  const { title, text, headers, elsewhere } = await page;
  assert.equal(title, 'Authorized: shop');
  assert.match(text, /The connection shop is authorized\./);
  assert.match(headers['content-security-policy'], /^default-src 'none'/);
  assert.deepEqual(elsewhere, []);
  assert.equal((await connection.userinfo()).sub, 'alice');
  assert.ok((await connection.token()).refreshable);
});

test('a user who cancels in the browser is a DeniedError', { skip: without('browser') }, async (t) => {
  const server = await Server.start(t);
  const tokenwell = host(t);
  const connection = await tokenwell.open('shop', native(server));
  let page;
  await assert.rejects(
    connection.authorize({
      onUrl: (url) => {
        page = browse(url, ['--deny']);
      },
    }),
    (error) => error.name === 'DeniedError' && error.code === 'denied' && error.serverError.code === 'access_denied',
  );
  assert.match((await page).text, /could not be authorized/);
});

test("the user's own browser is the one that BROWSER names", async (t) => {
  if (process.platform !== 'linux') return t.skip('of this platform, xdg-open would have to be there');
  const server = await Server.start(t);
  const folder = await directory(t);
  const browser = join(folder, 'browser');
  await writeFile(browser, `#!/bin/sh\nprintf '%s' "$1" > '${folder}/url.tmp' && mv '${folder}/url.tmp' '${folder}/url'\n`);
  await chmod(browser, 0o755);
  process.env.BROWSER = browser;
  t.after(() => delete process.env.BROWSER);
  const tokenwell = host(t);
  const connection = await tokenwell.open('shop', native(server));
  const authorized = connection.authorize();
  const { readFile } = await import('node:fs/promises');
  let url;
  while (url === undefined) {
    url = await readFile(join(folder, 'url'), 'utf8').catch(() => undefined);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  await fetch(await server.decide(url));
  assert.equal((await authorized).state, 'authorized');
});

test('a refresh rotates the refresh token, and an expired token is renewed by itself', async (t) => {
  const server = await Server.start(t, { ACCESS_TOKEN_TTL: '2' });
  const tokenwell = host(t);
  const connection = await tokenwell.open('shop', native(server));
  const pending = await connection.beginAuthorization({ redirectUri: 'http://127.0.0.1:1/oauth2' });
  const status = await connection.completeAuthorization({ url: await server.decide(pending.authorizationUrl) });
  assert.equal(status.state, 'authorized');
  const first = await connection.response();
  const renewed = await connection.refresh();
  const second = await connection.response();
  assert.notEqual(second.refresh_token, first.refresh_token);
  assert.equal(second.access_token, renewed.accessToken);
  // The time is told in whole seconds, rounded down.
  while ((await connection.status()).expiresAt > Date.now() - 1000) await new Promise((resolve) => setTimeout(resolve, 100));
  assert.notEqual((await connection.token()).accessToken, renewed.accessToken);
  assert.deepEqual(
    (await server.requests('/token')).map(({ form }) => form.grant_type),
    ['authorization_code', 'refresh_token', 'refresh_token'],
  );
});

test('device flow in one call, the code being shown', async (t) => {
  const server = await Server.start(t);
  const tokenwell = host(t);
  const connection = await tokenwell.open('tv', deviceConfig(server));
  let shown;
  const status = await connection.authorize({
    onDeviceCode: async (device) => {
      shown = device;
      await server.decideForDevice(device.verificationUriComplete);
    },
  });
  assert.equal(status.state, 'authorized');
  assert.match(shown.userCode, /\w/);
  assert.ok(shown.expiresAt instanceof Date);
});

test('device flow in two steps', async (t) => {
  const server = await Server.start(t);
  const tokenwell = host(t);
  const connection = await tokenwell.open('tv', deviceConfig(server));
  const device = await connection.beginDeviceAuthorization();
  await server.decideForDevice(device.verificationUriComplete);
  let poll;
  do {
    poll = await connection.pollDeviceAuthorization();
    if (poll.status === 'pending') await new Promise((resolve) => setTimeout(resolve, poll.waitSeconds * 1000));
  } while (poll.status === 'pending');
  assert.equal((await connection.token()).tokenType, 'Bearer');
});

test('an authorization under way that is printed keeps what completes it to itself', async (t) => {
  const server = await Server.start(t);
  const connection = await host(t).open('shop', native(server));
  const pending = await connection.beginAuthorization({ redirectUri: 'http://127.0.0.1:7777/back' });
  const printed = inspect(pending);
  assert.ok(!printed.includes(pending.state), printed);
  assert.ok(printed.includes(pending.redirectUri), printed);
  const { authorizationUrl, state } = JSON.parse(JSON.stringify(pending));
  assert.deepEqual([authorizationUrl, state], [pending.authorizationUrl, pending.state]);
  assert.equal({ ...pending }.state, pending.state);
});

test('a redirect that is not the answer is refused, and the wait goes on', async (t) => {
  const server = await Server.start(t);
  const tokenwell = host(t);
  const connection = await tokenwell.open('shop', native(server));
  let refused;
  const status = await connection.authorize({
    onUrl: (url) => {
      void (async () => {
        const back = new URL(new URL(url).searchParams.get('redirect_uri'));
        const forged = await fetch(`${back}?code=x&state=forged`);
        refused = [forged.status, await forged.text()];
        assert.equal((await fetch(new URL('/elsewhere', back))).status, 404);
        await fetch(await server.decide(url));
      })();
    },
  });
  assert.equal(status.state, 'authorized');
  assert.equal(refused[0], 400);
  assert.match(refused[1], /This is not the response/);
});

test('an authorization that is called off frees its port', async (t) => {
  const server = await Server.start(t);
  const tokenwell = host(t);
  const connection = await tokenwell.open('shop', native(server));
  const controller = new AbortController();
  let redirectUri;
  const authorized = connection.authorize({
    signal: controller.signal,
    onUrl: (url) => {
      redirectUri = new URL(url).searchParams.get('redirect_uri');
      setImmediate(() => controller.abort(new Error('the user went away')));
    },
  });
  await assert.rejects(settles(authorized), /the user went away/);
  for (;;) {
    const refused = await fetch(redirectUri).then(() => false, (error) => error.cause?.code === 'ECONNREFUSED');
    if (refused) break;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.equal((await connection.status()).state, 'not-authorized');
});

test('a device authorization that is called off is polled for no more', async (t) => {
  const controller = new AbortController();
  const { config, requests } = await deviceEndpoint(t, 1, () => {
    setTimeout(() => controller.abort(new Error('the user went away')), 100);
    return pending;
  });
  const connection = await host(t).open('tv', config);
  await assert.rejects(settles(connection.authorize({ signal: controller.signal, onDeviceCode: () => undefined })), /the user went away/);
  const polled = requests.length;
  await new Promise((resolve) => setTimeout(resolve, 1500));
  assert.equal(requests.length, polled);
  assert.equal((await connection.status()).state, 'not-authorized');
});

test('close does not wait for a user with a device code', async (t) => {
  const { config } = await deviceEndpoint(t, 60, () => pending);
  const tokenwell = new Tokenwell();
  const connection = await tokenwell.open('tv', config);
  let shown;
  const isShown = new Promise((resolve) => (shown = resolve));
  const authorized = assert.rejects(settles(connection.authorize({ onDeviceCode: shown })), { code: 'forbidden', message: /called off/ });
  await isShown;
  await settles(tokenwell.close(), 20_000);
  await authorized;
});

test('a token that the user with a device code has allowed is stored, though the authorization is called off meanwhile', async (t) => {
  const controller = new AbortController();
  let failures = 0;
  const { config } = await deviceEndpoint(t, 1, () => {
    failures = 2;
    return { json: { access_token: 't1', token_type: 'Bearer', expires_in: 3600 } };
  });
  class Failing extends MemoryStore {
    compareAndSwap(...args) {
      if (failures === 0) return super.compareAndSwap(...args);
      failures -= 1;
      controller.abort(new Error('the user went away'));
      throw new Error('busy');
    }
  }
  const connection = await host(t, { store: new Failing(), password: 'correct horse battery staple' }).open('tv', config);
  await assert.rejects(settles(connection.authorize({ signal: controller.signal, onDeviceCode: () => undefined })), /the user went away/);
  while ((await settles(connection.status())).state !== 'authorized') await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal((await connection.token()).accessToken, 't1');
});

test('a user who does not come is told of in time', async (t) => {
  const server = await Server.start(t);
  const tokenwell = host(t);
  const connection = await tokenwell.open('shop', native(server));
  await assert.rejects(settles(connection.authorize({ timeoutSeconds: 1, onUrl: () => undefined })), { code: 'not-authorized' });
});

test('users who are waited for keep nobody from a token', async (t) => {
  const server = await Server.start(t);
  const tokenwell = host(t, { maxWorkers: 1 });
  const connection = await tokenwell.open('shop', native(server));
  const controller = new AbortController();
  const opened = [];
  const waiting = [1, 2].map(() =>
    connection.authorize({ signal: controller.signal, onUrl: (url) => void opened.push(url) }).catch((error) => error),
  );
  while (opened.length < 2) await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal((await settles(connection.status())).state, 'not-authorized');
  controller.abort();
  assert.deepEqual((await settles(Promise.all(waiting))).map(({ name }) => name), ['AbortError', 'AbortError']);
});

function deviceConfig(server) {
  return {
    issuer: server.issuer,
    grant_type: 'device_code',
    client_id: 'device',
    token_endpoint_auth_method: 'none',
    scope: 'openid offline_access',
  };
}

const pending = { status: 400, json: { error: 'authorization_pending' } };

/** A server for devices that is to be polled at that interval, in seconds; `poll` answers the polls. */
async function deviceEndpoint(t, interval, poll) {
  const device = { device_code: 'd', user_code: 'u', verification_uri: 'https://login.example/device', expires_in: 600, interval };
  const { origin, requests, config } = await tokenEndpoint(t, (_, { grant_type: grant }) => (grant === undefined ? { json: device } : poll()));
  return { requests, config: { ...config, grant_type: 'device_code', device_authorization_endpoint: `${origin}/device` } };
}
