// The package as it is installed.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { directory, host, machine, run, serve, Server, tokenEndpoint } from './support.mjs';

const { TOKENWELL_REPOSITORY: repository, TOKENWELL_PACKAGE: source } = process.env;
const here = dirname(fileURLToPath(import.meta.url));

test('it has the component that the build made', async () => {
  const digest = async (path) => createHash('sha256').update(await readFile(path)).digest('hex');
  const packed = createRequire(import.meta.url).resolve('tokenwell/component.wasm');
  const built = process.env.TOKENWELL_COMPONENT ?? join(repository, 'target/component/tokenwell-interactive.wasm');
  assert.equal(await digest(packed), await digest(built));
});

test('it has types, and an application that uses them wrongly does not compile', async () => {
  const folder = join(here, '../types-test');
  await mkdir(folder, { recursive: true });
  const options = ['--noEmit', '--strict', '--module', 'nodenext', '--target', 'es2022', '--types', 'node', '--typeRoots', join(source, 'node_modules/@types')];
  const compile = async (text, ...further) => {
    await writeFile(join(folder, 'application.ts'), text);
    return run(process.execPath, [join(source, 'node_modules/typescript/bin/tsc'), ...options, ...further, 'application.ts'], { cwd: folder });
  };
  const good = `import { Tokenwell, TokenwellError, type Token, type TokenStore } from 'tokenwell';
    const tokenwell = new Tokenwell({ directory: 'x' });
    const connection = await tokenwell.open('crm', { grant_type: 'client_credentials', client_secret: { ref: 'env:X' } });
    const token: Token = await connection.token({ signal: AbortSignal.timeout(5) });
    const when: Date | undefined = token.expiresAt;
    export const status: number = (await connection.fetch('https://x')).status;
    export const store: TokenStore | undefined = undefined;
    try {} catch (error) { if (error instanceof TokenwellError) console.log(error.code === 'unavailable', when); }`;
  const compiled = await compile(good);
  assert.equal(compiled.status, 0, compiled.stdout);
  const wrong = await compile(good.replace("'client_credentials'", '7'));
  assert.match(wrong.stdout, /TS2322/);

  // The README's, as strictly as can be, and without the names of a browser.
  const example = (await readFile(join(here, '../examples/crm.mjs'), 'utf8')).replace('CRM_URL', 'CRM_URL!');
  const strict = await compile(example, '--lib', 'es2022', '--skipLibCheck', 'false', '--exactOptionalPropertyTypes');
  assert.equal(strict.status, 0, strict.stdout);
});

test("the README's example runs", async (t) => {
  const example = await readFile(join(here, '../examples/crm.mjs'), 'utf8');
  const readme = await readFile(join(source, 'README.md'), 'utf8');
  assert.ok(readme.includes(example.trim()), 'the README has another example');
  const server = await Server.start(t);
  const api = await serve(t, (request, response) => response.end(request.headers.authorization?.split(' ')[0]));
  const folder = await directory(t);
  const { resource: _, ...config } = machine(server);
  const { status, stdout, stderr } = await run(process.execPath, [join(here, '../examples/crm.mjs')], {
    cwd: folder,
    env: { ...process.env, CRM_ISSUER: server.issuer, CRM_CLIENT_ID: config.client_id, CRM_SECRET: config.client_secret, CRM_URL: api },
  });
  assert.deepEqual([status, stdout.trim()], [0, '200 Bearer'], stderr);
});

test('the event loop goes on while the component works and waits', async (t) => {
  let turns = 0;
  let release;
  const { config } = await tokenEndpoint(t, async () => {
    await new Promise((resolve) => (release = resolve));
    return { json: { access_token: 't', token_type: 'Bearer' } };
  });
  const connection = await host(t, { password: 'correct horse battery staple' }).open('crm', config);
  const token = connection.token();
  // As many turns as it takes: were the thread blocked, the server, which is on it, could not even be asked.
  while (release === undefined || turns < 20) {
    await new Promise((resolve) => setTimeout(resolve, 5));
    turns += 1;
  }
  release();
  assert.equal((await token).accessToken, 't');
});

test('a process with nothing under way ends by itself', async (t) => {
  const folder = await directory(t);
  const { config } = await tokenEndpoint(t, () => ({ json: { access_token: 't1', token_type: 'Bearer' } }));
  const { status, stdout } = await run(process.execPath, [join(here, 'child.mjs'), folder, JSON.stringify(config), '1']);
  assert.deepEqual([status, stdout.trim()], [0, 't1']);
});
