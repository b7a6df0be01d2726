// The main thread's half: does for a call of the component what it asks for.
import { describe } from './config.js';
import { HttpError, type Exchange, type HttpRequest, type Sender } from './http-client.js';
import type { Job, Reply, Request } from './bridge.js';
import { LocalSecrets } from './local-secrets.js';
import { MemoryStore } from './memory-store.js';
import * as secrets from './secrets.js';
import type { SealingKey } from './seal.js';
import { SecretError, type Secrets } from './secrets.js';
import * as stores from './store.js';
import { StoreError, type Entry, type Lease, type TokenStore } from './store.js';
import { inTime, Unsettled } from './time.js';
import type { DeviceAuthorization, TokenwellEvent } from './types.js';
import { UserAgentError, type Arrival, type Listener, type Outcome, type UserAgent } from './user-agent.js';

/** What a host provides. */
export interface Provided {
  store: TokenStore;
  secrets: Secrets;
  userAgent: UserAgent;
  /** How long a promise of the application's may take, in milliseconds. */
  hostTimeoutMs: number;
  /** Whether a config may have `tls: trust`. */
  tlsTrust: boolean;
  emit(event: TokenwellEvent): void;
}

type Payload = { tag: string; val?: unknown };

type Loaded = { tag: 'absent' } | { tag: 'unchanged' } | { tag: 'entry'; val: Entry };

/** What belongs to one call of the component: what it holds, and what it has seen. */
export class CallContext {
  /** The version last seen of each entry. */
  readonly versions = new Map<string, bigint>();
  /** What the application's own parts threw last. */
  cause: unknown;
  /** Why the host refused to send something, where it did. */
  refusal: string | undefined;
  readonly #leases = new Map<number, Lease>();
  readonly #listeners = new Map<number, Listener>();
  readonly #arrivals = new Map<number, Arrival>();
  readonly #requests = new Map<number, Exchange>();
  #handles = 0;
  #isOver = false;
  #cancel: (() => void) | undefined;
  readonly #cancelled: Promise<'cancelled'>;
  #isCancelled = false;

  constructor(
    readonly provided: Provided,
    readonly http: Sender,
    readonly userAgent: UserAgent = provided.userAgent,
  ) {
    this.#cancelled = new Promise((resolve) => {
      this.#cancel = () => {
        this.#isCancelled = true;
        resolve('cancelled');
      };
    });
  }

  /** Ends the wait for the user; requests under way are finished. */
  cancel(): void {
    this.#cancel?.();
  }

  /** The call is over: gives back what it still holds. */
  end(): void {
    this.#isOver = true;
    for (const exchange of this.#requests.values()) exchange.cancel();
    for (const lease of this.#leases.values()) release(lease);
    for (const arrival of this.#arrivals.values()) arrival.drop();
    for (const listener of this.#listeners.values()) void quietly(() => listener.close());
  }

  /** The sealing keys, where they are at hand. */
  knownSealingKeys(): readonly SealingKey[] | undefined {
    const { secrets: held } = this.provided;
    return held instanceof LocalSecrets ? held.knownSealingKeys() : undefined;
  }

  /** What a worker needs to do what the memory store does. */
  atHand(key: string): Pick<Job, 'numbers' | 'entry'> {
    const store = this.#memory;
    if (store === undefined) return {};
    try {
      const { shared } = store.numbers(key);
      const known = this.versions.get(key);
      const given = store.load(key, known);
      // One that is on the way from another worker is asked for, where it is needed.
      const loaded = isThenable(given) ? undefined : this.#loaded(key, known, given);
      return { numbers: { key, shared }, entry: loaded?.tag === 'entry' ? loaded.val : undefined };
    } catch {
      // Of a key that cannot be, it is told when it is asked for.
      return {};
    }
  }

  /** The memory store, where it is that and nothing that somebody has made of it. */
  get #memory(): MemoryStore | undefined {
    const { store } = this.provided;
    const isPlain = store instanceof MemoryStore && Object.getPrototypeOf(store) === MemoryStore.prototype && Object.keys(store).length === 0;
    return isPlain ? store : undefined;
  }

  /** The worker has ended under way: what it had stored and not sent is lost. */
  recover(key: string): void {
    this.#memory?.recover(key);
  }

  /** Takes note of what a store gave. */
  #loaded(key: string, known: bigint | undefined, given: unknown): Loaded {
    const loaded = stores.checkLoaded(given);
    if (loaded === 'unchanged') {
      if (known !== undefined) this.versions.set(key, known);
      return { tag: 'unchanged' };
    }
    if (loaded === undefined) {
      this.versions.delete(key);
      return { tag: 'absent' };
    }
    this.versions.set(key, loaded.version);
    return { tag: 'entry', val: loaded };
  }

  /**
   * Answers a request of the worker; `undefined` where it wants no answer. What is at
   * hand is answered at once: the worker stands still meanwhile.
   */
  answer(request: Request): Reply | undefined | Promise<Reply | undefined> {
    const { id, operation, args } = request;
    try {
      const value = this.#do(id, operation, args);
      if (isThenable(value)) return this.#answerLater(request, value);
      return id === 0 ? undefined : { id, value };
    } catch (error) {
      return this.answerFailed(request, error);
    }
  }

  async #answerLater(request: Request, value: Promise<unknown>): Promise<Reply | undefined> {
    const { id } = request;
    try {
      return await value.then((settled) => (id === 0 ? undefined : { id, value: settled }));
    } catch (error) {
      return this.answerFailed(request, error);
    } finally {
      this.#requests.delete(id);
    }
  }

  /** Answers that it has failed. */
  answerFailed({ id, operation }: Request, error: unknown): Reply | undefined {
    if (error instanceof HttpError) {
      this.refusal ??= error.refusal;
      // A request that was called off has nobody who waits for its answer.
      if (operation === 'http' && !this.#requests.has(id)) return undefined;
    } else {
      this.cause = error;
    }
    return id === 0 ? undefined : { id, error: payloadOf(operation, error) };
  }

  /** Does what is asked for: at once, or the promise of it. */
  #do(id: number, operation: string, args: unknown[]): unknown {
    const { store } = this.provided;
    switch (operation) {
      case 'load': {
        const [key, known] = args as [string, bigint | undefined];
        return then(this.#settled<unknown>('store.load', () => store.load(key, known)), (given) => this.#loaded(key, known, given));
      }
      case 'compare-and-swap': {
        const [key, expected, value, fence] = args as [string, bigint | undefined, Uint8Array, bigint | undefined];
        const ask = () => store.compareAndSwap(key, expected, value, fence);
        return then(this.#settled<unknown>('store.compareAndSwap', ask), (given) => {
          const swapped = stores.checkSwapped(given);
          switch (swapped.status) {
            case 'stored':
              this.versions.set(key, swapped.version);
              return { tag: 'stored', val: swapped.version };
            case 'stale':
              if (swapped.current !== undefined) this.versions.set(key, swapped.current.version);
              return { tag: 'stale', val: swapped.current };
            case 'fenced':
              return { tag: 'fenced' };
          }
        });
      }
      case 'delete': {
        const [key, expected] = args as [string, bigint];
        return then(this.#settled<unknown>('store.delete', () => store.delete(key, expected)), (deleted) => deleted === true);
      }
      case 'acquire-lease': {
        const [key, ttl, wait] = args as [string, number, number];
        return then(this.#leased(store.acquireLease(key, ttl, wait), wait), (lease) => {
          if (lease === undefined) return undefined;
          const handle = (this.#handles += 1);
          this.#leases.set(handle, lease);
          return { handle, fence: lease.fence };
        });
      }
      case 'stored': {
        const [key, version, value] = args as [string, bigint, Uint8Array];
        this.versions.set(key, version);
        this.#memory?.publish(key, version, value);
        return undefined;
      }
      case 'leased': {
        const [handle, key, fence] = args as [number, string, bigint];
        const lease = this.#memory?.lease(key, fence);
        if (lease !== undefined) this.#leases.set(handle, lease);
        return undefined;
      }
      case 'lease-drop': {
        const lease = this.#leases.get(args[0] as number);
        this.#leases.delete(args[0] as number);
        if (lease !== undefined) release(lease);
        return undefined;
      }
      case 'emit':
        this.provided.emit(eventOf(args[0]));
        return undefined;
      case 'http': {
        const exchange = this.http.send(args[0] as HttpRequest);
        this.#requests.set(id, exchange);
        return exchange.response;
      }
      case 'http-cancel': {
        const exchange = this.#requests.get(args[0] as number);
        this.#requests.delete(args[0] as number);
        exchange?.cancel();
        return undefined;
      }
      default:
        return this.#doLater(operation, args);
    }
  }

  /** The same for what is not asked for with every token. */
  async #doLater(operation: string, args: unknown[]): Promise<unknown> {
    const { secrets: held } = this.provided;
    switch (operation) {
      case 'resolve': {
        const [reference] = args as [string];
        return secrets.checkText('resolve', await this.#secret('secrets.resolve', () => held.resolve(reference)));
      }
      case 'sealing-keys': {
        const [needed] = args as [string | undefined];
        return secrets.checkKeys(await this.#secret('secrets.sealingKeys', () => held.sealingKeys(needed)));
      }
      case 'sign': {
        const [key, algorithm, data] = args as [string, string, Uint8Array];
        return secrets.checkBytes('sign', await this.#secret('secrets.sign', () => held.sign(key, algorithm, data)));
      }
      case 'public-key': {
        const [key] = args as [string];
        return secrets.checkText('publicKey', await this.#secret('secrets.publicKey', () => held.publicKey(key)));
      }
      case 'verify': {
        const [jwk, algorithm, data, signature] = args as [string, string, Uint8Array, Uint8Array];
        const ask = () => held.verify(jwk, algorithm, data, signature);
        return secrets.checkBoolean('verify', await this.#settled('secrets.verify', ask));
      }
      case 'listen': {
        const [connection, redirectUri] = args as [string, string | undefined];
        const asked = (async () => checkListener(await this.userAgent.listen(connection, redirectUri)))();
        let isAwaited = true;
        asked.then(
          (listener) => void ((!isAwaited || this.#isOver) && quietly(() => listener.close())),
          () => undefined,
        );
        const listener = await this.#user('userAgent.listen', () => asked).finally(() => (isAwaited = false));
        const handle = (this.#handles += 1);
        this.#listeners.set(handle, listener);
        return { handle, uri: listener.redirectUri };
      }
      case 'listener-next': {
        const [handle, wait] = args as [number, number];
        const listener = this.#listeners.get(handle);
        const arrival = await this.#user('listener.next', () => listener?.next(wait), wait);
        if (arrival === undefined || arrival === null) return undefined;
        const redirect = redirectPayload(arrival);
        const arrived = (this.#handles += 1);
        this.#arrivals.set(arrived, arrival);
        return { handle: arrived, redirect };
      }
      case 'listener-drop': {
        const listener = this.#listeners.get(args[0] as number);
        this.#listeners.delete(args[0] as number);
        if (listener !== undefined) await quietly(() => listener.close());
        return undefined;
      }
      case 'arrival-respond': {
        const [handle, outcome] = args as [number, Payload];
        const arrival = this.#arrivals.get(handle);
        // How the user is told is no concern of the authorization's.
        await quietly(() => this.#settled('arrival.respond', () => arrival?.respond(outcomeOf(outcome))));
        return undefined;
      }
      case 'arrival-drop': {
        const arrival = this.#arrivals.get(args[0] as number);
        this.#arrivals.delete(args[0] as number);
        arrival?.drop();
        return undefined;
      }
      case 'open-url': {
        const [connection, url] = args as [string, string];
        await this.#user('userAgent.openUrl', () => this.userAgent.openUrl(connection, url));
        return undefined;
      }
      case 'pause':
        return this.#pause(args[0] as number);
      case 'show-device-code': {
        const [connection, device] = args as [string, DevicePayload];
        await this.#user('userAgent.showDeviceCode', () => this.userAgent.showDeviceCode(connection, deviceOf(device)));
        return undefined;
      }
      default:
        throw new Error(`the component asks for ${operation}, which this host does not know`);
    }
  }

  /** A lease, once a store has given one. One that comes when nobody waits for it any more goes straight back. */
  #leased(given: unknown, waitMs: number): Lease | undefined | Promise<Lease | undefined> {
    if (!isThenable(given)) return stores.checkLease(given);
    let isAwaited = true;
    const asked = Promise.resolve<unknown>(given).then(stores.checkLease);
    asked.then(
      (lease) => lease !== undefined && (!isAwaited || this.#isOver) && release(lease),
      () => undefined,
    );
    return inTime('store.acquireLease', asked, this.provided.hostTimeoutMs + waitMs).finally(() => (isAwaited = false));
  }

  /** What a part of the application's gives, which is not waited for for ever. */
  #settled<T>(what: string, ask: () => T | Promise<T>, furtherMs = 0): T | Promise<T> {
    const given = ask();
    return isThenable(given) ? inTime(what, given, this.provided.hostTimeoutMs + furtherMs) : given;
  }

  /** The same for what may need the master password: the time that the user who is asked for it takes does not count. */
  async #secret<T>(what: string, ask: () => T | Promise<T>): Promise<T> {
    const { secrets: held, hostTimeoutMs } = this.provided;
    const asking = () => (held instanceof LocalSecrets ? held.asking : undefined);
    const given = (async () => ask())();
    for (;;) {
      const calledOff = this.#cancelled.then(() => {
        if (asking() === undefined) return given;
        throw new SecretError('denied', 'the master password is waited for no more');
      });
      try {
        return await inTime(what, Promise.race([given, calledOff]), hostTimeoutMs);
      } catch (error) {
        const asked = asking();
        if (!(error instanceof Unsettled) || asked === undefined) throw error;
        await Promise.race([asked, this.#cancelled]);
      }
    }
  }

  /** The same for what waits for the user, which can be called off. */
  async #user<T>(what: string, ask: () => T | Promise<T>, furtherMs = 0): Promise<T> {
    if (this.#isCancelled) throw calledOff();
    const settled = (async () => this.#settled(what, ask, furtherMs))();
    const first = await Promise.race([settled, this.#cancelled]);
    if (first === 'cancelled' && this.#isCancelled) {
      settled.catch(() => undefined);
      throw calledOff();
    }
    return first as T;
  }

  /** Lets the time pass, until it is called off. */
  async #pause(ms: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    // A timer may be early by less than a millisecond, and takes no more than 31 bits.
    const passed = new Promise((resolve) => (timer = setTimeout(resolve, Math.min(Math.ceil(ms) + 1, 2 ** 31 - 1))));
    await Promise.race([passed, this.#cancelled]);
    clearTimeout(timer);
    if (this.#isCancelled) throw calledOff();
  }
}

/** Whether a value is that of a promise, of whatever make. */
export function isThenable(value: unknown): value is Promise<never> {
  return typeof (value as { then?: unknown } | null | undefined)?.then === 'function';
}

/** Goes on with a value: at once where it is there. */
function then<T, U>(value: T | Promise<T>, next: (value: T) => U): U | Promise<U> {
  return isThenable(value) ? Promise.resolve<T>(value).then(next) : next(value as T);
}

async function quietly(work: () => unknown): Promise<void> {
  try {
    await work();
  } catch {
    // It has nobody to be told to.
  }
}

function release(lease: Lease): void {
  // A lease that cannot be given back runs out.
  void quietly(() => lease.release());
}

function calledOff(): UserAgentError {
  return new UserAgentError('denied', 'the authorization was called off');
}

function checkListener(listener: unknown): Listener {
  const { redirectUri, next, close } = (listener ?? {}) as Partial<Listener>;
  if (typeof redirectUri !== 'string' || typeof next !== 'function' || typeof close !== 'function') {
    throw new UserAgentError('unavailable', `what userAgent.listen gives is ${describe(listener)}, and no listener`);
  }
  return listener as Listener;
}

function redirectPayload(arrival: Arrival): Payload {
  const redirect = (arrival as Partial<Arrival>).redirect as { url?: unknown; formPost?: unknown } | undefined;
  if (typeof redirect?.url === 'string') return { tag: 'url', val: redirect.url };
  if (typeof redirect?.formPost === 'string') return { tag: 'form-post', val: redirect.formPost };
  throw new UserAgentError('unavailable', 'what listener.next gives has no `redirect` with `url` or `formPost`');
}

function outcomeOf({ tag, val }: Payload): Outcome {
  return tag === 'authorized' ? { status: 'authorized' } : { status: tag as 'failed' | 'refused', reason: String(val) };
}

interface DevicePayload {
  userCode: string;
  verificationUri: string;
  verificationUriComplete?: string;
  expiresAt: bigint;
  intervalSeconds: number;
}

/** A device authorization in the words of this package. */
export function deviceOf(device: DevicePayload): DeviceAuthorization {
  return {
    userCode: device.userCode,
    verificationUri: device.verificationUri,
    verificationUriComplete: device.verificationUriComplete,
    expiresAt: dateOf(device.expiresAt),
    intervalSeconds: device.intervalSeconds,
  };
}

/** An event in the words of this package. */
export function eventOf(event: unknown): TokenwellEvent {
  const { at, connection, kind, message, details } = event as {
    at: bigint;
    connection: string;
    kind: string;
    message: string;
    details: { name: string; value: string }[];
  };
  return {
    at: dateOf(at),
    connection,
    kind,
    message,
    details: Object.fromEntries(details.map(({ name, value }) => [name, value])),
  };
}

/** A time of the contract, in seconds since 1970. One that a Date cannot hold is its last. */
export function dateOf(seconds: bigint): Date {
  return new Date(Math.min(Number(seconds) * 1000, 8.64e15));
}

/** The error of the contract for what an operation has thrown. */
function payloadOf(operation: string, error: unknown): Payload {
  if (error instanceof HttpError) return error.payload;
  if (error instanceof StoreError || error instanceof SecretError || error instanceof UserAgentError) {
    return fitting(operation, error.kind, error.message);
  }
  if (error instanceof Unsettled) return fitting(operation, 'unavailable', error.message);
  const why = error instanceof Error ? error.message : `${describe(error)} was thrown`;
  if (operation === 'http') return { tag: 'internal-error', val: why };
  return fitting(operation, 'unavailable', `${NAMES[operation] ?? operation} failed: ${why}`);
}

/** What the operations are called by whoever provides them. */
const NAMES: Record<string, string> = {
  load: 'store.load',
  'compare-and-swap': 'store.compareAndSwap',
  delete: 'store.delete',
  'acquire-lease': 'store.acquireLease',
  resolve: 'secrets.resolve',
  'sealing-keys': 'secrets.sealingKeys',
  sign: 'secrets.sign',
  'public-key': 'secrets.publicKey',
  verify: 'secrets.verify',
  listen: 'userAgent.listen',
  'listener-next': 'listener.next',
  'open-url': 'userAgent.openUrl',
  'show-device-code': 'userAgent.showDeviceCode',
};

const STORE_KINDS = ['unavailable', 'denied', 'corrupt'];
const SECRET_KINDS = ['not-found', 'denied', 'unavailable', 'unsupported'];
const USER_AGENT_KINDS = ['denied', 'unavailable'];

/** A kind that the interface of the operation does not have is `unavailable` there. */
function fitting(operation: string, kind: string, message: string): Payload {
  const name = NAMES[operation] ?? '';
  const kinds = name.startsWith('store.') ? STORE_KINDS : name.startsWith('secrets.') ? SECRET_KINDS : USER_AGENT_KINDS;
  return { tag: kinds.includes(kind) ? kind : 'unavailable', val: message };
}
