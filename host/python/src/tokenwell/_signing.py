"""Signatures in JWS form (RFC 7515, RFC 7518 section 3, RFC 8037 section 3.1).

A private key is PEM (PKCS#8, PKCS#1, SEC 1) or a JWK (RFC 7517), RSA, EC on P-256 or
P-384, or Ed25519. The texts of the errors hold nothing of a key.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

from .secrets import SecretDenied, SecretError, SecretUnsupported

_ALGORITHMS = "RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 and EdDSA (Ed25519)"
_KEYS = (
    "RSA keys of 2048, 3072 or 4096 bits, EC keys on P-256 or P-384, and Ed25519 keys, in PEM "
    "(PKCS#8, PKCS#1, SEC 1) or as a JWK"
)
_HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "256": hashes.SHA256,
    "384": hashes.SHA384,
    "512": hashes.SHA512,
}
_CURVES: dict[str, tuple[type[ec.EllipticCurve], int, str]] = {
    "P-256": (ec.SECP256R1, 32, "ES256"),
    "P-384": (ec.SECP384R1, 48, "ES384"),
}
_CURVE_NAMES = {"secp256r1": "P-256", "secp384r1": "P-384"}
_MOST_OCTETS = 64 * 1024

Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
Public = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


def sign(key: str, algorithm: str, data: bytes) -> bytes:
    """The signature of ``data`` with the private key whose text is given."""
    _check_algorithm(algorithm)
    private, jwk = _read(key)
    _check_limits(jwk, algorithm, "sign")
    _check_fit(private.public_key(), algorithm)
    match private:
        case rsa.RSAPrivateKey():
            digest = _HASHES[algorithm[2:]]()
            return private.sign(data, _padding(algorithm, digest), digest)
        case ec.EllipticCurvePrivateKey():
            digest = _HASHES[algorithm[2:]]()
            r, s = utils.decode_dss_signature(private.sign(data, ec.ECDSA(digest)))
            length = private.key_size // 8
            return r.to_bytes(length, "big") + s.to_bytes(length, "big")
        case _:
            return private.sign(data)


def public_jwk(key: str) -> str:
    """The public half as a JWK. ``kid`` is the one of the private JWK, else the
    thumbprint (RFC 7638); ``alg`` and ``use`` are there where the private JWK has them."""
    private, jwk = _read(key)
    members = _members(private.public_key())
    canonical = json.dumps(members, separators=(",", ":"), sort_keys=True)
    thumbprint = _encode(hashlib.sha256(canonical.encode()).digest())
    members["kid"] = jwk.get("kid") or thumbprint
    for name in ("alg", "use"):
        if name in jwk:
            members[name] = jwk[name]
    return json.dumps(members, separators=(",", ":"))


def verify(jwk: str, algorithm: str, data: bytes, signature: bytes) -> bool:
    """Checks a signature with the public key in a JWK. A signature that is not one at
    all is a wrong one."""
    _check_algorithm(algorithm)
    found = _as_jwk(_read_json(jwk))
    _check_limits(found, algorithm, "verify")
    public = _public(found)
    _check_fit(public, algorithm)
    try:
        match public:
            case rsa.RSAPublicKey():
                digest = _HASHES[algorithm[2:]]()
                public.verify(signature, data, _padding(algorithm, digest), digest)
            case ec.EllipticCurvePublicKey():
                length = public.key_size // 8
                if len(signature) != 2 * length:
                    return False
                r = int.from_bytes(signature[:length], "big")
                s = int.from_bytes(signature[length:], "big")
                der = utils.encode_dss_signature(r, s)
                public.verify(der, data, ec.ECDSA(_HASHES[algorithm[2:]]()))
            case _:
                public.verify(signature, data)
    except InvalidSignature:
        return False
    return True


def _padding(algorithm: str, digest: hashes.HashAlgorithm) -> padding.AsymmetricPadding:
    if algorithm.startswith("RS"):
        return padding.PKCS1v15()
    # RFC 7518 section 3.5: the salt is as long as the digest.
    return padding.PSS(mgf=padding.MGF1(digest), salt_length=digest.digest_size)


def _quoted(name: object) -> str:
    """A name from outside, fit for the text of an error."""
    text = str(name)
    return "`" + "".join(c for c in text if "!" <= c <= "~")[:24] + "`"


def _check_algorithm(algorithm: str) -> None:
    known = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384")
    # RFC 9864 gives EdDSA with Ed25519 a name of its own.
    if algorithm not in (*known, "EdDSA", "Ed25519"):
        raise SecretUnsupported(
            f"{_quoted(algorithm)} is not among the signature algorithms here, which are {_ALGORITHMS}"
        )


def _check_fit(public: Public, algorithm: str) -> None:
    match public:
        case rsa.RSAPublicKey():
            fits = algorithm[:2] in ("RS", "PS")
            text = "an RSA key signs with RS256, RS384, RS512, PS256, PS384 and PS512"
        case ec.EllipticCurvePublicKey():
            name = _CURVE_NAMES[public.curve.name]
            fits = algorithm == _CURVES[name][2]
            text = f"an EC key on {name} signs with {_CURVES[name][2]}"
        case _:
            fits = algorithm in ("EdDSA", "Ed25519")
            text = "an Ed25519 key signs with EdDSA"
    if not fits:
        raise SecretUnsupported(f"{_quoted(algorithm)} does not fit the key: {text}")


def _check_limits(jwk: dict[str, Any], algorithm: str, operation: str) -> None:
    """What a key says it is for (RFC 7517 sections 4.2 to 4.4)."""
    same = {"Ed25519": "EdDSA"}
    alg = jwk.get("alg")
    if alg is not None and same.get(alg, alg) != same.get(algorithm, algorithm):
        raise SecretUnsupported(f"the key is for {_quoted(alg)} alone, as its `alg` says")
    if jwk.get("use") == "enc":
        raise SecretDenied(
            "the key is for encryption and not for signatures, as its `use` says"
        )
    allowed = jwk.get("key_ops")
    if allowed is not None and operation not in allowed:
        raise SecretDenied(f"the `key_ops` of the key do not have `{operation}`")


def _read(text: str) -> tuple[Private, dict[str, Any]]:
    """A private key, and the members of its JWK where it is one."""
    text = text.lstrip("\ufeff").strip()
    if text.startswith("{"):
        found = _read_json(text)
        # The file that Google gives for a service account has the key as PEM in it.
        pem, kid = found.get("private_key"), found.get("private_key_id")
        if isinstance(pem, str):
            return _read_pem(pem), {"kid": kid if isinstance(kid, str) else None}
        jwk = _as_jwk(found)
        return _checked(_private(jwk)), jwk
    return _read_pem(text), {}


def _read_pem(text: str) -> Private:
    try:
        key = serialization.load_pem_private_key(text.encode(), password=None)
    except TypeError:
        raise SecretUnsupported(
            "the private key is encrypted; a key without a passphrase is needed"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise SecretUnsupported(
            f"this is no private key that can be read; supported are {_KEYS}"
        ) from None
    return _checked(key)


def _checked(key: object) -> Private:
    match key:
        case rsa.RSAPrivateKey():
            _check_rsa(key.public_key())
            if key.key_size not in (2048, 3072, 4096):
                raise SecretUnsupported(
                    f"the RSA key has {key.key_size} bits; supported for signing are 2048, 3072 and 4096"
                )
            return key
        case ec.EllipticCurvePrivateKey():
            _check_curve(key.curve)
            return key
        case ed25519.Ed25519PrivateKey():
            return key
    raise SecretUnsupported(f"the key is of a type that is not supported; supported are {_KEYS}")


def _check_curve(curve: ec.EllipticCurve) -> None:
    if curve.name not in _CURVE_NAMES:
        raise SecretUnsupported(
            f"the key is an EC key on {_quoted(curve.name)}; supported are P-256 and P-384"
        )


def _check_rsa(key: rsa.RSAPublicKey) -> None:
    if key.key_size < 2048:
        raise SecretDenied(
            f"the RSA key has {key.key_size} bits, and less than 2048 are not safe"
        )
    if key.key_size > 8192:
        raise SecretUnsupported(
            f"the RSA key has {key.key_size} bits, and at most 8192 are supported"
        )
    e = key.public_numbers().e
    if e < 3 or e % 2 == 0 or e >= 1 << 33:
        raise SecretDenied(
            "the public exponent of the RSA key is not an odd number of 3 or more and less than 2^33"
        )


def _read_json(text: str) -> Any:
    if len(text) > _MOST_OCTETS:
        raise SecretUnsupported(f"the JWK has more than {_MOST_OCTETS} octets")
    try:
        return json.loads(text)
    except ValueError as error:
        line, column = getattr(error, "lineno", 0), getattr(error, "colno", 0)
        raise SecretUnsupported(
            f"the JWK is not JSON (line {line}, column {column})"
        ) from None


def _as_jwk(jwk: Any) -> dict[str, Any]:
    if not isinstance(jwk, dict) or not isinstance(jwk.get("kty"), str):
        raise SecretUnsupported(
            "this is no JWK: one is an object with `kty` and, by that, further members (RFC 7517)"
        )
    return jwk


def _number(jwk: dict[str, Any], name: str) -> int:
    return int.from_bytes(_octets(jwk, name), "big")


def _octets(jwk: dict[str, Any], name: str) -> bytes:
    value = jwk.get(name)
    if value is None:
        raise SecretUnsupported(
            "the JWK is a public key: it lacks `d`" if name == "d" else f"the JWK lacks `{name}`"
        )
    try:
        if not isinstance(value, str) or "=" in value:
            raise ValueError
        return base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise SecretUnsupported(
            f"`{name}` of the JWK is not base64url without padding"
        ) from None


def _curve_of(jwk: dict[str, Any]) -> tuple[ec.EllipticCurve, int]:
    try:
        curve, length, _ = _CURVES[jwk["crv"]]
    except (KeyError, TypeError):
        raise _of_another_type(jwk) from None
    return curve(), length


def _coordinates(jwk: dict[str, Any], length: int) -> tuple[int, int]:
    numbers = []
    for name in ("x", "y"):
        octets = _octets(jwk, name)
        # RFC 7518 section 6.2.1.2 has the leading zeros left in.
        if len(octets) != length:
            raise SecretUnsupported(
                f"`{name}` of the JWK is {len(octets)} octets long and not {length}"
            )
        numbers.append(int.from_bytes(octets, "big"))
    return numbers[0], numbers[1]


def _public(jwk: dict[str, Any]) -> Public:
    try:
        match jwk["kty"], jwk.get("crv"):
            case "RSA", _:
                numbers = rsa.RSAPublicNumbers(_number(jwk, "e"), _number(jwk, "n"))
                if numbers.n.bit_length() < 2048:
                    raise SecretDenied(
                        f"the RSA key has {numbers.n.bit_length()} bits, and less than 2048 are not safe"
                    )
                if numbers.e < 3 or numbers.e % 2 == 0 or numbers.e >= 1 << 33:
                    raise SecretDenied(
                        "the public exponent of the RSA key is not an odd number of 3 or more and less than 2^33"
                    )
                key = numbers.public_key()
                _check_rsa(key)
                return key
            case "EC", str():
                curve, length = _curve_of(jwk)
                x, y = _coordinates(jwk, length)
                return ec.EllipticCurvePublicNumbers(x, y, curve).public_key()
            case "OKP", "Ed25519":
                return ed25519.Ed25519PublicKey.from_public_bytes(_octets(jwk, "x"))
    except SecretError:
        raise
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SecretUnsupported("the key in the JWK is not valid") from error
    raise _of_another_type(jwk)


def _private(jwk: dict[str, Any]) -> Private:
    try:
        match jwk["kty"], jwk.get("crv"):
            case "RSA", _:
                if "oth" in jwk:
                    raise SecretUnsupported("RSA keys of more than two primes are not supported")
                public = rsa.RSAPublicNumbers(_number(jwk, "e"), _number(jwk, "n"))
                if public.n.bit_length() < 2048:
                    raise SecretDenied(
                        f"the RSA key has {public.n.bit_length()} bits, and less than 2048 are not safe"
                    )
                d, p, q, dp, dq, qi = (
                    _number(jwk, name) for name in ("d", "p", "q", "dp", "dq", "qi")
                )
                return rsa.RSAPrivateNumbers(p, q, d, dp, dq, qi, public).private_key()
            case "EC", str():
                curve, length = _curve_of(jwk)
                x, y = _coordinates(jwk, length)
                numbers = ec.EllipticCurvePublicNumbers(x, y, curve)
                return ec.EllipticCurvePrivateNumbers(_number(jwk, "d"), numbers).private_key()
            case "OKP", "Ed25519":
                private = ed25519.Ed25519PrivateKey.from_private_bytes(_octets(jwk, "d"))
                if private.public_key().public_bytes_raw() != _octets(jwk, "x"):
                    raise ValueError
                return private
    except SecretError:
        raise
    except (ValueError, UnsupportedAlgorithm) as error:
        # The library's own text may quote the key.
        del error
        raise SecretUnsupported("the key in the JWK is not valid") from None
    raise _of_another_type(jwk)


def _of_another_type(jwk: dict[str, Any]) -> SecretUnsupported:
    kind = _quoted(jwk["kty"])
    if "crv" in jwk:
        kind += f" with {_quoted(jwk['crv'])}"
    return SecretUnsupported(
        f"the type of the JWK is {kind}; supported are `RSA`, `EC` with `P-256` or `P-384`, and "
        "`OKP` with `Ed25519`"
    )


def _members(key: Public) -> dict[str, str]:
    """What a JWK of the public key must have (RFC 7638)."""
    match key:
        case rsa.RSAPublicKey():
            numbers = key.public_numbers()
            return {"e": _big(numbers.e), "kty": "RSA", "n": _big(numbers.n)}
        case ec.EllipticCurvePublicKey():
            name = _CURVE_NAMES[key.curve.name]
            length, point = _CURVES[name][1], key.public_numbers()
            return {
                "crv": name,
                "kty": "EC",
                "x": _encode(point.x.to_bytes(length, "big")),
                "y": _encode(point.y.to_bytes(length, "big")),
            }
        case _:
            return {"crv": "Ed25519", "kty": "OKP", "x": _encode(key.public_bytes_raw())}


def _big(number: int) -> str:
    return _encode(number.to_bytes((number.bit_length() + 7) // 8, "big"))


def _encode(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
