// A sealed value, by host/STORE.md: ChaCha20-Poly1305 (RFC 8439).
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';

/** A key that seals stored records. */
export interface SealingKey {
  /** A short name that says which key it is and nothing about it. */
  id: string;
  /** 32 bytes. */
  key: Uint8Array;
}

const MAGIC = Buffer.from('TWS');
const VERSION = 1;
const NONCE_LENGTH = 12;
const TAG_LENGTH = 16;

/** The identifier of the key that a value is sealed under. */
export function keyId(sealed: Uint8Array): string | undefined {
  const bytes = Buffer.from(sealed.buffer, sealed.byteOffset, sealed.byteLength);
  if (bytes.length < 5 || !bytes.subarray(0, 3).equals(MAGIC) || bytes[3] !== VERSION) return undefined;
  const end = 5 + (bytes[4] as number);
  return bytes.length < end ? undefined : bytes.toString('utf8', 5, end);
}

/** Seals for a store key. */
export function seal({ id, key }: SealingKey, storeKey: string, plain: Uint8Array): Buffer {
  const name = Buffer.from(id);
  const header = Buffer.concat([MAGIC, Buffer.from([VERSION, name.length]), name]);
  const nonce = randomBytes(NONCE_LENGTH);
  const cipher = createCipheriv('chacha20-poly1305', key, nonce, { authTagLength: TAG_LENGTH });
  cipher.setAAD(Buffer.concat([header, Buffer.from(storeKey)]), { plaintextLength: plain.length });
  return Buffer.concat([header, nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
}

/** Opens what was sealed for a store key; `undefined` where it does not open. */
export function open({ id, key }: SealingKey, storeKey: string, sealed: Uint8Array): Buffer | undefined {
  if (keyId(sealed) !== id) return undefined;
  const bytes = Buffer.from(sealed.buffer, sealed.byteOffset, sealed.byteLength);
  const header = bytes.subarray(0, 5 + (bytes[4] as number));
  const rest = bytes.subarray(header.length + NONCE_LENGTH);
  const plaintextLength = rest.length - TAG_LENGTH;
  if (plaintextLength < 0) return undefined;
  const nonce = bytes.subarray(header.length, header.length + NONCE_LENGTH);
  const decipher = createDecipheriv('chacha20-poly1305', key, nonce, { authTagLength: TAG_LENGTH });
  decipher.setAAD(Buffer.concat([header, Buffer.from(storeKey)]), { plaintextLength });
  decipher.setAuthTag(rest.subarray(plaintextLength));
  try {
    return Buffer.concat([decipher.update(rest.subarray(0, plaintextLength)), decipher.final()]);
  } catch {
    return undefined;
  }
}
