//! `--disk PATH[,KEY=VALUE]...`: one disk, and what is wrong with what is said of it. What the disk
//! then is, is not decided here.

use std::ffi::OsStr;
use std::num::NonZeroU64;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use devices::virtio::block::QUEUES_MAX;
use devices::virtio::block::throttle::Limits;
use spec::block::ID_SIZE;
use thiserror::Error;

use super::parse_size;
use crate::config::{DiskConfig, Engine, Format, Notify, Registers};
use crate::number::number;

/// One `--disk`.
#[derive(Clone, Debug)]
pub(super) struct DiskArg {
    path: PathBuf,
    format: Format,
    readonly: bool,
    id: Option<String>,
    pub(super) notify: Notify,
    pub(super) queues: u16,
    writeback: bool,
    block_size: u32,
    direct: bool,
    engine: Engine,
    sqpoll: bool,
    limits: Limits,
    registers: Registers,
}

impl DiskArg {
    /// The disk that is given as number `index`.
    pub(super) fn into_config(self, index: usize) -> DiskConfig {
        DiskConfig {
            path: self.path,
            format: self.format,
            readonly: self.readonly,
            id: self.id.unwrap_or_else(|| format!("disk{index}")),
            notify: self.notify,
            queues: self.queues,
            writeback: self.writeback,
            block_size: self.block_size,
            direct: self.direct,
            engine: self.engine,
            sqpoll: self.sqpoll,
            limits: self.limits,
            registers: self.registers,
        }
    }
}

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

pub(super) fn parse_disk(value: &OsStr) -> Result<DiskArg, DiskError> {
    let mut parts = value.as_bytes().split(|&byte| byte == b',');
    let path = parts.next().unwrap_or_default();
    if path.is_empty() {
        return Err(DiskError::NoPath);
    }
    let (mut format, mut readonly, mut id, mut notify) = (None, None, None, None);
    let (mut queues, mut writeback, mut direct, mut block_size) = (None, None, None, None);
    let (mut registers, mut limits, mut engine, mut sqpoll) = (None, None, None, None);
    for part in parts {
        let part = String::from_utf8_lossy(part);
        let Some((key, value)) = part.split_once('=') else {
            return Err(DiskError::NoValue(part.into_owned()));
        };
        let twice = match key {
            "format" => format.replace(parse_format(value)?).is_some(),
            "readonly" => {
                let value = parse_switch(value, DiskError::ReadOnly)?;
                readonly.replace(value).is_some()
            }
            "id" => id.replace(parse_id(value)?).is_some(),
            "notify" => notify.replace(parse_notify(value)?).is_some(),
            "queues" => queues.replace(parse_queues(value)?).is_some(),
            "registers" => registers.replace(parse_registers(value)?).is_some(),
            "cache" => writeback.replace(parse_cache(value)?).is_some(),
            "direct" => {
                let value = parse_switch(value, DiskError::Direct)?;
                direct.replace(value).is_some()
            }
            "engine" => engine.replace(parse_engine(value)?).is_some(),
            "sqpoll" => {
                let value = parse_switch(value, DiskError::Sqpoll)?;
                sqpoll.replace(value).is_some()
            }
            "block_size" => block_size.replace(parse_block_size(value)?).is_some(),
            "throttle" => limits.replace(parse_limits(value)?).is_some(),
            _ => return Err(DiskError::UnknownKey(key.into())),
        };
        if twice {
            return Err(DiskError::Twice(key.into()));
        }
    }
    let (format, direct) = (format.unwrap_or_default(), direct.unwrap_or(false));
    if direct && format != Format::Raw {
        return Err(DiskError::DirectQcow2);
    }
    let (engine, sqpoll) = (engine.unwrap_or_default(), sqpoll.unwrap_or(false));
    if sqpoll && engine == Engine::Sync {
        return Err(DiskError::SqpollWithoutRing);
    }
    Ok(DiskArg {
        path: OsStr::from_bytes(path).into(),
        format,
        readonly: readonly.unwrap_or(false),
        id,
        notify: notify.unwrap_or_default(),
        queues: queues.unwrap_or(1),
        writeback: writeback.unwrap_or(true),
        block_size: block_size.unwrap_or(512),
        direct,
        engine,
        sqpoll,
        limits: limits.unwrap_or_default(),
        registers: registers.unwrap_or_default(),
    })
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
