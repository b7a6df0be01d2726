import * as fs from 'node:fs/promises';
import { resolve as resolvePath } from 'node:path';
import { attempt } from './key-file.js';
import { fromKeyring } from './keyring.js';
import { MasterPassword, type Password } from './password.js';
import { keyId, open, type SealingKey } from './seal.js';
import { SealingKeys } from './sealing.js';
import { checkText, fromStoreError, SecretError, type Secrets } from './secrets.js';
import { publicJwk, sign, verify } from './signing.js';
import { checkLoaded, type TokenStore } from './store.js';
import { HOST_TIMEOUT_MS } from './time.js';

/** Resolves the references of one form: it is given what follows `NAME:`. */
export type Resolver = (name: string) => string | Promise<string>;

/** What secrets of this machine are made with. */
export interface LocalSecretsOptions {
  /** The store that the sealing keys are for, and that `sealed:NAME` is in. */
  store: TokenStore;
  /** Where the key file is, and what `file:PATH` is relative to. */
  directory?: string | undefined;
  password?: Password | undefined;
  /** Further forms of reference, such as `{ vault: async (name) => … }`. */
  resolvers?: Readonly<Record<string, Resolver>> | undefined;
  /** The sealing key lives as long as this object, and what it seals too. */
  isVolatile?: boolean | undefined;
  /** How long a look-up of the sealing keys may keep the next waiting, in milliseconds; 30,000. */
  hostTimeoutMs?: number | undefined;
}

/**
 * Secrets of this machine: `env:NAME`, `file:PATH`, `keyring:NAME`, `sealed:NAME`, and forms of
 * your own. A key that signs is the text of a reference: PEM, a JWK, or a
 * Google service account's file.
 */
export class LocalSecrets implements Secrets {
  readonly #options: LocalSecretsOptions;
  readonly #keys: SealingKeys;

  constructor(options: LocalSecretsOptions) {
    this.#options = options;
    const { directory, store, password, isVolatile, hostTimeoutMs = HOST_TIMEOUT_MS } = options;
    this.#keys = new SealingKeys(directory, store, new MasterPassword(password), isVolatile === true, hostTimeoutMs);
  }

  async resolve(reference: string): Promise<string> {
    const colon = reference.indexOf(':');
    const form = reference.slice(0, Math.max(0, colon));
    const name = reference.slice(colon + 1);
    const { resolvers } = this.#options;
    if (resolvers !== undefined && Object.hasOwn(resolvers, form)) {
      return checkText('resolve', await resolvers[form]?.(name));
    }
    switch (form) {
      case 'env':
        return environmentVariable(name);
      case 'file':
        return this.#file(name);
      case 'sealed':
        return this.#sealed(name);
      case 'keyring':
        return textIn(`keyring:${name}`, await fromKeyring(name));
      default: {
        const own = Object.keys(resolvers ?? {}).map((known) => `, \`${known}:NAME\``);
        throw new SecretError('unsupported', `a reference is \`env:NAME\`, \`file:PATH\`, \`keyring:NAME\`, \`sealed:NAME\`${own.join('')}`);
      }
    }
  }

  sealingKeys(needed: string | undefined): Promise<readonly SealingKey[]> {
    return this.#keys.get(needed);
  }

  /** @internal The keys that this process has, where it has any. */
  knownSealingKeys(): readonly SealingKey[] | undefined {
    return this.#keys.known;
  }

  /** @internal What settles once the user who is being asked for the master password has answered. */
  get asking(): Promise<unknown> | undefined {
    return this.#keys.password.asking;
  }

  async sign(key: string, algorithm: string, data: Uint8Array): Promise<Uint8Array> {
    return sign(await this.resolve(key), algorithm, data);
  }

  async publicKey(key: string): Promise<string> {
    return publicJwk(await this.resolve(key));
  }

  verify(jwk: string, algorithm: string, data: Uint8Array, signature: Uint8Array): boolean {
    return verify(jwk, algorithm, data, signature);
  }

  async #file(path: string): Promise<string> {
    const whole = resolvePath(this.#options.directory ?? '.', path);
    const content = await attempt('reading', whole, () => fs.readFile(whole));
    return textIn(whole, content).replace(/\r?\n$/, '');
  }

  async #sealed(name: string): Promise<string> {
    if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$/.test(name)) {
      throw new SecretError(
        'not-found',
        "a sealed secret's name has at most 80 letters, digits, `-`, `_` and `.`, and begins with a letter or digit",
      );
    }
    const key = `${name}.secret`;
    const loaded = await (async () => checkLoaded(await this.#options.store.load(key, undefined)))().catch((error: unknown) => {
      throw fromStoreError(error);
    });
    if (loaded === undefined || loaded === 'unchanged') {
      throw new SecretError('not-found', `there is no sealed secret ${name}`);
    }
    const id = keyId(loaded.value);
    if (id === undefined) throw new SecretError('unavailable', `${key} is damaged`);
    const keys = await this.#keys.get(id);
    const sealedUnder = keys.find((known) => known.id === id);
    if (sealedUnder === undefined) throw new SecretError('not-found', `${key} is sealed under a key that is not at hand`);
    const plain = open(sealedUnder, key, loaded.value);
    if (plain === undefined) throw new SecretError('unavailable', `${key} is damaged`);
    return plain.toString('utf8');
  }
}

function textIn(what: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new SecretError('unavailable', `${what} is not text`);
  }
}

function environmentVariable(name: string): string {
  const value = /^[^=\0]+$/.test(name) ? process.env[name] : undefined;
  if (value === undefined) throw new SecretError('not-found', `the environment variable ${name.replaceAll('\0', '')} is not set`);
  return value;
}
