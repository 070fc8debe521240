//! Messages as bytes: a bincode header, then the raw little-endian elements. The only file that
//! names bincode.

use super::{Body, MessageId};
use brigade_layer::{DType, LayerError, Pool, Shape, TensorSpec};
use serde::{Deserialize, Serialize};

/// No header is longer.
const MOST_HEADER_BYTES: usize = 256;

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    id: MessageId,
    content: Content,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Content {
    Tensor(TensorSpec),
    Scalars(u32),
}

impl Content {
    fn of(body: &Body) -> Self {
        match body {
            Body::Tensor(tensor) => Self::Tensor(tensor.spec()),
            Body::Scalars(scalars) => Self::Scalars(scalars.len() as u32),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum CodecError {
    #[error("its header is malformed: {0}")]
    Header(String),
    #[error("it has {found} payload bytes where its header says {expected}")]
    Length { expected: u64, found: u64 },
    #[error(transparent)]
    Layer(#[from] LayerError),
}

/// A small thing as bytes.
pub(crate) fn pack(thing: &impl Serialize) -> Vec<u8> {
    bincode::serde::encode_to_vec(thing, bincode::config::standard())
        .expect("plain data without borrowed parts can be encoded")
}

/// Reads a small thing that came from another process, all of it; it is no longer than 256 MiB.
pub(crate) fn unpack<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    match unpack_first::<T, { 256 << 20 }>(bytes)? {
        (thing, read) if read == bytes.len() => Ok(thing),
        (_, read) => Err(format!("{} bytes of which {read} are read", bytes.len())),
    }
}

/// Reads a small thing at the beginning of these bytes, and says how many it took: at most `MOST`.
pub(super) fn unpack_first<T: serde::de::DeserializeOwned, const MOST: usize>(
    bytes: &[u8],
) -> Result<(T, usize), String> {
    let config = bincode::config::standard().with_limit::<MOST>();
    bincode::serde::decode_from_slice(bytes, config).map_err(|error| error.to_string())
}

/// Numbers as little-endian bytes.
pub(crate) fn to_bytes(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
}

/// Numbers from little-endian bytes.
pub(crate) fn from_bytes(bytes: &[u8]) -> impl Iterator<Item = f32> + '_ {
    let fours = bytes.chunks_exact(4);
    fours.map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
}

/// Bytes of a header that travels ahead of its payload.
pub(super) const HEADER_BYTES: usize = MOST_HEADER_BYTES;

/// The header of a message whose payload travels by itself.
pub(super) fn header(id: MessageId, body: &Body) -> Result<Vec<u8>, CodecError> {
    let content = Content::of(body);
    let mut bytes = bincode::serde::encode_to_vec(Header { id, content }, config())
        .map_err(|error| CodecError::Header(error.to_string()))?;
    bytes.resize(HEADER_BYTES, 0);
    Ok(bytes)
}

/// What is wrong with a header, if it is not of this message.
pub(super) fn expect_header(bytes: &[u8], id: MessageId, body: &Body) -> Result<(), String> {
    let (header, _): (Header, usize) = bincode::serde::decode_from_slice(bytes, config())
        .map_err(|error| CodecError::Header(error.to_string()).to_string())?;
    if header.id != id {
        return Err(format!("it says it is {}, not {id}", header.id));
    }
    let expected = Content::of(body);
    if header.content != expected {
        let found = header.content;
        return Err(format!("it carries {found:?} where {expected:?} belongs"));
    }
    Ok(())
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard()
        .with_fixed_int_encoding()
        .with_limit::<MOST_HEADER_BYTES>()
}

/// A message as bytes.
pub(super) fn encode(id: MessageId, body: &Body) -> Result<Vec<u8>, CodecError> {
    let content = Content::of(body);
    let mut bytes = bincode::serde::encode_to_vec(Header { id, content }, config())
        .map_err(|error| CodecError::Header(error.to_string()))?;
    bytes.reserve_exact(body.payload_bytes() as usize);
    match body {
        Body::Scalars(scalars) => {
            bytes.extend(scalars.iter().flat_map(|scalar| scalar.to_le_bytes()))
        }
        Body::Tensor(tensor) => match tensor.dtype() {
            DType::I32 => {
                bytes.extend(tensor.i32()?.iter().flat_map(|number| number.to_le_bytes()))
            }
            _ => bytes.extend(tensor.f32()?.iter().flat_map(|number| number.to_le_bytes())),
        },
    }
    Ok(bytes)
}

/// Reads a message. Its tensor is born in `pool`. Nothing is allocated before lengths agree.
pub(super) fn decode(bytes: &[u8], pool: &Pool) -> Result<(MessageId, Body), CodecError> {
    let (header, read): (Header, usize) = bincode::serde::decode_from_slice(bytes, config())
        .map_err(|error| CodecError::Header(error.to_string()))?;
    let payload = &bytes[read..];
    let expected = match &header.content {
        Content::Tensor(spec) => spec.bytes(),
        Content::Scalars(count) => 8 * u64::from(*count),
    };
    let found = payload.len() as u64;
    if expected != found {
        return Err(CodecError::Length { expected, found });
    }
    let body = match header.content {
        Content::Scalars(_) => Body::Scalars(
            payload
                .as_chunks()
                .0
                .iter()
                .map(|raw| f64::from_le_bytes(*raw))
                .collect(),
        ),
        Content::Tensor(spec) => Body::Tensor(match spec.dtype {
            DType::I32 => tensor(spec.shape, payload, pool, i32::from_le_bytes)?,
            _ => tensor(spec.shape, payload, pool, f32::from_le_bytes)?,
        }),
    };
    Ok((header.id, body))
}

fn tensor<T: brigade_layer::Element>(
    shape: Shape,
    payload: &[u8],
    pool: &Pool,
    read: impl Fn([u8; 4]) -> T,
) -> Result<brigade_layer::Tensor, LayerError> {
    let mut tensor = pool.take::<T>(shape)?;
    for (element, raw) in tensor.data().iter_mut().zip(payload.as_chunks().0) {
        *element = read(*raw);
    }
    Ok(tensor.freeze())
}

#[cfg(test)]
mod tests {
    use super::super::Subject;
    use super::*;
    use crate::ids::{EdgeId, MicroBatchId, PassId, ReplicaId};
    use crate::schedule::{Direction, Lane};
    use brigade_layer::Tensor;

    fn id() -> MessageId {
        let lane = Lane {
            edge: EdgeId::new(3),
            direction: Direction::Backward,
        };
        let subject = Subject::Lane(lane, MicroBatchId::new(7));
        MessageId {
            replica: ReplicaId::new(0),
            pass: PassId::new(1 << 40),
            subject,
        }
    }

    #[test]
    fn a_message_survives_its_bytes() {
        let pool = Pool::default();
        let numbers = vec![
            1.5f32,
            -0.0,
            f32::INFINITY,
            f32::from_bits(0x7fc0_1234),
            3.0,
            1e-40,
        ];
        let sent = Body::Tensor(Tensor::from_vec([2, 3], numbers.clone()).unwrap());
        let (found, body) = decode(&encode(id(), &sent).unwrap(), &pool).unwrap();
        let tensor = body.tensor().unwrap();
        assert_eq!(found, id());
        assert_eq!(tensor.shape(), Shape::from([2, 3]));
        let bits = |list: &[f32]| list.iter().map(|n| n.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(tensor.f32().unwrap()), bits(&numbers));

        let ids = Body::Tensor(Tensor::from_vec([2], vec![i32::MIN, 5]).unwrap());
        let (_, body) = decode(&encode(id(), &ids).unwrap(), &pool).unwrap();
        assert_eq!(body.tensor().unwrap().i32().unwrap(), [i32::MIN, 5]);
        let (_, body) = decode(&encode(id(), &Body::Scalars(vec![0.25])).unwrap(), &pool).unwrap();
        assert_eq!(body.scalars().unwrap(), [0.25]);
    }

    #[test]
    fn damaged_messages_are_errors_and_allocate_nothing() {
        let pool = Pool::default();
        let whole = encode(
            id(),
            &Body::Tensor(Tensor::from_vec([4], vec![1.0f32; 4]).unwrap()),
        )
        .unwrap();
        for length in 0..whole.len() {
            assert!(decode(&whole[..length], &pool).is_err(), "cut at {length}");
        }
        let mut longer = whole.clone();
        longer.push(0);
        assert!(decode(&longer, &pool).is_err());
        for at in 0..whole.len() - 16 {
            let mut damaged = whole.clone();
            damaged[at] ^= 0xff;
            // An identity may be damaged into another one; a shape must not become a huge
            // allocation.
            let _ = decode(&damaged, &pool);
        }
        assert!(pool.report().peak_bytes <= 64);
    }
}
