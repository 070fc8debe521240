//! The calls of MPI that Brigade needs, with their return codes, and with buffers that live until
//! MPI is done with them. The only file with `unsafe`.
//!
//! Everything here belongs to the one thread that initialised MPI: nothing is `Send`.

#![allow(unsafe_code)]

use brigade_layer::{Tensor, TensorMut};
use mpi::ffi;
use mpi::traits::AsRaw;
use std::ffi::{c_int, c_void};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::sync::Arc;

/// Counts are C ints: longer messages go in parts.
const MOST_PART_BYTES: usize = 1 << 30;

/// What MPI says of a call that failed.
#[derive(Clone, Debug)]
pub(super) struct MpiError(pub(super) String);

/// MPI while it is initialised. Never finalises by itself: that waits for everyone.
pub(super) struct Mpi {
    universe: ManuallyDrop<mpi::environment::Universe>,
}

impl Mpi {
    /// Initialises MPI on this thread, which is the one that may call it from now on.
    pub(super) fn initialize() -> Result<Self, MpiError> {
        let (universe, _) = mpi::initialize_with_threading(mpi::Threading::Funneled)
            .ok_or_else(|| MpiError("MPI was initialised before, or does not start".into()))?;
        let universe = ManuallyDrop::new(universe);
        let world = Self { universe };
        // SAFETY: MPI is initialised and the handles are its constants.
        check(unsafe {
            ffi::MPI_Comm_set_errhandler(ffi::RSMPI_COMM_WORLD, ffi::RSMPI_ERRORS_RETURN)
        })?;
        Ok(world)
    }

    /// All processes of the job.
    pub(super) fn world(&self) -> Comm {
        Comm(self.universe.world().as_raw())
    }

    /// The name of the machine.
    pub(super) fn host(&self) -> String {
        mpi::environment::processor_name().unwrap_or_else(|_| "unnamed".into())
    }

    /// The largest tag that a message may have.
    pub(super) fn largest_tag(&self) -> usize {
        // Every library has at least so many.
        const LEAST: usize = 32_767;
        let (mut at, mut found): (*mut c_int, c_int) = (std::ptr::null_mut(), 0);
        // SAFETY: the attribute of the world is a pointer to an int that lives as long as MPI.
        let tag = unsafe {
            let asked = ffi::MPI_Comm_get_attr(
                ffi::RSMPI_COMM_WORLD,
                ffi::MPI_TAG_UB as c_int,
                (&raw mut at).cast(),
                &raw mut found,
            );
            let there = check(asked).is_ok() && found != 0 && !at.is_null();
            there.then(|| *at)
        };
        tag.and_then(|tag| usize::try_from(tag).ok())
            .unwrap_or(LEAST)
    }

    /// Ends MPI together with all other processes.
    pub(super) fn finalize(mut self) {
        // SAFETY: `self` is consumed, nothing uses the universe afterwards.
        unsafe { ManuallyDrop::drop(&mut self.universe) }
    }

    /// Ends all processes of the job, now.
    pub(super) fn abort(&self) {
        // SAFETY: MPI is initialised.
        unsafe { ffi::MPI_Abort(ffi::RSMPI_COMM_WORLD, 1) };
    }
}

/// A group of processes that talk among themselves.
#[derive(Clone, Copy)]
pub(super) struct Comm(ffi::MPI_Comm);

impl Comm {
    pub(super) fn rank(self) -> Result<usize, MpiError> {
        self.int(|comm, into| {
            // SAFETY: the communicator is live, `into` is a valid place for an int.
            unsafe { ffi::MPI_Comm_rank(comm, into) }
        })
    }

    pub(super) fn size(self) -> Result<usize, MpiError> {
        self.int(|comm, into| {
            // SAFETY: the communicator is live, `into` is a valid place for an int.
            unsafe { ffi::MPI_Comm_size(comm, into) }
        })
    }

    fn int(self, call: impl Fn(ffi::MPI_Comm, *mut c_int) -> c_int) -> Result<usize, MpiError> {
        let mut value: c_int = 0;
        check(call(self.0, &raw mut value))?;
        Ok(value as usize)
    }

    /// Gives the communicator back. Nothing is under way in it, and all processes do so.
    pub(super) fn free(mut self) -> Result<(), MpiError> {
        // SAFETY: the handle is live, and no copy of it is used any more.
        check(unsafe { ffi::MPI_Comm_free(&raw mut self.0) })
    }

    /// Begins to make another communicator of the same processes; waits for nobody.
    pub(super) fn duplicate(self) -> Result<Duplicating, MpiError> {
        let mut new = Box::new(MaybeUninit::uninit());
        let mut request = null_request();
        // SAFETY: the place of the new handle is on the heap and lives until the request is done.
        check(unsafe { ffi::MPI_Comm_idup(self.0, new.as_mut_ptr(), &raw mut request) })?;
        Ok(Duplicating {
            new: ManuallyDrop::new(new),
            request,
        })
    }

    /// Begins to send; waits for nobody.
    pub(super) fn send<B: Readable>(
        self,
        to: usize,
        tag: i32,
        buffer: B,
    ) -> Result<Moving<B>, MpiError> {
        let mut moving = Moving::new(buffer);
        let (at, bytes) = moving.buffer.bytes();
        for (offset, length) in parts(bytes) {
            let mut request = null_request();
            // SAFETY: `moving` owns the buffer, whose elements do not move, until all requests
            // are done; the part lies within it.
            check(unsafe {
                ffi::MPI_Isend(
                    at.add(offset).cast::<c_void>(),
                    length as c_int,
                    ffi::RSMPI_UINT8_T,
                    to as c_int,
                    tag,
                    self.0,
                    &raw mut request,
                )
            })?;
            moving.requests.push(request);
        }
        Ok(moving)
    }

    /// Begins to receive; waits for nobody.
    pub(super) fn receive<B: Writable>(
        self,
        from: usize,
        tag: i32,
        buffer: B,
    ) -> Result<Moving<B>, MpiError> {
        let mut moving = Moving::new(buffer);
        let (at, bytes) = moving.buffer.bytes_mut();
        for (offset, length) in parts(bytes) {
            let mut request = null_request();
            // SAFETY: as in `send`; nobody else reads or writes the buffer meanwhile.
            check(unsafe {
                ffi::MPI_Irecv(
                    at.add(offset).cast::<c_void>(),
                    length as c_int,
                    ffi::RSMPI_UINT8_T,
                    from as c_int,
                    tag,
                    self.0,
                    &raw mut request,
                )
            })?;
            moving.requests.push(request);
        }
        Ok(moving)
    }
}

/// A communicator in the making.
pub(super) struct Duplicating {
    new: ManuallyDrop<Box<MaybeUninit<ffi::MPI_Comm>>>,
    request: ffi::MPI_Request,
}

impl Duplicating {
    pub(super) fn poll(&mut self) -> Result<Option<Comm>, MpiError> {
        if !test(&mut self.request)? {
            return Ok(None);
        }
        // SAFETY: the request is done, so MPI has written the handle; it is plain data.
        let comm = unsafe { self.new.assume_init_read() };
        // SAFETY: the handle is live.
        check(unsafe { ffi::MPI_Comm_set_errhandler(comm, ffi::RSMPI_ERRORS_RETURN) })?;
        Ok(Some(Comm(comm)))
    }
}

/// A buffer on its way. Dropped before it is done, it is leaked: MPI may still use it.
pub(super) struct Moving<B> {
    buffer: ManuallyDrop<B>,
    requests: Vec<ffi::MPI_Request>,
}

impl<B> Moving<B> {
    fn new(buffer: B) -> Self {
        Self {
            buffer: ManuallyDrop::new(buffer),
            requests: Vec::with_capacity(1),
        }
    }

    /// Whether all of it has arrived, or has left and may be used again.
    pub(super) fn done(&mut self) -> Result<bool, MpiError> {
        while let Some(request) = self.requests.first_mut() {
            if !test(request)? {
                return Ok(false);
            }
            self.requests.swap_remove(0);
        }
        Ok(true)
    }

    /// The buffer, when it is done; or the whole again.
    pub(super) fn take(mut self) -> Result<B, Self> {
        if !self.requests.is_empty() {
            return Err(self);
        }
        // SAFETY: `self` is forgotten, so that the buffer is taken once.
        let buffer = unsafe { ManuallyDrop::take(&mut self.buffer) };
        drop(std::mem::take(&mut self.requests));
        std::mem::forget(self);
        Ok(buffer)
    }
}

impl<B> Drop for Moving<B> {
    fn drop(&mut self) {
        if self.requests.is_empty() {
            // SAFETY: MPI is done with it, and nobody takes it any more.
            unsafe { ManuallyDrop::drop(&mut self.buffer) }
        }
    }
}

/// A buffer that can be sent from: its bytes stay where they are while it is moved.
pub(super) trait Readable {
    fn bytes(&self) -> (*const u8, usize);
}

/// A buffer that can be received into, in the same sense.
pub(super) trait Writable {
    fn bytes_mut(&mut self) -> (*mut u8, usize);
}

impl Readable for Vec<u8> {
    fn bytes(&self) -> (*const u8, usize) {
        (self.as_ptr(), self.len())
    }
}

impl Readable for Arc<Vec<u8>> {
    fn bytes(&self) -> (*const u8, usize) {
        (self.as_ptr(), self.len())
    }
}

impl Writable for Vec<u8> {
    fn bytes_mut(&mut self) -> (*mut u8, usize) {
        (self.as_mut_ptr(), self.len())
    }
}

impl Readable for Vec<f64> {
    fn bytes(&self) -> (*const u8, usize) {
        (self.as_ptr().cast(), size_of_val(self.as_slice()))
    }
}

impl Writable for Vec<f64> {
    fn bytes_mut(&mut self) -> (*mut u8, usize) {
        (self.as_mut_ptr().cast(), size_of_val(self.as_slice()))
    }
}

impl Readable for Tensor {
    fn bytes(&self) -> (*const u8, usize) {
        let at = self.f32().map(|numbers| numbers.as_ptr().cast());
        let at = at.or_else(|_| self.i32().map(|numbers| numbers.as_ptr().cast()));
        at.map_or((std::ptr::null(), 0), |at| {
            (at, Tensor::bytes(self) as usize)
        })
    }
}

impl<T: brigade_layer::Element> Writable for TensorMut<T> {
    fn bytes_mut(&mut self) -> (*mut u8, usize) {
        let numbers = self.data();
        (numbers.as_mut_ptr().cast(), size_of_val(numbers))
    }
}

/// The parts of a message: offsets and lengths. An empty message has one empty part.
fn parts(bytes: usize) -> impl Iterator<Item = (usize, usize)> {
    let offsets = (0..bytes.max(1)).step_by(MOST_PART_BYTES);
    offsets.map(move |offset| (offset, MOST_PART_BYTES.min(bytes - offset.min(bytes))))
}

fn null_request() -> ffi::MPI_Request {
    // SAFETY: a constant of the library.
    unsafe { ffi::RSMPI_REQUEST_NULL }
}

fn test(request: &mut ffi::MPI_Request) -> Result<bool, MpiError> {
    let mut done: c_int = 0;
    // SAFETY: the request is live or null; both places are valid.
    check(unsafe { ffi::MPI_Test(request, &raw mut done, ffi::RSMPI_STATUS_IGNORE) })?;
    Ok(done != 0)
}

/// The text of an error code.
fn check(code: c_int) -> Result<(), MpiError> {
    if code == ffi::MPI_SUCCESS as c_int {
        return Ok(());
    }
    let mut text = [0u8; ffi::MPI_MAX_ERROR_STRING as usize + 1];
    let mut length: c_int = 0;
    // SAFETY: the buffer is as long as the library asks for.
    unsafe { ffi::MPI_Error_string(code, text.as_mut_ptr().cast(), &raw mut length) };
    let text = &text[..(length.max(0) as usize).min(text.len())];
    Err(MpiError(String::from_utf8_lossy(text).trim().to_owned()))
}

/// Has this thread woken when it wants to, not some tens of microseconds later.
pub(super) fn wake_in_time() {
    // SAFETY: sets a property of the calling thread; takes two integers.
    #[cfg(target_os = "linux")]
    unsafe {
        libc::prctl(libc::PR_SET_TIMERSLACK, 1)
    };
}

/// Ends this process at once, as a failure: without whatever else wants to be called first.
pub(super) fn exit_now() -> ! {
    // SAFETY: returns to nobody.
    unsafe { libc::_exit(1) }
}

/// Has this called when the process exits, by return or by request.
pub(super) fn at_exit(call: extern "C" fn()) {
    // SAFETY: the function lives as long as the program.
    unsafe { libc::atexit(call) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_a_message_whole() {
        for bytes in [
            0,
            1,
            MOST_PART_BYTES,
            MOST_PART_BYTES + 1,
            5 * MOST_PART_BYTES + 7,
        ] {
            let (mut at, mut count) = (0, 0);
            for (offset, length) in parts(bytes) {
                assert_eq!(offset, at);
                assert!(length <= MOST_PART_BYTES && i32::try_from(length).is_ok());
                (at, count) = (at + length, count + 1);
            }
            assert_eq!((at, count), (bytes, bytes.div_ceil(MOST_PART_BYTES).max(1)));
        }
    }
}
