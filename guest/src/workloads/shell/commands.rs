//! The commands, their help, and those that are about the shell itself.

use super::{Arguments, Next, Setting, Shell, Wrong};

/// As what a command needs the disk to be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Not at all.
    Nothing,
    /// In any way.
    Disk,
    /// By the driver.
    Driver,
    /// With a queue that is worked by hand.
    Hand,
}

/// A command.
pub struct Command {
    pub name: &'static str,
    /// How it is written.
    pub usage: &'static str,
    /// What it does, in a line.
    about: &'static str,
    /// What else there is to know, in lines of their own.
    more: &'static str,
    pub needs: Needs,
    pub run: fn(&mut Shell<'_, '_, '_>, &mut Arguments<'_>) -> Result<Next, Wrong>,
}

impl Command {
    /// The command of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        COMMANDS.iter().find(|command| command.name == name)
    }
}

/// Makes a row of the table of commands.
const fn command(
    needs: Needs,
    name: &'static str,
    [usage, about, more]: [&'static str; 3],
    run: fn(&mut Shell<'_, '_, '_>, &mut Arguments<'_>) -> Result<Next, Wrong>,
) -> Command {
    Command {
        name,
        usage,
        about,
        more,
        needs,
        run,
    }
}

/// All commands, in the order in which help lists them.
pub const COMMANDS: &[Command] = &[
    command(
        Needs::Nothing,
        "help",
        [
            "help [COMMAND]",
            "lists the commands, or tells more of one",
            "Numbers are decimal, or hexadecimal after 0x. Arrow keys, Home and End, and Ctrl-A E K U W\n\
             Y C D work as in other shells; at vmm's own console Ctrl-A is typed twice.\n",
        ],
        |shell, arguments| shell.help(arguments),
    ),
    command(
        Needs::Nothing,
        "disks",
        ["disks", "lists the disks", ""],
        |shell, arguments| shell.disks(arguments),
    ),
    command(
        Needs::Nothing,
        "disk",
        [
            "disk N",
            "opens another disk",
            "The one that was open is reset.\n",
        ],
        |shell, arguments| shell.disk(arguments),
    ),
    command(
        Needs::Driver,
        "read",
        [
            "read LBA [COUNT]",
            "shows sectors as `hexdump -C` does, and their CRC-32",
            "",
        ],
        |shell, arguments| shell.read(arguments),
    ),
    command(
        Needs::Driver,
        "crc",
        ["crc LBA [COUNT]", "the CRC-32 of sectors", ""],
        |shell, arguments| shell.crc(arguments),
    ),
    command(
        Needs::Driver,
        "write",
        [
            "write LBA TEXT",
            "writes a text to sectors, and flushes",
            "What the text leaves of its last sector is filled with zeros.\n",
        ],
        |shell, arguments| shell.write(arguments),
    ),
    command(
        Needs::Driver,
        "fill",
        [
            "fill LBA COUNT [BYTE]",
            "writes one byte all over sectors, and flushes",
            "",
        ],
        |shell, arguments| shell.fill(arguments),
    ),
    command(
        Needs::Driver,
        "ls",
        [
            "ls [PATH]",
            "lists a directory of the file system on the disk",
            "ext2, ext3 and ext4: type and mode, user, group, size in bytes, name.\n",
        ],
        |shell, arguments| shell.ls(arguments),
    ),
    command(
        Needs::Driver,
        "cat",
        [
            "cat PATH",
            "shows a file of the file system on the disk",
            "No more than 1 MiB of it; what is not UTF-8 is replaced.\n",
        ],
        |shell, arguments| shell.cat(arguments),
    ),
    command(
        Needs::Driver,
        "bench",
        [
            "bench [REQUESTS [COUNT]]",
            "reads COUNT sectors again and again, and takes the time",
            "One after the other, over the disk: 100 requests of 8 sectors, if nothing is said.\n",
        ],
        |shell, arguments| shell.bench(arguments),
    ),
    command(
        Needs::Driver,
        "stats",
        [
            "stats",
            "what has been done since the device was brought up",
            "",
        ],
        |shell, arguments| shell.stats(arguments),
    ),
    command(
        Needs::Driver,
        "irq",
        ["irq", "the driver halts until the device interrupts", ""],
        |shell, arguments| shell.irq(arguments),
    ),
    command(
        Needs::Driver,
        "poll",
        [
            "poll",
            "the driver looks at the used ring, and wants no interrupts",
            "",
        ],
        |shell, arguments| shell.poll(arguments),
    ),
    command(
        Needs::Driver,
        "notify",
        [
            "notify [on|off]",
            "whether the device is notified of requests",
            "Where it is not, a request stays in the queue until `kick`, unless the device looks by\n\
             itself (--disk FILE,notify=poll).\n",
        ],
        |shell, arguments| shell.notify(arguments),
    ),
    command(
        Needs::Disk,
        "features",
        ["features", "the features that are offered and accepted", ""],
        |shell, arguments| shell.features(arguments),
    ),
    command(
        Needs::Disk,
        "regs",
        [
            "regs",
            "what the virtio-mmio registers read, each with its offset",
            "",
        ],
        |shell, arguments| shell.regs(arguments),
    ),
    command(
        Needs::Disk,
        "ring",
        [
            "ring",
            "the three areas of the queue as they stand",
            "Descriptors that are not all zeros, with the indirect tables that they refer to, and the\n\
             newest entries of the rings by their running index and their [place].\n",
        ],
        |shell, arguments| shell.ring(arguments),
    ),
    command(
        Needs::Disk,
        "kick",
        [
            "kick [QUEUE]",
            "notifies the device",
            "By hand, any number can be written to QueueNotify. Where the driver has a request in the\n\
             queue, it is waited for.\n",
        ],
        |shell, arguments| shell.kick(arguments),
    ),
    command(
        Needs::Disk,
        "reset",
        [
            "reset",
            "resets the device and brings it up again",
            "By hand, descriptors and buffers stay as they are.\n",
        ],
        |shell, arguments| shell.reset(arguments),
    ),
    command(
        Needs::Nothing,
        "hand",
        [
            "hand [SIZE]",
            "gives you the queue, of 8 descriptors or so many",
            "The device is reset. From then on nothing is in the queue but what you put there:\n\
             \x20 header in 0                  the header of a request: type and sector\n\
             \x20 desc 0 header 16 next=1      the chain\n\
             \x20 desc 1 data 512 write next=2\n\
             \x20 desc 2 status 1 write\n\
             \x20 avail 0                      makes the chain from 0 available\n\
             \x20 kick                         tells the device\n\
             \x20 used                         shows what it has made of it\n\
             \x20 dump data                    and of the buffer\n",
        ],
        |shell, arguments| shell.hand(arguments),
    ),
    command(
        Needs::Nothing,
        "driver",
        ["driver", "gives the queue back to the driver", ""],
        |shell, arguments| shell.driver(arguments),
    ),
    command(
        Needs::Hand,
        "header",
        [
            "header TYPE [SECTOR]",
            "by hand: writes the buffer `header`",
            "TYPE is in, out, flush, get_id, discard, write_zeroes or a number.\n",
        ],
        |shell, arguments| shell.header(arguments),
    ),
    command(
        Needs::Hand,
        "desc",
        [
            "desc [INDEX [ADDRESS LENGTH [FLAG...]]]",
            "by hand: shows descriptors, or sets one",
            "INDEX is one of the queue, or tN for one of the buffer `table`. ADDRESS is a number or a\n\
             buffer, header, data, status or table, with +OFFSET where it is wanted. FLAG is next,\n\
             next=INDEX, write, indirect or flags=BITS. Any address is taken: the device writes where\n\
             it is told to.\n",
        ],
        |shell, arguments| shell.desc(arguments),
    ),
    command(
        Needs::Hand,
        "avail",
        [
            "avail [HEAD... | idx N | flags N | event N]",
            "by hand: puts heads into the available ring",
            "Each head moves avail.idx by one, and the buffer `status` becomes 0xff before; `idx`, `flags`\n\
             and `event` write just that field.\n",
        ],
        |shell, arguments| shell.avail(arguments),
    ),
    command(
        Needs::Hand,
        "used",
        [
            "used",
            "by hand: waits a second at most for what has been kicked, and shows what has come back",
            "",
        ],
        |shell, arguments| shell.used(arguments),
    ),
    command(
        Needs::Hand,
        "put",
        [
            "put BUFFER[+OFFSET] BYTE...",
            "by hand: writes bytes to a buffer",
            "",
        ],
        |shell, arguments| shell.put(arguments),
    ),
    command(
        Needs::Hand,
        "dump",
        [
            "dump BUFFER[+OFFSET] [LENGTH]",
            "by hand: shows a buffer",
            "",
        ],
        |shell, arguments| shell.dump(arguments),
    ),
    command(
        Needs::Nothing,
        "exit",
        [
            "exit [STATUS]",
            "ends the shell; 0 to 124 becomes the exit status of vmm",
            "",
        ],
        |_, arguments| {
            let status = arguments.number_or(0, 0..=124)?;
            arguments.end()?;
            Ok(Next::Exit(status as u8))
        },
    ),
];

impl Shell<'_, '_, '_> {
    fn help(&mut self, arguments: &mut Arguments<'_>) -> Result<Next, Wrong> {
        let Some(name) = arguments.word() else {
            for Command { usage, about, .. } in COMMANDS {
                if usage.len() <= 24 {
                    writeln!(self.console, "  {usage:26}{about}")?;
                } else {
                    writeln!(self.console, "  {usage}\n  {:26}{about}", "")?;
                }
            }
            return Ok(Next::Prompt);
        };
        arguments.end()?;
        let command = Command::find(name).ok_or_else(|| Wrong::Choice {
            word: name.into(),
            choices: "the commands that `help` lists",
        })?;
        let Command {
            usage, about, more, ..
        } = command;
        write!(self.console, "  {usage}\n  {about}\n{more}")?;
        Ok(Next::Prompt)
    }

    fn disk(&mut self, arguments: &mut Arguments<'_>) -> Result<Next, Wrong> {
        let disk = arguments.number(0..=u64::MAX)?;
        arguments.end()?;
        Ok(Next::Open {
            setting: Setting {
                disk,
                by_hand: None,
                ..self.setting
            },
            again: false,
        })
    }
}
