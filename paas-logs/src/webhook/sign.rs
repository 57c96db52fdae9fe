//! What proves who sent a call.

use std::str::FromStr;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use paas_core::model::Secret;
use paas_core::{Error, Result};
use ring::hmac;
use serde::Deserialize;

/// Padding is written, and need not be there.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A secret that calls are signed with: 24 to 64 bytes in base64, with `whsec_` before it or not. `Debug` hides it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct WebhookSecret(Secret);

impl WebhookSecret {
    /// The signature of a call, as its header has it.
    pub(super) fn sign(&self, id: &str, seconds: &str, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, self.0.expose()));
        for part in [id.as_bytes(), b".", seconds.as_bytes(), b".", body] {
            context.update(part);
        }
        format!("v1,{}", BASE64.encode(context.sign()))
    }
}

impl FromStr for WebhookSecret {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refused = || Error::invalid("expected a secret like whsec_ and 24 to 64 bytes in base64");
        // The cause is not told: it shows a part of what may be the secret.
        let key = BASE64.decode(text.strip_prefix("whsec_").unwrap_or(text)).map_err(|_| refused())?;
        let key = Secret::new(key)?;
        if !(24..=64).contains(&key.expose().len()) {
            return Err(refused());
        }
        Ok(Self(key))
    }
}

impl TryFrom<String> for WebhookSecret {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_the_specification() {
        // The vector that the specification's own libraries are tested with.
        let secret: WebhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap();
        let body = br#"{"test": 2432232314}"#;
        let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_may_have_a_prefix_and_needs_no_padding() {
        let bytes = [7; 25];
        let padded = BASE64.encode(bytes);
        let bare = padded.trim_end_matches('=');
        let [one, two, three]: [WebhookSecret; 3] =
            [padded.clone(), bare.to_owned(), format!("whsec_{bare}")].map(|text| text.parse().unwrap());
        assert!(one == two && two == three);
        assert!(padded != bare && !format!("{one:?}").contains(&padded[..4]));
    }

    #[test]
    fn a_secret_of_another_length_is_refused() {
        for length in [0, 23, 65] {
            let text = BASE64.encode(vec![7; length]);
            let refused = text.parse::<WebhookSecret>().unwrap_err();
            assert!(length == 0 || !format!("{refused:?}").contains(&text), "{refused:?}");
        }
        assert!("whsec_not base64 at all, at all, at all".parse::<WebhookSecret>().is_err());
    }
}
