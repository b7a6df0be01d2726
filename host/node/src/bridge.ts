// What the worker that runs the component and the main thread say to each other.
//
// A call goes to the worker by the worker's own port. While the component runs, it
// asks the main thread for everything it imports by a second port, by which the
// result comes too; the worker sleeps in `Atomics.wait` until the answer is there,
// the main thread never.
import type { MessagePort } from 'node:worker_threads';
import type { SealingKey } from './seal.js';
import type { Entry } from './store.js';

/** A call of the component. */
export interface Call {
  /** Which interface: a function of `connections`, a method of a connection, or `authorize`. */
  target: 'connections' | 'connection' | 'interactive';
  method: string;
  args: unknown[];
  /** The connection that a method is of. */
  connection?: Opened;
}

/** What came of a call: a value, an error of the contract, or a fault; or it was called off under way. */
export type Outcome =
  | { tag: 'value'; value: unknown }
  | { tag: 'error'; error: unknown }
  | { tag: 'called-off'; message: string }
  | { tag: 'fault'; message: string; stack: string | undefined };

/** What the worker asks. Whoever sends the number 0 wants no answer. */
export interface Request {
  id: number;
  operation: string;
  args: unknown[];
}

/** What the worker sends at once: what it tells and asks, and at the end of a call what came of it. */
export interface Message {
  requests: Request[];
  outcome?: Outcome;
}

/** What a connection is opened with. */
export interface Opened {
  name: string;
  config: unknown;
}

/** A call as a worker is sent it. Connections stay open there, so that each opens its record but once. */
export interface Job extends Omit<Call, 'connection'> {
  /** The connection by its number; what it is opened with, where it is not open yet. */
  connection?: { number: number; opened: Opened | undefined };
  /** The connections that are to be closed. */
  closed: readonly number[];
  /** The numbers of the connection's entry, where it is in the memory store. */
  numbers?: { key: string; shared: SharedArrayBuffer } | undefined;
  /** That entry, where the worker has not seen it yet. */
  entry?: Entry | undefined;
  /** The sealing keys, where they were at hand. */
  sealingKeys?: readonly SealingKey[] | undefined;
}

/** The main thread's answer. `error` is a payload of the contract. */
export type Reply = { id: number; value: unknown } | { id: number; error: unknown };

/** What a worker is started with. */
export interface WorkerData {
  port: MessagePort;
  /** Counts the answers, and is what the worker waits on. */
  answers: SharedArrayBuffer;
  /** Each a `WebAssembly.Module`, a name that is not in every application's types. */
  modules: Record<string, object>;
}
