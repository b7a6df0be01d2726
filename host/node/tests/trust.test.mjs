// `tls: trust` against a real TLS server, whose certificate is replaced under way.
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:https';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { MemoryStore } from 'tokenwell';
import { directory, host, succeed, tokenwell as cli } from './support.mjs';

const certificates = join(dirname(fileURLToPath(import.meta.url)), 'certificates');
const read = (name) => readFile(join(certificates, name), 'utf8');
const identity = async (name) => ({ cert: await read(`${name}.pem`), key: await read(`${name}.key`) });
const fingerprint = async (name) => new X509Certificate(await read(`${name}.pem`)).fingerprint256.replaceAll(':', '').toLowerCase();

/** A token endpoint that shows that certificate, until it is told to show another. */
async function tlsServer(t, name) {
  let requests = 0;
  const server = createServer(await identity(name), (request, response) => {
    requests += 1;
    // Each request has a handshake of its own: a connection that is closed behind the client's back may be used once more.
    response.writeHead(200, { 'content-type': 'application/json', connection: 'close' });
    response.end(JSON.stringify({ access_token: `t${requests}`, token_type: 'Bearer', expires_in: 3600 }));
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address();
  return {
    name: `127.0.0.1:${port}`,
    config: {
      token_endpoint: `https://127.0.0.1:${port}/token`,
      grant_type: 'client_credentials',
      client_id: 'c',
      client_secret: 's',
      tls: 'trust',
    },
    requests: () => requests,
    async show(other) {
      server.setSecureContext(await identity(other));
    },
  };
}

/** What is stored of a connection's trust. */
async function stored(store) {
  const { value } = await store.load('crm.trust', undefined);
  return JSON.parse(Buffer.from(value).toString('utf8'));
}

const trustStore = (store = new MemoryStore()) => ({ store, password: 'correct horse battery staple' });

test('a certificate that nobody vouches for is imported on first use, and told of', async (t) => {
  const server = await tlsServer(t, 'self-signed');
  const events = [];
  const options = trustStore();
  const connection = await host(t, { ...options, onEvent: (event) => events.push(event) }).open('crm', server.config);
  assert.equal((await connection.token()).accessToken, 't1');
  const { servers } = await stored(options.store);
  const { imported_at: at, ...held } = servers[server.name];
  const certificate = new X509Certificate(await read('self-signed.pem'));
  assert.deepEqual(held, { sha256: await fingerprint('self-signed'), certificate: certificate.raw.toString('base64') });
  assert.ok(Number.isInteger(at) && at > 1_700_000_000);
  assert.deepEqual(Object.keys(servers), [server.name]);

  // A handshake of its own, which imports nothing more.
  await server.show('self-signed');
  assert.equal((await connection.refresh()).accessToken, 't2');
  const told = events.filter(({ kind }) => kind === 'certificate-imported');
  assert.deepEqual(told.map(({ connection: name, details }) => [name, details]), [['crm', { server: server.name }]]);
  assert.match(told[0].message, new RegExp(await fingerprint('self-signed')));
});

test('another certificate is refused with both fingerprints, whoever vouches for it, until the trust is cleared', async (t) => {
  const server = await tlsServer(t, 'self-signed');
  const connection = await host(t, { ca: await read('ca.pem') }).open('crm', server.config);
  await connection.token();
  for (const successor of ['client', 'server']) {
    await server.show(successor);
    const [shown, held] = [await fingerprint(successor), await fingerprint('self-signed')];
    await assert.rejects(connection.refresh(), (error) => {
      assert.equal(error.code, 'forbidden');
      assert.ok(error.message.includes(shown) && error.message.includes(held), error.message);
      return true;
    });
  }
  assert.equal(server.requests(), 1);
  await connection.clearTrust();
  assert.equal((await connection.refresh()).accessToken, 't2');
  // What is forgotten twice is forgotten.
  await connection.clearTrust();
});

test('a config whose `tls` the host does not allow is refused before anything is sent, and a check says so', async (t) => {
  const server = await tlsServer(t, 'self-signed');
  const tokenwell = host(t, { tlsTrust: false });
  for (const tls of ['trust', 'off']) {
    const connection = await tokenwell.open('crm', { ...server.config, tls });
    const [{ field, severity, message }] = await connection.check();
    assert.deepEqual([field, severity, message], ['tls', 'error', `\`tls: ${tls}\` is not allowed by this host`]);
    await assert.rejects(connection.token(), { code: 'forbidden', message });
  }
  assert.equal(server.requests(), 0);
  const allowed = await (await host(t, { tlsTrust: true }).open('crm', server.config)).check();
  assert.ok(allowed.every(({ severity }) => severity === 'warning'));
});

test('a server that an authority vouches for is held to that from then on, and not to its certificate', async (t) => {
  const server = await tlsServer(t, 'server');
  const options = trustStore();
  const connection = await host(t, { ...options, ca: await read('ca.pem') }).open('crm', server.config);
  assert.equal((await connection.token()).tokenType, 'Bearer');
  assert.deepEqual(await stored(options.store), { servers: {}, vouched_for: [server.name] });

  await server.show('self-signed');
  const shown = await fingerprint('self-signed');
  await assert.rejects(connection.refresh(), {
    code: 'forbidden',
    message: `${server.name} shows a certificate that the system does not vouch for, SHA-256 ${shown}, and showed one that it does when it was first met; if it has been replaced by its owner, clear the connection's trust`,
  });
  assert.equal(server.requests(), 1);
  assert.deepEqual(await stored(options.store), { servers: {}, vouched_for: [server.name] });

  // The one that is vouched for goes on.
  await server.show('server');
  assert.equal((await connection.refresh()).accessToken, 't2');
  await server.show('self-signed');
  await connection.clearTrust();
  assert.equal((await connection.refresh()).accessToken, 't3');
  assert.deepEqual(Object.keys((await stored(options.store)).servers), [server.name]);
});

test('what is known of other servers is kept, each list in its order', async (t) => {
  const theirs = { sha256: 'ab'.repeat(32), imported_at: 1, certificate: 'AA==' };
  const others = { servers: { 'z.example:443': theirs, '[::1]:443': theirs }, vouched_for: ['y.example:443', '[::2]:443'] };
  for (const [shown, vouched] of [['self-signed', false], ['server', true]]) {
    const server = await tlsServer(t, shown);
    const options = trustStore();
    options.store.compareAndSwap('crm.trust', undefined, Buffer.from(JSON.stringify(others)));
    await (await host(t, { ...options, ca: await read('ca.pem') }).open('crm', server.config)).token();
    const { servers, vouched_for: vouchedFor } = await stored(options.store);
    assert.deepEqual(Object.keys(servers), [...(vouched ? [] : [server.name]), '[::1]:443', 'z.example:443']);
    assert.deepEqual(servers['z.example:443'], theirs);
    assert.deepEqual(vouchedFor, [...(vouched ? [server.name] : []), '[::2]:443', 'y.example:443']);
  }
});

test('how another process met the server meanwhile holds', async (t) => {
  const imports = async (name) => {
    const certificate = new X509Certificate(await read(`${name}.pem`)).raw.toString('base64');
    return { sha256: await fingerprint(name), imported_at: 1, certificate };
  };
  const vouched = ({ name }) => ({ servers: {}, vouched_for: [name] });
  const imported = (held) => ({ name }) => ({ servers: { [name]: held } });
  const cases = [
    ['self-signed', imported(await imports('client')), await fingerprint('client')],
    ['self-signed', imported(await imports('self-signed')), undefined],
    ['self-signed', vouched, 'when it was first met'],
    ['server', imported(await imports('client')), await fingerprint('client')],
    ['server', imported(await imports('server')), undefined],
    ['server', vouched, undefined],
  ];
  for (const [shown, theirs, refusal] of cases) {
    const server = await tlsServer(t, shown);
    // Between the look and the entry somebody else has met the server.
    class Overtaken extends MemoryStore {
      looks = 0;
      load(key, known) {
        const loaded = super.load(key, known);
        if (key === 'crm.trust' && (this.looks += 1) === 2) {
          super.compareAndSwap(key, undefined, Buffer.from(JSON.stringify(theirs(server))));
        }
        return loaded;
      }
    }
    const events = [];
    const options = { ...trustStore(new Overtaken()), ca: await read('ca.pem'), onEvent: ({ kind }) => events.push(kind) };
    const connection = await host(t, options).open('crm', server.config);
    if (refusal === undefined) await connection.token();
    else await assert.rejects(connection.token(), { code: 'forbidden', message: new RegExp(refusal) });
    assert.deepEqual(await stored(options.store), theirs(server));
    assert.equal(server.requests(), refusal === undefined ? 1 : 0);
    assert.ok(!events.includes('certificate-imported'));
  }
});

test('nothing is sent where what is stored of the trust is damaged, and clearing mends it', async (t) => {
  for (const damaged of ['{"servers":[]}', '{"vouched_for":[]}', '{"servers":{},"vouched_for":"a:1"}', '{"servers":{},"vouched_for":[1]}']) {
    const server = await tlsServer(t, 'self-signed');
    const options = trustStore();
    options.store.compareAndSwap('crm.trust', undefined, Buffer.from(damaged));
    const tokenwell = host(t, options);
    const connection = await tokenwell.open('crm', server.config);
    await assert.rejects(connection.token(), { code: 'unavailable' }, damaged);
    assert.equal(server.requests(), 0);
    await connection.clearTrust();
    // A connection of its own, that no earlier failure holds back.
    assert.equal((await connection.refresh()).accessToken, 't1');
  }
});

test('a store that fails to forget the trust is a StorageError', async (t) => {
  const options = trustStore();
  options.store.load = (key) => (key === 'crm.trust' ? Promise.reject(new Error('the disk is gone')) : undefined);
  const connection = await host(t, options).open('crm', { client_id: 'c', tls: 'trust' });
  await assert.rejects(connection.clearTrust(), { code: 'storage', storage: 'unavailable', message: /the disk is gone/ });
});

test('the command line and Node believe the same servers, and forget them for each other', async (t) => {
  const server = await tlsServer(t, 'self-signed');
  const folder = await directory(t);
  await writeFile(join(folder, 'crm.json'), JSON.stringify(server.config));
  const connection = await host(t, { directory: folder }).open('crm', server.config);

  // Imported here, held to there.
  await connection.token();
  await server.show('client');
  const refused = await cli(folder, ['refresh', 'crm']);
  assert.equal(refused.status, 8, refused.stderr);
  assert.ok(refused.stderr.includes(await fingerprint('client')) && refused.stderr.includes(await fingerprint('self-signed')));

  // Imported there, held to here.
  await succeed(folder, ['clear', 'crm', '--trust']);
  await succeed(folder, ['refresh', 'crm']);
  assert.ok((await connection.refresh()).accessToken);
  await server.show('self-signed');
  await assert.rejects(connection.refresh(), { code: 'forbidden' });

  // Forgotten here.
  await connection.clearTrust();
  assert.ok(!(await readdir(folder)).includes('crm.trust'));
  await succeed(folder, ['refresh', 'crm']);
  assert.ok((await connection.refresh()).accessToken);
});

test('the command line and Node hold a server to it that the system vouched for when the other met it', async (t) => {
  const server = await tlsServer(t, 'server');
  const folder = await directory(t);
  await writeFile(join(folder, 'crm.json'), JSON.stringify(server.config));
  const authority = { SSL_CERT_FILE: join(certificates, 'ca.pem') };
  const connection = await host(t, { directory: folder, ca: await read('ca.pem') }).open('crm', server.config);
  const met = { code: 'forbidden', message: /when it was first met/ };

  // Met there, held to here.
  await succeed(folder, ['refresh', 'crm'], authority);
  await server.show('self-signed');
  await assert.rejects(connection.refresh(), met);
  await server.show('server');
  assert.ok((await connection.refresh()).accessToken);

  // Met here, held to there.
  await connection.clearTrust();
  assert.ok((await connection.refresh()).accessToken);
  await succeed(folder, ['refresh', 'crm'], authority);
  await server.show('self-signed');
  const refused = await cli(folder, ['refresh', 'crm'], authority);
  assert.equal(refused.status, 8, refused.stderr);
  assert.match(refused.stderr, met.message);
});
