use super::*;

/// RFC 8032, section 7.1, test 1: secret and public key.
const SECRET: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
const PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

/// RFC 8410, section 10.3: a private key as OpenSSL writes it, and section 10.1: its public key without what stands around it.
const PEM: &str =
    "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
const PEM_PUBLIC: &str = "Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=";

#[test]
fn keys_are_those_of_the_standards() {
    let key = SigningKey::from_seed(&hex::decode(SECRET).unwrap().try_into().unwrap()).unwrap();
    assert_eq!(hex::encode(key.public().0), PUBLIC);
    let key = SigningKey::from_pem(PEM).unwrap();
    assert_eq!(key.public().to_string(), PEM_PUBLIC);
    assert_eq!(key.to_pem(), PEM);
    assert_eq!(SigningKey::from_pem(&format!("a comment\n{PEM}more\n")).unwrap().public(), key.public());
}

#[test]
fn a_new_key_is_another_one_and_survives_its_file() {
    let (one, two) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    assert_ne!(one.public(), two.public());
    let read = SigningKey::from_pem(&one.to_pem()).unwrap();
    assert_eq!(read.public(), one.public());
    assert!(one.public().signed("text", &read.sign("text")));
    assert!(!format!("{one:?}").contains(&one.to_pem()[40..60]), "Debug does not tell the key");
}

#[test]
fn a_signature_is_for_one_text_and_one_key() {
    let (one, two) = (SigningKey::from_seed(&[1; 32]).unwrap(), SigningKey::from_seed(&[2; 32]).unwrap());
    let signature = one.sign("text");
    assert!(one.public().signed("text", &signature));
    assert!(!one.public().signed("text ", &signature));
    assert!(!two.public().signed("text", &signature));
    for bit in 0..512 {
        let mut wrong = signature;
        wrong.0[bit / 8] ^= 1 << (bit % 8);
        assert!(!one.public().signed("text", &wrong), "bit {bit}");
    }
    let without_context = Signature(one.pair.sign(b"text").as_ref().try_into().unwrap());
    assert!(!one.public().signed("text", &without_context), "a signature for something else");
}

#[test]
fn text_has_one_form() {
    let key = SigningKey::from_seed(&[1; 32]).unwrap();
    let public = key.public();
    assert_eq!(public.to_string().parse(), Ok(public));
    assert_eq!(public.id().to_string().parse(), Ok(public.id()));
    assert_eq!(public.id().to_string(), Digest::of(&public.0).to_string()[..16]);
    let signature = key.sign("text");
    assert_eq!(signature.to_string().parse(), Ok(signature));

    let unpadded = public.to_string().replace('=', "");
    for bad in ["", "AAAA", &unpadded, &format!("{public}\n"), &"A".repeat(1_000_000)] {
        let error = bad.parse::<PublicKey>().unwrap_err().to_string();
        assert!(error.starts_with("key \"") && error.len() < 200, "{error}");
        assert!(bad.parse::<Signature>().is_err());
        assert!(bad.parse::<KeyId>().is_err());
    }
    assert!(public.id().to_string().to_uppercase().parse::<KeyId>().is_err());
}

#[test]
fn what_is_no_private_key_is_refused() {
    let public = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
    let cut = PEM.replace("RHVYQg", "");
    let short = PEM.replace("EdVhC", "Ed");
    for bad in ["", "key", public, &short, "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n", &cut[..40]] {
        assert_eq!(SigningKey::from_pem(bad).unwrap_err(), BadKey::Private, "{bad}");
    }
}
