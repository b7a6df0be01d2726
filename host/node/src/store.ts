import { describe } from './config.js';

/** A stored value, and which one it is. */
export interface Entry {
  version: bigint;
  value: Uint8Array;
}

/** What became of a swap. */
export type Swapped =
  /** The value is stored, durably, and this is its version. */
  | { status: 'stored'; version: bigint }
  /** Another value is there than was expected: this one, or none. */
  | { status: 'stale'; current: Entry | undefined }
  /** A later lease on the key has been given out than the one named. */
  | { status: 'fenced' };

/** The right to renew what is under a key; lost when its time runs out. */
export interface Lease {
  /** A number greater than that of every earlier lease on the key. */
  readonly fence: bigint;
  /** Gives it back. */
  release(): void | Promise<void>;
}

type Awaitable<T> = T | Promise<T>;

/**
 * Keeps records under keys. Values are opaque bytes, sealed by the component.
 * What a store throws is a `StoreError`, or else taken for `unavailable`; a
 * promise that is not settled in time (`hostTimeoutMs`) counts as that too.
 */
export interface TokenStore {
  /**
   * Reads the entry under a key: `undefined` where there is none, `"unchanged"`
   * where it still has the version known.
   */
  load(key: string, known: bigint | undefined): Awaitable<Entry | 'unchanged' | undefined>;

  /**
   * Stores a value where the entry still has the expected version (`undefined`:
   * where there is none), atomically among all that share the store. With a
   * fence number, only while no later lease on the key has been given out. When
   * it answers `stored`, the value survives a crash. A version never returns to
   * an earlier number under the same key, not even across a deletion.
   */
  compareAndSwap(
    key: string,
    expected: bigint | undefined,
    value: Uint8Array,
    fence: bigint | undefined,
  ): Awaitable<Swapped>;

  /** Deletes the entry where it still has that version, and tells whether. */
  delete(key: string, expected: bigint): Awaitable<boolean>;

  /**
   * Takes the lease on a key for at most `ttlMs`, waiting for its present holder
   * for at most `waitMs`; `undefined`: it is held.
   */
  acquireLease(key: string, ttlMs: number, waitMs: number): Awaitable<Lease | undefined>;

  /**
   * Optional: whether the entry still has that version, answered at once. With
   * it a fresh token is handed out without a turn of the event loop; without it,
   * `load` is asked.
   */
  isCurrent?(key: string, version: bigint): boolean;
}

/** Why a store could not do it. The message is free of secrets. */
export class StoreError extends Error {
  override readonly name = 'StoreError';
  constructor(
    /**
     * `unavailable`: it cannot be reached, is full, or failed; another time it
     * may work. `denied`: it does not allow it. `corrupt`: what is stored is not
     * what the store wrote.
     */
    readonly kind: 'unavailable' | 'denied' | 'corrupt',
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}

/** The key that a connection's record is under. */
export function recordKey(connection: string): string {
  return `${connection}.tokens`;
}

/**
 * Says whether a store takes that key: letters, digits, `.`, `_` and `-`, no
 * leading dot, at most 100 of them.
 */
export function checkKey(key: string): void {
  if (!/^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$/.test(key)) {
    throw new StoreError(
      'denied',
      'a key has letters, digits, `.`, `_` and `-`, no leading dot, and at most 100 of them',
    );
  }
}

function misfit(where: string, value: unknown, expected: string): StoreError {
  return new StoreError('unavailable', `${where} is ${describe(value)}, and must be ${expected}`);
}

function checkNumber(where: string, value: unknown): bigint {
  if (typeof value === 'bigint' && value >= 0n && value < 1n << 64n) return value;
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return BigInt(value);
  throw misfit(where, value, 'a bigint');
}

function checkEntry(where: string, entry: unknown): Entry {
  if (typeof entry !== 'object' || entry === null) throw misfit(where, entry, 'an entry');
  const { version, value } = entry as Partial<Entry>;
  if (!(value instanceof Uint8Array)) throw misfit(`${where}.value`, value, 'a Uint8Array');
  return { version: checkNumber(`${where}.version`, version), value };
}

/** What `load` has given, if it is that. */
export function checkLoaded(loaded: unknown): Entry | 'unchanged' | undefined {
  if (loaded === undefined || loaded === null) return undefined;
  return loaded === 'unchanged' ? loaded : checkEntry('what store.load gives', loaded);
}

/** What `compareAndSwap` has given, if it is that. */
export function checkSwapped(swapped: unknown): Swapped {
  const where = 'what store.compareAndSwap gives';
  if (typeof swapped !== 'object' || swapped === null) throw misfit(where, swapped, 'an object with `status`');
  const { status, version, current } = swapped as { status?: unknown; version?: unknown; current?: unknown };
  switch (status) {
    case 'stored':
      return { status, version: checkNumber(`${where}.version`, version) };
    case 'stale':
      return {
        status,
        current: current === undefined || current === null ? undefined : checkEntry(`${where}.current`, current),
      };
    case 'fenced':
      return { status };
    default:
      throw misfit(`${where}.status`, status, '`stored`, `stale` or `fenced`');
  }
}

/** What `acquireLease` has given, if it is that. */
export function checkLease(lease: unknown): Lease | undefined {
  const where = 'what store.acquireLease gives';
  if (lease === undefined || lease === null) return undefined;
  if (typeof lease !== 'object') throw misfit(where, lease, 'a lease or undefined');
  const { fence, release } = lease as Partial<Lease>;
  if (typeof release !== 'function') throw misfit(`${where}.release`, release, 'a function');
  const number = checkNumber(`${where}.fence`, fence);
  return { fence: number, release: () => (lease as Lease).release() };
}
