// What the component imports: the clocks and random numbers of this thread, the
// connection's entry where it is in the memory store, and everything else by asking
// the main thread.
import { randomBytes } from 'node:crypto';
import { receiveMessageOnPort, type MessagePort } from 'node:worker_threads';
import { joined } from './bytes.js';
import { Numbers } from './numbers.js';
import type { SealingKey } from './seal.js';
import type { Entry } from './store.js';
import type { Job, Message, Outcome, Reply, Request } from './bridge.js';

const dispose: typeof Symbol.dispose = Symbol.dispose ?? Symbol.for('dispose');

/** An error of the contract, as jco wants it thrown; no `Error`, whose stack costs more than a call. */
class Failure {
  constructor(readonly payload: unknown) {}
}

/**
 * Random bytes, fetched by the kilobyte: for a few at a time the way to the
 * generator is longer than its work. Each is given out once.
 */
class RandomBytes {
  #bytes = new Uint8Array();
  #at = 0;

  take(length: number): Uint8Array {
    if (length > this.#bytes.length - this.#at) {
      this.#bytes = new Uint8Array(randomBytes(Math.max(1024, length)));
      this.#at = 0;
    }
    const taken = this.#bytes.slice(this.#at, this.#at + length);
    this.#bytes.fill(0, this.#at, this.#at + length);
    this.#at += length;
    return taken;
  }
}

/** Asks the main thread. */
export class Bridge {
  readonly #port: MessagePort;
  readonly #answers: Int32Array;
  readonly #replies = new Map<number, Reply>();
  /** What is told by the next message: each wakes the main thread, which costs more than what is in it. */
  #told: Request[] = [];
  #last = 0;

  constructor(port: MessagePort, answers: Int32Array) {
    this.#port = port;
    this.#answers = answers;
  }

  /** A new call begins: answers to the last one are nobody's. */
  begin(): void {
    this.#drain();
    this.#replies.clear();
    this.#told = [];
  }

  /** Ends the call. */
  finish(outcome: Outcome): void {
    this.#post({ requests: this.#told, outcome });
  }

  /** Asks, and does not wait. */
  ask(operation: string, ...args: unknown[]): number {
    this.#last += 1;
    this.#told.push({ id: this.#last, operation, args });
    this.#post({ requests: this.#told });
    return this.#last;
  }

  /** Tells what needs no answer, before anything else is asked or waited for. */
  tell(operation: string, ...args: unknown[]): void {
    this.#told.push({ id: 0, operation, args });
  }

  #post(message: Message): void {
    this.#told = [];
    this.#port.postMessage(message);
  }

  /** Asks and waits. */
  call(operation: string, ...args: unknown[]): unknown {
    const id = this.ask(operation, ...args);
    this.wait([id], Infinity);
    return this.take(id);
  }

  /** Waits until one of those is answered, or until that time. */
  wait(ids: readonly number[], until: number): void {
    if (this.#told.length > 0) this.#post({ requests: this.#told });
    for (;;) {
      const seen = Atomics.load(this.#answers, 0);
      this.#drain();
      if (ids.some((id) => this.#replies.has(id))) return;
      const left = until - performance.now();
      if (left <= 0) return;
      Atomics.wait(this.#answers, 0, seen, left);
    }
  }

  isAnswered(id: number): boolean {
    if (!this.#replies.has(id)) this.#drain();
    return this.#replies.has(id);
  }

  take(id: number): unknown {
    const reply = this.#replies.get(id);
    this.#replies.delete(id);
    if (reply === undefined) throw new Error(`the request ${id} is not answered`);
    if ('error' in reply) throw new Failure(reply.error);
    return reply.value;
  }

  #drain(): void {
    for (;;) {
      const received = receiveMessageOnPort(this.#port) as { message: Reply } | undefined;
      if (received === undefined) return;
      this.#replies.set(received.message.id, received.message);
    }
  }
}

/** The call is called off while it pauses: thrown, it ends the instance too. */
export class CalledOff extends Error {}

/** When something is ready: an answer, a time, or at once. */
class Pollable {
  constructor(
    readonly bridge: Bridge,
    readonly id: number | undefined,
    readonly until: number,
  ) {}

  isReady(): boolean {
    if (this.id !== undefined && this.bridge.isAnswered(this.id)) return true;
    return performance.now() >= this.until;
  }

  block(): void {
    this.bridge.wait(this.id === undefined ? [] : [this.id], this.until);
  }
}

function poll(pollables: Pollable[]): Uint32Array {
  for (;;) {
    const ready = pollables.flatMap((pollable, index) => (pollable.isReady() ? [index] : []));
    if (ready.length > 0) return Uint32Array.from(ready);
    const ids = pollables.flatMap(({ id }) => (id === undefined ? [] : [id]));
    const until = Math.min(...pollables.map((pollable) => pollable.until));
    pollables[0]?.bridge.wait(ids, until);
  }
}

/** What the main thread answers to an HTTP request. */
interface Answer {
  status: number;
  headers: [string, string][];
  body: Uint8Array;
}

const NOW = -Infinity;

/** Everything that is imported, and what readies it for a call. */
export function imports(bridge: Bridge): { provided: Record<string, unknown>; begin(job: Job): void } {
  /** The entry that can be read and written here, where it is in the memory store. */
  let own: { key: string; numbers: Numbers; entry: Entry | undefined } | undefined;
  /** The leases that were taken here. The main thread's numbers for its own are positive. */
  let taken = 0;
  const random = new RandomBytes();
  /** The sealing keys that this call has been given. */
  let sealingKeys: readonly SealingKey[] | undefined;
  /** Whether the user has been shown a device code, and is waited for. */
  let isUserAwaited = false;
  /** Whether a request was sent of which nothing has been stored yet. */
  let isSent = false;

  /** A pause of the component. One in which the user is waited for, and in which nothing is lost, can be called off. */
  class Pause extends Pollable {
    override block(): void {
      if (!isUserAwaited || isSent) {
        super.block();
        return;
      }
      try {
        bridge.call('pause', this.until - performance.now());
      } catch (error) {
        throw error instanceof Failure ? new CalledOff((error.payload as { val: string }).val) : error;
      }
    }
  }

  class Fields {
    #entries: [string, Uint8Array][] = [];
    static of(entries: [string, Uint8Array][]): Fields {
      const fields = new Fields();
      fields.#entries = entries;
      return fields;
    }
    append(name: string, value: Uint8Array): void {
      this.#entries.push([name, value]);
    }
    entries(): [string, Uint8Array][] {
      return this.#entries;
    }
  }

  class OutputStream {
    readonly chunks: Uint8Array[] = [];
    checkWrite(): bigint {
      return 65536n;
    }
    write(contents: Uint8Array): void {
      this.chunks.push(contents.slice());
    }
    subscribe(): Pollable {
      return new Pollable(bridge, undefined, NOW);
    }
  }

  class OutgoingBody {
    readonly stream = new OutputStream();
    future: FutureIncomingResponse | undefined;
    write(): OutputStream {
      return this.stream;
    }
    static finish(body: OutgoingBody): void {
      body.future?.send(joined(body.stream.chunks));
    }
  }

  class RequestOptions {
    connect: bigint | undefined;
    firstByte: bigint | undefined;
    betweenBytes: bigint | undefined;
    setConnectTimeout(duration: bigint | undefined): void {
      this.connect = duration;
    }
    setFirstByteTimeout(duration: bigint | undefined): void {
      this.firstByte = duration;
    }
    setBetweenBytesTimeout(duration: bigint | undefined): void {
      this.betweenBytes = duration;
    }
  }

  class OutgoingRequest {
    readonly outgoing = new OutgoingBody();
    method = 'GET';
    scheme = '';
    authority = '';
    path = '/';
    constructor(readonly headers: Fields) {}
    body(): OutgoingBody {
      return this.outgoing;
    }
    setMethod(method: { tag: string; val?: string }): void {
      this.method = method.val ?? method.tag.toUpperCase();
    }
    setPathWithQuery(path: string | undefined): void {
      this.path = path ?? '/';
    }
    setScheme(scheme: { tag: string; val?: string } | undefined): void {
      this.scheme = (scheme?.val ?? scheme?.tag ?? '').toLowerCase();
    }
    setAuthority(authority: string | undefined): void {
      this.authority = authority ?? '';
    }
  }

  class FutureIncomingResponse {
    #id: number | undefined;
    constructor(
      readonly request: OutgoingRequest,
      readonly options: RequestOptions | undefined,
    ) {}
    send(body: Uint8Array): void {
      const { method, scheme, authority, path, headers } = this.request;
      isSent = true;
      const milliseconds = (nanoseconds: bigint | undefined) =>
        nanoseconds === undefined ? undefined : Number(nanoseconds / 1_000_000n);
      this.#id = bridge.ask('http', {
        method,
        scheme,
        authority,
        path,
        headers: headers.entries().map(([name, value]) => [name, Buffer.from(value).toString('latin1')]),
        body,
        connect: milliseconds(this.options?.connect),
        firstByte: milliseconds(this.options?.firstByte),
        betweenBytes: milliseconds(this.options?.betweenBytes),
      });
    }
    subscribe(): Pollable {
      return new Pollable(bridge, this.#id, this.#id === undefined ? NOW : Infinity);
    }
    get(): unknown {
      if (this.#id === undefined) {
        return { tag: 'ok', val: { tag: 'err', val: { tag: 'internal-error', val: 'the request was not finished' } } };
      }
      if (!bridge.isAnswered(this.#id)) return undefined;
      const id = this.#id;
      this.#id = undefined;
      try {
        return { tag: 'ok', val: { tag: 'ok', val: new IncomingResponse(bridge.take(id) as Answer) } };
      } catch (error) {
        if (!(error instanceof Failure)) throw error;
        return { tag: 'ok', val: { tag: 'err', val: error.payload } };
      }
    }
    [dispose](): void {
      if (this.#id !== undefined) bridge.tell('http-cancel', this.#id);
    }
  }

  class IncomingResponse {
    readonly #answer: Answer;
    constructor(answer: Answer) {
      this.#answer = answer;
    }
    status(): number {
      return this.#answer.status;
    }
    headers(): Fields {
      return Fields.of(this.#answer.headers.map(([name, value]) => [name, Buffer.from(value, 'latin1')]));
    }
    consume(): IncomingBody {
      return new IncomingBody(this.#answer.body);
    }
  }

  class IncomingBody {
    constructor(readonly body: Uint8Array) {}
    stream(): InputStream {
      return new InputStream(this.body);
    }
  }

  class InputStream {
    #at = 0;
    constructor(readonly body: Uint8Array) {}
    read(length: bigint): Uint8Array {
      if (this.#at >= this.body.length) throw new Failure({ tag: 'closed' });
      const end = Math.min(this.body.length, this.#at + Number(length));
      const chunk = this.body.subarray(this.#at, end);
      this.#at = end;
      return chunk;
    }
    subscribe(): Pollable {
      return new Pollable(bridge, undefined, NOW);
    }
  }

  class IoError {
    toDebugString(): string {
      return 'the stream failed';
    }
  }

  class Lease {
    constructor(
      readonly handle: number,
      readonly number: bigint,
    ) {}
    fence(): bigint {
      return this.number;
    }
    [dispose](): void {
      bridge.tell('lease-drop', this.handle);
    }
  }

  class Arrival {
    constructor(
      readonly handle: number,
      readonly arrived: unknown,
    ) {}
    redirect(): unknown {
      return this.arrived;
    }
    respond(outcome: unknown): void {
      bridge.call('arrival-respond', this.handle, outcome);
    }
    [dispose](): void {
      bridge.tell('arrival-drop', this.handle);
    }
  }

  class Listener {
    constructor(
      readonly handle: number,
      readonly uri: string,
    ) {}
    redirectUri(): string {
      return this.uri;
    }
    next(waitMilliseconds: bigint): Arrival | undefined {
      const arrived = bridge.call('listener-next', this.handle, Number(waitMilliseconds)) as
        | { handle: number; redirect: unknown }
        | undefined;
      return arrived && new Arrival(arrived.handle, arrived.redirect);
    }
    [dispose](): void {
      bridge.tell('listener-drop', this.handle);
    }
  }

  const asked =
    (operation: string) =>
    (...args: unknown[]): unknown =>
      bridge.call(operation, ...args);

  /** Loads the entry that is at hand here, as long as it is the one that the numbers are of. */
  const load = (key: string, known: bigint | undefined): unknown => {
    if (own?.key !== key) return bridge.call('load', key, known);
    const version = own.numbers.version;
    if (version === undefined) return { tag: 'absent' };
    if (version === known) return { tag: 'unchanged' };
    if (version === own.entry?.version) return { tag: 'entry', val: own.entry };
    return bridge.call('load', key, known);
  };

  const compareAndSwap = (key: string, expected: bigint | undefined, value: Uint8Array, fence: bigint | undefined): unknown => {
    const version = own?.key === key ? own.numbers.swap(expected, fence) : 'stale';
    // The main thread has what is there.
    if (own === undefined || version === 'stale') {
      const swapped = bridge.call('compare-and-swap', key, expected, value, fence) as { tag: string };
      if (swapped.tag === 'stored') isSent = false;
      return swapped;
    }
    if (version === 'fenced') return { tag: version };
    isSent = false;
    own.entry = { version, value };
    // Goes before whatever is sent next, and before the outcome.
    bridge.tell('stored', key, version, value);
    return { tag: 'stored', val: version };
  };

  const acquireLease = (key: string, ttl: bigint, wait: bigint): Lease | undefined => {
    const outcome = own?.key === key && !own.numbers.isAwaited ? own.numbers.take(Number(ttl)) : undefined;
    if (outcome !== undefined && 'fence' in outcome) {
      const handle = (taken -= 1);
      bridge.tell('leased', handle, key, outcome.fence);
      return new Lease(handle, outcome.fence);
    }
    const lease = bridge.call('acquire-lease', key, Number(ttl), Number(wait)) as { handle: number; fence: bigint } | undefined;
    return lease && new Lease(lease.handle, lease.fence);
  };

  const provided = {
    'tokenwell:oauth2/events': { emit: (event: unknown) => bridge.tell('emit', event) },
    'tokenwell:oauth2/secrets': {
      resolve: asked('resolve'),
      sealingKeys: (needed: string | undefined) => {
        // Asked for with each record that is opened or sealed; one answer does for a call.
        if (sealingKeys === undefined || (needed !== undefined && sealingKeys.every(({ id }) => id !== needed))) {
          sealingKeys = bridge.call('sealing-keys', needed) as readonly SealingKey[];
        }
        return sealingKeys;
      },
      sign: asked('sign'),
      publicKey: asked('public-key'),
      verify: asked('verify'),
    },
    'tokenwell:oauth2/token-store': {
      Lease,
      load,
      compareAndSwap,
      delete: asked('delete'),
      acquireLease,
    },
    'tokenwell:oauth2/user-agent': {
      Arrival,
      Listener,
      listen: (connection: string, redirectUri: string | undefined) => {
        const { handle, uri } = bridge.call('listen', connection, redirectUri) as { handle: number; uri: string };
        return new Listener(handle, uri);
      },
      openUrl: asked('open-url'),
      showDeviceCode: (connection: string, device: unknown) => {
        bridge.call('show-device-code', connection, device);
        isUserAwaited = true;
      },
    },
    'wasi:clocks/monotonic-clock': {
      now: () => process.hrtime.bigint(),
      subscribeDuration: (nanoseconds: bigint) =>
        new Pause(bridge, undefined, performance.now() + Number(nanoseconds) / 1e6),
    },
    'wasi:clocks/wall-clock': {
      now: () => {
        const milliseconds = Date.now();
        return {
          seconds: BigInt(Math.floor(milliseconds / 1000)),
          nanoseconds: (milliseconds % 1000) * 1_000_000,
        };
      },
    },
    'wasi:http/outgoing-handler': {
      handle: (request: OutgoingRequest, options: RequestOptions | undefined) => {
        const future = new FutureIncomingResponse(request, options);
        request.outgoing.future = future;
        return future;
      },
    },
    'wasi:http/types': {
      Fields,
      FutureIncomingResponse,
      IncomingBody,
      IncomingResponse,
      OutgoingBody,
      OutgoingRequest,
      RequestOptions,
    },
    'wasi:io/error': { Error: IoError },
    'wasi:io/poll': { Pollable, poll },
    'wasi:io/streams': { InputStream, OutputStream },
    'wasi:random/random': { getRandomBytes: (length: bigint) => random.take(Number(length)) },
  };
  return {
    provided,
    begin: (job) => {
      const { numbers, entry } = job;
      own = numbers && { key: numbers.key, numbers: new Numbers(numbers.shared), entry };
      sealingKeys = job.sealingKeys;
      isUserAwaited = false;
      isSent = false;
    },
  };
}
