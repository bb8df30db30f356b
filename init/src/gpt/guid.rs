//! GUIDs as text and as a disk has them: the first three fields are little-endian there (UEFI 2.10, appendix A).

/// As firmware and boot loader write it, lower case.
pub fn text(guid: &[u8; 16]) -> String {
    let digits: String = swap(*guid).iter().map(|byte| format!("{byte:02x}")).collect();
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

/// As the disk has it; `None` where the text is no GUID.
pub fn bytes(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.split('-').collect();
    let plain = digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    u128::from_str_radix(&digits, 16).ok().filter(|_| plain).map(|number| swap(number.to_be_bytes()))
}

fn swap(guid: [u8; 16]) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h, rest @ ..] = guid;
    let [i, j, k, l, m, n, o, p] = rest;
    [d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p]
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine::disk::Partition;

    #[test]
    fn guid_is_written_as_firmware_and_boot_loader_do() {
        let esp = [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];
        assert_eq!(text(&esp), Partition::Esp.type_guid());
        for partition in Partition::ALL {
            assert_eq!(bytes(partition.type_guid()).map(|guid| text(&guid)).as_deref(), Some(partition.type_guid()));
        }
        assert_eq!((bytes("ab"), bytes(&"+".repeat(32)), bytes("")), (None, None, None));
    }
}
