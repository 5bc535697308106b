//! Content of calls and results in the tests: a number, by which the content is
//! recognised, and pointer fields, each with a capability or null.

use capnp::private::layout::{PointerBuilder, PointerReader, StructBuilder, StructSize};
use capnp::traits::{FromPointerBuilder, FromPointerReader, ImbueMut};

use crate::cap::client::Client;
use crate::cap::hook;
use crate::cap::payload::{Payload, PayloadBuilder};
use crate::wire::{Content, Descriptors};

/// Parameters with a label and capabilities in the fields 0, 1, and so on.
pub(crate) fn params(label: u64, caps: &[Client]) -> Payload {
    fill(PayloadBuilder::for_params(), label, caps)
}

/// Results with a label and capabilities in the fields 0, 1, and so on.
pub(crate) fn results(label: u64, caps: &[Client]) -> Payload {
    fill(PayloadBuilder::for_results(), label, caps)
}

fn fill(mut builder: PayloadBuilder, label: u64, caps: &[Client]) -> Payload {
    let mut table = hook::CapTable::new();
    let mut content = builder.content();
    content.imbue_mut(&mut table);
    let count = u32::try_from(caps.len()).unwrap();
    let mut fields = content.initn_as::<Fields<'_>>(count).0;
    fields.set_data_field(0, label);
    for (index, cap) in caps.iter().enumerate() {
        if !cap.is_null() {
            let mut field = fields.reborrow().get_pointer_field(index);
            field.set_capability(hook::Hook::boxed(cap.clone()));
        }
    }
    builder.finish(hook::clients_of(table))
}

/// Parameters whose capability lies `depth` structs deep, each time in field 0.
pub(super) fn nested(label: u64, depth: usize, cap: &Client) -> Payload {
    let mut builder = PayloadBuilder::for_results();
    let mut table = hook::CapTable::new();
    let mut content = builder.content();
    content.imbue_mut(&mut table);
    let mut fields = content.initn_as::<Fields<'_>>(1).0;
    fields.set_data_field(0, label);
    for _ in 0..depth {
        let inner = fields.get_pointer_field(0);
        fields = inner.init_struct(StructSize { data: 1, pointers: 1 });
    }
    fields.get_pointer_field(0).set_capability(hook::Hook::boxed(cap.clone()));
    builder.finish(hook::clients_of(table))
}

/// Content as it is sent, with these names of its capabilities.
pub(super) fn message(payload: Payload, caps: impl Into<Descriptors>) -> Content {
    let (frame, _) = payload.into_parts();
    Content { frame, caps: caps.into() }
}

/// The label of content; 0 if there is none.
pub(crate) fn label(payload: &Payload) -> u64 {
    let reader = payload.open();
    let content = Payload::content(&reader).unwrap();
    let Ok(pointer) = content.get_as::<Pointer<'_>>() else { return 0 };
    // A bootstrap's content is the capability itself.
    pointer.0.get_struct(None).map_or(0, |fields| fields.get_data_field(0))
}

/// The capability in one of the fields.
pub(super) fn cap(payload: &Payload, field: u16) -> Client {
    payload.cap_at(&[field]).unwrap()
}

struct Fields<'a>(StructBuilder<'a>);

impl<'a> FromPointerBuilder<'a> for Fields<'a> {
    fn init_pointer(builder: PointerBuilder<'a>, pointers: u32) -> Self {
        let pointers = u16::try_from(pointers).unwrap();
        Fields(builder.init_struct(StructSize { data: 1, pointers }))
    }

    fn get_from_pointer(
        _: PointerBuilder<'a>,
        _: Option<&'a [capnp::Word]>,
    ) -> capnp::Result<Self> {
        Err(capnp::Error::failed("fields are only initialised".into()))
    }
}

struct Pointer<'a>(PointerReader<'a>);

impl<'a> FromPointerReader<'a> for Pointer<'a> {
    fn get_from_pointer(
        reader: &PointerReader<'a>,
        _: Option<&'a [capnp::Word]>,
    ) -> capnp::Result<Self> {
        Ok(Pointer(*reader))
    }
}
