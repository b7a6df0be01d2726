// Waiting for a lease in the order of arrival. Of all that wait for a key in this
// process only the first tries to take it, so that many cost no more than one.

/** What came of trying to take a lease: it, or after how long to try again. */
export type Attempt<L> = { taken: L } | { heldForMs: number };

class Turnstile {
  #queue: Promise<void> = Promise.resolve();
  /** How many have come and not left. */
  #length = 0;
  #wake: (() => void) | undefined;
  #released = false;

  /** Says that the lease has been given back. */
  release(): void {
    this.#released = true;
    this.#wake?.();
  }

  /** Attempts at once, where nobody waits; gives nothing where it is held or somebody does. */
  passNow<L>(attempt: () => Attempt<L>): L | undefined {
    if (this.#length > 0) return undefined;
    const outcome = attempt();
    return 'taken' in outcome ? outcome.taken : undefined;
  }

  /** Attempts until the lease is taken or the time is over. */
  async pass<L>(waitMs: number, attempt: () => Attempt<L> | Promise<Attempt<L>>): Promise<L | undefined> {
    const until = performance.now() + waitMs;
    const before = this.#queue;
    let leave!: () => void;
    const left = new Promise<void>((resolve) => (leave = resolve));
    this.#queue = before.then(() => left);
    this.#length += 1;
    try {
      if (!(await settledBefore(before, until))) return undefined;
      for (;;) {
        this.#released = false;
        const outcome = await attempt();
        if ('taken' in outcome) return outcome.taken;
        const remaining = until - performance.now();
        if (remaining <= 0) return undefined;
        await this.#pause(Math.min(outcome.heldForMs, remaining));
      }
    } finally {
      this.#length -= 1;
      leave();
    }
  }

  /** A release ends the pause early. */
  #pause(ms: number): Promise<void> {
    if (this.#released) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(done, ms);
      const self = this;
      function done() {
        clearTimeout(timer);
        self.#wake = undefined;
        resolve();
      }
      this.#wake = done;
    });
  }
}

function settledBefore(promise: Promise<void>, until: number): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(false), Math.max(0, until - performance.now()));
    void promise.then(() => {
      clearTimeout(timer);
      resolve(true);
    });
  });
}

/** One turnstile for each key. */
export class Turnstiles {
  readonly #keys = new Map<string, Turnstile>();

  at(key: string): Turnstile {
    let turnstile = this.#keys.get(key);
    if (turnstile === undefined) {
      turnstile = new Turnstile();
      this.#keys.set(key, turnstile);
    }
    return turnstile;
  }
}
