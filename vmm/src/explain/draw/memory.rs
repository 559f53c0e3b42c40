//! The drawings of guest memory: the buffers of the request byte by byte, and where everything lies.

use maud::{Markup, html};

use super::super::story::{Buffer, Role, Side, Story};
use super::super::words;
use super::{
    DESCRIPTOR_AREA, DEVICE_AREA, DRIVER_AREA, Frame, REGISTERS, ends, more, side, tag, touched,
    who,
};

/// How many bytes of a buffer are drawn.
const BYTES: usize = 64;
/// How many bytes a line has.
const LINE: usize = 8;

/// The buffers of the request, byte by byte.
pub fn buffers(frame: &Frame<'_>) -> Markup {
    let now = frame.now();
    if now.buffers.is_empty() {
        return html! {};
    }
    let touches = [Role::Header, Role::Data, Role::Status];
    let touch = touches.map(|role| frame.touch(words::role(role)));
    let touch = touch.into_iter().flatten().next();
    let shown = ends(&now.buffers);
    let left_out = now.buffers.len().saturating_sub(shown.len());
    html! {
        section class={ "panel buffers " (touched(touch)) } {
            h3 { "Buffers" }
            @for buffer in shown { (bytes(frame, buffer)) }
            (more(left_out))
        }
    }
}

fn bytes(frame: &Frame<'_>, buffer: &Buffer) -> Markup {
    let name = words::role(buffer.role);
    let before = frame
        .before
        .buffers
        .iter()
        .find(|old| old.address == buffer.address);
    let touch = frame.touch(name);
    // Of a buffer that was not looked at before it is not known that its bytes are new.
    let is_new = |offset: usize, byte: u8| {
        before.map_or(touch.is_some(), |old| old.bytes.get(offset) != Some(&byte))
    };
    let shown = buffer.bytes.len().min(BYTES);
    let lines = buffer.bytes.chunks(LINE).take(BYTES / LINE);
    html! {
        div.buffer {
            h4 {
                (name)
                (tag(touch))
                " " code { (format!("{:#x}", buffer.address)) }
                span.muted {
                    " " (words::bytes(buffer.len))
                    @if (shown as u64) < buffer.len { ", the first " (shown) " drawn" }
                }
            }
            div.hex {
                @for (line, bytes) in (0..).step_by(LINE).zip(lines) {
                    p {
                        span.offset { (format!("{:#x}", buffer.address.saturating_add(line as u64))) }
                        span.bytes {
                            @for (column, byte) in bytes.iter().enumerate() {
                                @if is_new(line + column, *byte) { b { (format!("{byte:02x}")) } }
                                @else { span { (format!("{byte:02x}")) } }
                            }
                        }
                        span.text { @for byte in bytes { (words::printable(*byte)) } }
                    }
                }
            }
            @if let Some(said) = decoded(buffer) { p.muted { (said) } }
        }
    }
}

/// What the bytes of a header or of a status say.
fn decoded(buffer: &Buffer) -> Option<String> {
    match buffer.role {
        Role::Header => {
            let bytes = buffer.bytes.first_chunk()?;
            let header = spec::block::RequestHeader::from_bytes(*bytes);
            Some(format!(
                "type {}, sector {}",
                header.request_type, header.sector
            ))
        }
        Role::Status => match buffer.bytes.first()? {
            0 => Some("VIRTIO_BLK_S_OK".to_owned()),
            1 => Some("VIRTIO_BLK_S_IOERR".to_owned()),
            2 => Some("VIRTIO_BLK_S_UNSUPP".to_owned()),
            _ => Some("not written by the device yet".to_owned()),
        },
        Role::Data => None,
    }
}

/// Where everything lies, not to scale.
pub fn memory_map(story: &Story, frame: Option<&Frame<'_>>) -> Markup {
    let queue = &story.queue;
    let size = queue.size;
    let mut rows: Vec<(u64, u64, &str, Option<Side>)> = story
        .machine
        .ranges
        .iter()
        .map(|range| (range.address, range.len, range.name.as_str(), None))
        .collect();
    rows.extend([
        (
            queue.descriptor_area,
            spec::queue::desc_table_size(size),
            DESCRIPTOR_AREA,
            Some(Side::Driver),
        ),
        (
            queue.driver_area,
            spec::queue::avail_ring_size(size),
            DRIVER_AREA,
            Some(Side::Driver),
        ),
        (
            queue.device_area,
            spec::queue::used_ring_size(size),
            DEVICE_AREA,
            Some(Side::Device),
        ),
    ]);
    if let Some(frame) = frame {
        let buffers = ends(&frame.now().buffers);
        rows.extend(buffers.into_iter().map(|buffer| {
            let writer = frame.writer(buffer.address);
            (
                buffer.address,
                buffer.len,
                words::role(buffer.role),
                Some(writer),
            )
        }));
    }
    // What contains others comes before them.
    rows.sort_by_key(|(address, len, ..)| (*address, u64::MAX - len));
    let touch = |address: u64, name: &str| {
        let name = if address == story.device.base {
            REGISTERS
        } else {
            name
        };
        frame.and_then(|frame| frame.touch(name))
    };
    html! {
        section.panel.guest-memory {
            h3 { "Guest memory" }
            p.muted { "Not to scale. Colours: written by the " (who(Side::Driver)) " or the " (who(Side::Device)) }
            table {
                tbody {
                    @for (address, len, name, writer) in rows {
                        @let touch = touch(address, name);
                        tr class=(writer.map_or("", side)) {
                            td { code { (format!("{address:#x}")) } }
                            th scope="row" {
                                (name)
                                (tag(touch))
                            }
                            td { (size_of_range(len)) }
                        }
                    }
                }
            }
        }
    }
}

/// A length in the largest unit that says it exactly.
fn size_of_range(len: u64) -> String {
    match len {
        0 => "0 B".to_owned(),
        len if len.is_multiple_of(1 << 20) => format!("{} MiB", len >> 20),
        len if len.is_multiple_of(1 << 10) => format!("{} KiB", len >> 10),
        len => format!("{len} B"),
    }
}
