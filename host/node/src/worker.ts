// The worker: runs the component, one call at a time, in one instance, which is
// replaced when it has failed.
import { parentPort, workerData } from 'node:worker_threads';
import type { Job, Outcome, WorkerData } from './bridge.js';
import { instantiate, type ImportObject, type Root } from './component/component.js';
import type { Connection } from './component/interfaces/tokenwell-oauth2-connections.js';
import { Bridge, CalledOff, imports } from './imports.js';

// What jco makes looks there with every step of every call, and a plain object is
// looked at faster.
Object.defineProperty(process, 'env', { value: {} });

const { port, answers, modules } = workerData as WorkerData;
const bridge = new Bridge(port, new Int32Array(answers));
const host = imports(bridge);

function moduleNamed(path: string): WebAssembly.Module {
  const module = modules[path];
  if (module === undefined) throw new Error(`the package lacks ${path}`);
  return module as WebAssembly.Module;
}

const start = (): Root => instantiate(moduleNamed, host.provided as unknown as ImportObject);

let instance: Root | undefined = start();

type Functions = Record<string, (...args: unknown[]) => unknown>;

/** The connections that are open in the instance, by their numbers. */
const open = new Map<number, Connection>();

function close(number: number): void {
  (open.get(number) as { [Symbol.dispose](): void } | undefined)?.[Symbol.dispose]();
  open.delete(number);
}

function run({ target, method, args, connection, closed }: Job): unknown {
  instance ??= start();
  closed.forEach(close);
  const connections = instance['tokenwell:oauth2/connections@0.2.0'];
  if (target === 'connections') return (connections as unknown as Functions)[method]?.(...args);
  if (connection === undefined) throw new Error(`${method} is a method of a connection`);
  const { number, opened } = connection;
  if (opened !== undefined) open.set(number, connections.Connection.open(opened.name, opened.config as never));
  const on = open.get(number) as Connection;
  if (target === 'connection') return (on as unknown as Functions)[method]?.(...args);
  const interactive = instance['tokenwell:oauth2/interactive@0.2.0'];
  return (interactive as unknown as Functions)[method]?.(on, ...args);
}

parentPort?.on('message', (job: Job) => {
  bridge.begin();
  host.begin(job);
  let outcome: Outcome;
  try {
    outcome = { tag: 'value', value: run(job) };
  } catch (error) {
    if (error instanceof Error && Object.hasOwn(error, 'payload')) {
      outcome = { tag: 'error', error: (error as Error & { payload: unknown }).payload };
    } else {
      // After a trap the instance is in no state that anybody knows.
      instance = undefined;
      open.clear();
      const fault = error instanceof Error ? error : new Error(String(error));
      const { message, stack } = fault;
      outcome = fault instanceof CalledOff ? { tag: 'called-off', message } : { tag: 'fault', message, stack };
    }
  }
  // By the port that events go by, so that it does not come before them.
  bridge.finish(outcome);
});
