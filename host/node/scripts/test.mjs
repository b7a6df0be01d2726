// Tests the package as it is installed: `npm test`. Arguments are passed on to
// `node --test`, such as `--test-name-pattern=…`; TOKENWELL_TEST_ONLY=fetch,tls runs the
// files whose names begin so.
import { spawnSync } from 'node:child_process';
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { installPackage, repository, root } from './prepare.mjs';

const folder = installPackage();
try {
  const only = process.env.TOKENWELL_TEST_ONLY;
  const files = readdirSync(join(folder, 'tests')).filter((name) => name.endsWith('.test.mjs') && (!only || only.split(',').some((word) => name.startsWith(word))));
  const { status } = spawnSync(
    process.execPath,
    ['--test', '--test-reporter=tap', ...process.argv.slice(2), ...files.map((name) => join('tests', name))],
    {
      cwd: folder,
      stdio: ['ignore', 'inherit', 'inherit'],
      env: {
        ...process.env,
        TOKENWELL_REPOSITORY: repository,
        TOKENWELL_PACKAGE: root,
        TOKENWELL_CLI: process.env.TOKENWELL_CLI ?? join(repository, 'target/release/tokenwell'),
        TOKENWELL_CONFORMANCE: process.env.TOKENWELL_CONFORMANCE ?? join(repository, 'host/conformance'),
      },
    },
  );
  process.exitCode = status ?? 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
