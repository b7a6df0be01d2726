//! Keys for these tests alone, and signatures that standards publish. None of
//! the private keys is used anywhere, or may be.

/// Test key: `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048`.
pub(super) const RSA_PKCS8: &str = "-----BEGIN PRIVATE KEY-----
MIIEvAIBADANBgkqhkiG9w0BAQEFAASCBKYwggSiAgEAAoIBAQCuHk9K60+WjSBp
4I8qR0SRxVx7/QQ5WCFXbJe30inG/PXmB3ydmL8vBRTXbMUaDeKCGV1yTfxNdyYa
CdnKM1W560xSXpqUEsFHzOem5pbElJUe2kftQrq6hI3nR/+k1ImEY99G4H/SydYU
p/RCiVpgZ7Y6wgfKprFo8TaFLeqEp1SHVGLyFmBcFdlC8ZdaArskJ5CvoO5hjVfH
kobb4OspNwAIFLvI9pIw/bWVHtVaS6Fq+fLbzu5c/gpjM0JDaBU4lRAKUyFAGUQu
7O4UYpl3raMW2wkjmrlBY+Fg4t9P/C1crq5GlMKZdLS2XrJ1qB2w9J6TXDpeCqSB
hwhrseDNAgMBAAECggEAC7E83WN+XCDc0vH8Yy2B07EiFAW/sB3J2rilL+KkzA2b
cfzsN8VfXJ1gfX6QINRbCCYDEgSIeLzozy78qU5NB4JfGm6Vvkj2d5IcDJI9AHVC
1fLOCYclihYR1RIPFHxHl3SWdIhpr60T8Mio3NlOO0g+TY/53SMC/wX9sC/5vjpw
T+VdVz2wxehcP60QPZ3BqL+6Ex6xDRrzeSwS1ElJNW6Xqmuk0nr5dznia/FJUeB7
ftk0ws7ApdExXD2DSYGv/1DHeii5SzvyBX32Xxw1hShqVrv1nbIb2hg0k5I5ShOM
9JoETx5pyOuehyVGWgO2iMP+Z/6lRTGETVMl/kVwkQKBgQDcEMTIXLIDkOaXY6Y6
i+9bkS45sJE0fwr+nxOytPxF3pedb4DxsizNIj4K0JirU94JlsMalMhVyH1fCjwJ
tTjokJxtvnlsfx5nugX7eHU4zLybVp/am5JcdykEVSL+OMjFz+QP6HXDd2jd7LAK
joi8b2GWndTb/u+mORFrBs8oHQKBgQDKjNlb487NcXvn+8ATPmlGIl5xtcHIhrtX
HrNng3zdymnh+inHyLn/zB6CTmEG5UmoDvauoIxTboC6E/qeDjjcBedv/2Tf/avC
fgugdGfsg/PCdQ3BTcvr3ukotWYGXqDBv24IPkAjugAyyYTrVXFHrp8bGPwsKnbt
CQX+LvYccQKBgGa/cZF3LipaEj/m5+r4ARbIr0OCPBm9o12E2oaa2BqrNjDsqdCv
dxmD/mHASTfdHZNuj8Ouaecbh+XC+osx0NNNCax3vWu54nFduoNSF7EgboM8q8A+
2NRRUpZSRddanes2CG6hA7Ly4sSTSRJ0wETy4CaZpJPe8Pe0N3y4HirFAoGAXd/l
pWbxo9ni2WOeY8zbMbwgFYdtpqh7DyeVcnZIWurDJA6zanqnadyKj04QPgfqmU9G
GS0jnE9srdEwqCxjQeYim4+8iuugvWV5sgYBXGbThN6HX33U8x6+5TUdcfpNez5j
msJvK5+7E86+IevZsqVF7GMqDLYppDY4ZtQREKECgYBOVMAxNLC/ydoTskUrchdB
HZt/JwSJW9IjuXXAYCUMAfknE+4mjt2feov9bsAh9CyApA/+2cvrlVbD3YJN922A
HlhkQNjh7AirCbBRZEEWUkLkk56vCRykV6ZXbo/RPWIHUORYQAyChur1puwa3LpJ
IEXHwgPEP+BjiGwtqbm5wA==
-----END PRIVATE KEY-----";

/// The same key: `openssl rsa -traditional`.
pub(super) const RSA_PKCS1: &str = "-----BEGIN RSA PRIVATE KEY-----
MIIEogIBAAKCAQEArh5PSutPlo0gaeCPKkdEkcVce/0EOVghV2yXt9Ipxvz15gd8
nZi/LwUU12zFGg3ighldck38TXcmGgnZyjNVuetMUl6alBLBR8znpuaWxJSVHtpH
7UK6uoSN50f/pNSJhGPfRuB/0snWFKf0QolaYGe2OsIHyqaxaPE2hS3qhKdUh1Ri
8hZgXBXZQvGXWgK7JCeQr6DuYY1Xx5KG2+DrKTcACBS7yPaSMP21lR7VWkuhavny
287uXP4KYzNCQ2gVOJUQClMhQBlELuzuFGKZd62jFtsJI5q5QWPhYOLfT/wtXK6u
RpTCmXS0tl6ydagdsPSek1w6XgqkgYcIa7HgzQIDAQABAoIBAAuxPN1jflwg3NLx
/GMtgdOxIhQFv7Adydq4pS/ipMwNm3H87DfFX1ydYH1+kCDUWwgmAxIEiHi86M8u
/KlOTQeCXxpulb5I9neSHAySPQB1QtXyzgmHJYoWEdUSDxR8R5d0lnSIaa+tE/DI
qNzZTjtIPk2P+d0jAv8F/bAv+b46cE/lXVc9sMXoXD+tED2dwai/uhMesQ0a83ks
EtRJSTVul6prpNJ6+Xc54mvxSVHge37ZNMLOwKXRMVw9g0mBr/9Qx3oouUs78gV9
9l8cNYUoala79Z2yG9oYNJOSOUoTjPSaBE8eacjrnoclRloDtojD/mf+pUUxhE1T
Jf5FcJECgYEA3BDEyFyyA5Dml2OmOovvW5EuObCRNH8K/p8TsrT8Rd6XnW+A8bIs
zSI+CtCYq1PeCZbDGpTIVch9Xwo8CbU46JCcbb55bH8eZ7oF+3h1OMy8m1af2puS
XHcpBFUi/jjIxc/kD+h1w3do3eywCo6IvG9hlp3U2/7vpjkRawbPKB0CgYEAyozZ
W+POzXF75/vAEz5pRiJecbXByIa7Vx6zZ4N83cpp4fopx8i5/8wegk5hBuVJqA72
rqCMU26AuhP6ng443AXnb/9k3/2rwn4LoHRn7IPzwnUNwU3L697pKLVmBl6gwb9u
CD5AI7oAMsmE61VxR66fGxj8LCp27QkF/i72HHECgYBmv3GRdy4qWhI/5ufq+AEW
yK9DgjwZvaNdhNqGmtgaqzYw7KnQr3cZg/5hwEk33R2Tbo/DrmnnG4flwvqLMdDT
TQmsd71rueJxXbqDUhexIG6DPKvAPtjUUVKWUkXXWp3rNghuoQOy8uLEk0kSdMBE
8uAmmaST3vD3tDd8uB4qxQKBgF3f5aVm8aPZ4tljnmPM2zG8IBWHbaaoew8nlXJ2
SFrqwyQOs2p6p2ncio9OED4H6plPRhktI5xPbK3RMKgsY0HmIpuPvIrroL1lebIG
AVxm04Teh1991PMevuU1HXH6TXs+Y5rCbyufuxPOviHr2bKlRexjKgy2KaQ2OGbU
ERChAoGATlTAMTSwv8naE7JFK3IXQR2bfycEiVvSI7l1wGAlDAH5JxPuJo7dn3qL
/W7AIfQsgKQP/tnL65VWw92CTfdtgB5YZEDY4ewIqwmwUWRBFlJC5JOerwkcpFem
V26P0T1iB1DkWEAMgobq9absGty6SSBFx8IDxD/gY4hsLam5ucA=
-----END RSA PRIVATE KEY-----";

/// The same key as a JWK.
pub(super) const RSA_JWK: &str = r#"{"e":"AQAB","kty":"RSA","n":"rh5PSutPlo0gaeCPKkdEkcVce_0EOVghV2yXt9Ipxvz15gd8nZi_LwUU12zFGg3ighldck38TXcmGgnZyjNVuetMUl6alBLBR8znpuaWxJSVHtpH7UK6uoSN50f_pNSJhGPfRuB_0snWFKf0QolaYGe2OsIHyqaxaPE2hS3qhKdUh1Ri8hZgXBXZQvGXWgK7JCeQr6DuYY1Xx5KG2-DrKTcACBS7yPaSMP21lR7VWkuhavny287uXP4KYzNCQ2gVOJUQClMhQBlELuzuFGKZd62jFtsJI5q5QWPhYOLfT_wtXK6uRpTCmXS0tl6ydagdsPSek1w6XgqkgYcIa7HgzQ","d":"C7E83WN-XCDc0vH8Yy2B07EiFAW_sB3J2rilL-KkzA2bcfzsN8VfXJ1gfX6QINRbCCYDEgSIeLzozy78qU5NB4JfGm6Vvkj2d5IcDJI9AHVC1fLOCYclihYR1RIPFHxHl3SWdIhpr60T8Mio3NlOO0g-TY_53SMC_wX9sC_5vjpwT-VdVz2wxehcP60QPZ3BqL-6Ex6xDRrzeSwS1ElJNW6Xqmuk0nr5dznia_FJUeB7ftk0ws7ApdExXD2DSYGv_1DHeii5SzvyBX32Xxw1hShqVrv1nbIb2hg0k5I5ShOM9JoETx5pyOuehyVGWgO2iMP-Z_6lRTGETVMl_kVwkQ","p":"3BDEyFyyA5Dml2OmOovvW5EuObCRNH8K_p8TsrT8Rd6XnW-A8bIszSI-CtCYq1PeCZbDGpTIVch9Xwo8CbU46JCcbb55bH8eZ7oF-3h1OMy8m1af2puSXHcpBFUi_jjIxc_kD-h1w3do3eywCo6IvG9hlp3U2_7vpjkRawbPKB0","q":"yozZW-POzXF75_vAEz5pRiJecbXByIa7Vx6zZ4N83cpp4fopx8i5_8wegk5hBuVJqA72rqCMU26AuhP6ng443AXnb_9k3_2rwn4LoHRn7IPzwnUNwU3L697pKLVmBl6gwb9uCD5AI7oAMsmE61VxR66fGxj8LCp27QkF_i72HHE","dp":"Zr9xkXcuKloSP-bn6vgBFsivQ4I8Gb2jXYTahprYGqs2MOyp0K93GYP-YcBJN90dk26Pw65p5xuH5cL6izHQ000JrHe9a7nicV26g1IXsSBugzyrwD7Y1FFSllJF11qd6zYIbqEDsvLixJNJEnTARPLgJpmkk97w97Q3fLgeKsU","dq":"Xd_lpWbxo9ni2WOeY8zbMbwgFYdtpqh7DyeVcnZIWurDJA6zanqnadyKj04QPgfqmU9GGS0jnE9srdEwqCxjQeYim4-8iuugvWV5sgYBXGbThN6HX33U8x6-5TUdcfpNez5jmsJvK5-7E86-IevZsqVF7GMqDLYppDY4ZtQREKE","qi":"TlTAMTSwv8naE7JFK3IXQR2bfycEiVvSI7l1wGAlDAH5JxPuJo7dn3qL_W7AIfQsgKQP_tnL65VWw92CTfdtgB5YZEDY4ewIqwmwUWRBFlJC5JOerwkcpFemV26P0T1iB1DkWEAMgobq9absGty6SSBFx8IDxD_gY4hsLam5ucA"}"#;

/// The same key with its primes the other way about.
pub(super) const RSA_JWK_SWAPPED: &str = r#"{"e":"AQAB","kty":"RSA","n":"rh5PSutPlo0gaeCPKkdEkcVce_0EOVghV2yXt9Ipxvz15gd8nZi_LwUU12zFGg3ighldck38TXcmGgnZyjNVuetMUl6alBLBR8znpuaWxJSVHtpH7UK6uoSN50f_pNSJhGPfRuB_0snWFKf0QolaYGe2OsIHyqaxaPE2hS3qhKdUh1Ri8hZgXBXZQvGXWgK7JCeQr6DuYY1Xx5KG2-DrKTcACBS7yPaSMP21lR7VWkuhavny287uXP4KYzNCQ2gVOJUQClMhQBlELuzuFGKZd62jFtsJI5q5QWPhYOLfT_wtXK6uRpTCmXS0tl6ydagdsPSek1w6XgqkgYcIa7HgzQ","d":"C7E83WN-XCDc0vH8Yy2B07EiFAW_sB3J2rilL-KkzA2bcfzsN8VfXJ1gfX6QINRbCCYDEgSIeLzozy78qU5NB4JfGm6Vvkj2d5IcDJI9AHVC1fLOCYclihYR1RIPFHxHl3SWdIhpr60T8Mio3NlOO0g-TY_53SMC_wX9sC_5vjpwT-VdVz2wxehcP60QPZ3BqL-6Ex6xDRrzeSwS1ElJNW6Xqmuk0nr5dznia_FJUeB7ftk0ws7ApdExXD2DSYGv_1DHeii5SzvyBX32Xxw1hShqVrv1nbIb2hg0k5I5ShOM9JoETx5pyOuehyVGWgO2iMP-Z_6lRTGETVMl_kVwkQ","p":"yozZW-POzXF75_vAEz5pRiJecbXByIa7Vx6zZ4N83cpp4fopx8i5_8wegk5hBuVJqA72rqCMU26AuhP6ng443AXnb_9k3_2rwn4LoHRn7IPzwnUNwU3L697pKLVmBl6gwb9uCD5AI7oAMsmE61VxR66fGxj8LCp27QkF_i72HHE","q":"3BDEyFyyA5Dml2OmOovvW5EuObCRNH8K_p8TsrT8Rd6XnW-A8bIszSI-CtCYq1PeCZbDGpTIVch9Xwo8CbU46JCcbb55bH8eZ7oF-3h1OMy8m1af2puSXHcpBFUi_jjIxc_kD-h1w3do3eywCo6IvG9hlp3U2_7vpjkRawbPKB0","dp":"Xd_lpWbxo9ni2WOeY8zbMbwgFYdtpqh7DyeVcnZIWurDJA6zanqnadyKj04QPgfqmU9GGS0jnE9srdEwqCxjQeYim4-8iuugvWV5sgYBXGbThN6HX33U8x6-5TUdcfpNez5jmsJvK5-7E86-IevZsqVF7GMqDLYppDY4ZtQREKE","dq":"Zr9xkXcuKloSP-bn6vgBFsivQ4I8Gb2jXYTahprYGqs2MOyp0K93GYP-YcBJN90dk26Pw65p5xuH5cL6izHQ000JrHe9a7nicV26g1IXsSBugzyrwD7Y1FFSllJF11qd6zYIbqEDsvLixJNJEnTARPLgJpmkk97w97Q3fLgeKsU","qi":"gnQftZMyhPRsW_AFbM78hHz2cLRyi8qUF4V7ljxdF8flgmb5pUtgl8N4pSPNYMl6gOiinxHppMX3sjXNtpr9MzXWv3XcLS7-kjOPrpo4uW9hCrot9sybdLbwMs5FHuT5ohq467WiMROVoofQxKg6ChatUUIksDL8d1beQysp7eY"}"#;

/// Test key: `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024`.
pub(super) const RSA_1024_PKCS8: &str = "-----BEGIN PRIVATE KEY-----
MIICdQIBADANBgkqhkiG9w0BAQEFAASCAl8wggJbAgEAAoGBAKxdogvPf1QSd9b8
FcCTCC9XQtr8n3kuf7H/dbWqRRbhHodz7lWpmNdY/UpPyhBQL8Wgz+fdZEUXmmV3
GiicR4k3t4la1YoqVeffcybIhz5lObCqG1ZM4ph1DyYbYX6/dZwJVyvKRHGFyu7x
O0OTHCDyfm3OKAnrSgdlcvbFS2QhAgMBAAECgYABQoHvsimNFMF5ecgy6yAxMGMV
tKj5usRGKcbTeBYfL7AIb2l7iMzMLiNTyreAXQWsXRuH509XTe/b8/3l9BZ1wDbX
vjotnv05hijVFK1lGwS+cuAhbhZl/c5O6IYJqjL83jYEjpbyWDjF5ESmfv6h5Gt/
ZL28srAdfXKD2a1ZbQJBANo3a/IBPGkPHajhY8to74txOg27sjU2knvO8LZMGJDa
pbxEHfd0NfL3XaTlZAhjGdziGCK+IkVSsUechuJOy4MCQQDKNdl/UXICBuqb7H08
/20X2/z12d2yOAGWwKDolhmhKZ+dTW7Epgvq8oE+Jm72nMMuhXQBY8qPnoXqhy4M
CEyLAkBqOtCx3ygpfNJThGWwgEUc/OHmDZmTjh2BaByGokTTP52vKPntnQUmYoWT
4Jfx/Ux52xck0qqcVMU4t1pykSlBAkAvQBoMqClt09Pqj35MTJtfYeZgRIKLbI7i
fSycbMacZC+KAFgL14kdY4FT1oNDWSo6qrCKypjAqpg8T04xPZc1AkBCTwuFgkC2
/Oraj/gJm/LugGcCY6Rdj7MyrttAHgP9Xd0JcN8YLT20x5eEORvN5O3+48RUjIKR
qgLOLav2ZiGp
-----END PRIVATE KEY-----";

/// Test key: `openssl ecparam -name prime256v1 -genkey`.
pub(super) const P256_SEC1: &str = "-----BEGIN EC PARAMETERS-----
BggqhkjOPQMBBw==
-----END EC PARAMETERS-----
-----BEGIN EC PRIVATE KEY-----
MHcCAQEEII4uHPnaH77K8H8xwsE6biRj8U+SBRX7u/FtLQpRfml2oAoGCCqGSM49
AwEHoUQDQgAE1YfWRu9Qv4iweDSLP2VWX0p4oQOpnURtnF7wZGIE3p0KUt7N5xGB
ZTYOT1P4LwS/DDWuXno982QDqodbOWD9sQ==
-----END EC PRIVATE KEY-----";

/// The same key: `openssl pkcs8 -topk8 -nocrypt`.
pub(super) const P256_PKCS8: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgji4c+dofvsrwfzHC
wTpuJGPxT5IFFfu78W0tClF+aXahRANCAATVh9ZG71C/iLB4NIs/ZVZfSnihA6md
RG2cXvBkYgTenQpS3s3nEYFlNg5PU/gvBL8MNa5eej3zZAOqh1s5YP2x
-----END PRIVATE KEY-----";

/// The same key: `openssl ec -no_public`.
pub(super) const P256_SEC1_NO_PUBLIC: &str = "-----BEGIN EC PRIVATE KEY-----
MDECAQEEII4uHPnaH77K8H8xwsE6biRj8U+SBRX7u/FtLQpRfml2oAoGCCqGSM49
AwEH
-----END EC PRIVATE KEY-----";

/// The same key: `openssl ec -conv_form compressed`.
pub(super) const P256_SEC1_COMPRESSED: &str = "-----BEGIN EC PRIVATE KEY-----
MFcCAQEEII4uHPnaH77K8H8xwsE6biRj8U+SBRX7u/FtLQpRfml2oAoGCCqGSM49
AwEHoSQDIgAD1YfWRu9Qv4iweDSLP2VWX0p4oQOpnURtnF7wZGIE3p0=
-----END EC PRIVATE KEY-----";

/// The same key: `openssl ec -param_enc explicit`.
pub(super) const P256_SEC1_EXPLICIT: &str = "-----BEGIN EC PRIVATE KEY-----
MIIBaAIBAQQgji4c+dofvsrwfzHCwTpuJGPxT5IFFfu78W0tClF+aXaggfowgfcC
AQEwLAYHKoZIzj0BAQIhAP////8AAAABAAAAAAAAAAAAAAAA////////////////
MFsEIP////8AAAABAAAAAAAAAAAAAAAA///////////////8BCBaxjXYqjqT57Pr
vVV2mIa8ZR0GsMxTsPY7zjw+J9JgSwMVAMSdNgiG5wSTamZ44ROdJreBn36QBEEE
axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54W
K84zV2sxXs7LtkBoN79R9QIhAP////8AAAAA//////////+85vqtpxeehPO5ysL8
YyVRAgEBoUQDQgAE1YfWRu9Qv4iweDSLP2VWX0p4oQOpnURtnF7wZGIE3p0KUt7N
5xGBZTYOT1P4LwS/DDWuXno982QDqodbOWD9sQ==
-----END EC PRIVATE KEY-----";

/// The same key: `openssl pkcs8 -topk8`.
pub(super) const P256_PKCS8_ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAjTyaHr6YVydAICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEIIQWtLzha4bkhRPnlUdKrUEgZCx
WArz2VZBTkHHgnfiHzzG4MisXgig4k6gjWapDq0NgYxyNwTD/QJZd9o2sy/SfCvX
F5jgV/lZ+jCgHI5fTVL8IgyVK6VAjaQPeB3I20kS49LYspPiiNehZnCDk95NtBux
2akftv6gCyKA3gWb6i+ThUMCnLwLtxYiNpxKVCl/iMxb8H5hQd4sMV91CHNGKjk=
-----END ENCRYPTED PRIVATE KEY-----";

/// The same key: `openssl ec -aes256`.
pub(super) const P256_SEC1_ENCRYPTED: &str = "-----BEGIN EC PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-256-CBC,A02AADB099D4783578009714FC1F26A0

mfTxVG/Fnr6l7JYLNXP1SnsuphrCohBYRF6IkWHGCk4vt2q1T0vTh41HfbUfmRPx
M0S2lIo+k3ysGWQ2dHXPlD7XMO8/AqQc6i6dqd85FItdYWvtncXOuuFeU1wEUIZZ
5olk0E3kO9pqCrFBgqH9X9khxKhH5uqqwjMyaPleGs4=
-----END EC PRIVATE KEY-----";

/// Its public half: `openssl pkey -pubout`.
pub(super) const P256_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE1YfWRu9Qv4iweDSLP2VWX0p4oQOp
nURtnF7wZGIE3p0KUt7N5xGBZTYOT1P4LwS/DDWuXno982QDqodbOWD9sQ==
-----END PUBLIC KEY-----";

/// A certificate for it: `openssl req -new -x509`.
pub(super) const P256_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----
MIIBcjCCARmgAwIBAgIUdxB4GSQi6290BefHhts+JxcPeu4wCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAeFw0yNjExMjUwOTE0MDZaFw0yNjExMjYwOTE0MDZa
MA8xDTALBgNVBAMMBHRlc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATVh9ZG
71C/iLB4NIs/ZVZfSnihA6mdRG2cXvBkYgTenQpS3s3nEYFlNg5PU/gvBL8MNa5e
ej3zZAOqh1s5YP2xo1MwUTAdBgNVHQ4EFgQU+hsdwhboOQYF4jm9oSbWyodelHkw
HwYDVR0jBBgwFoAU+hsdwhboOQYF4jm9oSbWyodelHkwDwYDVR0TAQH/BAUwAwEB
/zAKBggqhkjOPQQDAgNHADBEAiAuKuIDuxoPTiwql0lfDKN2V+BiYBfYzjD/fAju
80C40QIgfEblwnnJVdN0eKMwZqfUjY+YMsea9QT4DacsWzcGalM=
-----END CERTIFICATE-----";

/// The same key as a JWK.
pub(super) const P256_JWK: &str = r#"{"crv":"P-256","kty":"EC","x":"1YfWRu9Qv4iweDSLP2VWX0p4oQOpnURtnF7wZGIE3p0","y":"ClLezecRgWU2Dk9T-C8Evww1rl56PfNkA6qHWzlg_bE","d":"ji4c-dofvsrwfzHCwTpuJGPxT5IFFfu78W0tClF-aXY"}"#;

/// Test key: `openssl ecparam -name secp384r1 -genkey -noout`.
pub(super) const P384_SEC1: &str = "-----BEGIN EC PRIVATE KEY-----
MIGkAgEBBDBcONsB7InT0An9CL1lCK6XUYZMiGwmamizJ63Rld+iZW3koEoBgaIJ
ejHBsy1E/d6gBwYFK4EEACKhZANiAAQREyIc6UKRXGuLlapblMEcocVJpn7kJw9W
Yh4Tr7MF7yj39abdnHQAqDixVqcfGXXHcdhEhEzVot3vKl0aMp2OU4DduiTZXCkl
XggfdER+yChusgM0nAGFM7haIbtlDiI=
-----END EC PRIVATE KEY-----";

/// The same key: `openssl pkcs8 -topk8 -nocrypt`.
pub(super) const P384_PKCS8: &str = "-----BEGIN PRIVATE KEY-----
MIG2AgEAMBAGByqGSM49AgEGBSuBBAAiBIGeMIGbAgEBBDBcONsB7InT0An9CL1l
CK6XUYZMiGwmamizJ63Rld+iZW3koEoBgaIJejHBsy1E/d6hZANiAAQREyIc6UKR
XGuLlapblMEcocVJpn7kJw9WYh4Tr7MF7yj39abdnHQAqDixVqcfGXXHcdhEhEzV
ot3vKl0aMp2OU4DduiTZXCklXggfdER+yChusgM0nAGFM7haIbtlDiI=
-----END PRIVATE KEY-----";

/// The same key as a JWK.
pub(super) const P384_JWK: &str = r#"{"crv":"P-384","kty":"EC","x":"ERMiHOlCkVxri5WqW5TBHKHFSaZ-5CcPVmIeE6-zBe8o9_Wm3Zx0AKg4sVanHxl1","y":"x3HYRIRM1aLd7ypdGjKdjlOA3bok2VwpJV4IH3REfsgobrIDNJwBhTO4WiG7ZQ4i","d":"XDjbAeyJ09AJ_Qi9ZQiul1GGTIhsJmposyet0ZXfomVt5KBKAYGiCXoxwbMtRP3e"}"#;

/// Test key: `openssl genpkey -algorithm ED25519` (PKCS#8 version 1).
pub(super) const ED25519_PKCS8: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEICMmBYMyXlf84arsjc8tvtuO7zip/ZPGWTqQESd+FZB7
-----END PRIVATE KEY-----";

/// The same key as a JWK.
pub(super) const ED25519_JWK: &str = r#"{"crv":"Ed25519","kty":"OKP","x":"LkQxkSm7aQDEkQo3SlFq8E6zaMl0cZCBStJaCR4J06w","d":"IyYFgzJeV_zhquyNzy2-247vOKn9k8ZZOpARJ34VkHs"}"#;

/// RFC 8410 section 10.3: a key of PKCS#8 version 2, with an attribute and the public key.
pub(super) const ED25519_PKCS8_V2: &str = "-----BEGIN PRIVATE KEY-----
MHICAQEwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
oB8wHQYKKoZIhvcNAQkJFDEPDA1DdXJkbGUgQ2hhaXJzgSEAGb9ECWmEzf6FQbrB
Z9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PRIVATE KEY-----";

/// Test key: `openssl ecparam -name secp256k1 -genkey -noout`.
pub(super) const SECP256K1_SEC1: &str = "-----BEGIN EC PRIVATE KEY-----
MHQCAQEEICpNB224XZZZ0KpT30A9smVnQo9iOxIFGQ+1bFgTlGC2oAcGBSuBBAAK
oUQDQgAEmLMfXIbqFqzQFg6sP7IuB45Vxrr0XK632nJQ/slOWqc4CerZY/6q4a+h
wdYUanNzn/jXF4rnlvNVTx4BSxmFPw==
-----END EC PRIVATE KEY-----";

/// Test key: `openssl ecparam -name secp521r1 -genkey`, in PKCS#8.
pub(super) const P521_PKCS8: &str = "-----BEGIN PRIVATE KEY-----
MIHuAgEAMBAGByqGSM49AgEGBSuBBAAjBIHWMIHTAgEBBEIBRL04dgsZ4Fa3qdWf
kqWNQWCuSeJTZ6kdA3qLijvCebGWcvtYbCiXxVBTrZMC3loPIOQ1Nqyb1vc4SP0U
SuF1PDyhgYkDgYYABADf1TU1r2YJ/SfhHd2AFqg6cxBkEz+NVGY/gOt2a7BWN3N5
n4DWSWoPIPFQj9lxwN7y24nKHoip/mta/FQ3msd8tQGA6uf0bz8MZl60e5AzeDRQ
ZPi5T+APlT+FisEnYBI+8MW9Z4KmbvZFl/huhKK6UjtHyeCKsSgmFAPjfgXoXTDd
hw==
-----END PRIVATE KEY-----";

/// Test key: `openssl genpkey -algorithm ED448`.
pub(super) const ED448_PKCS8: &str = "-----BEGIN PRIVATE KEY-----
MEcCAQAwBQYDK2VxBDsEObqNm05MZ+0pu8MVUNc/PBOzkz7LzNIi0laOgwJCEwbQ
db4COJAcpj7A64Htu/H6NAxAOcqYM8yesw==
-----END PRIVATE KEY-----";

/// Test key: `openssl genpkey -algorithm X25519`.
pub(super) const X25519_PKCS8: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VuBCIEIFijSKlvSgvhAgqTwWp9q6HNBIC+px61kNxy7BTLHg1F
-----END PRIVATE KEY-----";

/// RFC 7515 appendix A.2: RS256, the key.
pub(super) const RFC7515_A2_KEY: &str = r#"{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB","d":"Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_GO-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ","p":"4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJNPY8cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc","q":"uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD_YwD66t62wDmpe_HlB-TnBA-njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc","dp":"BwKfV3Akq5_MFZDFZCnW-wzl-CCo83WoZvnLQwCTeDv8uzluRSnm71I3QCLdhrqE2e9YkxvuxdBfpT_PI7Yz-FOKnu1R6HsJeDCjn12Sk3vmAktV2zb34MCdy7cpdTh_YVr7tss2u6vneTwrA86rZtu5Mbr1C1XsmvkxHQAdYo0","dq":"h_96-mK1R_7glhsum81dZxjTnYynPbZpHziZjeeHcXYsXaaMwkOlODsWa7I9xXDoRwbKgB719rrmI2oKr6N3Do9U0ajaHF-NKJnwgjMd2w9cjz3_-kyNlxAr2v4IKhGNpmM5iIgOS1VZnOZ68m6_pbLBSp3nssTdlqvd0tIiTHU","qi":"IYd7DHOhrWvxkwPQsRM2tOgrjbcrfvtQJipd-DlcxyVuuM9sQLdgjVk2oy26F0EmpScGLq2MowX7fhd_QJQ3ydy5cY7YIBi87w93IKLEdfnbJtoOPLUW0ITrJReOgo1cq9SbsxYawBgfp_gh6A5603k2-ZQwVK0JKSHuLFkuQ3U"}"#;

/// RFC 7515 appendix A.2: RS256, the signed text.
pub(super) const RFC7515_A2: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";

/// RFC 7515 appendix A.3: ES256, the key.
pub(super) const RFC7515_A3_KEY: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"}"#;

/// RFC 7515 appendix A.3: ES256, the signed text.
pub(super) const RFC7515_A3: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";

/// RFC 7520 section 4.1: RS256, and PS384 in section 4.2, the key.
pub(super) const RFC7520_KEY: &str = r#"{"kty":"RSA","kid":"bilbo.baggins@hobbiton.example","use":"sig","n":"n4EPtAOCc9AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT-O-XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_AJmSCpMaJMRBSFKrKb2wqVwGU_NsYOYL-QtiWN2lbzcEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-oBHqFEHYpPe7Tpe-OfVfHd1E6cS6M1FZcD1NNLYD5lFHpPI9bTwJlsde3uhGqC0ZCuEHg8lhzwOHrtIQbS0FVbb9k3-tVTU4fg_3L_vniUFAKwuCLqKnS2BYwdq_mzSnbLY7h_qixoR7jig3__kRhuaxwUkRz5iaiQkqgc5gHdrNP5zw","e":"AQAB","d":"bWUC9B-EFRIo8kpGfh0ZuyGPvMNKvYWNtB_ikiH9k20eT-O1q_I78eiZkpXxXQ0UTEs2LsNRS-8uJbvQ-A1irkwMSMkK1J3XTGgdrhCku9gRldY7sNA_AKZGh-Q661_42rINLRCe8W-nZ34ui_qOfkLnK9QWDDqpaIsA-bMwWWSDFu2MUBYwkHTMEzLYGqOe04noqeq1hExBTHBOBdkMXiuFhUq1BU6l-DqEiWxqg82sXt2h-LMnT3046AOYJoRioz75tSUQfGCshWTBnP5uDjd18kKhyv07lhfSJdrPdM5Plyl21hsFf4L_mHCuoFau7gdsPfHPxxjVOcOpBrQzwQ","p":"3Slxg_DwTXJcb6095RoXygQCAZ5RnAvZlno1yhHtnUex_fp7AZ_9nRaO7HX_-SFfGQeutao2TDjDAWU4Vupk8rw9JR0AzZ0N2fvuIAmr_WCsmGpeNqQnev1T7IyEsnh8UMt-n5CafhkikzhEsrmndH6LxOrvRJlsPp6Zv8bUq0k","q":"uKE2dh-cTf6ERF4k4e_jy78GfPYUIaUyoSSJuBzp3Cubk3OCqs6grT8bR_cu0Dm1MZwWmtdqDyI95HrUeq3MP15vMMON8lHTeZu2lmKvwqW7anV5UzhM1iZ7z4yMkuUwFWoBvyY898EXvRD-hdqRxHlSqAZ192zB3pVFJ0s7pFc","dp":"B8PVvXkvJrj2L-GYQ7v3y9r6Kw5g9SahXBwsWUzp19TVlgI-YV85q1NIb1rxQtD-IsXXR3-TanevuRPRt5OBOdiMGQp8pbt26gljYfKU_E9xn-RULHz0-ed9E9gXLKD4VGngpz-PfQ_q29pk5xWHoJp009Qf1HvChixRX59ehik","dq":"CLDmDGduhylc9o7r84rEUVn7pzQ6PF83Y-iBZx5NT-TpnOZKF1pErAMVeKzFEl41DlHHqqBLSM0W1sOFbwTxYWZDm6sI6og5iTbwQGIC3gnJKbi_7k_vJgGHwHxgPaX2PnvP-zyEkDERuf-ry4c_Z11Cq9AqC2yeL6kdKT1cYF8","qi":"3PiqvXQN0zwMeE-sBvZgi289XP9XCQF3VWqPzMKnIgQp7_Tugo6-NZBKCQsMf3HaEGBjTVJs_jcK8-TRXvaKe-7ZMaQj8VfBdYkssbu0NKDDhjJ-GtiseaDVWt7dcH0cfwxgFUHpQh7FoCrjFJ6h6ZEpMF6xmujs4qMpPz8aaI4"}"#;

/// RFC 7520 section 4.1: RS256, the signed text.
pub(super) const RFC7520_4_1: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9.SXTigJlzIGEgZGFuZ2Vyb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb250byB0aGUgcm9hZCwgYW5kIGlmIHlvdSBkb24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hlcmUgeW91IG1pZ2h0IGJlIHN3ZXB0IG9mZiB0by4.MRjdkly7_-oTPTS3AXP41iQIGKa80A0ZmTuV5MEaHoxnW2e5CZ5NlKtainoFmKZopdHM1O2U4mwzJdQx996ivp83xuglII7PNDi84wnB-BDkoBwA78185hX-Es4JIwmDLJK3lfWRa-XtL0RnltuYv746iYTh_qHRD68BNt1uSNCrUCTJDt5aAE6x8wW1Kt9eRo4QPocSadnHXFxnt8Is9UzpERV0ePPQdLuW3IS_de3xyIrDaLGdjluPxUAhb6L2aXic1U12podGU0KLUQSE_oI-ZnmKJ3F4uOZDnd6QZWJushZ41Axf_fcIe8u9ipH84ogoree7vjbU5y18kDquDg";

/// RFC 7520 section 4.2: PS384, the signed text.
pub(super) const RFC7520_4_2: &str = "eyJhbGciOiJQUzM4NCIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9.SXTigJlzIGEgZGFuZ2Vyb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb250byB0aGUgcm9hZCwgYW5kIGlmIHlvdSBkb24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hlcmUgeW91IG1pZ2h0IGJlIHN3ZXB0IG9mZiB0by4.cu22eBqkYDKgIlTpzDXGvaFfz6WGoz7fUDcfT0kkOy42miAh2qyBzk1xEsnk2IpN6-tPid6VrklHkqsGqDqHCdP6O8TTB5dDDItllVo6_1OLPpcbUrhiUSMxbbXUvdvWXzg-UD8biiReQFlfz28zGWVsdiNAUf8ZnyPEgVFn442ZdNqiVJRmBqrYRXe8P_ijQ7p8Vdz0TTrxUeT3lm8d9shnr2lfJT8ImUjvAA2Xez2Mlp8cBE5awDzT0qI0n6uiP1aCN_2_jLAeQTlqRHtfa64QQSUmFAAjVKPbByi7xho0uTOcbH510a6GYmJUAfmWjwZ6oD4ifKo8DYM-X72Eaw";

/// RFC 8037 appendix A.4: EdDSA, the key.
pub(super) const RFC8037_A1_KEY: &str = r#"{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

/// RFC 8037 appendix A.4: EdDSA, the signed text.
pub(super) const RFC8037_A4: &str = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
