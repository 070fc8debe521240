//! A node's buffers: where they are born, where they return to, and who is charged for them.
//!
//! ```text
//!           Pool::f32            last handle dropped, on whatever thread
//!  free list ────────► Tensor ═══════════════════════════════════════► free list of the same pool
//!                        │ adopted by another node: charged there, home stays where it was born
//! ```
//!
//! A buffer has two owners' counts: `Storage` (the numbers) is shared by everyone, `Buffer` (a
//! node's handle to it) is shared by the handles of one node only. So a node is charged exactly as
//! long as one of its own handles lives, and the numbers go home when the last node lets go. A
//! steady-state step allocates nothing: both counters are reused.

use crate::buffer::{Account, Buffer, Numbers, Storage};
use crate::slab::{self, Slabs};
use crate::{DType, LayerError, Shape, Tensor, TensorMut, tensor::Element};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
struct Free {
    buffers: BTreeMap<(DType, usize), Vec<Arc<Buffer>>>,
    bytes: u64,
}

#[derive(Debug)]
pub(crate) struct Inner {
    account: Arc<Account>,
    free: Mutex<Free>,
    slabs: Mutex<Slabs>,
    born: AtomicU64,
}

impl Inner {
    fn free(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slabs(&self) -> MutexGuard<'_, Slabs> {
        self.slabs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn put(&self, buffer: Arc<Buffer>) {
        let data = &buffer.storage.data;
        let (key, bytes) = ((data.dtype(), data.len()), data.bytes());
        let mut free = self.free();
        free.bytes += bytes;
        free.buffers.entry(key).or_default().push(buffer);
    }

    fn take(&self, key: (DType, usize)) -> Option<Arc<Buffer>> {
        let mut free = self.free();
        let buffer = free.buffers.get_mut(&key)?.pop()?;
        free.bytes -= buffer.storage.data.bytes();
        Some(buffer)
    }
}

/// What a pool has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolReport {
    /// Bytes that the node holds now, adopted tensors included.
    pub held_bytes: u64,
    /// The most it held at once.
    pub peak_bytes: u64,
    /// Bytes of buffers that wait at home to be used again.
    pub free_bytes: u64,
    /// How many buffers were ever allocated.
    pub born: u64,
}

/// One node's buffers. Cloning gives another handle to the same pool.
#[derive(Clone, Debug)]
pub struct Pool(Arc<Inner>);

impl Default for Pool {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Pool {
    /// A pool that may hold `limit_bytes` at once, or as much as the machine has.
    pub fn new(limit_bytes: Option<u64>) -> Self {
        let account = Account {
            held_bytes: AtomicU64::new(0),
            peak_bytes: AtomicU64::new(0),
            limit_bytes: limit_bytes.unwrap_or(u64::MAX),
        };
        let free = Mutex::new(Free::default());
        Self(Arc::new(Inner {
            account: Arc::new(account),
            free,
            slabs: Mutex::default(),
            born: AtomicU64::new(0),
        }))
    }

    /// A writable tensor whose content is unspecified (what its last user left there).
    ///
    /// # Errors
    /// When the node's limit or the machine does not allow it.
    pub fn take<T: Element>(&self, shape: impl Into<Shape>) -> Result<TensorMut<T>, LayerError> {
        let shape = shape.into();
        let len = shape.elements();
        let bytes = (len as u64).saturating_mul(T::DTYPE.size_bytes() as u64);
        let mut buffer = match self.0.take((T::DTYPE, len)) {
            Some(buffer) => buffer,
            None => self.born::<T>(len, bytes)?,
        };
        let charge = self.0.account.charge(bytes);
        let unique = Arc::get_mut(&mut buffer);
        debug_assert!(unique.is_some(), "a buffer at home has no other handle");
        if let Some(unique) = unique {
            unique.charge = Some(charge?);
        }
        Ok(TensorMut::from_unique(buffer, shape))
    }

    /// A writable tensor of `f32` with unspecified content. See [`Pool::take`].
    ///
    /// # Errors
    /// When the node's limit or the machine does not allow it.
    pub fn f32(&self, shape: impl Into<Shape>) -> Result<TensorMut, LayerError> {
        self.take(shape)
    }

    /// A writable tensor of zeros.
    ///
    /// # Errors
    /// When the node's limit or the machine does not allow it.
    pub fn zeros(&self, shape: impl Into<Shape>) -> Result<TensorMut, LayerError> {
        let mut tensor = self.f32(shape)?;
        tensor.data().fill(0.0);
        Ok(tensor)
    }

    /// A writable tensor with the content of `tensor`: that very tensor when nobody else holds it,
    /// else a copy.
    ///
    /// # Errors
    /// When the node's memory does not allow it, or the elements are of another type.
    pub fn writable<T: Element>(&self, tensor: Tensor) -> Result<TensorMut<T>, LayerError> {
        match tensor.try_mut() {
            Ok(tensor) => Ok(tensor),
            Err(shared) => {
                let mut copy = self.take::<T>(shared.shape())?;
                copy.data().copy_from_slice(shared.slice()?);
                Ok(copy)
            }
        }
    }

    fn born<T: Element>(&self, len: usize, bytes: u64) -> Result<Arc<Buffer>, LayerError> {
        let account = &self.0.account;
        let held = account.held_bytes.load(Ordering::Relaxed);
        if held
            .saturating_add(self.0.free().bytes)
            .saturating_add(bytes)
            > account.limit_bytes
        {
            self.trim();
        }
        let numbers = self.memory(len, bytes);
        let numbers = numbers.ok_or(LayerError::AllocationRefused {
            requested_bytes: bytes,
        })?;
        self.0.born.fetch_add(1, Ordering::Relaxed);
        let storage = Arc::new(Storage {
            data: T::wrap(numbers),
            home: Arc::downgrade(&self.0),
        });
        Ok(Arc::new(Buffer {
            storage,
            charge: None,
        }))
    }

    fn memory<T: Element>(&self, len: usize, bytes: u64) -> Option<Numbers<T>> {
        let bytes = usize::try_from(bytes).ok()?;
        if bytes >= slab::LEAST {
            return self.0.slabs().take(bytes).map(Numbers::Part);
        }
        let mut numbers = Vec::new();
        numbers.try_reserve_exact(len).ok()?;
        numbers.resize(len, T::default());
        Some(Numbers::Own(numbers))
    }

    /// Charges a tensor that came from elsewhere (another node, the user's data) to this node.
    ///
    /// # Errors
    /// When the node's limit does not allow it.
    pub fn adopt(&self, mut tensor: Tensor) -> Result<Tensor, LayerError> {
        let charge = self.0.account.charge(tensor.bytes())?;
        tensor.recharge(|buffer| match Arc::get_mut(buffer) {
            Some(unique) => unique.charge = Some(charge),
            None => {
                let storage = buffer.storage.clone();
                *buffer = Arc::new(Buffer {
                    storage,
                    charge: Some(charge),
                });
            }
        });
        Ok(tensor)
    }

    /// Gives the buffers that wait at home back to the machine.
    pub fn trim(&self) {
        *self.0.free() = Free::default();
        self.0.slabs().trim();
    }

    /// Counts the peak anew from what is held now.
    pub fn reset_peak(&self) {
        let account = &self.0.account;
        account.peak_bytes.store(
            account.held_bytes.load(Ordering::Relaxed),
            Ordering::Relaxed,
        );
    }

    /// What the pool has seen.
    pub fn report(&self) -> PoolReport {
        PoolReport {
            held_bytes: self.0.account.held_bytes.load(Ordering::Relaxed),
            peak_bytes: self.0.account.peak_bytes.load(Ordering::Relaxed),
            free_bytes: self.0.free().bytes,
            born: self.0.born.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_goes_home_from_another_thread_and_is_used_again() {
        let pool = Pool::default();
        let tensor = pool.zeros([4, 8]).unwrap().freeze();
        std::thread::spawn(move || drop(tensor)).join().unwrap();
        assert_eq!(pool.report().free_bytes, 128);
        drop(pool.f32([8, 4]).unwrap());
        assert_eq!(pool.report().born, 1);
    }

    #[test]
    fn each_node_is_charged_as_long_as_it_holds_a_handle() {
        let (sender, receiver) = (Pool::default(), Pool::default());
        let kept = sender.zeros([16]).unwrap().freeze();
        let received = receiver.adopt(kept.clone()).unwrap();
        assert_eq!(
            (sender.report().held_bytes, receiver.report().held_bytes),
            (64, 64)
        );
        drop(kept);
        assert_eq!(
            (sender.report().held_bytes, receiver.report().held_bytes),
            (0, 64)
        );
        drop(received);
        assert_eq!(receiver.report().held_bytes, 0);
        assert_eq!(
            (sender.report().free_bytes, receiver.report().free_bytes),
            (64, 0)
        );
    }

    #[test]
    fn a_unique_handle_moves_its_charge() {
        let (sender, receiver) = (Pool::default(), Pool::default());
        let received = receiver
            .adopt(sender.zeros([16]).unwrap().freeze())
            .unwrap();
        assert_eq!(
            (sender.report().held_bytes, receiver.report().held_bytes),
            (0, 64)
        );
        assert!(
            received.try_mut::<f32>().is_ok(),
            "what moved is still unique"
        );
        assert_eq!(sender.report().free_bytes, 64);
    }

    #[test]
    fn the_limit_is_kept_and_free_buffers_make_room() {
        let pool = Pool::new(Some(100));
        drop(pool.f32([20]).unwrap());
        let held = pool.f32([15]).unwrap();
        assert_eq!(pool.report().free_bytes, 0, "the 80 free bytes made room");
        let refused = pool.f32([11]).unwrap_err();
        assert!(matches!(
            refused,
            LayerError::OutOfMemory {
                requested_bytes: 44,
                held_bytes: 60,
                ..
            }
        ));
        drop(held);
        assert_eq!(pool.report().held_bytes, 0);
    }

    #[test]
    fn an_allocation_that_no_machine_grants_is_an_error() {
        let refused = Pool::default().f32([1 << 60]).unwrap_err();
        assert!(matches!(refused, LayerError::AllocationRefused { .. }));
    }
}
