// What `npm test` and `npm run bench` begin with: a clean checkout becomes a
// package that is installed, from its tarball, in a folder of its own. Needs Node
// and npm alone.
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = join(dirname(fileURLToPath(import.meta.url)), '..');
export const repository = join(root, '../..');

/** Runs a command; what it prints goes to standard error. */
export function run(command, args, cwd) {
  const { status, error } = spawnSync(command, args, { cwd, stdio: ['ignore', 2, 2] });
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(`\`${[command, ...args].join(' ')}\` in ${cwd} ended with ${status}`);
}

const npm = process.platform === 'win32' ? 'npm.cmd' : 'npm';
const quiet = ['--no-audit', '--no-fund', '--loglevel=error'];

/** Installs what a lock file pins, unless that has been done. */
export function installPinned(folder) {
  const [installed, locked] = ['node_modules/.package-lock.json', 'package-lock.json'].map((file) => join(folder, file));
  if (existsSync(installed) && statSync(installed).mtimeMs >= statSync(locked).mtimeMs) return;
  run(npm, ['ci', '--ignore-scripts', ...quiet], folder);
}

/** Whether the build driver says that the machine lacks a part. */
export function isLacking(part) {
  return (process.env.TOKENWELL_TEST_WITHOUT ?? '').split(',').some((named) => named.trim() === part);
}

/** Builds and packs the package and installs it in a clean folder, which it gives, with the tests in it. */
export function installPackage() {
  installPinned(root);
  installPinned(join(repository, 'tests/servers/oidc-provider'));
  if (!isLacking('browser')) installPinned(join(repository, 'tests/browser'));
  run(process.execPath, [join(root, 'scripts/build.mjs')], root);

  const folder = mkdtempSync(join(tmpdir(), 'tokenwell-node-'));
  run(npm, ['pack', '--pack-destination', folder, '--loglevel=error'], root);
  const [tarball] = readdirSync(folder).filter((name) => name.endsWith('.tgz'));
  writeFileSync(join(folder, 'package.json'), '{"name":"an-application","private":true,"type":"module"}\n');
  run(npm, ['install', '--ignore-scripts', '--prefer-offline', ...quiet, `./${tarball}`], folder);
  for (const name of ['tests', 'examples']) cpSync(join(root, name), join(folder, name), { recursive: true });
  return folder;
}
