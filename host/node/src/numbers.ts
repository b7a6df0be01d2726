// What the memory store knows of a key beside its value: numbers, which all threads
// share, so that a worker need not ask the main thread, and wait for it, to take the
// lease or to store what it has. The values follow by message.

/** Where the numbers are. */
const enum At {
  Lock,
  Version,
  IsPresent,
  Fence,
  /** Until when the lease is held, by the clock of `process.hrtime`. */
  HeldUntilSeconds,
  HeldUntilMilliseconds,
  /** How many wait for the lease, on the main thread. */
  Waiting,
  End,
}

/** The longest that a lease is given for; whoever asks for more gets this. */
const LONGEST_LEASE_MS = 24 * 60 * 60 * 1000;

/** The numbers of one key. */
export class Numbers {
  readonly shared: SharedArrayBuffer;
  readonly #at: Int32Array;

  constructor(shared = new SharedArrayBuffer(At.End * Int32Array.BYTES_PER_ELEMENT)) {
    this.shared = shared;
    this.#at = new Int32Array(shared);
  }

  /** The version; `undefined` where there is no entry. */
  get version(): bigint | undefined {
    const at = this.#at;
    this.#lock();
    const version = at[At.IsPresent] === 1 ? (at[At.Version] as number) : -1;
    this.#unlock();
    return version < 0 ? undefined : BigInt(version);
  }

  /** Gives the entry its next version, which is returned, where it has the expected one. */
  swap(expected: bigint | undefined, fence: bigint | undefined): bigint | 'stale' | 'fenced' {
    const at = this.#at;
    const known = expected === undefined ? -1 : Number(expected);
    const lease = fence === undefined ? -1 : Number(fence);
    this.#lock();
    const isFenced = lease >= 0 && lease < (at[At.Fence] as number);
    const isExpected = known === (at[At.IsPresent] === 1 ? (at[At.Version] as number) : -1);
    const version = (at[At.Version] as number) + 1;
    if (!isFenced && isExpected) {
      at[At.Version] = version;
      at[At.IsPresent] = 1;
    }
    this.#unlock();
    if (isFenced) return 'fenced';
    return isExpected ? BigInt(version) : 'stale';
  }

  /** Takes the entry away, where it has that version. */
  remove(expected: bigint): boolean {
    const at = this.#at;
    const known = Number(expected);
    this.#lock();
    const isExpected = at[At.IsPresent] === 1 && at[At.Version] === known;
    if (isExpected) at[At.IsPresent] = 0;
    this.#unlock();
    return isExpected;
  }

  /** Takes the lease: its fence, or for how long it is held. */
  take(ttlMs: number): { fence: bigint } | { heldForMs: number } {
    const at = this.#at;
    const ttl = Math.ceil(Math.min(ttlMs, LONGEST_LEASE_MS));
    const [seconds, nanoseconds] = process.hrtime();
    const milliseconds = Math.floor(nanoseconds / 1e6);
    const until = milliseconds + ttl;
    const untilSeconds = seconds + Math.floor(until / 1000);
    const untilMilliseconds = until % 1000;
    this.#lock();
    const heldForMs =
      ((at[At.HeldUntilSeconds] as number) - seconds) * 1000 + ((at[At.HeldUntilMilliseconds] as number) - milliseconds);
    const fence = (at[At.Fence] as number) + 1;
    if (heldForMs <= 0) {
      at[At.Fence] = fence;
      at[At.HeldUntilSeconds] = untilSeconds;
      at[At.HeldUntilMilliseconds] = untilMilliseconds;
    }
    this.#unlock();
    return heldForMs > 0 ? { heldForMs } : { fence: BigInt(fence) };
  }

  /** Gives the lease back, if it is still the latest. */
  release(fence: bigint): void {
    const at = this.#at;
    const given = Number(fence);
    this.#lock();
    if (at[At.Fence] === given) at[At.HeldUntilSeconds] = 0;
    this.#unlock();
  }

  /** Whether somebody waits for the lease, who would be passed by. */
  get isAwaited(): boolean {
    return Atomics.load(this.#at, At.Waiting) > 0;
  }

  /** One more waits for the lease, or one less. */
  await(one: 1 | -1): void {
    Atomics.add(this.#at, At.Waiting, one);
  }

  /**
   * Locks the numbers, for a few steps with whole numbers alone: the others spin
   * meanwhile, the main thread among them.
   */
  #lock(): void {
    while (Atomics.compareExchange(this.#at, At.Lock, 0, 1) !== 0);
  }

  #unlock(): void {
    Atomics.store(this.#at, At.Lock, 0);
  }
}
