// An OAuth 2.0 client connection: authorize it once, then draw a token that is
// always fresh.
export { Tokenwell, type TokenwellOptions } from './tokenwell.js';
export type { Connection } from './connection.js';
export type { Config, Secret } from './config.js';
export * from './errors.js';
export type * from './types.js';
export { StoreError, type Entry, type Lease, type Swapped, type TokenStore } from './store.js';
export { MemoryStore } from './memory-store.js';
export { FileStore } from './file-store.js';
export { SecretError, type Secrets } from './secrets.js';
export { LocalSecrets, type LocalSecretsOptions, type Resolver } from './local-secrets.js';
export type { Password } from './password.js';
export type { SealingKey } from './seal.js';
export {
  noUserAgent,
  UserAgentError,
  type Arrival,
  type Listener,
  type Outcome,
  type UserAgent,
} from './user-agent.js';
export { Browser } from './browser.js';
export { LoopbackListener } from './loopback.js';
