//! The kernel's text formats, from bytes and without allocating. A line or key that is not known is passed over: kernels add some.

use crate::sample::{Cpu, Io, Memory, MemoryEvents, Pressure, Throttling};

/// Lines of `key value`, as in `cpu.stat`.
pub fn flat(text: &[u8]) -> impl Iterator<Item = (&[u8], u64)> {
    text.split(|byte| *byte == b'\n').filter_map(|line| {
        let space = line.iter().position(|byte| *byte == b' ')?;
        Some((&line[..space], number(&line[space + 1..])?))
    })
}

/// The same, each line put where it belongs; `None` of a text without any.
pub fn filled<T>(text: &[u8], mut value: T, mut put: impl FnMut(&mut T, &[u8], u64)) -> Option<T> {
    let mut seen = false;
    for (key, number) in flat(text) {
        seen = true;
        put(&mut value, key, number);
    }
    seen.then_some(value)
}

/// A decimal number at the start of the text, after spaces; `None` where there is none (`max`).
pub fn number(text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii_start();
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    let mut value = None::<u64>;
    for digit in digits {
        value = Some(value.unwrap_or(0).checked_mul(10)?.checked_add(u64::from(digit - b'0'))?);
    }
    value
}

/// Words that spaces or tabs part.
pub fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty())
}

pub fn cpu(text: &[u8]) -> Option<Cpu> {
    let (mut cpu, mut usage, mut throttling) = (Cpu::default(), None, None::<Throttling>);
    for (key, value) in flat(text) {
        match key {
            b"usage_usec" => usage = Some(value),
            b"user_usec" => cpu.user_usec = value,
            b"system_usec" => cpu.system_usec = value,
            b"nr_periods" => throttling.get_or_insert_default().periods = value,
            b"nr_throttled" => throttling.get_or_insert_default().throttled_periods = value,
            b"throttled_usec" => throttling.get_or_insert_default().throttled_usec = value,
            _ => {}
        }
    }
    Some(Cpu { usage_usec: usage?, throttling, ..cpu })
}

pub fn memory(current: u64, stat: &[u8]) -> Option<Memory> {
    filled(stat, Memory { current, ..Memory::default() }, |memory, key, value| match key {
        b"anon" => memory.anon = value,
        b"file" => memory.file = value,
        b"inactive_file" => memory.inactive_file = value,
        b"file_mapped" => memory.file_mapped = value,
        b"kernel" => memory.kernel = value,
        b"pgfault" => memory.page_faults = value,
        b"pgmajfault" => memory.major_page_faults = value,
        _ => {}
    })
}

pub fn memory_events(text: &[u8]) -> Option<MemoryEvents> {
    filled(text, MemoryEvents::default(), |events, key, value| match key {
        b"high" => events.high = value,
        b"max" => events.max = value,
        b"oom" => events.oom = value,
        b"oom_kill" => events.oom_kill = value,
        _ => {}
    })
}

/// Lines of `8:0 rbytes=1 wbytes=2 rios=3 wios=4 ...`, added up. A cgroup that has done no I/O has none, and has read nothing.
pub fn io(text: &[u8]) -> Io {
    let mut io = Io::default();
    for word in words(text) {
        let Some(equals) = word.iter().position(|byte| *byte == b'=') else { continue };
        let Some(value) = number(&word[equals + 1..]) else { continue };
        let counter = match &word[..equals] {
            b"rbytes" => &mut io.read_bytes,
            b"wbytes" => &mut io.written_bytes,
            b"rios" => &mut io.reads,
            b"wios" => &mut io.writes,
            _ => continue,
        };
        *counter = counter.saturating_add(value);
    }
    io
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=1` and the same for `full`.
pub fn pressure(text: &[u8]) -> Option<Pressure> {
    let (mut some, mut full) = (None, None);
    for line in text.split(|byte| *byte == b'\n') {
        let total = words(line).find_map(|word| number(word.strip_prefix(b"total=")?));
        match words(line).next() {
            Some(b"some") => some = total,
            Some(b"full") => full = total,
            _ => {}
        }
    }
    Some(Pressure { some_usec: some?, full_usec: full })
}

/// `cpu.max`: `<quota or max> <period>`, in microseconds; as CPUs.
pub fn cpu_max(text: &[u8]) -> Option<f64> {
    let mut words = words(text).map(number);
    let (quota, period) = (words.next()??, words.next()??);
    (period > 0).then(|| quota as f64 / period as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cpu_with_and_without_the_controller() {
        let bare = b"usage_usec 30\nuser_usec 10\nsystem_usec 20\nnice_usec 0\n";
        assert_eq!(cpu(bare), Some(Cpu { usage_usec: 30, user_usec: 10, system_usec: 20, throttling: None }));
        let full = b"usage_usec 30\nuser_usec 10\nsystem_usec 20\nnr_periods 7\nnr_throttled 2\nthrottled_usec 9\nnr_bursts 0\n";
        let throttling = Throttling { periods: 7, throttled_periods: 2, throttled_usec: 9 };
        assert_eq!(cpu(full).unwrap().throttling, Some(throttling));
        assert_eq!(cpu(b""), None);
    }

    #[test]
    fn working_set_is_usage_without_inactive_files() {
        let memory = memory(1000, b"anon 300\nfile 600\nkernel 50\ninactive_file 400\npgfault 5\npgmajfault 1\nfile_mapped 20\n").unwrap();
        assert_eq!((memory.working_set(), memory.anon, memory.file, memory.major_page_faults), (600, 300, 600, 1));
        assert_eq!(Memory { current: 5, inactive_file: 6, ..memory }.working_set(), 0);
    }

    #[test]
    fn io_of_several_devices_is_added_up() {
        let text = b"8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n253:1 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=9 dios=9\n";
        assert_eq!(io(text), Io { read_bytes: 11, written_bytes: 22, reads: 4, writes: 6 });
        assert_eq!(io(b""), Io::default());
    }

    #[test]
    fn pressure_with_and_without_full() {
        let line = "avg10=1.00 avg60=0.50 avg300=0.10 total=";
        let both = format!("some {line}123\nfull {line}45\n");
        assert_eq!(pressure(both.as_bytes()), Some(Pressure { some_usec: 123, full_usec: Some(45) }));
        let some = format!("some {line}123\n");
        assert_eq!(pressure(some.as_bytes()), Some(Pressure { some_usec: 123, full_usec: None }));
        assert_eq!(pressure(b""), None);
    }

    #[test]
    fn no_limit_is_none() {
        assert_eq!(cpu_max(b"150000 100000\n"), Some(1.5));
        assert_eq!(cpu_max(b"max 100000\n"), None);
        assert_eq!(number(b"max\n"), None);
        assert_eq!(number(b"99999999999999999999999\n"), None);
    }

    proptest! {
        #[test]
        fn nothing_that_could_stand_there_panics(text: Vec<u8>) {
            let _ = (cpu(&text), memory(0, &text), memory_events(&text), io(&text), pressure(&text), cpu_max(&text));
        }
    }
}
