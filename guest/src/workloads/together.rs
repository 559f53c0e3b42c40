//! A disk that all CPUs use at once: brought up with several queues, and reset in the end, whatever
//! they have come to. What they do with it is the workload's matter.

use spinning_top::Spinlock;

use super::{Failure, Machine};
use crate::cmdline::Window;
use crate::dma::Arena;
use crate::virtio::{Options, Queues, Transport};

/// What a CPU does of which there are several.
pub(super) type Share<'s, 'e> =
    dyn Fn(usize, &mut dyn Transport) -> Result<(), Failure<'e>> + Sync + 's;

/// Has `work` done with up to `count` queues of the disk at `window`, which has been reset when this
/// returns. Their memory comes from `arena`.
pub(super) fn with_queues<'e, 'm, T>(
    machine: &mut dyn Machine,
    (window, options, count): (Window, &Options, usize),
    arena: &mut Arena<'m>,
    work: impl FnOnce(&mut dyn Machine, &Queues<'m>, &mut Arena<'m>) -> Result<T, Failure<'e>>,
) -> Result<T, Failure<'e>> {
    let failed = |error| Failure::Device { window, error };
    let queues = machine
        .device(window)
        .and_then(|transport| Queues::new(transport, options, count, arena))
        .map_err(failed)?;
    let done = work(&mut *machine, &queues, arena);
    let reset = machine
        .device(window)
        .and_then(|transport| transport.reset());
    let done = done?;
    reset.map_err(failed)?;
    Ok(done)
}

/// Has each of `cpus` CPUs do its `share` with the disk at `window`. Of several that fail, the first
/// one's reason is told.
pub(super) fn work<'e>(
    machine: &mut dyn Machine,
    window: Window,
    cpus: usize,
    share: &Share<'_, 'e>,
) -> Result<(), Failure<'e>> {
    let failed: Spinlock<Option<(usize, Failure<'e>)>> = Spinlock::new(None);
    let job = |cpu: usize, transport: &mut dyn Transport| {
        if let Err(failure) = share(cpu, transport) {
            let mut failed = failed.lock();
            if failed.as_ref().is_none_or(|(first, _)| cpu < *first) {
                *failed = Some((cpu, failure));
            }
        }
    };
    let done = machine.work_together(window, cpus, &job);
    match failed.into_inner() {
        Some((_, failure)) => Err(failure),
        None => done.map_err(|error| Failure::Device { window, error }),
    }
}
