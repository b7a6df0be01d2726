// `fetch` with the token.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { host, machine, serve, Server, tokenEndpoint } from './support.mjs';

const issuing = (n) => ({ json: { access_token: `t${n}`, token_type: 'Bearer', expires_in: 3600 } });

/** A resource server that takes every token but those. */
async function resource(t, refusing) {
  const seen = [];
  const origin = await serve(t, async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    seen.push({ authorization: request.headers.authorization, body, method: request.method });
    if (request.url === '/elsewhere') return response.writeHead(302, { location: 'http://127.0.0.1:2/' }).end();
    if (refusing.includes(request.headers.authorization)) {
      response.writeHead(401, { 'www-authenticate': 'Bearer realm="api", error="invalid_token"' });
      return response.end();
    }
    response.end('hello');
  });
  return { origin, seen };
}

test('a request carries the token', async (t) => {
  const { config } = await tokenEndpoint(t, issuing);
  const { origin, seen } = await resource(t, []);
  const connection = await host(t).open('crm', config);
  const response = await connection.fetch(`${origin}/contacts`);
  assert.equal(await response.text(), 'hello');
  assert.equal(seen[0].authorization, 'Bearer t1');
});

test('a token that the resource server refuses is renewed, and the request sent once more', async (t) => {
  const { config } = await tokenEndpoint(t, issuing);
  const { origin, seen } = await resource(t, ['Bearer t1']);
  const connection = await host(t).open('crm', config);
  const response = await connection.fetch(origin, { method: 'POST', body: 'one', headers: { 'x-mine': 'yes' } });
  assert.equal(response.status, 200);
  assert.deepEqual(seen.map(({ authorization, body }) => [authorization, body]), [['Bearer t1', 'one'], ['Bearer t2', 'one']]);
});

test('it is sent once more and not twice', async (t) => {
  const { config, requests } = await tokenEndpoint(t, issuing);
  const { origin, seen } = await resource(t, ['Bearer t1', 'Bearer t2']);
  const connection = await host(t).open('crm', config);
  assert.equal((await connection.fetch(origin)).status, 401);
  assert.deepEqual([seen.length, requests.length], [2, 2]);
});

test('a body that is a stream is sent once', async (t) => {
  const { config } = await tokenEndpoint(t, issuing);
  const { origin, seen } = await resource(t, ['Bearer t1']);
  const connection = await host(t).open('crm', config);
  const body = new Blob(['streamed']).stream();
  assert.equal((await connection.fetch(origin, { method: 'POST', body, duplex: 'half' })).status, 401);
  assert.deepEqual(seen.map(({ body: sent }) => sent), ['streamed']);
});

test('a redirect is handed out and not followed', async (t) => {
  const { config } = await tokenEndpoint(t, issuing);
  const { origin } = await resource(t, []);
  const connection = await host(t).open('crm', config);
  const response = await connection.fetch(new Request(`${origin}/elsewhere`));
  assert.deepEqual([response.status, response.headers.get('location')], [302, 'http://127.0.0.1:2/']);
  await assert.rejects(connection.fetch(origin, { redirect: 'follow' }), { code: 'invalid-argument', field: 'init.redirect' });
});

test('a token does not go out in clear', async (t) => {
  const { config, requests } = await tokenEndpoint(t, issuing);
  const connection = await host(t).open('crm', config);
  await assert.rejects(connection.fetch('http://api.client.example/'), { name: 'ForbiddenError', code: 'forbidden' });
  assert.equal(requests.length, 0);
});

test('a token that is at hand makes no header for a URL that it would go out in clear to, or that is none', async (t) => {
  const { config } = await tokenEndpoint(t, issuing);
  const connection = await host(t).open('crm', config);
  await connection.token();
  for (const url of [
    'http://api.client.example/',
    new URL('http://api.client.example/'),
    'ftp://api.client.example/',
    'not a url',
    'https:api.client.example',
    'https://api.client.example@evil.example/',
    'https://me@api.client.example/',
    'https://api.client.example\\@evil.example/',
    'https://api.client\t.example/',
  ]) {
    // With a token that was refused the component is always asked.
    const asked = await connection.authorizationHeaders('GET', url, { rejected: 'another' }).catch((error) => error);
    assert.equal(asked.code, 'forbidden', String(url));
    await assert.rejects(connection.authorizationHeaders('GET', url), { code: 'forbidden', message: asked.message }, String(url));
  }
});

test('a token makes a header for https, and for http on the loopback interface', async (t) => {
  const { config, requests } = await tokenEndpoint(t, issuing);
  const connection = await host(t).open('crm', config);
  for (const url of [
    'https://api.client.example',
    'HTTPS://API.client.example:443/',
    new URL('https://api.client.example/contacts?q={a|b}#c'),
    'https://api.client.example/contacts?q={a|b}#c',
    'http://127.0.0.1:8080/',
    'http://[::1]:8080/',
    'http://localhost/',
  ]) {
    assert.deepEqual(await connection.authorizationHeaders('GET', url), { authorization: 'Bearer t1' }, String(url));
  }
  assert.equal(requests.length, 1);
});

test('it works with the real server, whose token is refused behind its back', async (t) => {
  const server = await Server.start(t);
  const { resource: _, ...config } = machine(server);
  const connection = await host(t).open('crm', { ...config, scope: '' });
  const { accessToken } = await connection.token();
  const headers = await connection.authorizationHeaders('GET', `${server.issuer}/me`);
  assert.equal(headers.authorization, `Bearer ${accessToken}`);
  // The user info endpoint takes no token of a client: it says so, and the request is sent once more.
  const response = await connection.fetch(`${server.issuer}/me`);
  assert.equal(response.status, 401);
  assert.notEqual((await connection.token()).accessToken, accessToken);
});
