use onemec_wire::ContextId;
use proptest::prelude::*;

use super::*;

fn ring() -> Keyring {
    Keyring::new(TokenKey::new(1, &[7; 32]))
}

fn grant() -> Grant<'static> {
    Grant {
        attachment: Attachment { context: ContextId::made(1, 42, 0), number: 5 },
        ae: "Cmeter7",
        expires_ms: 1_000,
        credential: Some("certificate:ab12"),
    }
}

fn bearer() -> Bearer<'static> {
    Bearer { ae: "Cmeter7", credential: Some("certificate:ab12") }
}

#[test]
fn a_good_token_says_what_was_granted() {
    let token = ring().issue(grant()).unwrap();
    assert!(token.len() < 160, "{} bytes", token.len());
    let claims = ring().verify(&token, bearer(), 999).unwrap();
    assert_eq!(claims, Claims { attachment: grant().attachment, ae: "Cmeter7".into(), expires_ms: 1_000, bound: true });
}

#[test]
fn each_refusal_has_its_error() {
    let ring = ring();
    let token = ring.issue(grant()).unwrap();
    let check = |token: &str, bearer, now| ring.verify(token, bearer, now).unwrap_err();
    assert_eq!(check(&token, bearer(), 1_000), TokenError::Expired { expires_ms: 1_000 });
    assert_eq!(check(&token, Bearer { ae: "Cmeter8", ..bearer() }, 0), TokenError::WrongAe);
    assert_eq!(check(&token, Bearer { credential: Some("x"), ..bearer() }, 0), TokenError::WrongCredential);
    assert_eq!(check(&token, Bearer { credential: None, ..bearer() }, 0), TokenError::WrongCredential);
    assert_eq!(check("", bearer(), 0), TokenError::Malformed);
    assert_eq!(check("not base64!", bearer(), 0), TokenError::Malformed);
    assert_eq!(check(&"A".repeat(TOKEN_BYTES_MAX + 4), bearer(), 0), TokenError::Malformed);
    let other = Keyring::new(TokenKey::new(1, &[8; 32])).issue(grant()).unwrap();
    assert_eq!(check(&other, bearer(), 0), TokenError::BadSignature);
    let other = Keyring::new(TokenKey::new(9, &[7; 32])).issue(grant()).unwrap();
    assert_eq!(check(&other, bearer(), 0), TokenError::UnknownKey(9));
}

#[test]
fn an_unbound_token_holds_for_any_credential() {
    let token = ring().issue(Grant { credential: None, ..grant() }).unwrap();
    assert!(!ring().verify(&token, bearer(), 0).unwrap().bound);
    assert!(ring().verify(&token, Bearer { credential: None, ..bearer() }, 0).is_ok());
}

#[test]
fn keys_rotate() {
    let mut ring = ring();
    let first = ring.issue(grant()).unwrap();
    assert_eq!(ring.rotate(TokenKey::new(1, &[9; 32])), Err(KeyIdTaken(1)));
    ring.rotate(TokenKey::new(2, &[9; 32])).unwrap();
    let second = ring.issue(grant()).unwrap();
    assert!(ring.verify(&first, bearer(), 0).is_ok() && ring.verify(&second, bearer(), 0).is_ok());
    ring.rotate(TokenKey::new(3, &[10; 32])).unwrap();
    assert_eq!(ring.verify(&first, bearer(), 0), Err(TokenError::UnknownKey(1)));
    assert!(ring.verify(&second, bearer(), 0).is_ok());
    ring.forget_previous();
    assert_eq!(ring.verify(&second, bearer(), 0), Err(TokenError::UnknownKey(2)));
    assert!(!format!("{ring:?}").contains('9'), "no secret is printed");
}

#[test]
fn ae_ids_are_bounded() {
    let long = "C".repeat(AE_BYTES_MAX);
    let token = ring().issue(Grant { ae: &long, ..grant() }).unwrap();
    assert!(token.len() <= TOKEN_BYTES_MAX, "{}", token.len());
    assert!(ring().verify(&token, Bearer { ae: &long, ..bearer() }, 0).is_ok());
    for bad in ["", &"C".repeat(AE_BYTES_MAX + 1)] {
        assert_eq!(ring().issue(Grant { ae: bad, ..grant() }), Err(IssueError::AeLength));
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    for g in [grant(), Grant { credential: None, ..grant() }] {
        let token = ring().issue(g).unwrap();
        assert!(ring().verify(&token, bearer(), 0).is_ok());
        // Bits of the content, the signature included.
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(ring().verify(&URL_SAFE_NO_PAD.encode(bytes), bearer(), 0).is_err(), "bit {bit}");
        }
        // Bits of the text.
        for bit in 0..token.len() * 8 {
            let mut text = token.clone().into_bytes();
            text[bit / 8] ^= 1 << (bit % 8);
            let Ok(text) = String::from_utf8(text) else { continue };
            assert!(ring().verify(&text, bearer(), 0).is_err(), "bit {bit} of the text");
        }
        // Cut and prolonged.
        for n in 0..token.len() {
            assert!(ring().verify(&token[..n], bearer(), 0).is_err());
        }
        assert!(ring().verify(&format!("{token}A"), bearer(), 0).is_err());
    }
}

#[test]
fn a_credential_cannot_pose_as_a_token() {
    // The same key signs both; what it signs begins differently.
    assert_ne!(
        credential_message("")[0],
        ring().issue(grant()).map(|t| URL_SAFE_NO_PAD.decode(t).unwrap()[0]).unwrap()
    );
}

proptest! {
    #[test]
    fn hostile_text_never_panics(text in ".{0,600}", bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(ring().verify(&text, bearer(), 0).is_err());
        prop_assert!(ring().verify(&URL_SAFE_NO_PAD.encode(&bytes), bearer(), 0).is_err());
        let _ = Form::from_bytes(&bytes);
    }

    #[test]
    fn what_is_granted_is_verified(
        ae in "[A-Za-z0-9/._-]{1,60}", context in any::<[u8; 16]>(), number: u64, expires_ms in 1u64..,
        credential: Option<String>,
    ) {
        let g = Grant {
            attachment: Attachment { context: ContextId(context), number }, ae: &ae, expires_ms,
            credential: credential.as_deref(),
        };
        let token = ring().issue(g).unwrap();
        let bearer = Bearer { ae: &ae, credential: credential.as_deref() };
        let claims = ring().verify(&token, bearer, expires_ms - 1).unwrap();
        prop_assert_eq!(claims.attachment, g.attachment);
        let expired = TokenError::Expired { expires_ms };
        prop_assert_eq!(ring().verify(&token, bearer, expires_ms), Err(expired));
    }
}
