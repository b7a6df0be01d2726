// The sealing keys of a store: which one is current stands in its entry
// `tokenwell.keys`, described in host/STORE.md. Keys are replaced by the command
// line (`tokenwell rekey`); here the first one is made and all are found.
import { randomBytes } from 'node:crypto';
import { KeyFile } from './key-file.js';
import { fromKeyring } from './keyring.js';
import { isPasswordKey, MasterPassword } from './password.js';
import { open, type SealingKey } from './seal.js';
import { fromStoreError, SecretError } from './secrets.js';
import { checkLoaded, checkSwapped, type TokenStore } from './store.js';
import { inTime } from './time.js';

const KEYS_ENTRY = 'tokenwell.keys';
const FORMAT = 'tokenwell-keys';
const FORMAT_VERSION = 1;

interface Header {
  source: 'key-file' | 'keyring' | 'password';
  current: string;
  previous: { id: string; sealed: string }[];
}

/** The sealing keys of a store. */
export class SealingKeys {
  /** The keys that this process has, the current one first. */
  #known: SealingKey[] = [];
  #lookingUp: Promise<unknown> = Promise.resolve();

  constructor(
    /** Where the key file is; `undefined`: the key is derived, or lives as long as this does. */
    readonly directory: string | undefined,
    readonly store: TokenStore,
    readonly password: MasterPassword,
    /** Whether the key may live as long as this does. */
    readonly isVolatile: boolean,
    /** How long one look-up may keep the next waiting, in milliseconds. */
    readonly hostTimeoutMs: number,
  ) {}

  get known(): readonly SealingKey[] | undefined {
    return this.#known.length > 0 ? this.#known : undefined;
  }

  /** The keys: the first seals, all open. `needed` is one to open with. */
  async get(needed: string | undefined): Promise<readonly SealingKey[]> {
    // One after the other: the second finds what the first has looked up.
    const before = this.#lookingUp;
    const result = before.then(async () => {
      const isEnough =
        needed === undefined ? this.#known.length > 0 : this.#known.some(({ id }) => id === needed);
      if (!isEnough) this.#known = await this.#lookUp(needed);
      return this.#known;
    });
    this.#lookingUp = inTime('the look-up', result, this.hostTimeoutMs).catch(() => undefined);
    return result;
  }

  async #lookUp(needed: string | undefined): Promise<SealingKey[]> {
    if (this.isVolatile) return this.#known.length > 0 ? this.#known : [randomKey()];
    const header = await this.#header();
    let keys: SealingKey[];
    if (header !== undefined) keys = await this.#keysOf(header, this.#known);
    else if (needed === undefined) keys = await this.#create();
    // To read what is there, nothing is made.
    else keys = this.directory === undefined ? [] : await new KeyFile(this.directory).read();
    // A record that was sealed elsewhere with the same password.
    if (needed !== undefined && isPasswordKey(needed) && keys.every(({ id }) => id !== needed)) {
      keys = [...keys, await this.password.key(needed, 'open')];
    }
    return keys;
  }

  /** The current key of a store, and those before it. */
  async #keysOf(header: Header, known: readonly SealingKey[]): Promise<SealingKey[]> {
    const current = known.find(({ id }) => id === header.current) ?? (await this.#find(header));
    const previous = header.previous.map(({ id, sealed }) => {
      const key = open(current, `${KEYS_ENTRY}/${id}`, Buffer.from(sealed, 'base64'));
      if (key?.length !== 32) throw damaged();
      return { id, key };
    });
    return [current, ...previous];
  }

  async #find({ source, current: id }: Header): Promise<SealingKey> {
    switch (source) {
      case 'password':
        return this.password.key(id, 'seal');
      case 'keyring': {
        const key = await fromKeyring(`sealing-key-${id}`);
        if (key.length === 32) return { id, key };
        throw new SecretError('unavailable', `the key ${id} in the keyring is not 32 bytes long`);
      }
      case 'key-file': {
        if (this.directory === undefined) {
          throw new SecretError('not-found', `the store is sealed under the key ${id} of a key file: give the \`directory\` that it is in`);
        }
        const file = new KeyFile(this.directory);
        const keys = await file.read();
        const key = keys.find((found) => found.id === id);
        if (key !== undefined) return key;
        const has = keys[0] === undefined ? 'is not there' : `has ${keys[0].id}`;
        throw new SecretError(
          'not-found',
          `the store is sealed under the key ${id}, and ${file.path} ${has}; copy the key file that belongs to the store`,
        );
      }
    }
  }

  /** The first key of a store, unless somebody else is quicker. */
  async #create(): Promise<SealingKey[]> {
    let source: Header['source'];
    let key: SealingKey;
    /** Where the key was found, and may be another store's. */
    let foundIn: KeyFile | undefined;
    if (this.password.isGiven) {
      source = 'password';
      key = await this.password.newKey();
    } else if (this.directory !== undefined) {
      source = 'key-file';
      const file = new KeyFile(this.directory);
      const first = await file.firstOrCreate(randomKey);
      key = first.key;
      if (!first.isMade) foundIn = file;
    } else {
      throw new SecretError('not-found', 'there is nothing to seal the store under: give a `password` or a `directory`');
    }
    const header = { format: FORMAT, format_version: FORMAT_VERSION, source, current: key.id, previous: [] };
    const swapped = await this.#ask(async () =>
      checkSwapped(await this.store.compareAndSwap(KEYS_ENTRY, undefined, Buffer.from(JSON.stringify(header)), undefined)),
    );
    if (swapped.status === 'stored') {
      // Where the file cannot be changed, no key is removed from it either.
      await foundIn?.share(key.id).catch(() => undefined);
      return [key];
    }
    if (swapped.status === 'stale' && swapped.current !== undefined) {
      return this.#keysOf(readHeader(swapped.current.value), [key]);
    }
    throw damaged();
  }

  async #header(): Promise<Header | undefined> {
    const loaded = await this.#ask(async () => checkLoaded(await this.store.load(KEYS_ENTRY, undefined)));
    return loaded === undefined || loaded === 'unchanged' ? undefined : readHeader(loaded.value);
  }

  async #ask<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw fromStoreError(error);
    }
  }
}

function readHeader(value: Uint8Array): Header {
  let header: Partial<Header> & { format?: unknown; format_version?: unknown };
  try {
    header = JSON.parse(Buffer.from(value).toString('utf8')) as typeof header;
  } catch {
    throw damaged();
  }
  if (typeof header !== 'object' || header === null || header.format !== FORMAT) throw damaged();
  if (header.format_version !== FORMAT_VERSION) {
    throw new SecretError(
      'unavailable',
      `the store's entry ${KEYS_ENTRY} has format version ${String(header.format_version)}; this version reads ${FORMAT_VERSION}`,
    );
  }
  const { source, current, previous } = header;
  const isSource = source === 'key-file' || source === 'keyring' || source === 'password';
  if (!isSource || typeof current !== 'string' || !Array.isArray(previous)) throw damaged();
  for (const key of previous) {
    if (typeof key?.id !== 'string' || typeof key.sealed !== 'string') throw damaged();
  }
  return { source, current, previous };
}

function damaged(): SecretError {
  return new SecretError('unavailable', `the store's entry ${KEYS_ENTRY} is damaged`);
}

function randomKey(): SealingKey {
  return { id: randomBytes(4).toString('hex'), key: randomBytes(32) };
}
