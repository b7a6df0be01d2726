import { describe } from './config.js';
import type { SealingKey } from './seal.js';
import { StoreError } from './store.js';

type Awaitable<T> = T | Promise<T>;

/** Why a secret could not be given. The message is free of secrets. */
export class SecretError extends Error {
  override readonly name = 'SecretError';
  constructor(
    /**
     * `not-found`: there is nothing under that reference. `denied`: the host does
     * not allow it. `unavailable`: it cannot be had now. `unsupported`: the host
     * knows no such form of reference or algorithm.
     */
    readonly kind: 'not-found' | 'denied' | 'unavailable' | 'unsupported',
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}

/**
 * Holds what the component must not: the values behind references, and private
 * keys. What it throws is a `SecretError`, or else taken for `unavailable`.
 */
export interface Secrets {
  /** The value behind a reference, such as `env:NAME`. */
  resolve(reference: string): Awaitable<string>;

  /**
   * The keys that seal stored records: the first seals, all open. `needed` is the
   * identifier of the key that a stored record names.
   */
  sealingKeys(needed: string | undefined): Awaitable<readonly SealingKey[]>;

  /**
   * Signs with a key that does not leave the host, by a JWS algorithm (RFC 7518
   * section 3.1, RFC 8037 section 3.1); the signature is in JWS form.
   */
  sign(key: string, algorithm: string, data: Uint8Array): Awaitable<Uint8Array>;

  /** The public half of such a key, as a JWK (RFC 7517). */
  publicKey(key: string): Awaitable<string>;

  /** Checks a JWS signature with a public key given as a JWK. */
  verify(jwk: string, algorithm: string, data: Uint8Array, signature: Uint8Array): Awaitable<boolean>;
}

function misfit(what: string, value: unknown, expected: string): SecretError {
  return new SecretError('unavailable', `what secrets.${what} gives is ${describe(value)}, and must be ${expected}`);
}

export function checkText(what: string, value: unknown): string {
  if (typeof value === 'string') return value;
  throw misfit(what, value, 'a string');
}

export function checkBoolean(what: string, value: unknown): boolean {
  if (typeof value === 'boolean') return value;
  throw misfit(what, value, 'a boolean');
}

export function checkBytes(what: string, value: unknown): Uint8Array {
  if (value instanceof Uint8Array) return value;
  throw misfit(what, value, 'a Uint8Array');
}

export function checkKeys(value: unknown): SealingKey[] {
  if (!Array.isArray(value)) throw misfit('sealingKeys', value, 'an array');
  return value.map((given: unknown) => {
    const { id, key } = (given ?? {}) as Partial<SealingKey>;
    if (typeof id !== 'string' || !(key instanceof Uint8Array) || key.length !== 32) {
      throw misfit('sealingKeys', given, 'an array of `{ id, key }`, the key being 32 bytes');
    }
    return { id, key };
  });
}

/** A secret that could not be had because of the store. */
export function fromStoreError(error: unknown): SecretError {
  if (error instanceof SecretError) return error;
  const kind = error instanceof StoreError && error.kind === 'denied' ? 'denied' : 'unavailable';
  return new SecretError(kind, error instanceof Error ? error.message : String(error), { cause: error });
}
