//! The apiserver's checks of names, labels, ports and addresses, in its words
//! (`k8s.io/apimachinery/pkg/util/validation`, `pkg/api/validate/content`).

use std::net::IpAddr;

use ipnet::IpNet;

const DNS_LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const QUALIFIED_NAME: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

/// `IsDNS1123Label`: what is wrong with the name of a namespace.
pub fn dns_label_problems(value: &str) -> Vec<String> {
    let mut problems = too_long(value, 63);
    if !is_dns_label(value) {
        problems.push(if value.split('.').all(is_dns_label) {
            "must not contain dots".into()
        } else {
            format!(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or \
                 '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or \
                 '123-abc', regex used for validation is '{DNS_LABEL}')"
            )
        });
    }
    problems
}

/// `IsDNS1123Subdomain`: what is wrong with the name of an object.
pub fn dns_subdomain_problems(value: &str) -> Vec<String> {
    let mut problems = too_long(value, 253);
    if !value.split('.').all(is_dns_label) {
        problems.push(format!(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
             '-' or '.', and must start and end with an alphanumeric character (e.g. \
             'example.com', regex used for validation is '{DNS_LABEL}(\\.{DNS_LABEL})*')"
        ));
    }
    problems
}

/// `IsQualifiedName`: what is wrong with a label key.
pub fn label_key_problems(value: &str) -> Vec<String> {
    let rule = format!(
        "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
         alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for \
         validation is '{QUALIFIED_NAME}')"
    );
    let mut problems = Vec::new();
    let mut parts = value.split('/');
    let name = match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, None) => name,
        (Some(prefix), Some(name), None) => {
            if prefix.is_empty() {
                problems.push("prefix part must be non-empty".into());
            } else {
                let of_prefix = dns_subdomain_problems(prefix).into_iter();
                problems.extend(of_prefix.map(|problem| format!("prefix part {problem}")));
            }
            name
        }
        _ => {
            return vec![format!(
                "a valid label key {rule} with an optional DNS subdomain prefix and '/' (e.g. \
                 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        problems.push("name part must be non-empty".into());
    }
    let long = too_long(name, 63).into_iter();
    problems.extend(long.map(|problem| format!("name part {problem}")));
    if !is_name_part(name) {
        problems.push(format!("name part {rule}"));
    }
    problems
}

/// `IsValidLabelValue`: what is wrong with a label value.
pub fn label_value_problems(value: &str) -> Vec<String> {
    let mut problems = too_long(value, 63);
    if !value.is_empty() && !is_name_part(value) {
        problems.push(format!(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' \
             or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or \
             'my_value',  or '12345', regex used for validation is '({QUALIFIED_NAME})?')"
        ));
    }
    problems
}

/// `IsValidPortName`: what is wrong with the name of a port (RFC 6335 §5.1, lower case only).
pub fn port_name_problems(value: &str) -> Vec<String> {
    let mut problems = too_long(value, 15);
    let letter = |byte: u8| byte.is_ascii_lowercase();
    let allowed = |byte: u8| letter(byte) || byte.is_ascii_digit() || byte == b'-';
    if value.is_empty() || !value.bytes().all(allowed) {
        problems
            .push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !value.bytes().any(letter) {
        problems.push("must contain at least one letter (a-z)".into());
    }
    if value.contains("--") {
        problems.push("must not contain consecutive hyphens".into());
    }
    if value.starts_with('-') || value.ends_with('-') {
        problems.push("must not begin or end with a hyphen".into());
    }
    problems
}

/// `IsValidPortNum`: the port, or what is wrong with it.
pub fn port_number(value: i32) -> Result<u16, &'static str> {
    match u16::try_from(value) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err("must be between 1 and 65535, inclusive"),
    }
}

/// `IsValidIP`, strict: the address, or what is wrong with it.
pub fn address(value: &str) -> Result<IpAddr, &'static str> {
    match value.parse() {
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => {
            Err("must not be an IPv4-mapped IPv6 address")
        }
        Ok(address) => Ok(address),
        Err(_) if without_leading_zeros(value).parse::<IpAddr>().is_ok() => {
            Err("must not have leading 0s")
        }
        Err(_) => Err("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
    }
}

/// `IsValidCIDR`, strict but for host bits, which are tolerated: the block as it is written, host
/// bits and all, or what is wrong with it.
pub fn cidr(value: &str) -> Result<IpNet, &'static str> {
    let invalid = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
    let (ip, length) = value.split_once('/').ok_or(invalid)?;
    let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    if !digits {
        return Err(invalid);
    }
    let bare = match length.trim_start_matches('0') {
        "" => "0",
        bare => bare,
    };
    let clean = without_leading_zeros(ip);
    let block: IpNet = format!("{clean}/{bare}").parse().map_err(|_| invalid)?;
    if bare != length || ip.parse::<IpAddr>().is_err() {
        return Err("must not have leading 0s in IP or prefix length");
    }
    match block {
        IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some() => {
            Err("must not have an IPv4-mapped IPv6 address")
        }
        _ => Ok(block),
    }
}

/// Go's `%q`.
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            _ if character.is_ascii_control() => {
                quoted.push_str(&format!("\\x{:02x}", character as u32));
            }
            _ if character.is_control() => {
                quoted.push_str(&format!("\\u{:04x}", character as u32));
            }
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

fn too_long(value: &str, bytes_max: usize) -> Vec<String> {
    if value.len() > bytes_max {
        vec![format!("must be no more than {bytes_max} bytes")]
    } else {
        Vec::new()
    }
}

fn is_dns_label(value: &str) -> bool {
    let end = |byte: Option<u8>| {
        byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let inner = |byte: u8| byte == b'-' || end(Some(byte));
    end(value.bytes().next()) && end(value.bytes().next_back()) && value.bytes().all(inner)
}

fn is_name_part(value: &str) -> bool {
    let end = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    end(value.bytes().next()) && end(value.bytes().next_back()) && value.bytes().all(inner)
}

/// An IPv4 address with the zeros taken away that some software reads as octal; anything else as it
/// is.
fn without_leading_zeros(value: &str) -> String {
    let octets: Vec<_> = value.split('.').collect();
    let digits =
        |octet: &&str| !octet.is_empty() && octet.bytes().all(|byte| byte.is_ascii_digit());
    if octets.len() != 4 || !octets.iter().all(digits) {
        return value.to_owned();
    }
    let bare = |octet: &&str| match octet.trim_start_matches('0') {
        "" => "0".to_owned(),
        bare => bare.to_owned(),
    };
    octets.iter().map(bare).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_as_upstream_does() {
        assert_eq!(dns_label_problems("my-ns"), [""; 0]);
        assert_eq!(dns_label_problems("a.b"), ["must not contain dots"]);
        assert_eq!(
            dns_label_problems(&"a".repeat(64)),
            ["must be no more than 63 bytes"]
        );
        for wrong in ["", "A", "-a", "a-", "a_b", "ü"] {
            let problems = dns_label_problems(wrong);
            assert_eq!(problems.len(), 1, "{wrong}");
            assert!(
                problems[0].starts_with("a lowercase RFC 1123 label must"),
                "{wrong}"
            );
        }
        assert_eq!(dns_subdomain_problems("a.b-c.9"), [""; 0]);
        for wrong in ["", "a..b", ".a", "a.", "A.b", "a/b"] {
            assert_eq!(
                dns_subdomain_problems(wrong),
                [
                    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
                  characters, '-' or '.', and must start and end with an alphanumeric character \
                  (e.g. 'example.com', regex used for validation is \
                  '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
                ],
                "{wrong}"
            );
        }
    }

    #[test]
    fn label_keys_and_values_are_judged_as_upstream_does() {
        for right in ["app", "a/B_c", "kubernetes.io/metadata.name", "1", "a.b/c"] {
            assert_eq!(label_key_problems(right), [""; 0], "{right}");
        }
        let first = |key: &str| label_key_problems(key).first().cloned().unwrap_or_default();
        assert!(first("").starts_with("name part must be non-empty"));
        assert!(first("/a").starts_with("prefix part must be non-empty"));
        assert!(first("A/a").starts_with("prefix part a lowercase RFC 1123 subdomain"));
        assert!(first("a/b/c").starts_with("a valid label key must consist of"));
        assert!(first("a b").starts_with("name part must consist of alphanumeric characters"));
        assert_eq!(
            first(&"a".repeat(64)),
            "name part must be no more than 63 bytes"
        );
        for right in ["", "a", "A.b_c-1", &"a".repeat(63)] {
            assert_eq!(label_value_problems(right), [""; 0], "{right}");
        }
        for wrong in ["-a", "a-", "a b", "a/b", &"a".repeat(64)] {
            assert_eq!(label_value_problems(wrong).len(), 1, "{wrong}");
        }
    }

    #[test]
    fn port_names_collect_every_problem() {
        assert_eq!(port_name_problems("serve-80-tcp"), [""; 0]);
        assert_eq!(
            port_name_problems("--"),
            [
                "must contain at least one letter (a-z)",
                "must not contain consecutive hyphens",
                "must not begin or end with a hyphen"
            ]
        );
        assert_eq!(
            port_name_problems("a234567890123456"),
            ["must be no more than 15 bytes"]
        );
        assert_eq!(
            port_name_problems("Http"),
            ["must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"]
        );
        assert_eq!(port_name_problems("").len(), 2);
        assert_eq!(
            port_name_problems("80"),
            ["must contain at least one letter (a-z)"]
        );
    }

    #[test]
    fn addresses_and_blocks_are_parsed_strictly() {
        let valid = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
        let zeros = "must not have leading 0s in IP or prefix length";
        for (text, expected) in [
            ("10.0.0.0/8", Ok("10.0.0.0/8")),
            ("10.1.2.3/8", Ok("10.1.2.3/8")),
            ("0.0.0.0/0", Ok("0.0.0.0/0")),
            ("2001:DB8::/32", Ok("2001:db8::/32")),
            ("::/0", Ok("::/0")),
            ("64:ff9b::192.0.2.1/128", Ok("64:ff9b::c000:201/128")),
            ("10.0.0.0", Err(valid)),
            ("10.0.0.0/33", Err(valid)),
            ("10.0.0.0/", Err(valid)),
            ("10.0.0.0/+8", Err(valid)),
            ("10.0.0/8", Err(valid)),
            ("256.0.0.0/8", Err(valid)),
            (" 10.0.0.0/8", Err(valid)),
            ("fe80::%eth0/64", Err(valid)),
            ("::/129", Err(valid)),
            ("010.0.0.0/8", Err(zeros)),
            ("10.0.0.0/08", Err(zeros)),
            (
                "::ffff:10.0.0.0/104",
                Err("must not have an IPv4-mapped IPv6 address"),
            ),
        ] {
            let found = cidr(text).map(|block| block.to_string());
            assert_eq!(found, expected.map(str::to_owned), "{text}");
        }
        assert_eq!(address("10.0.0.1").unwrap().to_string(), "10.0.0.1");
        assert_eq!(address("10.0.0.01"), Err("must not have leading 0s"));
        assert_eq!(
            address("::ffff:1.2.3.4"),
            Err("must not be an IPv4-mapped IPv6 address")
        );
        assert!(
            address("10.0.0")
                .unwrap_err()
                .starts_with("must be a valid IP address, (e.g.")
        );
    }

    #[test]
    fn quoting_is_go_s() {
        assert_eq!(
            quote("a\"b\\\n\u{7}é\u{85}"),
            "\"a\\\"b\\\\\\n\\x07é\\u0085\""
        );
    }
}
