// One tokens file for the command line, Node and Python.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFile, readdir, writeFile } from 'node:fs/promises';
import { execPath } from 'node:process';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { directory, host, native, run, Server, succeed, tokenEndpoint, tokenwell as cli, without } from './support.mjs';

const child = join(dirname(fileURLToPath(import.meta.url)), 'child.mjs');

// The build driver names the interpreter that has the package for Python.
const { TOKENWELL_PYTHON: interpreter } = process.env;
const skip = without('python') || (interpreter ? false : 'TOKENWELL_PYTHON names no interpreter that has the package for Python');

const PYTHON = `
import json, sys
import tokenwell
directory, name, config, times = sys.argv[1:]
with tokenwell.open(name, json.loads(config), directory=directory) as connection:
    for _ in range(int(times)):
        token = connection.token()
print(token.access_token)
`;

function python(folder, name, config, times = 1) {
  const { DBUS_SESSION_BUS_ADDRESS: _, PYTHONPATH: __, ...env } = process.env;
  return run(interpreter, ['-c', PYTHON, folder, name, JSON.stringify(config), String(times)], { env, cwd: folder });
}

test('authorized with the command line, used from Python, renewed from Node, looked at with the command line', { skip }, async (t) => {
  const server = await Server.start(t);
  const folder = await directory(t);
  await writeFile(join(folder, 'shop.json'), JSON.stringify(native(server)));
  const { DBUS_SESSION_BUS_ADDRESS: _, ...env } = process.env;
  const authorizing = spawn(process.env.TOKENWELL_CLI, ['--dir', folder, 'authorize', 'shop', '--no-browser', '--json'], { env });
  const ended = new Promise((resolve) => authorizing.on('close', resolve));
  t.after(() => authorizing.kill());
  const line = await new Promise((resolve, reject) => {
    let text = '';
    authorizing.stdout.setEncoding('utf8').on('data', (more) => {
      text += more;
      if (text.includes('\n')) resolve(text.slice(0, text.indexOf('\n')));
    });
    ended.then((status) => reject(new Error(`the command line has ended with ${status}`)));
  });
  const redirect = await server.decide(JSON.parse(line).authorization_url);
  assert.equal((await fetch(redirect)).status, 200);
  assert.equal(await ended, 0);

  const first = await succeed(folder, ['token', 'shop']);
  const fromPython = await python(folder, 'shop', native(server));
  assert.deepEqual([fromPython.status, fromPython.stdout.trim()], [0, first], fromPython.stderr);
  const tokenwell = host(t, { directory: folder });
  const connection = await tokenwell.open('shop', native(server));
  const { accessToken } = await connection.refresh();
  assert.notEqual(accessToken, first);
  assert.equal(await succeed(folder, ['token', 'shop']), accessToken);
  const again = await python(folder, 'shop', native(server));
  assert.equal(again.stdout.trim(), accessToken, again.stderr);
  const status = JSON.parse(await succeed(folder, ['status', 'shop', '--json']));
  assert.equal(status.state, 'authorized');
  assert.deepEqual((await readdir(folder)).filter((name) => name.endsWith('.tokens')), ['shop.tokens']);
  assert.ok(!(await readFile(join(folder, 'shop.tokens'), 'utf8')).includes(accessToken));
});

test('the command line, Node and Python at once on an expired token: one token request', { skip }, async (t) => {
  const { config, requests } = await tokenEndpoint(t, async (n) => {
    // Long enough for all to be waiting.
    if (n > 1) await new Promise((resolve) => setTimeout(resolve, 2000));
    return { json: { access_token: `t${n}`, token_type: 'Bearer', expires_in: n === 1 ? 1 : 3600, refresh_token: `r${n}` } };
  });
  const folder = await directory(t);
  const refreshing = { ...config, grant_type: 'refresh_token', refresh_token: 'r0' };
  await writeFile(join(folder, 'crm.json'), JSON.stringify(refreshing));
  assert.equal(await succeed(folder, ['token', 'crm']), 't1');
  await new Promise((resolve) => setTimeout(resolve, 1500));
  const results = await Promise.all([
    run(execPath, [child, folder, JSON.stringify(refreshing), '10']),
    run(execPath, [child, folder, JSON.stringify(refreshing), '10']),
    python(folder, 'crm', refreshing, 10),
    python(folder, 'crm', refreshing, 10),
    cli(folder, ['token', 'crm']),
    cli(folder, ['token', 'crm']),
  ]);
  for (const { status, stdout, stderr } of results) assert.deepEqual([status, stdout.trim()], [0, 't2'], stderr);
  assert.deepEqual(requests.map(({ refresh_token }) => refresh_token), ['r0', 'r1']);
});
