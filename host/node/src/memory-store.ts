import { Numbers } from './numbers.js';
import type { Entry, Lease, Swapped, TokenStore } from './store.js';
import { checkKey } from './store.js';
import { Turnstiles, type Attempt } from './turnstile.js';

/** All that is known of a key. It stays when the entry is deleted, for the numbers' sake. */
interface Slot {
  numbers: Numbers;
  /** The value, and the version that it came with; the numbers may be a message ahead of it. */
  value: Uint8Array;
  version: bigint;
  /** What waits for the value. */
  awaited: (() => void)[];
}

/** Keeps records in the memory of this process. */
export class MemoryStore implements TokenStore {
  readonly #slots = new Map<string, Slot>();
  readonly #turnstiles = new Turnstiles();

  #slot(key: string): Slot {
    checkKey(key);
    let slot = this.#slots.get(key);
    if (slot === undefined) {
      slot = { numbers: new Numbers(), value: new Uint8Array(), version: 0n, awaited: [] };
      this.#slots.set(key, slot);
    }
    return slot;
  }

  load(key: string, known?: bigint): Entry | 'unchanged' | undefined | Promise<Entry | 'unchanged' | undefined> {
    const slot = this.#slot(key);
    const { version } = slot.numbers;
    if (version === undefined) return undefined;
    if (version === known) return 'unchanged';
    if (version === slot.version) return { version, value: slot.value.slice() };
    // A worker has stored it, and its message is on the way.
    return new Promise<void>((resolve) => slot.awaited.push(resolve)).then(() => this.load(key, known));
  }

  isCurrent(key: string, version: bigint): boolean {
    return this.#slots.get(key)?.numbers.version === version;
  }

  compareAndSwap(key: string, expected: bigint | undefined, value: Uint8Array, fence?: bigint): Swapped | Promise<Swapped> {
    const swapped = this.#slot(key).numbers.swap(expected, fence);
    if (swapped === 'fenced') return { status: swapped };
    if (swapped === 'stale') {
      const stale = (current: unknown): Swapped => ({ status: swapped, current: current as Entry | undefined });
      const current = this.load(key);
      return current instanceof Promise ? current.then(stale) : stale(current);
    }
    this.publish(key, swapped, value);
    return { status: 'stored', version: swapped };
  }

  delete(key: string, expected: bigint): boolean {
    return this.#slot(key).numbers.remove(expected);
  }

  acquireLease(key: string, ttlMs: number, waitMs: number): Lease | Promise<Lease | undefined> {
    const turnstile = this.#turnstiles.at(key);
    const { numbers } = this.#slot(key);
    const attempt = (): Attempt<Lease> => {
      const outcome = numbers.take(ttlMs);
      return 'fence' in outcome ? { taken: this.lease(key, outcome.fence) } : outcome;
    };
    const taken = turnstile.passNow(attempt);
    if (taken !== undefined) return taken;
    numbers.await(1);
    return turnstile.pass(waitMs, attempt).finally(() => numbers.await(-1));
  }

  /** @internal The numbers of a key, for a worker. */
  numbers(key: string): Numbers {
    return this.#slot(key).numbers;
  }

  /** @internal The lease that has been taken with that fence. */
  lease(key: string, fence: bigint): Lease {
    const { numbers } = this.#slot(key);
    const release = () => {
      numbers.release(fence);
      this.#turnstiles.at(key).release();
    };
    return { fence, release };
  }

  /** @internal Takes the value that has been given that version. */
  publish(key: string, version: bigint, value: Uint8Array): void {
    const slot = this.#slot(key);
    if (version > slot.version) {
      slot.value = value.slice();
      slot.version = version;
    }
    for (const resolve of slot.awaited.splice(0)) resolve();
  }

  /** @internal A worker has ended: what it had stored and not sent is lost, and what was there before holds. */
  recover(key: string): void {
    const slot = this.#slot(key);
    const { version } = slot.numbers;
    if (version === undefined || version === slot.version) return;
    if (slot.version === 0n) slot.numbers.remove(version);
    this.publish(key, version, slot.value);
  }
}
