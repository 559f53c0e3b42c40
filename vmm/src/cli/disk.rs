//! `--disk PATH[,KEY=VALUE]...`: one disk, and what is wrong with what is said of it. What the disk
//! then is, is not decided here.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::num::NonZeroU64;
use std::os::unix::ffi::OsStrExt;

use devices::virtio::block::QUEUES_MAX;
use devices::virtio::block::throttle::Limits;
use spec::block::ID_SIZE;
use thiserror::Error;

use super::parse_size;
use crate::config::{DiskConfig, Engine, Format, Notify, Registers};
use crate::number::number;

#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum DiskError {
    #[error("the path is empty")]
    NoPath,
    #[error("'{0}' is no KEY=VALUE (a path cannot hold a comma)")]
    NoValue(String),
    #[error(
        "unknown key '{0}': format, readonly, id, notify, queues, registers, cache, direct, engine, \
         sqpoll, block_size and throttle are known"
    )]
    UnknownKey(String),
    #[error("key '{0}' is given twice")]
    Twice(String),
    #[error("format is 'raw' or 'qcow2', not '{0}'")]
    Format(String),
    #[error("this vmm has been built without qcow2")]
    WithoutQcow2,
    #[error("readonly is 'on' or 'off', not '{0}'")]
    ReadOnly(String),
    #[error("notify is 'trap', 'ioeventfd', 'ioeventfd-datamatch' or 'poll', not '{0}'")]
    Notify(String),
    #[error("queues is a number from 1 to {QUEUES_MAX}, not '{0}'")]
    Queues(String),
    #[error("registers is 'trap' or 'mapped', not '{0}'")]
    Registers(String),
    #[error("cache is 'writeback' or 'writethrough', not '{0}'")]
    Cache(String),
    #[error("direct is 'on' or 'off', not '{0}'")]
    Direct(String),
    #[error("direct=on is for format=raw")]
    DirectQcow2,
    #[error("engine is 'sync', 'io_uring' or 'auto', not '{0}'")]
    Engine(String),
    #[error("sqpoll is 'on' or 'off', not '{0}'")]
    Sqpoll(String),
    #[error("sqpoll=on is for engine=io_uring or engine=auto")]
    SqpollWithoutRing,
    #[error("block_size is 512 or 4096, not '{0}'")]
    BlockSize(String),
    #[error("throttle is iops:N, bps:SIZE (a second), or both with a '+' between them, not '{0}'")]
    Throttle(String),
    #[error(
        "throttle has '{0}', which is no number from 1 on, with K, M, G or T after it or nothing"
    )]
    Limit(String),
    #[error("the id is empty")]
    EmptyId,
    #[error("the id '{id}' is {len} bytes long, and no more than {ID_SIZE} fit", len = id.len())]
    LongId { id: String },
    #[error("the id '{0}' is not printable ASCII")]
    UnprintableId(String),
}

/// The disk that `value` says; where it says no id, that is empty.
pub(super) fn parse_disk(value: &OsStr) -> Result<DiskConfig, DiskError> {
    let mut parts = value.as_bytes().split(|&byte| byte == b',');
    let path = parts.next().unwrap_or_default();
    if path.is_empty() {
        return Err(DiskError::NoPath);
    }
    let mut disk = DiskConfig::new(OsStr::from_bytes(path).into(), "");
    let mut given = HashSet::new();
    for part in parts {
        let part = String::from_utf8_lossy(part);
        let Some((key, value)) = part.split_once('=') else {
            return Err(DiskError::NoValue(part.into_owned()));
        };
        match key {
            "format" => disk.format = parse_format(value)?,
            "readonly" => disk.readonly = parse_switch(value, DiskError::ReadOnly)?,
            "id" => disk.id = parse_id(value)?,
            "notify" => disk.notify = parse_notify(value)?,
            "queues" => disk.queues = parse_queues(value)?,
            "registers" => disk.registers = parse_registers(value)?,
            "cache" => disk.writeback = parse_cache(value)?,
            "direct" => disk.direct = parse_switch(value, DiskError::Direct)?,
            "engine" => disk.engine = parse_engine(value)?,
            "sqpoll" => disk.sqpoll = parse_switch(value, DiskError::Sqpoll)?,
            "block_size" => disk.block_size = parse_block_size(value)?,
            "throttle" => disk.limits = parse_limits(value)?,
            _ => return Err(DiskError::UnknownKey(key.into())),
        }
        if !given.insert(key.to_owned()) {
            return Err(DiskError::Twice(key.into()));
        }
    }
    if disk.direct && disk.format != Format::Raw {
        return Err(DiskError::DirectQcow2);
    }
    if disk.sqpoll && disk.engine == Engine::Sync {
        return Err(DiskError::SqpollWithoutRing);
    }
    Ok(disk)
}

/// The disk that is given as number `index`, with an id.
pub(super) fn with_id(mut disk: DiskConfig, index: usize) -> DiskConfig {
    if disk.id.is_empty() {
        disk.id = format!("disk{index}");
    }
    disk
}

fn parse_format(value: &str) -> Result<Format, DiskError> {
    match Format::from_name(value) {
        Some(Format::Qcow2) if !cfg!(feature = "qcow2") => Err(DiskError::WithoutQcow2),
        known => known.ok_or_else(|| DiskError::Format(value.into())),
    }
}

fn parse_switch(value: &str, wrong: fn(String) -> DiskError) -> Result<bool, DiskError> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(wrong(value.into())),
    }
}

fn parse_notify(value: &str) -> Result<Notify, DiskError> {
    Notify::from_name(value).ok_or_else(|| DiskError::Notify(value.into()))
}

fn parse_queues(value: &str) -> Result<u16, DiskError> {
    number(1..=QUEUES_MAX)(value).map_err(|_| DiskError::Queues(value.into()))
}

fn parse_registers(value: &str) -> Result<Registers, DiskError> {
    Registers::from_name(value).ok_or_else(|| DiskError::Registers(value.into()))
}

fn parse_engine(value: &str) -> Result<Engine, DiskError> {
    Engine::from_name(value).ok_or_else(|| DiskError::Engine(value.into()))
}

fn parse_cache(value: &str) -> Result<bool, DiskError> {
    match value {
        "writeback" => Ok(true),
        "writethrough" => Ok(false),
        _ => Err(DiskError::Cache(value.into())),
    }
}

fn parse_block_size(value: &str) -> Result<u32, DiskError> {
    match value {
        "512" => Ok(512),
        "4096" => Ok(4096),
        _ => Err(DiskError::BlockSize(value.into())),
    }
}

/// `iops:N`, `bps:SIZE`, or both.
fn parse_limits(value: &str) -> Result<Limits, DiskError> {
    let wrong = || DiskError::Throttle(value.into());
    let mut limits = Limits::default();
    for limit in value.split('+') {
        let (name, number) = limit.split_once(':').ok_or_else(wrong)?;
        let place = match name {
            "iops" => &mut limits.iops,
            "bps" => &mut limits.bps,
            _ => return Err(wrong()),
        };
        let number = parse_size(number).ok().and_then(NonZeroU64::new);
        let number = number.ok_or_else(|| DiskError::Limit(limit.into()))?;
        if place.replace(number).is_some() {
            return Err(wrong());
        }
    }
    Ok(limits)
}

fn parse_id(value: &str) -> Result<String, DiskError> {
    let id = value.to_owned();
    if id.is_empty() {
        Err(DiskError::EmptyId)
    } else if id.len() > ID_SIZE {
        Err(DiskError::LongId { id })
    } else if id.bytes().any(|byte| !(b' '..=b'~').contains(&byte)) {
        Err(DiskError::UnprintableId(id))
    } else {
        Ok(id)
    }
}
