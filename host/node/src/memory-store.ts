import type { Entry, Lease, Swapped, TokenStore } from './store.js';
import { checkKey } from './store.js';
import { Turnstiles, type Attempt } from './turnstile.js';

/** All that is known of a key. It stays when the entry is deleted, for the numbers' sake. */
interface Slot {
  value: Uint8Array | undefined;
  version: bigint;
  fence: bigint;
  heldUntil: number;
}

/** Keeps records in the memory of this process. */
export class MemoryStore implements TokenStore {
  readonly #slots = new Map<string, Slot>();
  readonly #turnstiles = new Turnstiles();

  #slot(key: string): Slot {
    checkKey(key);
    let slot = this.#slots.get(key);
    if (slot === undefined) {
      slot = { value: undefined, version: 0n, fence: 0n, heldUntil: 0 };
      this.#slots.set(key, slot);
    }
    return slot;
  }

  load(key: string, known?: bigint): Entry | 'unchanged' | undefined {
    const { value, version } = this.#slot(key);
    if (value === undefined) return undefined;
    return version === known ? 'unchanged' : { version, value: value.slice() };
  }

  isCurrent(key: string, version: bigint): boolean {
    const slot = this.#slots.get(key);
    return slot?.value !== undefined && slot.version === version;
  }

  compareAndSwap(key: string, expected: bigint | undefined, value: Uint8Array, fence?: bigint): Swapped {
    const slot = this.#slot(key);
    if (fence !== undefined && fence < slot.fence) return { status: 'fenced' };
    const current = slot.value === undefined ? undefined : { version: slot.version, value: slot.value.slice() };
    if (current?.version !== expected) return { status: 'stale', current };
    slot.version += 1n;
    slot.value = value.slice();
    return { status: 'stored', version: slot.version };
  }

  delete(key: string, expected: bigint): boolean {
    const slot = this.#slot(key);
    if (slot.value === undefined || slot.version !== expected) return false;
    slot.value = undefined;
    return true;
  }

  acquireLease(key: string, ttlMs: number, waitMs: number): Lease | Promise<Lease | undefined> {
    const turnstile = this.#turnstiles.at(key);
    const slot = this.#slot(key);
    const attempt = (): Attempt<Lease> => {
      const now = performance.now();
      if (slot.heldUntil > now) return { heldForMs: slot.heldUntil - now };
      slot.fence += 1n;
      slot.heldUntil = now + ttlMs;
      const fence = slot.fence;
      const release = () => {
        if (slot.fence === fence) slot.heldUntil = 0;
        turnstile.release();
      };
      return { taken: { fence, release } };
    };
    return turnstile.passNow(attempt) ?? turnstile.pass(waitMs, attempt);
  }
}
