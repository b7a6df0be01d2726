// What a host and its connections share.
import type { Call, Outcome } from './bridge.js';
import type * as contract from './component/interfaces/tokenwell-oauth2-types.js';
import { describe } from './config.js';
import { errorOf, ForbiddenError, InternalError, InvalidArgumentError, type TokenwellError } from './errors.js';
import type { HttpClient, Manner } from './http-client.js';
import { dateOf, type CallContext, type Provided } from './services.js';

/** What a connection needs of its host. */
export interface Core {
  readonly provided: Provided;
  call(call: Call, context: CallContext, options?: CallFlags): Promise<unknown>;
  http(manner?: Manner): HttpClient;
}

/** How a call is to be made. */
export interface CallFlags {
  signal?: AbortSignal | undefined;
  waitsForUser?: boolean;
}

/** The value of an outcome. */
export function valueOf(outcome: Outcome, context: CallContext | undefined): unknown {
  switch (outcome.tag) {
    case 'value':
      return outcome.value;
    case 'error':
      // The component is told in the few words that `wasi:http` has, and takes it for
      // a failure of the network.
      if (context?.refusal !== undefined) throw new ForbiddenError(context.refusal);
      throw fromContract(outcome.error as contract.Error, context?.cause);
    case 'called-off':
      throw new ForbiddenError(outcome.message);
    case 'fault': {
      const cause = new Error(outcome.message);
      if (outcome.stack !== undefined) cause.stack = outcome.stack;
      throw new InternalError(`the component has failed: ${outcome.message}`, { cause });
    }
  }
}

/** An error of the contract in the words of this package. */
export function fromContract(error: contract.Error, cause?: unknown): TokenwellError {
  // Whoever sees but the message shall know the fields.
  const wrong = error.problems.filter(({ severity }) => severity === 'error').map(({ field, message }) => `${field} ${message}`);
  const message = error.kind === 'not-configured' && wrong.length > 0 ? `${error.message}: ${wrong.join('; ')}` : error.message;
  return errorOf(error.kind, message, {
    problems: error.problems,
    serverError: error.serverError,
    retryAt: error.retryAt === undefined ? undefined : dateOf(error.retryAt),
    violation: error.violation,
    storage: error.storage,
    // What was thrown last need not be what this error is of.
    ...(cause instanceof Error && error.message.includes(cause.message) ? { cause } : {}),
  });
}

/** A text that was given as an argument. */
export function text(field: string, given: unknown): string {
  if (typeof given === 'string') return given;
  throw new InvalidArgumentError(field, `is ${describe(given)}, and must be a string`);
}

/** A URL that was given as an argument. */
export function urlText(field: string, given: unknown): string {
  if (given instanceof URL) return given.href;
  if (typeof given === 'string') return given;
  throw new InvalidArgumentError(field, `is ${describe(given)}, and must be a string or a URL`);
}
