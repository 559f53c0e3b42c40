//! What a debugger has set: the breakpoints in guest memory, and those in the four debug registers,
//! as KVM_SET_GUEST_DEBUG is told of them. Decides what a debug exit was for; stops nothing.

use std::collections::BTreeMap;

use gdbstub::target::ext::breakpoints::WatchKind;
use kvm_bindings::{
    KVM_GUESTDBG_BLOCKIRQ, KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_INJECT_BP, KVM_GUESTDBG_SINGLESTEP,
    KVM_GUESTDBG_USE_HW_BP, KVM_GUESTDBG_USE_SW_BP, kvm_debug_exit_arch, kvm_guest_debug,
};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::abilities::Abilities;

/// The instruction INT3.
const INT3: u8 = 0xcc;
/// Vector of the exception that INT3 raises.
const BREAKPOINT_EXCEPTION: u32 = 3;

/// DR7: always one.
const DR7_FIXED: u64 = 1 << 10;

/// How many debug registers hold an address.
const SLOTS: usize = 4;

/// What a debugger has set.
#[derive(Debug)]
pub struct Breakpoints {
    abilities: Abilities,
    /// By virtual address: where the byte is, and what it was while INT3 is there.
    patches: BTreeMap<u64, Patch>,
    slots: [Option<Slot>; SLOTS],
}

#[derive(Debug)]
struct Patch {
    place: GuestAddress,
    original: Option<u8>,
}

/// The content of a debug register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    address: u64,
    /// In bytes: 1, 2, 4 or 8.
    len: u8,
    kind: Kind,
    /// The debugger's own name for what this is a part of.
    of: (u64, u64),
}

/// What a debug register watches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Execution, for a breakpoint that is to be in memory or not.
    Execute {
        soft: bool,
    },
    Access(WatchKind),
}

/// What stopped a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hit {
    /// A breakpoint that was asked for in memory.
    Soft,
    /// A breakpoint in a debug register.
    Hard,
    /// A watchpoint, at this address.
    Watch(WatchKind, u64),
    /// A step that is done.
    Step,
    /// None of these: it is the guest's own INT3.
    Guest,
}

/// How a vCPU is to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// For one instruction alone.
    pub step: bool,
    /// After the guest's own INT3 has been handed to it.
    pub inject: bool,
}

impl Breakpoints {
    /// None, on a KVM that can do this.
    #[must_use]
    pub fn new(abilities: Abilities) -> Self {
        Self {
            abilities,
            patches: BTreeMap::new(),
            slots: [None; SLOTS],
        }
    }

    /// What the KVM can do.
    #[must_use]
    pub fn abilities(&self) -> Abilities {
        self.abilities
    }

    /// Sets a breakpoint in memory, at the virtual address `address`, which is at `place`. Where KVM
    /// does not tell of INT3 it takes a debug register; `false` where none is left, or of no use.
    pub fn add_soft(&mut self, address: u64, place: GuestAddress) -> bool {
        if !self.abilities.int3 {
            return self.add_execute(address, true);
        }
        self.patches.entry(address).or_insert(Patch {
            place,
            original: None,
        });
        true
    }

    /// Removes it; `false` where there is none.
    pub fn remove_soft(&mut self, address: u64) -> bool {
        if !self.abilities.int3 {
            return self.remove_execute(address, true);
        }
        self.patches.remove(&address).is_some()
    }

    /// Sets a breakpoint in a debug register; `false` where none is left.
    pub fn add_hard(&mut self, address: u64) -> bool {
        self.add_execute(address, false)
    }

    /// Removes it; `false` where there is none.
    pub fn remove_hard(&mut self, address: u64) -> bool {
        self.remove_execute(address, false)
    }

    fn add_execute(&mut self, address: u64, soft: bool) -> bool {
        if !self.abilities.execute {
            return false;
        }
        let kind = Kind::Execute { soft };
        self.add(&[Slot {
            address,
            len: 1,
            kind,
            of: (address, 1),
        }])
    }

    fn remove_execute(&mut self, address: u64, soft: bool) -> bool {
        self.remove((address, 1), Kind::Execute { soft })
    }

    /// Watches `len` bytes at the virtual address `address`, in as many debug registers as that
    /// takes; `false` where so many are not left. The CPU cannot watch for reads alone: a debugger
    /// that asks for that looks itself whether the value is another.
    pub fn add_watch(&mut self, address: u64, len: u64, watch: WatchKind) -> bool {
        let slots: Vec<Slot> = pieces(address, len)
            .take(SLOTS + 1)
            .map(|(start, piece)| Slot {
                address: start,
                len: piece,
                kind: Kind::Access(watch),
                of: (address, len),
            })
            .collect();
        self.add(&slots)
    }

    /// Watches no longer; `false` where it was not watched.
    pub fn remove_watch(&mut self, address: u64, len: u64, watch: WatchKind) -> bool {
        self.remove((address, len), Kind::Access(watch))
    }

    fn add(&mut self, slots: &[Slot]) -> bool {
        // gdb may set again what is set.
        if slots.iter().all(|slot| self.slots.contains(&Some(*slot))) {
            return !slots.is_empty();
        }
        let free = self.slots.iter_mut().filter(|slot| slot.is_none());
        let free: Vec<_> = free.collect();
        if free.len() < slots.len() {
            return false;
        }
        for (place, slot) in free.into_iter().zip(slots) {
            *place = Some(*slot);
        }
        true
    }

    fn remove(&mut self, of: (u64, u64), kind: Kind) -> bool {
        let mut any = false;
        for place in &mut self.slots {
            if place.is_some_and(|slot| slot.of == of && slot.kind == kind) {
                *place = None;
                any = true;
            }
        }
        any
    }

    /// Puts INT3 where breakpoints are: before the guest runs.
    pub fn patch(&mut self, memory: &GuestMemoryMmap) {
        for (address, patch) in &mut self.patches {
            // Another address may stand for the same byte, which has its INT3 then.
            let original = memory
                .read_obj(patch.place)
                .ok()
                .filter(|&byte| byte != INT3);
            if original.is_some() && memory.write_obj(INT3, patch.place).is_err() {
                log::error!("cannot set the breakpoint at {address:#x}");
            }
            patch.original = original;
        }
    }

    /// Takes INT3 away again: once the guest has stopped. What the guest has written there since is
    /// left.
    pub fn unpatch(&mut self, memory: &GuestMemoryMmap) {
        for (address, patch) in &mut self.patches {
            if let Some(byte) = patch.original.take()
                && memory.read_obj(patch.place).ok() == Some(INT3)
                && memory.write_obj(byte, patch.place).is_err()
            {
                log::error!("cannot take away the breakpoint at {address:#x}");
            }
        }
    }

    /// What KVM is to be told of a vCPU.
    #[must_use]
    pub fn guest_debug(&self, run: Run) -> kvm_guest_debug {
        let mut debug = kvm_guest_debug::default();
        if !self.patches.is_empty() {
            debug.control |= KVM_GUESTDBG_USE_SW_BP;
        }
        let [dr0, dr1, dr2, dr3, _, _, _, dr7] = &mut debug.arch.debugreg;
        for (index, (register, slot)) in
            [dr0, dr1, dr2, dr3].into_iter().zip(self.slots).enumerate()
        {
            if let Some(slot) = slot {
                debug.control |= KVM_GUESTDBG_USE_HW_BP;
                *register = slot.address;
                *dr7 |= DR7_FIXED | slot.control() << (16 + 4 * index) | 2 << (2 * index);
            }
        }
        if run.step {
            debug.control |= KVM_GUESTDBG_SINGLESTEP;
            if self.abilities.block_interrupts {
                debug.control |= KVM_GUESTDBG_BLOCKIRQ;
            }
        }
        if debug.control != 0 {
            debug.control |= KVM_GUESTDBG_ENABLE;
        }
        if run.inject {
            debug.control |= KVM_GUESTDBG_INJECT_BP;
        }
        debug
    }

    /// What `exit` was for. `place` is where its address is in memory.
    #[must_use]
    pub fn hit(&self, exit: &kvm_debug_exit_arch, place: Option<GuestAddress>) -> Hit {
        if exit.exception == BREAKPOINT_EXCEPTION {
            let ours = |patch: &Patch| Some(patch.place) == place;
            return if self.patches.values().any(ours) {
                Hit::Soft
            } else {
                Hit::Guest
            };
        }
        // A CPU may also tell of registers that are off.
        let matches = |index: usize| exit.dr6 >> index & 1 != 0;
        let slots = self.slots.iter().enumerate();
        match slots
            .filter(|&(index, _)| matches(index))
            .find_map(|(_, slot)| *slot)
        {
            Some(slot) => match slot.kind {
                Kind::Execute { soft: true } => Hit::Soft,
                Kind::Execute { soft: false } => Hit::Hard,
                Kind::Access(watch) => Hit::Watch(watch, slot.address),
            },
            None => Hit::Step,
        }
    }
}

impl Slot {
    /// Its four bits in DR7: what is watched for, and the length.
    fn control(self) -> u64 {
        let access = match self.kind {
            Kind::Execute { .. } => 0,
            Kind::Access(WatchKind::Write) => 1,
            Kind::Access(WatchKind::Read | WatchKind::ReadWrite) => 3,
        };
        let len = match self.len {
            2 => 1,
            4 => 3,
            8 => 2,
            _ => 0,
        };
        len << 2 | access
    }
}

/// The range cut into what a debug register can watch: 1, 2, 4 or 8 bytes, aligned.
fn pieces(mut address: u64, mut len: u64) -> impl Iterator<Item = (u64, u8)> {
    std::iter::from_fn(move || {
        let piece = [8, 4, 2, 1]
            .into_iter()
            .find(|&piece| len >= u64::from(piece) && address.is_multiple_of(piece.into()))?;
        let start = address;
        address = address.checked_add(piece.into())?;
        len -= u64::from(piece);
        Some((start, piece))
    })
}

#[cfg(test)]
#[path = "breakpoints_tests.rs"]
mod tests;
