// oidc-provider (panva) as the authorization server of the tests, on a free
// port of 127.0.0.1. When it is ready it prints one line, {"issuer": …, "control":
// …, "keys": {…}}: where the test talks to it, and the private keys of its
// clients, made for this run. It ends when its
// standard input closes, so that it cannot outlive its test.
//
// Lifetimes in seconds come from the environment: ACCESS_TOKEN_TTL,
// REFRESH_TOKEN_TTL, AUTHORIZATION_CODE_TTL, DEVICE_CODE_TTL. With DPOP_NONCE=1
// it demands its nonces in proofs. With TLS_DIRECTORY it speaks https, with the
// certificate in server.pem and server.key there, and asks clients for theirs
// (ca.pem vouches for one, self-signed.pem is another's own).
//
// At the control, GET /_test/requests tells what clients sent, DELETE forgets it. DELETE
// /_test/access-token?TOKEN makes that token invalid and leaves its grant alone,
// which revocation does not.
import { X509Certificate, createHash, generateKeyPairSync, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { join } from 'node:path';

// Standard output is for the one line.
console.info = console.error;
console.warn = console.error;

// oidc-provider wants Node 22 for URL.parse alone; with it, it runs on Node 20.
URL.parse ??= (url, base) => (URL.canParse(url, base) ? new URL(url, base) : null);
const { default: Provider, errors } = await import('oidc-provider');

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
const DEVICE = 'urn:ietf:params:oauth:grant-type:device_code';

// A key pair for each algorithm that clients sign with: the private half for the
// test, the public half for the client's registration.
const pairs = {
  RS256: generateKeyPairSync('rsa', { modulusLength: 2048 }),
  PS256: generateKeyPairSync('rsa', { modulusLength: 2048 }),
  ES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  EdDSA: generateKeyPairSync('ed25519'),
};
const keys = {};
const jwks = {};
for (const [alg, { privateKey, publicKey }] of Object.entries(pairs)) {
  const named = { kid: alg.toLowerCase(), alg };
  keys[alg] = {
    pem: privateKey.export({ type: 'pkcs8', format: 'pem' }),
    jwk: { ...privateKey.export({ format: 'jwk' }), ...named },
  };
  jwks[alg] = { ...publicKey.export({ format: 'jwk' }), ...named };
}
// A key goes by the name in its JWK; one in PEM has none and goes by its
// thumbprint (RFC 7638).
const registered = (alg) => {
  const { kid, alg: _, ...key } = jwks[alg];
  const members = ['crv', 'e', 'kty', 'n', 'x', 'y'].filter((member) => member in key);
  const canonical = JSON.stringify(Object.fromEntries(members.map((member) => [member, key[member]])));
  const thumbprint = createHash('sha256').update(canonical).digest('base64url');
  return { keys: [jwks[alg], { ...key, kid: thumbprint }] };
};

const tlsDirectory = process.env.TLS_DIRECTORY;
const tlsFile = (name) => readFileSync(join(tlsDirectory, name));

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
  ...Object.keys(pairs).map((alg) => ({
    ...user,
    client_id: `jwt-${alg.toLowerCase()}`,
    grant_types: [...user.grant_types, 'client_credentials'],
    token_endpoint_auth_method: 'private_key_jwt',
    token_endpoint_auth_signing_alg: alg,
    jwks: registered(alg),
  })),
  {
    ...machine,
    client_id: 'jwt-secret',
    client_secret: 'jwt-secret-8f1d5c7790ab24e6c3d2b1a09f8e7d6c5b4a39281706f5e4',
    token_endpoint_auth_method: 'client_secret_jwt',
  },
  {
    client_id: 'device',
    application_type: 'native',
    grant_types: [DEVICE, 'refresh_token'],
    response_types: [],
    redirect_uris: [],
    token_endpoint_auth_method: 'none',
  },
  {
    ...user,
    client_id: 'pushing',
    client_secret: 'pushing-secret-50c2',
    require_pushed_authorization_requests: true,
  },
  {
    ...user,
    client_id: 'signing',
    token_endpoint_auth_method: 'private_key_jwt',
    token_endpoint_auth_signing_alg: 'ES256',
    request_object_signing_alg: 'ES256',
    require_signed_request_object: true,
    jwks: registered('ES256'),
  },
  {
    ...user,
    client_id: 'bound',
    token_endpoint_auth_method: 'none',
    dpop_bound_access_tokens: true,
  },
  {
    ...machine,
    client_id: 'bound-machine',
    client_secret: 'bound-machine-secret-6e10',
    dpop_bound_access_tokens: true,
  },
  ...(tlsDirectory
    ? [
        {
          ...machine,
          client_id: 'mtls',
          token_endpoint_auth_method: 'tls_client_auth',
          tls_client_auth_san_dns: 'client.example',
          tls_client_certificate_bound_access_tokens: true,
        },
        {
          ...machine,
          client_id: 'mtls-self-signed',
          token_endpoint_auth_method: 'self_signed_tls_client_auth',
          tls_client_certificate_bound_access_tokens: true,
          jwks: { keys: [selfSignedJwk()] },
        },
      ]
    : []),
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

function selfSignedJwk() {
  const certificate = new X509Certificate(tlsFile('self-signed.pem'));
  return {
    ...certificate.publicKey.export({ format: 'jwk' }),
    x5c: [certificate.raw.toString('base64')],
  };
}

const RESOURCE = 'https://api.client.example/';

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
  clientAuthMethods: [
    'none',
    'client_secret_basic',
    'client_secret_post',
    'client_secret_jwt',
    'private_key_jwt',
    ...(tlsDirectory ? ['tls_client_auth', 'self_signed_tls_client_auth'] : []),
  ],
  enabledJWA: {
    clientAuthSigningAlgValues: ['HS256', ...Object.keys(pairs)],
    requestObjectSigningAlgValues: Object.keys(pairs),
    dPoPSigningAlgValues: ['ES256', 'EdDSA'],
  },
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
    deviceFlow: { enabled: true },
    dPoP: {
      enabled: true,
      nonceSecret: randomBytes(32),
      requireNonce: () => process.env.DPOP_NONCE === '1',
    },
    mTLS: {
      enabled: Boolean(tlsDirectory),
      certificateBoundAccessTokens: true,
      selfSignedTlsClientAuth: true,
      tlsClientAuth: true,
      getCertificate: (ctx) => ctx.socket.getPeerX509Certificate(),
      certificateAuthorized: (ctx) => ctx.socket.authorized,
      certificateSubjectMatches: (ctx, property, expected) =>
        property === 'tls_client_auth_san_dns' &&
        Boolean(ctx.socket.getPeerX509Certificate().checkHost(expected)),
    },
    pushedAuthorizationRequests: { enabled: true },
    registration: { enabled: true },
    requestObjects: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => undefined,
      useGrantedResource: () => true,
      getResourceServerInfo: (ctx, resource) => {
        if (resource !== RESOURCE) throw new errors.InvalidTarget();
        return { scope: 'api:read api:write', audience: RESOURCE, accessTokenFormat: 'opaque' };
      },
    },
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
    DeviceCode: seconds('DEVICE_CODE_TTL', 600),
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
const server = tlsDirectory
  ? https.createServer({
      cert: tlsFile('server.pem'),
      key: tlsFile('server.key'),
      ca: tlsFile('ca.pem'),
      requestCert: true,
      rejectUnauthorized: false,
    })
  : http.createServer();
await new Promise((resolve) => server.listen(0, LOOPBACK, resolve));
const scheme = tlsDirectory ? 'https' : 'http';
const issuer = `${scheme}://${LOOPBACK}:${server.address().port}`;

const provider = new Provider(issuer, configuration);
provider.use(record);
provider.on('server_error', (_, error) => console.error(error));
const answer = provider.callback();
server.on('request', answer);

// The test talks to it apart from the clients, who may be spoken to over TLS.
const controls = http.createServer(control);
await new Promise((resolve) => controls.listen(0, LOOPBACK, resolve));

for (const event of ['end', 'close', 'error']) process.stdin.on(event, () => process.exit(0));
process.stdin.resume();
const ready = { issuer, control: `http://${LOOPBACK}:${controls.address().port}`, keys };
process.stdout.write(`${JSON.stringify(ready)}\n`);
