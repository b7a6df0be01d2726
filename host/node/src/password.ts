// A sealing key from a master password, by Argon2id (RFC 9106). The identifier of
// such a key says how it is made: `argon2id$m=65536,t=3,p=4$SALT$CHECK`, as
// host/STORE.md has it.
import { hashRaw, type Algorithm, type Version } from '@node-rs/argon2';
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import type { SealingKey } from './seal.js';
import { SecretError } from './secrets.js';

const SCHEME = 'argon2id';

/** What keys are made with: RFC 9106 section 4, the second recommended option. Memory in KiB. */
const RECOMMENDED = { memory: 64 * 1024, passes: 3, lanes: 4 };

/** The least that a key may be made with that something is to be sealed under. */
const LEAST = { memory: 19 * 1024, passes: 2 };

/** The most that is believed of a stored record, whose writer may be anybody. */
const MOST = { memory: 1024 * 1024, passes: 16, lanes: 16 };

const SALT_LENGTH = 16;

// The package declares them as `const enum`s, which single-file compilation cannot read.
const ARGON2ID = 2 as Algorithm.Argon2id;
const VERSION_19 = 1 as Version.V0x13;

/** A master password, or what asks for it, once, when it is found to be needed. */
export type Password = string | (() => string | Promise<string>);

/** How a key is made. */
interface Made {
  memory: number;
  passes: number;
  lanes: number;
  salt: Buffer;
}

/** Whether the identifier is that of a key from a password. */
export function isPasswordKey(id: string): boolean {
  return id.split('$')[0] === SCHEME;
}

/** Reads an identifier; gives the check too. */
export function parseKeyId(id: string): { made: Made; check: Buffer } | undefined {
  const found = /^argon2id\$m=(\d{1,10}),t=(\d{1,10}),p=(\d{1,10})\$([\w-]*)\$([\w-]*)$/.exec(id);
  if (found === null) return undefined;
  const [memory, passes, lanes] = found.slice(1, 4).map(Number) as [number, number, number];
  const isWithin = (value: number, most: number) => value >= 1 && value <= most;
  if (!isWithin(memory, MOST.memory) || !isWithin(passes, MOST.passes) || !isWithin(lanes, MOST.lanes)) return undefined;
  const salt = Buffer.from(found[4] as string, 'base64url');
  const check = Buffer.from(found[5] as string, 'base64url');
  if (check.length !== 4) return undefined;
  return { made: { memory, passes, lanes, salt }, check };
}

/** The master password of a store. */
export class MasterPassword {
  readonly #given: Password | undefined;
  #asked: Promise<string> | undefined;
  #asking: Promise<unknown> | undefined;

  constructor(given: Password | undefined) {
    this.#given = given;
  }

  /** Whether a store without a key is to be sealed under it. */
  get isGiven(): boolean {
    return typeof this.#given === 'string';
  }

  /** What settles once the user who is being asked has answered; absent: nobody is asked. */
  get asking(): Promise<unknown> | undefined {
    return this.#asking;
  }

  async #reveal(): Promise<string> {
    if (typeof this.#given === 'string') return this.#given;
    if (this.#given === undefined) {
      throw new SecretError('not-found', 'what is stored is sealed under a master password, and none was given');
    }
    const ask = this.#given;
    if (this.#asked === undefined) {
      this.#asked = (async () => ask())();
      const answered = () => (this.#asking = undefined);
      this.#asking = this.#asked.then(answered, answered);
    }
    try {
      const password: unknown = await this.#asked;
      if (typeof password !== 'string') throw new Error('no text was given');
      return password;
    } catch (error) {
      this.#asked = undefined;
      const why = error instanceof Error ? error.message : String(error);
      throw new SecretError(
        'not-found',
        `what is stored is sealed under a master password, which cannot be asked for: ${why}`,
        { cause: error },
      );
    }
  }

  /** A new key of this password, under a salt of its own. Takes a fraction of a second and 64 MiB, on a thread of its own. */
  async newKey(): Promise<SealingKey> {
    const password = await this.#reveal();
    if (password === '') throw new SecretError('not-found', 'the master password is empty');
    const made = { ...RECOMMENDED, salt: randomBytes(SALT_LENGTH) };
    const key = await derive(made, password);
    const { memory, passes, lanes, salt } = made;
    const encoded = [salt, checkOf(key)].map((bytes) => bytes.toString('base64url'));
    return { id: `${SCHEME}$m=${memory},t=${passes},p=${lanes}$${encoded.join('$')}`, key };
  }

  /** The key of that identifier, to seal with or only to open. */
  async key(id: string, use: 'seal' | 'open'): Promise<SealingKey> {
    const parsed = parseKeyId(id);
    if (parsed === undefined) throw new SecretError('unavailable', `${id} does not say how its key is made`);
    const { made, check } = parsed;
    const isSafe = made.memory > LEAST.memory || (made.memory === LEAST.memory && made.passes >= LEAST.passes);
    if (use === 'seal' && !isSafe) {
      throw new SecretError(
        'denied',
        `the store's key is made with less than is safe: ${made.memory} KiB and ${made.passes} passes`,
      );
    }
    const password = await this.#reveal();
    const asked = this.#asked;
    const key = await derive(made, password);
    if (!timingSafeEqual(checkOf(key), check)) {
      // It may have been mistyped: the next to need it asks again.
      if (this.#asked === asked) this.#asked = undefined;
      throw new SecretError('not-found', 'the master password is not the one that this was sealed with');
    }
    return { id, key };
  }
}

async function derive({ memory, passes, lanes, salt }: Made, password: string): Promise<Buffer> {
  try {
    return await hashRaw(password, {
      algorithm: ARGON2ID,
      version: VERSION_19,
      memoryCost: memory,
      timeCost: passes,
      parallelism: lanes,
      outputLen: 32,
      salt,
    });
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new SecretError('unavailable', `deriving the key: ${why}`, { cause: error });
  }
}

/** Tells a wrong password from a damaged record. */
function checkOf(key: Uint8Array): Buffer {
  return createHash('sha256').update('tokenwell key check').update(key).digest().subarray(0, 4);
}
