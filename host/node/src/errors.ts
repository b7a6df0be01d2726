import type { Problem, ServerError } from './types.js';

/** Which rule a response broke. */
export type ViolationKind = 'state' | 'issuer' | 'nonce' | 'redirect' | 'response' | 'metadata' | 'id-token';

/** What a store could not do. */
export type StorageFailureKind = 'unavailable' | 'wrong-key' | 'corrupt' | 'newer-version';

/**
 * What went wrong, by what can be done about it. The first ten are the contract's
 * own (`error-kind` in `wit/types.wit`), the others this host's.
 */
export type ErrorCode =
  | 'not-configured'
  | 'not-authorized'
  | 'reauthorization-required'
  | 'denied'
  | 'refused'
  | 'unavailable'
  | 'protocol-violation'
  | 'storage'
  | 'forbidden'
  | 'unsupported'
  | 'invalid-argument'
  | 'closed'
  | 'internal';

/** What an error carries beside its message. */
export interface ErrorDetails {
  problems?: readonly Problem[];
  serverError?: ServerError | undefined;
  retryAt?: Date | undefined;
  violation?: ViolationKind | undefined;
  storage?: StorageFailureKind | undefined;
  field?: string | undefined;
  cause?: unknown;
}

/** What every error of this package is. Messages are free of secrets. */
export class TokenwellError extends Error {
  override readonly name: string = 'TokenwellError';
  /** What can be done about it. */
  readonly code: ErrorCode;
  /** What is wrong with the config, field by field. */
  readonly problems: readonly Problem[];
  /** What the authorization server said (RFC 6749 sections 4.1.2.1 and 5.2). */
  readonly serverError: ServerError | undefined;
  /** When the next try is due. */
  readonly retryAt: Date | undefined;
  /** Which rule was broken. */
  readonly violation: ViolationKind | undefined;
  /** What the store could not do. */
  readonly storage: StorageFailureKind | undefined;
  /** The field or argument that does not fit. */
  readonly field: string | undefined;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, 'cause' in details ? { cause: details.cause } : undefined);
    this.code = code;
    this.problems = details.problems ?? [];
    this.serverError = details.serverError;
    this.retryAt = details.retryAt;
    this.violation = details.violation;
    this.storage = details.storage;
    this.field = details.field;
  }
}

/** Complete the config: `problems` says how. */
export class NotConfiguredError extends TokenwellError {
  override readonly name = 'NotConfiguredError';
  constructor(message: string, details?: ErrorDetails) {
    super('not-configured', message, details);
  }
}

/** Authorize the connection. */
export class NotAuthorizedError extends TokenwellError {
  override readonly name = 'NotAuthorizedError';
  constructor(message: string, details?: ErrorDetails) {
    super('not-authorized', message, details);
  }
}

/** Authorize the connection again; `serverError` where the server said why. */
export class ReauthorizationRequiredError extends TokenwellError {
  override readonly name = 'ReauthorizationRequiredError';
  constructor(message: string, details?: ErrorDetails) {
    super('reauthorization-required', message, details);
  }
}

/** The authorization endpoint said no: `serverError`. */
export class DeniedError extends TokenwellError {
  override readonly name = 'DeniedError';
  constructor(message: string, details?: ErrorDetails) {
    super('denied', message, details);
  }
}

/** The token endpoint, or another of the server, said no: `serverError`. */
export class RefusedError extends TokenwellError {
  override readonly name = 'RefusedError';
  constructor(message: string, details?: ErrorDetails) {
    super('refused', message, details);
  }
}

/** Try again later, at `retryAt` where that is known. */
export class UnavailableError extends TokenwellError {
  override readonly name = 'UnavailableError';
  constructor(message: string, details?: ErrorDetails) {
    super('unavailable', message, details);
  }
}

/** Do not go on: a response broke the protocol, the rule being `violation`. */
export class ProtocolViolationError extends TokenwellError {
  override readonly name = 'ProtocolViolationError';
  constructor(message: string, details?: ErrorDetails) {
    super('protocol-violation', message, details);
  }
}

/**
 * Mend the store: `storage`. What is stored is untouched. What a store of your
 * own has thrown is the `cause`.
 */
export class StorageError extends TokenwellError {
  override readonly name = 'StorageError';
  constructor(message: string, details?: ErrorDetails) {
    super('storage', message, details);
  }
}

/** The host's policy says no. */
export class ForbiddenError extends TokenwellError {
  override readonly name = 'ForbiddenError';
  constructor(message: string, details?: ErrorDetails) {
    super('forbidden', message, details);
  }
}

/** This version cannot do it. */
export class UnsupportedError extends TokenwellError {
  override readonly name = 'UnsupportedError';
  constructor(message: string, details?: ErrorDetails) {
    super('unsupported', message, details);
  }
}

/** An argument is of a type or value that does not fit: `field` names it. */
export class InvalidArgumentError extends TokenwellError {
  override readonly name = 'InvalidArgumentError';
  constructor(field: string, message: string, details?: ErrorDetails) {
    super('invalid-argument', `${field} ${message}`, { ...details, field });
  }
}

/** The host or the connection has been closed. */
export class ClosedError extends TokenwellError {
  override readonly name = 'ClosedError';
  constructor(message: string) {
    super('closed', message);
  }
}

/** A fault of this package; please report it. */
export class InternalError extends TokenwellError {
  override readonly name = 'InternalError';
  constructor(message: string, details?: ErrorDetails) {
    super('internal', message, details);
  }
}

const CLASSES = {
  'not-configured': NotConfiguredError,
  'not-authorized': NotAuthorizedError,
  'reauthorization-required': ReauthorizationRequiredError,
  denied: DeniedError,
  refused: RefusedError,
  unavailable: UnavailableError,
  'protocol-violation': ProtocolViolationError,
  storage: StorageError,
  forbidden: ForbiddenError,
  unsupported: UnsupportedError,
} as const;

/** The error of one of the contract's kinds. */
export function errorOf(kind: keyof typeof CLASSES, message: string, details: ErrorDetails): TokenwellError {
  return new CLASSES[kind](message, details);
}
