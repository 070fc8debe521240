//! Numbers in memory, a node's share in them, and the account that is charged while it has one.

use crate::pool::Inner;
use crate::slab::{Part, Plain};
use crate::{DType, LayerError};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// The numbers of a tensor.
#[derive(Debug)]
pub(crate) enum Data {
    F32(Numbers<f32>),
    I32(Numbers<i32>),
}

/// Where they are.
#[derive(Debug)]
pub(crate) enum Numbers<T> {
    Own(Vec<T>),
    Part(Part),
}

impl<T: Plain> Numbers<T> {
    pub(crate) fn read(&self) -> &[T] {
        match self {
            Self::Own(numbers) => numbers,
            Self::Part(part) => part.numbers(),
        }
    }

    pub(crate) fn write(&mut self) -> &mut [T] {
        match self {
            Self::Own(numbers) => numbers,
            Self::Part(part) => part.numbers_mut(),
        }
    }
}

impl Data {
    pub(crate) fn dtype(&self) -> DType {
        match self {
            Self::F32(_) => DType::F32,
            Self::I32(_) => DType::I32,
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::F32(numbers) => numbers.read().len(),
            Self::I32(numbers) => numbers.read().len(),
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        (self.len() * self.dtype().size_bytes()) as u64
    }
}

/// The numbers, and the pool they return to.
#[derive(Debug)]
pub(crate) struct Storage {
    pub(crate) data: Data,
    pub(crate) home: Weak<Inner>,
}

/// One node's share in a storage: while it lives, that node's account is charged.
#[derive(Debug)]
pub(crate) struct Buffer {
    pub(crate) storage: Arc<Storage>,
    pub(crate) charge: Option<Charge>,
}

#[derive(Debug)]
pub(crate) struct Charge {
    account: Arc<Account>,
    bytes: u64,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account
            .held_bytes
            .fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) held_bytes: AtomicU64,
    pub(crate) peak_bytes: AtomicU64,
    pub(crate) limit_bytes: u64,
}

impl Account {
    pub(crate) fn charge(self: &Arc<Self>, bytes: u64) -> Result<Charge, LayerError> {
        let held_bytes = self.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        let charge = Charge {
            account: self.clone(),
            bytes,
        };
        if held_bytes.saturating_add(bytes) > self.limit_bytes {
            drop(charge);
            let limit_bytes = self.limit_bytes;
            return Err(LayerError::OutOfMemory {
                requested_bytes: bytes,
                held_bytes,
                limit_bytes,
            });
        }
        self.peak_bytes
            .fetch_max(held_bytes + bytes, Ordering::Relaxed);
        Ok(charge)
    }
}

impl Buffer {
    /// Numbers that belong to nobody's pool: freed when the last handle goes.
    pub(crate) fn homeless(data: Data) -> Arc<Self> {
        Arc::new(Self {
            storage: Arc::new(Storage {
                data,
                home: Weak::new(),
            }),
            charge: None,
        })
    }

    /// Called with every handle that is dropped. The last one sends the buffer home; of two dropped
    /// at the very same moment neither may be the last, and the buffer is freed instead.
    pub(crate) fn release(mut this: Arc<Self>) {
        let Some(buffer) = Arc::get_mut(&mut this) else {
            return;
        };
        buffer.charge = None;
        let Some(storage) = Arc::get_mut(&mut buffer.storage) else {
            return;
        };
        if let Some(home) = storage.home.upgrade() {
            home.put(this);
        }
    }
}
