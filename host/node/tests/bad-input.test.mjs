// What does not fit, fails or never comes: an error that names it, nothing lost,
// no hang.
import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import fs from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import { test } from 'node:test';
import { MemoryStore, noUserAgent, StoreError, Tokenwell } from 'tokenwell';
import { directory, host, native, Server, serve, settles, tokenEndpoint } from './support.mjs';

const issuing = (n) => ({ json: { access_token: `t${n}`, token_type: 'Bearer', expires_in: 3600, refresh_token: `r${n}` } });

/** A store of the application's own, with some methods replaced. */
function ownStore(replaced) {
  const memory = new MemoryStore();
  return {
    load: (...args) => memory.load(...args),
    compareAndSwap: (...args) => memory.compareAndSwap(...args),
    delete: (...args) => memory.delete(...args),
    acquireLease: (...args) => memory.acquireLease(...args),
    ...replaced,
  };
}

const owned = { password: 'correct horse battery staple' };

test('a store of the application works, asynchronously', async (t) => {
  const { config, requests } = await tokenEndpoint(t, issuing);
  const memory = new MemoryStore();
  const later = (method) => async (...args) => {
    await new Promise((resolve) => setTimeout(resolve, 5));
    return memory[method](...args);
  };
  const store = Object.fromEntries(['load', 'compareAndSwap', 'delete', 'acquireLease'].map((name) => [name, later(name)]));
  const connection = await host(t, { store, ...owned }).open('crm', config);
  assert.equal((await connection.token()).accessToken, 't1');
  assert.equal((await connection.token()).accessToken, 't1');
  await connection.clear();
  assert.equal((await connection.token()).accessToken, 't2');
  assert.equal(requests.length, 2);
});

for (const [method, code] of [['load', 'storage'], ['compareAndSwap', 'storage'], ['acquireLease', 'storage']]) {
  test(`a store whose ${method} throws is named, with the cause, and nothing is sent`, async (t) => {
    const { config, requests } = await tokenEndpoint(t, issuing);
    const mine = new Error('the disk is on fire');
    const store = ownStore({
      [method]: (key, ...args) => {
        if (key === 'crm.tokens') throw mine;
        return new MemoryStore()[method](key, ...args);
      },
    });
    const connection = await host(t, { store, ...owned }).open('crm', config);
    await assert.rejects(settles(connection.token()), (error) => {
      assert.equal(error.code, code);
      assert.match(error.message, new RegExp(`store\\.${method} failed: the disk is on fire`));
      assert.equal(error.cause, mine);
      return true;
    });
    assert.equal(requests.length, 0);
  });
}

test('what a StoreError says is kept', async (t) => {
  const { config } = await tokenEndpoint(t, issuing);
  const store = ownStore({
    load: () => {
      throw new StoreError('corrupt', 'row 7 is no record');
    },
  });
  const connection = await host(t, { store, ...owned }).open('crm', config);
  await assert.rejects(connection.token(), { code: 'storage', storage: 'corrupt', message: /row 7 is no record/ });
});

for (const [given, says] of [
  ['a text', /what store\.load gives is a string/],
  [{ version: 'one', value: new Uint8Array() }, /store\.load gives\.version is a string/],
  [{ version: 1n, value: 'text' }, /store\.load gives\.value is a string/],
  [42, /is a number/],
]) {
  test(`a store that gives ${JSON.stringify(given, (_, v) => (typeof v === 'bigint' ? Number(v) : v))} is named`, async (t) => {
    const { config } = await tokenEndpoint(t, issuing);
    const connection = await host(t, { store: ownStore({ load: () => given }), ...owned }).open('crm', config);
    await assert.rejects(settles(connection.token()), { code: 'storage', message: says });
  });
}

test('missing permissions are a failure of the store, and no policy', async (t) => {
  const { config, requests } = await tokenEndpoint(t, issuing);
  const folder = await directory(t);
  await (await host(t, { directory: folder }).open('crm', config)).token();
  for (const code of ['EACCES', 'EPERM', 'EROFS']) {
    for (const [method, file] of [['open', 'crm.tokens'], ['readFile', 'tokenwell.key']]) {
      const real = fs[method];
      const { mock } = t.mock.method(fs, method, async (path, ...args) => {
        if (path === join(folder, file)) throw Object.assign(new Error(`${code}: it is not permitted`), { code });
        return real(path, ...args);
      });
      syncBuiltinESMExports();
      try {
        // A host that does not have the key yet.
        const connection = await host(t, { directory: folder }).open('crm', config);
        await assert.rejects(connection.refresh(), { code: 'storage', storage: 'unavailable', message: new RegExp(`${file} failed: ${code}`) });
      } finally {
        mock.restore();
        syncBuiltinESMExports();
      }
    }
  }
  assert.equal(requests.length, 1);
});

test('a key file that others can read is refused', async (t) => {
  const { config } = await tokenEndpoint(t, issuing);
  const folder = await directory(t);
  await (await host(t, { directory: folder }).open('crm', config)).token();
  await fs.chmod(join(folder, 'tokenwell.key'), 0o640);
  const connection = await host(t, { directory: folder }).open('crm', config);
  await assert.rejects(connection.token(), { code: 'forbidden', message: /tokenwell\.key can be read by others than its owner/ });
});

test('a store that gives bytes that it has transferred away is named', async (t) => {
  const { config } = await tokenEndpoint(t, issuing);
  const value = new Uint8Array(10);
  structuredClone(value, { transfer: [value.buffer] });
  const memory = new MemoryStore();
  let isGone = true;
  const store = ownStore({
    load: (...args) => (isGone && args[0] === 'crm.tokens' ? { version: 1n, value } : memory.load(...args)),
    compareAndSwap: (...args) => memory.compareAndSwap(...args),
  });
  const connection = await host(t, { store, ...owned }).open('crm', config);
  await assert.rejects(settles(connection.token(), 10_000), { code: 'storage', message: /store\.load failed: .*detached/ });
  isGone = false;
  assert.equal((await settles(connection.token())).accessToken, 't1');
});

test('a promise of a store that never settles is an error and no hang, and the lease is free again', async (t) => {
  const { config, requests } = await tokenEndpoint(t, issuing);
  let stuck = true;
  const memory = new MemoryStore();
  const store = ownStore({
    load: (...args) => (stuck && args[0] === 'crm.tokens' ? new Promise(() => undefined) : memory.load(...args)),
    compareAndSwap: (...args) => memory.compareAndSwap(...args),
    acquireLease: (...args) => memory.acquireLease(...args),
  });
  const connection = await host(t, { store, directory: await directory(t), hostTimeoutMs: 2000 }).open('crm', config);
  await assert.rejects(settles(connection.token()), { code: 'storage', message: /store\.load has not settled within 2000 ms/ });
  stuck = false;
  assert.equal((await settles(connection.token())).accessToken, 't1');
  assert.equal(requests.length, 1);
});

test('a look for the sealing keys that the store never answers keeps no later one waiting', async (t) => {
  const { config } = await tokenEndpoint(t, issuing);
  const memory = new MemoryStore();
  let looks = 0;
  const store = ownStore({
    load: (...args) => (args[0] === 'tokenwell.keys' && (looks += 1) === 1 ? new Promise(() => undefined) : memory.load(...args)),
    compareAndSwap: (...args) => memory.compareAndSwap(...args),
  });
  const connection = await host(t, { store, ...owned, hostTimeoutMs: 1000 }).open('crm', config);
  await assert.rejects(settles(connection.token()), { code: 'storage', message: /secrets\.sealingKeys has not settled within 1000 ms/ });
  assert.equal((await settles(connection.token())).accessToken, 't1');
});

/** A store with a token that is sealed under the master password of `owned`, and the config of its connection. */
async function sealedUnderPassword(t) {
  const { config } = await tokenEndpoint(t, issuing);
  const store = new MemoryStore();
  await (await host(t, { store, ...owned }).open('crm', config)).token();
  return { store, config };
}

test('a user who is asked for the master password may take longer than other promises', async (t) => {
  const { store, config } = await sealedUnderPassword(t);
  let asked = 0;
  const password = async () => {
    asked += 1;
    await new Promise((resolve) => setTimeout(resolve, 2500));
    return owned.password;
  };
  const connection = await host(t, { store, password, hostTimeoutMs: 1000 }).open('crm', config);
  assert.equal((await settles(connection.token())).accessToken, 't1');
  assert.equal(asked, 1);
});

test('a master password that was mistyped is asked for again', async (t) => {
  const { store, config } = await sealedUnderPassword(t);
  const answers = ['correct horse battery stable', owned.password];
  const connection = await host(t, { store, password: () => answers.shift() }).open('crm', config);
  await assert.rejects(settles(connection.token()), { code: 'storage', storage: 'wrong-key' });
  assert.equal((await settles(connection.token())).accessToken, 't1');
});

test('close does not wait for a user who is asked for the master password', async (t) => {
  const { store, config } = await sealedUnderPassword(t);
  let ask;
  const isAsked = new Promise((resolve) => (ask = resolve));
  const password = () => {
    ask();
    return new Promise(() => undefined);
  };
  const tokenwell = new Tokenwell({ store, password, hostTimeoutMs: 1000 });
  const refused = assert.rejects(settles((await tokenwell.open('crm', config)).token()), { code: 'forbidden' });
  await isAsked;
  await settles(tokenwell.close(), 20_000);
  await refused;
});

test('a token that was issued is not lost when the store fails at the commit for a while', async (t) => {
  let failures = 0;
  const memory = new MemoryStore();
  const { config, requests } = await tokenEndpoint(t, (n) => {
    failures = 3;
    return issuing(n);
  });
  const store = ownStore({
    load: (...args) => memory.load(...args),
    compareAndSwap: (...args) => {
      if (failures > 0) {
        failures -= 1;
        return Promise.reject(new Error('busy'));
      }
      return memory.compareAndSwap(...args);
    },
    acquireLease: (...args) => memory.acquireLease(...args),
  });
  const connection = await host(t, { store, ...owned }).open('crm', config);
  assert.equal((await settles(connection.token())).accessToken, 't1');
  assert.equal(requests.length, 1);
});

test('a lease that comes too late goes straight back', async (t) => {
  const { config } = await tokenEndpoint(t, issuing);
  let released;
  const wasReleased = new Promise((resolve) => (released = resolve));
  let give;
  const store = ownStore({
    acquireLease: () => new Promise((resolve) => (give = () => resolve({ fence: 1n, release: released }))),
  });
  const connection = await host(t, { store, directory: await directory(t), hostTimeoutMs: 2000 }).open('crm', config);
  await assert.rejects(settles(connection.token()), { code: 'storage' });
  give();
  await settles(wasReleased);
});

test('a store without a key that lasts is refused', () => {
  assert.throws(() => new Tokenwell({ store: ownStore({}) }), { code: 'invalid-argument', field: 'options.store' });
});

for (const [options, field] of [
  [{ store: {} }, 'options.store.load'],
  [{ directory: 7 }, 'options.directory'],
  [{ pasword: 'x' }, 'options.pasword'],
  [{ onEvent: 'log' }, 'options.onEvent'],
  [{ tlsTrust: 'no' }, 'options.tlsTrust'],
  [{ maxWorkers: 0 }, 'options.maxWorkers'],
  [{ userAgent: null }, 'options.userAgent.listen'],
  [null, 'options'],
]) {
  test(`the option ${field} is named where it does not fit`, () => {
    assert.throws(() => new Tokenwell(options), { name: 'InvalidArgumentError', field });
  });
}

for (const [config, field] of [
  [{ client_id: 7 }, 'client_id'],
  [{ client_id: 7n }, 'client_id'],
  [{ timeout: NaN }, 'timeout'],
  [{ scope: () => 'a' }, 'scope'],
  [{ max_age: new Date() }, 'max_age'],
  [{ renewal: { early_seconds: Symbol('x') } }, 'renewal.early_seconds'],
  [{ resource: ['a', undefined] }, 'resource[1]'],
  [{ client_secret: new Map() }, 'client_secret'],
  [{ clientid: 'x' }, 'clientid'],
  ['{"client_id":"x"}', 'config'],
  [undefined, 'config'],
]) {
  test(`a config whose ${field} is of a type that does not fit names the field`, async (t) => {
    await assert.rejects(host(t).open('crm', config), (error) => {
      assert.equal(error.name, 'NotConfiguredError');
      assert.equal(error.code, 'not-configured');
      assert.ok(error.problems.some((problem) => problem.field === field), JSON.stringify(error.problems));
      assert.ok(error.message.includes(field));
      return true;
    });
  });
}

test('a config that contains itself is refused', async (t) => {
  const config = { parameters: {} };
  config.parameters.again = config.parameters;
  await assert.rejects(host(t).open('crm', config), { code: 'not-configured' });
});

test('a config that lacks something opens, and says so when it is used', async (t) => {
  const connection = await host(t).open('crm', { client_id: 'x' });
  assert.equal((await connection.status()).state, 'not-configured');
  await assert.rejects(connection.token(), (error) => error.problems.some(({ field }) => field === 'token_endpoint'));
});

test('a name that is none is refused', async (t) => {
  for (const name of ['../crm', '', 'a b']) await assert.rejects(host(t).open(name, {}), { code: 'not-configured' }, name);
  await assert.rejects(host(t).open(7, {}), { code: 'invalid-argument', field: 'name' });
});

test('arguments of calls that do not fit are named', async (t) => {
  const { config } = await tokenEndpoint(t, issuing);
  const connection = await host(t).open('crm', config);
  const field = (name) => ({ code: 'invalid-argument', field: name });
  await assert.rejects(connection.token({ minValiditySeconds: '5' }), field('options.minValiditySeconds'));
  await assert.rejects(connection.token({ minValiditySeconds: -1 }), field('options.minValiditySeconds'));
  await assert.rejects(connection.token({ rejected: 5 }), field('options.rejected'));
  await assert.rejects(connection.token({ signal: 'now' }), field('options.signal'));
  await assert.rejects(connection.token(null), field('options'));
  await assert.rejects(connection.beginAuthorization({ prompt: ['logon'] }), field('options.prompt'));
  await assert.rejects(connection.beginAuthorization({ parameters: { a: 1 } }), field('options.parameters.a'));
  await assert.rejects(connection.completeAuthorization('http://x'), field('redirect'));
  await assert.rejects(connection.completeAuthorization({ url: 7 }), field('redirect.url'));
  await assert.rejects(connection.authorize({ onUrl: 'x' }), field('options.onUrl'));
  await assert.rejects(connection.authorize({ timeoutSeconds: 1.5 }), field('options.timeoutSeconds'));
});

test('a call that is aborted rejects with the reason, and what was issued is stored all the same', async (t) => {
  let answer;
  const asked = new Promise((resolve) => (answer = resolve));
  let release;
  const { config, requests } = await tokenEndpoint(t, async (n) => {
    answer();
    if (n === 1) await new Promise((resolve) => (release = resolve));
    return issuing(n);
  });
  const connection = await host(t).open('crm', config);
  const controller = new AbortController();
  const token = connection.token({ signal: controller.signal });
  const other = connection.token();
  await asked;
  controller.abort(new Error('too slow for me'));
  await assert.rejects(settles(token), /too slow for me/);
  release();
  assert.equal((await settles(other)).accessToken, 't1');
  assert.equal((await connection.token()).accessToken, 't1');
  assert.equal(requests.length, 1);
  await assert.rejects(connection.token({ signal: AbortSignal.abort() }), { name: 'AbortError' });
});

test('calls that share a signal leave nothing at it', async (t) => {
  const { signal } = new AbortController();
  const tokenwell = host(t, { maxWorkers: 1 });
  await Promise.all([1, 2, 3].map(() => tokenwell.listProviders({ signal })));
  assert.deepEqual(getEventListeners(signal, 'abort'), []);
});

test('after close, calls are refused, events are silent and the listener is gone', async (t) => {
  const server = await Server.start(t);
  const events = [];
  const tokenwell = new Tokenwell({ onEvent: (event) => events.push(event) });
  const connection = await tokenwell.open('shop', native(server));
  let url;
  const authorized = connection.authorize({ onUrl: (given) => void (url = given) });
  authorized.catch(() => undefined);
  while (url === undefined) await new Promise((resolve) => setTimeout(resolve, 20));
  await settles(tokenwell.close());
  await assert.rejects(settles(authorized), { code: 'forbidden' });
  const heard = events.length;
  const redirect = new URL(url).searchParams.get('redirect_uri');
  await assert.rejects(fetch(`${redirect}?code=x&state=y`), (error) => error.cause.code === 'ECONNREFUSED');
  for (const call of [() => connection.token(), () => connection.status(), () => tokenwell.open('x', {})]) {
    await assert.rejects(settles(call()), { name: 'ClosedError', code: 'closed' });
  }
  await assert.rejects(settles(connection.completeAuthorization({ url: `${redirect}?code=x&state=y` })), { code: 'closed' });
  assert.equal(events.length, heard);
  await tokenwell.close();
});

test('close waits for a token request that is under way', async (t) => {
  let release;
  let asked;
  const isAsked = new Promise((resolve) => (asked = resolve));
  const { config } = await tokenEndpoint(t, async (n) => {
    asked();
    await new Promise((resolve) => (release = resolve));
    return issuing(n);
  });
  const tokenwell = new Tokenwell();
  const connection = await tokenwell.open('crm', config);
  const token = connection.token();
  await isAsked;
  const closed = tokenwell.close();
  release();
  assert.equal((await settles(token)).accessToken, 't1');
  await settles(closed);
});

test('an event handler that throws disturbs nothing', async (t) => {
  const { config } = await tokenEndpoint(t, issuing);
  const warned = new Promise((resolve) => process.once('warning', resolve));
  const connection = await host(t, {
    onEvent: () => {
      throw new Error('mine');
    },
  }).open('crm', config);
  assert.equal((await connection.token()).accessToken, 't1');
  assert.equal((await settles(warned)).message, 'mine');
});

test('a callback of an authorization that throws, or never settles, ends it', async (t) => {
  const server = await Server.start(t);
  const connection = await host(t, { hostTimeoutMs: 200 }).open('shop', native(server));
  const mine = new Error('no screen');
  await assert.rejects(
    settles(connection.authorize({ onUrl: () => Promise.reject(mine) })),
    (error) => /userAgent\.openUrl failed: no screen/.test(error.message) && error.cause === mine,
  );
  await assert.rejects(settles(connection.authorize({ onUrl: () => new Promise(() => undefined) })), /has not settled within 200 ms/);
});

test('a host without a user agent says that authorization takes two steps', async (t) => {
  const server = await Server.start(t);
  const connection = await host(t, { userAgent: noUserAgent }).open('shop', native(server));
  await assert.rejects(connection.authorize(), { code: 'forbidden', message: /two steps/ });
});

test('secrets of the application that throw or give no text are named', async (t) => {
  const { config } = await tokenEndpoint(t, issuing);
  const resolvers = {
    vault: () => Promise.reject(new Error('sealed shut')),
    number: () => 7,
    good: async (name) => `s3cret-${name}`,
  };
  const tokenwell = host(t, { resolvers });
  const open = (ref) => tokenwell.open('crm', { ...config, client_secret: { ref } });
  await assert.rejects((await open('vault:x')).token(), { message: /sealed shut/ });
  await assert.rejects((await open('number:x')).token(), { message: /secrets\.resolve gives is a number/ });
  await assert.rejects((await open('env:NO_SUCH_VARIABLE_HERE')).token(), { message: /NO_SUCH_VARIABLE_HERE is not set/ });
  await assert.rejects((await open('other:hunter2')).token(), (error) => !error.message.includes('hunter2'));
  assert.equal((await (await open('good:value')).token()).accessToken, 't1');
});

test('a server that never answers is unavailable within the timeout of the config', async (t) => {
  const origin = await serve(t, () => undefined);
  const connection = await host(t).open('crm', {
    token_endpoint: `${origin}/token`,
    grant_type: 'client_credentials',
    client_id: 'c',
    client_secret: 's',
    timeout: 1,
  });
  await assert.rejects(settles(connection.token()), (error) => error.code === 'unavailable' && error.retryAt instanceof Date);
});

test('a server that nobody listens at is unavailable', async (t) => {
  const connection = await host(t).open('crm', {
    token_endpoint: 'http://127.0.0.1:2/token',
    grant_type: 'client_credentials',
    client_id: 'c',
    client_secret: 's',
  });
  await assert.rejects(connection.token(), { name: 'UnavailableError', code: 'unavailable', message: /refused/ });
});

test('an answer whose header fields are many is taken', async (t) => {
  const origin = await serve(t, (_, response) => {
    response.writeHead(200, { 'content-type': 'application/json', 'content-security-policy': 'x'.repeat(50_000) });
    response.end(JSON.stringify(issuing(1).json));
  });
  const config = { token_endpoint: `${origin}/token`, grant_type: 'client_credentials', client_id: 'c', client_secret: 's' };
  const connection = await host(t).open('crm', config);
  assert.equal((await settles(connection.token())).accessToken, 't1');
});

test('an answer that is a redirect, a web page or megabytes is a protocol violation', async (t) => {
  const origin = await serve(t, (request, response) => {
    if (request.url === '/redirect') return response.writeHead(302, { location: '/token' }).end();
    if (request.url === '/page') return response.writeHead(200, { 'content-type': 'text/html' }).end('<html>');
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(`"${'x'.repeat(3 << 20)}"`);
  });
  for (const path of ['redirect', 'page', 'megabytes']) {
    const connection = await host(t).open('crm', {
      token_endpoint: `${origin}/${path}`,
      grant_type: 'client_credentials',
      client_id: 'c',
      client_secret: 's',
    });
    await assert.rejects(settles(connection.token()), { code: 'protocol-violation' }, path);
  }
});
