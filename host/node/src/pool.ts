// The workers. The component runs synchronously and waits for its imports, so it
// runs on threads of its own: a few for calls, and one for each authorization that
// waits for its user. What they wait for is done by the main thread, which never
// waits.
import { readFile } from 'node:fs/promises';
import { MessageChannel, Worker, type MessagePort } from 'node:worker_threads';
import type { Call, Message, Outcome, Request, WorkerData } from './bridge.js';
import type { CallContext } from './services.js';

/** How long a worker that has nothing to do is kept, where it is not the last, in milliseconds. */
const IDLE_MS = 30_000;

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

interface Job {
  call: Call;
  context: CallContext;
  settle(outcome: Outcome): void;
}

class ComponentWorker {
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #answers: Int32Array;
  readonly #onIdle: (worker: ComponentWorker) => void;
  readonly #onEnd: (worker: ComponentWorker) => void;
  #job: Job | undefined;
  #idle: NodeJS.Timeout | undefined;

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

  run(job: Job): void {
    clearTimeout(this.#idle);
    this.#job = job;
    // The process stays while a call is under way.
    this.#worker.ref();
    this.#worker.postMessage({ ...job.call, ...job.context.prefetch(job.call) } satisfies Call);
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
    const job = this.#job;
    if (job === undefined) return;
    const reply = await job.context.answer(request);
    if (reply === undefined || this.#job !== job) return;
    this.#port.postMessage(reply);
    Atomics.add(this.#answers, 0, 1);
    Atomics.notify(this.#answers, 0);
  }

  #settle(outcome: Outcome): void {
    const job = this.#job;
    if (job === undefined) return;
    this.#job = undefined;
    this.#worker.unref();
    job.context.end();
    this.#onIdle(this);
    job.settle(outcome);
  }
}

/** Runs calls on workers. */
export class Pool {
  readonly #most: number;
  readonly #workers = new Set<ComponentWorker>();
  readonly #idle: ComponentWorker[] = [];
  readonly #queue: Job[] = [];
  /** How many workers do, or are started for, ordinary calls. */
  #busy = 0;
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
      let isDone = false;
      const job: Job = {
        call,
        context,
        settle: (outcome) => {
          isDone = true;
          this.#underWay.delete(context);
          if (!waitsForUser) this.#busy -= 1;
          resolve(outcome);
          this.#next();
          if (this.#underWay.size === 0) this.#drained?.();
        },
      };
      signal?.addEventListener(
        'abort',
        () => {
          const queued = this.#queue.indexOf(job);
          if (queued < 0 || isDone) return;
          // It has not begun: there is nothing to finish.
          this.#queue.splice(queued, 1);
          this.#underWay.delete(context);
          reject(signal.reason as Error);
        },
        { once: true },
      );
      if (waitsForUser) void this.#start(job);
      else {
        this.#queue.push(job);
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
    while (this.#busy < this.#most) {
      const job = this.#queue.shift();
      if (job === undefined) return;
      this.#busy += 1;
      void this.#start(job);
    }
  }

  async #start(job: Job): Promise<void> {
    const idle = this.#idle.pop();
    if (idle !== undefined) {
      idle.run(job);
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
      worker.run(job);
    } catch (error) {
      compiled = undefined;
      const fault = error instanceof Error ? error : new Error(String(error));
      job.settle({ tag: 'fault', message: fault.message, stack: fault.stack });
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
