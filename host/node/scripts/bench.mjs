// Measures the package as it is installed, and prints JSON: medians, in
// microseconds, and what they are of openid-client's, which does the same beside
// it in the same run.
import { spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { installPackage, repository, root } from './prepare.mjs';

const ROUNDS = Number(process.env.TOKENWELL_BENCH_ROUNDS ?? 300);
const TURN = 25;

const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];
const round = (value) => Math.round(value * 100) / 100;

async function timed(work) {
  const begun = performance.now();
  await work();
  return (performance.now() - begun) * 1000;
}

const folder = installPackage();
const server = spawn(process.execPath, ['server.mjs'], {
  cwd: join(repository, 'tests/servers/oidc-provider'),
  stdio: ['pipe', 'pipe', 'ignore'],
});
try {
  const { issuer } = await new Promise((resolve) => server.stdout.once('data', (line) => resolve(JSON.parse(line))));
  const { Tokenwell } = await import(pathToFileURL(join(folder, 'node_modules/tokenwell/dist/index.js')));
  const client = await import(pathToFileURL(join(root, 'node_modules/openid-client/build/index.js')));
  const resource = 'https://api.client.example/';
  const [id, secret] = ['machine-basic', 'machine-basic-secret-77d0'];
  const config = { issuer, grant_type: 'client_credentials', client_id: id, client_secret: secret, resource, scope: 'api:read' };

  const hosts = {
    memory: new Tokenwell(),
    files: new Tokenwell({ directory: join(folder, 'connections') }),
  };
  const connections = {};
  const first = {};
  for (const [kind, host] of Object.entries(hosts)) {
    first[kind] = await timed(async () => {
      connections[kind] = await host.open('crm', config);
      await connections[kind].token();
    });
  }
  const warm = { memory: [], files: [] };
  for (const kind of ['memory', 'files']) {
    for (let i = 0; i < 20_000; i += 1) warm[kind].push(await timed(() => connections[kind].token()));
  }

  // openid-client keeps nothing: its round trip is the request and the check of the answer.
  const configuration = await client.discovery(new URL(issuer), id, undefined, client.ClientSecretBasic(secret), {
    execute: [client.allowInsecureRequests],
  });
  const grant = () => client.clientCredentialsGrant(configuration, { resource, scope: 'api:read' });
  const kinds = {
    memory: () => connections.memory.refresh(),
    openidClient: grant,
    files: () => connections.files.refresh(),
  };
  const cold = { memory: [], openidClient: [], files: [] };
  // By turns, so that what else the machine does meets all of them; the first turn is
  // for the compilers.
  for (let turn = 0; turn <= ROUNDS / TURN; turn += 1) {
    for (const [kind, work] of Object.entries(kinds)) {
      for (let i = 0; i < TURN; i += 1) {
        const time = await timed(work);
        if (turn > 0) cold[kind].push(time);
      }
    }
  }
  const medians = {
    warmTokenMemory: median(warm.memory),
    warmTokenFiles: median(warm.files),
    clientCredentialsMemory: median(cold.memory),
    clientCredentialsFiles: median(cold.files),
    clientCredentialsOpenidClient: median(cold.openidClient),
  };
  const ratio = (value) => round(value / medians.clientCredentialsOpenidClient);
  const result = {
    node: process.version,
    rounds: ROUNDS,
    mediansInMicroseconds: Object.fromEntries(Object.entries(medians).map(([name, value]) => [name, round(value)])),
    ratioToOpenidClient: {
      clientCredentialsMemory: ratio(medians.clientCredentialsMemory),
      clientCredentialsFiles: ratio(medians.clientCredentialsFiles),
    },
    firstTokenInMilliseconds: Object.fromEntries(Object.entries(first).map(([name, value]) => [name, round(value / 1000)])),
    residentMegabytes: Math.round(process.memoryUsage().rss / 2 ** 20),
  };
  console.log(JSON.stringify(result, null, 2));
  for (const host of Object.values(hosts)) await host.close();
} finally {
  server.stdin.end();
  rmSync(folder, { recursive: true, force: true });
}
