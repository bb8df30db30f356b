//! How warm the machine is, by the kernel's sensors (`/sys/class/thermal`, `/sys/class/hwmon`), under node_exporter's names.
//!
//! Reading a sensor may take the bus or the disk that it sits on, for milliseconds or, where that hangs, for as long as it hangs: the collector's
//! sweeps leave sensors alone, and whoever scrapes reads them where it can wait.

use std::fs;
use std::path::{Path, PathBuf};

use crate::open_metrics::Text;
use crate::open_metrics::text::{Kind, labels};

/// Sensors that are told of; large servers have about a hundred.
const MOST_SENSORS: usize = 256;

/// Where a temperature was read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sensor {
    /// A thermal zone, by its number and its type (`x86_pkg_temp`).
    Zone { zone: String, kind: String },
    /// A chip's sensor (`temp1`); `chip` is the device that it belongs to, as node_exporter writes it, and `name` what its driver says.
    Chip { chip: String, name: String, sensor: String },
}

#[derive(Debug, Clone, PartialEq)]
pub struct Temperature {
    pub sensor: Sensor,
    pub celsius: f64,
}

/// All that the sensors below `sys` (usually /sys) say now, in the order of their names. One that says nothing is left out.
pub fn read(sys: &Path) -> Vec<Temperature> {
    let zones = entries(&sys.join("class/thermal"), "thermal_zone").into_iter().filter_map(|(zone, path)| {
        let kind = text(&path.join("type"))?;
        Some(Temperature { sensor: Sensor::Zone { zone, kind }, celsius: celsius(&path.join("temp"))? })
    });
    let chips = entries(&sys.join("class/hwmon"), "hwmon").into_iter().flat_map(|(_, path)| chip(&path));
    let mut all: Vec<Temperature> = zones.chain(chips).take(MOST_SENSORS).collect();
    all.sort_by(|a, b| a.sensor.cmp(&b.sensor));
    // Two chips of one device, which have the same name, would be one series twice.
    all.dedup_by(|a, b| same_series(&a.sensor, &b.sensor));
    all
}

fn same_series(a: &Sensor, b: &Sensor) -> bool {
    match (a, b) {
        (Sensor::Zone { .. }, Sensor::Zone { .. }) => a == b,
        (Sensor::Chip { chip, sensor, .. }, Sensor::Chip { chip: other, sensor: another, .. }) => chip == other && sensor == another,
        _ => false,
    }
}

fn chip(path: &Path) -> Vec<Temperature> {
    let name = text(&path.join("name")).unwrap_or_default();
    let Some(chip) = device(path).or_else(|| Some(clean(&name)).filter(|name| !name.is_empty())) else { return Vec::new() };
    let inputs = entries(path, "temp").into_iter().filter_map(|(rest, input)| {
        let number = rest.strip_suffix("_input")?;
        let sensor = Sensor::Chip { chip: chip.clone(), name: name.clone(), sensor: format!("temp{number}") };
        Some(Temperature { sensor, celsius: celsius(&input)? })
    });
    inputs.collect()
}

/// The chip's device: the last two parts of where it is in the tree of devices, as `platform_coretemp_0` (node_exporter, hwmonName).
fn device(path: &Path) -> Option<String> {
    let device = fs::canonicalize(path.join("device")).ok()?;
    let part = |path: &Path| path.file_name().and_then(|name| name.to_str()).map(clean).filter(|name| !name.is_empty());
    let name = part(&device)?;
    Some(match device.parent().and_then(part) {
        Some(parent) => format!("{parent}_{name}"),
        None => name,
    })
}

/// Lower case, and `_` for what no name may have (node_exporter, cleanMetricName).
fn clean(name: &str) -> String {
    let lower = name.to_lowercase();
    let clean: String = lower.chars().map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == ':' { c } else { '_' }).collect();
    clean.trim_matches('_').to_owned()
}

/// What is in the directory under names that begin so: the rest of each name, and its path.
fn entries(directory: &Path, prefix: &str) -> Vec<(String, PathBuf)> {
    let found = fs::read_dir(directory).into_iter().flatten().flatten();
    let found = found.filter_map(|entry| Some((entry.file_name().to_str()?.strip_prefix(prefix)?.to_owned(), entry.path())));
    let mut found: Vec<(String, PathBuf)> = found.collect();
    found.sort();
    found
}

fn text(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// The kernel tells thousandths of a degree, below zero too.
fn celsius(path: &Path) -> Option<f64> {
    Some(text(path)?.parse::<i64>().ok()? as f64 / 1000.0)
}

/// That there is no sensor, as in virtual machines, is told; a temperature of it is not.
pub fn render(temperatures: &[Temperature], into: &mut Text) {
    into.single("corten_metrics_temperature_sensors", Kind::Gauge, "Sensors of temperature that answered", Some(temperatures.len() as f64));
    let zones = temperatures.iter().filter_map(|one| match &one.sensor {
        Sensor::Zone { zone, kind } => Some((labels([("type", &**kind), ("zone", zone)]), one.celsius)),
        Sensor::Chip { .. } => None,
    });
    family("node_thermal_zone_temp", "Temperature of a thermal zone, in degrees Celsius", zones, into);
    let chips = temperatures.iter().filter_map(|one| match &one.sensor {
        Sensor::Chip { chip, sensor, .. } => Some((labels([("chip", &**chip), ("sensor", sensor)]), one.celsius)),
        Sensor::Zone { .. } => None,
    });
    family("node_hwmon_temp_celsius", "Temperature that a chip measures", chips, into);
    let mut names: Vec<(&str, &str)> = Vec::new();
    names.extend(temperatures.iter().filter_map(|one| match &one.sensor {
        Sensor::Chip { chip, name, .. } if !name.is_empty() => Some((&**chip, &**name)),
        _ => None,
    }));
    names.dedup_by_key(|(chip, _)| *chip);
    let names = names.into_iter().map(|(chip, name)| (labels([("chip", chip), ("chip_name", name)]), 1.0));
    family("node_hwmon_chip_names", "What the driver calls a chip", names, into);
}

fn family(name: &'static str, help: &str, samples: impl Iterator<Item = (String, f64)>, into: &mut Text) {
    let mut samples = samples.peekable();
    if samples.peek().is_some() {
        into.family(name, Kind::Gauge, help);
    }
    samples.for_each(|(labels, value)| into.sample(&labels, value));
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::open_metrics::Format;

    fn put(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn rendered(sys: &Path) -> String {
        let mut text = Text::new(Format::Prometheus);
        render(&read(sys), &mut text);
        text.finish().lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn zones_and_chips_as_node_exporter_names_them() {
        let sys = tempfile::tempdir().unwrap();
        let (sys, class) = (sys.path(), sys.path().join("class"));
        put(&class.join("thermal/thermal_zone0/type"), "x86_pkg_temp\n");
        put(&class.join("thermal/thermal_zone0/temp"), "47500\n");
        put(&class.join("thermal/thermal_zone1/type"), "asleep\n");
        put(&class.join("thermal/cooling_device0/type"), "Processor\n");
        put(&class.join("hwmon/hwmon0/name"), "coretemp\n");
        put(&class.join("hwmon/hwmon0/temp1_input"), "47000\n");
        put(&class.join("hwmon/hwmon0/temp1_crit"), "100000\n");
        put(&class.join("hwmon/hwmon0/temp2_input"), "-1500\n");
        put(&class.join("hwmon/hwmon0/fan1_input"), "900\n");
        put(&class.join("hwmon/hwmon1/name"), "drivetemp\n");
        put(&class.join("hwmon/hwmon1/temp1_input"), "31000\n");
        put(&sys.join("devices/platform/coretemp.0/uevent"), "");
        symlink(sys.join("devices/platform/coretemp.0"), class.join("hwmon/hwmon0/device")).unwrap();
        assert_eq!(
            rendered(sys),
            "corten_metrics_temperature_sensors 4\n\
             node_thermal_zone_temp{type=\"x86_pkg_temp\",zone=\"0\"} 47.5\n\
             node_hwmon_temp_celsius{chip=\"drivetemp\",sensor=\"temp1\"} 31\n\
             node_hwmon_temp_celsius{chip=\"platform_coretemp_0\",sensor=\"temp1\"} 47\n\
             node_hwmon_temp_celsius{chip=\"platform_coretemp_0\",sensor=\"temp2\"} -1.5\n\
             node_hwmon_chip_names{chip=\"drivetemp\",chip_name=\"drivetemp\"} 1\n\
             node_hwmon_chip_names{chip=\"platform_coretemp_0\",chip_name=\"coretemp\"} 1\n"
        );
    }

    #[test]
    fn a_machine_without_sensors_says_so() {
        let sys = tempfile::tempdir().unwrap();
        assert_eq!(rendered(sys.path()), "corten_metrics_temperature_sensors 0\n");
    }

    #[test]
    fn sensors_of_one_name_are_one_series_and_there_are_not_endlessly_many() {
        let sys = tempfile::tempdir().unwrap();
        for number in 0..2 {
            put(&sys.path().join(format!("class/hwmon/hwmon{number}/name")), "nvme\n");
            put(&sys.path().join(format!("class/hwmon/hwmon{number}/temp1_input")), "31000\n");
        }
        assert_eq!(read(sys.path()).len(), 1);
        for number in 0..2 * MOST_SENSORS {
            put(&sys.path().join(format!("class/thermal/thermal_zone{number}/type")), "acpitz\n");
            put(&sys.path().join(format!("class/thermal/thermal_zone{number}/temp")), "1000\n");
        }
        assert_eq!(read(sys.path()).len(), MOST_SENSORS);
    }
}
