//! The ACPI tables: how a stock kernel learns of the CPUs, the interrupt controller, the serial
//! port, the disks and the registers that end a run. Hardware-reduced ACPI, which promises none of
//! a PC's legacy devices. Section numbers are those of ACPI 6.5.

use acpi_tables::Aml;
use acpi_tables::aml::{
    Device, EISAName, IO, Interrupt, Memory32Fixed, Name, ONE, Package, ResourceTemplate, Scope,
    ZERO,
};
use acpi_tables::fadt::{FADT, FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{
    EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic,
};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use spec::board;
use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use crate::layout::{self, VirtioMmio};

const OEM_ID: [u8; 6] = *b"VMM   ";
const OEM_TABLE_ID: [u8; 8] = *b"VMM     ";
const OEM_REVISION: u32 = 1;

/// Revision of a DSDT whose integers are 64 bits wide.
const DSDT_REVISION: u8 = 2;
/// Size of a table's header, in bytes.
const HEADER_SIZE: u32 = 36;
/// What tables are aligned to, in bytes; the RSDP must be.
const ALIGNMENT: u64 = 16;

/// IAPC_BOOT_ARCH (5.2.9.3): what a PC has and this machine does not. That its 8042 bit is clear
/// keeps a kernel from looking for a keyboard.
mod boot_arch {
    pub const VGA_NOT_PRESENT: u16 = 1 << 2;
    pub const MSI_NOT_SUPPORTED: u16 = 1 << 3;
    pub const CMOS_RTC_NOT_PRESENT: u16 = 1 << 5;
}

/// Writes the tables of a machine with `cpus` CPUs, whose APIC ids count from 0, and virtio-mmio
/// devices in these `windows` to [`layout::ACPI_TABLES`], the RSDP first.
///
/// # Errors
/// Where there is no RAM for them.
pub fn write(
    memory: &GuestMemoryMmap,
    cpus: u8,
    windows: &[VirtioMmio],
) -> Result<(), GuestMemoryError> {
    let mut next = layout::ACPI_TABLES + (Rsdp::len() as u64).next_multiple_of(ALIGNMENT);
    let mut append = |table: &[u8]| -> Result<u64, GuestMemoryError> {
        let address = next;
        memory.write_slice(table, GuestAddress(address))?;
        next += (table.len() as u64).next_multiple_of(ALIGNMENT);
        Ok(address)
    };
    let dsdt = append(dsdt(windows).as_slice())?;
    let fadt = append(&bytes(&fadt(dsdt)))?;
    let madt = append(&bytes(&madt(cpus)))?;
    let mut xsdt = XSDT::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    xsdt.add_entry(fadt);
    xsdt.add_entry(madt);
    let xsdt = append(&bytes(&xsdt))?;
    let rsdp = bytes(&Rsdp::new(OEM_ID, xsdt));
    memory.write_slice(&rsdp, GuestAddress(layout::ACPI_TABLES))
}

fn bytes(aml: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    aml.to_aml_bytes(&mut bytes);
    bytes
}

/// Fixed ACPI Description Table (5.2.9): that the hardware is reduced, and the registers to power
/// off and to reset.
fn fadt(dsdt: u64) -> FADT {
    let mut fadt = FADTBuilder::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION)
        .dsdt_64(dsdt)
        .flag(Flags::Wbinvd)
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        .flag(Flags::ResetRegSup)
        .flag(Flags::Headless)
        .flag(Flags::HwReducedAcpi);
    let boot_arch =
        boot_arch::VGA_NOT_PRESENT | boot_arch::MSI_NOT_SUPPORTED | boot_arch::CMOS_RTC_NOT_PRESENT;
    fadt.iapc_boot_arch = boot_arch.into();
    fadt.reset_reg = port(board::I8042_COMMAND_PORT);
    fadt.reset_value = board::I8042_RESET;
    fadt.sleep_control_reg = port(board::SLEEP_CONTROL_PORT);
    fadt.sleep_status_reg = port(board::SLEEP_STATUS_PORT);
    fadt.finalize()
}

/// A register of one byte.
fn port(port: u16) -> GAS {
    GAS::new(
        AddressSpace::SystemIo,
        8,
        0,
        AccessSize::ByteAccess,
        port.into(),
    )
}

/// Multiple APIC Description Table (5.2.12): the interrupt controllers as KVM has them.
fn madt(cpus: u8) -> MADT {
    let local_apic = LocalInterruptController::Address(layout::LOCAL_APIC);
    let mut madt = MADT::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION, local_apic);
    for id in 0..cpus {
        madt.add_structure(ProcessorLocalApic::new(id, id, EnabledStatus::Enabled));
    }
    madt.add_structure(IoApic::new(0, layout::IO_APIC, 0));
    madt
}

/// Differentiated System Description Table (5.2.11.1): the devices that cannot be discovered, and
/// what to write to the sleep control register for S5.
fn dsdt(windows: &[VirtioMmio]) -> Sdt {
    let s5 = Package::new(vec![&board::SLEEP_TYPE_S5]);
    let mut aml = bytes(&Name::new("_S5_".into(), &s5));
    aml.extend(com1());
    aml.extend(windows.iter().enumerate().flat_map(virtio_mmio));
    let mut dsdt = Sdt::new(
        *b"DSDT",
        HEADER_SIZE,
        DSDT_REVISION,
        OEM_ID,
        OEM_TABLE_ID,
        OEM_REVISION,
    );
    dsdt.append_slice(&aml);
    dsdt
}

fn com1() -> Vec<u8> {
    let ports = IO::new(board::COM1_PORT, board::COM1_PORT, 1, board::COM1_PORTS);
    let interrupt = interrupt(board::COM1_GSI);
    let resources = ResourceTemplate::new(vec![&ports, &interrupt]);
    device(
        "COM1",
        &[
            ("_HID", &EISAName::new("PNP0501")),
            ("_UID", &ZERO),
            ("_CRS", &resources),
        ],
    )
}

fn virtio_mmio((index, window): (usize, &VirtioMmio)) -> Vec<u8> {
    // Windows are in the hole below 4 GiB.
    let registers = Memory32Fixed::new(true, window.base as u32, board::VIRTIO_MMIO_SIZE as u32);
    let interrupt = interrupt(window.gsi);
    let resources = ResourceTemplate::new(vec![&registers, &interrupt]);
    device(
        &format!("VD{index:02}"),
        &[
            ("_HID", &"LNRO0005"),
            ("_UID", &index),
            // Its accesses to RAM are coherent with the CPUs' caches.
            ("_CCA", &ONE),
            ("_CRS", &resources),
        ],
    )
}

/// A device on the system bus, with these named objects.
fn device(name: &str, objects: &[(&str, &dyn Aml)]) -> Vec<u8> {
    let objects = objects
        .iter()
        .map(|&(name, value)| Name::new(name.into(), value));
    let objects: Vec<Name> = objects.collect();
    let children = objects.iter().map(|object| object as &dyn Aml).collect();
    let device = Device::new(name.into(), children);
    bytes(&Scope::new("_SB_".into(), vec![&device]))
}

/// An interrupt that a device raises by an edge.
fn interrupt(gsi: u32) -> Interrupt {
    let (consumer, edge_triggered, active_low, shared) = (true, true, false, false);
    Interrupt::new(consumer, edge_triggered, active_low, shared, gsi)
}

#[cfg(test)]
#[path = "acpi_tests.rs"]
mod tests;
