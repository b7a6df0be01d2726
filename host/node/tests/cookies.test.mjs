// The cookies in a server's responses: none is kept or sent, and one that a browser would refuse is told of.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { host, internal, serve } from './support.mjs';

const { violation } = await internal('cookies');

/** A token endpoint that sets those cookies; gives the headers that it was sent. */
async function setting(t, cookies) {
  const received = [];
  const origin = await serve(t, (request, response) => {
    received.push(request.headers);
    response.writeHead(200, { 'content-type': 'application/json', 'set-cookie': cookies });
    response.end(JSON.stringify({ access_token: `t${received.length}`, token_type: 'Bearer', expires_in: 3600 }));
  });
  const config = { token_endpoint: `${origin}/token`, grant_type: 'client_credentials', client_id: 'c', client_secret: 's' };
  return { config, received };
}

/** What is told of while a connection draws a token. */
async function told(t, config) {
  const events = [];
  const connection = await host(t, { onEvent: (event) => events.push(event) }).open('crm', config);
  await connection.token();
  return events.filter(({ kind }) => kind === 'cookie-refused');
}

test('a cookie for another domain is told of, and not its value', async (t) => {
  const { config } = await setting(t, ['sid=hunter2; Domain=other.example']);
  const [event, ...others] = await told(t, config);
  const { at, ...rest } = event;
  assert.ok(at instanceof Date);
  assert.deepEqual(rest, {
    connection: 'crm',
    kind: 'cookie-refused',
    message: 'a cookie of 127.0.0.1 is for another domain; it is left out of account',
    details: { server: '127.0.0.1' },
  });
  assert.deepEqual(others, []);
});

test('each cookie is told of by itself, and none that is in order', async (t) => {
  const { config } = await setting(t, ['a=1; Secure', 'b=1; Path=/', 'c=1; Domain=other.example']);
  const messages = (await told(t, config)).map(({ message }) => message);
  assert.deepEqual(messages.map((message) => /127\.0\.0\.1 (.*);/.exec(message)[1]), ['is for https alone, and comes by http', 'is for another domain']);
});

test('with `ignore_cookie_policy` no cookie is told of', async (t) => {
  const { config } = await setting(t, ['sid=1; Domain=other.example']);
  assert.deepEqual(await told(t, { ...config, ignore_cookie_policy: true }), []);
});

test('no cookie is sent', async (t) => {
  const { config, received } = await setting(t, ['sid=1; Path=/']);
  const connection = await host(t).open('crm', config);
  await connection.token();
  await connection.refresh();
  assert.deepEqual(received.map(({ cookie }) => cookie), [undefined, undefined]);
});

const judged = (cookie, url = 'https://login.example.com/token') => violation(new URL(url), cookie);

test('a cookie that a browser would take is in order', () => {
  for (const cookie of [
    'sid=1',
    'sid=1; Path=/; HttpOnly; Secure; SameSite=Lax',
    'sid=1; Domain=example.com',
    'sid=1; Domain=.login.example.com; Secure; SameSite=None',
    '__Host-sid=1; Secure; Path=/',
    '__Secure-sid=; Secure; Expires=Thu, 01 Jan 1970 00:00:00 GMT',
  ]) {
    assert.equal(judged(cookie), undefined, cookie);
  }
});

for (const [cookie, what] of [
  ['', 'has no name'],
  ['=value', 'has no name'],
  ['just-text', 'has no name'],
  [`sid=${'x'.repeat(4096)}`, 'is longer than 4096 bytes'],
  ['sid=1; Domain=other.example', 'is for another domain'],
  ['sid=1; Domain=gin.example.com', 'is for another domain'],
  ['sid=1; Domain=com', 'is for a whole top-level domain'],
  ['sid=1; SameSite=None', 'is for other sites, and not for https alone'],
  ['__Secure-sid=1', 'has a name for https alone, and is not'],
  ['__Host-sid=1; Secure; Path=/; Domain=login.example.com', 'has a name for one host alone, and is not'],
  ['__Host-sid=1; Secure', 'has a name for one host alone, and is not'],
]) {
  test(`the cookie \`${cookie.slice(0, 60)}\` ${what}`, () => assert.equal(judged(cookie), what));
}

test('the last of several attributes of a name holds', () => {
  assert.equal(judged('sid=1; Domain=other.example; Domain=example.com'), undefined);
  assert.equal(judged('sid=1; Domain=example.com; Domain=other.example'), 'is for another domain');
});

test('the end of an address is no domain', () => {
  assert.equal(judged('sid=1; Domain=0.0.1', 'http://127.0.0.1/token'), 'is for another domain');
});
