// Reads a connection's tokens from files that a Tokenwell host has written, by
// what host/STORE.md says and nothing else. Prints the record, and the lines of its
// history.
//
//   node tokens.mjs DIR NAME
import { createDecipheriv } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const [directory, name] = process.argv.slice(2);
const json = (file) => JSON.parse(readFileSync(join(directory, file), 'utf8'));

/** The entry of a store of files. */
function entry(key) {
  const file = json(key);
  if (file.format !== 'tokenwell-record' || file.format_version !== 1) throw new Error(`${key} is no record`);
  return Buffer.from(file.sealed, 'base64');
}

/** What is sealed, by the keys given. */
function open(keys, storeKey, sealed) {
  if (sealed.toString('latin1', 0, 3) !== 'TWS' || sealed[3] !== 1) throw new Error(`${storeKey} is not sealed`);
  const header = sealed.subarray(0, 5 + sealed[4]);
  const id = header.toString('utf8', 5);
  const key = keys.get(id);
  if (!key) throw new Error(`${storeKey} needs the key ${id}`);
  const [nonce, rest] = [sealed.subarray(header.length, header.length + 12), sealed.subarray(header.length + 12)];
  const cipher = createDecipheriv('chacha20-poly1305', key, nonce, { authTagLength: 16 });
  const plaintextLength = rest.length - 16;
  cipher.setAAD(Buffer.concat([header, Buffer.from(storeKey)]), { plaintextLength });
  cipher.setAuthTag(rest.subarray(plaintextLength));
  return Buffer.concat([cipher.update(rest.subarray(0, plaintextLength)), cipher.final()]);
}

const keyFile = json('tokenwell.key');
const keys = new Map([[keyFile.id, Buffer.from(keyFile.key, 'base64')]]);
// The keys that were replaced are sealed under the current one.
const header = JSON.parse(entry('tokenwell.keys'));
for (const previous of header.previous) {
  const sealed = Buffer.from(previous.sealed, 'base64');
  keys.set(previous.id, open(keys, `tokenwell.keys/${previous.id}`, sealed));
}
const storeKey = `${name}.tokens`;
const [object, ...history] = open(keys, storeKey, entry(storeKey)).toString().split('\n');
process.stdout.write(JSON.stringify({ record: JSON.parse(object), history }));
