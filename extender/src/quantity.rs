//! Kubernetes' quantities, such as `100m` and `1.5Gi` (k8s.io/apimachinery, pkg/api/resource).

/// None for what is no quantity.
pub fn parse(text: &str) -> Option<f64> {
    const SUFFIXES: [(&str, f64); 15] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        // `1E3` is an exponent, and `1E` is not.
        ("E", 1e18),
    ];
    let (number, unit) = SUFFIXES.iter().find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit))).unwrap_or((text, 1.0));
    let plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    let value = number.parse::<f64>().ok().filter(|value| plain && value.is_finite())?;
    Some(value * unit)
}

/// CPUs, exact to a billionth: `1500000000n`.
pub fn nanos(value: f64) -> String {
    rounded(value * 1e9, "n")
}

/// A share, exact to a thousandth: `250m`.
pub fn millis(value: f64) -> String {
    rounded(value * 1e3, "m")
}

/// Bytes in whole kibibytes, as metrics-server has them.
pub fn kibibytes(bytes: u64) -> String {
    rounded((bytes / 1024) as f64, "Ki")
}

fn rounded(value: f64, unit: &str) -> String {
    match value.max(0.0).round() as u64 {
        0 => "0".to_owned(),
        whole => format!("{whole}{unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        assert_eq!((nanos(1.5), millis(0.25), kibibytes(10 << 20)), ("1500000000n".to_owned(), "250m".to_owned(), "10240Ki".to_owned()));
        assert_eq!((nanos(0.0), millis(-1.0), kibibytes(1023)), ("0".to_owned(), "0".to_owned(), "0".to_owned()));
        for value in [0.001, 0.5, 3.0] {
            assert_eq!((parse(&nanos(value)), parse(&millis(value))), (Some(value), Some(value)));
        }
    }

    #[test]
    fn quantities_as_pods_have_them() {
        for (text, expected) in
            [("100m", 0.1), ("2", 2.0), ("0.5", 0.5), ("128Mi", 134_217_728.0), ("1G", 1e9), ("1e3", 1000.0), ("1E3", 1000.0), ("2E", 2e18)]
        {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
        for wrong in ["", "m", "Gi", "1 Gi", "NaN", "inf", "one"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
