mod keys;

use serde_json::json;

use super::*;

const PRIVATE_KEYS: [&str; 14] = [
    keys::RSA_PKCS8,
    keys::RSA_PKCS1,
    keys::RSA_JWK,
    keys::P256_SEC1,
    keys::P256_PKCS8,
    keys::P256_JWK,
    keys::P384_SEC1,
    keys::P384_PKCS8,
    keys::P384_JWK,
    keys::ED25519_PKCS8,
    keys::ED25519_PKCS8_V2,
    keys::ED25519_JWK,
    keys::RFC7520_KEY,
    keys::RFC8037_A1_KEY,
];

const RSA_ALGORITHMS: [&str; 6] = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];

fn read(key: &str) -> SigningKey {
    SigningKey::read(key).unwrap()
}

/// Why a text is not read as a private key.
fn refusal(key: &str) -> SecretError {
    SigningKey::read(key).map(|_| "read").unwrap_err()
}

fn text(error: &SecretError) -> &str {
    match error {
        SecretError::NotFound(text)
        | SecretError::Denied(text)
        | SecretError::Unavailable(text)
        | SecretError::Unsupported(text) => text,
    }
}

#[track_caller]
fn assert_unsupported<T: fmt::Debug>(outcome: Result<T, SecretError>, saying: &str) {
    match outcome {
        Err(SecretError::Unsupported(text)) if text.contains(saying) => {}
        other => panic!("{other:?} does not say {saying}"),
    }
}

#[track_caller]
fn assert_denied<T: fmt::Debug>(outcome: Result<T, SecretError>, saying: &str) {
    match outcome {
        Err(SecretError::Denied(text)) if text.contains(saying) => {}
        other => panic!("{other:?} does not say {saying}"),
    }
}

/// What is signed, and the signature.
fn parts(compact: &str) -> (&[u8], Vec<u8>) {
    let (input, signature) = compact.rsplit_once('.').unwrap();
    (input.as_bytes(), decoded(signature))
}

fn decoded(base64url: &str) -> Vec<u8> {
    base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(base64url)
        .unwrap()
}

fn value(jwk: &str) -> serde_json::Value {
    serde_json::from_str(jwk).unwrap()
}

/// A JWK with that member set, or taken away by `null`.
fn with(jwk: &str, member: &str, set: serde_json::Value) -> String {
    let mut jwk = value(jwk);
    let members = jwk.as_object_mut().unwrap();
    if set.is_null() {
        members.remove(member);
    } else {
        members.insert(member.to_owned(), set);
    }
    jwk.to_string()
}

fn octets(pem: &str) -> Vec<u8> {
    let body: String = pem.lines().filter(|line| !line.contains("--")).collect();
    STANDARD.decode(body).unwrap()
}

fn pem(label: &str, octets: &[u8]) -> String {
    let body = STANDARD.encode(octets);
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

/// Checks a published signature, and that neither another text nor another
/// signature passes.
#[track_caller]
fn check_published(key: &str, algorithm: &str, compact: &str) {
    let (input, signature) = parts(compact);
    let jwk = read(key).public_jwk();
    for jwk in [key, &jwk] {
        assert_eq!(verify(jwk, algorithm, input, &signature), Ok(true));
        let other = [input, b"x"].concat();
        assert_eq!(verify(jwk, algorithm, &other, &signature), Ok(false));
        for at in [0, signature.len() / 2, signature.len() - 1] {
            let mut other = signature.clone();
            other[at] ^= 1;
            assert_eq!(verify(jwk, algorithm, input, &other), Ok(false));
        }
    }
}

#[test]
fn the_signature_of_rfc_7515_a_2_verifies_and_is_made_again() {
    check_published(keys::RFC7515_A2_KEY, "RS256", keys::RFC7515_A2);
    let (input, signature) = parts(keys::RFC7515_A2);
    let made = read(keys::RFC7515_A2_KEY).sign("RS256", input);
    assert_eq!(made, Ok(signature));
}

#[test]
fn the_signature_of_rfc_7515_a_3_verifies() {
    check_published(keys::RFC7515_A3_KEY, "ES256", keys::RFC7515_A3);
}

#[test]
fn the_signature_of_rfc_7520_4_1_verifies_and_is_made_again() {
    check_published(keys::RFC7520_KEY, "RS256", keys::RFC7520_4_1);
    let (input, signature) = parts(keys::RFC7520_4_1);
    let made = read(keys::RFC7520_KEY).sign("RS256", input);
    assert_eq!(made, Ok(signature));
}

#[test]
fn the_signature_of_rfc_7520_4_2_verifies() {
    check_published(keys::RFC7520_KEY, "PS384", keys::RFC7520_4_2);
}

#[test]
fn the_signature_of_rfc_8037_a_4_verifies_and_is_made_again() {
    check_published(keys::RFC8037_A1_KEY, "EdDSA", keys::RFC8037_A4);
    let (input, signature) = parts(keys::RFC8037_A4);
    let made = read(keys::RFC8037_A1_KEY).sign("EdDSA", input);
    assert_eq!(made, Ok(signature));
}

#[test]
fn the_thumbprint_is_that_of_rfc_7638_3_1() {
    let members = [
        ("e", "AQAB"),
        ("kty", "RSA"),
        (
            "n",
            "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
        ),
    ];
    assert_eq!(
        jwk::thumbprint(&members),
        "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    );
}

#[test]
fn the_thumbprint_is_that_of_rfc_8037_a_3() {
    assert_eq!(
        value(&read(keys::RFC8037_A1_KEY).public_jwk()),
        json!({
            "crv": "Ed25519",
            "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
            "kty": "OKP",
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        })
    );
}

#[test]
fn the_thumbprint_is_that_of_rfc_9449() {
    let members = [
        ("crv", "P-256"),
        ("kty", "EC"),
        ("x", "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs"),
        ("y", "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA"),
    ];
    assert_eq!(
        jwk::thumbprint(&members),
        "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
    );
}

#[test]
fn every_form_of_a_key_is_the_same_key() {
    for (jwk, others) in [
        (
            keys::RSA_JWK,
            &[keys::RSA_PKCS8, keys::RSA_PKCS1, keys::RSA_JWK_SWAPPED][..],
        ),
        (keys::P256_JWK, &[keys::P256_SEC1, keys::P256_PKCS8]),
        (keys::P384_JWK, &[keys::P384_SEC1, keys::P384_PKCS8]),
        (keys::ED25519_JWK, &[keys::ED25519_PKCS8]),
    ] {
        let public = read(jwk).public_jwk();
        for other in others {
            assert_eq!(read(other).public_jwk(), public);
        }
        let (given, public) = (value(jwk), value(&public));
        for name in ["kty", "crv", "x", "y", "n", "e"] {
            assert_eq!(given.get(name), public.get(name), "{name}");
        }
    }
}

#[test]
fn the_key_of_rfc_8410_has_the_public_key_that_the_rfc_has() {
    let public = value(&read(keys::ED25519_PKCS8_V2).public_jwk());
    let published = octets("MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=");
    assert_eq!(decoded(public["x"].as_str().unwrap()), published[12..]);
}

#[test]
fn what_every_key_signs_verifies_with_its_public_half() {
    for key in PRIVATE_KEYS.iter().chain([&keys::RSA_JWK_SWAPPED]) {
        let key = read(key);
        let algorithms = match &key.pair {
            Pair::Rsa(_) => &RSA_ALGORITHMS[..],
            Pair::Ec(Curve::P256, _) => &["ES256"],
            Pair::Ec(Curve::P384, _) => &["ES384"],
            Pair::Ed25519(_) => &["EdDSA", "Ed25519"],
        };
        for algorithm in algorithms {
            let signature = key.sign(algorithm, b"data").unwrap();
            let jwk = key.public_jwk();
            assert_eq!(verify(&jwk, algorithm, b"data", &signature), Ok(true));
            assert_eq!(verify(&jwk, algorithm, b"date", &signature), Ok(false));
        }
    }
}

#[test]
fn an_ecdsa_signature_is_two_numbers_of_the_length_of_the_curve() {
    for (key, algorithm, length) in [
        (keys::P256_PKCS8, "ES256", 64),
        (keys::P384_PKCS8, "ES384", 96),
    ] {
        assert_eq!(read(key).sign(algorithm, b"").unwrap().len(), length);
    }
}

#[test]
fn the_public_half_has_nothing_else_of_a_private_jwk() {
    let public = value(&read(keys::RFC7520_KEY).public_jwk());
    let given = value(keys::RFC7520_KEY);
    let names: Vec<&str> = public
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(names.len(), 5, "{names:?}");
    for name in ["kty", "n", "e", "kid", "use"] {
        assert_eq!(public[name], given[name], "{name}");
    }
}

#[test]
fn kid_alg_and_use_are_kept_as_they_are() {
    let kid = "a \"key\"\\\n\u{e9}";
    let key = with(keys::P256_JWK, "kid", json!(kid));
    let key = with(&key, "alg", json!("ES256"));
    let key = with(&key, "use", json!("sig"));
    let public = value(&read(&key).public_jwk());
    assert_eq!(public["kid"], kid);
    assert_eq!(public["alg"], "ES256");
    assert_eq!(public["use"], "sig");
}

#[test]
fn a_pem_is_read_however_its_lines_are_broken_and_whatever_is_around_it() {
    let expected = read(keys::P256_PKCS8).public_jwk();
    for text in [
        keys::P256_PKCS8.replace('\n', "\r\n"),
        keys::P256_PKCS8.replace('\n', " "),
        format!("\u{feff}{}", keys::P256_PKCS8),
        format!(
            "Bag Attributes\n  friendlyName: x\n{}\n\n",
            keys::P256_PKCS8
        ),
        format!("{}\n{}", keys::P256_CERTIFICATE, keys::P256_PKCS8),
    ] {
        assert_eq!(read(&text).public_jwk(), expected, "{text}");
    }
}

#[test]
fn a_jwk_is_read_with_white_space_around_it_and_unknown_members() {
    let key = with(keys::P256_JWK, "x5c", json!(["MII", 1, {}]));
    assert_eq!(
        read(&format!("\u{feff}\n {key}\n")).public_jwk(),
        read(keys::P256_JWK).public_jwk()
    );
}

#[test]
fn a_private_key_without_its_leading_zeros_is_read() {
    // The private key is 1, and so the public one is the generator.
    let key = json!({
        "kty": "EC",
        "crv": "P-256",
        "d": "AQ",
        "x": "axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY",
        "y": "T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU",
    });
    let key = read(&key.to_string());
    let signature = key.sign("ES256", b"data").unwrap();
    assert_eq!(
        verify(&key.public_jwk(), "ES256", b"data", &signature),
        Ok(true)
    );
}

#[test]
fn leading_zeros_of_a_private_rsa_key_do_not_matter() {
    let mut key = keys::RSA_JWK.to_owned();
    for name in ["n", "e", "d", "p", "q", "dp", "dq", "qi"] {
        let number = decoded(value(&key)[name].as_str().unwrap());
        let padded = jwk::encode(&[&[0, 0], number.as_slice()].concat());
        key = with(&key, name, json!(padded));
    }
    assert!(read(&key).sign("RS256", b"").is_ok());
}

#[test]
fn leading_zeros_of_a_modulus_do_not_matter() {
    let (input, signature) = parts(keys::RFC7515_A2);
    let modulus = decoded(value(keys::RFC7515_A2_KEY)["n"].as_str().unwrap());
    let padded = jwk::encode(&[&[0, 0], modulus.as_slice()].concat());
    let key = with(keys::RFC7515_A2_KEY, "n", json!(padded));
    assert_eq!(verify(&key, "RS256", input, &signature), Ok(true));
    assert_eq!(
        read(&key).public_jwk(),
        read(keys::RFC7515_A2_KEY).public_jwk()
    );
}

#[test]
fn an_algorithm_that_does_not_fit_is_refused_and_one_that_does_is_named() {
    for (key, fitting) in [
        (keys::RSA_PKCS8, &RSA_ALGORITHMS[..]),
        (keys::P256_PKCS8, &["ES256"]),
        (keys::P384_PKCS8, &["ES384"]),
        (keys::ED25519_PKCS8, &["EdDSA"]),
    ] {
        let key = read(key);
        for algorithm in RSA_ALGORITHMS.iter().chain(&["ES256", "ES384", "EdDSA"]) {
            if !fitting.contains(algorithm) {
                assert_unsupported(key.sign(algorithm, b""), fitting[0]);
                let verified = verify(&key.public_jwk(), algorithm, b"", b"");
                assert_unsupported(verified, "does not fit the key");
            }
        }
    }
}

#[test]
fn there_is_no_algorithm_that_needs_no_private_key() {
    let key = read(keys::RSA_PKCS8);
    let secret = json!({"kty": "oct", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ"}).to_string();
    for algorithm in [
        "none", "None", "NONE", "", "HS256", "HS384", "HS512", "ES512", "ES256K", "rs256", "RS1",
    ] {
        assert_unsupported(key.sign(algorithm, b""), "RS256");
        assert_unsupported(verify(&key.public_jwk(), algorithm, b"", b""), "RS256");
        assert_unsupported(verify(&secret, algorithm, b"", b""), "RS256");
    }
    assert_unsupported(verify(&secret, "RS256", b"", b""), "`oct`");
}

#[test]
fn a_name_from_outside_does_not_spoil_the_text_of_an_error() {
    let algorithm = format!("x\n\u{1b}[31m{}", "y".repeat(10_000));
    let refused = read(keys::P256_PKCS8).sign(&algorithm, b"").unwrap_err();
    assert!(text(&refused).len() < 300, "{refused:?}");
    assert!(!text(&refused).contains(char::is_control), "{refused:?}");
}

#[test]
fn a_signature_of_another_length_or_form_does_not_verify() {
    // OpenSSL writes ECDSA signatures as a sequence of two integers.
    let sequence = [0x30, 6, 2, 1, 1, 2, 1, 1];
    for (key, algorithm) in [
        (keys::RSA_PKCS8, "RS256"),
        (keys::RSA_PKCS8, "PS256"),
        (keys::P256_PKCS8, "ES256"),
        (keys::P384_PKCS8, "ES384"),
        (keys::ED25519_PKCS8, "EdDSA"),
    ] {
        let key = read(key);
        let jwk = key.public_jwk();
        let signature = key.sign(algorithm, b"data").unwrap();
        for wrong in [
            &[][..],
            &sequence,
            &signature[1..],
            &signature[..signature.len() - 1],
            &[&signature[..], &[0]].concat(),
            &[&[0], &signature[..]].concat(),
            &vec![0; signature.len()],
            &vec![0xff; signature.len()],
            &vec![1; 100_000],
        ] {
            assert_eq!(verify(&jwk, algorithm, b"data", wrong), Ok(false));
        }
    }
}

#[test]
fn a_signature_of_another_scheme_of_the_same_key_does_not_verify() {
    let key = read(keys::RSA_PKCS8);
    let jwk = key.public_jwk();
    for made in RSA_ALGORITHMS {
        let signature = key.sign(made, b"data").unwrap();
        for checked in RSA_ALGORITHMS {
            let verified = verify(&jwk, checked, b"data", &signature);
            assert_eq!(verified, Ok(made == checked), "{made} as {checked}");
        }
    }
}

#[test]
fn a_key_for_one_algorithm_is_for_no_other() {
    let key = with(keys::RSA_JWK, "alg", json!("PS256"));
    let signature = read(&key).sign("PS256", b"data").unwrap();
    let public = read(&key).public_jwk();
    assert_eq!(verify(&public, "PS256", b"data", &signature), Ok(true));
    assert_unsupported(read(&key).sign("RS256", b"data"), "`PS256` alone");
    assert_unsupported(
        verify(&public, "RS256", b"data", &signature),
        "`PS256` alone",
    );
    let key = with(keys::RSA_JWK, "alg", json!("RSA-OAEP"));
    assert_unsupported(read(&key).sign("RS256", b"data"), "`RSA-OAEP` alone");
}

#[test]
fn both_names_of_ed25519_are_one_algorithm() {
    let key = with(keys::ED25519_JWK, "alg", json!("Ed25519"));
    let signature = read(&key).sign("EdDSA", b"data").unwrap();
    let public = read(&key).public_jwk();
    assert_eq!(verify(&public, "EdDSA", b"data", &signature), Ok(true));
}

#[test]
fn a_key_for_encryption_neither_signs_nor_verifies() {
    let key = with(keys::RSA_JWK, "use", json!("enc"));
    assert_denied(read(&key).sign("RS256", b""), "encryption");
    assert_denied(verify(&key, "RS256", b"", b""), "encryption");
}

#[test]
fn a_key_does_what_its_key_ops_have_and_nothing_else() {
    let signing = with(keys::P256_JWK, "key_ops", json!(["sign"]));
    assert!(read(&signing).sign("ES256", b"").is_ok());
    assert_denied(verify(&signing, "ES256", b"", b""), "`verify`");
    let verifying = with(keys::P256_JWK, "key_ops", json!(["verify", "other"]));
    assert_denied(read(&verifying).sign("ES256", b""), "`sign`");
    assert_eq!(verify(&verifying, "ES256", b"", b""), Ok(false));
    let nothing = with(keys::P256_JWK, "key_ops", json!([]));
    assert_denied(verify(&nothing, "ES256", b"", b""), "`verify`");
}

#[test]
fn a_short_rsa_key_neither_signs_nor_verifies() {
    assert_denied(Err::<(), _>(refusal(keys::RSA_1024_PKCS8)), "1024 bits");
    // One bit short.
    let mut modulus = decoded(value(keys::RFC7515_A2_KEY)["n"].as_str().unwrap());
    modulus[0] = 0x7f;
    let key = with(keys::RFC7515_A2_KEY, "n", json!(jwk::encode(&modulus)));
    for algorithm in RSA_ALGORITHMS {
        assert_denied(verify(&key, algorithm, b"", &[1; 256]), "2047 bits");
    }
    assert_denied(Err::<(), _>(refusal(&key)), "2047 bits");
}

#[test]
fn an_rsa_key_that_is_too_long_is_refused_before_it_costs_time() {
    let long = jwk::encode(&[0xff; 1025]);
    let key = with(keys::RFC7515_A2_KEY, "n", json!(long));
    assert_unsupported(verify(&key, "RS256", b"", &[1; 1025]), "8200 bits");
    let key = with(keys::RFC7515_A2_KEY, "n", json!("A".repeat(1_000_000)));
    assert_unsupported(verify(&key, "RS256", b"", b""), "octets");
}

#[test]
fn a_foolish_public_exponent_is_refused() {
    let (input, signature) = parts(keys::RFC7515_A2);
    for e in [
        &[][..],
        &[0],
        &[1],
        &[2],
        &[1, 0, 0],
        &[2, 0, 0, 0, 1],
        &[1, 0, 0, 0, 0, 0, 0, 0, 3],
        &[0xff; 300],
    ] {
        let key = with(keys::RFC7515_A2_KEY, "e", json!(jwk::encode(e)));
        assert_denied(verify(&key, "RS256", input, &signature), "exponent");
        assert_denied(Err::<(), _>(refusal(&key)), "exponent");
    }
    // Enough to verify with, as old keys have it, and not to sign.
    let key = with(keys::RFC7515_A2_KEY, "e", json!("Aw"));
    assert_eq!(verify(&key, "RS256", input, &signature), Ok(false));
    assert_denied(Err::<(), _>(refusal(&key)), "65537");
}

#[test]
fn a_public_key_of_another_type_says_which_types_there_are() {
    for key in [
        json!({"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}),
        json!({"kty": "EC", "x": "AA", "y": "AA"}),
        json!({"kty": "OKP", "crv": "X25519", "x": "AA"}),
        json!({"kty": "OKP", "crv": "Ed448", "x": "AA"}),
        json!({"kty": "AKP", "pub": "AA"}),
    ] {
        for algorithm in ["RS256", "ES256", "EdDSA"] {
            assert_unsupported(verify(&key.to_string(), algorithm, b"", b""), "`Ed25519`");
        }
    }
}

#[test]
fn a_public_key_that_is_damaged_says_where() {
    for (jwk, saying) in [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "no JWK"),
        ("{}", "no JWK"),
        (r#"{"keys":[]}"#, "no JWK"),
        (r#"{"kty":"EC","kty":"RSA"}"#, "no JWK"),
        (r#"{"kty":7}"#, "no JWK"),
        (r#"{"kty":"EC","crv":"P-256"}"#, "lacks `x`"),
        (
            r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#,
            "1 octets",
        ),
        (
            r#"{"kty":"EC","crv":"P-256","x":"A=","y":"AA"}"#,
            "base64url",
        ),
    ] {
        assert_unsupported(verify(jwk, "ES256", b"", b""), saying);
    }
    let nested = format!("{}{}", r#"{"kty":"EC","a":"#, "[".repeat(10_000));
    assert_unsupported(verify(&nested, "ES256", b"", b""), "not JSON");
}

#[test]
fn a_point_that_is_not_on_the_curve_verifies_nothing() {
    let (input, signature) = parts(keys::RFC7515_A3);
    for x in [[0; 32], [0xff; 32], [7; 32]] {
        let key = with(keys::RFC7515_A3_KEY, "x", json!(jwk::encode(&x)));
        assert_eq!(verify(&key, "ES256", input, &signature), Ok(false));
    }
}

#[test]
fn a_private_key_with_the_public_half_of_another_is_refused() {
    let other = value(keys::RFC7515_A3_KEY);
    let key = with(keys::P256_JWK, "x", other["x"].clone());
    let key = with(&key, "y", other["y"].clone());
    assert_unsupported(Err::<(), _>(refusal(&key)), "EC key on P-256 is not valid");
    let other = value(keys::RFC8037_A1_KEY);
    let key = with(keys::ED25519_JWK, "x", other["x"].clone());
    assert_unsupported(Err::<(), _>(refusal(&key)), "Ed25519 key is not valid");
    let other = value(keys::RFC7515_A2_KEY);
    let key = with(keys::RSA_JWK, "n", other["n"].clone());
    assert_unsupported(Err::<(), _>(refusal(&key)), "RSA key is not valid");
}

#[test]
fn an_rsa_key_whose_parts_do_not_belong_together_gives_no_signature() {
    for name in ["dp", "dq"] {
        let mut exponent = decoded(value(keys::RSA_JWK)[name].as_str().unwrap());
        *exponent.last_mut().unwrap() ^= 2;
        let key = with(keys::RSA_JWK, name, json!(jwk::encode(&exponent)));
        for algorithm in RSA_ALGORITHMS {
            assert_unsupported(read(&key).sign(algorithm, b""), "belong together");
        }
    }
}

#[test]
fn what_is_no_private_key_says_what_it_is() {
    let pss = {
        let mut octets = octets(keys::RSA_PKCS8);
        let oid = octets
            .windows(9)
            .position(|window| window == der::RSA_ENCRYPTION);
        octets[oid.unwrap() + 8] = 10;
        pem("PRIVATE KEY", &octets)
    };
    let public = read(keys::RSA_JWK).public_jwk();
    for (key, saying) in [
        ("", "no private key"),
        ("hunter2", "no private key"),
        (keys::P256_PKCS8_ENCRYPTED, "encrypted with a password"),
        (keys::P256_SEC1_ENCRYPTED, "encrypted with a password"),
        (keys::P256_SEC1_NO_PUBLIC, "openssl ec"),
        (keys::P256_SEC1_COMPRESSED, "openssl ec"),
        (keys::P256_SEC1_EXPLICIT, "does not name its curve"),
        (keys::P256_PUBLIC, "a public key"),
        (keys::P256_CERTIFICATE, "a certificate"),
        (keys::SECP256K1_SEC1, "secp256k1"),
        (keys::P521_PKCS8, "P-521"),
        (keys::ED448_PKCS8, "Ed448"),
        (keys::X25519_PKCS8, "X25519"),
        (&pss, "PSS alone"),
        (
            "-----BEGIN OPENSSH PRIVATE KEY-----\n-----END OPENSSH PRIVATE KEY-----",
            "OpenSSH",
        ),
        ("-----BEGIN PRIVATE KEY-----", "damaged"),
        (
            "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----",
            "damaged",
        ),
        (
            "-----BEGIN PRIVATE KEY-----\n***\n-----END PRIVATE KEY-----",
            "damaged",
        ),
        (&public, "public key"),
        (&with(keys::P256_JWK, "d", json!(null)), "public key"),
        (&with(keys::ED25519_JWK, "d", json!(null)), "public key"),
        (&with(keys::RSA_JWK, "q", json!(null)), "lacks `q`"),
        (
            &with(keys::RSA_JWK, "oth", json!([{}])),
            "more than two primes",
        ),
        (&with(keys::P256_JWK, "crv", json!("P-521")), "`P-521`"),
        (r#"{"kty":"oct","k":"AAAA"}"#, "`oct`"),
    ] {
        assert_unsupported(Err::<(), _>(refusal(key)), saying);
    }
}

#[test]
fn der_of_another_version_is_refused() {
    for (label, key, at, saying) in [
        (
            "RSA PRIVATE KEY",
            keys::RSA_PKCS1,
            6,
            "more than two primes",
        ),
        ("PRIVATE KEY", keys::P256_PKCS8, 5, "PKCS#8"),
        ("EC PRIVATE KEY", keys::P384_SEC1, 5, "SEC 1"),
    ] {
        let mut octets = octets(key);
        assert!(octets[at] < 2);
        octets[at] = 2;
        assert_unsupported(Err::<(), _>(refusal(&pem(label, &octets))), saying);
    }
}

#[test]
fn der_with_octets_after_it_is_refused() {
    let octets = [&octets(keys::P256_PKCS8)[..], &[0]].concat();
    let key = pem("PRIVATE KEY", &octets);
    assert_unsupported(Err::<(), _>(refusal(&key)), "PKCS#8");
}

#[test]
fn der_with_a_negative_number_is_refused() {
    let key = |number: u8| [&[0x30, 27, 2, 1, 0][..], &[2, 1, number].repeat(8)].concat();
    assert!(der::rsa_private_key(&key(0x7f)).is_some());
    assert!(der::rsa_private_key(&key(0x80)).is_none());
}

#[test]
fn der_with_a_public_key_of_odd_bits_is_refused() {
    let key = |unused| [0x30, 12, 2, 1, 1, 4, 1, 7, 0xa1, 4, 3, 2, unused, 4];
    assert!(der::ec_private_key(&key(0)).is_some());
    assert!(der::ec_private_key(&key(1)).is_none());
}

#[test]
fn an_rsa_key_of_an_odd_size_says_which_sizes_there_are() {
    let n = jwk::encode(&[0xff; 2560 / 8]);
    let key = with(keys::RSA_JWK, "n", json!(n));
    assert_unsupported(Err::<(), _>(refusal(&key)), "2560 bits");
}

#[test]
fn debug_shows_nothing_of_a_key() {
    for key in PRIVATE_KEYS {
        assert_eq!(format!("{:?}", read(key)), "SigningKey { .. }");
    }
}

#[test]
fn a_key_can_be_used_from_any_thread() {
    fn is_shareable<T: Send + Sync + 'static>() {}
    is_shareable::<SigningKey>();
}

/// Reads a damaged key, and does with it what can be done.
fn use_damaged(key: &str) {
    match SigningKey::read(key) {
        Ok(key) => {
            for algorithm in ["RS256", "PS512", "ES256", "ES384", "EdDSA"] {
                if let Ok(signature) = key.sign(algorithm, b"data") {
                    let verified = verify(&key.public_jwk(), algorithm, b"data", &signature);
                    assert!(verified.is_ok());
                }
            }
        }
        Err(error) => {
            // No ten characters of the error are in the key, but for the labels.
            let is_body = |line: &&str| !line.starts_with("-----");
            let body: String = key.lines().filter(is_body).collect();
            let said = text(&error).as_bytes();
            let quoted = said
                .windows(10)
                .find(|window| body.as_bytes().windows(10).any(|part| part == *window));
            assert_eq!(quoted, None, "{error:?}");
        }
    }
}

#[test]
fn a_text_that_is_damaged_never_panics_nor_is_quoted() {
    for key in PRIVATE_KEYS {
        let step = key.len() / 11;
        for end in (0..key.len()).step_by(step) {
            use_damaged(&key[..end]);
            use_damaged(&key[end..]);
            for replaced in ["\0", "\"", "A", "\u{20ac}"] {
                use_damaged(&format!("{}{replaced}{}", &key[..end], &key[end + 1..]));
            }
        }
    }
}

#[test]
fn octets_that_are_damaged_never_panic() {
    for (label, key) in [
        ("PRIVATE KEY", keys::RSA_PKCS8),
        ("RSA PRIVATE KEY", keys::RSA_PKCS1),
        ("EC PRIVATE KEY", keys::P256_SEC1),
        ("PRIVATE KEY", keys::P256_PKCS8),
        ("EC PRIVATE KEY", keys::P256_SEC1_EXPLICIT),
        ("PRIVATE KEY", keys::P384_PKCS8),
        ("PRIVATE KEY", keys::ED25519_PKCS8),
        ("PRIVATE KEY", keys::ED25519_PKCS8_V2),
    ] {
        let parameters =
            "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
        let whole = octets(key.trim_start_matches(parameters));
        // All of the first ones, where the structure is, and some of the rest.
        let some = |at: &usize| *at < 40 || at.is_multiple_of(67);
        for at in (0..whole.len()).filter(some) {
            use_damaged(&pem(label, &whole[..at]));
            for flipped in [1, 0x80, 0xff] {
                let mut octets = whole.clone();
                octets[at] ^= flipped;
                use_damaged(&pem(label, &octets));
            }
        }
        use_damaged(&pem(label, &[&whole[..], &[0]].concat()));
    }
}

#[test]
fn a_public_key_that_is_damaged_never_panics_nor_verifies() {
    for (key, algorithm, compact) in [
        (keys::RFC7515_A2_KEY, "RS256", keys::RFC7515_A2),
        (keys::RFC7515_A3_KEY, "ES256", keys::RFC7515_A3),
        (keys::RFC8037_A1_KEY, "EdDSA", keys::RFC8037_A4),
    ] {
        let (input, signature) = parts(compact);
        let public = read(key).public_jwk();
        let public = with(&public, "kid", json!(null));
        for at in 0..public.len() {
            let _ = verify(&public[..at], algorithm, input, &signature);
            let changed = format!("{}B{}", &public[..at], &public[at + 1..]);
            let verified = verify(&changed, algorithm, input, &signature);
            assert!(verified != Ok(true) || changed == public, "{changed}");
        }
    }
}
