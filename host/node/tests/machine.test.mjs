// Grants that need no user, against a real authorization server.
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { MemoryStore } from 'tokenwell';
import { host, directory, machine, RESOURCE, Server, settles, tokenEndpoint } from './support.mjs';

test('client credentials give a token, and the next call the same one without a request', async (t) => {
  const server = await Server.start(t);
  const tokenwell = host(t);
  const connection = await tokenwell.open('crm', machine(server));
  const token = await connection.token();
  assert.equal(token.tokenType, 'Bearer');
  assert.deepEqual(token.scope, ['api:read']);
  assert.ok(token.expiresAt > new Date());
  assert.deepEqual(await connection.token(), token);
  assert.equal((await server.requests('/token')).length, 1);
  assert.equal((await connection.status()).state, 'authorized');
});

test('a thousand calls at once are one token request', async (t) => {
  const { config, requests } = await tokenEndpoint(t, (n) => ({ json: { access_token: `t${n}`, token_type: 'Bearer', expires_in: 3600 } }));
  const tokenwell = host(t);
  const connections = await Promise.all(Array.from({ length: 10 }, () => tokenwell.open('crm', config)));
  const tokens = await Promise.all(Array.from({ length: 1000 }, (_, i) => connections[i % 10].token()));
  assert.deepEqual(new Set(tokens.map(({ accessToken }) => accessToken)), new Set(['t1']));
  assert.equal(requests.length, 1);
});

for (const algorithm of ['RS256', 'PS256', 'ES256', 'EdDSA']) {
  test(`private_key_jwt signs with ${algorithm}, the key being PEM or a JWK`, async (t) => {
    const server = await Server.start(t);
    const folder = await directory(t);
    await writeFile(join(folder, 'key.pem'), server.keys[algorithm].pem);
    await writeFile(join(folder, 'key.jwk'), JSON.stringify(server.keys[algorithm].jwk));
    const tokenwell = host(t, { directory: folder });
    // Of an RSA key in PEM nobody knows that it is for PSS.
    for (const file of algorithm === 'PS256' ? ['key.jwk'] : ['key.pem', 'key.jwk']) {
      const connection = await tokenwell.open('machine', {
        issuer: server.issuer,
        grant_type: 'client_credentials',
        client_id: `jwt-${algorithm.toLowerCase()}`,
        token_endpoint_auth_method: 'private_key_jwt',
        signing_key: { ref: `file:${file}` },
        resource: RESOURCE,
        scope: 'api:read',
      });
      assert.equal((await connection.refresh()).tokenType, 'Bearer');
    }
    const [request] = await server.requests('/token');
    assert.equal(request.form.client_assertion_type, 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer');
  });
}

test('tokens are bound to a key with DPoP, nonces of the server included', async (t) => {
  const server = await Server.start(t, { DPOP_NONCE: '1' });
  const folder = await directory(t);
  await writeFile(join(folder, 'key.pem'), server.keys.ES256.pem);
  const tokenwell = host(t, { directory: folder });
  const connection = await tokenwell.open('bound', {
    ...machine(server),
    client_id: 'bound-machine',
    client_secret: 'bound-machine-secret-6e10',
    dpop: true,
    signing_key: { ref: 'file:key.pem' },
  });
  assert.equal((await connection.token()).tokenType, 'DPoP');
  const headers = await connection.authorizationHeaders('GET', `${RESOURCE}contacts`);
  assert.match(headers.authorization, /^DPoP /);
  const [, claims] = headers.dpop.split('.').slice(0, 2).map((part) => JSON.parse(Buffer.from(part, 'base64url')));
  assert.equal(claims.htu, `${RESOURCE}contacts`);
});

test('a token that was rejected is renewed, unless it has been replaced', async (t) => {
  const { config, requests } = await tokenEndpoint(t, (n) => ({ json: { access_token: `t${n}`, token_type: 'Bearer', expires_in: 3600 } }));
  const tokenwell = host(t);
  const connection = await tokenwell.open('crm', config);
  await connection.token();
  assert.equal((await connection.token({ rejected: 't1' })).accessToken, 't2');
  assert.equal((await connection.token({ rejected: 't1' })).accessToken, 't2');
  assert.equal(requests.length, 2);
});

test('a token with less validity than is asked for is renewed', async (t) => {
  const { config, requests } = await tokenEndpoint(t, (n) => ({ json: { access_token: `t${n}`, token_type: 'Bearer', expires_in: 20 } }));
  const tokenwell = host(t);
  const connection = await tokenwell.open('crm', config);
  const { expiresAt } = await connection.token();
  // More than nine tenths of its lifetime is asked of no token.
  while (expiresAt - Date.now() > 16_000) await new Promise((resolve) => setTimeout(resolve, 100));
  assert.equal((await connection.token({ minValiditySeconds: 100 })).accessToken, 't2');
  assert.equal(requests.length, 2);
});

test('a token that another connection has cleared is not handed out again', async (t) => {
  const { config } = await tokenEndpoint(t, (n) => ({ json: { access_token: `t${n}`, token_type: 'Bearer', expires_in: 3600 } }));
  const store = new MemoryStore();
  const one = host(t, { store });
  const connection = await one.open('crm', config);
  const other = await one.open('crm', config);
  await connection.token();
  await other.clear();
  assert.equal((await connection.status()).state, 'not-authorized');
  assert.equal((await connection.token()).accessToken, 't2');
});

test('a token that is printed keeps its value to itself, and gives it to whoever asks', async (t) => {
  const { config } = await tokenEndpoint(t, () => ({ json: { access_token: 'hunter2', token_type: 'Bearer' } }));
  const token = await (await host(t).open('crm', config)).token();
  const printed = inspect({ token }, { depth: 5, showHidden: true });
  assert.ok(!printed.includes('hunter2'), printed);
  assert.ok(printed.includes('Bearer'), printed);
  assert.equal(JSON.parse(JSON.stringify(token)).accessToken, 'hunter2');
  assert.equal({ ...token }.accessToken, 'hunter2');
  assert.deepEqual(structuredClone(token), token);
});

test('more connections than a worker keeps open are each opened again', async (t) => {
  const { config, requests } = await tokenEndpoint(t, (n, { client_id: id }) => ({ json: { access_token: `${id}-${n}`, token_type: 'Bearer', expires_in: 3600 } }));
  const tokenwell = host(t, { maxWorkers: 1 });
  const names = Array.from({ length: 70 }, (_, i) => `c${i}`);
  const own = (name) => ({ ...config, client_id: name, token_endpoint_auth_method: 'client_secret_post' });
  const connections = await Promise.all(names.map((name) => tokenwell.open(name, own(name))));
  for (const round of [1, 2]) {
    for (const [i, connection] of connections.entries()) {
      assert.match((await connection.refresh()).accessToken, new RegExp(`^c${i}-`), `round ${round}`);
    }
  }
  assert.equal(requests.length, 140);
});

test('a server that does not answer keeps nobody from the token of another', async (t) => {
  const releases = [];
  const silent = await tokenEndpoint(t, async (n) => {
    await new Promise((resolve) => releases.push(resolve));
    return { json: { access_token: `s${n}`, token_type: 'Bearer' } };
  });
  const other = await tokenEndpoint(t, () => ({ json: { access_token: 'o', token_type: 'Bearer' } }));
  const tokenwell = host(t, { maxWorkers: 2 });
  const connections = await Promise.all(['a', 'b', 'c'].map((name) => tokenwell.open(name, silent.config)));
  const waiting = connections.map((connection) => connection.token());
  const connection = await settles(tokenwell.open('other', other.config), 10_000);
  assert.equal((await settles(connection.token(), 10_000)).accessToken, 'o');
  const isDone = settles(Promise.all(waiting));
  for (let i = 0; i < waiting.length; i += 1) {
    while (releases[i] === undefined) await new Promise((resolve) => setTimeout(resolve, 20));
    releases[i]();
  }
  assert.deepEqual((await isDone).map(({ accessToken }) => accessToken), ['s1', 's2', 's3']);
});

test('what happens is told', async (t) => {
  const { config } = await tokenEndpoint(t, () => ({ json: { access_token: 'secret-token', token_type: 'Bearer' } }));
  const events = [];
  const tokenwell = host(t, { onEvent: (event) => events.push(event) });
  const connection = await tokenwell.open('crm', config);
  await connection.token();
  assert.deepEqual(events.map(({ kind, connection: name }) => [kind, name]), [['renewed', 'crm']]);
  assert.ok(!JSON.stringify(events).includes('secret-token'));
  assert.deepEqual((await connection.history()).map(({ kind }) => kind), ['renewed']);
});

test('providers are listed and shown', async (t) => {
  const tokenwell = host(t);
  assert.ok((await tokenwell.listProviders()).some(({ id }) => id === 'github'));
  const github = await tokenwell.showProvider('github');
  assert.match(github.defaults.token_endpoint, /^https:\/\//);
  assert.equal(await tokenwell.showProvider('no-such-provider'), undefined);
});
