import { NotConfiguredError } from './errors.js';
import type { Problem } from './types.js';

/** A secret value as it is, or where the host finds it. */
export type Secret = string | { ref: string };

/**
 * The config of a connection: the JSON document of `guest/core/CONFIG.md`, its
 * fields by their names there. It may be incomplete; `status` and `check` tell
 * what is missing.
 */
export interface Config {
  provider?: string;
  parameters?: Record<string, string>;
  client_id?: string;
  client_secret?: Secret;
  token_endpoint_auth_method?:
    | 'none'
    | 'client_secret_basic'
    | 'client_secret_post'
    | 'client_secret_jwt'
    | 'private_key_jwt'
    | 'tls_client_auth'
    | 'self_signed_tls_client_auth';
  client_secret_basic_encoding?: 'form_urlencoded' | 'raw';
  signing_key?: { ref: string };
  client_certificate?: { ref: string };
  client_certificate_key?: { ref: string };
  /** `authorization_code`, `client_credentials`, `password`, `device_code`, `jwt_bearer`, `token_exchange`, `refresh_token`, or an extension's URI. */
  grant_type?: string;
  username?: string;
  password?: Secret;
  refresh_token?: Secret;
  assertion?: Secret;
  assertion_issuer?: string;
  assertion_subject?: string;
  assertion_audience?: string;
  assertion_claims?: Record<string, unknown>;
  subject_token?: Secret;
  subject_token_type?: string;
  actor_token?: Secret;
  actor_token_type?: string;
  requested_token_type?: string;
  /** Space-separated. */
  scope?: string;
  resource?: string | string[];
  audience?: string | string[];
  issuer?: string;
  authorization_endpoint?: string;
  token_endpoint?: string;
  revocation_endpoint?: string;
  introspection_endpoint?: string;
  userinfo_endpoint?: string;
  device_authorization_endpoint?: string;
  pushed_authorization_request_endpoint?: string;
  jwks_uri?: string;
  redirect_uri?: string;
  response_mode?: 'query' | 'form_post';
  pkce?: boolean;
  prompt?: string;
  /** Seconds. */
  max_age?: number;
  par?: 'auto' | boolean;
  request_object?: boolean;
  dpop?: boolean;
  offline_access?: boolean;
  authorization_parameters?: Record<string, string>;
  token_parameters?: Record<string, string>;
  token_headers?: Record<string, string>;
  /** Seconds for one request; 30. */
  timeout?: number;
  tls?: 'verify' | 'trust' | 'off';
  ignore_cookie_policy?: boolean;
  renewal?: {
    early_seconds?: number;
    max_attempts?: number;
    first_retry_seconds?: number;
    max_retry_seconds?: number;
    default_lifetime_seconds?: number;
  };
}

/** The error that a config is refused with: all that is wrong with it. */
export function refused(problems: readonly Problem[]): NotConfiguredError {
  const texts = problems.map(({ field, message, mend }) => `${field} ${message} (${mend})`);
  return new NotConfiguredError(`the config cannot be used: ${texts.join('; ')}`, { problems });
}

/**
 * Writes a config as JSON. `JSON.stringify` would drop a function, turn a Date
 * into a text and NaN into null without a word: each is a problem here, with
 * its field.
 */
export function toJson(config: unknown): string {
  const problems: Problem[] = [];
  if (!isPlainObject(config)) {
    throw refused([problem('config', `is ${describe(config)}`, 'give an object with the fields of CONFIG.md')]);
  }
  collect(config, '', problems, new Set());
  if (problems.length > 0) throw refused(problems);
  return JSON.stringify(config);
}

function collect(value: unknown, field: string, problems: Problem[], above: Set<unknown>): void {
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return;
    case 'number':
      if (!Number.isFinite(value)) problems.push(problem(field, `is ${value}`, 'give a number'));
      return;
    case 'object':
      break;
    default:
      problems.push(problem(field, `is ${describe(value)}`, 'give a value that JSON has'));
      return;
  }
  if (value === null) return;
  if (above.has(value)) {
    problems.push(problem(field, 'contains itself', 'give a value that JSON has'));
    return;
  }
  if (!Array.isArray(value) && !isPlainObject(value)) {
    problems.push(problem(field, `is ${describe(value)}`, 'give a text, a number, a boolean, an array or a plain object'));
    return;
  }
  above.add(value);
  for (const [name, member] of Object.entries(value)) {
    // A field that is undefined is one that is not there.
    if (member === undefined && !Array.isArray(value)) continue;
    const inner = Array.isArray(value) ? `${field}[${name}]` : field ? `${field}.${name}` : name;
    collect(member, inner, problems, above);
  }
  above.delete(value);
}

function problem(field: string, message: string, mend: string): Problem {
  return { field, severity: 'error', message, mend };
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || prototype === Object.prototype || Object.getPrototypeOf(prototype) === null;
}

/** What a value is, never what it says: it may be a secret. */
export function describe(value: unknown): string {
  if (value === null) return 'null';
  if (value === undefined) return 'undefined';
  if (Array.isArray(value)) return 'an array';
  if (typeof value === 'object') {
    const name: unknown = value.constructor?.name;
    return typeof name === 'string' && name !== '' && name !== 'Object' ? `an object of the class ${name}` : 'an object';
  }
  return typeof value === 'undefined' ? 'undefined' : `a ${typeof value}`;
}
