//! Where instances may connect to outside of their cluster.

use std::net::IpAddr;

use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicyPeer};
use paas_core::{Error, Result};

/// Addresses that instances may connect to, over every port.
///
/// A network plugin may take the cluster's own pods, nodes and API server for part of a range that contains them: leave
/// out their ranges with [`Destination::except`], and that of the cloud's metadata service (`169.254.0.0/16`).
///
/// ```
/// # use paas_k8s::Destination;
/// # fn main() -> paas_core::Result<()> {
/// let internet = Destination::new("0.0.0.0/0")?.except("10.0.0.0/8")?.except("169.254.0.0/16")?;
/// assert!(Destination::new("192.0.2.0/24")?.except("10.0.0.0/8").is_err(), "not within it");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    range: Range,
    except: Vec<Range>,
}

impl Destination {
    /// The addresses of a range, written as `192.0.2.0/24` or `2001:db8::/32`.
    ///
    /// # Errors
    /// `InvalidInput` if it is no such range.
    pub fn new(range: &str) -> Result<Self> {
        Ok(Self { range: Range::parse(range)?, except: Vec::new() })
    }

    /// All of them but those of this range.
    ///
    /// # Errors
    /// `InvalidInput` if it is no range, or no true part of the destination's.
    pub fn except(mut self, range: &str) -> Result<Self> {
        let except = Range::parse(range)?;
        if !self.range.contains(&except) {
            return Err(Error::invalid("what is left out must be a part of the destination")
                .with("destination", &self.range.text)
                .with("except", range));
        }
        self.except.push(except);
        Ok(self)
    }

    pub(super) fn peer(&self) -> NetworkPolicyPeer {
        let text = |range: &Range| range.text.clone();
        let except = (!self.except.is_empty()).then(|| self.except.iter().map(text).collect());
        NetworkPolicyPeer {
            ip_block: Some(IPBlock { cidr: text(&self.range), except }),
            ..NetworkPolicyPeer::default()
        }
    }
}

/// Addresses that begin with the same bits.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Range {
    text: String,
    address: IpAddr,
    bits: u32,
}

impl Range {
    fn parse(text: &str) -> Result<Self> {
        let broken = || {
            Error::invalid(
                "a range of addresses is written as `192.0.2.0/24` or `2001:db8::/32`, with no bits set \
                after its prefix",
            )
            .with("range", text)
        };
        let (address, bits) = text.split_once('/').ok_or_else(broken)?;
        let address: IpAddr = address.parse().map_err(|_| broken())?;
        let plain = bits.len() <= 3 && bits.bytes().all(|byte| byte.is_ascii_digit());
        let bits: u32 = bits.parse().ok().filter(|_| plain).ok_or_else(broken)?;
        let range = Self { text: format!("{address}/{bits}"), address, bits };
        let (number, width) = range.number();
        if bits > width || number.unbounded_shl(bits + (128 - width)) != 0 {
            return Err(broken());
        }
        Ok(range)
    }

    /// The address as a number, and of how many bits.
    fn number(&self) -> (u128, u32) {
        match self.address {
            IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
            IpAddr::V6(address) => (address.to_bits(), 128),
        }
    }

    /// Whether the other is a true part of it.
    fn contains(&self, other: &Self) -> bool {
        let ((own, width), (part, part_width)) = (self.number(), other.number());
        width == part_width && self.bits < other.bits && (own ^ part).unbounded_shr(width - self.bits) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_range_is_refused() {
        for text in [
            "",
            "/",
            "10.0.0.0",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "10.0.0.1/8",
            "10.0.0.0/0",
            "10.0.0/8",
            "::/129",
            "::1/127",
            "example.com/8",
            "0.0.0.0/0/0",
            " 0.0.0.0/0",
        ] {
            assert!(Destination::new(text).is_err(), "{text}");
        }
        for text in ["0.0.0.0/0", "10.0.0.0/8", "192.0.2.7/32", "::/0", "2001:db8::/32", "::1/128"] {
            assert_eq!(Destination::new(text).unwrap().range.text, text);
        }
    }

    #[test]
    fn only_a_true_part_can_be_left_out() {
        let within = |range: &str, part: &str| Destination::new(range).unwrap().except(part).is_ok();
        assert!(within("0.0.0.0/0", "10.0.0.0/8"));
        assert!(within("10.0.0.0/8", "10.1.0.0/16"));
        assert!(within("::/0", "fc00::/7"));
        assert!(!within("10.0.0.0/8", "10.0.0.0/8"));
        assert!(!within("10.0.0.0/8", "11.0.0.0/16"));
        assert!(!within("10.0.0.0/8", "0.0.0.0/0"));
        assert!(!within("::/0", "10.0.0.0/8"));
        assert!(!within("0.0.0.0/0", "::/1"));
    }
}
