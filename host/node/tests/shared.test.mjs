// One directory, shared with the command line and with other processes.
import assert from 'node:assert/strict';
import { execPath } from 'node:process';
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { FileStore, MemoryStore } from 'tokenwell';
import { host, directory, machine, native, run, Server, succeed, tokenEndpoint, tokenwell as cli } from './support.mjs';

const child = join(dirname(fileURLToPath(import.meta.url)), 'child.mjs');

test('authorized with the command line, used from Node, looked at with the command line', async (t) => {
  const server = await Server.start(t);
  const folder = await directory(t);
  await writeFile(join(folder, 'shop.json'), JSON.stringify({ ...native(server), redirect_uri: 'http://127.0.0.1:1/oauth2' }));
  const tokenwell = host(t, { directory: folder });
  const config = JSON.parse(await readFile(join(folder, 'shop.json'), 'utf8'));
  const connection = await tokenwell.open('shop', config);
  // The command line cannot listen on port 1, so it is begun here and completed there.
  const { authorizationUrl } = await connection.beginAuthorization();
  await succeed(folder, ['complete', 'shop', await server.decide(authorizationUrl)]);

  const theirs = await succeed(folder, ['token', 'shop']);
  assert.equal((await connection.token()).accessToken, theirs);
  const renewed = await connection.refresh();
  assert.notEqual(renewed.accessToken, theirs);
  assert.equal(await succeed(folder, ['token', 'shop']), renewed.accessToken);
  const status = JSON.parse(await succeed(folder, ['status', 'shop', '--json']));
  assert.match(JSON.stringify(status), /authorized/);
  assert.match(await succeed(folder, ['history', 'shop']), /renew/i);
  assert.deepEqual((await readdir(folder)).filter((name) => name.endsWith('.tokens')), ['shop.tokens']);
  assert.ok(!(await readFile(join(folder, 'shop.tokens'), 'utf8')).includes(renewed.accessToken));
});

test('what Node has begun and sealed first, the command line opens', async (t) => {
  const server = await Server.start(t);
  const folder = await directory(t);
  await writeFile(join(folder, 'crm.json'), JSON.stringify(machine(server)));
  const tokenwell = host(t, { directory: folder });
  const connection = await tokenwell.open('crm', machine(server));
  const { accessToken } = await connection.token();
  assert.equal(await succeed(folder, ['token', 'crm']), accessToken);
  for (const file of ['tokenwell.key', 'crm.tokens', 'tokenwell.keys']) {
    assert.equal((await stat(join(folder, file))).mode & 0o777, 0o600, file);
  }
});

test('a token that the command line has cleared or renewed is not handed out again', async (t) => {
  const server = await Server.start(t);
  const folder = await directory(t);
  await writeFile(join(folder, 'crm.json'), JSON.stringify(machine(server)));
  const tokenwell = host(t, { directory: folder });
  const connection = await tokenwell.open('crm', machine(server));
  const { accessToken } = await connection.token();
  assert.equal((await connection.token()).accessToken, accessToken);
  await succeed(folder, ['refresh', 'crm']);
  const theirs = await succeed(folder, ['token', 'crm']);
  assert.notEqual(theirs, accessToken);
  assert.equal((await connection.token()).accessToken, theirs);
  await succeed(folder, ['clear', 'crm']);
  assert.notEqual((await connection.token()).accessToken, theirs);
});

test('the command line and several Node processes on an expired token: one token request', async (t) => {
  const lifetimes = [1, 3600];
  const { config, requests } = await tokenEndpoint(t, async (n) => {
    // Long enough for all to be waiting.
    if (n > 1) await new Promise((resolve) => setTimeout(resolve, 500));
    return { json: { access_token: `t${n}`, token_type: 'Bearer', expires_in: lifetimes[Math.min(n, 2) - 1], refresh_token: `r${n}` } };
  });
  const folder = await directory(t);
  const refreshing = { ...config, grant_type: 'refresh_token', refresh_token: 'r0' };
  await writeFile(join(folder, 'crm.json'), JSON.stringify(refreshing));
  assert.equal(await succeed(folder, ['token', 'crm']), 't1');
  await new Promise((resolve) => setTimeout(resolve, 1500));
  const results = await Promise.all([
    ...Array.from({ length: 4 }, () => run(execPath, [child, folder, JSON.stringify(refreshing), '25'])),
    ...Array.from({ length: 3 }, () => cli(folder, ['token', 'crm'])),
  ]);
  for (const { status, stdout, stderr } of results) assert.deepEqual([status, stdout.trim()], [0, 't2'], stderr);
  assert.deepEqual(requests.map(({ refresh_token }) => refresh_token), ['r0', 'r1']);
});

test('a process that is killed while it holds the lease keeps nobody waiting', async (t) => {
  const { spawn } = await import('node:child_process');
  const { config, requests } = await tokenEndpoint(t, async (n) => {
    if (n === 1) {
      killed.kill('SIGKILL');
      await new Promise(() => undefined);
    }
    return { json: { access_token: `t${n}`, token_type: 'Bearer', expires_in: 3600 } };
  });
  const folder = await directory(t);
  const killed = spawn(execPath, [child, folder, JSON.stringify(config), '1'], { stdio: 'ignore' });
  await new Promise((resolve) => killed.on('exit', resolve));
  const tokenwell = host(t, { directory: folder });
  const connection = await tokenwell.open('crm', config);
  assert.equal((await connection.token()).accessToken, 't2');
  assert.ok((await connection.history()).some(({ kind }) => kind === 'renewal-interrupted'));
  assert.equal(requests.length, 2);
});

test('a lease that Node holds is held for others, until it is released', async (t) => {
  const folder = await directory(t);
  const [one, other] = [new FileStore(folder), new FileStore(folder)];
  const lease = await one.acquireLease('crm.tokens', 60_000, 0);
  assert.equal(await other.acquireLease('crm.tokens', 60_000, 30), undefined);
  await lease.release();
  const next = await other.acquireLease('crm.tokens', 60_000, 0);
  assert.ok(next.fence > lease.fence);
  assert.deepEqual(await one.compareAndSwap('crm.tokens', undefined, Buffer.from('x'), lease.fence), { status: 'fenced' });
  await next.release();
});

for (const [first, second] of [['node', 'cli'], ['cli', 'node']]) {
  test(`under a master password, what ${first} has sealed ${second} opens`, async (t) => {
    const server = await Server.start(t);
    const folder = await directory(t);
    await writeFile(join(folder, 'crm.json'), JSON.stringify(machine(server)));
    const password = 'correct horse battery staple';
    const fromNode = async () => {
      const tokenwell = host(t, { directory: folder, password });
      return (await (await tokenwell.open('crm', machine(server))).token()).accessToken;
    };
    const fromCli = () => succeed(folder, ['token', 'crm'], { TOKENWELL_PASSWORD: password });
    const [one, other] = first === 'node' ? [fromNode, fromCli] : [fromCli, fromNode];
    const token = await one();
    assert.equal(await other(), token);
    assert.ok(!(await readdir(folder)).includes('tokenwell.key'));

    const wrong = host(t, { directory: folder, password: 'wrong' });
    const connection = await wrong.open('crm', machine(server));
    await assert.rejects(connection.token(), (error) => error.code === 'storage' && error.storage === 'wrong-key' && !error.message.includes('wrong horse'));
  });
}

test('a store that the command line has given another key opens, and so does a secret that it has sealed', async (t) => {
  const server = await Server.start(t);
  const folder = await directory(t);
  const config = { ...machine(server), client_secret: { ref: 'sealed:crm-secret' } };
  await writeFile(join(folder, 'crm.json'), JSON.stringify(config));
  await writeFile(join(folder, 'secret'), 'machine-basic-secret-77d0');
  await succeed(folder, ['token', 'crm', '--set', 'client_secret={"ref":"file:secret"}']);
  const { spawnSync } = await import('node:child_process');
  const { DBUS_SESSION_BUS_ADDRESS: _, ...env } = process.env;
  const sealed = spawnSync(process.env.TOKENWELL_CLI, ['--dir', folder, 'seal', 'crm-secret'], { input: 'machine-basic-secret-77d0\n', env });
  assert.equal(sealed.status, 0, String(sealed.stderr));
  await succeed(folder, ['rekey']);
  const tokenwell = host(t, { directory: folder });
  const connection = await tokenwell.open('crm', config);
  assert.equal((await connection.refresh()).tokenType, 'Bearer');
  await connection.reseal();
  await succeed(folder, ['status', 'crm']);
});

/** A store of its own in that directory, with what the key file then has. */
async function sealedIn(t, folder, options = {}) {
  const { config } = await tokenEndpoint(t, () => ({ json: { access_token: 't', token_type: 'Bearer' } }));
  await (await host(t, { directory: folder, ...options }).open('crm', config)).token();
  return keyFile(folder);
}

const keyFile = async (folder) => JSON.parse(await readFile(join(folder, 'tokenwell.key'), 'utf8'));

test('a key that a store finds in the key file may be of another, and stays there when the command line replaces it', async (t) => {
  const [one, two] = [await directory(t), await directory(t)];
  const made = await sealedIn(t, one);
  assert.deepEqual(Object.keys(made), ['format', 'id', 'key']);
  // The store that it was made for begins with it once.
  assert.deepEqual(await sealedIn(t, one), made);

  const further = (id, shared) => ({ id, key: Buffer.alloc(32, id).toString('base64'), ...shared });
  const others = [further('11111111'), further('22222222', { shared: true })];
  await writeFile(join(two, 'tokenwell.key'), JSON.stringify({ ...made, others }), { mode: 0o600 });
  assert.deepEqual(await sealedIn(t, two), { ...made, shared: true, others });
  assert.equal((await stat(join(two, 'tokenwell.key'))).mode & 0o777, 0o600);

  await succeed(two, ['rekey', '--to', 'key-file']);
  const { id, key } = made;
  const after = await keyFile(two);
  assert.deepEqual(after.others.at(-1), { id, key, shared: true });
  assert.notEqual(after.id, id);
});

test('a key that a store finds in a key file that cannot be changed seals all the same', async (t) => {
  const [one, two] = [await directory(t), await directory(t)];
  const made = await sealedIn(t, one);
  await writeFile(join(two, 'tokenwell.key'), JSON.stringify(made), { mode: 0o600 });
  // Where the lock would be.
  await writeFile(join(two, '.locks'), '');
  const store = new MemoryStore();
  assert.deepEqual(await sealedIn(t, two, { store }), made);
  const { value } = await store.load('tokenwell.keys', undefined);
  assert.equal(JSON.parse(Buffer.from(value).toString('utf8')).current, made.id);
});

test('a damaged record is told of and left as it is', async (t) => {
  const { config } = await tokenEndpoint(t, () => ({ json: { access_token: 't', token_type: 'Bearer' } }));
  const folder = await directory(t);
  const tokenwell = host(t, { directory: folder });
  const connection = await tokenwell.open('crm', config);
  await connection.token();
  const file = join(folder, 'crm.tokens');
  await writeFile(file, '{"format":"tokenwell-rec');
  await assert.rejects(connection.token(), { code: 'storage', storage: 'corrupt' });
  assert.equal(await readFile(file, 'utf8'), '{"format":"tokenwell-rec');
});
