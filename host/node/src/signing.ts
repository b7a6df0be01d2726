// Signatures in JWS form (RFC 7515, RFC 7518 section 3, RFC 8037 section 3.1) by
// node:crypto: made with private keys that stay in the host, and checked with
// public ones. The messages of the errors hold nothing of a key.
import {
  constants,
  createHash,
  createPrivateKey,
  createPublicKey,
  sign as signRaw,
  verify as verifyRaw,
  type JsonWebKey,
  type KeyObject,
} from 'node:crypto';
import { SecretError } from './secrets.js';

const ALGORITHMS = 'RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 and EdDSA (Ed25519)';

const KEYS =
  'RSA keys of 2048, 3072 or 4096 bits, EC keys on P-256 or P-384, and Ed25519 keys, in PEM (PKCS#8, PKCS#1, SEC 1) or as a JWK';

/** Enough for any key here, and for a certificate chain beside it. */
const MOST_OCTETS = 64 * 1024;

interface Algorithm {
  family: 'rsa' | 'P-256' | 'P-384' | 'Ed25519';
  digest: string | null;
  isPss: boolean;
}

/** What a key says it is for (RFC 7517 sections 4.2 to 4.4). */
interface Limits {
  alg?: string | undefined;
  use?: string | undefined;
  key_ops?: readonly string[] | undefined;
}

interface Jwk extends JsonWebKey, Limits {
  kid?: string;
  alg?: string;
  use?: string;
  key_ops?: string[];
  oth?: unknown;
}

function unsupported(message: string): SecretError {
  return new SecretError('unsupported', message);
}

/** A name from outside, fit for the text of an error. */
function quoted(name: string): string {
  return `\`${name.replace(/[^\x21-\x7e]/g, '').slice(0, 24)}\``;
}

function algorithmNamed(name: string): Algorithm {
  const found = /^(RS|PS|ES)(256|384|512)$/.exec(name);
  if (found !== null && name !== 'ES512') {
    const digest = `sha${found[2]}`;
    if (found[1] === 'ES') return { family: name === 'ES256' ? 'P-256' : 'P-384', digest, isPss: false };
    return { family: 'rsa', digest, isPss: found[1] === 'PS' };
  }
  // RFC 9864 gives EdDSA with Ed25519 a name of its own.
  if (name === 'EdDSA' || name === 'Ed25519') return { family: 'Ed25519', digest: null, isPss: false };
  throw unsupported(`${quoted(name)} is not among the signature algorithms here, which are ${ALGORITHMS}`);
}

/** Signs with a private key: PEM, a JWK, or a Google service account's file. */
export function sign(text: string, algorithm: string, data: Uint8Array): Uint8Array {
  const wanted = algorithmNamed(algorithm);
  const { key, limits } = privateKey(text);
  allow(limits, wanted, 'sign');
  const family = familyOf(key);
  if (family !== wanted.family) throw unsupported(`${quoted(algorithm)} does not fit the key: ${fitting(family)}`);
  try {
    return signRaw(wanted.digest, data, { key, ...options(wanted) });
  } catch {
    throw unsupported(`the ${family === 'rsa' ? 'RSA ' : ''}key makes no valid signature: its parts do not belong together`);
  }
}

/**
 * The public half of a private key as a JWK. `kid` is the one of the private JWK,
 * else the thumbprint (RFC 7638); `alg` and `use` are there where the private JWK
 * has them.
 */
export function publicJwk(text: string): string {
  const { key, limits, kid, x5t } = privateKey(text);
  familyOf(key);
  const { crv, e, kty, n, x, y } = createPublicKey(key).export({ format: 'jwk' });
  // In the order of RFC 7638.
  const members = Object.fromEntries(Object.entries({ crv, e, kty, n, x, y }).filter(([, value]) => value !== undefined));
  const thumbprint = createHash('sha256').update(JSON.stringify(members)).digest('base64url');
  return JSON.stringify({ ...members, kid: kid ?? thumbprint, alg: limits.alg, use: limits.use, 'x5t#S256': x5t });
}

/** Checks a JWS signature. What is no signature at all is a wrong one. */
export function verify(text: string, algorithm: string, data: Uint8Array, signature: Uint8Array): boolean {
  const wanted = algorithmNamed(algorithm);
  const jwk = asJwk(readJson(text));
  allow(jwk, wanted, 'verify');
  const { kty, crv, n, e, x, y } = jwk;
  let key: KeyObject;
  try {
    const members = Object.entries({ kty, crv, n, e, x, y }).filter(([, value]) => value !== undefined);
    key = createPublicKey({ key: Object.fromEntries(members) as JsonWebKey, format: 'jwk' });
  } catch {
    throw unsupported(`the JWK is no public key that is supported; supported are ${KEYS}`);
  }
  const family = familyOf(key, true);
  if (family !== wanted.family) throw unsupported(`${quoted(algorithm)} does not fit the key: ${fitting(family)}`);
  try {
    return verifyRaw(wanted.digest, data, { key, ...options(wanted) }, signature);
  } catch {
    return false;
  }
}

function options({ family, isPss }: Algorithm) {
  if (family === 'rsa') {
    return isPss
      ? { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST }
      : { padding: constants.RSA_PKCS1_PADDING };
  }
  // Of a curve the two numbers one after the other, not DER.
  return family === 'Ed25519' ? {} : { dsaEncoding: 'ieee-p1363' as const };
}

function allow(limits: Limits, wanted: Algorithm, operation: string): void {
  if (limits.alg !== undefined) {
    let only: Algorithm | undefined;
    try {
      only = algorithmNamed(limits.alg);
    } catch {
      // One that nothing here signs with.
    }
    if (JSON.stringify(only) !== JSON.stringify(wanted)) {
      throw unsupported(`the key is for ${quoted(limits.alg)} alone, as its \`alg\` says`);
    }
  }
  if (limits.use === 'enc') {
    throw new SecretError('denied', 'the key is for encryption and not for signatures, as its `use` says');
  }
  if (limits.key_ops !== undefined && !limits.key_ops.includes(operation)) {
    throw new SecretError('denied', `the \`key_ops\` of the key do not have \`${operation}\``);
  }
}

function fitting(family: Algorithm['family']): string {
  switch (family) {
    case 'rsa':
      return 'an RSA key signs with RS256, RS384, RS512, PS256, PS384 and PS512';
    case 'P-256':
      return 'an EC key on P-256 signs with ES256';
    case 'P-384':
      return 'an EC key on P-384 signs with ES384';
    case 'Ed25519':
      return 'an Ed25519 key signs with EdDSA';
  }
}

/** What kind of key it is, if it is one that is supported and safe. */
function familyOf(key: KeyObject, toVerify = false): Algorithm['family'] {
  const details = key.asymmetricKeyDetails ?? {};
  switch (key.asymmetricKeyType) {
    case 'rsa': {
      const bits = details.modulusLength ?? 0;
      if (bits < 2048) throw new SecretError('denied', `the RSA key has ${bits} bits, and less than 2048 are not safe`);
      const least = toVerify ? 3n : 65537n;
      const exponent = details.publicExponent ?? 0n;
      if (exponent < least || exponent % 2n === 0n || exponent >= 1n << 33n) {
        throw new SecretError(
          'denied',
          `the public exponent of the RSA key is not an odd number of ${least} or more and less than 2^33`,
        );
      }
      if (toVerify ? bits > 8192 : ![2048, 3072, 4096].includes(bits)) {
        throw unsupported(`the RSA key has ${bits} bits; supported for signing are 2048, 3072 and 4096`);
      }
      return 'rsa';
    }
    case 'ec':
      if (details.namedCurve === 'prime256v1') return 'P-256';
      if (details.namedCurve === 'secp384r1') return 'P-384';
      throw unsupported(`the key is an EC key on ${quoted(details.namedCurve ?? '')}; supported are P-256 and P-384`);
    case 'ed25519':
      return 'Ed25519';
    default:
      throw unsupported(`the key is of the type ${quoted(key.asymmetricKeyType ?? '')}; supported are ${KEYS}`);
  }
}

interface PrivateKey {
  key: KeyObject;
  limits: Limits;
  kid?: string | undefined;
  x5t?: string | undefined;
}

function privateKey(given: string): PrivateKey {
  const text = given.replace(/^\ufeff/, '').trim();
  if (text.startsWith('{')) {
    const json = readJson(text);
    // The file that Google gives for a service account has the key as PEM in it.
    const { private_key: pem, private_key_id: id } = json as Record<string, unknown>;
    if (typeof pem === 'string') return { ...fromPem(pem), kid: typeof id === 'string' ? id : undefined };
    const jwk = asJwk(json);
    if (jwk.oth !== undefined) throw unsupported('the RSA key has more than two primes; supported are those with two');
    if (jwk.d === undefined) throw unsupported('the JWK is a public key: it lacks `d`');
    try {
      const key = createPrivateKey({ key: jwk, format: 'jwk' });
      return { key, limits: jwk, kid: jwk.kid, x5t: (jwk as { 'x5t#S256'?: string })['x5t#S256'] };
    } catch {
      throw unsupported(`the JWK is no private key that is supported; supported are ${KEYS}`);
    }
  }
  return fromPem(text);
}

function fromPem(text: string): PrivateKey {
  if (/-----BEGIN ENCRYPTED PRIVATE KEY-----|Proc-Type:/.test(text)) {
    throw unsupported(
      'the private key is encrypted with a password; supported are plain ones (`openssl pkey -in KEY.pem` writes it so), which `sealed:NAME` keeps safe',
    );
  }
  try {
    return { key: createPrivateKey(text), limits: {} };
  } catch {
    throw unsupported(`this is no private key that can be read; supported are ${KEYS}`);
  }
}

function readJson(text: string): unknown {
  if (text.length > MOST_OCTETS) throw unsupported(`the JWK has more than ${MOST_OCTETS} octets`);
  try {
    return JSON.parse(text);
  } catch {
    // What the parser says of it may quote the key.
    throw unsupported('the JWK is not JSON');
  }
}

function asJwk(json: unknown): Jwk {
  const jwk = json as Jwk;
  if (typeof jwk !== 'object' || jwk === null || typeof jwk.kty !== 'string') {
    throw unsupported('this is no JWK: one is an object with `kty` and, by that, further members (RFC 7517)');
  }
  for (const member of ['kid', 'alg', 'use', 'x5t#S256'] as const) {
    const value = (jwk as Record<string, unknown>)[member];
    if (value !== undefined && typeof value !== 'string') throw unsupported(`\`${member}\` of the JWK is not a text`);
  }
  if (jwk.key_ops !== undefined && !(Array.isArray(jwk.key_ops) && jwk.key_ops.every((op) => typeof op === 'string'))) {
    throw unsupported('`key_ops` of the JWK is not an array of texts');
  }
  return jwk;
}
