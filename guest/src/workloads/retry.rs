//! `retry=on`: a read or write that the device fails is made again until it succeeds, which it does
//! when the host has recovered. The console tells when that begins and when it ends.

use core::fmt::Write;

use spec::block::status;

use super::Failure;
use super::params::Parameters;
use crate::virtio::Error;

/// What is done about a request that ends with IOERR.
#[derive(Clone, Copy)]
pub(super) struct Retry(bool);

impl Retry {
    /// As `retry=` says.
    pub(super) fn new<'e>(parameters: &Parameters<'e>) -> Result<Self, Failure<'e>> {
        Ok(Self(parameters.choice("retry", &["off", "on"])? == "on"))
    }

    /// Makes the request `what` at `lba` by `make`.
    pub(super) fn request<'e>(
        self,
        console: &mut dyn Write,
        (what, lba): (&'static str, u64),
        mut make: impl FnMut() -> Result<(), Error>,
    ) -> Result<(), Failure<'e>> {
        let mut failed = false;
        loop {
            match make() {
                Err(error @ Error::Status(status::IOERR)) if self.0 => {
                    if !failed {
                        writeln!(console, "{what} at lba={lba}: {error}; trying again")?;
                    }
                    failed = true;
                }
                Err(error) => return Err(Failure::request(what, lba)(error)),
                Ok(()) if failed => {
                    writeln!(console, "{what} at lba={lba}: succeeded")?;
                    return Ok(());
                }
                Ok(()) => return Ok(()),
            }
        }
    }
}
