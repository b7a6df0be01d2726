// The conformance kit (host/conformance/README.md): its cases, run on this host.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { chmod, cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import { FileStore, LocalSecrets, MemoryStore, SecretError, StoreError, Tokenwell, TokenwellError } from 'tokenwell';

const kit = process.env.TOKENWELL_CONFORMANCE;

/** Fails on what the runner would overlook. */
function known(object, members) {
  for (const name of Object.keys(object)) assert.ok(members.split(' ').includes(name), `the runner does not know ${name}`);
}

async function inDirectory(given, work) {
  const at = await mkdtemp(join(tmpdir(), 'tokenwell-kit-'));
  try {
    if (given.directory) await cp(join(kit, 'files', given.directory), at, { recursive: true });
    else await cp(join(kit, 'tokenwell.key'), join(at, 'tokenwell.key'));
    for (const [name, text] of Object.entries(given.files ?? {})) {
      await mkdir(join(at, name, '..'), { recursive: true });
      await writeFile(join(at, name), text);
    }
    for (const entry of await readdir(at, { recursive: true, withFileTypes: true })) {
      await chmod(join(entry.parentPath ?? entry.path, entry.name), entry.isDirectory() ? 0o700 : 0o600);
    }
    await work(at);
  } finally {
    await rm(at, { recursive: true, force: true });
  }
}

// ---- what is expected ------------------------------------------------------

/** What names are bound to within a case. */
class Bindings extends Map {
  /** Replaces the placeholders that are bound. */
  fill(value) {
    if (typeof value === 'string') return value.replace(/\{\{(\w+)\}\}/g, (whole, name) => this.get(name) ?? whole);
    if (Array.isArray(value)) return value.map((element) => this.fill(element));
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, this.fill(member)]));
  }

  /** Throws where what came is not what is expected. */
  async match(expected, came, where = 'the result') {
    const fail = () => assert.fail(`${where}: expected ${JSON.stringify(this.fill(expected))}, and came ${JSON.stringify(came)}`);
    if (expected === null) return came === null || came === undefined || fail();
    if (typeof expected === 'string') return typeof came === 'string' && this.#text(expected, came) ? undefined : fail();
    if (typeof expected !== 'object') return expected === came || fail();
    if (Array.isArray(expected)) {
      if (!Array.isArray(came) || came.length !== expected.length) fail();
      for (const [i, element] of expected.entries()) await this.match(element, came[i], `${where}[${i}]`);
      return undefined;
    }
    const [special] = Object.keys(expected);
    if (special === 'from-now') {
      const fromNow = came - Date.now() / 1000;
      const [least, most] = expected[special];
      // What is in whole seconds has lost up to one.
      return (typeof came === 'number' && fromNow >= least - 1 && fromNow <= most + 1) || fail();
    }
    if (special === 'jwt') return this.#jwt(expected.jwt, came, where);
    if (typeof came !== 'object' || came === null) fail();
    for (const [name, member] of Object.entries(expected)) await this.match(member, came[name], `${where}.${name}`);
    return undefined;
  }

  #text(expected, came) {
    if (!expected.includes('{{')) return expected === came;
    const names = [];
    const pattern = this.fill(expected)
      .split(/\{\{(\w+)\}\}/)
      .map((part, i) => {
        if (i % 2 === 0) return part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
        names.push(part);
        return names.indexOf(part) < names.length - 1 ? `\\${names.indexOf(part) + 1}` : '([\\s\\S]+?)';
      });
    const found = new RegExp(`^${pattern.join('')}$`).exec(came);
    if (found === null) return false;
    [...new Set(names)].forEach((name, i) => this.set(name, found[i + 1]));
    return true;
  }

  async #jwt({ header, claims, jwk, ...others }, came, where) {
    assert.deepEqual(others, {}, 'the runner does not know more of `jwt`');
    assert.equal(typeof came, 'string', where);
    const [head, body, signature] = came.split('.');
    const parts = [head, body].map((part) => JSON.parse(Buffer.from(part, 'base64url')));
    await this.match(header ?? {}, parts[0], `${where}.header`);
    await this.match(claims ?? {}, parts[1], `${where}.claims`);
    const key = JSON.stringify(jwk ? this.fill(jwk) : parts[0].jwk);
    const verified = verifier.verify(key, parts[0].alg, Buffer.from(`${head}.${body}`), Buffer.from(signature, 'base64url'));
    assert.ok(verified, `${where} is not signed with that key`);
  }
}

const verifier = new LocalSecrets({ store: new MemoryStore(), isVolatile: true });

// ---- store -----------------------------------------------------------------

function bytes(value) {
  if (typeof value === 'string') return Buffer.from(value);
  if ('base64' in value) return Buffer.from(value.base64, 'base64');
  return Buffer.from(Array.from({ length: value.counted }, (_, i) => i % 251));
}

async function stores({ steps, ...rest }, kind, at) {
  known(rest, 'case');
  const bindings = new Bindings();
  const memory = new MemoryStore();
  const handles = new Map();
  const leases = new Map();
  const handle = (name) => {
    if (!handles.has(name)) handles.set(name, kind === 'memory' ? memory : new FileStore(join(at, 'store')));
    return handles.get(name);
  };
  const number = (text) => (text === undefined || text === null ? undefined : BigInt(bindings.fill(text)));
  const entry = ({ version, value }) => ({ version: String(version), value: Buffer.from(value).toString('base64') });

  const call = async (step) => {
    const store = handle(step.on ?? 'a');
    switch (step.call) {
      case 'load': {
        const loaded = await store.load(step.key, number(step.known));
        return loaded === undefined ? 'absent' : loaded === 'unchanged' ? loaded : { entry: entry(loaded) };
      }
      case 'compare-and-swap': {
        const swapped = await store.compareAndSwap(step.key, number(step.expected), bytes(step.value), number(step.fence));
        if (swapped.status === 'stored') return { stored: String(swapped.version) };
        return swapped.status === 'fenced' ? 'fenced' : { stale: swapped.current ? entry(swapped.current) : null };
      }
      case 'delete':
        return store.delete(step.key, number(step.expected));
      case 'acquire-lease': {
        const lease = await store.acquireLease(step.key, step['ttl-milliseconds'], step['wait-milliseconds']);
        if (lease === undefined) return null;
        leases.set(step.lease ?? Symbol('a lease without a name'), lease);
        return { fence: String(lease.fence) };
      }
      case 'release':
        await leases.get(step.lease).release();
        leases.delete(step.lease);
        return null;
      default:
        return assert.fail(`the runner does not know ${step.call}`);
    }
  };

  /** Values of what is expected, in base64 as what came. */
  const inBase64 = (expected) => {
    if (typeof expected !== 'object' || expected === null) return expected;
    return Object.fromEntries(
      Object.entries(expected).map(([name, member]) => [name, name === 'value' ? bytes(member).toString('base64') : inBase64(member)]),
    );
  };

  const perform = async (step) => {
    known(step, 'call on key known expected value fence ttl-milliseconds wait-milliseconds lease gives fails times outcomes meanwhile growing');
    if (step.fails) {
      const error = await Promise.resolve()
        .then(() => call(step))
        .then(() => assert.fail(`${step.call} succeeds`), (failure) => failure);
      assert.ok(error instanceof StoreError, error);
      assert.equal(error.kind, step.fails);
    } else if (step.times) {
      const results = await Promise.all(Array.from({ length: step.times }, () => call(step)));
      const counted = {};
      for (const result of results) {
        const name = result === null ? 'null' : typeof result === 'object' ? Object.keys(result)[0] : String(result);
        counted[name] = (counted[name] ?? 0) + 1;
      }
      assert.deepEqual(counted, step.outcomes);
    } else {
      const pending = Promise.resolve(call(step));
      if (step.meanwhile) {
        pending.catch(() => undefined);
        await new Promise((resolve) => setTimeout(resolve, 50));
        for (const other of step.meanwhile) await perform(other);
      }
      const result = await pending;
      if (step.gives !== undefined) await bindings.match(inBase64(step.gives), result, step.call);
    }
    if (step.growing) {
      const values = step.growing.map((name) => BigInt(bindings.get(name)));
      for (let i = 1; i < values.length; i += 1) assert.ok(values[i] > values[i - 1], `${step.growing} do not grow: ${values}`);
    }
  };

  try {
    for (const step of steps) await perform(step);
  } finally {
    for (const lease of leases.values()) await lease.release();
  }
}

// ---- secrets ---------------------------------------------------------------

async function secrets({ steps, password, ...rest }, at) {
  known(rest, 'case directory files');
  const bindings = new Bindings();
  const held = new LocalSecrets({ directory: at, store: new FileStore(at), password });
  const call = async (step) => {
    switch (step.call) {
      case 'resolve':
        return held.resolve(step.reference);
      case 'sealing-keys': {
        const keys = await held.sealingKeys(step.needed ?? undefined);
        return keys.map(({ id, key }) => ({ id, key: Buffer.from(key).toString('base64') }));
      }
      case 'sign':
        return Buffer.from(await held.sign(step.key, step.algorithm, Buffer.from(step.data))).toString('base64url');
      case 'public-key':
        return JSON.parse(await held.publicKey(step.key));
      case 'verify':
        return held.verify(JSON.stringify(step.jwk), step.algorithm, Buffer.from(step.data), Buffer.from(step.signature, 'base64url'));
      default:
        return assert.fail(`the runner does not know ${step.call}`);
    }
  };
  for (const given of steps) {
    known(given, 'call reference needed key algorithm data jwk signature gives includes fails');
    const { gives, includes, fails, ...rest } = given;
    const step = bindings.fill(rest);
    if (fails) {
      const error = await call(step).then((result) => assert.fail(`${step.call} gives ${JSON.stringify(result)}`), (failure) => failure);
      assert.ok(error instanceof SecretError, error);
      assert.equal(error.kind, fails, error.message);
      continue;
    }
    const result = await call(step);
    if (gives !== undefined) await bindings.match(gives, result, step.call);
    if (includes !== undefined) {
      const matches = await Promise.all(result.map((element) => bindings.match(includes, element).then(() => true, () => false)));
      assert.ok(matches.includes(true), `${JSON.stringify(includes)} is not among ${JSON.stringify(result.map(({ id }) => id))}`);
    }
  }
}

// ---- connections, files, interactive ---------------------------------------

const camel = (name) => name.replace(/-(\w)/g, (_, letter) => letter.toUpperCase());
const kebab = (name) => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
const seconds = (date) => (date === undefined ? undefined : Math.floor(date.getTime() / 1000));
const list = (object) => Object.entries(object ?? {}).map(([name, value]) => ({ name, value }));

/** A record of the contract, of an object of this package. */
function record(value) {
  if (value instanceof Date) return seconds(value);
  if (Array.isArray(value)) return value.map(record);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [kebab(name), record(member)]));
}

function errorRecord({ code: kind, message, problems, serverError, retryAt, violation, storage }) {
  return record({ kind, message, problems, serverError, retryAt, violation, storage });
}

function statusRecord({ state, problems, error, ...rest }) {
  const variant =
    state === 'not-configured' ? { [state]: record(problems) } : state === 'error' ? { error: errorRecord(error) } : state;
  return { ...record(rest), state: variant };
}

const tokenOptions = (options) => Object.fromEntries(Object.entries(options ?? {}).map(([name, value]) => [camel(name), value ?? undefined]));

function authorizationOptions({ parameters, prompt, ...rest } = {}) {
  return {
    ...tokenOptions(rest),
    ...(prompt ? { prompt: prompt.map((word) => word.replace('-', '_')) } : {}),
    ...(parameters ? { parameters: Object.fromEntries(parameters.map(({ name, value }) => [name, value])) } : {}),
  };
}

async function call(tokenwell, connection, name, given, callbacks) {
  switch (name) {
    case 'token':
      return record(await connection.token(tokenOptions(given)));
    case 'refresh':
      return record(await connection.refresh());
    case 'authorization-headers': {
      const { method, url, options, 'dpop-nonce': dpopNonce } = given;
      return connection.authorizationHeaders(method, url, { ...tokenOptions(options), dpopNonce: dpopNonce ?? undefined });
    }
    case 'status':
      return statusRecord(await connection.status());
    case 'check':
      return record(await connection.check());
    case 'resolve':
      return record(await connection.resolve());
    case 'history':
      return (await connection.history()).map(({ details, ...event }) => ({ ...record(event), details: list(details) }));
    case 'response-json':
      return connection.response();
    case 'introspect':
      return connection.introspect();
    case 'userinfo':
      return connection.userinfo();
    case 'begin-authorization':
      return record(await connection.beginAuthorization(authorizationOptions(given)));
    case 'complete-authorization':
      await connection.completeAuthorization('url' in given ? { url: given.url } : { formPost: given['form-post'] });
      return null;
    case 'begin-device-authorization':
      return record(await connection.beginDeviceAuthorization());
    case 'poll-device-authorization': {
      const poll = await connection.pollDeviceAuthorization();
      return poll.status === 'pending' ? { pending: poll.waitSeconds } : 'authorized';
    }
    case 'clear':
    case 'revoke':
    case 'reseal':
      await connection[name]();
      return null;
    case 'discover-resource':
      return tokenwell.discoverResource(given.url);
    case 'register-client': {
      const initialAccessToken = given['initial-access-token'] ?? undefined;
      return tokenwell.registerClient(given.issuer, given.metadata, { initialAccessToken });
    }
    case 'authorize': {
      const { authorization, device, 'timeout-seconds': timeoutSeconds } = given ?? {};
      const options = { ...authorizationOptions(authorization ?? {}), timeoutSeconds: timeoutSeconds ?? undefined, device };
      await connection.authorize({ ...options, ...callbacks });
      return null;
    }
    default:
      return assert.fail(`the runner does not know ${name}`);
  }
}

/** The HTTP server of a case. */
class Player {
  expected = [];
  failures = [];
  #server = createServer((request, response) => void this.#answer(request, response));

  constructor(bindings) {
    this.bindings = bindings;
  }

  async start() {
    await new Promise((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    this.bindings.set('server', `http://127.0.0.1:${this.#server.address().port}`);
  }

  stop() {
    this.#server.closeAllConnections();
    this.#server.close();
  }

  async #answer(request, response) {
    let body = '';
    for await (const chunk of request) body += chunk;
    const exchange = this.expected.shift();
    try {
      assert.ok(exchange, `a request comes that none expects: ${request.method} ${request.url} ${body}`);
      known(exchange, 'request response');
      await this.#match(exchange.request, request, body);
    } catch (error) {
      this.failures.push(error);
      response.writeHead(500).end();
      return;
    }
    if (exchange.response === 'never') return;
    if (exchange.response === 'closed') {
      request.socket.destroy();
      return;
    }
    const given = this.bindings.fill(exchange.response ?? {});
    known(given, 'status headers json text');
    const type = 'json' in given ? 'application/json' : 'text/plain';
    response.writeHead(given.status ?? 200, { 'content-type': type, ...given.headers });
    response.end('json' in given ? JSON.stringify(given.json) : (given.text ?? ''));
  }

  async #match(expected, request, body) {
    known(expected, 'method path query form json headers');
    const url = new URL(request.url, 'http://x');
    await this.bindings.match(expected.method, request.method, 'the method');
    await this.bindings.match(expected.path, url.pathname, 'the path');
    for (const [part, text] of [['query', url.search], ['form', body]]) {
      if (expected[part] === undefined) continue;
      const parameters = Object.fromEntries(new URLSearchParams(text));
      assert.deepEqual(Object.keys(parameters).sort(), Object.keys(expected[part]).sort(), `the ${part}`);
      await this.bindings.match(expected[part], parameters, `the ${part}`);
    }
    if (expected.json !== undefined) await this.bindings.match(expected.json, JSON.parse(body), 'the body');
    await this.bindings.match(expected.headers ?? {}, request.headers, 'the headers');
  }
}

async function connections(given, at) {
  const { steps, password, connection: name = 'shop', unchanged, 'never-shown': neverShown = [], ...rest } = given;
  known(rest, 'case config config-fails directory files');
  const bindings = new Bindings();
  const player = new Player(bindings);
  await player.start();
  let events = [];
  const shown = [];
  const before = await snapshot(at);
  const start = () =>
    new Tokenwell({
      directory: at,
      password,
      onEvent: (event) => {
        events.push(event);
        shown.push(JSON.stringify(event));
      },
    });
  let tokenwell = start();
  try {
    const config = bindings.fill(given.config ?? JSON.parse(await readFile(join(at, `${name}.json`), 'utf8')));
    if (given['config-fails']) {
      const error = await tokenwell.open(name, config).then(() => assert.fail('the config is taken'), (failure) => failure);
      shown.push(error.message);
      await bindings.match(given['config-fails'], record(error.problems), 'the problems');
      return;
    }
    let connection;
    for (const step of steps) {
      known(step, 'call with restart pause-milliseconds times server events gives fails browser shown');
      if (step['pause-milliseconds']) await new Promise((resolve) => setTimeout(resolve, step['pause-milliseconds']));
      if (step.restart) {
        await tokenwell.close();
        tokenwell = start();
        connection = undefined;
      }
      player.expected = structuredClone(step.server ?? []);
      events = [];
      let visits = Promise.resolve();
      let device;
      const callbacks = {
        onUrl: (url) => {
          visits = browse(bindings, url, step.browser ?? []);
          visits.catch(() => undefined);
        },
        onDeviceCode: (code) => {
          device = record(code);
        },
      };
      const once = async () => {
        connection ??= await tokenwell.open(name, config);
        return call(tokenwell, connection, step.call, bindings.fill(step.with), callbacks);
      };
      if (connection === undefined && step.times) connection = await tokenwell.open(name, config);
      const outcomes = await Promise.allSettled(Array.from({ length: step.times ?? 1 }, once));
      await visits;
      if (player.failures.length > 0) throw player.failures[0];
      for (const { status, value, reason } of outcomes) {
        if (step.fails) {
          assert.equal(status, 'rejected', `${step.call} gives ${JSON.stringify(value)}`);
          assert.ok(reason instanceof TokenwellError, reason);
          shown.push(reason.message, JSON.stringify(errorRecord(reason)));
          await bindings.match(step.fails, errorRecord(reason), `the error of ${step.call}`);
        } else {
          if (status === 'rejected') throw reason;
          if (step.gives !== undefined) await bindings.match(step.gives, value, step.call);
        }
      }
      assert.deepEqual(player.expected, [], `requests of ${step.call} that do not come`);
      if (step.events) assert.deepEqual(events.map(({ kind }) => kind), step.events);
      for (const event of events) assert.equal(event.connection, name);
      if (step.shown) await bindings.match(step.shown, device, 'the device authorization');
    }
  } finally {
    player.stop();
    await tokenwell.close();
  }
  for (const text of neverShown) assert.ok(!shown.some((line) => line.includes(bindings.fill(text))), `${text} is shown`);
  if (unchanged) {
    const after = await snapshot(at);
    for (const [file, content] of before) assert.deepEqual(after.get(file), content, `${file} is changed`);
    for (const file of after.keys()) assert.ok(before.has(file) || !file.endsWith('.tokens'), `${file} is new`);
  }
}

async function snapshot(at) {
  const files = (await readdir(at, { withFileTypes: true })).filter((entry) => entry.isFile());
  return new Map(await Promise.all(files.map(async ({ name }) => [name, await readFile(join(at, name))])));
}

/** What the browser and its user do, once the authorization URL is opened. */
async function browse(bindings, url, visits) {
  const query = new URL(url).searchParams;
  bindings.set('state', query.get('state'));
  bindings.set('redirect_uri', query.get('redirect_uri'));
  for (const visit of visits) {
    known(visit, 'query status');
    const redirect = new URL(query.get('redirect_uri'));
    for (const [name, value] of Object.entries(bindings.fill(visit.query))) redirect.searchParams.set(name, value);
    const response = await fetch(redirect);
    await response.text();
    assert.equal(response.status, visit.status, 'the status of the page');
  }
}

// ---- the cases -------------------------------------------------------------

if (!kit || !existsSync(join(kit, 'README.md'))) {
  test('the conformance kit', { skip: 'there is no host/conformance here' }, () => undefined);
} else {
  Object.assign(process.env, JSON.parse(await readFile(join(kit, 'environment.json'), 'utf8')));
  for (const section of ['store', 'secrets', 'connections', 'files', 'interactive']) {
    for (const file of (await readdir(join(kit, section))).filter((name) => name.endsWith('.json'))) {
      for (const given of JSON.parse(await readFile(join(kit, section, file), 'utf8'))) {
        const name = `${section}/${basename(file, '.json')}: ${given.case}`;
        if (section === 'store') {
          for (const kind of ['files', 'memory']) test(`${name} (${kind})`, () => inDirectory(given, (at) => stores(given, kind, at)));
        } else if (section === 'secrets') {
          test(name, () => inDirectory(given, (at) => secrets(given, at)));
        } else {
          test(name, () => inDirectory(given, (at) => connections(given, at)));
        }
      }
    }
  }
}
