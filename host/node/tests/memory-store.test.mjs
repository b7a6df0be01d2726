// The memory store, which workers read and write beside the main thread.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryStore } from 'tokenwell';
import { host, tokenEndpoint } from './support.mjs';

const KEY = 'crm.tokens';
const bytes = (text) => new TextEncoder().encode(text);
const textOf = ({ value }) => new TextDecoder().decode(value);

test('renewals on all workers exclude each other, and none is lost', async (t) => {
  let [underWay, most] = [0, 0];
  const { config, requests } = await tokenEndpoint(t, async (n) => {
    underWay += 1;
    most = Math.max(most, underWay);
    await new Promise((resolve) => setImmediate(resolve));
    underWay -= 1;
    return { json: { access_token: `t${n}`, token_type: 'Bearer', expires_in: 3600 } };
  });
  const store = new MemoryStore();
  const hosts = [1, 2].map(() => host(t, { store, password: 'correct horse battery staple' }));
  const connections = await Promise.all(hosts.flatMap((one) => [1, 2, 3].map(() => one.open('crm', config))));
  let isOver = false;
  const looked = (async () => {
    // What is there is whole at any time, whether or not a value is on its way.
    let last = 0n;
    while (!isOver) {
      const entry = await store.load(KEY, undefined);
      if (entry !== undefined) {
        assert.ok(entry.version >= last && textOf(entry).startsWith('TWS'));
        last = entry.version;
      }
      await new Promise((resolve) => setImmediate(resolve));
    }
  })();
  const tokens = await Promise.all(
    connections.flatMap((connection) => Array.from({ length: 5 }, () => connection.refresh())),
  );
  isOver = true;
  await looked;
  assert.equal(most, 1);
  const issued = new Set(requests.map((_, i) => `t${i + 1}`));
  assert.ok(tokens.every(({ accessToken }) => issued.has(accessToken)));
  const newest = `t${requests.length}`;
  for (const connection of connections) assert.equal((await connection.token()).accessToken, newest);
});

test('a value on its way from a worker is waited for, and one that is lost with its worker is not', async () => {
  const store = new MemoryStore();
  const first = store.numbers(KEY).swap(undefined, undefined);
  const loaded = store.load(KEY);
  const stale = store.compareAndSwap(KEY, undefined, bytes('other'));
  assert.equal(store.isCurrent(KEY, first), true);
  store.publish(KEY, first, bytes('one'));
  assert.equal(textOf(await loaded), 'one');
  assert.deepEqual(await stale, { status: 'stale', current: { version: first, value: bytes('one') } });

  const second = store.numbers(KEY).swap(first, undefined);
  const waiting = store.load(KEY);
  store.recover(KEY);
  assert.deepEqual(await waiting, { version: second, value: bytes('one') });

  const other = new MemoryStore();
  const lost = other.numbers(KEY).swap(undefined, undefined);
  const none = other.load(KEY);
  other.recover(KEY);
  assert.equal(await none, undefined);
  assert.ok(other.compareAndSwap(KEY, undefined, bytes('two')).version > lost);
});

test('a store that somebody has made of the memory store is asked', async (t) => {
  const { config } = await tokenEndpoint(t, (n) => ({ json: { access_token: `t${n}`, token_type: 'Bearer', expires_in: 3600 } }));
  const asked = [];
  class Watched extends MemoryStore {
    compareAndSwap(key, ...rest) {
      asked.push(key);
      return super.compareAndSwap(key, ...rest);
    }
  }
  const connection = await host(t, { store: new Watched(), password: 'correct horse battery staple' }).open('crm', config);
  await connection.token();
  // The attempt, and what came of it.
  assert.equal(asked.filter((key) => key === KEY).length, 2);
});
