// The workers. The component runs synchronously and waits for its imports, so it
// runs on threads of its own: a few for calls, and one for each authorization that
// waits for its user. What they wait for is done by the main thread, which never
// waits.
import { readFile } from 'node:fs/promises';
import { MessageChannel, Worker, type MessagePort } from 'node:worker_threads';
import type { Call, Job, Message, Outcome, Request, WorkerData } from './bridge.js';
import type * as contract from './component/interfaces/tokenwell-oauth2-types.js';
import { isThenable, type CallContext } from './services.js';
import { recordKey } from './store.js';

/** How long a worker that has nothing to do is kept, where it is not the last, in milliseconds. */
const IDLE_MS = 30_000;

/** How many connections a worker keeps open: each holds its record, some kilobytes. */
const MOST_OPEN = 64;

/** The compiled modules are shared by all workers of the process. */
let compiled: Promise<Record<string, WebAssembly.Module>> | undefined;

async function compile(): Promise<Record<string, WebAssembly.Module>> {
  const names = ['component.core.wasm', 'component.core2.wasm', 'component.core3.wasm'];
  const modules = names.map(async (name) => {
    const bytes = await readFile(new URL(`./component/${name}`, import.meta.url));
    return [name, await WebAssembly.compile(bytes)] as const;
  });
  return Object.fromEntries(await Promise.all(modules));
}

interface Pending {
  call: Call;
  context: CallContext;
  /** The server of the connection, as its config names it. */
  server: string | undefined;
  settle(outcome: Outcome): void;
}

/** A connection that a worker keeps open, and the version of its entry that was seen there last. */
interface Open {
  number: number;
  version: bigint | undefined;
}

class ComponentWorker {
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #answers: Int32Array;
  readonly #onIdle: (worker: ComponentWorker) => void;
  readonly #onEnd: (worker: ComponentWorker) => void;
  #pending: Pending | undefined;
  #idle: NodeJS.Timeout | undefined;
  /** By their configs, of which each `Connection` has its own; the one used last is the last. */
  readonly #open = new Map<unknown, Open>();
  #numbers = 0;
  #closed: number[] = [];

  constructor(
    modules: Record<string, WebAssembly.Module>,
    onIdle: (worker: ComponentWorker) => void,
    onEnd: (worker: ComponentWorker) => void,
  ) {
    this.#onIdle = onIdle;
    this.#onEnd = onEnd;
    const { port1, port2 } = new MessageChannel();
    const answers = new SharedArrayBuffer(4);
    this.#answers = new Int32Array(answers);
    this.#port = port1;
    this.#worker = new Worker(new URL('./worker.js', import.meta.url), {
      name: 'tokenwell',
      workerData: { port: port2, answers, modules } satisfies WorkerData,
      transferList: [port2],
      // The component needs nothing of the environment, nor of the command line.
      env: {},
      argv: [],
      execArgv: [],
    });
    let failure: unknown;
    this.#worker.on('error', (error) => (failure = error));
    this.#worker.on('exit', () => {
      this.#port.close();
      this.#onEnd(this);
      const message = failure instanceof Error ? failure.message : 'the worker has ended';
      const stack = failure instanceof Error ? failure.stack : undefined;
      this.#settle({ tag: 'fault', message, stack });
    });
    port1.on('message', ({ requests, outcome }: Message) => {
      for (const request of requests) void this.#answer(request);
      if (outcome !== undefined) this.#settle(outcome);
    });
    port1.unref();
    this.#worker.unref();
  }

  /** Whether the call's connection is open here. */
  knows({ connection }: Call): boolean {
    return connection !== undefined && this.#open.has(connection.config);
  }

  run(pending: Pending): void {
    clearTimeout(this.#idle);
    this.#pending = pending;
    // The process stays while a call is under way.
    this.#worker.ref();
    const { connection, ...call } = pending.call;
    const { context } = pending;
    const job: Job = { ...call, closed: [], sealingKeys: context.knownSealingKeys() };
    if (connection !== undefined) {
      const open = this.#open.get(connection.config);
      const number = open?.number ?? (this.#numbers += 1);
      job.connection = { number, opened: open === undefined ? connection : undefined };
      const key = recordKey(connection.name);
      if (open?.version !== undefined) context.versions.set(key, open.version);
      Object.assign(job, context.atHand(key));
      this.#open.delete(connection.config);
      this.#open.set(connection.config, { number, version: undefined });
      const [eldest] = this.#open.keys();
      if (this.#open.size > MOST_OPEN) this.#close(eldest);
    }
    job.closed = this.#closed;
    this.#closed = [];
    this.#worker.postMessage(job);
  }

  #close(config: unknown): void {
    const open = this.#open.get(config);
    if (open === undefined) return;
    this.#open.delete(config);
    this.#closed.push(open.number);
  }

  retireAfter(ms: number, retire: () => void): void {
    this.#idle = setTimeout(retire, ms);
    this.#idle.unref();
  }

  async end(): Promise<void> {
    clearTimeout(this.#idle);
    await this.#worker.terminate();
  }

  async #answer(request: Request): Promise<void> {
    const pending = this.#pending;
    if (pending === undefined) return;
    const answered = pending.context.answer(request);
    const reply = isThenable(answered) ? await answered : answered;
    if (reply === undefined || this.#pending !== pending) return;
    try {
      this.#port.postMessage(reply);
    } catch (error) {
      // What the application gave cannot be sent, such as bytes that it has transferred.
      this.#port.postMessage(pending.context.answerFailed(request, error));
    }
    Atomics.add(this.#answers, 0, 1);
    Atomics.notify(this.#answers, 0);
  }

  #settle(outcome: Outcome): void {
    const pending = this.#pending;
    if (pending === undefined) return;
    this.#pending = undefined;
    this.#worker.unref();
    pending.context.end();
    const { connection } = pending.call;
    if (outcome.tag === 'fault' || outcome.tag === 'called-off') {
      if (connection !== undefined) pending.context.recover(recordKey(connection.name));
      // With the instance all that was open in it has gone.
      this.#open.clear();
      this.#closed = [];
    } else if (connection !== undefined) {
      const open = this.#open.get(connection.config);
      // It may be that it could not even be opened.
      if (outcome.tag === 'error') this.#close(connection.config);
      else if (open !== undefined) open.version = pending.context.versions.get(recordKey(connection.name));
    }
    this.#onIdle(this);
    pending.settle(outcome);
  }
}

/** Runs calls on workers. */
export class Pool {
  readonly #most: number;
  readonly #workers = new Set<ComponentWorker>();
  readonly #idle: ComponentWorker[] = [];
  readonly #queue: Pending[] = [];
  /** The ordinary calls that workers do, or are started for. */
  readonly #running = new Set<Pending>();
  #underWay = new Set<CallContext>();
  #drained: (() => void) | undefined;
  #isClosed = false;

  constructor(most: number) {
    this.#most = most;
  }

  /**
   * Runs a call. One that waits for the user has a worker of its own, so that no
   * number of users keeps others from their tokens.
   */
  run(call: Call, context: CallContext, waitsForUser: boolean, signal: AbortSignal | undefined): Promise<Outcome> {
    return new Promise((resolve, reject) => {
      this.#underWay.add(context);
      const abort = () => {
        const queued = this.#queue.indexOf(pending);
        if (queued < 0) return;
        // It has not begun: there is nothing to finish.
        this.#queue.splice(queued, 1);
        this.#underWay.delete(context);
        reject(signal?.reason as Error);
      };
      const pending: Pending = {
        call,
        context,
        server: serverOf(call),
        settle: (outcome) => {
          signal?.removeEventListener('abort', abort);
          this.#underWay.delete(context);
          this.#running.delete(pending);
          resolve(outcome);
          this.#next();
          if (this.#underWay.size === 0) this.#drained?.();
        },
      };
      signal?.addEventListener('abort', abort, { once: true });
      if (waitsForUser) void this.#start(pending);
      else {
        this.#queue.push(pending);
        this.#next();
      }
    });
  }

  /** Waits for what is under way, and ends the workers. */
  async close(): Promise<void> {
    this.#isClosed = true;
    if (this.#underWay.size > 0) await new Promise<void>((resolve) => (this.#drained = resolve));
    await Promise.all([...this.#workers].map((worker) => worker.end()));
  }

  /** Ends the wait for the user of every call under way. */
  cancelUsers(): void {
    for (const context of this.#underWay) context.cancel();
  }

  #next(): void {
    while (this.#running.size < this.#most) {
      const at = this.#queue.findIndex((pending) => this.#mayRun(pending));
      const pending = this.#queue[at];
      if (pending === undefined) return;
      this.#queue.splice(at, 1);
      this.#running.add(pending);
      void this.#start(pending);
    }
  }

  /** One server, which may not answer, is left all workers but one. */
  #mayRun({ server }: Pending): boolean {
    if (server === undefined || this.#most === 1) return true;
    const ofServer = [...this.#running].filter((running) => running.server === server);
    return ofServer.length < this.#most - 1;
  }

  async #start(pending: Pending): Promise<void> {
    const knowing = this.#idle.findLastIndex((worker) => worker.knows(pending.call));
    const [idle] = this.#idle.splice(knowing < 0 ? this.#idle.length - 1 : knowing, 1);
    if (idle !== undefined) {
      idle.run(pending);
      return;
    }
    try {
      compiled ??= compile();
      const worker = new ComponentWorker(
        await compiled,
        (freed) => this.#freed(freed),
        (ended) => this.#ended(ended),
      );
      this.#workers.add(worker);
      worker.run(pending);
    } catch (error) {
      compiled = undefined;
      const fault = error instanceof Error ? error : new Error(String(error));
      pending.settle({ tag: 'fault', message: fault.message, stack: fault.stack });
    }
  }

  #freed(worker: ComponentWorker): void {
    if (!this.#workers.has(worker) || this.#isClosed) return;
    this.#idle.push(worker);
    worker.retireAfter(IDLE_MS, () => {
      // The last one stays: the next call shall not wait for one to be made.
      if (this.#workers.size === 1) return;
      this.#ended(worker);
      void worker.end();
    });
  }

  #ended(worker: ComponentWorker): void {
    this.#workers.delete(worker);
    const at = this.#idle.indexOf(worker);
    if (at >= 0) this.#idle.splice(at, 1);
  }
}

function serverOf({ connection }: Call): string | undefined {
  if (connection === undefined) return undefined;
  const { issuer, tokenEndpoint, provider, parameters } = connection.config as contract.Config;
  return issuer ?? tokenEndpoint ?? JSON.stringify([provider, parameters]);
}
