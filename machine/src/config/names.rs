//! Which names Kubernetes and the kernel allow.

/// RFC 1123: at most 63 lower-case letters, digits and dashes, beginning and ending with a letter or digit.
pub fn is_dns_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&text.len()) && text.chars().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// DNS labels with dots between them, at most 253 bytes.
pub fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

/// Name of a label, a taint or an annotation: `name` or `prefix/name` (apimachinery's IsQualifiedName).
pub fn is_qualified_name(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_dns_subdomain(prefix) && is_label_text(name),
        None => is_label_text(text),
    }
}

/// Value of a label or a taint: empty, or at most 63 letters, digits, `-`, `_`, `.`, beginning and ending with a letter or digit.
pub fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_label_text(text)
}

fn is_label_text(text: &str) -> bool {
    let ends = |c: char| c.is_ascii_alphanumeric();
    let inner = |c: char| ends(c) || matches!(c, '-' | '_' | '.');
    text.len() <= 63 && text.starts_with(ends) && text.ends_with(ends) && text.chars().all(inner)
}

/// Name of a network link: IFNAMSIZ leaves 15 bytes, and dev_valid_name() forbids slashes, colons and white space.
pub fn is_link_name(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_graphic() && c != '/' && c != ':';
    (1..=15).contains(&text.len()) && text.chars().all(legal) && text != "." && text != ".."
}

/// Name of a kernel module.
pub fn is_module_name(text: &str) -> bool {
    (1..=63).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// Name of a sysctl with dots, or with slashes where a link's name in it holds a dot (sysctl.d(5)).
pub fn is_sysctl(text: &str) -> bool {
    let separator = if text.contains('/') { '/' } else { '.' };
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ':' | '@') || (separator == '/' && c == '.');
    let part = |part: &str| !part.is_empty() && part != ".." && part != "." && part.chars().all(legal);
    text.len() <= 255 && text.contains(separator) && text.split(separator).all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_kubernetes_and_the_kernel_have_them() {
        assert!(is_dns_label("cp-1") && !is_dns_label("-a") && !is_dns_label("A") && !is_dns_label("") && !is_dns_label(&"a".repeat(64)));
        assert!(is_dns_subdomain("a.b-c.d1") && !is_dns_subdomain("a..b") && !is_dns_subdomain("a."));
        assert!(
            is_qualified_name("example.com/Rack_1") && is_qualified_name("rack") && !is_qualified_name("/a") && !is_qualified_name("a/b/c")
        );
        assert!(is_label_value("") && is_label_value("A.b_c-d") && !is_label_value("a b") && !is_label_value("-a"));
        assert!(
            is_link_name("eth0")
                && is_link_name("enp0s31f6.4094")
                && !is_link_name("sixteen-bytes-ab")
                && !is_link_name("a/b")
                && !is_link_name("..")
        );
        assert!(is_module_name("ip_vs") && !is_module_name("../x") && !is_module_name(""));
        assert!(
            is_sysctl("net.core.somaxconn")
                && is_sysctl("net/ipv4/conf/eth0.5/rp_filter")
                && !is_sysctl("kernel")
                && !is_sysctl("net/../x")
                && !is_sysctl("a..b")
        );
    }
}
