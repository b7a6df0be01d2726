// Where a connection may send to.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:https';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { directory, host, internal, serve, tokenEndpoint } from './support.mjs';

const { Egress } = await internal('egress');

const issuing = (n) => ({ json: { access_token: `t${n}`, token_type: 'Bearer', expires_in: 3600, refresh_token: `r${n}` } });

/** An issuer whose token endpoint is at another origin, and a config that names the issuer alone. */
async function apart(t) {
  const tokens = await tokenEndpoint(t, issuing);
  const server = { status: 200, tokenEndpoint: tokens.config.token_endpoint, asked: 0 };
  server.issuer = await serve(t, (request, response) => {
    server.asked += 1;
    response.writeHead(server.status, { 'content-type': 'application/json' });
    const { issuer, tokenEndpoint: token_endpoint } = server;
    response.end(JSON.stringify({ issuer, authorization_endpoint: `${issuer}/authorize`, token_endpoint }));
  });
  const { token_endpoint: _, ...config } = tokens.config;
  return { server, tokens, config: { ...config, issuer: server.issuer } };
}

test("the issuer's metadata names where a connection may send to", async (t) => {
  const { config } = await apart(t);
  const connection = await host(t).open('found', config);
  assert.equal((await connection.token()).accessToken, 't1');
});

test('a renewal goes where the credential was issued', async (t) => {
  const { config } = await apart(t);
  const folder = await directory(t);
  await (await host(t, { directory: folder }).open('found', config)).token();
  const connection = await host(t, { directory: folder }).open('found', config);
  assert.equal((await connection.refresh()).accessToken, 't2');
});

test('an issuer that is failing for a moment is asked again', async (t) => {
  const { config, server } = await apart(t);
  const folder = await directory(t);
  await (await host(t, { directory: folder }).open('found', config)).token();
  const connection = await host(t, { directory: folder }).open('found', config);
  server.status = 503;
  await assert.rejects(connection.refresh(), { code: 'unavailable' });
  server.status = 200;
  assert.equal((await connection.refresh()).accessToken, 't2');
});

test('an origin that is refused is named, and what to do', async (t) => {
  const { config, server, tokens } = await apart(t);
  const folder = await directory(t);
  await (await host(t, { directory: folder }).open('found', config)).token();
  server.tokenEndpoint = `${server.issuer}/token`;
  const connection = await host(t, { directory: folder }).open('found', config);
  await assert.rejects(connection.refresh(), (error) => {
    assert.equal(error.code, 'forbidden');
    assert.ok(error.message.includes(`a request to ${tokens.origin}, which`), error.message);
    assert.match(error.message, /name the endpoint in the config, or the origin in `origins`/);
    return true;
  });
  assert.equal(tokens.requests.length, 1);
});

test('an origin that the application allows is reached', async (t) => {
  const { config, server, tokens } = await apart(t);
  const folder = await directory(t);
  await (await host(t, { directory: folder }).open('found', config)).token();
  server.tokenEndpoint = `${server.issuer}/token`;
  for (const origin of [`${tokens.origin}/whatever`, new URL(tokens.origin)]) {
    const connection = await host(t, { directory: folder }).open('found', config, { origins: [origin] });
    await connection.refresh();
  }
  assert.equal(tokens.requests.length, 3);
});

test('origins that are none are named', async (t) => {
  const tokenwell = host(t);
  for (const origins of ['https://as.example', null]) {
    await assert.rejects(tokenwell.open('crm', {}, { origins }), { code: 'invalid-argument', field: 'options.origins' }, String(origins));
  }
  for (const origin of [7, 'as.example', 'http://as.example', 'file:///etc/passwd']) {
    const refused = { code: 'invalid-argument', field: 'options.origins[1]' };
    await assert.rejects(tokenwell.open('crm', {}, { origins: ['https://as.example', origin] }), refused, String(origin));
  }
});

test('the endpoints of a provider are reached, its parameters put in', async (t) => {
  const certificates = join(dirname(fileURLToPath(import.meta.url)), 'certificates');
  const [cert, key, ca] = await Promise.all(['server.pem', 'server.key', 'ca.pem'].map((name) => readFile(join(certificates, name), 'utf8')));
  const paths = [];
  const server = createServer({ cert, key }, (request, response) => {
    paths.push(request.url);
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ accessToken: 't', tokenType: 'Bearer', expiresIn: 3600, refreshToken: 'r' }));
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const connection = await host(t, { ca }).open('shop', {
    provider: 'plentymarkets',
    parameters: { host: `127.0.0.1:${server.address().port}` },
    client_id: 'c',
    grant_type: 'password',
    username: 'me',
    password: 'secret',
  });
  await connection.token();
  await connection.refresh();
  assert.deepEqual(paths, ['/rest/login', '/rest/login/refresh']);
});

// ---- the rules by themselves -------------------------------------------------

const allows = (egress, url) => egress.allows(new URL(url));

test('an origin that nobody named is refused', () => {
  const egress = new Egress(['https://as.example/token'], ['https://as.example']);
  assert.ok(allows(egress, 'https://as.example/anything'));
  assert.ok(allows(egress, 'https://as.example:443/token'));
  for (const url of [
    'https://as.example:8443/token',
    'http://as.example/token',
    'https://evil.example/token',
    'https://as.example.evil.example/token',
    'https://as.example@evil.example/token',
    'file:///etc/passwd',
  ]) {
    assert.ok(!allows(egress, url), url);
  }
});

test('plain http beyond this machine is refused, whoever names it', () => {
  const egress = new Egress(['http://as.example/token', 'http://127.0.0.1:8080/token'], []);
  assert.ok(!allows(egress, 'http://as.example/token'));
  assert.ok(allows(egress, 'http://127.0.0.1:8080/token'));
});

/** A request as the component sends it. */
function requestTo(url, method = 'GET') {
  const [, scheme, authority, path] = /^([^:]*):\/\/([^/]*)(.*)$/.exec(url);
  return { method, scheme, authority, path, headers: [], body: new Uint8Array() };
}

/** A client that gives those answers by their URLs, 404 for any other, and tells what it was asked for. */
function client(answers) {
  const asked = [];
  const send = ({ scheme, authority, path }) => {
    asked.push(`${scheme}://${authority}${path}`);
    const { status = 200, json } = answers[asked.at(-1)] ?? { status: 404 };
    const response = (async () => ({ status, headers: [], body: Buffer.from(JSON.stringify(json ?? {})) }))();
    return { response, cancel: () => {} };
  };
  return { asked, send };
}

for (const [what, { at = 'https://as.example/.well-known/openid-configuration', method, status, issuer = 'https://as.example' }] of Object.entries({
  'what is elsewhere at the issuer': { at: 'https://as.example/elsewhere' },
  'what is at an inner path': { at: 'https://as.example/b/.well-known/openid-configuration' },
  'what a server may take for another path': { at: 'https://as.example/b/../.well-known/openid-configuration' },
  'what was posted for': { method: 'POST' },
  'what was not found': { status: 404 },
  'the metadata of another issuer': { issuer: 'https://other.example' },
  'the metadata of an issuer with a slash more': { issuer: 'https://as.example/' },
  'the metadata of an issuer in capitals': { issuer: 'https://AS.example' },
  'the metadata of an issuer with a path': { issuer: 'https://as.example/b' },
  'metadata that name no issuer': { issuer: null },
})) {
  test(`${what} adds no origin`, async () => {
    const egress = new Egress(['https://as.example/token'], ['https://as.example']);
    const server = client({ [at]: { status, json: { issuer, token_endpoint: 'https://evil.example/token' } } });
    await egress.send(server, requestTo(at, method)).response;
    assert.deepEqual(server.asked, [at]);
    assert.ok(!allows(egress, 'https://evil.example/token'));
  });
}

for (const origin of ['https://as.example', 'https://AS.example:443']) {
  for (const path of ['/a/.well-known/openid-configuration', '/.well-known/oauth-authorization-server/a']) {
    test(`of the issuers at ${origin} the metadata at ${path} are those of one`, async () => {
      const egress = new Egress([], [`${origin}/a`]);
      const at = `https://as.example${path}`;
      const fetched = (issuer, token_endpoint) => egress.send(client({ [at]: { json: { issuer, token_endpoint } } }), requestTo(at)).response;
      await fetched(`${origin}/b`, 'https://b.example/token');
      assert.ok(!allows(egress, 'https://b.example/token'));
      await fetched(`${origin}/a`, 'https://a.example/token');
      assert.ok(allows(egress, 'https://a.example/token'));
    });
  }
}

test('the endpoints for clients with a certificate are learnt too', async () => {
  const egress = new Egress([], ['https://as.example']);
  const at = 'https://as.example/.well-known/openid-configuration';
  const json = { issuer: 'https://as.example', mtls_endpoint_aliases: { token_endpoint: 'https://mtls.example/token' } };
  await egress.send(client({ [at]: { json } }), requestTo(at)).response;
  assert.ok(allows(egress, 'https://mtls.example/token'));
});

test('an issuer that has answered is not asked again at once', async () => {
  const egress = new Egress([], ['https://as.example']);
  const server = client({});
  for (let i = 0; i < 3; i += 1) {
    const { response } = egress.send(server, requestTo('https://other.example/token', 'POST'));
    await assert.rejects(response, ({ payload, refusal }) => payload.tag === 'HTTP-request-denied' && refusal.includes('https://other.example'));
  }
  assert.deepEqual(server.asked, [
    'https://as.example/.well-known/openid-configuration',
    'https://as.example/.well-known/oauth-authorization-server',
  ]);
});

test('requests at once look at the metadata once, and each goes out', async () => {
  const egress = new Egress([], ['https://as.example']);
  const at = 'https://as.example/.well-known/openid-configuration';
  const url = 'https://tokens.example/token';
  const server = client({ [at]: { json: { issuer: 'https://as.example', token_endpoint: url } }, [url]: {} });
  const sent = [1, 2, 3].map(() => egress.send(server, requestTo(url, 'POST')).response);
  assert.deepEqual((await Promise.all(sent)).map(({ status }) => status), [200, 200, 200]);
  assert.deepEqual(server.asked, [at, url, url, url]);
});

test('a request that is called off while the metadata is looked at does not go out', async () => {
  const egress = new Egress([], ['https://as.example']);
  const at = 'https://as.example/.well-known/openid-configuration';
  const url = 'https://tokens.example/token';
  const server = client({ [at]: { json: { issuer: 'https://as.example', token_endpoint: url } } });
  const { response, cancel } = egress.send(server, requestTo(url, 'POST'));
  cancel();
  await assert.rejects(response);
  assert.deepEqual(server.asked, [at]);
});

for (const [id, parameters, reached, keptFrom] of [
  ['microsoft-entra', {}, ['https://login.microsoftonline.com/common/oauth2/v2.0/token', 'https://graph.microsoft.com/oidc/userinfo'], ['https://example.com/']],
  ['figma', {}, ['https://api.figma.com/v1/oauth/refresh'], []],
  ['facebook', {}, ['https://graph.facebook.com/oauth/access_token'], []],
  ['zoho', {}, ['https://accounts.zoho.eu/oauth/v2/token', 'https://accounts.zoho.in/oauth/v2/token'], ['https://accounts.zoho.example/oauth/v2/token']],
  ['plentymarkets', { host: 'shop.plenty.example' }, ['https://shop.plenty.example/rest/login/refresh'], ['https://plenty.example/rest/login/refresh']],
  // Without its parameter an endpoint is nowhere.
  ['plentymarkets', {}, [], ['https://rest/login']],
]) {
  test(`${id} with ${JSON.stringify(parameters)} is where the catalogue says`, async (t) => {
    const provider = await host(t).showProvider(id);
    const given = Object.entries(parameters).map(([name, value]) => ({ name, value }));
    const egress = Egress.of({ provider: id, clientId: 'x', parameters: given }, provider, []);
    for (const url of reached) assert.ok(allows(egress, url), url);
    for (const url of keptFrom) assert.ok(!allows(egress, url), url);
  });
}

test('the client identifier is put into the endpoints of a provider', () => {
  const provider = { parameters: [], endpoints: [{ name: 'token_endpoint', value: 'https://{client_id}.as.example/token' }] };
  assert.ok(allows(Egress.of({ clientId: 'abc', parameters: [] }, provider, []), 'https://abc.as.example/token'));
  assert.ok(!allows(Egress.of({ parameters: [] }, provider, []), 'https://abc.as.example/token'));
});
