//! The machine that is measured on, as it describes itself, and what of that makes figures less
//! trustworthy. Reads files, changes nothing; what is not there is left out.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::param::clock_ticks_per_second;

use super::report::Host;

/// Load average from which on others are assumed to be at work.
const HIGH_LOAD: f64 = 0.5;

/// Flags of `/proc/cpuinfo` that say how far its TSC can be trusted.
const TSC_FLAGS: [&str; 3] = ["constant_tsc", "nonstop_tsc", "tsc_known_freq"];

/// Files of the machine.
pub struct System {
    root: PathBuf,
}

impl System {
    /// Those under `root`, which is `/` but for tests.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.into() }
    }

    /// The machine's description.
    #[must_use]
    pub fn describe(&self) -> Host {
        let facts: [(&str, Option<String>); 15] = [
            ("CPU", self.cpuinfo("model name")),
            ("CPUs", Some(self.cpus())),
            ("Kernel", self.read("proc/sys/kernel/osrelease")),
            ("KVM module", self.kvm()),
            ("KVM parameters", self.kvm_parameters()),
            ("Nested", Some(self.nested())),
            ("Mitigations", self.mitigations()),
            ("Governor", self.governor()),
            ("Turbo", self.turbo()),
            ("SMT", self.switch("sys/devices/system/cpu/smt/active")),
            (
                "Idle states",
                self.read("sys/devices/system/cpu/cpuidle/current_driver"),
            ),
            ("TSC", self.tsc()),
            (
                "Clock source",
                self.read("sys/devices/system/clocksource/clocksource0/current_clocksource"),
            ),
            (
                "Transparent huge pages",
                self.read("sys/kernel/mm/transparent_hugepage/enabled"),
            ),
            ("Load average", self.read("proc/loadavg")),
        ];
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Host {
            time: now.map_or(0, |since| since.as_secs()),
            vmm: env!("CARGO_PKG_VERSION").into(),
            facts: facts
                .into_iter()
                .filter_map(|(name, fact)| Some((name.into(), fact?)))
                .collect(),
        }
    }

    /// What about this machine makes figures less trustworthy, a sentence each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.count_cpus() == 1 {
            warnings.push("There is one CPU only: the threads of a machine take turns.".into());
        }
        if self.has_flag("hypervisor") {
            warnings.push(
                "This is a virtual machine: what exits cost depends on the hypervisor below."
                    .into(),
            );
        }
        if let Some(governor) = self.governor().filter(|name| name != "performance") {
            warnings.push(format!(
                "The frequency of the CPUs changes as governor '{governor}' decides: use \
                 'performance'."
            ));
        }
        if let Some(load) = self.load().filter(|&load| load >= HIGH_LOAD) {
            warnings.push(format!(
                "The load average was {load:.2} at the start: others are at work."
            ));
        }
        let modules = self.kvm_modules();
        if !modules.is_empty() && !modules.iter().any(|name| is_hardware(name)) {
            warnings.push(format!(
                "KVM does not use VT-x or AMD-V here ({}): what exits cost is that of software.",
                modules.join(", ")
            ));
        }
        warnings
    }

    /// CPU time that a hypervisor has taken from this machine since it booted, of all CPUs.
    #[must_use]
    pub fn stolen(&self) -> Duration {
        let stat = self.read("proc/stat").unwrap_or_default();
        let line = stat.lines().next().unwrap_or_default();
        let ticks = line.split_whitespace().nth(8);
        let ticks: u64 = ticks.and_then(|ticks| ticks.parse().ok()).unwrap_or(0);
        Duration::from_millis(ticks.saturating_mul(1000) / clock_ticks_per_second().max(1))
    }

    /// What `path` holds, if it can be read and is not empty.
    fn read(&self, path: &str) -> Option<String> {
        let text = fs::read(self.root.join(path)).ok()?;
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    fn switch(&self, path: &str) -> Option<String> {
        let on = self.read(path)?;
        Some(if on == "1" { "on" } else { "off" }.into())
    }

    /// Names in the directory `path`, sorted.
    fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.root.join(path)).into_iter().flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// The first value of `key` in `/proc/cpuinfo`.
    fn cpuinfo(&self, key: &str) -> Option<String> {
        self.read("proc/cpuinfo")?.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            (found.trim() == key).then(|| value.trim().to_owned())
        })
    }

    fn has_flag(&self, flag: &str) -> bool {
        let flags = self.cpuinfo("flags").unwrap_or_default();
        flags.split_whitespace().any(|found| found == flag)
    }

    fn count_cpus(&self) -> usize {
        let cpuinfo = self.read("proc/cpuinfo").unwrap_or_default();
        let lines = cpuinfo.lines();
        lines.filter(|line| line.starts_with("processor")).count()
    }

    fn cpus(&self) -> String {
        let online = self.count_cpus();
        match std::thread::available_parallelism() {
            Ok(usable) => format!("{online} online, {usable} for this process"),
            Err(_) => format!("{online} online"),
        }
    }

    /// Modules of KVM besides `kvm` itself.
    fn kvm_modules(&self) -> Vec<String> {
        let mut names = self.names("sys/module");
        names.retain(|name| name.starts_with("kvm_"));
        names
    }

    fn kvm(&self) -> Option<String> {
        match self.kvm_modules().as_slice() {
            [] => (self.root.join("sys/module/kvm").exists()).then(|| "kvm".into()),
            modules => Some(modules.join(", ")),
        }
    }

    fn kvm_parameters(&self) -> Option<String> {
        // Those that change what exits cost.
        const TELLING: [&str; 14] = [
            "avic",
            "enable_apicv",
            "enable_pmu",
            "ept",
            "halt_poll_ns",
            "mmio_caching",
            "nested",
            "npt",
            "nx_huge_pages",
            "ple_gap",
            "preemption_timer",
            "pvm_emul_batch",
            "tdp_mmu",
            "vgif",
        ];
        let modules = [vec!["kvm".to_owned()], self.kvm_modules()].concat();
        let all = modules
            .iter()
            .flat_map(|module| TELLING.map(|name| (module, name)));
        let parameters = all.filter_map(|(module, name)| {
            let value = self.read(&format!("sys/module/{module}/parameters/{name}"))?;
            Some(format!("{module}.{name}={value}"))
        });
        some_joined(parameters.collect(), " ")
    }

    fn nested(&self) -> String {
        if !self.has_flag("hypervisor") {
            return "no: the CPU reports no hypervisor".into();
        }
        let product = [
            "sys/class/dmi/id/sys_vendor",
            "sys/class/dmi/id/product_name",
            "sys/hypervisor/type",
        ];
        let product = product.iter().filter_map(|path| self.read(path)).collect();
        let product = some_joined(product, " ").map(|product| format!(" ({product})"));
        format!(
            "yes: this is a virtual machine{}",
            product.unwrap_or_default()
        )
    }

    fn mitigations(&self) -> Option<String> {
        let directory = "sys/devices/system/cpu/vulnerabilities";
        let mut mitigated = Vec::new();
        let mut vulnerable = Vec::new();
        for name in self.names(directory) {
            let state = self
                .read(&format!("{directory}/{name}"))
                .unwrap_or_default();
            if state.starts_with("Vulnerable") {
                vulnerable.push(name);
            } else if let Some(how) = state.strip_prefix("Mitigation: ") {
                // What comes after the first is detail.
                let how = how.split([';', ',']).next().unwrap_or(how);
                mitigated.push(format!("{name} ({how})"));
            }
        }
        let mitigated = some_joined(mitigated, ", ").map(|names| format!("against {names}"));
        let vulnerable = some_joined(vulnerable, ", ").map(|names| format!("none against {names}"));
        some_joined(mitigated.into_iter().chain(vulnerable).collect(), "; ")
    }

    fn governor(&self) -> Option<String> {
        self.read("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    }

    fn turbo(&self) -> Option<String> {
        let off = self.switch("sys/devices/system/cpu/intel_pstate/no_turbo");
        match off.as_deref() {
            Some("on") => Some("off".into()),
            Some(_) => Some("on".into()),
            None => self.switch("sys/devices/system/cpu/cpufreq/boost"),
        }
    }

    fn tsc(&self) -> Option<String> {
        let flags = TSC_FLAGS.into_iter().filter(|flag| self.has_flag(flag));
        some_joined(flags.map(Into::into).collect(), " ")
    }

    fn load(&self) -> Option<f64> {
        let load = self.read("proc/loadavg")?;
        load.split_whitespace().next()?.parse().ok()
    }
}

/// `parts` as one text, if there are any.
fn some_joined(parts: Vec<String>, separator: &str) -> Option<String> {
    (!parts.is_empty()).then(|| parts.join(separator))
}

fn is_hardware(module: &str) -> bool {
    matches!(module, "kvm_intel" | "kvm_amd")
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
