//! Identifiers: 64 lower-case hexadecimal digits.

use std::fmt;
use std::str::FromStr;

use crate::{Invalid, serde_as_text};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $noun:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// An id made of 32 bytes, which should be random or a digest.
            pub fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The first 12 digits, as shown in tables.
            pub fn short(&self) -> String {
                self.to_string()[..12].to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                let wrong = || Invalid(format!("invalid {} id {text:?}: must be 64 hexadecimal digits", $noun));
                let mut bytes = [0; 32];
                if text.len() != 64 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                    return Err(wrong());
                }
                for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
                    let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
                    *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
                }
                Ok(Self(bytes))
            }
        }

        serde_as_text!($name);
    };
}

id!(
    /// A container's id.
    ContainerId, "container"
);
id!(
    /// A pod's id.
    PodId, "pod"
);
id!(
    /// A network's id.
    NetworkId, "network"
);
id!(
    /// An image's id: the digest of its configuration, without `sha256:`.
    ImageId, "image"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_64_lower_case_hex_digits() {
        let text = "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9";
        let id: NetworkId = text.parse().unwrap();
        assert_eq!((id.to_string().as_str(), id.short().as_str()), (text, "2f259bab93aa"));
        assert!("2F".repeat(32).parse::<NetworkId>().is_err());
        assert!("../etc".parse::<ContainerId>().is_err());
    }
}
