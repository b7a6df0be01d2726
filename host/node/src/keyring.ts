// The operating system's keyring, for what the command line keeps there: the Secret
// Service on Linux, the Keychain on macOS, the Credential Manager on Windows. It is
// reached by `@napi-rs/keyring`, which the application installs where it is wanted.
import type { AsyncEntry } from '@napi-rs/keyring';
import * as files from './files.js';
import { SecretError } from './secrets.js';

/** The service that the entries are under: the reference host's (host/src/secrets/keyring.rs). */
const SERVICE = 'tokenwell';

/** Reads an entry, waiting for the user to unlock the keyring where that is needed. */
export async function fromKeyring(name: string): Promise<Uint8Array> {
  let secret: ArrayLike<number> | null;
  try {
    // Another than the Secret Service, such as the kernel's, has not what the command line keeps.
    secret = await new (await entries())(SERVICE, name, { linux: { store: 'secret-service' } }).getSecret();
  } catch (error) {
    if (error instanceof SecretError) throw error;
    const why = error instanceof Error ? error.message : String(error);
    throw new SecretError('unavailable', `the operating system's keyring cannot be used: ${why}`, { cause: error });
  }
  if (secret !== null) return Uint8Array.from(secret);
  throw new SecretError('not-found', `the operating system's keyring has nothing under ${SERVICE}/${name}`);
}

async function entries(): Promise<typeof AsyncEntry> {
  try {
    return (await import('@napi-rs/keyring')).AsyncEntry;
  } catch (error) {
    if (files.codeOf(error) !== 'ERR_MODULE_NOT_FOUND') throw error;
    throw new SecretError(
      'unsupported',
      "the operating system's keyring is read by the package `@napi-rs/keyring`, which is not installed; without it `tokenwell rekey --to key-file` or `--to password` puts another key in place of the keyring's, and `tokenwell seal` keeps a secret for `sealed:NAME`",
      { cause: error },
    );
  }
}
