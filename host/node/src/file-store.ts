import { closeSync, openSync, readSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import * as files from './files.js';
import { tryLock } from './flock.js';
import { checkKey, StoreError, type Entry, type Lease, type Swapped, type TokenStore } from './store.js';
import { Turnstiles, type Attempt } from './turnstile.js';

const FORMAT = 'tokenwell-record';
const FORMAT_VERSION = 1;

/** More than a record ever has, in bytes. */
const RECORD_LIMIT = 16 << 20;

/** The longest pause between two looks at a lease that another process holds. */
const LONGEST_PAUSE_MS = 50;

/** The longest that a lease is given for; whoever asks for more gets this. */
const LONGEST_LEASE_MS = 24 * 60 * 60 * 1000;

/** As much of a record as has its version in it, in the way that the hosts write it. */
const HEAD = Buffer.alloc(128);

/** The content of `KEY.lease`. One that cannot be read counts as none. */
interface LeaseState {
  fence: bigint;
  expiresAtMs: number;
  deletedVersion: bigint;
}

/**
 * Keeps each record in a file of a directory, which is created when first written
 * to. Any number of processes on the machine can share the directory, this host's
 * and the reference host's: files and locks are those of `host/src/store/file.rs`.
 * Linux and macOS.
 */
export class FileStore implements TokenStore {
  readonly directory: string;
  readonly #turnstiles = new Turnstiles();

  constructor(directory: string) {
    this.directory = directory;
  }

  async load(key: string, known?: bigint): Promise<Entry | 'unchanged' | undefined> {
    checkKey(key);
    const entry = await this.#read(key);
    return entry !== undefined && entry.version === known ? 'unchanged' : entry;
  }

  /**
   * Reads the first bytes of the file, synchronously: some microseconds on a local
   * disk. Where they do not show that version, it is not current, or another
   * writer's JSON is of another order; then the caller loads it.
   */
  isCurrent(key: string, version: bigint): boolean {
    checkKey(key);
    let descriptor: number;
    try {
      descriptor = openSync(join(this.directory, key), 'r');
    } catch {
      return false;
    }
    try {
      const length = readSync(descriptor, HEAD, 0, HEAD.length, 0);
      return HEAD.toString('latin1', 0, length).includes(`"version":${version},`);
    } catch {
      return false;
    } finally {
      closeSync(descriptor);
    }
  }

  compareAndSwap(key: string, expected: bigint | undefined, value: Uint8Array, fence?: bigint): Promise<Swapped> {
    return this.#locked<Swapped>(key, async () => {
      const state = await this.#leaseState(key);
      if (fence !== undefined && fence < state.fence) return { status: 'fenced' };
      const current = await this.#read(key);
      if (current?.version !== expected) return { status: 'stale', current };
      const version = nextNumber(current?.version ?? state.deletedVersion);
      const sealed = Buffer.from(value).toString('base64');
      const record = `{"format":"${FORMAT}","format_version":${FORMAT_VERSION},"version":${version},"sealed":"${sealed}"}\n`;
      await this.#attempt(key, 'writing', () => files.replace(join(this.directory, key), record, true));
      return { status: 'stored', version };
    });
  }

  delete(key: string, expected: bigint): Promise<boolean> {
    return this.#locked(key, async () => {
      const current = await this.#read(key);
      if (current?.version !== expected) return false;
      const state = await this.#leaseState(key);
      await this.#writeLease(key, { ...state, deletedVersion: expected }, true);
      await this.#attempt(key, 'deleting', async () => {
        await fs.unlink(join(this.directory, key));
        await files.syncDirectory(this.directory);
      });
      return true;
    });
  }

  acquireLease(key: string, ttlMs: number, waitMs: number): Promise<Lease | undefined> {
    checkKey(key);
    const turnstile = this.#turnstiles.at(key);
    let pause = 5;
    return turnstile.pass<Lease>(waitMs, async () => {
      const attempt = await this.#takeLease(key, ttlMs);
      if ('heldForMs' in attempt) {
        const heldForMs = Math.min(attempt.heldForMs, pause);
        pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
        return { heldForMs };
      }
      const { fence, release } = attempt.taken;
      return {
        taken: {
          fence,
          release: async () => {
            await release();
            turnstile.release();
          },
        },
      };
    });
  }

  async #takeLease(key: string, ttlMs: number): Promise<Attempt<{ fence: bigint; release(): Promise<void> }>> {
    return this.#locked(key, async () => {
      const state = await this.#leaseState(key);
      const now = Date.now();
      const left = state.expiresAtMs - now;
      const previous = this.#holderFile(key, state.fence);
      if (left > 0 && (await this.#attempt(key, 'locking', () => isLocked(previous)))) return { heldForMs: left };

      const fence = nextNumber(state.fence);
      const path = this.#holderFile(key, fence);
      const holder = await this.#attempt(key, 'locking', () => files.openPrivate(path, true));
      // Where either fails, the lock still ends as the file is closed.
      const release = async () => {
        await fs.unlink(path).catch(() => undefined);
        await holder.close().catch(() => undefined);
      };
      try {
        if (!tryLock(holder.fd)) throw new StoreError('unavailable', `${path} is locked by another process`);
        const expiresAtMs = Math.floor(now + Math.min(ttlMs, LONGEST_LEASE_MS));
        await this.#writeLease(key, { ...state, fence, expiresAtMs }, false);
        await this.#attempt(key, 'locking', () => files.removeIfThere(previous));
      } catch (error) {
        await release();
        throw error;
      }
      return { taken: { fence, release } };
    });
  }

  #lockFile(key: string, suffix: string): string {
    return join(this.directory, '.locks', `${key}.${suffix}`);
  }

  #holderFile(key: string, fence: bigint): string {
    return this.#lockFile(key, `holder.${fence}`);
  }

  async #locked<T>(key: string, work: () => Promise<T>): Promise<T> {
    checkKey(key);
    return this.#attempt(key, 'locking', async () => {
      await files.createPrivateDirectory(join(this.directory, '.locks'));
      return files.withLock(this.#lockFile(key, 'lock'), work);
    });
  }

  async #read(key: string): Promise<Entry | undefined> {
    const path = join(this.directory, key);
    const content = await this.#attempt(key, 'reading', () => readAtMost(path));
    if (content === undefined) return undefined;
    if (content.length > RECORD_LIMIT) throw corrupt(path, 'is longer than any record');
    const notARecord = () => corrupt(path, 'is not a whole token record');
    let record: { format?: unknown; format_version?: unknown; version?: unknown; sealed?: unknown };
    try {
      record = JSON.parse(content.toString('utf8')) as typeof record;
    } catch {
      throw notARecord();
    }
    if (typeof record !== 'object' || record === null || record.format !== FORMAT) throw notARecord();
    const { format_version: formatVersion, version, sealed } = record;
    if (!Number.isSafeInteger(formatVersion) || (formatVersion as number) < 0) throw notARecord();
    if (formatVersion !== FORMAT_VERSION) {
      throw corrupt(path, `has format version ${String(formatVersion)}; this version reads ${FORMAT_VERSION}`);
    }
    if (!Number.isSafeInteger(version) || (version as number) < 0 || typeof sealed !== 'string') throw notARecord();
    const value = Buffer.from(sealed, 'base64');
    // Node passes over what is not base64.
    if (value.toString('base64') !== sealed) throw notARecord();
    return { version: BigInt(version as number), value };
  }

  async #leaseState(key: string): Promise<LeaseState> {
    const path = this.#lockFile(key, 'lease');
    const content = await this.#attempt(key, 'reading the lease of', () => files.readIfThere(path));
    let state: { fence?: unknown; expires_at_ms?: unknown; deleted_version?: unknown } = {};
    try {
      if (content !== undefined) state = JSON.parse(content.toString('utf8')) as typeof state;
    } catch {
      // Fences and versions then go on from the clock.
    }
    const number = (value: unknown) => (Number.isSafeInteger(value) && (value as number) >= 0 ? (value as number) : 0);
    return {
      fence: BigInt(number(state?.fence)),
      expiresAtMs: number(state?.expires_at_ms),
      deletedVersion: BigInt(number(state?.deleted_version)),
    };
  }

  #writeLease(key: string, state: LeaseState, durable: boolean): Promise<void> {
    const { fence, expiresAtMs, deletedVersion } = state;
    const content = `{"fence":${fence},"expires_at_ms":${expiresAtMs},"deleted_version":${deletedVersion}}\n`;
    return this.#attempt(key, 'writing', () => files.replace(this.#lockFile(key, 'lease'), content, durable));
  }

  async #attempt<T>(key: string, doing: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (error instanceof StoreError) throw error;
      const message = error instanceof Error ? error.message : String(error);
      throw new StoreError('unavailable', `${doing} ${join(this.directory, key)} failed: ${message}`, { cause: error });
    }
  }
}

async function readAtMost(path: string): Promise<Buffer | undefined> {
  let file: fs.FileHandle;
  try {
    file = await fs.open(path, 'r');
  } catch (error) {
    if (files.isMissing(error)) return undefined;
    throw error;
  }
  try {
    const { size } = await file.stat();
    if (size <= RECORD_LIMIT) return await file.readFile();
    return Buffer.alloc(RECORD_LIMIT + 1);
  } finally {
    await file.close();
  }
}

function corrupt(path: string, what: string): StoreError {
  return new StoreError('corrupt', `${path} ${what}`);
}

/** Whether a live process has that file locked. */
async function isLocked(path: string): Promise<boolean> {
  let file: fs.FileHandle;
  try {
    file = await files.openPrivate(path, false);
  } catch (error) {
    if (files.isMissing(error)) return false;
    throw error;
  }
  try {
    return !tryLock(file.fd);
  } finally {
    await file.close();
  }
}

/** The last number given out: the clock of this process is coarser than a microsecond. */
let last = 0n;

/**
 * A number greater than that one, and than any given out before it, even if there
 * is no memory of those: at least the time in microseconds since 1970.
 */
function nextNumber(previous: bigint): bigint {
  let next = BigInt(Date.now()) * 1000n;
  if (next <= previous) next = previous + 1n;
  if (next <= last) next = last + 1n;
  last = next;
  return next;
}
