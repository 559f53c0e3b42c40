//! `run=shell`: a monitor on the console, for who wants to try things. Here a disk is opened, lines
//! are read, and commands are found and carried out; what the commands do is elsewhere.

mod arguments;
mod by_hand;
mod commands;
mod driven;
mod files;
mod hand;
mod keys;
mod line;
mod path;
mod show;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use spec::Features;
use spec::block::config;
use spec::mmio::DEVICE_ID_BLOCK;

use super::bench::Clock;
use super::params::Parameters;
use super::{Console, Environment, Failure, Machine, find, is_disk};
use crate::cmdline::{CommandLine, Window};
use crate::dma::Arena;
use crate::virtio::{Error, Options};

use arguments::{Arguments, Wrong};
use commands::{Command, Needs};
use driven::Driven;
use hand::Hand;
use line::{Editor, Typed};

/// How a disk is to be opened.
#[derive(Clone, Copy)]
struct Setting {
    /// Its number.
    disk: u64,
    /// How the driver works.
    options: Options,
    /// The size of the queue, where it is to be worked by hand.
    by_hand: Option<u16>,
}

/// The disk that is open.
enum Disk<'d, 'm> {
    /// None.
    Closed,
    /// By the driver.
    Driven(Box<Driven<'d, 'm>>),
    /// With a queue that is worked by hand.
    ByHand(Hand<'d, 'm>),
}

/// A disk that there is, as it was when it was looked at.
struct Listed {
    window: Window,
    /// What it offers and its size in sectors, or why it cannot be driven.
    found: Result<(Features, u64), Error>,
}

/// What commands work with.
struct Shell<'s, 'd, 'm> {
    console: &'s mut dyn Console,
    clock: Clock,
    disks: &'s [Listed],
    setting: Setting,
    disk: Disk<'d, 'm>,
}

/// What is to be done after a command.
enum Next {
    /// The next one.
    Prompt,
    /// A disk is to be opened, after which the same command is carried out where it is wanted.
    Open { setting: Setting, again: bool },
    /// The shell ends, with this exit status of the guest.
    Exit(u8),
}

pub(super) fn run<'e>(
    environment: &mut Environment<'e, '_>,
    parameters: &Parameters<'e>,
) -> Result<(), Failure<'e>> {
    let (console, machine, arena) = environment.parts();
    machine.start_heap()?;
    let mut setting = Setting {
        disk: parameters.disk()?,
        options: parameters.options()?,
        by_hand: None,
    };
    let clock = machine.probes().clock();
    let mut reader = Reader::default();
    writeln!(console, "shell: `help` lists the commands")?;
    let status = loop {
        let mut arena = arena.scope();
        let disks = list(parameters.command_line(), machine)?;
        let opened = Disk::open(parameters.command_line(), machine, &setting, &mut arena);
        let disk = opened.or_else(|failure| {
            reader.again = None;
            writeln!(console, "disk {} FAILED: {failure}", setting.disk)?;
            Ok::<_, fmt::Error>(Disk::Closed)
        })?;
        let mut shell = Shell {
            console,
            clock,
            disks: &disks,
            setting,
            disk,
        };
        match shell.serve(&mut reader)? {
            Some(other) => setting = other,
            None => break reader.status,
        }
    };
    match status {
        0 => writeln!(console, "shell commands={} ok", reader.commands)?,
        status => {
            writeln!(console, "shell commands={} exit={status}", reader.commands)?;
            machine.exit(status);
        }
    }
    Ok(())
}

/// Looks at each disk. Changes nothing about it.
fn list<'e>(
    command_line: CommandLine<'e>,
    machine: &mut dyn Machine,
) -> Result<Vec<Listed>, Failure<'e>> {
    let mut disks = Vec::new();
    for window in command_line.devices() {
        let window = window.map_err(Failure::BadDevice)?;
        let device = machine.device(window);
        let transport = device.map_err(|error| Failure::Device { window, error })?;
        if !is_disk(transport) {
            continue;
        }
        let found = transport.check(DEVICE_ID_BLOCK).map(|()| {
            let offered = transport.offered_features();
            (offered, transport.read_config_64(config::CAPACITY))
        });
        disks.push(Listed { window, found });
    }
    Ok(disks)
}

impl<'d, 'm> Disk<'d, 'm> {
    /// Opens the disk as `setting` says.
    fn open<'e>(
        command_line: CommandLine<'e>,
        machine: &'d mut dyn Machine,
        setting: &Setting,
        arena: &mut Arena<'m>,
    ) -> Result<Self, Failure<'e>> {
        let window = find(command_line, machine, setting.disk)?;
        let device = machine.device(window);
        let opened = device.and_then(|transport| match setting.by_hand {
            None => Driven::new(transport, &setting.options, arena)
                .map(|driven| Self::Driven(Box::new(driven))),
            Some(size) => Hand::new(transport, size, &setting.options, arena).map(Self::ByHand),
        });
        opened.map_err(|error| Failure::Device { window, error })
    }
}

/// Where commands come from, and what has become of them so far.
#[derive(Default)]
struct Reader {
    editor: Editor,
    /// A command that waits for a disk to be opened.
    again: Option<String>,
    commands: u64,
    status: u8,
}

impl Reader {
    /// The next line; none at the end of the input.
    fn line(
        &mut self,
        console: &mut dyn Console,
        prompt: fmt::Arguments<'_>,
    ) -> Result<Option<String>, fmt::Error> {
        if let Some(line) = self.again.take() {
            return Ok(Some(line));
        }
        console.write_fmt(prompt)?;
        loop {
            let Some(byte) = console.read() else {
                console.write_char('\n')?;
                let rest = self.editor.take();
                return Ok((!rest.is_empty()).then_some(rest));
            };
            match self.editor.byte(byte, console)? {
                Typed::More => {}
                Typed::Line(line) => return Ok(Some(line)),
                Typed::Cancelled => console.write_fmt(prompt)?,
                Typed::End => {
                    console.write_char('\n')?;
                    return Ok(None);
                }
            }
        }
    }
}

impl Shell<'_, '_, '_> {
    /// Carries out commands until a disk is to be opened, in the way that is returned, or the shell
    /// is to end.
    fn serve(&mut self, reader: &mut Reader) -> Result<Option<Setting>, fmt::Error> {
        loop {
            let disk = self.setting.disk;
            let line = match &self.disk {
                Disk::Closed => reader.line(self.console, format_args!("no disk> "))?,
                Disk::Driven(_) => reader.line(self.console, format_args!("disk {disk}> "))?,
                Disk::ByHand(_) => {
                    reader.line(self.console, format_args!("disk {disk} by hand> "))?
                }
            };
            let Some(line) = line else {
                return Ok(None);
            };
            let mut arguments = Arguments::new(&line);
            let Some(name) = arguments.word() else {
                continue;
            };
            let Some(command) = Command::find(name) else {
                writeln!(
                    self.console,
                    "there is no command {name:?}; `help` lists them"
                )?;
                continue;
            };
            match self.carry_out(command, &mut arguments) {
                Ok(Next::Prompt) => reader.commands += 1,
                Ok(Next::Open { setting, again }) => {
                    if again {
                        reader.again = Some(line);
                    } else {
                        reader.commands += 1;
                    }
                    return Ok(Some(setting));
                }
                Ok(Next::Exit(status)) => {
                    reader.status = status;
                    return Ok(None);
                }
                Err(Wrong::Console) => return Err(fmt::Error),
                Err(wrong) => {
                    writeln!(self.console, "{name} FAILED: {wrong}")?;
                    if wrong.is_usage() {
                        writeln!(self.console, "usage: {}", command.usage)?;
                    }
                }
            }
        }
    }

    /// Carries out `command`, once the disk is open as it needs it.
    fn carry_out(
        &mut self,
        command: &Command,
        arguments: &mut Arguments<'_>,
    ) -> Result<Next, Wrong> {
        let setting = self.setting;
        if let Disk::Driven(driven) = &mut self.disk {
            // The disk may have got another size since the command before.
            driven.block.read_capacity();
        }
        let by_hand = match (command.needs, &self.disk) {
            (Needs::Nothing, _)
            | (Needs::Disk, Disk::Driven(_) | Disk::ByHand(_))
            | (Needs::Driver, Disk::Driven(_))
            | (Needs::Hand, Disk::ByHand(_)) => return (command.run)(self, arguments),
            (Needs::Disk | Needs::Driver, _) => None,
            (Needs::Hand, _) => Some(hand::QUEUE_SIZE),
        };
        match (&self.disk, by_hand) {
            (Disk::Closed, _) => {}
            (_, None) => writeln!(self.console, "(the device is reset, for the driver)")?,
            (_, Some(size)) => writeln!(
                self.console,
                "(the device is reset, for a queue of {size} descriptors by hand)"
            )?,
        }
        let setting = Setting { by_hand, ..setting };
        Ok(Next::Open {
            setting,
            again: true,
        })
    }
}
