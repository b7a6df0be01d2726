// oidc-provider (panva) as the authorization server of the tests, on a free
// port of 127.0.0.1. When it is ready it prints one line, {"issuer": …}; it
// ends when its standard input closes, so that it cannot outlive its test.
//
// Lifetimes in seconds come from the environment: ACCESS_TOKEN_TTL,
// REFRESH_TOKEN_TTL, AUTHORIZATION_CODE_TTL.
//
// GET /_test/requests tells what clients sent, DELETE forgets it. DELETE
// /_test/access-token?TOKEN makes that token invalid and leaves its grant alone,
// which revocation does not.
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import http from 'node:http';

// Standard output is for the one line.
console.info = console.error;
console.warn = console.error;

// oidc-provider wants Node 22 for URL.parse alone; with it, it runs on Node 20.
URL.parse ??= (url, base) => (URL.canParse(url, base) ? new URL(url, base) : null);
const { default: Provider } = await import('oidc-provider');

const LOOPBACK = '127.0.0.1';

const seconds = (name, otherwise) => {
  const value = Number(process.env[name] ?? otherwise);
  if (!Number.isInteger(value) || value < 1) throw new Error(`${name} is not a number of seconds`);
  return value;
};

const user = {
  grant_types: ['authorization_code', 'refresh_token'],
  response_types: ['code'],
  redirect_uris: ['https://client.example/oauth2'],
};
const machine = { grant_types: ['client_credentials'], response_types: [], redirect_uris: [] };

const clients = [
  {
    ...user,
    client_id: 'native',
    application_type: 'native',
    token_endpoint_auth_method: 'none',
    // A native client's loopback redirect URIs match on any port (RFC 8252).
    redirect_uris: ['http://127.0.0.1/oauth2', 'http://[::1]/oauth2'],
  },
  {
    ...user,
    client_id: 'web-basic',
    client_secret: 'web-basic-secret-3f1c',
    token_endpoint_auth_method: 'client_secret_basic',
  },
  {
    ...user,
    client_id: 'web-post',
    client_secret: 'web-post-secret-91ab',
    token_endpoint_auth_method: 'client_secret_post',
  },
  {
    ...machine,
    client_id: 'machine-basic',
    client_secret: 'machine-basic-secret-77d0',
    token_endpoint_auth_method: 'client_secret_basic',
  },
  {
    ...machine,
    client_id: 'machine-post',
    client_secret: 'machine-post-secret-c24e',
    token_endpoint_auth_method: 'client_secret_post',
  },
  {
    // Right in a Basic header only when form-encoded first (RFC 6749 section 2.3.1).
    ...machine,
    client_id: 'odd:client id+%/~',
    client_secret: 'p:ss w%rd+/=&?~!',
    token_endpoint_auth_method: 'client_secret_basic',
  },
  {
    // The resource server's own identity: it introspects and nothing else.
    client_id: 'resource-server',
    client_secret: 'resource-server-secret-08be',
    token_endpoint_auth_method: 'client_secret_basic',
    grant_types: [],
    response_types: [],
    redirect_uris: [],
  },
];

const signingKey = {
  ...generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' }),
  kid: 'signing',
  use: 'sig',
};

const configuration = {
  clients,
  jwks: { keys: [signingKey] },
  cookies: { keys: [randomBytes(32).toString('hex')] },
  scopes: ['openid', 'offline_access', 'api:read', 'api:write'],
  claims: { openid: ['sub'], email: ['email'] },
  clientAuthMethods: ['none', 'client_secret_basic', 'client_secret_post'],
  pkce: { required: () => true },
  responseTypes: ['code'],
  // Rotated with every use; a second use of one revokes the whole grant.
  rotateRefreshToken: true,
  // Whoever signs in exists.
  findAccount: (_, sub) => ({
    accountId: sub,
    claims: () => ({ sub, email: `${sub}@client.example` }),
  }),
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: true },
    introspection: { enabled: true },
    revocation: { enabled: true },
    userinfo: { enabled: true },
  },
  ttl: {
    AccessToken: seconds('ACCESS_TOKEN_TTL', 3600),
    ClientCredentials: seconds('ACCESS_TOKEN_TTL', 3600),
    RefreshToken: seconds('REFRESH_TOKEN_TTL', 86400),
    AuthorizationCode: seconds('AUTHORIZATION_CODE_TTL', 60),
    IdToken: 3600,
    Interaction: 3600,
    Session: 86400,
    Grant: 86400,
  },
};

const requests = [];

async function record(ctx, next) {
  const entry = {
    method: ctx.method,
    path: ctx.path,
    query: { ...ctx.query },
    headers: { ...ctx.headers },
    form: null,
    status: null,
    response: null,
  };
  requests.push(entry);
  await next();
  entry.status = ctx.status;
  if (ctx.oidc?.body) entry.form = { ...ctx.oidc.body };
  // What was issued, so that a test can look for it where it must not be.
  if (ctx.path === '/token') entry.response = { ...ctx.body };
}

async function control(request, response) {
  const { pathname, search } = new URL(request.url, issuer);
  if (pathname === '/_test/access-token') {
    const token = await provider.AccessToken.find(decodeURIComponent(search.slice(1)));
    await token.destroy();
  } else if (request.method === 'DELETE') {
    requests.length = 0;
  }
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify(requests));
}

// The issuer has the port in its name: listen first.
const server = http.createServer();
await new Promise((resolve) => server.listen(0, LOOPBACK, resolve));
const issuer = `http://${LOOPBACK}:${server.address().port}`;

const provider = new Provider(issuer, configuration);
provider.use(record);
provider.on('server_error', (_, error) => console.error(error));
const answer = provider.callback();
server.on('request', (request, response) =>
  (request.url.startsWith('/_test/') ? control : answer)(request, response));

for (const event of ['end', 'close', 'error']) process.stdin.on(event, () => process.exit(0));
process.stdin.resume();
process.stdout.write(`${JSON.stringify({ issuer })}\n`);
