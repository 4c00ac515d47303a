use std::sync::Arc;

use arrow::buffer::Buffer;
use serde_json::{Value, json};

use super::{
    super::{
        codec_spec::{ByteOrder, CodecRefusal},
        decoding::StoredValues,
        dtype::ElementType,
    },
    *,
};
use crate::{
    format::zarr::codecs::{V2Context, v2_codecs, v3_codecs},
    recycle::Recycler,
};

fn v3(codecs: &Value) -> Result<Chain, CodecRefusal> {
    from_v3(codecs, &ElementType::Float32, 3, &[0; 4])
}

fn from_v3(
    codecs: &Value,
    element: &ElementType,
    rank: usize,
    fill: &[u8],
) -> Result<Chain, CodecRefusal> {
    Chain::new(&v3_codecs(codecs.as_array().unwrap(), element, rank), element, rank, fill)
}

fn from_v2(metadata: &Value, context: V2Context<'_>) -> Result<Chain, CodecRefusal> {
    let codecs = v2_codecs(metadata.as_object().unwrap(), context);
    Chain::new(&codecs, context.element, context.rank, &[])
}

#[test]
fn which_chains_are_known() {
    let bytes = json!({"name": "bytes", "configuration": {"endian": "big"}});
    let chain = v3(&json!([
        {"name": "transpose", "configuration": {"order": [1, 2, 0]}},
        {"name": "transpose", "configuration": {"order": [2, 0, 1]}},
        bytes, "crc32c", {"name": "blosc"}, {"name": "crc32c"},
    ]))
    .unwrap();
    // The second transposition undoes the first.
    assert_eq!(*chain.storage(), ElementLayout { order: vec![0, 1, 2], width: 4, swap: 4 });
    assert_eq!(chain.steps.len(), 3);
    assert_eq!(chain.stream(), Stream::Whole);
    assert_eq!(v3(&json!([bytes, "blosc"])).unwrap().stream(), Stream::Blosc);
    assert_eq!(v3(&json!([bytes])).unwrap().stream(), Stream::Plain);
    assert!(v3(&json!([bytes, {"name": "zstd"}, {"name": "gzip"}])).is_ok());
    for invalid in [
        json!([{"name": "transpose", "configuration": {"order": [0, 0, 1]}}, bytes]),
        json!([{"name": "bytes"}]),
        json!([]),
        json!([{"name": "bytes", "configuration": {"endian": "middle"}}]),
        json!([bytes, 3]),
        json!(vec![bytes.clone(); 40]),
    ] {
        assert!(matches!(v3(&invalid), Err(CodecRefusal::Invalid(_))), "{invalid}");
    }
    let unknown = v3(&json!([bytes, {"name": "imagecodecs_jpeg2k"}]));
    assert_eq!(unknown, Err(CodecRefusal::Unknown("imagecodecs_jpeg2k".to_owned())));
    let v2 = |metadata: Value, big_endian| {
        let byte_order = if big_endian { ByteOrder::Big } else { ByteOrder::Little };
        let element = &ElementType::Int16;
        from_v2(&metadata, V2Context { element, byte_order, rank: 2, is_nczarr: false })
    };
    let chain = v2(json!({"order": "F", "compressor": {"id": "zlib"}}), true).unwrap();
    assert_eq!(*chain.storage(), ElementLayout { order: vec![1, 0], width: 2, swap: 2 });
    assert!(v2(json!({"filters": [{"id": "shuffle"}]}), false).is_ok());
    assert!(v2(json!({"filters": {}}), false).is_err());
    let drafts = v3(&json!([
        {"name": "transpose", "configuration": {"order": "F"}},
        {"name": "endian", "configuration": {"endian": "big"}},
    ]));
    assert_eq!(
        *drafts.unwrap().storage(),
        ElementLayout { order: vec![2, 1, 0], width: 4, swap: 4 }
    );
    for (codecs, text) in [
        (json!(["zstd"]), "such as 'bytes', is missing"),
        (json!(["crc32c", bytes]), "such as 'bytes', is missing"),
    ] {
        let Err(CodecRefusal::Invalid(reason)) = v3(&codecs) else { panic!("{codecs}") };
        assert!(reason.contains(text), "{reason}");
    }
    let strings = from_v3(&json!([bytes]), &ElementType::Utf8, 1, &[]);
    assert!(matches!(strings, Err(CodecRefusal::Invalid(reason)) if reason.contains("vlen-utf8")));
    assert!(v2(json!({"order": "K"}), false).is_err());
}

#[test]
fn elements_of_no_bytes_are_shuffled_by_netcdf_alone() {
    let shuffle = |size: Value, element: &ElementType, is_nczarr: bool| {
        let metadata = json!({"filters": [{"id": "shuffle", "elementsize": size}]});
        let byte_order = ByteOrder::Little;
        let chain = from_v2(&metadata, V2Context { element, byte_order, rank: 1, is_nczarr })?;
        let [Step::Filter(Filter::Shuffle { elementsize })] = chain.steps.as_slice() else {
            panic!()
        };
        Ok::<_, CodecRefusal>(*elementsize)
    };
    let (int, byte) = (ElementType::Int32, ElementType::Int8);
    assert_eq!(shuffle(json!(0), &int, true), Ok(4));
    assert_eq!(shuffle(json!("0"), &int, false), Ok(4));
    assert_eq!(shuffle(json!("2"), &int, false), Ok(2));
    assert_eq!(shuffle(json!(0), &byte, false), Ok(1));
    let complex = ElementType::Complex(Box::new(ElementType::Float32));
    assert_eq!(shuffle(json!(0), &complex, false), Ok(1));
    let refused = shuffle(json!(0), &int, false);
    assert!(
        matches!(&refused, Err(CodecRefusal::Invalid(reason)) if reason.contains("write 4 or 1")),
        "{refused:?}"
    );
}

#[test]
fn sizes_and_checksums_are_checked() {
    let bytes = json!({"name": "bytes", "configuration": {"endian": "little"}});
    let recycler = Arc::new(Recycler::default());
    let chain = v3(&json!([bytes, "crc32c", "zstd", "crc32c"])).unwrap();
    let sum = |content: &[u8]| [content, &crc32c::crc32c(content).to_le_bytes()].concat();
    let content: Vec<u8> = (0..200).collect();
    let encoded = sum(&zstd::bulk::compress(&sum(&content), 1).unwrap());
    let decode = |encoded: &[u8], cells: u64| match chain.decode(
        Buffer::from(encoded),
        &[1, cells, 1],
        &recycler,
    )? {
        StoredValues::Fixed(elements) => Ok(elements.to_vec()),
        StoredValues::Items(_) => Err("items".to_owned()),
    };
    assert_eq!(decode(&encoded, 50).unwrap(), content);
    assert!(decode(&encoded, 49).is_err());
    assert!(decode(&encoded, 51).is_err());
    assert!(decode(&[], 50).is_err());
    for at in 0..encoded.len() {
        let mut changed = encoded.clone();
        changed[at] ^= 16;
        assert!(decode(&changed, 50).is_err(), "{at}");
    }
}

#[test]
fn shards_lie_as_the_transpositions_before_them_say() {
    let recycler = Arc::new(Recycler::default());
    let bytes = json!({"name": "bytes", "configuration": {"endian": "little"}});
    let codecs = json!([
        {"name": "transpose", "configuration": {"order": [1, 0]}},
        {"name": "sharding_indexed", "configuration": {
            "chunk_shape": [2, 1], "codecs": [bytes], "index_codecs": [bytes],
        }},
    ]);
    let element = ElementType::UInt8;
    let chain = from_v3(&codecs, &element, 2, &[0]).unwrap();
    // 0 1 2 3 / 4 5 6 7, as zarr-python stores it: a column of the transposed pairs a chunk.
    let mut shard = vec![0_u8, 1, 4, 5, 2, 3, 6, 7];
    shard.extend([0_u64, 2, 2, 2, 4, 2, 6, 2].iter().flat_map(|n| n.to_le_bytes()));
    let decoded = chain.decode(Buffer::from(shard), &[2, 4], &recycler).unwrap();
    let StoredValues::Fixed(elements) = decoded else { panic!() };
    assert_eq!(chain.storage().order, [1, 0]);
    assert_eq!(elements.as_slice(), [0, 4, 1, 5, 2, 6, 3, 7]);
}

#[test]
fn elements_are_compressed_twice_and_transposed_between_filters() {
    let recycler = Arc::new(Recycler::default());
    let chain = from_v3(
        &json!([
            {"name": "numcodecs.delta", "configuration": {"dtype": "<i2", "astype": "<i2"}},
            {"name": "transpose", "configuration": {"order": [1, 0]}},
            {"name": "bytes", "configuration": {"endian": "big"}},
            "zstd", "zstd",
        ]),
        &ElementType::Int16,
        2,
        &[0; 2],
    )
    .unwrap();
    // 1 2 3 / 4 5 6 as differences is all ones, but for what the transposition moves: none.
    let ones: Vec<u8> = [1_i16; 6].iter().flat_map(|v| v.to_be_bytes()).collect();
    let once = zstd::bulk::compress(&ones, 1).unwrap();
    let twice = Buffer::from(zstd::bulk::compress(&once, 1).unwrap());
    let StoredValues::Fixed(elements) = chain.decode(twice, &[2, 3], &recycler).unwrap() else {
        panic!()
    };
    let expected: Vec<u8> = (1..=6_i16).flat_map(i16::to_ne_bytes).collect();
    assert_eq!(elements.as_slice(), expected);
}
