// What the tests have in common: the authorization server, the browser and the
// command line of the repository.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { Tokenwell } from 'tokenwell';

const { TOKENWELL_REPOSITORY: repository, TOKENWELL_CLI: cli } = process.env;
assert.ok(repository, 'run the tests by `npm test`');

/** What the server's clients are for: its resource. */
export const RESOURCE = 'https://api.client.example/';

/** A machine's config for a server. */
export const machine = (server) => ({
  issuer: server.issuer,
  grant_type: 'client_credentials',
  client_id: 'machine-basic',
  client_secret: 'machine-basic-secret-77d0',
  resource: RESOURCE,
  scope: 'api:read',
});

/** A user's config for a server. */
export const native = (server) => ({
  issuer: server.issuer,
  client_id: 'native',
  token_endpoint_auth_method: 'none',
  scope: 'openid offline_access',
});

/** Skips a test loudly where the machine is known to lack the part. */
export function without(part) {
  const lacking = (process.env.TOKENWELL_TEST_WITHOUT ?? '').split(',').some((named) => named.trim() === part);
  if (!lacking) return false;
  console.error(`NOT TESTED: this machine has no ${part}`);
  return `this machine has no ${part}`;
}

/** A directory that goes with the test. */
export async function directory(t) {
  const path = await mkdtemp(join(tmpdir(), 'tokenwell-test-'));
  t.after(() => rm(path, { recursive: true, force: true }));
  return path;
}

/** Runs a program to its end. */
export function run(program, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
    let [stdout, stderr] = ['', ''];
    child.stdout.setEncoding('utf8').on('data', (text) => (stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text) => (stderr += text));
    child.on('error', reject);
    child.on('close', (status) => resolve({ status, stdout, stderr }));
  });
}

/** Runs the command line on a directory of connections, without the keyring. */
export async function tokenwell(directory, args, env = {}) {
  assert.ok(existsSync(cli), `there is no command line at ${cli}: run \`cargo xtask build\`, or set TOKENWELL_CLI`);
  const { DBUS_SESSION_BUS_ADDRESS: _, ...inherited } = process.env;
  return run(cli, ['--dir', directory, ...args], { env: { ...inherited, ...env } });
}

/** The same, and its standard output, where it has to succeed. */
export async function succeed(directory, args, env) {
  const { status, stdout, stderr } = await tokenwell(directory, args, env);
  assert.equal(status, 0, `tokenwell ${args.join(' ')}: ${stderr}`);
  return stdout.trim();
}

/** The authorization server of the repository's own tests. */
export class Server {
  /** Starts one; `env` is as the server's script has it. */
  static async start(t, env = {}) {
    const folder = join(repository, 'tests/servers/oidc-provider');
    const child = spawn(process.execPath, ['server.mjs'], {
      cwd: folder,
      env: { ...process.env, ...env },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', (text) => (stderr += text));
    const ended = new Promise((resolve) => child.on('close', resolve));
    t.after(async () => {
      child.stdin.end();
      await ended;
    });
    const ready = await new Promise((resolve, reject) => {
      let text = '';
      child.stdout.setEncoding('utf8').on('data', (more) => {
        text += more;
        if (text.includes('\n')) resolve(text);
      });
      child.on('close', () => reject(new Error(`the server has ended: ${stderr}`)));
    });
    return Object.assign(new Server(), JSON.parse(ready));
  }

  /** What clients sent to a path. */
  async requests(path) {
    const response = await fetch(`${this.control}/_test/requests`);
    return (await response.json()).filter((request) => request.path === path);
  }

  async forget() {
    await fetch(`${this.control}/_test/requests`, { method: 'DELETE' });
  }

  /** Makes an access token invalid behind the client's back. */
  async invalidate(token) {
    const response = await fetch(`${this.control}/_test/access-token?${encodeURIComponent(token)}`, { method: 'DELETE' });
    assert.ok(response.ok);
  }

  /** Takes a user through the pages over plain HTTP, and gives the redirect to the client. */
  async decide(authorizationUrl) {
    const visitor = new Visitor();
    let next = await visitor.redirect(authorizationUrl);
    for (let i = 0; i < 10 && new URL(next).origin === this.issuer; i += 1) {
      next = new URL(next).pathname.startsWith('/interaction/')
        ? await visitor.interact(next)
        : await visitor.redirect(next);
    }
    return next;
  }

  /** Takes a user who was shown a device's URL through the pages. */
  async decideForDevice(verificationUriComplete) {
    const visitor = new Visitor();
    const url = new URL(verificationUriComplete);
    const place = url.origin + url.pathname;
    const code = url.searchParams.get('user_code');
    const hidden = (page) => /name="xsrf" value="([^"]*)"/.exec(page)[1];
    let page = await visitor.page(verificationUriComplete);
    page = await visitor.page(place, { xsrf: hidden(page), user_code: code });
    let next = await visitor.redirect(place, { xsrf: hidden(page), user_code: code, confirm: 'yes' });
    for (let i = 0; i < 10 && next !== undefined; i += 1) {
      next = next.includes('/interaction/') ? await visitor.interact(next) : await visitor.redirect(next);
    }
    assert.equal(next, undefined, 'the pages go in a circle');
  }
}

/** A user who follows redirects one at a time and keeps cookies. */
class Visitor {
  cookies = new Map();

  async visit(url, form) {
    const response = await fetch(url, {
      method: form ? 'POST' : 'GET',
      redirect: 'manual',
      headers: { cookie: [...this.cookies].map((pair) => pair.join('=')).join('; ') },
      body: form && new URLSearchParams(form),
    });
    for (const cookie of response.headers.getSetCookie()) {
      const [name, ...value] = cookie.split(';')[0].split('=');
      this.cookies.set(name, value.join('='));
    }
    return response;
  }

  async page(url, form) {
    return (await this.visit(url, form)).text();
  }

  /** Where it leads; `undefined` where it is the end. */
  async redirect(url, form) {
    const location = (await this.visit(url, form)).headers.get('location');
    return location === null ? undefined : new URL(location, url).href;
  }

  async interact(url) {
    const isLogin = (await this.page(url)).includes('name="prompt" value="login"');
    return this.redirect(
      url,
      isLogin ? { prompt: 'login', login: 'alice', password: 'wonderland' } : { prompt: 'consent' },
    );
  }
}

/** Takes a user through the pages in headless Chromium; gives what the script of the repository prints. */
export async function browse(url, args = []) {
  const path = (process.env.PATH ?? '').split(delimiter);
  const found = ['chromium', 'chromium-browser', 'google-chrome'].flatMap((name) => path.map((folder) => join(folder, name)));
  const chromium = process.env.CHROMIUM ?? found.find((file) => existsSync(file));
  assert.ok(chromium, 'there is no Chromium: set CHROMIUM to its path');
  const script = join(repository, 'tests/browser/login.mjs');
  const { stdout, stderr } = await run(process.execPath, [script, ...args, url], {
    cwd: join(repository, 'tests/browser'),
    env: { ...process.env, CHROMIUM: chromium },
  });
  assert.ok(stdout, `the browser did not get through: ${stderr}`);
  return JSON.parse(stdout);
}

/** An HTTP server of the test's own, on a free port of 127.0.0.1; gives its origin. */
export async function serve(t, answer) {
  const server = createServer(answer);
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${server.address().port}`;
}

/** A token endpoint of the test's own. */
export async function tokenEndpoint(t, answer) {
  const requests = [];
  const origin = await serve(t, async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    requests.push(Object.fromEntries(new URLSearchParams(body)));
    const { status = 200, json } = await answer(requests.length, requests.at(-1));
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(JSON.stringify(json));
  });
  const config = {
    token_endpoint: `${origin}/token`,
    grant_type: 'client_credentials',
    client_id: 'c',
    client_secret: 's3cret-value',
  };
  return { origin, requests, config };
}

/** Whether a promise settles within a generous time; the test's own measure against hanging. */
export async function settles(promise, ms = 60_000) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('it hangs')), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** A module of the package that is not for applications. */
export const internal = (name) => import(new URL(`${name}.js`, import.meta.resolve('tokenwell')));

/** A host that is closed with the test. */
export function host(t, options) {
  const tokenwell = new Tokenwell(options);
  t.after(() => tokenwell.close());
  return tokenwell;
}
