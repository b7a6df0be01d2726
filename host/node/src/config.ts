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
  provider?: string | undefined;
  parameters?: Record<string, string> | undefined;
  client_id?: string | undefined;
  client_secret?: Secret | undefined;
  token_endpoint_auth_method?:
    | 'none'
    | 'client_secret_basic'
    | 'client_secret_post'
    | 'client_secret_jwt'
    | 'private_key_jwt'
    | 'tls_client_auth'
    | 'self_signed_tls_client_auth'
    | undefined;
  client_secret_basic_encoding?: 'form_urlencoded' | 'raw' | undefined;
  signing_key?: { ref: string } | undefined;
  client_certificate?: { ref: string } | undefined;
  client_certificate_key?: { ref: string } | undefined;
  /** `authorization_code`, `client_credentials`, `password`, `device_code`, `jwt_bearer`, `token_exchange`, `refresh_token`, or an extension's URI. */
  grant_type?: string | undefined;
  username?: string | undefined;
  password?: Secret | undefined;
  refresh_token?: Secret | undefined;
  assertion?: Secret | undefined;
  assertion_issuer?: string | undefined;
  assertion_subject?: string | undefined;
  assertion_audience?: string | undefined;
  assertion_claims?: Record<string, unknown> | undefined;
  subject_token?: Secret | undefined;
  subject_token_type?: string | undefined;
  actor_token?: Secret | undefined;
  actor_token_type?: string | undefined;
  requested_token_type?: string | undefined;
  /** Space-separated. */
  scope?: string | undefined;
  resource?: string | string[] | undefined;
  audience?: string | string[] | undefined;
  issuer?: string | undefined;
  authorization_endpoint?: string | undefined;
  token_endpoint?: string | undefined;
  revocation_endpoint?: string | undefined;
  introspection_endpoint?: string | undefined;
  userinfo_endpoint?: string | undefined;
  device_authorization_endpoint?: string | undefined;
  pushed_authorization_request_endpoint?: string | undefined;
  jwks_uri?: string | undefined;
  redirect_uri?: string | undefined;
  response_mode?: 'query' | 'form_post' | undefined;
  pkce?: boolean | undefined;
  prompt?: string | undefined;
  /** Seconds. */
  max_age?: number | undefined;
  par?: 'auto' | boolean | undefined;
  request_object?: boolean | undefined;
  dpop?: boolean | undefined;
  offline_access?: boolean | undefined;
  authorization_parameters?: Record<string, string> | undefined;
  token_parameters?: Record<string, string> | undefined;
  token_headers?: Record<string, string> | undefined;
  /** Seconds for one request; 30. */
  timeout?: number | undefined;
  tls?: 'verify' | 'trust' | 'off' | undefined;
  ignore_cookie_policy?: boolean | undefined;
  renewal?: {
    early_seconds?: number | undefined;
    max_attempts?: number | undefined;
    first_retry_seconds?: number | undefined;
    max_retry_seconds?: number | undefined;
    default_lifetime_seconds?: number | undefined;
  } | undefined;
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
