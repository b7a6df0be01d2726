// TLS, against the real authorization server. The certificates are for these tests
// alone: made once, with keys that everybody may have.
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { directory, host, machine, Server } from './support.mjs';

const certificates = join(dirname(fileURLToPath(import.meta.url)), 'certificates');
const file = (name) => join(certificates, name);

const mutual = (server, clientId, method, name) => {
  const { client_secret: _, ...config } = machine(server);
  return {
    ...config,
    client_id: clientId,
    token_endpoint_auth_method: method,
    client_certificate: { ref: `file:${file(`${name}.pem`)}` },
    client_certificate_key: { ref: `file:${file(`${name}.key`)}` },
  };
};

test('a server is believed whose certificate authority is given', async (t) => {
  const server = await Server.start(t, { TLS_DIRECTORY: certificates });
  const connection = await host(t, { ca: await readFile(file('ca.pem'), 'utf8') }).open('crm', machine(server));
  assert.equal((await connection.token()).tokenType, 'Bearer');
});

test('a server of an unknown certificate authority is not, and nothing is sent', async (t) => {
  const server = await Server.start(t, { TLS_DIRECTORY: certificates });
  const connection = await host(t).open('crm', machine(server));
  await assert.rejects(connection.token(), { code: 'unavailable', message: /certificate is not trusted/ });
  assert.deepEqual(await server.requests('/token'), []);
});

for (const [clientId, method, name] of [
  ['mtls', 'tls_client_auth', 'client'],
  ['mtls-self-signed', 'self_signed_tls_client_auth', 'self-signed'],
]) {
  test(`${method} shows the client's certificate`, async (t) => {
    const server = await Server.start(t, { TLS_DIRECTORY: certificates });
    const connection = await host(t, { ca: await readFile(file('ca.pem'), 'utf8') }).open('crm', mutual(server, clientId, method, name));
    assert.equal((await connection.token()).tokenType, 'Bearer');
    await assert.rejects(connection.fetch(`${server.issuer}/me`), { code: 'unsupported' });
  });
}

test('a certificate whose key is another, or that is none, names the field', async (t) => {
  const server = await Server.start(t, { TLS_DIRECTORY: certificates });
  const folder = await directory(t);
  await writeFile(join(folder, 'none.pem'), 'nothing');
  const tokenwell = host(t, { directory: folder });
  const config = mutual(server, 'mtls', 'tls_client_auth', 'client');
  for (const [changed, field] of [
    [{ client_certificate: { ref: 'file:none.pem' } }, 'client_certificate'],
    [{ client_certificate_key: { ref: 'file:none.pem' } }, 'client_certificate_key'],
    [{ client_certificate_key: { ref: `file:${file('server.key')}` } }, 'client_certificate_key'],
    [{ client_certificate: { ref: 'file:missing.pem' } }, 'client_certificate'],
  ]) {
    const connection = await tokenwell.open('crm', { ...config, ...changed });
    await assert.rejects(connection.token(), (error) => error.code === 'not-configured' && error.problems[0].field === field);
  }
});
