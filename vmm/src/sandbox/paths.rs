//! Keeps a thread from every path, TCP port and process of the host by landlock, as far as the
//! kernel can. What is open already stays open.

use std::os::fd::OwnedFd;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, Erratum, LandlockStatus, PathBeneath, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, Scope,
};

/// How much of this the kernel does: the version of its interface, 0 where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paths(u32);

/// The version of the interface that the VMM is written for.
const WANTED: ABI = ABI::V6;

/// What came with which version of the interface, the first aside, which denies to open or to
/// change anything by its path.
const SINCE: [(u32, &str); 3] = [(4, "TCP"), (5, "ioctls of devices"), (6, "processes")];

impl Paths {
    /// Nothing is denied.
    pub const NOT_DENIED: Self = Self(0);

    /// Denies this thread, and those that it may start, all that this kernel can deny, but to remove
    /// files below the directory `removable`, if there is one.
    ///
    /// # Errors
    /// Where the kernel refuses what it says that it can do.
    pub fn deny(removable: Option<&OwnedFd>) -> Result<Self, RulesetError> {
        let (scope, known) = scope();
        let mut rules = Ruleset::default()
            .handle_access(AccessFs::from_all(WANTED))?
            .handle_access(AccessNet::from_all(WANTED))?
            .scope(scope)?
            .create()?;
        if let Some(directory) = removable {
            rules = rules.add_rule(PathBeneath::new(directory, AccessFs::RemoveFile))?;
        }
        let status = rules.restrict_self()?;
        Ok(match status.landlock {
            LandlockStatus::Available { effective_abi, .. } => {
                Self((effective_abi as u32).min(known))
            }
            LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => Self::NOT_DENIED,
        })
    }

    /// What a kernel with this version of the interface denies.
    #[cfg(test)]
    pub const fn of_version(version: u32) -> Self {
        Self(version)
    }

    /// What the kernel does not deny.
    pub fn shortfall(self) -> Option<String> {
        if self == Self::NOT_DENIED {
            return Some("landlock".into());
        }
        let lacks = SINCE.iter().filter(|(since, _)| self.0 < *since);
        let lacks: Vec<&str> = lacks.map(|(_, what)| *what).collect();
        (!lacks.is_empty()).then(|| format!("landlock for {} (ABI {})", lacks.join(", "), self.0))
    }
}

/// What is out of a thread's reach besides paths and ports, and the version of the interface that
/// this is worth at most. Each thread denies itself, and so is in a domain of its own: a kernel that
/// keeps such threads of one process from signalling each other (erratum 2) is to deny no signals,
/// since no vCPU could be stopped.
fn scope() -> (BitFlags<Scope>, u32) {
    if Erratum::current().contains(Erratum::ScopedSignalHandling) {
        (Scope::from_all(WANTED), u32::MAX)
    } else {
        (Scope::from_all(WANTED) & !Scope::Signal, 5)
    }
}
