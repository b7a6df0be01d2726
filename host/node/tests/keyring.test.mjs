// The operating system's keyring: a real one, GNOME's, on a D-Bus session of its own.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { directory, run, succeed, tokenEndpoint, without } from './support.mjs';

const here = dirname(fileURLToPath(import.meta.url));

// It starts no service by itself: the system's own would start a second, locked keyring.
const BUS = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:tmpdir=/tmp</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
`;

/** Starts an unlocked Secret Service that nobody else sees; gives the environment that it is found by. */
async function secretService(t) {
  const home = await directory(t);
  await writeFile(join(home, 'bus.conf'), BUS);
  const begin = (program, args, env) => {
    const child = spawn(program, args, { env: { ...process.env, HOME: home, ...env }, stdio: ['pipe', 'pipe', 'ignore'] });
    const ended = new Promise((resolve) => child.on('close', resolve));
    t.after(async () => {
      child.kill();
      await ended;
    });
    return child;
  };
  const bus = begin('dbus-daemon', ['--nofork', '--nopidfile', '--print-address', `--config-file=${join(home, 'bus.conf')}`]);
  const address = await new Promise((resolve, reject) => {
    bus.on('error', reject);
    bus.stdout.setEncoding('utf8').once('data', (line) => resolve(line.trim()));
  });
  const env = { DBUS_SESSION_BUS_ADDRESS: address };
  const daemon = begin('gnome-keyring-daemon', ['--foreground', '--unlock', '--components=secrets'], {
    ...env,
    XDG_RUNTIME_DIR: home,
    XDG_DATA_HOME: home,
  });
  // The password of the login keyring, which is made now.
  daemon.stdin.end('test');
  const destination = ['--session', '--print-reply=literal', '--dest=org.freedesktop.secrets', '/org/freedesktop/secrets'];
  const ask = [...destination, 'org.freedesktop.Secret.Service.ReadAlias', 'string:default'];
  for (;;) {
    const { stdout } = await run('dbus-send', ask, { env: { ...process.env, ...env } });
    if (stdout.includes('/collection/')) return env;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

test('what the command line keeps in the keyring, Node opens where the application has the package for it', { skip: without('keyring') }, async (t) => {
  const env = await secretService(t);
  const folder = await directory(t);
  const { config, requests } = await tokenEndpoint(t, (n) => ({ json: { access_token: `t${n}`, token_type: 'Bearer', expires_in: 3600 } }));
  // The first record makes the key.
  await writeFile(join(folder, 'crm.json'), JSON.stringify(config));
  assert.equal(await succeed(folder, ['token', 'crm'], env), 't1');

  const inSession = { env: { ...process.env, ...env } };
  const child = (where, given) => run(process.execPath, [join(here, 'child.mjs'), where, JSON.stringify(given), '1'], inSession);
  const lacking = await child(folder, config);
  assert.notEqual(lacking.status, 0);
  assert.match(lacking.stderr, /@napi-rs\/keyring/);

  await symlink(join(process.env.TOKENWELL_PACKAGE, 'node_modules/@napi-rs'), join(here, '../node_modules/@napi-rs'));
  const opened = await child(folder, config);
  assert.deepEqual([opened.stdout.trim(), requests.length], ['t1', 1], opened.stderr);

  // A secret that is kept there, and one that is not.
  await run('sh', ['-c', 'echo hunter2 | "$TOKENWELL_CLI" --dir "$0" seal crm-secret --keyring', folder], inSession);
  const other = await directory(t);
  const referring = (name) => ({ ...config, client_secret: { ref: `keyring:${name}` }, token_endpoint_auth_method: 'client_secret_post' });
  const resolved = await child(other, referring('crm-secret'));
  assert.deepEqual([resolved.stdout.trim(), requests.at(-1).client_secret], ['t2', 'hunter2'], resolved.stderr);
  const missing = await child(await directory(t), referring('missing'));
  assert.match(missing.stderr, /nothing under tokenwell\/missing/);
});
