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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_in_kubernetes_units() {
        for (ours, theirs) in [("512", "512"), ("64KiB", "64Ki"), ("5GiB", "5Gi"), ("1025", "1025")] {
            assert_eq!(bytes(ours.parse().unwrap()).0, theirs);
        }
        assert_eq!(cores("500m".parse().unwrap()).0, "500m");
        assert_eq!(cores("2".parse().unwrap()).0, "2");
    }
}
