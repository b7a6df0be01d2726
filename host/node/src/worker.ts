// The worker: runs the component, one call at a time, in one instance, which is
// replaced when it has failed.
import { parentPort, workerData } from 'node:worker_threads';
import type { Call, Outcome, WorkerData } from './bridge.js';
import { instantiate, type ImportObject, type Root } from './component/component.js';
import { Bridge, imports } from './imports.js';

// What jco makes looks there with every step of every call, and a plain object is
// looked at faster.
Object.defineProperty(process, 'env', { value: {} });

const { port, answers, modules } = workerData as WorkerData;
const bridge = new Bridge(port, new Int32Array(answers));
const host = imports(bridge);

function moduleNamed(path: string): WebAssembly.Module {
  const module = modules[path];
  if (module === undefined) throw new Error(`the package lacks ${path}`);
  return module;
}

const start = (): Root => instantiate(moduleNamed, host.provided as unknown as ImportObject);

let instance: Root | undefined = start();

type Functions = Record<string, (...args: unknown[]) => unknown>;

function run({ target, method, args, connection }: Call): unknown {
  instance ??= start();
  const connections = instance['tokenwell:oauth2/connections@0.2.0'];
  if (target === 'connections') return (connections as unknown as Functions)[method]?.(...args);
  if (connection === undefined) throw new Error(`${method} is a method of a connection`);
  const open = connections.Connection.open(connection.name, connection.config as never);
  try {
    if (target === 'connection') return (open as unknown as Functions)[method]?.(...args);
    const interactive = instance['tokenwell:oauth2/interactive@0.2.0'];
    return (interactive as unknown as Functions)[method]?.(open, ...args);
  } finally {
    (open as unknown as { [Symbol.dispose](): void })[Symbol.dispose]();
  }
}

parentPort?.on('message', (call: Call) => {
  bridge.begin();
  host.begin(call);
  let outcome: Outcome;
  try {
    outcome = { tag: 'value', value: run(call) };
  } catch (error) {
    if (error instanceof Error && Object.hasOwn(error, 'payload')) {
      outcome = { tag: 'error', error: (error as Error & { payload: unknown }).payload };
    } else {
      // After a trap the instance is in no state that anybody knows.
      instance = undefined;
      const fault = error instanceof Error ? error : new Error(String(error));
      outcome = { tag: 'fault', message: fault.message, stack: fault.stack };
    }
  }
  // By the port that events go by, so that it does not come before them.
  bridge.finish(outcome);
});
