//! Amounts, as Kubernetes writes them.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use paas_core::model::{ByteSize, CpuQuantity};

/// `256MiB` is written `256Mi`.
pub(crate) fn bytes(size: ByteSize) -> Quantity {
    Quantity(size.to_string().trim_end_matches('B').to_owned())
}

/// Thousandths of a core are written as in an app file.
pub(crate) fn cores(cpu: CpuQuantity) -> Quantity {
    Quantity(cpu.to_string())
}

/// A number of things.
pub(crate) fn count(number: u32) -> Quantity {
    Quantity(number.to_string())
}

/// The units of sizes. `m` stands for thousandths, which only come from sums.
const UNITS: [(&str, f64); 13] = [
    ("Ki", 1_024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("Ei", 1_152_921_504_606_846_976.0),
    ("m", 0.001),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
];

/// A size that somebody asked for; a part of a byte is a byte. `None` for what is none.
pub(crate) fn size(quantity: &Quantity) -> Option<ByteSize> {
    let text = quantity.0.as_str();
    if let Ok(bytes) = text.parse() {
        return Some(ByteSize(bytes));
    }
    let unit = UNITS.iter().find(|(unit, _)| text.ends_with(unit));
    let (number, factor) =
        unit.map_or((text, 1.0), |(unit, factor)| (&text[..text.len() - unit.len()], *factor));
    // Whole numbers of a unit, which is what is written nearly always, stay exact.
    let whole = number.parse::<u64>().ok().filter(|_| factor >= 1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked, and saturating")]
    match whole {
        Some(whole) => whole.checked_mul(factor as u64).map(ByteSize),
        None => {
            let bytes = (number.parse::<f64>().ok()? * factor).ceil();
            (bytes.is_finite() && bytes >= 0.0).then_some(ByteSize(bytes as u64))
        }
    }
}

/// Processor time; a part of a thousandth of a core is one. `None` for what is none.
pub(crate) fn cpu(quantity: &Quantity) -> Option<CpuQuantity> {
    let text = quantity.0.as_str();
    if let Ok(cpu) = text.parse() {
        return Some(cpu);
    }
    let (number, factor) = match (text.strip_suffix('n'), text.strip_suffix('u'), text.strip_suffix('k')) {
        (Some(number), ..) => (number, 1e-6),
        (_, Some(number), _) => (number, 1e-3),
        (.., Some(number)) => (number, 1e6),
        _ => (text, 1e3),
    };
    let millis = (number.parse::<f64>().ok()? * factor).ceil();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked, and saturating")]
    (millis.is_finite() && millis >= 0.0).then_some(CpuQuantity { millis: millis as u32 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_all_units() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("64Ki", 65_536),
            ("5Gi", 5 << 30),
            ("1.5Gi", 3 << 29),
            ("1G", 1_000_000_000),
            ("2E", 2_000_000_000_000_000_000),
            ("1500m", 2),
            ("1e3", 1_000),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(size(&Quantity(text.into())), Some(ByteSize(bytes)), "{text}");
        }
        for text in ["", "Gi", "-1", "-1Gi", "many", "1GiB", "99999999Ei"] {
            assert_eq!(size(&Quantity(text.into())), None, "{text}");
        }
    }

    #[test]
    fn processor_time_is_read_in_all_units() {
        for (text, millis) in [
            ("0", 0),
            ("2", 2_000),
            ("500m", 500),
            ("0.0005", 1),
            ("1500u", 2),
            ("250000000n", 250),
            ("1k", 1_000_000),
        ] {
            assert_eq!(cpu(&Quantity(text.into())), Some(CpuQuantity { millis }), "{text}");
        }
        for text in ["", "m", "-1", "many", "1 core"] {
            assert_eq!(cpu(&Quantity(text.into())), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_written_in_kubernetes_units() {
        for (ours, theirs) in [("512", "512"), ("64KiB", "64Ki"), ("5GiB", "5Gi"), ("1025", "1025")] {
            assert_eq!(bytes(ours.parse().unwrap()).0, theirs);
        }
        assert_eq!(cores("500m".parse().unwrap()).0, "500m");
        assert_eq!(cores("2".parse().unwrap()).0, "2");
    }
}
