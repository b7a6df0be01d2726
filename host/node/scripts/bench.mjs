// Measures the package as it is installed, beside openid-client, which does the same
// in turn in the same run: medians. `npm run bench` prints a table, `npm run --silent
// bench -- --json` one JSON object and nothing else.
import { spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { installPackage, repository, root } from './prepare.mjs';

const ROUNDS = Number(process.env.TOKENWELL_BENCH_ROUNDS ?? 300);
/** The rounds before them, which are for the compilers. */
const WARMING_UP = 100;

const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];
const round = (value) => Math.round(value * 100) / 100;
const asJson = process.argv.includes('--json');

async function timed(work) {
  const begun = performance.now();
  await work();
  return (performance.now() - begun) * 1000;
}

/** The table for people. */
function print(result) {
  const rows = [
    ['', 'store in memory', 'with files', result.peer],
    ['a fresh token', `${result.warm_token_us} µs`, `${result.warm_token_files_us} µs`, 'keeps none'],
    ['client credentials, round trip', ...['round_trip_us', 'round_trip_files_us', 'peer_round_trip_us'].map((name) => `${(result[name] / 1000).toFixed(2)} ms`)],
  ];
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  for (const row of rows) console.log(row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]) : cell.padStart(widths[column]))).join('  '));
  console.log(`\n${result.ratio} times ${result.peer}'s round trip; medians of ${result.rounds}, in turn, Node ${result.version}`);
  console.log(`the first token ${Math.round(result.first_token_ms)} ms after the start, ${result.resident_mb} MB resident`);
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
  const works = {
    memory: () => connections.memory.refresh(),
    peer: () => client.clientCredentialsGrant(configuration, { resource, scope: 'api:read' }),
    files: () => connections.files.refresh(),
  };
  const cold = { memory: [], peer: [], files: [] };
  // Call by call, each as often the first of the two, so that what else the machine does
  // meets both. What waits for the disk comes after them.
  for (const kinds of [['memory', 'peer'], ['files']]) {
    for (let i = -WARMING_UP; i < ROUNDS; i += 1) {
      for (const kind of kinds.reverse()) {
        const time = await timed(works[kind]);
        if (i >= 0) cold[kind].push(time);
      }
    }
  }
  const result = {
    language: 'node',
    version: process.version,
    peer: 'openid-client',
    rounds: ROUNDS,
    warm_token_us: round(median(warm.memory)),
    warm_token_files_us: round(median(warm.files)),
    round_trip_us: round(median(cold.memory)),
    round_trip_files_us: round(median(cold.files)),
    peer_round_trip_us: round(median(cold.peer)),
    ratio: round(median(cold.memory) / median(cold.peer)),
    first_token_ms: round(first.memory / 1000),
    resident_mb: Math.round(process.memoryUsage().rss / 2 ** 20),
  };
  if (asJson) console.log(JSON.stringify(result));
  else print(result);
  for (const host of Object.values(hosts)) await host.close();
} finally {
  server.stdin.end();
  rmSync(folder, { recursive: true, force: true });
}
